"""Reads and writes strict JSON, including numbers that are not finite.

JSON has neither NaN nor infinity. In metrics they are written as `null`, and `with_nan` restores
NaN. In a configuration, where an infinity may be a setting, they become strings, see `plain`.

>>> encode({"loss": float("inf"), "steps": [1, 2]})
b'{"loss": null, "steps": [1, 2]}'
>>> with_nan(decode(b'{"loss": null, "steps": [1, 2]}'))
{'loss': nan, 'steps': [1, 2]}
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxnn.checks import Explained, InvalidType
from jaxnn.storage import files


class CorruptFile(Explained):
    """A file of a run is corrupt."""


def encode(value: Any, **options: Any) -> bytes:
    """Returns the JSON text of a value, with `null` for numbers that are not finite.

    It consists of dicts, lists, strings and numbers. `options` are those of `json.dumps`.

    Raises:
      ValueError: if it is nested too deeply.
    """
    try:
        return json.dumps(value, allow_nan=False, **options).encode()
    except ValueError:
        return json.dumps(_with_null(value), allow_nan=False, **options).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def decode(content: bytes) -> Any:
    """Parses strict JSON: unlike Python's parser, it rejects NaN and repeated names.

    Raises:
      ValueError: if it is not JSON.
    """

    def unique(pairs):
        if len(fields := dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"a name is repeated: {max(names, key=names.count)!r}")
        return fields

    def refuse(name):
        raise ValueError(f"{name} is not a number in JSON")

    def real(digits):
        return float(digits) if math.isfinite(float(digits)) else refuse(digits)

    try:
        return json.loads(
            content, object_pairs_hook=unique, parse_constant=refuse, parse_float=real
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read(file: Path) -> dict[str, Any]:
    """Reads the JSON object in a file.

    Raises:
      CorruptFile: if it holds anything else, or cannot be read.
    """
    try:
        content = decode(files.read(file))
        wrong = f"a {type(content).__name__}"
    except (ValueError, OSError) as error:
        content, wrong = None, str(error)
    if not isinstance(content, dict):
        raise CorruptFile(
            "run directory",
            f"{file} cannot be read",
            got=wrong,
            expected="a JSON object, as jaxnn writes it",
            fix="Restore it from a copy, or start the run in another directory (--out)",
        )
    return content


def plain(config: Any, default: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """Returns a mapping or a dataclass as a JSON-serializable dict; NaN and infinities become text.

    `None` becomes an empty dict. `default` converts other objects: by default, arrays become lists
    and other objects strings.
    """
    if not (dataclasses.is_dataclass(config) or isinstance(config, Mapping | None)):
        raise InvalidType(
            "run directory",
            "config has the wrong type",
            got=f"a {type(config).__name__}",
            expected="a mapping or a dataclass",
            fix="Pass config={'learning_rate': 0.01}, or a dataclass with such fields",
        )
    fields = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config or {})  # pyright: ignore
    default = default or (lambda value: value.tolist() if hasattr(value, "tolist") else str(value))
    return json.loads(json.dumps(fields, default=default), parse_constant=str)


def finite(value: Any) -> float | None:
    """Returns a value of a JSON file as a float; `None` unless it is a finite number."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if real and math.isfinite(value) else None


def number(value: Any) -> Any:
    """Returns a number or a list of numbers, with NaN for everything else."""
    if isinstance(value, list):
        return [number(each) for each in value]
    return math.nan if finite(value) is None else value


def with_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row with NaN for every value that is not a number."""
    return {name: number(value) for name, value in row.items()}


def _with_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_null(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
