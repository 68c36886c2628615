"""The picture of one node with the numbers of one example: all that a neural network consists of.

    neuron(weights, bias, inputs, jnp.tanh).savefig("neuron.png")

Each input times its weight, their sum, the bias, and the activation, which makes the output of
both. Of many inputs those are drawn whose products are largest, and the rest is one wire with its
sum, so that the numbers add up:

>>> [(term.name, term.product) for term in terms([1.0, -2.0, 0.5], [3.0, 1.0, 2.0], most=2)]
[('x1', 3.0), ('2 more', -1.0)]
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.pictures._network import colour_and_width
from jaxnn.pictures.scheme import COLOURS, FAINT, GRID, INK, LABEL, MARK, PAPER, number
from jaxnn.pictures.sheet import POINTS, Sheet, fitted, width_of, wrapped
from jaxnn.typing import Any, Callable

MOST = 7  # wires
NEAR, FAR, HIGH = 28.0, 42.0, 104.0  # points: from input to input, and at least for all of them
LINE = 10.5
SPACE = "\N{NO-BREAK SPACE}"
_INPUT, _NODE, _CURVE, _OUTPUT = 42.0, 130.0, 184.0, 234.0  # where things are, from the left
_DOT, _BODY, _PANEL = 13.0, 17.0, 22.0  # radii of inputs and of the node, half of the panel


class Term(NamedTuple):
    """What one wire brings to the sum.

    Attributes:
      name: of the input, or how many inputs are in this one wire.
      value: of the input; NaN of several.
      weight: of the wire; NaN of several.
      product: of the two, or the sum of several products.
    """

    name: str
    value: float
    weight: float
    product: float


def neuron(
    weights: Any,
    bias: Any,
    inputs: Any,
    activation: Any,
    names: Sequence[str] | None = None,
) -> Any:
    """Returns a matplotlib `Figure` of one node, with what it computes of one example.

    Args:
      weights: of the node, `[inputs]`: column `j` of the layer's `weight` for node `j`.
      bias: of the node; 0 if it has none.
      inputs: of one example, `[inputs]`.
      activation: a function of one array, such as `jnp.tanh`; `lambda x: x` for none.
      names: of the inputs; by default x1, x2, ...

    Raises:
      InvalidType: if the activation is no function.
      InvalidValue: if weights and inputs are not two vectors of one length, the bias is not one
        number, or there is another number of names.
    """
    weights, inputs = _vector("weights", weights), _vector("inputs", inputs)
    bias = _checked(weights, bias, inputs, activation, names)
    wires = terms(weights, inputs, names=names)
    total = float((weights * inputs).sum())
    raw = total + bias
    output = _at(activation, raw)
    name = getattr(activation, "__name__", "activation").replace("<lambda>", "activation")
    lines = _sums(wires, total, bias, raw, output, name)
    step = float(np.clip(HIGH / len(wires), NEAR, FAR))
    high = max(step * len(wires), HIGH) + 6
    sheet = Sheet(high + 22 + LINE * len(lines))
    scale = max([abs(term.weight) for term in wires if np.isfinite(term.weight)], default=0.0)
    _inputs(sheet, wires, high / 2, step, scale)
    _node(sheet, high / 2, bias, raw, scale)
    _curve(sheet, high / 2, activation, name, raw, output)
    sheet.circle(_OUTPUT, high / 2, _DOT, zorder=3)
    _figure_in(sheet, _OUTPUT, high / 2, output, 2 * _DOT)
    sheet.text(_OUTPUT, high / 2 + _DOT + 8, "output", INK)
    sheet.line([8, POINTS - 8], [high + 10] * 2, GRID, 0.8)
    for place, (head, line) in enumerate(lines):
        y = high + 20 + LINE * place
        sheet.text(8, y, head, FAINT, ha="left")
        sheet.text(8 + width_of("sum + bias  "), y, line, INK, ha="left")
    return sheet.figure


def terms(
    weights: Any, inputs: Any, *, most: int = MOST, names: Sequence[str] | None = None
) -> list[Term]:
    """Returns what each wire brings to the sum, and as the last one what all others bring.

    Args:
      weights: of the node, one for each input.
      inputs: of one example.
      most: the number of wires.
      names: of the inputs; by default x1, x2, ...
    """
    weights, inputs = np.asarray(weights, float), np.asarray(inputs, float)
    products = weights * inputs
    own = len(products) if len(products) <= most else most - 1
    # What is not finite comes first: it decides the sum.
    size = np.where(np.isfinite(products), np.abs(products), np.inf)
    chosen = np.sort(np.argsort(-size, kind="stable")[:own])
    shown_terms = [
        Term(
            str(names[place]) if names is not None else f"x{place + 1}",
            float(inputs[place]), float(weights[place]), float(products[place]),
        )
        for place in chosen
    ]  # fmt: skip
    if own < len(products):
        rest = float(np.delete(products, chosen).sum())
        shown_terms.append(Term(f"{len(products) - own:,} more", np.nan, np.nan, rest))
    return shown_terms


def _inputs(sheet: Sheet, wires: list[Term], middle: float, step: float, scale: float) -> None:
    """Draws inputs on the left, and their wires to the node with the weights on them."""
    for place, term in enumerate(wires):
        y = middle + step * (place - (len(wires) - 1) / 2)
        several = term.name.endswith(" more") and np.isnan(term.value) and np.isnan(term.weight)
        colour, width = (FAINT, 1.0) if several else colour_and_width(term.weight, scale)
        dotted = several or not np.isfinite(term.weight)
        sheet.line(
            [_INPUT, _NODE], [y, middle], colour, width, gid=f"wire:{place}", zorder=1,
            linestyle=(0, (1.5, 1.5)) if dotted else "-",
        )  # fmt: skip
        box = {"facecolor": PAPER, "edgecolor": FAINT, "boxstyle": "round", "linewidth": 0.7}
        if several:
            said = f"{term.name}: sum {figure(term.product)}"
            sheet.text(8, y, said, INK, ha="left", bbox=box, zorder=3, gid="rest")
        else:
            at = 0.44  # of the way: where they are apart, and near their inputs
            x, level = _INPUT + at * (_NODE - _INPUT), y + at * (middle - y)
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0}
            sheet.text(x, level, figure(term.weight), INK, bbox=box, zorder=2)
            sheet.circle(_INPUT, y, _DOT, zorder=3, gid=f"input:{place}")
            _figure_in(sheet, _INPUT, y, term.value, 2 * _DOT)
            sheet.text(_INPUT - _DOT - 3, y, fitted(term.name, _INPUT - _DOT - 4), ha="right")


def _node(sheet: Sheet, y: float, bias: float, raw: float, scale: float) -> None:
    top = y - _BODY - 17
    colour, width = colour_and_width(bias, scale)
    sheet.line([_NODE, _NODE], [top, y], colour, width, zorder=1, gid="bias")
    sheet.text(_NODE, top - 6, f"bias {figure(bias)}", INK)
    sheet.circle(_NODE, y, _BODY, zorder=3, linewidth=1.0, gid="node")
    _figure_in(sheet, _NODE, y, raw, 2 * _BODY, LABEL)
    sheet.text(_NODE, y + _BODY + 8, "sum + bias", INK)


def _curve(sheet: Sheet, y: float, activation: Any, name: str, raw: float, output: float) -> None:
    """Draws the activation with the point on it, and arrows that lead through it."""
    _arrow(sheet, _NODE + _BODY, _CURVE - _PANEL, y)
    _arrow(sheet, _CURVE + _PANEL, _OUTPUT - _DOT, y)
    sheet.box(
        _CURVE - _PANEL, y - _PANEL, 2 * _PANEL, 2 * _PANEL,
        facecolor=PAPER, edgecolor=FAINT, zorder=2,
    )  # fmt: skip
    sheet.text(_CURVE, y + _PANEL + 8, fitted(name, 2 * _PANEL + 10), INK)
    reach = max(3.0, 1.25 * abs(raw)) if np.isfinite(raw) else 3.0
    x = np.linspace(-reach, reach, 201, dtype=np.float32)
    curve = np.asarray(activation(x), float)
    known = curve[np.isfinite(curve)]
    if not known.size:
        return
    low, high = min(known.min(), 0.0), max(known.max(), 0.0)
    margin = 0.1 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def across(value):
        return _CURVE + 0.92 * _PANEL * value / reach

    def up(value):
        return y + _PANEL - 2 * _PANEL * (value - low) / (high - low)

    sheet.line([across(-reach), across(reach)], [up(0.0)] * 2, FAINT, 0.5, zorder=3)
    sheet.line([across(0.0)] * 2, [y - _PANEL + 2, y + _PANEL - 2], FAINT, 0.5, zorder=3)
    sheet.line(across(x), up(curve), COLOURS[0], 1.3, zorder=4, gid="curve")
    if np.isfinite(raw) and np.isfinite(output):
        corner = [across(raw), across(raw), across(0.0)], [up(0.0), up(output), up(output)]
        sheet.line(*corner, FAINT, 0.6, linestyle=(0, (2, 1.5)), zorder=4)
        sheet.circle(across(raw), up(output), 2.4, INK, PAPER, zorder=5, gid="point")


def _arrow(sheet: Sheet, left: float, right: float, y: float) -> None:
    sheet.line([left, right - 3], [y, y], INK, 0.9, zorder=1)
    sheet.axes.fill([right - 4, right - 4, right], [y - 2.2, y + 2.2, y], INK, linewidth=0)


def _figure_in(sheet: Sheet, x: float, y: float, value: float, room: float, size=7) -> None:
    colour = INK if np.isfinite(value) else MARK
    sheet.text(x, y, fitted(figure(value), room - 1, size), colour, zorder=5, fontsize=size)


def figure(value: float) -> str:
    """Returns a number in few digits: three, or two of one that is smaller than 1.

    >>> figure(-0.8154), figure(12.345), figure(1.0)
    ('−0.82', '12.3', '1')
    """
    if not np.isfinite(value):
        return str(value)
    return number(float(f"{value:.{2 if abs(value) < 1 else 3}g}") + 0.0).replace("-", "−")


def _sums(wires, total: float, bias: float, raw: float, output: float, name: str):
    """Returns the sums in figures: `(what it is, the line)`; the first one may take several."""
    said, shown = "", 0.0
    for term in wires:
        several = np.isnan(term.value) and np.isnan(term.weight)
        first = term.product if several else term.weight
        sign = "−" if first < 0 else "+"
        size, value = figure(abs(first)), figure(term.value)
        value = f"({value})" if value.startswith("−") else value
        words = (
            f"{size}{SPACE}({term.name.replace(' ', SPACE)})" if several else f"{size} × {value}"
        )
        words = words.replace(" × ", SPACE + "×" + SPACE)
        said += f" {sign}{SPACE}{words}" if said else f"{'−' if first < 0 else ''}{words}"
        product = _read(figure(abs(first))) * (1 if several else _read(figure(term.value)))
        shown += -product if first < 0 else product
    room = POINTS - 16 - width_of("sum + bias  ")
    lines = wrapped(f"{said} {_equals(shown, total)}{SPACE}{figure(total)}", room)
    sign = "−" if bias < 0 else "+"
    exact = "≈" if abs(_read(figure(output)) - output) > 1e-6 else "="
    added = _read(figure(total)) + _read(figure(bias))
    return [
        *zip(["sum", *[""] * (len(lines) - 1)], lines),
        (
            "sum + bias",
            f"{figure(total)} {sign} {figure(abs(bias))} {_equals(added, raw)} {figure(raw)}",
        ),
        ("output", f"{name}({figure(raw)}) {exact} {figure(output)}"),
    ]


def _equals(shown: float, value: float) -> str:
    """Returns the sign between what is shown and its sum, which rounding may keep apart."""
    return "=" if figure(round(shown, 9)) == figure(value) else "≈"


def _read(text: str) -> float:
    return float(text.replace("−", "-").replace(",", "")) if "×" not in text else np.nan


def _at(activation: Callable[[Any], Any], raw: float) -> float:
    array = np.asarray(activation(np.asarray([raw], np.float32)), float)
    if array.shape != (1,):
        raise InvalidValue(
            "neuron",
            "the activation does not give a number for each number",
            got=f"shape {array.shape} for shape (1,)",
            expected="an array of the same shape",
            fix="Pass a function such as jax.nn.relu",
        )
    return float(array[0])


def _vector(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values, float)
    if array.ndim != 1 or not array.size:
        raise InvalidValue(
            "neuron",
            f"{name} are not those of one node",
            got=f"{name} of shape {array.shape}",
            expected="a vector, one number for each input",
            fix="Pass column j of the weights, weight[:, j], and one example, inputs[0].ravel()",
        )
    return array


def _checked(weights, bias: Any, inputs, activation: Any, names: Any) -> float:
    if not callable(activation):
        raise InvalidType(
            "neuron",
            "the activation is no function",
            got=repr(activation),
            expected="a function of one array",
            fix="Pass jax.nn.relu itself, or lambda x: x for none",
        )
    if len(weights) != len(inputs) or (names is not None and len(names) != len(weights)):
        given = "" if names is None else f" and {len(names)} names"
        raise InvalidValue(
            "neuron",
            "each input has one weight",
            got=f"{len(weights)} weights for {len(inputs)} inputs{given}",
            expected="as many of each",
            fix="Pass what comes into the layer: for the first one, the example as the network"
            " sees it",
        )
    if np.size(bias) != 1:
        raise InvalidValue(
            "neuron",
            "a node has one bias",
            got=f"a bias of shape {np.shape(bias)}",
            expected="a number",
            fix="Pass that of the node, such as params['hidden_1']['bias'][0]",
        )
    return float(np.asarray(bias, float).reshape(()))
