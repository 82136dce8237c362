; What JavaScript and TypeScript share.

(function_declaration) @unit.function
(generator_function_declaration) @unit.function
(class_declaration) @unit.class
(method_definition) @unit.method
(variable_declarator value: [(arrow_function) (function_expression) (generator_function)]) @unit.function
(variable_declarator value: (class)) @unit.class
(program (lexical_declaration (variable_declarator) @unit.constant))
(program (variable_declaration (variable_declarator) @unit.constant))
(program (export_statement (lexical_declaration (variable_declarator) @unit.constant)))
(assignment_expression
  left: [(member_expression) (identifier)]
  right: [(arrow_function) (function_expression) (generator_function)]) @unit.function
(assignment_expression left: (member_expression) right: (class)) @unit.class
(pair key: (_) value: [(arrow_function) (function_expression) (generator_function)]) @unit.method
(export_statement value: [(arrow_function) (function_expression) (generator_function)] @unit.function)
(arguments [(function_expression name: (_)) (generator_function name: (_))] @unit.function)
(return_statement (function_expression name: (_)) @unit.function)
(parenthesized_expression (function_expression name: (_)) @unit.function)
(export_statement value: (class) @unit.class)
(export_statement value: (object) @unit.constant)
; describe("…", () => …) and its kin; the dialect looks at the callee
(expression_statement
  (call_expression
    function: (_)
    arguments: (arguments . [(string) (template_string)] [(arrow_function) (function_expression)])) @unit.function)

(comment) @comment
(hash_bang_line) @comment
(string) @string
(template_string (string_fragment) @string)
(regex) @string
(decorator) @decorator

(import_statement) @import
(export_statement source: (string)) @import
(export_statement (export_clause)) @import
(export_statement value: (identifier)) @import
(variable_declarator value: (call_expression function: (identifier) arguments: (arguments . (string) .))) @import
(variable_declarator
  value: (await_expression (call_expression function: (import) arguments: (arguments . (string) .)))) @import
(variable_declarator
  value: (member_expression
    object: (call_expression function: (identifier) arguments: (arguments . (string) .)))) @import
(expression_statement (call_expression function: (identifier) arguments: (arguments . (string) .))) @import
(call_expression function: (import) arguments: (arguments . (string) .)) @import
(expression_statement
  (assignment_expression left: (member_expression) right: [(identifier) (call_expression)]) @import)
(expression_statement (assignment_expression left: (member_expression) right: (object)) @import)

(export_statement (export_clause)) @export
(export_statement value: (identifier)) @export
(expression_statement (assignment_expression left: (member_expression) right: [(identifier) (object)]) @export)

(call_expression function: [(identifier) (member_expression)] @ref.call)
(new_expression constructor: [(identifier) (member_expression)] @ref.instantiate)
(decorator [(identifier) (member_expression)] @ref.decorate)
(decorator (call_expression function: [(identifier) (member_expression)] @ref.decorate))

(variable_declarator name: (identifier) value: [(new_expression) (await_expression)]) @typed
(assignment_expression left: (member_expression object: (this)) right: (new_expression)) @typed
(assignment_expression left: (member_expression object: (this)) right: (identifier)) @typed
