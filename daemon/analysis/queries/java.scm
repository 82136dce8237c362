; Java. The vocabulary of captures is told in daemon/analysis/syntax.py.

(class_declaration) @unit.class
(record_declaration) @unit.class
(interface_declaration) @unit.interface
(annotation_type_declaration) @unit.interface
(enum_declaration) @unit.enum
(method_declaration) @unit.method
(annotation_type_element_declaration) @unit.method
(constructor_declaration) @unit.constructor
(compact_constructor_declaration) @unit.constructor

(line_comment) @comment
(block_comment) @comment
(string_literal) @string
(character_literal) @string
(marker_annotation) @decorator
(annotation) @decorator

(import_declaration) @import

(method_invocation name: (_) @end) @ref.call
(method_reference (_) (_) .) @ref.call
(method_reference . [(identifier) (field_access)] @ref.instantiate "new")
(method_reference . (generic_type . (type_identifier) @ref.instantiate) "new")
(object_creation_expression type: [(type_identifier) (scoped_type_identifier)] @ref.instantiate)
(object_creation_expression type: (generic_type . [(type_identifier) (scoped_type_identifier)] @ref.instantiate))
(superclass [(type_identifier) (scoped_type_identifier)] @ref.inherit)
(superclass (generic_type . [(type_identifier) (scoped_type_identifier)] @ref.inherit))
(super_interfaces (type_list [(type_identifier) (scoped_type_identifier)] @ref.implement))
(super_interfaces (type_list (generic_type . [(type_identifier) (scoped_type_identifier)] @ref.implement)))
(extends_interfaces (type_list [(type_identifier) (scoped_type_identifier)] @ref.inherit))
(extends_interfaces (type_list (generic_type . [(type_identifier) (scoped_type_identifier)] @ref.inherit)))
(marker_annotation name: (_) @ref.decorate)
(annotation name: (_) @ref.decorate)
(record_pattern . (identifier) @ref.type)
(type_identifier) @ref.type
(scoped_type_identifier) @ref.type

(formal_parameter) @typed
(spread_parameter) @typed
(local_variable_declaration) @typed
(field_declaration) @typed
(resource) @typed
(enhanced_for_statement) @typed
(catch_formal_parameter) @typed
(instanceof_expression name: (identifier)) @typed
(type_pattern) @typed
(record_pattern_component) @typed
