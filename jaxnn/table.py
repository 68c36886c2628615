"""A network in figures: for each part its output, its parameters and what computing it takes.

>>> import jax, jax.numpy as jnp
>>> from jaxnn.models.mlp import mlp
>>> print(table(mlp([32], 10), jax.ShapeDtypeStruct((1, 8, 8), jnp.float32)))
part          kind        output   parameters  bytes  multiply-adds
flatten       flatten     (1, 64)           0      0              0
hidden_1      linear      (1, 32)       2,080  8,320          2,048
activation_1  activation  (1, 32)           0      0              0
output        linear      (1, 10)         330  1,320            320
total                     (1, 10)       2,410  9,640          2,368
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax

from jaxnn.network import Network, rewrite
from jaxnn.programs import operations
from jaxnn.typing import Any

_MARK = "part of a network: "


class Row(NamedTuple):
    """One part of a network.

    Attributes:
      part: its name, with those of the parts around it: `"block/hidden_1"`.
      kind: what it is, such as `"linear"`.
      output: the shape of its output, or a pytree of shapes; inside a loop, of one turn: of one
        layer of `repeat`, of one time step of `gru` and `lstm`.
      parameters: the number of parameters that it computes with, frozen ones too, in all layers.
      bytes: the memory of these and of its state.
      multiply_adds: products in its matrix products and convolutions, for these inputs, in all
        turns of the loops around it.
      times: how many layers of it there are; 1 but inside `repeat`.
    """

    part: str
    kind: str
    output: Any
    parameters: int
    bytes: int
    multiply_adds: int
    times: int = 1


@dataclass(frozen=True)
class Table:
    """The rows of a network's parts, in the order in which they compute, and the total.

    The total is of the network as a whole: the parameters that are trained, the memory of all that
    it keeps, and all products, also those that are between parts.
    """

    rows: tuple[Row, ...]
    total: Row

    def __str__(self) -> str:
        lines: list[tuple[str, ...]] = [
            ("part", "kind", "output", "parameters", "bytes", "multiply-adds")
        ]
        for row in (*self.rows, self.total):
            figures = (f"{n:,}" for n in (row.parameters, row.bytes, row.multiply_adds))
            part = row.part if row.times == 1 else f"{row.part} x{row.times}"
            lines.append((part, row.kind, str(row.output), *figures))
        widths = [max(map(len, column)) for column in zip(*lines)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if place > 2 else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(line, widths))
            )
            for line in lines
        )

    __repr__ = __str__


def table(network: Network, inputs: Any) -> Table:
    """Returns the figures of every part of a network, without computing anything.

    Args:
      network: any network; one that does not say what it is made of is a single part.
      inputs: arrays, or `jax.ShapeDtypeStruct`s, with the batch in front.
    """
    times = dict(_leaves(network))
    rows: dict[str, Row] = {}

    def watched(path: str, part: Network) -> Network:
        if part.parts.children:
            return part

        def apply(params, state, inputs, *, key=None):
            def marked(params, state, inputs):
                return part.apply(params, state, inputs, key=key)

            # As a function of its name it is found in the program, in the loops around it.
            marked.__name__ = _MARK + path
            outputs, after = jax.jit(marked)(params, state, inputs)
            rows[path] = _row(path, part, times[path], params, state, outputs)
            return outputs, after

        return part._replace(apply=apply)

    params, state = jax.eval_shape(network.init, jax.random.key(0), inputs)
    traced = jax.make_jaxpr(rewrite(network, watched).apply, return_shape=True)
    program, (outputs, _) = traced(params, state, inputs)
    products = _products_by_part(program.jaxpr)
    total = Row(
        part="total",
        kind="",
        output=_shapes(outputs),
        parameters=_count(params),
        bytes=_bytes((params, state)),
        multiply_adds=multiply_adds(lambda *a: network.apply(*a)[0], params, state, inputs),
    )
    return Table(
        tuple(row._replace(multiply_adds=products[path]) for path, row in rows.items()), total
    )


def multiply_adds(function: Any, *arguments: Any) -> int:
    """Counts the products in matrix products and convolutions of a function of arrays.

    A loop of known length counts every turn, a `while` loop one, a `cond` all its branches.
    """
    return _products(jax.make_jaxpr(function)(*arguments).jaxpr)


def _products_by_part(jaxpr: Any) -> Counter[str]:
    """Returns the products in the functions that are marked as parts, by path."""
    found: Counter[str] = Counter()
    for equation, times in operations(jaxpr):
        name = str(equation.params.get("name", ""))
        if name.startswith(_MARK):
            found[name.removeprefix(_MARK)] += times * _products(equation.params["jaxpr"].jaxpr)
    return found


def _products(jaxpr: Any) -> int:
    products = 0
    for equation, times in operations(jaxpr):
        params = equation.params
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            each = math.prod(left[axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            # The products of one output: the window times the channels of its group.
            weight, spec = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec
            each = math.prod(weight) // weight[spec[0]]
        else:
            continue
        products += times * each * math.prod(equation.outvars[0].aval.shape)
    return products


def _leaves(network: Network, path: str = "", times: int = 1) -> Iterator[tuple[str, int]]:
    """Yields the path of each part without parts, and how many layers of it there are."""
    if not network.parts.children:
        yield path, times
    for name, child in network.parts.children:
        yield from _leaves(child, f"{path}/{name}".strip("/"), times * network.parts.times)


def _row(path: str, part: Network, times: int, params, state, outputs) -> Row:
    return Row(
        part=path or "network",
        kind=part.parts.kind,
        output=_shapes(outputs),
        parameters=times * _count(params),
        bytes=times * _bytes((params, state)),
        multiply_adds=0,
        times=times,
    )


def _count(tree: Any) -> int:
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def _bytes(tree: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _shapes(outputs: Any) -> Any:
    return jax.tree.map(lambda x: tuple(x.shape), outputs)
