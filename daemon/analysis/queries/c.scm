; C alone; see c_shared.scm.

(translation_unit (declaration declarator: (init_declarator value: (initializer_list))) @unit.constant)
