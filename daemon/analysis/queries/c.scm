; C alone; see c_shared.scm.

(struct_specifier name: (type_identifier) !body) @ref.type
