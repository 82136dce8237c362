; Rust. The vocabulary of captures is told in daemon/analysis/syntax.py.

(function_item) @unit.function
(function_signature_item) @unit.function
(struct_item) @unit.struct
(union_item) @unit.struct
(enum_item) @unit.enum
(trait_item) @unit.trait
(impl_item) @unit.impl
(mod_item body: (_)) @unit.module
(type_item) @unit.type
(const_item) @unit.constant
(static_item) @unit.constant
(macro_definition) @unit.macro

(line_comment) @comment
(block_comment) @comment
(string_literal) @string
(raw_string_literal) @string
(char_literal) @string
(attribute_item) @decorator

(use_declaration) @import
(extern_crate_declaration) @import
(mod_item !body) @import

(call_expression function: [(identifier) (scoped_identifier) (field_expression)] @ref.call)
(call_expression function: (generic_function function: (_) @ref.call))
(macro_invocation (token_tree (identifier) @ref.inner . (token_tree)))
(token_tree (token_tree (identifier) @ref.inner . (token_tree)))
(macro_invocation macro: [(identifier) (scoped_identifier)] @ref.call)
(struct_expression name: [(type_identifier) (scoped_type_identifier)] @ref.instantiate)
(struct_expression name: (generic_type_with_turbofish type: (_) @ref.instantiate))
(impl_item trait: [(type_identifier) (scoped_type_identifier)] @ref.implement)
(impl_item trait: (generic_type type: (_) @ref.implement))
(trait_item bounds: (trait_bounds [(type_identifier) (scoped_type_identifier)] @ref.inherit))
(trait_item bounds: (trait_bounds (generic_type type: (_) @ref.inherit)))
(type_identifier) @ref.type
(scoped_type_identifier) @ref.type

(parameter) @typed
(let_declaration pattern: (identifier)) @typed
(let_declaration pattern: (mut_pattern)) @typed
(field_declaration) @typed
