"""Trees of array shapes and dtypes, and their JSON form.

>>> tree = {"numbers": Spec(("examples", 3), "float32")}
>>> to_json(tree)
{'dict': {'numbers': {'shape': ['examples', 3], 'dtype': 'float32'}}}
>>> from_json(to_json(tree)) == tree
True
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxnn.masked import Masked
from jaxnn.typing import Any

DEEPEST = 32  # maximum depth of a tree


@dataclass(frozen=True)
class Spec:
    """The shape and dtype of an array; a dynamic size is a symbolic expression.

    Attributes:
      shape: the sizes, such as `("examples", 28, 28)`.
      dtype: the name of the dtype.
    """

    shape: tuple[int | str, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def specs_of(tree: Any) -> Any:
    """Returns the specs of a tree of arrays or `ShapeDtypeStruct`s with symbolic sizes."""

    def spec(x: Any) -> Spec:
        shape = tuple(n if isinstance(n, int) else str(n) for n in x.shape)
        return Spec(shape, jnp.dtype(x.dtype).name)

    return jax.tree.map(spec, tree)


def shapes_of(specs: Any, scope: jax_export.SymbolicScope) -> Any:
    """Returns specs as `jax.ShapeDtypeStruct`s, with dynamic sizes in the given scope."""

    def shape(spec: Spec) -> jax.ShapeDtypeStruct:
        text = ", ".join(map(str, spec.shape)) + ("," if spec.shape else "")
        sizes = jax_export.symbolic_shape(text, scope=scope) if spec.shape else ()
        return jax.ShapeDtypeStruct(sizes, jnp.dtype(spec.dtype))

    return jax.tree.map(shape, specs)


def without_examples(specs: Any) -> Any:
    """Returns the specs of a single example, without the batch axis."""
    return jax.tree.map(lambda spec: Spec(spec.shape[1:], spec.dtype), specs)


def to_json(tree: Any) -> Any:
    """Returns a tree of specs as a JSON-compatible value.

    Raises:
      TypeError: if the tree has nodes other than dicts, lists, tuples and `Masked`.
    """
    if isinstance(tree, Spec):
        return {"shape": list(tree.shape), "dtype": tree.dtype}
    if tree is None:
        return {"none": True}
    if isinstance(tree, dict) and all(isinstance(name, str) for name in tree):
        return {"dict": {name: to_json(tree[name]) for name in sorted(tree)}}
    if type(tree) in (list, tuple):
        return {type(tree).__name__: [to_json(each) for each in tree]}
    if isinstance(tree, Masked):
        return {"masked": [to_json(x) for x in (tree.values, tree.mask, tree.segments)]}
    raise TypeError(f"a {type(tree).__name__} among inputs or outputs")


def from_json(value: Any, depth: int = 0) -> Any:
    """Returns a tree of specs from the output of `to_json`.

    Raises:
      ValueError: if the value is invalid.
    """
    if not isinstance(value, dict) or depth > DEEPEST:
        raise ValueError(f"no tree of arrays: {str(value)[:80]}")
    match value:
        case {"shape": list(shape), "dtype": str(dtype)} if len(value) == 2:
            return Spec(tuple(map(_size, shape)), _dtype(dtype))
        case {"none": True} if len(value) == 1:
            return None
        case {"dict": dict(items)} if len(value) == 1:
            return {name: from_json(each, depth + 1) for name, each in items.items()}
        case {"list": list(items)} if len(value) == 1:
            return [from_json(each, depth + 1) for each in items]
        case {"tuple": list(items)} if len(value) == 1:
            return tuple(from_json(each, depth + 1) for each in items)
        case {"masked": [values, mask, segments]} if len(value) == 1:
            arrays = [from_json(x, depth + 1) for x in (values, mask, segments)]
            like = Masked(_ROW, _ROW, None if arrays[2] is None else _ROW)
            return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(arrays))
    raise ValueError(f"no tree of arrays: {str(value)[:80]}")


def _size(size: Any) -> int | str:
    if type(size) is int and 0 <= size < 1 << 43:
        return size
    if isinstance(size, str) and 0 < len(size) <= 200:
        return size
    raise ValueError(f"no size of an array: {str(size)[:80]}")


def _dtype(name: str) -> str:
    try:
        dtype = jnp.dtype(name)
    except TypeError:
        raise ValueError(f"no dtype of an array: {name[:80]}") from None
    if dtype.kind not in "biufV" or (dtype.kind == "V" and name not in _NARROW):
        raise ValueError(f"no dtype of an array: {name[:80]}")
    return dtype.name


_ROW = np.ones((1, 1), bool)
_NARROW = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
