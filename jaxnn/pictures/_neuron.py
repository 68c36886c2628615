"""Draws one node with the numbers of one example: the unit that neural networks consist of.

    neuron(weights, bias, inputs, jnp.tanh).savefig("neuron.png")

The figure has each input and its weight, the sum of their products, the bias, and the activation
that computes the output. If there are many inputs, those with the largest products are drawn, and
one wire stands for the others with their sum, so that the numbers add up:

>>> [(term.name, term.product) for term in terms([1.0, -2.0, 0.5], [3.0, 1.0, 2.0], most=2)]
[('x1', 3.0), ('2 more', -1.0)]
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.checks import kind
from jaxnn.pictures._network import colour_and_width
from jaxnn.pictures.arguments import check_shapes, names_of
from jaxnn.pictures.scheme import COLOURS, FAINT, GRID, INK, LABEL, MARK, PAPER, Figure, number
from jaxnn.pictures.sheet import POINTS, Sheet, fitted, wrapped
from jaxnn.typing import Any, Callable

MOST = 7  # the largest number of wires
NEAR, FAR, HIGH = 28.0, 42.0, 104.0  # points: the range of steps between inputs, the least height
LINE = 10.5
_INPUT, _NODE, _CURVE, _OUTPUT = 42.0, 130.0, 184.0, 234.0  # points: positions from the left
_DOT, _BODY, _PANEL = 13.0, 17.0, 22.0  # radii of inputs and of the node, half of the panel
_HEADS = 45.0  # points, the width of the headings of the sums


class Term(NamedTuple):
    """The contribution of one wire to the sum: the product of an input, or the sum of several."""

    name: str  # of the input, or how many inputs there are
    value: float  # of the input; NaN for the sum of several, as is the weight
    weight: float
    product: float
    is_rest: bool = False


def neuron(
    weights: Any, bias: Any, inputs: Any, activation: Any, names: Sequence[str] | None = None
) -> Figure:
    """Returns a matplotlib `Figure` of one node, with what it computes for one example.

    Args:
      weights: the weights of the node, `[inputs]`: column `j` of the layer's `weight` for node `j`.
      bias: the bias of the node; pass 0 if it has none.
      inputs: the inputs of one example, `[inputs]`.
      activation: a function of an array, such as `jnp.tanh`, or `lambda x: x` for no activation.
      names: the names of the inputs. The default is x1, x2, ...

    Raises:
      InvalidType: if `activation` is not a function.
      InvalidValue: if the weights and inputs are not vectors of the same length, if the bias is not
        a single number, or if the number of names does not match.
    """
    fix = "Pass jax.nn.relu itself, or lambda x: x for none"
    kind("neuron", "activation", activation, Callable, fix=fix)
    weights, inputs = np.asarray(weights, float), np.asarray(inputs, float)
    check_shapes(
        "neuron",
        weights.ndim == 1 and weights.shape == inputs.shape and weights.size and np.size(bias) == 1,
        expected="a weight for each input of one node, [inputs], and a number as its bias",
        fix="Pass weight[:, j] and bias[j] of node j, and one example as its layer sees it",
        weights=weights,
        inputs=inputs,
        bias=bias,
    )
    names_of("neuron", "names", names, len(inputs), "inputs")
    wires = terms(weights, inputs, names=names)
    bias, total = float(np.asarray(bias, float).reshape(())), float((weights * inputs).sum())
    raw = total + bias
    outputs = np.asarray(activation(np.asarray([raw], np.float32)), float)
    check_shapes(
        "neuron",
        outputs.shape == (1,),
        expected="a number for each number that the activation is given",
        fix="Pass a function such as jax.nn.relu",
        outputs=outputs,
    )
    output = float(outputs[0])
    name = getattr(activation, "__name__", "activation").replace("<lambda>", "activation")
    lines = _sums(wires, total, bias, raw, output, name)
    step = float(np.clip(HIGH / len(wires), NEAR, FAR))
    high = max(step * len(wires), HIGH) + 6
    sheet = Sheet(high + 22 + LINE * len(lines))
    scale = max([abs(term.weight) for term in wires if np.isfinite(term.weight)], default=0.0)
    _inputs(sheet, wires, high / 2, step, scale)
    _node(sheet, high / 2, bias, raw, scale)
    _curve(sheet, high / 2, activation, name, raw, output)
    sheet.circles([(_OUTPUT, high / 2)], _DOT, zorder=3)
    _number(sheet, _OUTPUT, high / 2, output, _DOT)
    sheet.text(_OUTPUT, high / 2 + _DOT + 8, "output", INK)
    sheet.line([8, POINTS - 8], [high + 10] * 2, GRID, 0.8)
    for place, (head, line) in enumerate(lines):
        y = high + 20 + LINE * place
        sheet.text(8, y, head, ha="left")
        sheet.text(8 + _HEADS, y, line, INK, ha="left")
    return sheet.figure


def terms(
    weights: Any, inputs: Any, *, most: int = MOST, names: Sequence[str] | None = None
) -> list[Term]:
    """Returns the terms of at most `most` wires; the last one sums up the inputs that remain."""
    weights, inputs = np.asarray(weights, float), np.asarray(inputs, float)
    products = weights * inputs
    own = len(products) if len(products) <= most else most - 1
    # Products that are not finite come first, because they determine the sum.
    size = np.where(np.isfinite(products), np.abs(products), np.inf)
    chosen = np.sort(np.argsort(-size, kind="stable")[:own])
    columns = zip(*(each[chosen].tolist() for each in (inputs, weights, products)))
    labels = [f"x{place + 1}" if names is None else str(names[place]) for place in chosen]
    shown = [Term(label, *numbers) for label, numbers in zip(labels, columns)]
    if own < len(products):
        rest = float(np.delete(products, chosen).sum())
        shown.append(Term(f"{len(products) - own:,} more", np.nan, np.nan, rest, True))
    return shown


def _inputs(sheet: Sheet, wires: list[Term], middle: float, step: float, scale: float) -> None:
    """Draws the inputs on the left, and their wires to the node, labelled with the weights."""
    for place, term in enumerate(wires):
        y = middle + step * (place - (len(wires) - 1) / 2)
        colour, width = (FAINT, 1.0) if term.is_rest else colour_and_width(term.weight, scale)
        sheet.line(
            [_INPUT, _NODE], [y, middle], colour, width, gid=f"wire:{place}", zorder=1,
            linestyle="-" if np.isfinite(term.weight) else (0, (1.5, 1.5)),
        )  # fmt: skip
        if term.is_rest:
            box = {"facecolor": PAPER, "edgecolor": FAINT, "boxstyle": "round", "linewidth": 0.7}
            said = f"{term.name}: sum {figure(term.product)}"
            sheet.text(8, y, said, INK, ha="left", bbox=box, zorder=3, gid="rest")
            continue
        at = 0.44  # the position of the label along the wire: near its input, clear of the others
        x, level = _INPUT + at * (_NODE - _INPUT), y + at * (middle - y)
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0}
        sheet.text(x, level, figure(term.weight), INK, bbox=box, zorder=2)
        sheet.circles([(_INPUT, y)], _DOT, zorder=3, gid=f"input:{place}")
        _number(sheet, _INPUT, y, term.value, _DOT)
        sheet.text(_INPUT - _DOT - 3, y, fitted(term.name, _INPUT - _DOT - 4), ha="right")


def _node(sheet: Sheet, y: float, bias: float, raw: float, scale: float) -> None:
    top = y - _BODY - 17
    sheet.line([_NODE, _NODE], [top, y], *colour_and_width(bias, scale), zorder=1, gid="bias")
    sheet.text(_NODE, top - 6, f"bias {figure(bias)}", INK)
    sheet.circles([(_NODE, y)], _BODY, zorder=3, linewidths=1.0, gid="node")
    _number(sheet, _NODE, y, raw, _BODY, LABEL)
    sheet.text(_NODE, y + _BODY + 8, "sum + bias", INK)


def _curve(sheet: Sheet, y: float, activation: Any, name: str, raw: float, output: float) -> None:
    """Draws the activation with a point at the raw output, and arrows that lead through it."""
    style = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 6, "color": INK}
    for left, right in ((_NODE + _BODY, _CURVE - _PANEL), (_CURVE + _PANEL, _OUTPUT - _DOT)):
        sheet.axes.annotate("", (right, y), (left, y), arrowprops=style)
    sheet.text(_CURVE, y + _PANEL + 8, fitted(name, 2 * _PANEL + 10), INK)
    panel = sheet.inset(_CURVE - _PANEL, y - _PANEL, 2 * _PANEL, 2 * _PANEL)
    reach = max(3.0, 1.25 * abs(raw)) if np.isfinite(raw) else 3.0
    x = np.linspace(-reach, reach, 201, dtype=np.float32)
    panel.set(xlim=(-1.08 * reach, 1.08 * reach), xticks=[], yticks=[])
    panel.margins(y=0.1)
    panel.spines[:].set(color=FAINT, linewidth=0.7)
    panel.axhline(0.0, color=FAINT, linewidth=0.5)
    panel.axvline(0.0, color=FAINT, linewidth=0.5)
    panel.plot(x, np.asarray(activation(x), float), color=COLOURS[0], linewidth=1.3, gid="curve")
    if np.isfinite(raw) and np.isfinite(output):
        corner = [raw, raw, 0.0], [0.0, output, output]
        panel.plot(*corner, color=FAINT, linewidth=0.6, linestyle=(0, (2, 1.5)))
        style = {"color": INK, "markersize": 4.8, "markeredgecolor": PAPER, "markeredgewidth": 0.7}
        panel.plot(raw, output, "o", gid="point", **style)


def _number(sheet: Sheet, x: float, y: float, value: float, radius: float, size: float = 7) -> None:
    """Writes a number inside a circle."""
    text = fitted(figure(value), 2 * radius - 1, size)
    sheet.text(x, y, text, INK if np.isfinite(value) else MARK, zorder=5, fontsize=size)


def _rounded(value: float) -> float:
    return float(f"{value:.{2 if abs(value) < 1 else 3}g}") + 0.0


def figure(value: float) -> str:
    """Returns a number with three significant digits, or two if it is smaller than 1.

    >>> figure(-0.8154), figure(12.345), figure(1.0)
    ('−0.82', '12.3', '1')
    """
    return number(_rounded(value))


def _sums(
    wires: list[Term], total: float, bias: float, raw: float, output: float, name: str
) -> list[tuple[str, str]]:
    """Returns the sums as rows `(heading, line)`; the first sum may take several rows."""
    pieces, shown = [], 0.0
    for term in wires:
        first, value = (term.product, 1.0) if term.is_rest else (term.weight, term.value)
        times = f"× ({figure(value)})" if value < 0 else f"× {figure(value)}"
        piece = f"{figure(abs(first))} {f'({term.name})' if term.is_rest else times}"
        plus = "+ " if pieces else ""
        minus = "− " if pieces else "−"
        piece = (minus if first < 0 else plus) + piece
        pieces.append(piece.replace(" ", "\N{NO-BREAK SPACE}"))
        shown += _rounded(first) * _rounded(value)
    pieces.append(f"{_equals(shown, total)}\N{NO-BREAK SPACE}{figure(total)}")
    room = 0.94 * (POINTS - 16 - _HEADS)  # pixels make some letters wider
    first, *others = wrapped(" ".join(pieces), room)
    added = f"{figure(total)} {'−' if bias < 0 else '+'} {figure(abs(bias))}"
    added += f" {_equals(_rounded(total) + _rounded(bias), raw)} {figure(raw)}"
    exact = "≈" if abs(_rounded(output) - output) > 1e-6 else "="
    return [
        ("sum", first),
        *(("", line) for line in others),
        ("sum + bias", added),
        ("output", f"{name}({figure(raw)}) {exact} {figure(output)}"),
    ]


def _equals(shown: float, value: float) -> str:
    """Returns "=" or "≈", depending on whether the rounded terms add up to the rounded sum."""
    return "=" if figure(round(shown, 9)) == figure(value) else "≈"
