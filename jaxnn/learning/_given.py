"""Initial parameters and state that replace the initialised ones, as for a pretrained model.

They are arguments of the program that initialises a run, not constants in it, since they may be
large. The learner uses them when it initialises its network, so that arrays computed from the
parameters, such as averages, start from them too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import jax

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.names import listing, named_leaves, nearest
from jaxnn.typing import Any


@dataclass
class _Start:
    """The given `(params, state)`, and whether a learner has used them."""

    trees: Any
    is_used: bool = False


# Set only while one program is traced, so that the values read there are its arguments.
_GIVEN: ContextVar[_Start | None] = ContextVar("given", default=None)


@contextmanager
def given(start: Any) -> Iterator[None]:
    """Sets the initial `(params, state)` of networks initialised in the context, or `None`.

    Raises `InvalidType` at the end if nothing has used them, as in a learner whose own `init` calls
    no other learner's: it would train from other parameters without a word.
    """
    box = None if start is None else _Start(start)
    token = _GIVEN.set(box)
    try:
        yield
    finally:
        _GIVEN.reset(token)
    if box is not None and not box.is_used:
        raise InvalidType(
            "train",
            "the learner's init does not use start",
            got="start, and a learner with an init of its own",
            expected="a learner whose init calls that of learner(network, objective, optimizer)",
            fix="Leave start out, and return these parameters from init",
        )


def with_given(params: Any, state: Any) -> tuple[Any, Any]:
    """Returns initialised `params` and `state`, with leaves of the same name replaced by `start`.

    Raises:
      InvalidType: if a leaf has a different dtype, or `start` is not a pair.
      InvalidValue: if `start` has an unknown name, or a leaf has a different shape.
    """
    box = _GIVEN.get()
    if box is None:
        return params, state
    box.is_used, start = True, box.trees
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
                f"start has {what} that the network does not have",
                got=name,
                expected=f"some of {listing(leaves)}",
                fix=f"Did you mean {near!r}?" if near else "Use the names of the network",
            )
        for aspect, error in (("shape", InvalidValue), ("dtype", InvalidType)):
            if getattr(leaf, aspect) != getattr(leaves[name], aspect):
                raise error(
                    "train",
                    f"start has {name} with a {aspect} that differs from the network's",
                    got=f"{getattr(leaf, aspect)}",
                    expected=f"{getattr(leaves[name], aspect)}",
                    fix="Leave it out to have it initialised, or convert it first",
                )
    new = [own.get(name, leaf) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(drawn), new)
