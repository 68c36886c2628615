"""Arguments of `learner` that may be functions of the hyper-parameters.

The network, objective and optimizer may each be passed directly, or as a function of one argument,
the hyper-parameters by name. Such a function is called during tracing, with hyper-parameters that
are inputs of the program, so that other values do not trigger recompilation. The names that it
reads are recorded, to report hyper-parameters that are missing or never read:

    >>> from jaxnn.layers import dropout
    >>> from jaxnn.network import Network
    >>> read = set()
    >>> make = builder("network", lambda hparams: dropout(hparams["rate"]), Network, read)
    >>> make({"rate": 0.5}), read
    (dropout(rate=0.5), {'rate'})
    >>> make({"rates": 0.5})                                    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jaxnn.checks.InvalidValue: learner: the network reads a hyper-parameter that was not given. ...
"""

import difflib
import inspect

import jax

from jaxnn.checks import Invalid, InvalidType, InvalidValue
from jaxnn.formatting import first_line
from jaxnn.objectives import Objective, objective
from jaxnn.objectives._places import of_places
from jaxnn.typing import Any, Callable, Hparams


def builder(name: str, given: Any, kind: Any, read: set[str]) -> Callable[[Hparams], Any]:
    """Returns a function of the hyper-parameters that builds `given` and checks its type.

    Args:
      name: the name of the argument, for errors.
      given: an instance of `kind`, or a function `hparams -> instance`. For an `Objective`, also a
        loss function.
      kind: the expected class.
      read: a set, to which the names of the hyper-parameters that are read are added.
    """

    def checked(built):
        if kind is Objective and not isinstance(built, Objective) and _is_loss(built):
            return of_places(objective(built))
        if not isinstance(built, kind):
            raise InvalidType(
                "learner",
                f"the {name} has the wrong type",
                got=f"{type(built).__name__} {built!r}",
                expected=f"{kind.__name__}, or a function of the hyper-parameters that returns one",
                fix={
                    "network": "Pass from_flax(model)"
                    if _is_flax(built)
                    else "Pass mlp([64], 10), serial(...) or from_flax(model)",
                    "objective": "Pass classification(), regression() or a custom loss",
                    "optimizer": "Pass its gradient_transformation()"
                    if hasattr(built, "gradient_transformation")
                    else "Pass optax.adam(1e-3), or lambda h: optax.adam(h['learning_rate'])",
                }[name],
            )
        return of_places(built) if isinstance(built, Objective) else built

    if isinstance(given, kind) or not _takes_hparams(given):
        built = checked(given)
        return lambda hparams: built
    return lambda hparams: checked(_called(name, given, _Given(name, hparams, read)))


def _called(name: str, given: Any, hparams: Hparams) -> Any:
    """Calls a function of the hyper-parameters; explains why they are not Python numbers."""
    try:
        return given(hparams)
    except TypeError as error:
        # Python says this of a list times a tracer, and of `range`.
        words = ("Tracer", "converted to a scalar index")
        is_static = isinstance(error, jax.errors.JAXTypeError) or any(
            w in str(error) for w in words
        )
        if isinstance(error, Invalid) or not is_static:
            raise
        raise InvalidType(
            "learner",
            f"the {name} uses a hyper-parameter as a Python number",
            got=first_line(error).rstrip("."),
            expected="computations with it only: hyper-parameters are inputs of the program",
            fix="Build a learner for each value that decides a shape, a length, an `if` or a name,"
            " and leave it out of hparams",
        ) from error


class _Given(dict):
    """The given hyper-parameters; records which are read, and raises if one is missing."""

    def __init__(self, reader: str, hparams: Hparams, read: set[str]):
        super().__init__(hparams)
        self.reader, self.read = reader, read

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default

    def __iter__(self):
        """Returns the names, which reads no value; without it, `**hparams` bypasses `[]`."""
        return super().__iter__()

    def items(self) -> Any:
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        return [self[name] for name in self]

    def __missing__(self, name: str) -> Any:
        near = difflib.get_close_matches(str(name), super().keys(), n=1)
        raise InvalidValue(
            "learner",
            f"the {self.reader} reads a hyper-parameter that was not given",
            got=f"hparams with {', '.join(super().keys()) or 'nothing'}",
            expected=f"{name!r} in hparams",
            fix=f"Pass hparams={{{name!r}: number}}"
            + (f", or read {near[0]!r}, which was given" if near else ""),
        )


def check_read(hparams: Hparams, read: set[str]) -> None:
    """Raises `InvalidValue` if a hyper-parameter was given that no function reads."""
    unread = sorted(set(hparams) - read)
    if unread:
        raise InvalidValue(
            "learner",
            "a hyper-parameter is never read",
            got=f"{unread[0]}={hparams[unread[0]]!r}",
            expected=f"only the ones that are read: {', '.join(sorted(read)) or 'none'}",
            fix=f"Leave it out, or read it: optimizer=lambda h: optax.adam(h[{unread[0]!r}])",
        )


def _takes_hparams(given: Any) -> bool:
    """Returns whether a function has one required argument, other than `learning_rate`.

    A function of `learning_rate` is an optimizer that was passed without calling it.
    """
    if not callable(given) or _is_flax(given):
        return False
    parameters = inspect.signature(given).parameters
    needed = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) == 1 and needed != ["learning_rate"]


def _is_flax(given: Any) -> bool:
    """Returns whether `given` is a Flax module or its class, without importing Flax."""
    kinds = (given if isinstance(given, type) else type(given)).__mro__
    return any(kind.__module__.startswith("flax.") for kind in kinds)


def _is_loss(given: Any) -> bool:
    """Returns whether `given` can be called with outputs and a batch."""
    try:
        return callable(given) and bool(inspect.signature(given).bind(None, None))
    except TypeError:
        return False
