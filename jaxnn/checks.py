"""Argument checks, which raise errors of one form: what is wrong, got, expected, and the fix.

Checks raise while a network is built or traced, before anything compiles. `InvalidValue` is also a
`ValueError` and `InvalidType` a `TypeError`. Their common base class, `Invalid`, distinguishes
invalid input from a bug, for instance in exit codes.

    >>> positive_integer("linear", "features", 0)
    Traceback (most recent call last):
    jaxnn.checks.InvalidValue: linear: features is out of range. Got features=0; expected an \
integer of at least 1. Pass, say, features=1.
"""

import difflib
import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer


class Explained(Exception):
    """The base class of jaxnn's errors: `where: what is wrong. Got ...; expected .... The fix.`"""

    def __init__(self, where: str, wrong: str = "", *, got: str = "", expected: str = "", fix=""):
        end = "" if fix.endswith("?") else "."
        # Unpickling, as between processes, passes only the text.
        text = f"{where}: {wrong}. Got {got}; expected {expected}. {fix}{end}" if wrong else where
        super().__init__(text)


class Invalid(Explained):
    """An argument is invalid; the message says how to correct it."""


class InvalidValue(Invalid, ValueError):
    """A value or a shape is invalid."""


class InvalidType(Invalid, TypeError):
    """A type, or the structure of a tree, is invalid."""


class Caution(UserWarning):
    """A warning about a run that is valid but may not do what was intended."""


def is_concrete(value: Any) -> bool:
    """Returns whether `value` is known, not traced; hyper-parameters are checked before tracing."""
    return not isinstance(value, Tracer)


def positive_integer(where: str, name: str, value: Any, *, at_most: float = np.inf) -> int:
    """Returns `value` as an int; raises `Invalid` unless it is a positive integer."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_concrete(value) or (isinstance(value, float) and value.is_integer()):
        raise InvalidType(
            where,
            f"{name} is not an int",
            got=f"{name}={value!r}" if is_concrete(value) else f"{name} as a traced number",
            expected="a static int, since shapes cannot depend on a hyper-parameter",
            fix=f"Write {name}={int(value) if is_concrete(value) else 8}, and create a learner for"
            " each size",
        )
    if not whole or not 1 <= value <= at_most:
        bound = f" and at most {at_most}" if at_most < np.inf else ""
        raise InvalidValue(
            where,
            f"{name} is out of range",
            got=f"{name}={value!r}",
            expected=f"an integer of at least 1{bound}",
            fix=f"Pass, say, {name}=1",
        )
    return int(value)


def number(
    where: str,
    name: str,
    value: Any,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    open_low: bool = False,
) -> None:
    """Raises `InvalidValue` unless `value` is finite and in [low, high), or is traced.

    With `open_low`, `low` itself is excluded.
    """
    if not is_concrete(value):
        return
    try:
        figure = float(value)
    except (TypeError, ValueError):
        figure = np.nan
    above = figure > low if open_low else figure >= low
    if not (above and figure < high and np.isfinite(figure)):
        bounds = [
            f"{'above' if open_low else 'of at least'} {low:g}" if low > -np.inf else "",
            f"below {high:g}" if high < np.inf else "",
        ]
        rule = " and ".join(filter(None, bounds))
        example = (low + high) / 2 if np.isfinite(low + high) else max(low, 0.0) + 0.001
        raise InvalidValue(
            where,
            f"{name} is out of range",
            got=f"{name}={value!r}",
            expected=f"a number {rule}" if rule else "a finite number",
            fix=f"Pass, say, {name}={example:g}",
        )


def rate(where: str, name: str, value: Any) -> None:
    """Raises `InvalidValue` unless `value` is in [0, 1), or is traced."""
    number(where, name, value, low=0.0, high=1.0)


def positive(where: str, name: str, value: Any) -> None:
    """Raises `InvalidValue` unless `value` is finite and positive, or is traced."""
    number(where, name, value, low=0.0, open_low=True)


def share(where: str, name: str, value: Any) -> None:
    """Raises `InvalidValue` unless `value` is in (0, 1], or is traced."""
    if is_concrete(value) and not 0.0 < float(value) <= 1.0:
        raise InvalidValue(
            where,
            f"{name} is out of range",
            got=f"{name}={value!r}",
            expected="a number above 0 and at most 1",
            fix=f"Pass, say, {name}=0.9",
        )


def multiple(where: str, name: str, value: int, of: str, divisor: int) -> None:
    """Raises `InvalidValue` unless `value` is a multiple of `divisor`, whose name is `of`."""
    if value % divisor:
        raise InvalidValue(
            where,
            f"{name} is not a multiple of {of}",
            got=f"{name}={value} and {of}={divisor}",
            expected=f"a multiple of {divisor}",
            fix=f"Pass, say, {name}={-(-value // divisor) * divisor}, or"
            f" {of}={math.gcd(value, divisor)}",
        )


def kind(where: str, name: str, value: Any, expected: Any, *, fix: str) -> None:
    """Raises `InvalidType` unless `value` is an instance of `expected`, a class or `Callable`."""
    if not isinstance(value, expected):
        raise InvalidType(
            where,
            f"{name} has the wrong type",
            got=f"a {type(value).__name__}",
            expected=f"a {getattr(expected, '__name__', expected)}",
            fix=fix,
        )


def first_place(wrong: Any) -> tuple[int, ...]:
    """Returns the index of the first true element of a boolean array, for an error message."""
    return tuple(int(i) for i in np.argwhere(wrong)[0])


def choice(where: str, name: str, value: str, choices: Iterable[str]) -> None:
    """Raises `InvalidValue` unless `value` is one of `choices`; suggests the most similar one."""
    valid = sorted(choices)
    if value in valid:
        return
    near = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.4)
    raise InvalidValue(
        where,
        f"{name} is unknown",
        got=f"{name}={value!r}",
        expected="one of " + ", ".join(valid),
        fix=f"Did you mean {near[0]!r}?" if near else f"Choose {name} from that list",
    )


def floating(where: str, inputs: Any) -> None:
    """Raises `InvalidType` unless `inputs` has a floating-point dtype."""
    if not np.issubdtype(inputs.dtype, np.floating) and inputs.dtype != jax.numpy.bfloat16:
        raise InvalidType(
            where,
            "inputs are not floating-point numbers",
            got=f"inputs of dtype {inputs.dtype} and shape {inputs.shape}",
            expected="float32 or another float",
            fix="Put standardize(mean, std) first in the network, or convert the data",
        )
