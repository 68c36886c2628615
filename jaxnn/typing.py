"""The vocabulary: one name for each kind of value that jaxnn passes.

Shapes are written as in `Float[Array, "batch features"]`, leading axes first. The common names are
`batch` (examples), `features` (numbers per example), `classes` (possible labels) and `...` or
`*axes` (any further axes).
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from jaxtyping import Array, Bool, Float, Int, Key, Num, PyTree, Shaped, UInt32

Params: TypeAlias = PyTree[Any]
"""Trainable arrays as nested dicts, `{"hidden_1": {"weight": ..., "bias": ...}}`."""

State: TypeAlias = PyTree[Any]
"""Non-trainable arrays of a network, such as running statistics; `{}` for most networks."""

Batch: TypeAlias = Mapping[str, Any]
"""A dict of arrays with one leading axis. Reserved: `inputs`, `labels`, `weights`, `index`."""

Hparams: TypeAlias = Mapping[str, Any]
"""Hyper-parameters by name: numbers outside a compiled program, scalar arrays inside it."""

Number: TypeAlias = float | Array
"""A number that may be a hyper-parameter, which is traced inside a compiled program."""

Size: TypeAlias = Any
"""The size of an axis: an int, or a symbolic dimension in an exported program."""

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
