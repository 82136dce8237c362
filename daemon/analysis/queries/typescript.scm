; TypeScript alone; see ecma.scm.

(abstract_class_declaration) @unit.class
(interface_declaration) @unit.interface
(enum_declaration) @unit.enum
(type_alias_declaration) @unit.type
(internal_module) @unit.namespace
(module) @unit.namespace
(function_signature) @unit.function
(method_signature) @unit.method
(abstract_method_signature) @unit.method
(construct_signature) @unit.constructor
(public_field_definition value: [(arrow_function) (function_expression)]) @unit.method
(public_field_definition value: (class)) @unit.class
(ambient_declaration (lexical_declaration (variable_declarator) @unit.constant))

(import_alias) @import

(extends_clause value: [(identifier) (member_expression)] @ref.inherit)
(extends_type_clause [(type_identifier) (nested_type_identifier)] @ref.inherit)
(extends_type_clause (generic_type name: (_) @ref.inherit))
(implements_clause [(type_identifier) (nested_type_identifier)] @ref.implement)
(implements_clause (generic_type name: (_) @ref.implement))
(type_identifier) @ref.type
(nested_type_identifier) @ref.type
(type_query [(identifier) (member_expression)] @ref.type)

(required_parameter pattern: (identifier) type: (type_annotation)) @typed
(optional_parameter pattern: (identifier) type: (type_annotation)) @typed
(variable_declarator name: (identifier) type: (type_annotation)) @typed
(public_field_definition type: (type_annotation)) @typed
(public_field_definition value: (new_expression)) @typed
(property_signature type: (type_annotation)) @typed
