"""Where a run begins: parameters and state that are given, instead of those that are drawn.

They are arguments of the program that initialises a run, and no constants of it, however large they
are. The learner takes them where it initialises its network, so that whatever is computed from
parameters, such as averages of them, begins with them too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.names import listing, named_leaves, nearest
from jaxnn.typing import Any

# Only within the trace of one program: what is read there are its arguments.
_GIVEN: ContextVar[Any] = ContextVar("given", default=None)


@contextmanager
def given(start: Any) -> Iterator[None]:
    """Gives the networks that are initialised meanwhile `(params, state)`; `None` for nothing."""
    token = _GIVEN.set(start)
    try:
        yield
    finally:
        _GIVEN.reset(token)


def with_given(params: Any, state: Any) -> tuple[Any, Any]:
    """Returns what a network draws, with the leaves that are given instead, by their names.

    Raises:
      InvalidType: if a leaf has another dtype, or what is given is not a pair.
      InvalidValue: if there is no leaf of a name, or it has another shape.
    """
    start = _GIVEN.get()
    if start is None:
        return params, state
    if not isinstance(start, tuple | list) or len(start) != 2:
        raise InvalidType(
            "train",
            "start is not a pair",
            got=f"a {type(start).__name__}",
            expected="(params, state), with {} for a network without state",
            fix="Pass start=(model.params, model.state)",
        )
    return _replaced("parameters", params, start[0]), _replaced("state", state, start[1])


def _replaced(what: str, drawn: Any, start: Any) -> Any:
    leaves, own = named_leaves(drawn), named_leaves(start)
    for name, leaf in own.items():
        if name not in leaves:
            near = nearest(name, leaves)
            raise InvalidValue(
                "train",
                f"start has {what} that the network has not",
                got=name,
                expected=f"some of {listing(leaves)}",
                fix=f"Did you mean {near!r}?" if near else "Give the names of the network",
            )
        for aspect, error in (("shape", InvalidValue), ("dtype", InvalidType)):
            if getattr(leaf, aspect) != getattr(leaves[name], aspect):
                raise error(
                    "train",
                    f"start has {name} with another {aspect} than the network",
                    got=f"{getattr(leaf, aspect)}",
                    expected=f"{getattr(leaves[name], aspect)}",
                    fix="Leave it out to have it drawn, or convert it before",
                )
    new = [own.get(name, leaf) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(drawn), new)
