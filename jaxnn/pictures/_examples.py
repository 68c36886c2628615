"""Examples with their predictions: a network's best, its worst, or those that it doubts most.

    logits = run.predict(test["inputs"])
    examples(test["inputs"], test["labels"], logits, "worst").savefig("worst.png")

Under each is the truth, what was predicted, and the probability that this got. What is wrong has a
cross and the word, and a frame.

>>> import numpy as np
>>> chosen(np.array([[4.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), np.array([0, 0, 0]), "worst").tolist()
[2, 1, 0]
"""

from collections.abc import Sequence

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, choice, positive_integer
from jaxnn.pictures.classes import check_classes
from jaxnn.pictures.scheme import COLOURS, FAINT, INK, MARK
from jaxnn.pictures.sheet import POINTS, Sheet, fitted
from jaxnn.typing import Any

MOST, COLUMNS, BARS = 64, 4, 256  # examples, those side by side, and numbers of one
EDGE, GAP, LINE, SIDE = 8.0, 10.0, 9.6, 52.0  # points
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
) -> Any:
    """Returns a matplotlib `Figure` of examples with truth, prediction and probability.

    Args:
      inputs: images `[examples, height, width]`, grey, or `[examples, height, width, 1 or 3]`; or
        numbers `[examples, features]`, drawn as bars.
      labels: the true classes, `[examples]`.
      outputs: logits, `[examples, classes]`; or one for each example, `[examples, 1]` or
        `[examples]`, which is that of class 1.
      kind: `"worst"`, with the highest loss, `"best"`, with the lowest, or `"uncertain"`, with the
        most entropy.
      count: how many are drawn, at most 64; fewer if there are fewer.
      names: of the classes.

    Raises:
      InvalidType: if labels are no whole numbers.
      InvalidValue: if the three are not of as many examples, the inputs are neither images nor
        numbers, `kind` is unknown, or labels or names do not fit the classes.
    """
    choice("examples", "kind", kind, KINDS)
    positive_integer("examples", "count", count, at_most=MOST)
    inputs, labels, logits = _checked(np.asarray(inputs), np.asarray(labels), outputs, names)
    places = chosen(logits, labels, kind)[:count]
    probabilities = _softmax(logits)
    said = list(map(str, range(logits.shape[1]) if names is None else names))
    columns = min(COLUMNS, len(places))
    wide = (POINTS - 2 * EDGE - GAP * (columns - 1)) / columns
    side = min(wide, SIDE)
    tall = inputs.shape[1] / inputs.shape[2] if inputs.ndim > 2 else 0.7
    high = side * min(max(tall, 0.4), 2.0)
    step = high + 3 * LINE + 8
    rows = -(-len(places) // columns)
    scale = _range(inputs)
    lost = not np.isfinite(logits[places]).all()
    sheet = Sheet(EDGE + rows * step + 12 + LINE * lost)
    for number, place in enumerate(places):
        left = EDGE + number % columns * (wide + GAP)
        top = EDGE + number // columns * step
        _drawn(sheet, inputs[place], scale, (left, top, side, high), number)
        _told(
            sheet, left, top + high + 7, wide, said, int(labels[place]), probabilities[place],
            (left, top, side, high),
        )  # fmt: skip
    many = "The example" if len(places) == 1 else f"The {len(places)} examples"
    y = EDGE + rows * step + 3
    sheet.text(EDGE, y, f"{many} of {len(labels):,} {KINDS[kind]}.", ha="left")
    if lost:
        lacking = "Where logits are not finite, there is no prediction."
        sheet.text(EDGE, y + LINE, lacking, MARK, ha="left")
    return sheet.figure


def chosen(logits: np.ndarray, labels: np.ndarray, kind: str) -> np.ndarray:
    """Returns the places of all examples, those that are asked for first.

    An example whose logits are not finite is worse and more uncertain than any other.
    """
    logs = _log_softmax(logits)
    if kind == "uncertain":
        score = -(np.exp(logs) * np.where(np.isneginf(logs), 0.0, logs)).sum(1)
    else:
        score = -logs[np.arange(len(labels)), labels]
    score = np.where(np.isnan(score), np.inf, score)
    return np.argsort(score if kind == "best" else -score, kind="stable")


def _range(inputs: np.ndarray) -> tuple[float, float]:
    """Returns the least and the largest number: black and white, or the reach of bars."""
    known = inputs[np.isfinite(inputs)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)


def _drawn(sheet: Sheet, example: np.ndarray, scale, frame, number: int) -> None:
    """Draws an example as an image, or as bars."""
    left, top, side, high = frame
    low, largest = scale
    values = np.nan_to_num(example.astype(float))
    if example.ndim > 1:
        pixels = np.clip((values - low) / ((largest - low) or 1.0), 0, 1)
        pixels = pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
        sheet.axes.imshow(
            pixels, cmap="gray", vmin=0, vmax=1, extent=(left, left + side, top + high, top),
            aspect="auto", interpolation="nearest", gid=f"example:{number}", zorder=2,
        )  # fmt: skip
        return
    low, largest = min(low, 0.0), max(largest, 0.0)
    each, unit = side / len(values), high / ((largest - low) or 1.0)
    zero = top + unit * largest
    for place, value in enumerate(values):
        x, colour = left + each * (place + 0.5), COLOURS[0] if value > 0 else COLOURS[1]
        sheet.line([x, x], [zero, zero - unit * value], colour, 0.75 * each, zorder=2)
    sheet.line([left, left + side], [zero, zero], FAINT, 0.5, gid=f"example:{number}", zorder=3)


def _told(sheet: Sheet, left, y, wide, names, label: int, probabilities, frame) -> None:
    known = np.isfinite(probabilities).all()
    predicted = int(probabilities.argmax()) if known else -1
    right = predicted == label
    sheet.text(left, y, fitted(f"is {names[label]}", wide), INK, ha="left")
    mark = "✓ right" if right else "✗ wrong"
    what = names[predicted] if known else "nothing"
    colour = INK if right else MARK
    sheet.text(left, y + LINE, fitted(f"{mark}: {what}", wide), colour, ha="left")
    if known:
        share = f"{100 * probabilities[predicted]:.3g} %"
        sheet.text(left, y + 2 * LINE, f"at {share}", ha="left")
    if not right:
        x, top, side, high = frame
        sheet.box(
            x - 1.5, top - 1.5, side + 3, high + 3, facecolor="none", edgecolor=MARK,
            linewidth=1.4, zorder=4,
        )  # fmt: skip


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = logits - logits.max(1, keepdims=True)
        return moved - np.log(np.exp(moved).sum(1, keepdims=True))


def _softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(_log_softmax(logits))


def two_logits(outputs: Any) -> np.ndarray:
    """Returns logits `[examples, classes]`; one logit of each example is that of class 1."""
    logits = np.asarray(outputs, float)
    logits = logits[:, None] if logits.ndim == 1 else logits
    if logits.ndim == 2 and logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], 1)
    return logits


def _checked(inputs, labels, outputs: Any, names) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvalidType(
            "examples",
            "labels are no classes",
            got=f"labels of dtype {labels.dtype}",
            expected="whole numbers from 0",
            fix="Pass labels.astype(int), if that is what they are",
        )
    logits = two_logits(outputs)
    counts = {len(x) if x.ndim else 0 for x in (inputs, labels, logits)}
    if len(counts) > 1 or labels.ndim != 1 or logits.ndim != 2 or not labels.size:
        raise InvalidValue(
            "examples",
            "inputs, labels and outputs are not of the same examples",
            got=f"shapes {inputs.shape}, {labels.shape} and {logits.shape}",
            expected="[examples, ...], [examples] and [examples, classes], at least one",
            fix="Pass outputs = run.predict(inputs)",
        )
    pictures = inputs.ndim == 3 or (inputs.ndim == 4 and inputs.shape[3] in (1, 3))
    if 0 in inputs.shape or not (pictures or (inputs.ndim == 2 and inputs.shape[1] <= BARS)):
        raise InvalidValue(
            "examples",
            "the inputs are neither images nor a few numbers",
            got=f"inputs of shape {inputs.shape}",
            expected=f"[examples, height, width], with 1 or 3 channels, or [examples, features] of"
            f" at most {BARS}",
            fix="Reshape them to images: inputs.reshape(-1, 28, 28)",
        )
    classes = logits.shape[1]
    check_classes("examples", labels, classes, names, "outputs")
    return inputs, labels, logits
