"""Which language a file is in: from its path, and for programs without an extension from its first line.

A file's language depends on that file alone, so `.h` is always C++. A path that no rule knows is not indexed at all
(`language_of` is None): what is indexed is decided by the name before a byte is read. Languages that we have no grammar
for are "text". Importing this module loads no grammar.
"""

from __future__ import annotations

import re


def names(text: str) -> frozenset[str]:
    """The words of a text as a set: how tables of names are written here."""
    return frozenset(text.split())


# Languages of one family call each other: references are matched by name inside of a family only.
FAMILY = {
    "javascript": "js",
    "typescript": "js",
    "c": "c",
    "cpp": "c",
    "python": "python",
    "rust": "rust",
    "java": "java",
    "go": "go",
    "csharp": "csharp",
    "markdown": "text",
    "text": "text",
}

_BY_LANGUAGE = {
    "python": "py pyi pyw",
    "javascript": "js mjs cjs jsx",
    "typescript": "ts mts cts tsx",
    "java": "java",
    "go": "go",
    "rust": "rs",
    "c": "c",
    "cpp": "h cc cpp cxx c++ hh hpp hxx h++ ipp inl tcc tpp cu cuh",
    "csharp": "cs csx",
    "markdown": "md markdown mdx mkd rst",
    "text": (
        "txt text adoc org tex toml yaml yml json json5 jsonc ini cfg conf properties xml svg html htm xhtml css scss "
        "sass less sh bash zsh fish ps1 bat sql graphql gql proto thrift cmake mk gradle kts kt scala groovy rb pl pm "
        "php swift m mm lua r jl hs ml mli ex exs erl clj cljs el vim dart vue svelte astro tf hcl nix dockerfile "
        "pyx pxd pxi s asm v vhd zig nim d f90 f csproj sln props targets pom service env example in am ac m4 "
        "patch diff tmpl j2 ejs hbs liquid csv tsv ipynb lock mod sum"
    ),
}
EXTENSIONS = {extension: language for language, text in _BY_LANGUAGE.items() for extension in text.split()}

_FILE_NAMES = dict.fromkeys(
    names(
        "makefile gnumakefile dockerfile containerfile vagrantfile jenkinsfile rakefile gemfile procfile justfile "
        "cmakelists.txt license licence copying authors contributors changelog changes news todo install notice "
        "codeowners .gitignore .gitattributes .editorconfig .dockerignore .npmrc .bashrc .profile .zshrc"
    ),
    "text",
) | {"readme": "markdown", "sconstruct": "python", "sconscript": "python", "wscript": "python"}

# Written by tools, for tools: long, and nobody looks for anything in them.
_GENERATED_NAMES = re.compile(
    r"(?:package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|poetry\.lock|uv\.lock|pdm\.lock|"
    r"pipfile\.lock|cargo\.lock|composer\.lock|gemfile\.lock|flake\.lock|go\.sum|packages\.lock\.json|"
    r".*\.min\.(?:js|mjs|css)|.*\.(?:js|css|mjs)\.map|.*\.bundle\.js)"
)

_SHEBANG = re.compile(rb"#!.*?\b(python|node|deno|bun|ts-node|sh|bash|zsh|fish|ruby|perl|make|lua|awk)")
_INTERPRETERS = {b"python": "python", b"node": "javascript", b"bun": "javascript", b"deno": "typescript"} | {
    b"ts-node": "typescript"
}


def language_of(path: str, first_line: bytes = b"") -> str | None:
    """The language of the file at `path`, or None if it is not indexed (unknown, or a lock file or bundle)."""
    name = path.rpartition("/")[2].lower()
    if (known := _FILE_NAMES.get(name)) is not None:
        return known
    stem, dot, extension = name.rpartition(".")
    if dot and (stem or extension in EXTENSIONS):
        language = EXTENSIONS.get(extension)
        if language is not None and _GENERATED_NAMES.fullmatch(name):
            return None
        if language is None and stem in {"makefile", "dockerfile", "readme", "license", "changelog"}:
            return _FILE_NAMES[stem]
        return language
    if match := _SHEBANG.match(first_line):
        return _INTERPRETERS.get(match[1], "text")
    return None


def grammar_of(path: str, language: str) -> str:
    """The name of the tree-sitter grammar; "" for languages that are read without one."""
    if language == "typescript":
        return "tsx" if path.lower().endswith(".tsx") else "typescript"
    return "" if language in {"markdown", "text"} else language


def is_restructured_text(path: str) -> bool:
    return path.lower().endswith(".rst")
