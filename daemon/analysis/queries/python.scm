; What codegraphd looks for in Python. The vocabulary of captures is told in daemon/analysis/syntax.py.

(function_definition) @unit.function
(class_definition) @unit.class
(type_alias_statement) @unit.type
(module (assignment left: (identifier)) @unit.constant)

(comment) @comment
(string) @string
(decorator) @decorator

(module . (string) @doc)
(function_definition body: (block . (string) @doc))
(class_definition body: (block . (string) @doc))

(import_statement) @import
(import_from_statement) @import
(future_import_statement) @import

(call function: [(identifier) (attribute)] @ref.call)
(decorator [(identifier) (attribute)] @ref.decorate)
(decorator (call function: [(identifier) (attribute)] @ref.decorate))
(class_definition superclasses: (argument_list [(identifier) (attribute) (subscript)] @ref.inherit))
(class_definition superclasses: (argument_list (keyword_argument value: [(identifier) (attribute)] @ref.type)))
(type) @ref.type
(except_clause [(identifier) (attribute) (tuple)] @ref.type)
(except_clause (as_pattern . [(identifier) (attribute) (tuple)] @ref.type))
(class_pattern (dotted_name) @ref.type)

(typed_parameter) @typed
(typed_default_parameter) @typed
(assignment left: [(identifier) (attribute)] type: (type)) @typed
(assignment left: [(identifier) (attribute)] right: [(call) (await)]) @typed
(assignment left: (attribute) right: [(identifier) (boolean_operator)]) @typed
(named_expression value: (call)) @typed
(with_item (as_pattern (call))) @typed
