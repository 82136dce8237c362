"""What the languages' grammars call things: the tables that `features`, `flow_control` and `flow_data` are driven by.

Owns no algorithm. A language is one `Syntax`: sets of tree-sitter node types by meaning, and a role for each node type
that steers control. Its `data` are the rules for data flow that we think right; its `published` are those of
GraphCodeBERT's own extractors, with their omissions (plain assignments in JavaScript, `:=` in Go, …), for feeding the
model what it was trained on. Node types are those of the grammars in tree-sitter-language-pack 0.13.
"""

from __future__ import annotations

from dataclasses import replace

from codegraphd.daemon.analysis.flow_syntax import DataRules, Role, Syntax


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_COMMON = {
    "if_statement": Role.IF, "while_statement": Role.WHILE, "do_statement": Role.DO, "for_statement": Role.FOR,
    "break_statement": Role.BREAK, "continue_statement": Role.CONTINUE, "return_statement": Role.RETURN,
    "labeled_statement": Role.LABEL, "switch_statement": Role.SWITCH, "try_statement": Role.TRY,
    "throw_statement": Role.THROW, "goto_statement": Role.GOTO,
}  # fmt: skip

_LEFT_RIGHT = (("left",), ("right",))
_NAME_VALUE = (("name",), ("value",))
_BRANCHES = DataRules(branch=_set("if_statement"), twice=_set("while_statement do_statement"))

_PYTHON_DATA = DataRules(
    assign={"assignment": _LEFT_RIGHT, "augmented_assignment": _LEFT_RIGHT, "for_in_clause": _LEFT_RIGHT},
    define={"default_parameter": _NAME_VALUE},
    branch=_set("if_statement"),
    each={"for_statement": _LEFT_RIGHT},
    twice=_set("while_statement"),
    first=_set("for_in_clause"),
    grouped=True,
)

_PYTHON = Syntax(
    grammars=("python",),
    comments=_set("comment"),
    atoms=_set("string"),
    functions=_set("function_definition"),
    lambdas=_set("lambda"),
    classes=_set("class_definition"),
    imports=_set("import_statement import_from_statement future_import_statement"),
    sequences=_set("module block"),
    roles={
        **{k: v for k, v in _COMMON.items() if k not in ("do_statement", "goto_statement", "labeled_statement")},
        "for_statement": Role.FOREACH, "match_statement": Role.SWITCH, "raise_statement": Role.THROW,
    },
    cases=_set("case_clause"),
    separate=_set("case_clause"),
    elifs=_set("elif_clause"),
    catches=_set("except_clause except_group_clause"),
    catch_all=_set("Exception BaseException"),
    wrappers=_set("decorated_definition assignment"),
    ignored=_set("decorator"),
    calls={"call": "function"},
    exits=_set("os._exit"),
    panics=_set("sys.exit exit quit"),
    binary=_set("boolean_operator"),
    ternary=_set("conditional_expression"),
    comprehension=_set("for_in_clause if_clause"),
    not_parameters=_set("keyword_separator positional_separator"),
    docstrings=True,
    data=replace(
        _PYTHON_DATA,
        define={
            "default_parameter": _NAME_VALUE, "typed_default_parameter": _NAME_VALUE, "named_expression": _NAME_VALUE,
        },
        switch=_set("match_statement"),
        captures={"case_clause": ("",)},
        attempt=_set("try_statement"),
    ),
    published=replace(_PYTHON_DATA, exact=True),
)  # fmt: skip

_JAVA_DATA = replace(
    _BRANCHES,
    assign={"assignment_expression": _LEFT_RIGHT},
    define={"variable_declarator": _NAME_VALUE},
    update=_set("update_expression"),
    loop={"for_statement": _set("local_variable_declaration")},
    each={"enhanced_for_statement": (("name",), ("value",))},
)

_JAVA = Syntax(
    grammars=("java",),
    comments=_set("line_comment block_comment"),
    atoms=_set("string_literal character_literal"),
    functions=_set("method_declaration constructor_declaration compact_constructor_declaration"),
    lambdas=_set("lambda_expression"),
    classes=_set("class_declaration interface_declaration enum_declaration record_declaration "
                 "annotation_type_declaration"),
    opaque_too=_set("class_body"),
    imports=_set("import_declaration"),
    sequences=_set("program block constructor_body"),
    roles={
        **_COMMON, "enhanced_for_statement": Role.FOREACH, "switch_expression": Role.SWITCH,
        "try_with_resources_statement": Role.TRY, "yield_statement": Role.YIELD,
    },
    cases=_set("switch_block_statement_group switch_rule"),
    separate=_set("switch_rule"),
    catch_all=_set("Exception Throwable"),
    calls={"method_invocation": "name"},
    ternary=_set("ternary_expression"),
    data=replace(
        _JAVA_DATA,
        define={"variable_declarator": _NAME_VALUE, "resource": _NAME_VALUE},
        switch=_set("switch_expression switch_statement"),
        attempt=_set("try_statement try_with_resources_statement"),
    ),
    published=replace(_JAVA_DATA, twice=_set("while_statement"), exact=True),
)  # fmt: skip

_JAVASCRIPT_DATA = replace(
    _BRANCHES,
    assign={"assignment_pattern": _LEFT_RIGHT, "augmented_assignment_expression": _LEFT_RIGHT},
    define={"variable_declarator": _NAME_VALUE},
    update=_set("update_expression"),
    loop={"for_statement": _set("variable_declaration")},
)

_JAVASCRIPT = Syntax(
    grammars=("javascript",),
    comments=_set("comment html_comment"),
    atoms=_set("string"),
    functions=_set("function_declaration generator_function_declaration method_definition"),
    lambdas=_set("arrow_function function_expression generator_function"),
    classes=_set("class_declaration class"),
    opaque_too=_set("class_body"),
    imports=_set("import_statement"),
    sequences=_set("program statement_block"),
    roles={**_COMMON, "for_in_statement": Role.FOREACH},
    cases=_set("switch_case switch_default"),
    wrappers=_set("export_statement lexical_declaration variable_declaration variable_declarator expression_statement "
                  "assignment_expression parenthesized_expression pair field_definition public_field_definition"),
    ignored=_set("decorator"),
    calls={"call_expression": "function"},
    exits=_set("process.exit"),
    ternary=_set("ternary_expression"),
    data=replace(
        _JAVASCRIPT_DATA,
        assign={
            **_JAVASCRIPT_DATA.assign, "assignment_expression": _LEFT_RIGHT, "object_assignment_pattern": _LEFT_RIGHT,
        },
        define={
            "variable_declarator": _NAME_VALUE, "required_parameter": (("pattern",), ("value",)),
            "optional_parameter": (("pattern",), ("value",)),
        },
        loop={"for_statement": _set("variable_declaration lexical_declaration expression_statement")},
        each={"for_in_statement": _LEFT_RIGHT},
        switch=_set("switch_statement"),
        attempt=_set("try_statement"),
        pairs=_set("array_pattern array"),
    ),
    published=replace(_JAVASCRIPT_DATA, twice=_set("while_statement"), exact=True),
)  # fmt: skip

_TYPESCRIPT = replace(
    _JAVASCRIPT,
    grammars=("typescript", "tsx"),
    classes=_JAVASCRIPT.classes | _set("abstract_class_declaration interface_declaration enum_declaration"),
    published=None,
)

_GO_DATA = DataRules(
    assign={"assignment_statement": _LEFT_RIGHT},
    define={"var_spec": _NAME_VALUE},
    update=_set("inc_statement"),
    branch=_set("if_statement"),
    loop={"for_statement": _set("for_clause")},
)

_GO_CASES = _set("expression_case type_case communication_case default_case")
_GO_SWITCHES = _set("expression_switch_statement type_switch_statement select_statement")

_GO = Syntax(
    grammars=("go",),
    comments=_set("comment"),
    atoms=_set("interpreted_string_literal raw_string_literal rune_literal"),
    functions=_set("function_declaration method_declaration"),
    lambdas=_set("func_literal"),
    classes=_set("struct_type interface_type"),
    imports=_set("import_spec"),
    sequences=_set("source_file block statement_list"),
    roles={
        "if_statement": Role.IF, "for_statement": Role.FOR, "labeled_statement": Role.LABEL,
        "break_statement": Role.BREAK, "continue_statement": Role.CONTINUE, "return_statement": Role.RETURN,
        "goto_statement": Role.GOTO, "fallthrough_statement": Role.FALLTHROUGH,
        **dict.fromkeys(sorted(_GO_SWITCHES), Role.SWITCH),
    },
    cases=_GO_CASES,
    separate=_GO_CASES,
    calls={"call_expression": "function"},
    exits=_set("os.Exit log.Fatal log.Fatalf log.Fatalln runtime.Goexit"),
    panics=_set("panic log.Panic log.Panicf log.Panicln"),
    data=replace(
        _GO_DATA,
        define={
            "var_spec": _NAME_VALUE, "const_spec": _NAME_VALUE, "short_var_declaration": _LEFT_RIGHT,
        },
        assign={"assignment_statement": _LEFT_RIGHT, "receive_statement": _LEFT_RIGHT},
        update=_set("inc_statement dec_statement"),
        each={"for_statement": _LEFT_RIGHT},
        switch=_GO_SWITCHES,
        pairs=_set("expression_list"),
    ),
    published=replace(_GO_DATA, exact=True),
)  # fmt: skip

_RUST = Syntax(
    grammars=("rust",),
    comments=_set("line_comment block_comment"),
    atoms=_set("string_literal raw_string_literal char_literal"),
    functions=_set("function_item"),
    lambdas=_set("closure_expression async_block"),
    classes=_set("struct_item enum_item union_item trait_item impl_item"),
    opaque_too=_set("mod_item"),
    imports=_set("use_declaration extern_crate_declaration"),
    sequences=_set("source_file block"),
    roles={
        "if_expression": Role.IF, "while_expression": Role.WHILE, "for_expression": Role.FOREACH,
        "loop_expression": Role.LOOP, "match_expression": Role.SWITCH, "break_expression": Role.BREAK,
        "continue_expression": Role.CONTINUE, "return_expression": Role.RETURN, "try_expression": Role.QUESTION,
        "let_declaration": Role.LET_ELSE,
    },
    cases=_set("match_arm"),
    separate=_set("match_arm"),
    exhaustive=True,
    ignored=_set("attribute_item inner_attribute_item"),
    calls={"macro_invocation": "macro", "call_expression": "function"},
    exits=_set("process::exit std::process::exit"),
    panics=_set("panic unreachable todo unimplemented"),
    data=DataRules(
        assign={"assignment_expression": _LEFT_RIGHT, "compound_assignment_expr": _LEFT_RIGHT},
        define={
            "let_declaration": (("pattern",), ("value",)), "let_condition": (("pattern",), ("value",)),
            "const_item": _NAME_VALUE, "static_item": _NAME_VALUE,
        },
        branch=_set("if_expression"),
        each={"for_expression": (("pattern",), ("value",))},
        twice=_set("while_expression loop_expression"),
        switch=_set("match_expression"),
        captures={"match_arm": ("pattern",)},
        pairs=_set("tuple_pattern tuple_expression"),
    ),
)  # fmt: skip

_C = Syntax(
    grammars=("c",),
    comments=_set("comment"),
    atoms=_set("string_literal raw_string_literal char_literal system_lib_string"),
    functions=_set("function_definition"),
    lambdas=frozenset(),
    classes=_set("struct_specifier union_specifier enum_specifier"),
    imports=_set("preproc_include"),
    sequences=_set("translation_unit compound_statement"),
    roles={**_COMMON, "preproc_if": Role.IF, "preproc_ifdef": Role.IF, "preproc_elif": Role.IF},
    cases=_set("case_statement"),
    elses=_set("else_clause preproc_else"),
    elifs=_set("preproc_elifdef"),
    calls={"call_expression": "function"},
    exits=_set("abort exit _exit _Exit longjmp __builtin_unreachable std::abort std::exit std::terminate"),
    ternary=_set("conditional_expression"),
    data=replace(
        _BRANCHES,
        assign={"assignment_expression": _LEFT_RIGHT},
        define={
            "init_declarator": (("declarator",), ("value",)), "declaration": (("declarator",), ("value",)),
            "optional_parameter_declaration": (("declarator",), ("default_value",)),
        },
        valued=_set("declaration"),
        update=_set("update_expression"),
        loop={"for_statement": _set("declaration assignment_expression comma_expression")},
        each={"for_range_loop": (("declarator",), ("right",))},
        switch=_set("switch_statement"),
        attempt=_set("try_statement"),
    ),
)  # fmt: skip

_CPP = replace(
    _C,
    grammars=("cpp",),
    lambdas=_set("lambda_expression"),
    classes=_C.classes | _set("class_specifier"),
    imports=_set("preproc_include import_declaration"),
    roles={**_C.roles, "for_range_loop": Role.FOREACH, "co_return_statement": Role.RETURN,
           "throw_expression": Role.THROW},
    catch_all=_set("..."),
    wrappers=_set("template_declaration"),
)  # fmt: skip

_CSHARP_DATA = DataRules(
    assign={"assignment_expression": _LEFT_RIGHT},
    define={"variable_declarator": (("name",), ())},  # the value stands in no field: the last child
    update=_set("postfix_unary_expression"),
    branch=_set("if_statement"),
    each={"foreach_statement": _LEFT_RIGHT},
    twice=_set("while_statement"),
)

_CSHARP = Syntax(
    grammars=("csharp",),
    comments=_set("comment"),
    atoms=_set("string_literal verbatim_string_literal raw_string_literal character_literal"),
    functions=_set("method_declaration constructor_declaration destructor_declaration operator_declaration "
                   "conversion_operator_declaration local_function_statement accessor_declaration"),
    lambdas=_set("lambda_expression anonymous_method_expression"),
    classes=_set("class_declaration struct_declaration interface_declaration enum_declaration record_declaration "
                 "record_struct_declaration"),
    imports=_set("using_directive"),
    sequences=_set("compilation_unit block"),
    roles={
        **_COMMON, "foreach_statement": Role.FOREACH, "switch_expression": Role.SWITCH,
        "throw_expression": Role.THROW, "yield_statement": Role.YIELD, "preproc_if": Role.IF,
        "preproc_elif": Role.IF,
    },
    cases=_set("switch_section switch_expression_arm"),
    separate=_set("switch_expression_arm"),
    elses=_set("else_clause preproc_else"),
    catch_all=_set("Exception System.Exception"),
    wrappers=_set("global_statement"),
    ignored=_set("attribute_list"),
    calls={"invocation_expression": "function"},
    exits=_set("Environment.Exit Environment.FailFast"),
    ternary=_set("conditional_expression"),
    data=replace(
        _CSHARP_DATA,
        loop={"for_statement": _set("variable_declaration assignment_expression")},
        update=_set("postfix_unary_expression prefix_unary_expression"),
        twice=_set("while_statement do_statement"),
        switch=_set("switch_statement switch_expression"),
        attempt=_set("try_statement"),
    ),
    published=replace(_CSHARP_DATA, exact=True),
)  # fmt: skip

SYNTAX: dict[str, Syntax] = {
    "python": _PYTHON, "java": _JAVA, "javascript": _JAVASCRIPT, "typescript": _TYPESCRIPT,
    "tsx": replace(_TYPESCRIPT, grammars=("tsx", "typescript")), "go": _GO, "rust": _RUST, "c": _C, "cpp": _CPP,
    "csharp": _CSHARP,
}  # fmt: skip
