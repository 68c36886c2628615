"""The vocabulary: one name for each kind of value that jaxnn passes.

Shapes are written as in `Float[Array, "batch features"]`, leading axes first. The names that
return everywhere are `batch` (examples), `features` (numbers per example), `classes` (possible
labels) and `...` or `*axes` (any further axes).
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from jaxtyping import Array, Bool, Float, Int, Key, Num, PyTree, Shaped, UInt32

Params: TypeAlias = PyTree[Any]
"""What training adjusts: nested dicts of arrays, `{"hidden_1": {"weight": ..., "bias": ...}}`."""

State: TypeAlias = PyTree[Any]
"""Everything else an `apply` needs, such as running statistics; `{}` for most networks."""

Batch: TypeAlias = Mapping[str, Any]
"""A dict of arrays with one leading axis. Reserved: `inputs`, `labels`, `weights`, `index`."""

Hparams: TypeAlias = Mapping[str, Any]
"""Hyper-parameters by name: numbers that you set, and arrays inside a compiled program."""

Number: TypeAlias = float | Array
"""A number that may be a hyper-parameter, and so traced inside a compiled program."""

Size: TypeAlias = Any
"""A size of a shape: an int, or a symbol where a program for any size is lowered."""

__all__ = [
    "Any",
    "Array",
    "Batch",
    "Bool",
    "Callable",
    "Float",
    "Hparams",
    "Int",
    "Key",
    "Num",
    "Number",
    "Params",
    "PyTree",
    "Shaped",
    "Size",
    "State",
    "UInt32",
]
