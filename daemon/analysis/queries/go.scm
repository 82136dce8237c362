; Go. The vocabulary of captures is told in daemon/analysis/syntax.py.

(function_declaration) @unit.function
(method_declaration) @unit.method
(type_spec) @unit.type
(type_alias) @unit.type
(interface_type (method_elem) @unit.method)
(source_file (var_declaration (var_spec value: (expression_list . (func_literal) .)) @unit.function))
(source_file (const_declaration (const_spec) @unit.constant))
(source_file (var_declaration (var_spec) @unit.constant))
(source_file (var_declaration (var_spec_list (var_spec) @unit.constant)))

(comment) @comment
(interpreted_string_literal) @string
(raw_string_literal) @string
(rune_literal) @string

(import_spec) @import

(call_expression function: [(identifier) (selector_expression)] @ref.call)
(composite_literal type: [(type_identifier) (qualified_type)] @ref.instantiate)
(composite_literal type: (generic_type type: (_) @ref.instantiate))
(field_declaration !name type: [(type_identifier) (qualified_type)] @ref.inherit)
(field_declaration !name type: (generic_type type: (_) @ref.inherit))
(interface_type (type_elem . [(type_identifier) (qualified_type)] @ref.inherit .))
(interface_type (type_elem . (generic_type type: (_) @ref.inherit) .))
(type_identifier) @ref.type
(qualified_type) @ref.type

(parameter_declaration name: (_)) @typed
(field_declaration name: (_)) @typed
(var_spec type: (_)) @typed
(var_spec value: (_)) @typed
(short_var_declaration) @typed
