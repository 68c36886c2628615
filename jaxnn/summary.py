"""Summary tables of networks: the output, parameters, memory and FLOPs of each part.

>>> import jax, jax.numpy as jnp
>>> from jaxnn.models import mlp
>>> print(table(mlp([32], 10), jax.ShapeDtypeStruct((1, 8, 8), jnp.float32)))
part          kind        output   parameters   memory  activations   FLOPs
flatten       flatten     (1, 64)           0      0 B        256 B       0
hidden_1      linear      (1, 32)       2,080  8.32 kB        128 B  4.10 k
activation_1  activation  (1, 32)           0      0 B        128 B       0
output        linear      (1, 10)         330  1.32 kB         40 B     640
total                     (1, 10)       2,410  9.64 kB        552 B  4.74 k

FLOPs count matrix products and convolutions, with two FLOPs (a multiplication and an addition) for
each product of two numbers. Biases, activations, normalization and softmax are small in comparison
and are not counted. Neither are gradients, which take about twice as many FLOPs again.
"""

import json
import math
import os
from dataclasses import dataclass
from typing import NamedTuple

import jax

from jaxnn import display
from jaxnn.calls import intercept
from jaxnn.formatting import aligned, amount
from jaxnn.network import Network
from jaxnn.programs import operations, products
from jaxnn.typing import Any

_MARK = "part of a network "
_HEADS = ("part", "kind", "output", "parameters", "memory", "activations", "FLOPs")


class Row(NamedTuple):
    """One part of a network.

    Attributes:
      part: the path of the part, such as `"block/hidden_1"`.
      kind: the kind of the part, such as `"linear"`.
      output: the shape of its output, or a pytree of shapes. Inside a loop it is the output of one
        iteration: of one layer of `repeat`, or one time step of `gru` and `lstm`.
      parameters: the number of its parameters, including frozen ones, in all layers.
      bytes: the memory of its parameters and state, in bytes.
      activation_bytes: the memory of its outputs in all iterations, in bytes. Training stores them
        for the backward pass, unless the compiler needs fewer.
      flops: the FLOPs of its matrix products and convolutions, in all iterations.
      times: the number of layers with this structure: 1 except inside `repeat`.
    """

    part: str
    kind: str
    output: Any
    parameters: int
    bytes: int
    activation_bytes: int
    flops: int
    times: int = 1


@dataclass(frozen=True)
class Table:
    """A summary of a network: a row for each part, in the order of computation, and the total.

    The total covers the whole network: its trainable parameters, the memory of its parameters and
    state, the outputs of all parts, and all FLOPs, including those outside of parts. Parameters
    that parts share count in the first of their rows only.

    Attributes:
      rows: one `Row` per part.
      total: the `Row` of the whole network.
    """

    rows: tuple[Row, ...]
    total: Row

    def __str__(self) -> str:
        return aligned([_HEADS, *self._cells()], "<<<>>>>")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return display.block(display.columns(_HEADS, self._cells(), left=3))

    def _cells(self) -> list[tuple[str, ...]]:
        """Returns the cells as text; names shared with the row above become indentation."""
        lines, above = [], []
        for row in (*self.rows, self.total):
            names = row.part.split("/")
            shared = len(os.path.commonprefix([names[:-1], above]))
            above = names[:-1]
            part = "  " * shared + "/".join(names[shared:])
            lines.append(
                (
                    part if row.times == 1 else f"{part} x{row.times}",
                    row.kind,
                    str(row.output),
                    f"{row.parameters:,}",
                    amount(row.bytes, "B"),
                    amount(row.activation_bytes, "B"),
                    amount(row.flops),
                )
            )
        return lines

    def as_json(self) -> dict[str, Any]:
        """Returns a JSON-serializable dict `{"rows": [...], "total": {...}}` of `Row` fields.

        Shapes become lists.
        """
        figures = {"rows": [row._asdict() for row in self.rows], "total": self.total._asdict()}
        return json.loads(json.dumps(figures, default=str))


def table(network: Network, inputs: Any) -> Table:
    """Returns a summary table of a network, without computing anything.

    Args:
      network: the network; a custom network without submodules is a single part.
      inputs: a batch of inputs, as arrays or `jax.ShapeDtypeStruct`s, `[batch, ...]`.
    """
    params, state = jax.eval_shape(network.init, jax.random.key(0), inputs)
    return table_of(network, params, state, inputs)


def table_of(network: Network, params: Any, state: Any, inputs: Any) -> Table:
    """Returns the `table` of a network with these parameters and state, as arrays or shapes."""
    open_calls: list[_Call] = []
    all_calls: list[_Call] = []
    counted: dict[int, Any] = {}  # the parameters in a row above, by their identity

    def record(path: str, part: Network) -> Network:
        def apply(params, state, inputs, *, key=None):
            def marked(params, state, inputs):
                return part.apply(params, state, inputs, key=key)

            for outer in open_calls:
                outer.is_layer = False
            call = _Call(math.prod(outer.turns for outer in open_calls), part.parts.times)
            # The name of the jitted function identifies this call in the traced program.
            marked.__name__ = f"{_MARK}{len(all_calls)}"
            all_calls.append(call)
            open_calls.append(call)
            try:
                outputs, after = jax.jit(marked)(params, state, inputs)
            finally:
                open_calls.pop()
            name, kind = path or "network", part.parts.kind
            own = [x for x in jax.tree.leaves(params) if id(x) not in counted]
            if call.is_layer:
                counted.update((id(x), x) for x in own)
            call.row = _row(name, kind, own, state, outputs, call.times)
            return outputs, after

        return part._replace(apply=apply)

    traced = jax.make_jaxpr(intercept(network, record).apply, return_shape=True)
    program, (outputs, _) = traced(params, state, inputs)
    parts: dict[str, Row] = {}
    for equation, times in operations(program.jaxpr):
        name = str(equation.params.get("name", ""))
        call = all_calls[int(name.removeprefix(_MARK))] if name.startswith(_MARK) else None
        if call and call.is_layer and call.row:
            row = parts.get(call.row.part, call.row._replace(activation_bytes=0))
            parts[row.part] = row._replace(
                activation_bytes=row.activation_bytes + times * call.row.activation_bytes,
                flops=row.flops + 2 * times * products(equation.params["jaxpr"].jaxpr),
            )
    total = _row("total", "", params, state, outputs)
    activation_bytes = sum(row.activation_bytes for row in parts.values())
    total = total._replace(activation_bytes=activation_bytes, flops=2 * products(program.jaxpr))
    return Table(tuple(parts.values()), total)


def flops(function: Any, *arguments: Any) -> int:
    """Returns the FLOPs of the matrix products and convolutions in a function of arrays.

    Each product of two numbers counts as two FLOPs. A `scan` counts every iteration, a `while` loop
    one, a `cond` all its branches, and `lax.platform_dependent` the first of its alternatives.

    >>> import jax.numpy as jnp
    >>> flops(jnp.dot, jnp.ones((2, 3)), jnp.ones((3, 4)))
    48
    """
    return 2 * products(jax.make_jaxpr(function)(*arguments).jaxpr)


@dataclass
class _Call:
    """A call of a part."""

    times: int  # the number of layers of this part
    turns: int  # how often it calls each of its parts
    is_layer: bool = True  # whether it calls no other part
    row: Row | None = None


def _row(part: str, kind: str, params, state, outputs, times: int = 1) -> Row:
    return Row(
        part=part,
        kind=kind,
        output=jax.tree.map(lambda x: tuple(x.shape), outputs),
        parameters=times * sum(x.size for x in jax.tree.leaves(params)),
        bytes=times * _bytes((params, state)),
        activation_bytes=_bytes(outputs),
        flops=0,
        times=times,
    )


def _bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
