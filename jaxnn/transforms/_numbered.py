"""Numbered blocks: leaves of a source that are renumbered, stacked or unstacked.

A rule `"block_{n+1}": "layers/{n}"` renumbers blocks. If only the source is numbered,
`"blocks": "layers/{n}"`, its leaves are stacked into one array; if the number is in brackets,
`"block_{n+1}": "blocks[{n}]"`, each leaf is one layer of the source's array.
"""

import re
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.names import listing, match_name
from jaxnn.typing import Any


class Layers:
    """Arrays of the same shape and dtype, stacked when the result is converted to NumPy."""

    def __init__(self, arrays: Sequence[Any]):
        self.arrays = arrays
        forms = {(tuple(np.shape(x)), jnp.asarray(x).dtype) for x in arrays}
        if len(forms) > 1:
            raise InvalidValue(
                "warm_start",
                "the layers of the source have different shapes or dtypes",
                got=f"shapes and dtypes {sorted(map(str, forms))}",
                expected="one shape and dtype",
                fix="Stack only blocks with equal shapes and dtypes",
            )
        ((shape, self.dtype),) = forms
        self.shape = (len(arrays), *shape)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.stack([np.asarray(x) for x in self.arrays]).astype(dtype or self.dtype)


def lookup(template: str, source: Mapping[str, Any]) -> tuple[Any, list[str]] | None:
    """Returns the array that a template refers to and the names of its leaves, or `None`.

    Args:
      template: the name of a leaf; `{n}` stacks numbered leaves, `[3]` selects a layer of a leaf.
      source: leaves by name.
    """
    if template in source:
        return source[template], [template]
    name = re.sub(r"\[\d+\]", "", template)
    if name != template and name in source:
        layer = int(template[template.index("[") + 1 : template.index("]")])
        array = source[name]
        inside = len(np.shape(array)) > 0 and layer < np.shape(array)[0]
        return (array[layer], [name]) if inside else None
    hits = {n: match_name(template, n, nodes=False) for n in source} if "{" in template else {}
    numbers = {next(iter(hit.numbers.values())): n for n, hit in hits.items() if hit}
    if sorted(numbers) != [*range(len(numbers))] or not numbers:
        return None
    names = [numbers[i] for i in range(len(numbers))]
    return Layers([source[n] for n in names]), names


def check_all_blocks(
    templates: Mapping[str, str], sources: Sequence[Mapping[str, Any]], used: set[str]
) -> None:
    """Raises `InvalidValue` if a rule with `{n}` does not use all numbered blocks of the source.

    Args:
      templates: the name in the source of each rule, by pattern.
      sources: leaves by name, one mapping for each tree.
      used: the names of the leaves that rules take.
    """
    names = [name for source in sources for name in source if name not in used]
    for pattern, template in templates.items():
        counts = "{" in template and "[" not in template
        left = [name for name in names if counts and match_name(template, name)]
        if left:
            raise InvalidValue(
                "warm_start",
                f"the source has more blocks than the network, by the rule {pattern!r}",
                got=f"unused leaves {listing(left, 4)}",
                expected="as many blocks as the source has",
                fix="Build the network with as many blocks, or remove the others from the source",
            )
