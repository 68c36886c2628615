"""The values of a hyper-parameter in a sweep: an evenly spaced range, random draws, or a list.

>>> linear_range(0, 0.5, 3)
[0.0, 0.25, 0.5]
>>> log_range(0.001, 0.1, 3)
[0.001, 0.01, 0.1]
>>> parse("learning_rate=log:0.001:0.1:3")
('learning_rate', [0.001, 0.01, 0.1])
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, choice, number, positive_integer
from jaxnn.typing import Any


@dataclass(frozen=True)
class Draws:
    """Numbers to draw at random, as returned by `random_range` and `log_random_range`.

    Attributes:
      low: the lower bound.
      high: the upper bound.
      count: the number of draws.
      log: whether the logarithms are uniform, instead of the numbers.
    """

    low: float
    high: float
    count: int
    log: bool

    def values(self, name: str, seed: int) -> list[float]:
        """Draws the numbers for the field `name`; the same name and seed give the same numbers."""
        shares = np.random.default_rng([seed, *name.encode()]).random(self.count)
        if not self.log:
            return (self.low + shares * (self.high - self.low)).tolist()
        return (self.low * (self.high / self.low) ** shares).tolist()


def linear_range(low: float, high: float, count: int) -> list[float]:
    """Returns `count` numbers from `low` to `high`, evenly spaced."""
    return np.linspace(*bounds("linear_range", low, high, count)).tolist()


def log_range(low: float, high: float, count: int) -> list[float]:
    """Returns `count` numbers from `low` to `high`, evenly spaced on a log scale."""
    return np.geomspace(*bounds("log_range", low, high, count, log=True)).tolist()


def random_range(low: float, high: float, count: int) -> Draws:
    """Returns `count` uniform draws between `low` and `high`; `sweep` draws them."""
    return Draws(*bounds("random_range", low, high, count), log=False)


def log_random_range(low: float, high: float, count: int) -> Draws:
    """Returns `count` log-uniform draws between `low` and `high`; `sweep` draws them."""
    return Draws(*bounds("log_random_range", low, high, count, log=True), log=True)


RANGES = {
    "linear": linear_range, "log": log_range,
    "lograndom": log_random_range, "random": random_range,
}  # fmt: skip


def parse(text: str) -> tuple[str, Any]:
    """Parses `FIELD=RANGE:LOW:HIGH:COUNT`, with one of `RANGES`, or `FIELD=VALUE,VALUE,...`.

    >>> parse("hidden=32,64x64"), parse("model=mlp,convnet")
    (('hidden', [32, (64, 64)]), ('model', ['mlp', 'convnet']))

    Raises:
      InvalidValue: if the text has neither form.
    """
    name, equals, values = (part.strip() for part in text.partition("="))
    if not (name and equals and values):
        raise _unreadable(text, "no field with values")
    if ":" not in values:
        given = [_value(value.strip()) for value in values.split(",")]
        if "" in given:
            raise _unreadable(text, "an empty value")
        return name, given
    kind, *bounds = (part.strip() for part in values.split(":"))
    if isinstance(_value(kind), int | float):
        raise _unreadable(text, "a range without its name")
    choice("sweep", "range", kind, RANGES)
    figures = [_value(bound) for bound in bounds]
    if len(figures) != 3 or not all(isinstance(figure, int | float) for figure in figures):
        raise _unreadable(text, "a range that is not of three numbers")
    return name, RANGES[kind](*figures)


def listed(name: str, values: Any) -> list[Any]:
    """Returns the values of a field as a list of Python numbers, strings or tuples.

    Raises:
      Invalid: if they are not a list, are empty or repeated, or are not hashable.
    """
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InvalidType(
            "sweep",
            f"{name} is not a list of values",
            got=f"{name}={values!r}",
            expected="a list, or a range",
            fix=f"Pass {name}=[{values!r}], or leave it out, since nothing varies",
        )
    for value in values:
        if isinstance(value, list | dict | set):
            raise InvalidType(
                "sweep",
                f"{name} has a mutable value",
                got=f"{name}={value!r}",
                expected="numbers, strings or tuples",
                fix="Write a tuple instead: (64, 64)",
            )
        if isinstance(value, float):
            number("sweep", name, value)
    if len(set(values)) < max(1, len(values)):
        raise InvalidValue(
            "sweep",
            f"{name} has a value twice" if values else f"{name} has no values",
            got=f"{name}={values!r}",
            expected="one or more distinct values",
            fix="To repeat runs, pass seeds=8" if values else f"Leave {name} out",
        )
    return list(values)


def _value(text: str) -> Any:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    if re.fullmatch(r"\d+(x\d+)+", text):
        return tuple(map(int, text.split("x")))
    return {"true": True, "false": False}.get(text.lower(), text)


def _unreadable(text: str, problem: str) -> InvalidValue:
    return InvalidValue(
        "sweep",
        f"{text!r} cannot be read",
        got=problem,
        expected=f"FIELD=RANGE:LOW:HIGH:COUNT, a range being one of {', '.join(RANGES)},"
        " or FIELD=VALUE,VALUE",
        fix="Write, say, learning_rate=log:1e-4:1e-1:16",
    )


def bounds(where: str, low: Any, high: Any, count: Any, log: bool = False) -> tuple[Any, Any, int]:
    """Validates the bounds and the count of a range, and returns them.

    Raises:
      Invalid: if they are not finite and increasing, or for a `log` scale not positive.
    """
    number(where, "low", low, low=0.0 if log else -np.inf, open_low=True)
    number(where, "high", high, low=low, open_low=True)
    return low, high, positive_integer(where, "count", count)
