; Elements: a component's use is a call of it. Intrinsic ones (`div`) have small names and are left out by the dialect.

(jsx_opening_element name: [(identifier) (member_expression)] @ref.element)
(jsx_self_closing_element name: [(identifier) (member_expression)] @ref.element)
