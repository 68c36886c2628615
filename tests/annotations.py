"""How annotations are enforced in tests: by beartype, with whole numbers where floats are asked."""

from functools import partial
from types import FunctionType

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def enforce(module: str) -> None:
    """Checks each call of the annotated functions of a module that is not imported yet.

    jaxtyping would wrap functions without annotations too, which checks nothing, and takes a
    millisecond for each function that a function defines, whenever that is called.
    """

    def annotated(thing=None, *, typechecker, original=jaxtyping.jaxtyped):
        if thing is None:
            return partial(annotated, typechecker=typechecker)
        if isinstance(thing, FunctionType) and not thing.__annotations__:
            return thing
        return original(thing, typechecker=typechecker)

    jaxtyping.jaxtyped = annotated  # the hook inserts calls of it, by this name
    jaxtyping.install_import_hook(module, f"{__name__}.checked")
