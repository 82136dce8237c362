; What C and C++ share.

(function_definition) @unit.function
(declaration declarator: (function_declarator)) @unit.function
(declaration declarator: (pointer_declarator)) @unit.function
(declaration declarator: (init_declarator value: (initializer_list))) @unit.constant
(struct_specifier name: (_) body: (_)) @unit.struct
(union_specifier name: (_) body: (_)) @unit.struct
(enum_specifier name: (_) body: (_)) @unit.enum
(type_definition) @unit.type
(preproc_def value: (_)) @unit.macro
(preproc_function_def) @unit.macro

(comment) @comment
(string_literal) @string
(system_lib_string) @string
(char_literal) @string

(preproc_include) @import

(call_expression function: [(identifier) (field_expression)] @ref.call)
(type_identifier) @ref.type

(parameter_declaration declarator: (_)) @typed
(declaration declarator: (_)) @typed
(field_declaration declarator: (_)) @typed
