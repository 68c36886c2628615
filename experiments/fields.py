"""The fields of a `Config`: inputs of the compiled program, and their values in a sweep.

    learning_rate: Hparam = 1e-3  # an input: all values train as one population
    batch_size: int = 64  # a constant: each value is compiled separately

A sweep replaces inputs and the seed by arrays, so that one `Config` represents many runs.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

import jaxnn
from jaxnn.checks import InvalidValue, choice, positive_integer
from jaxnn.search.ranges import parse

Hparam = Annotated[float, "an input of the compiled program"]


def hparams(config: Any) -> dict[str, Any]:
    """Returns the fields that are inputs of the compiled program, for `fit`."""
    hints = get_type_hints(type(config), include_extras=True)
    return {name: getattr(config, name) for name, hint in hints.items() if hint == Hparam}


def swept(config: Any, specs: Sequence[str], seeds: int | None) -> jaxnn.Sweep:
    """Returns the sweep of command-line specifications such as `learning_rate=log:1e-4:1e-1:16`.

    Seeds are counted from the configuration's seed.

    Raises:
      Invalid: if a field is unknown or repeated, or cannot have one of the values.
    """
    names = [field.name for field in fields(config)]
    swept_values: dict[str, Any] = {}
    for spec in specs:
        name, values = parse(spec)
        choice("sweep", "field", name, names)
        if name in swept_values:
            raise InvalidValue(
                "sweep",
                f"{name} is there twice",
                got=" and ".join(text for text in specs if parse(text)[0] == name),
                expected="each field once",
                fix="Write all its values together",
            )
        swept_values[name] = values
    if seeds is not None:
        choice("sweep", "field", "seed", names)
    first, count = getattr(config, "seed", 0), 1 if seeds is None else seeds
    positive_integer("sweep", "seeds", count)
    sweep = jaxnn.sweep(swept_values, seeds=range(first, first + count))
    hints = get_type_hints(type(config))
    columns = {
        name: [_fitting(name, hints[name], value) for value in column]
        if name in swept_values
        else column
        for name, column in sweep.columns.items()
    }
    return jaxnn.Sweep(columns)


def filled(config: Any, values: dict[str, Any], runs: jaxnn.Sweep) -> Any:
    """Returns the configuration of a group of runs, with arrays for fields that differ."""
    arrays = {name: np.array(column) for name, column in runs.columns.items()}
    return replace(config, **values, **{k: v for k, v in arrays.items() if hasattr(config, k)})


def _fitting(name: str, hint: Any, value: Any) -> Any:
    """Returns a value converted to the type of its field."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        choice("sweep", name, str(value), parts)
        return value
    if kind is tuple:
        several = value if type(value) is tuple else (value,)
        fits = parts[-1] is Ellipsis or len(parts) == len(several)
        if fits and all(type(part) is int for part in several):
            return several
    elif kind is float and type(value) in (int, float):
        return float(value)
    elif kind is int and type(value) in (int, float) and round(float(value), 6).is_integer():
        return round(value)
    elif kind in (bool, str) and type(value) is kind:
        return value
    raise InvalidValue(
        "sweep",
        f"{name} cannot have this value",
        got=f"{name}={value!r}",
        expected=f"a value of type {hint if parts else hint.__name__}",
        fix="List such values, separated by commas"
        + (f": {name}=32,64x64" if kind is tuple else ""),
    )
