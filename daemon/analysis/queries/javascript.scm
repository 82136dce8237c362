; JavaScript alone; see ecma.scm.

(field_definition value: [(arrow_function) (function_expression)]) @unit.method
(field_definition value: (class)) @unit.class
(class_heritage [(identifier) (member_expression)] @ref.inherit)
(field_definition value: (new_expression)) @typed
