"""The version of the distribution and of the protocol. Importable in no time: the client compares them."""

VERSION = "0.1.0"  # a test holds it equal to pyproject.toml; reading the installed metadata would cost 20 ms
PROTOCOL = 1  # grows when an older client could misread a newer daemon; new optional fields do not count
