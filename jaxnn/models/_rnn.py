"""The recurrent network: layers that carry a state along time, then an output layer.

>>> rnn([64], 1)
rnn(hidden=(64,), outputs=1, cell=gru)
  gru_1: gru(features=64)
    input: linear(features=192)
    hidden: linear(features=192)
  last: last()
  output: linear(features=1)
"""

from collections.abc import Sequence

from jaxnn.checks import InvalidValue, choice, kind
from jaxnn.layers import dropout as dropout_layer
from jaxnn.layers import gru, linear, lstm
from jaxnn.layers._dropout import is_zero
from jaxnn.network import Network, describe, serial, stateless
from jaxnn.typing import Number

_CELLS = {"gru": gru, "lstm": lstm}


def rnn(
    hidden: Sequence[int],
    outputs: int,
    *,
    cell: str = "gru",
    every_step: bool = False,
    dropout: Number = 0.0,
) -> Network:
    """Makes recurrent layers and an output layer: `[batch, time, n] -> [batch, outputs]`.

    Args:
      hidden: the number of units of each recurrent layer.
      outputs: the number of output nodes: classes, or numbers to predict.
      cell: what the units are, `"gru"` or `"lstm"`.
      every_step: whether there are outputs at every time step, `[batch, time, outputs]`, in the
        place of those at the last one.
      dropout: the rate of dropout after every recurrent layer, not inside of it; may be traced.

    Raises:
      InvalidType: if `hidden` is no sequence.
      InvalidValue: if there are no recurrent layers, a number of nodes is not positive, `cell` is
        unknown, or a rate is outside [0, 1).
    """
    choice("rnn", "cell", cell, _CELLS)
    kind("rnn", "hidden", hidden, Sequence, fix=f"Pass the units of each layer: [{hidden}]")
    if not hidden:
        raise InvalidValue(
            "rnn",
            "it has no recurrent layers, and so no memory",
            got=f"hidden={hidden!r}",
            expected="the number of units of each recurrent layer",
            fix="Pass, say, hidden=[64], or take an mlp",
        )
    parts: list[tuple[str, Network]] = []
    for number, features in enumerate(hidden, start=1):
        parts.append((f"{cell}_{number}", _CELLS[cell](features)))
        if not is_zero(dropout):
            parts.append((f"dropout_{number}", dropout_layer(dropout)))
    if not every_step:
        parts.append(("last", describe(stateless(lambda params, x: x[:, -1]), "last")))
    parts.append(("output", linear(outputs)))
    return describe(serial(*parts), "rnn", hidden=tuple(hidden), outputs=outputs, cell=cell)
