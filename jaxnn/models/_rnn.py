"""A recurrent network: GRU or LSTM layers followed by an output layer.

>>> rnn([64], 1)
rnn(hidden=(64,), outputs=1, cell=gru)
  gru_1: gru(features=64)
    input: linear(features=192)
    hidden: linear(features=192)
  last: over_time(how=last)
  output: linear(features=1)
"""

from collections.abc import Sequence

from jaxnn.checks import InvalidValue, choice, kind
from jaxnn.layers import dropout as dropout_layer
from jaxnn.layers import gru, linear, lstm, over_time
from jaxnn.layers._dropout import is_zero
from jaxnn.network import Network, describe, serial
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
    """Returns a recurrent network: `[batch, time, n] -> [batch, outputs]`.

    Args:
      hidden: the number of units of each recurrent layer.
      outputs: the number of output nodes: classes, or numbers to predict.
      cell: the kind of recurrent layer, `"gru"` or `"lstm"`.
      every_step: whether to return outputs for every time step, `[batch, time, outputs]`, instead
        of for the last one.
      dropout: the dropout rate of the outputs of every recurrent layer; may be traced.

    Raises:
      InvalidType: if `hidden` is not a sequence.
      InvalidValue: if `hidden` is empty, a number of nodes is not positive, `cell` is unknown, or
        `dropout` is outside [0, 1).
    """
    choice("rnn", "cell", cell, _CELLS)
    kind("rnn", "hidden", hidden, Sequence, fix=f"Pass the units of each layer: [{hidden}]")
    if not hidden:
        raise InvalidValue(
            "rnn",
            "the network has no recurrent layers",
            got=f"hidden={hidden!r}",
            expected="the number of units of each recurrent layer",
            fix="Pass, say, hidden=[64], or use mlp",
        )
    parts: list[tuple[str, Network]] = []
    for number, features in enumerate(hidden, start=1):
        parts.append((f"{cell}_{number}", _CELLS[cell](features)))
        if not is_zero(dropout):
            parts.append((f"dropout_{number}", dropout_layer(dropout)))
    if not every_step:
        parts.append(("last", over_time("last")))
    parts.append(("output", linear(outputs)))
    return describe(serial(*parts), "rnn", hidden=tuple(hidden), outputs=outputs, cell=cell)
