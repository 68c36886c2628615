"""How annotations are enforced in tests: by beartype, with whole numbers where floats are asked."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
