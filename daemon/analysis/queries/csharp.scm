; C#. The vocabulary of captures is told in daemon/analysis/syntax.py.

(class_declaration) @unit.class
(record_declaration) @unit.class
(struct_declaration) @unit.struct
(interface_declaration) @unit.interface
(enum_declaration) @unit.enum
(namespace_declaration) @unit.namespace
(delegate_declaration) @unit.type
(method_declaration) @unit.method
(constructor_declaration) @unit.constructor
(destructor_declaration) @unit.method
(operator_declaration) @unit.method
(conversion_operator_declaration) @unit.method
(indexer_declaration) @unit.property
(property_declaration) @unit.property
(event_declaration accessors: (_)) @unit.property
(local_function_statement) @unit.function

(comment) @comment
(string_literal) @string
(verbatim_string_literal) @string
(raw_string_literal) @string
(interpolated_string_expression) @string
(character_literal) @string
(attribute_list) @decorator

(using_directive) @import
(extern_alias_directive) @import

(invocation_expression function: [(identifier) (member_access_expression) (generic_name)] @ref.call)
(invocation_expression function: (conditional_access_expression (member_binding_expression) @ref.call))
(conditional_access_expression (invocation_expression function: (member_binding_expression) @ref.call))
(object_creation_expression type: [(identifier) (qualified_name) (generic_name)] @ref.instantiate)
(base_list [(identifier) (qualified_name) (generic_name)] @ref.base)
(base_list (primary_constructor_base_type type: (_) @ref.base))
(attribute name: (_) @ref.decorate)

(_ type: [(identifier) (qualified_name)] @ref.type)
(_ returns: [(identifier) (qualified_name)] @ref.type)
(_ type: (generic_name (identifier) @ref.type))
(_ returns: (generic_name (identifier) @ref.type))
(type_argument_list [(identifier) (qualified_name)] @ref.type)
(type_argument_list (generic_name (identifier) @ref.type))
(typeof_expression type: (identifier) @ref.type)

(parameter) @typed
(variable_declaration) @typed
(property_declaration) @typed
(foreach_statement) @typed
(declaration_pattern) @typed
(declaration_expression) @typed
(catch_declaration) @typed
