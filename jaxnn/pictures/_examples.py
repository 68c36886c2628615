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
from jaxnn.pictures import scheme
from jaxnn.pictures.arguments import check_shapes, classes_of, log_softmax, logits_of, names_of
from jaxnn.pictures.scheme import FAINT, INK, MARK, SIGNED, TICK, Axes, Figure
from jaxnn.pictures.sheet import fitted
from jaxnn.typing import Any

MOST, COLUMNS, BARS = 64, 4, 256  # the most examples, examples in a row, and bars of an example
SIDE, TEXT, FOOT = 0.72, 0.5, 0.3  # inches: the width of an image, the texts below, the remarks
GAP, LINE = 10.0, 9.6  # points, the space between examples and the height of a line of text
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
    aspect = inputs.shape[1] / inputs.shape[2] if is_image else 0.7
    row = SIDE * float(np.clip(aspect, 0.4, 2.0)) + TEXT
    figure, panels = scheme.panels(len(places), columns, row, FOOT)
    room = 72 * scheme.WIDTH / columns - GAP  # points
    for number, (axes, place, chances) in enumerate(zip(panels, places, probabilities)):
        _draw(axes, inputs[place].astype(float), *ends, gid=f"example:{number}")
        _say(axes, said, int(labels[place]), chances, room)
    many = "The example" if len(places) == 1 else f"The {len(places)} examples"
    lost = not np.isfinite(probabilities).all()
    scheme.noted(
        figure,
        f"{many} of {len(labels):,} {KINDS[kind]}.",
        "Where logits are not finite, there is no prediction." if lost else "",
    )
    return figure


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


def _draw(axes: Axes, example: np.ndarray, low: float, high: float, gid: str) -> None:
    """Draws the inputs of an example as an image, or as bars."""
    example = np.clip(np.nan_to_num(example), low, high)
    if example.ndim > 1:
        pixels = (example - low) / ((high - low) or 1.0)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest", gid=gid)
        axes.set_anchor("W")
    else:
        colours = np.where(example > 0, SIGNED[2], SIGNED[0])
        axes.bar(range(len(example)), example, 0.75, color=colours)
        axes.axhline(0.0, color=FAINT, linewidth=0.5, gid=gid)
        axes.set_ylim(*scheme.widened(min(low, 0.0), max(high, 0.0), 0.05))


def _say(
    axes: Axes, names: Sequence[str], label: int, probabilities: np.ndarray, room: float
) -> None:
    """Writes the true and the predicted class below an example, and frames it if they differ."""
    known = np.isfinite(probabilities).all()
    predicted = int(probabilities.argmax()) if known else -1
    is_right = predicted == label
    what = f"{'✓ right' if is_right else '✗ wrong'}: {names[predicted] if known else 'nothing'}"
    lines = [(f"is {names[label]}", INK), (what, INK if is_right else MARK)]
    lines += [(f"at {100 * probabilities[predicted]:.3g} %", FAINT)] if known else []
    for line, (text, colour) in enumerate(lines, start=1):
        axes.annotate(
            fitted(text, room), (0, 0), (0, -LINE * line), "axes fraction", "offset points",
            color=colour, fontsize=TICK, va="bottom", parse_math=False,
        )  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=not is_right, color=MARK, linewidth=1.4)
