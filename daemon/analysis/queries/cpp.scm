; C++ alone; see c_shared.scm.

(class_specifier name: (_) body: (_)) @unit.class
(namespace_definition name: (_)) @unit.namespace
(alias_declaration) @unit.type
(concept_definition) @unit.type
(declaration declarator: (reference_declarator)) @unit.function
(declaration declarator: (operator_cast)) @unit.function
(declaration declarator: (init_declarator value: (lambda_expression))) @unit.function
(field_declaration declarator: (function_declarator)) @unit.function
(field_declaration declarator: (pointer_declarator)) @unit.function
(field_declaration declarator: (reference_declarator)) @unit.function

(raw_string_literal) @string

(using_declaration) @import
(namespace_alias_definition) @import

(call_expression function: [(qualified_identifier) (template_function)] @ref.call)
(new_expression type: [(type_identifier) (qualified_identifier)] @ref.instantiate)
(new_expression type: (template_type name: (_) @ref.instantiate))
(base_class_clause [(type_identifier) (qualified_identifier)] @ref.inherit)
(base_class_clause (template_type name: (_) @ref.inherit))
(_ type: (qualified_identifier) @ref.type)

(optional_parameter_declaration declarator: (_)) @typed
