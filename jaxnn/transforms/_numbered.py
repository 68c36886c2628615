"""Blocks with numbers: leaves of a source that are counted anew, stacked, or taken apart.

A rule `"block_{n+1}": "layers/{n}"` numbers anew. Where only the source has a number,
`"blocks": "layers/{n}"`, its leaves are the layers of one array; where it is in brackets,
`"block_{n+1}": "blocks[{n}]"`, a leaf is one layer of the source's array.
"""

import re
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.names import listing, match_name
from jaxnn.typing import Any


class Layers:
    """Arrays of one form as the layers of one array, which is built when it is read."""

    def __init__(self, arrays: Sequence[Any]):
        self.arrays = arrays
        forms = {(tuple(np.shape(x)), jnp.asarray(x).dtype) for x in arrays}
        if len(forms) > 1:
            raise InvalidValue(
                "warm_start",
                "the layers of the source are not alike",
                got=f"shapes and dtypes {sorted(map(str, forms))}",
                expected="one shape and dtype",
                fix="Stack only blocks that are alike",
            )
        ((shape, self.dtype),) = forms
        self.shape = (len(arrays), *shape)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.stack([np.asarray(x) for x in self.arrays]).astype(dtype or self.dtype)


def lookup(template: str, source: Mapping[str, Any]) -> tuple[Any, list[str]] | None:
    """Returns what a template means in a source, and the leaves that it is; `None` if nothing.

    Args:
      template: a name, of layers where `{n}` or `[3]` is in it.
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
    """Raises if a rule that counts blocks leaves some of the source's: there are more of them.

    Args:
      templates: the source's name in each rule, by pattern.
      sources: leaves by name.
      used: the names of those that are taken.
    """
    names = [name for source in sources for name in source if name not in used]
    for pattern, template in templates.items():
        counts = "{" in template and "[" not in template
        left = [name for name in names if counts and match_name(template, name)]
        if left:
            raise InvalidValue(
                "warm_start",
                f"the source has more blocks than the network, by the rule {pattern!r}",
                got=f"nothing that takes {listing(left, 4)}",
                expected="as many blocks as the source has",
                fix="Build the network with as many, or leave the others out of the source",
            )
