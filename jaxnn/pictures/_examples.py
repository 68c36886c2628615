"""Draws examples with their predictions: the best, the worst, or the most uncertain ones.

    logits = run.predict(test["inputs"])
    examples(test["inputs"], test["labels"], logits, "worst").savefig("worst.png")

The text below each example has its true class, the predicted class, and the probability of the
predicted class. Wrong predictions are marked with a cross, the word "wrong", and a frame.

>>> import numpy as np
>>> chosen(np.array([[4.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), np.array([0, 0, 0]), "worst").tolist()
[2, 1, 0]
"""

from collections.abc import Sequence

import numpy as np

from jaxnn.checks import choice, positive_integer
from jaxnn.pictures.arguments import check_shapes, classes_of, log_softmax, logits_of, names_of
from jaxnn.pictures.scheme import FAINT, INK, MARK, SIGNED, Figure
from jaxnn.pictures.sheet import POINTS, Sheet, fitted
from jaxnn.typing import Any

MOST, COLUMNS, BARS = 64, 4, 256  # the most examples, examples in a row, and bars of an example
EDGE, GAP, LINE, SIDE = 8.0, 10.0, 9.6, 52.0  # points
Ends = tuple[float, float]  # the least and the largest input
Frame = tuple[float, float, float, float]  # left, top, width and height in points
KINDS = {
    "worst": "with the highest loss",
    "best": "with the lowest loss",
    "uncertain": "whose probabilities are most even",
}


def examples(
    inputs: Any,
    labels: Any,
    outputs: Any,
    kind: str = "worst",
    count: int = 8,
    names: Sequence[str] | None = None,
) -> Figure:
    """Returns a matplotlib `Figure` of examples with their true class, prediction and probability.

    Args:
      inputs: images `[examples, height, width]` in grey or `[examples, height, width, 1 or 3]`, or
        numbers `[examples, features]`, which are drawn as bars.
      labels: the true classes, `[examples]`.
      outputs: logits, `[examples, classes]`, or the logits of class 1, `[examples, 1]` or
        `[examples]`.
      kind: `"worst"` for the highest loss, `"best"` for the lowest loss, or `"uncertain"` for the
        highest entropy.
      count: the number of examples to draw, at most 64. If there are fewer, all are drawn.
      names: the names of the classes.

    Raises:
      InvalidType: if the labels are not integers.
      InvalidValue: if `inputs`, `labels` and `outputs` differ in length, if the inputs have the
        wrong shape, if `kind` is unknown, or if labels or names do not match the classes.
    """
    choice("examples", "kind", kind, KINDS)
    positive_integer("examples", "count", count, at_most=MOST)
    inputs, labels, logits = np.asarray(inputs), np.asarray(labels), logits_of(outputs)
    is_image = inputs.ndim == 3 or (inputs.ndim == 4 and inputs.shape[3] in (1, 3))
    check_shapes(
        "examples",
        inputs.size and (is_image or (inputs.ndim == 2 and inputs.shape[1] <= BARS)),
        expected="[examples, height, width], with 1 or 3 channels, or [examples, features] of at"
        f" most {BARS}",
        fix="Reshape them to images: inputs.reshape(-1, 28, 28)",
        inputs=inputs,
    )
    check_shapes(
        "examples",
        labels.shape == (len(inputs),) and logits.ndim == 2 and len(logits) == len(inputs),
        expected="[examples, ...], [examples] and [examples, classes], at least one",
        fix="Pass outputs = run.predict(inputs)",
        inputs=inputs,
        labels=labels,
        outputs=logits,
    )
    labels = classes_of("examples", "labels", labels, logits.shape[1])
    said = names_of("examples", "names", names, logits.shape[1])
    places = chosen(logits, labels, kind)[:count]
    probabilities = np.exp(log_softmax(logits[places]))
    known = inputs[np.isfinite(inputs)]
    ends = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    columns = min(COLUMNS, len(places))
    wide = (POINTS - 2 * EDGE - GAP * (columns - 1)) / columns
    side = min(wide, SIDE)
    high = side * (np.clip(inputs.shape[1] / inputs.shape[2], 0.4, 2.0) if is_image else 0.7)
    step = high + 3 * LINE + 8
    end = EDGE + step * -(-len(places) // columns)
    lost = not np.isfinite(probabilities).all()
    sheet = Sheet(end + 12 + LINE * lost)
    for number, (place, chances) in enumerate(zip(places, probabilities)):
        x, y = EDGE + number % columns * (wide + GAP), EDGE + number // columns * step
        draw = _image if is_image else _bars
        draw(sheet, inputs[place], ends, (x, y, side, high), f"example:{number}")
        is_right = _say(sheet, x, y + high + 7, wide, said, int(labels[place]), chances)
        if not is_right:
            frame = x - 1.5, y - 1.5, side + 3, high + 3
            sheet.box(*frame, facecolor="none", edgecolor=MARK, linewidth=1.4, zorder=4)
    many = "The example" if len(places) == 1 else f"The {len(places)} examples"
    sheet.text(EDGE, end + 3, f"{many} of {len(labels):,} {KINDS[kind]}.", ha="left")
    if lost:
        lacking = "Where logits are not finite, there is no prediction."
        sheet.text(EDGE, end + 3 + LINE, lacking, MARK, ha="left")
    return sheet.figure


def chosen(logits: np.ndarray, labels: np.ndarray, kind: str) -> np.ndarray:
    """Returns the indices of all examples, in the order in which they are selected.

    An example with logits that are not finite ranks as worse and more uncertain than any other.
    """
    logs = log_softmax(logits)
    if kind == "uncertain":
        score = -(np.exp(logs) * np.where(np.isneginf(logs), 0.0, logs)).sum(1)
    else:
        score = -logs[np.arange(len(labels)), labels]
    score = np.where(np.isnan(score), np.inf, score)
    return np.argsort(score if kind == "best" else -score, kind="stable")


def _image(sheet: Sheet, example: np.ndarray, ends: Ends, frame: Frame, gid: str) -> None:
    low, largest = ends
    pixels = np.nan_to_num(example.astype(float)).squeeze(2 if example.shape[2:] == (1,) else ())
    pixels = np.clip((pixels - low) / ((largest - low) or 1.0), 0, 1)
    sheet.image(*frame, pixels=pixels, cmap="gray", vmin=0, vmax=1, gid=gid, zorder=2)


def _bars(sheet: Sheet, example: np.ndarray, ends: Ends, frame: Frame, gid: str) -> None:
    left, top, side, high = frame
    low, largest = min(ends[0], 0.0), max(ends[1], 0.0)
    unit, each = high / ((largest - low) or 1.0), side / len(example)
    zero, values = top + unit * largest, np.nan_to_num(example.astype(float))
    places, colours = np.arange(len(values)) + 0.5, np.where(values > 0, SIGNED[2], SIGNED[0])
    heights = -unit * values
    sheet.axes.bar(left + each * places, heights, 0.75 * each, zero, color=colours, zorder=2)
    sheet.line([left, left + side], [zero, zero], FAINT, 0.5, gid=gid, zorder=3)


def _say(
    sheet: Sheet,
    x: float,
    y: float,
    wide: float,
    names: Sequence[str],
    label: int,
    probabilities: np.ndarray,
) -> bool:
    """Writes the true and the predicted class of an example; returns whether they are equal."""
    known = np.isfinite(probabilities).all()
    predicted = probabilities.argmax() if known else -1
    is_right = bool(predicted == label)
    what = f"{'✓ right' if is_right else '✗ wrong'}: {names[predicted] if known else 'nothing'}"
    sheet.text(x, y, fitted(f"is {names[label]}", wide), INK, ha="left")
    sheet.text(x, y + LINE, fitted(what, wide), INK if is_right else MARK, ha="left")
    if known:
        sheet.text(x, y + 2 * LINE, f"at {100 * probabilities[predicted]:.3g} %", ha="left")
    return is_right
