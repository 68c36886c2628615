"""Rules that determine which axis of a parameter is split over which axis of the mesh.

Rules are `{pattern: split}` over the names of parameters (`jaxnn.names`). The first match applies,
and a parameter without a match is replicated. Arrays of a parameter, such as its average, or the
optimizer's moments of it, are sharded as the parameter is.

    {"tokens/weight": split(0, "model"), "*/bias": None, "*": largest("data")}

A pattern matches the name of a parameter, such as `hidden_1/weight`. The predefined rules are
`replicated`, `fsdp`, `tensor` and `tensor_fsdp`.

>>> rules_of("shard", fsdp)
Rules(fsdp: * -> largest(data, at_least=16384))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jax.sharding import PartitionSpec

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.names import pairs_of
from jaxnn.scale._mesh import DATA, MODEL
from jaxnn.typing import Any

# Splitting smaller arrays is not worth the communication that collects them.
AT_LEAST = 2**14


@dataclass(frozen=True)
class Split:
    """The split of one axis of an array over an axis of the mesh.

    Attributes:
      axis: the axis, counted from the end if negative; `None` for the largest axis that divides.
      over: the axis of the mesh.
      at_least: the smallest number of entries of an array whose largest axis is split.
    """

    axis: int | None
    over: str
    at_least: int = 0

    def __str__(self) -> str:
        if self.axis is None:
            return f"largest({self.over}, at_least={self.at_least})"
        return f"split({self.axis}, {self.over})"


def split(axis: int, over: str) -> Split:
    """Splits an axis of a parameter over an axis of the mesh, as in `split(-1, "model")`."""
    return Split(axis, over)


def largest(over: str, *, at_least: int = AT_LEAST) -> Split:
    """Splits the largest axis that divides evenly and is not split yet, if there is one.

    Args:
      over: the axis of the mesh.
      at_least: the smallest number of entries of an array that is split.
    """
    return Split(None, over, at_least)


@dataclass(frozen=True, repr=False)
class Rules:
    """Validated rules.

    Attributes:
      pairs: the patterns and their splits; the first match applies.
      name: the name of the rules.
      strict: whether a pattern without a match, or an axis that does not divide, is an error. It is
        not an error in the predefined rules, which apply to many networks.
    """

    pairs: tuple[tuple[str, tuple[Split, ...]], ...]
    name: str = "rules"
    strict: bool = True

    def __repr__(self) -> str:
        lines = [f"{pattern} -> {_words(splits)}" for pattern, splits in self.pairs]
        return f"Rules({self.name}: {'; '.join(lines)})"


def _words(splits: tuple[Split, ...]) -> str:
    return " and ".join(map(str, splits)) or "whole"


def rules_of(where: str, rules: Any) -> Rules:
    """Converts rules in any accepted form, such as `{pattern: split}`, to `Rules`.

    Raises:
      InvalidType: if the rules have the wrong type.
      InvalidValue: if a rule uses an axis twice.
    """
    if isinstance(rules, Rules):
        return rules
    pairs = [(pattern, _splits(where, value)) for pattern, value in pairs_of(where, rules)]
    for pattern, splits in pairs:
        overs = [split.over for split in splits]
        axes = [split.axis for split in splits if split.axis is not None]
        if len(set(overs)) < len(overs) or len(set(axes)) < len(axes):
            raise InvalidValue(
                where,
                "a rule uses an axis twice",
                got=f"{pattern!r}: {_words(splits)}",
                expected="different axes of the array, over different axes of the mesh",
                fix=f"Write {{{pattern!r}: [split(-1, 'model'), largest('data')]}}",
            )
    return Rules(tuple(pairs))


def _splits(where: str, value: Any) -> tuple[Split, ...]:
    """Returns the splits of a rule: one, several, none, or those of a `PartitionSpec`."""
    if value is None or isinstance(value, Split):
        return () if value is None else (value,)
    if isinstance(value, PartitionSpec):
        axes = [(axis, over) for axis, over in enumerate(value) if over is not None]
        if all(isinstance(over, str) for _, over in axes):
            return tuple(Split(axis, str(over)) for axis, over in axes)
    elif isinstance(value, Sequence) and all(isinstance(each, Split) for each in value):
        return tuple(value)
    raise InvalidType(
        where,
        "the value of a rule has the wrong type",
        got=repr(value),
        expected="split(axis, over), largest(over), several of them, or None",
        fix="Write {'head/weight': split(-1, 'model'), '*': largest('data')}",
    )


def ready(name: str, rules: Mapping[str, Any]) -> Rules:
    """Returns rules for many networks, which ignore missing names and axes that do not divide."""
    return Rules(rules_of(name, rules).pairs, name, strict=False)


replicated = ready("replicated", {"*": None})
"""Replicates the state on every device, and splits the batch (data parallel)."""

fsdp = ready("fsdp", {"*": largest(DATA)})
"""Splits each large array over the `data` axis (fully sharded data parallel, ZeRO 3)."""


_COLUMNS, _ROWS = split(-1, MODEL), split(-2, MODEL)

# For two layers in a row, the outputs of the first and the inputs of the second are split, so only
# the sums of the second are communicated: attention by heads, hidden nodes, convolution branches.
_TENSOR = {
    "*attention/query": _COLUMNS,
    "*attention/key": _COLUMNS,
    "*attention/value": _COLUMNS,
    "*hidden": _COLUMNS,
    **{f"*hidden_*{digit}": _COLUMNS for digit in "13579"},
    **{f"*hidden_*{digit}/weight": _ROWS for digit in "02468"},
    "*branch/conv_1": _COLUMNS,
    "*branch/norm_1": _COLUMNS,
    "*branch/conv_2/weight": _ROWS,
    "*output/weight": _ROWS,
    "*tokens/weight": split(0, MODEL),
}

tensor = ready("tensor", _TENSOR)
"""Splits the wide layers of `gpt`, `resnet`, `mlp` and similar networks (tensor parallel).

Source: Shoeybi et al., Megatron-LM, 2019, section 3, https://arxiv.org/abs/1909.08053.
"""

tensor_fsdp = ready(
    "tensor_fsdp",
    {name: (rule, largest(DATA)) for name, rule in _TENSOR.items()} | {"*": largest(DATA)},
)
"""Combines both: `tensor` along `model`, and the largest remaining axis along `data`."""
