"""Draws the decision surface of a network with two inputs.

    boundary(run.predict, inputs, labels).savefig("boundary.png")

The colour of a point is the predicted class, and is stronger where the prediction is more certain.
The dark lines are the decision boundaries. The examples are drawn on top, with a shape and a colour
for each class; examples on the wrong side of a boundary are crossed out.
"""

from collections.abc import Sequence

import numpy as np

from jaxnn.checks import kind
from jaxnn.pictures import scheme
from jaxnn.pictures.arguments import check_shapes, classes_of, log_softmax, logits_of, names_of
from jaxnn.pictures.scheme import CLASSES, INK, MARK, PAPER, Figure
from jaxnn.typing import Any, Callable

CELLS = 160  # the number of cells along each side
MOST = 2000  # the largest number of examples in a figure
MARKERS = "os^Dvphd"
MARGIN = 0.12  # the margin beyond the examples, as a share of their range


def boundary(
    predict: Any, inputs: Any, labels: Any, *, names: Sequence[str] | None = None
) -> Figure:
    """Returns a matplotlib `Figure` of the decision surface, with the examples on top.

    Args:
      predict: maps float32 inputs `[examples, 2]` to logits `[examples, classes]`. If the outputs
        are `[examples, 1]` or `[examples]`, they are the logits of class 1.
      inputs: the examples, `[examples, 2]`. If there are more than 2,000, a regularly spaced subset
        is drawn.
      labels: the classes of the examples, integers from 0.
      names: the names of the classes.

    Raises:
      InvalidType: if `predict` is not a function, or the labels are not integers.
      InvalidValue: if inputs are not finite or not `[examples, 2]`, if the number of labels does
        not match, or if there are more classes than colours.
    """
    from matplotlib.colors import to_rgb

    kind("boundary", "predict", predict, Callable, fix="Pass run.predict, or a function like it")
    inputs, labels = np.asarray(inputs, float), np.asarray(labels)
    check_shapes(
        "boundary",
        inputs.shape == (labels.size, 2) and labels.size and np.isfinite(inputs).all(),
        expected="inputs [examples, 2], all finite, and labels [examples], at least one",
        fix="Pass data with two features, or draw examples(...) of others",
        inputs=inputs,
        labels=labels,
    )
    limits = [scheme.widened(column.min(), column.max(), MARGIN) for column in inputs.T]
    x, y = (np.linspace(*ends, CELLS) for ends in limits)
    logits = _logits(predict, np.stack(np.meshgrid(x, y), -1).reshape(-1, 2))
    classes = logits.shape[1]
    labels = classes_of("boundary", "labels", labels, classes)
    said = names_of("boundary", "names", names, classes)
    probabilities = np.exp(log_softmax(logits))
    palette = np.array([to_rgb(colour) for colour in CLASSES[:classes]])
    # At a probability of 1 / classes nothing is known, and the surface has the colour of paper.
    sure = (probabilities.max(1) - 1 / classes) / (1 - 1 / classes)
    shade = (0.08 + 0.5 * sure)[:, None]
    surface = shade * palette[probabilities.argmax(1)] + (1 - shade) * np.array(to_rgb(PAPER))
    surface[~np.isfinite(sure)] = to_rgb(MARK)

    figure, axes = scheme.canvas(height=3.3)
    axes.imshow(
        surface.reshape(CELLS, CELLS, 3), origin="lower", aspect="auto", interpolation="bilinear",
        extent=(*limits[0], *limits[1]), gid="surface",
    )  # fmt: skip
    for number in range(classes if classes > 2 else 1):
        others = np.delete(probabilities, number, 1).max(1)
        lead = (probabilities[:, number] - others).reshape(CELLS, CELLS)
        if lead.min() < 0 < lead.max():
            axes.contour(x, y, lead, [0.0], colors=INK, linewidths=1.0)
    every = -(-len(inputs) // MOST)
    shown, own = inputs[::every], labels[::every]
    wrong = _logits(predict, shown).argmax(1) != own
    few = len(shown) < 200
    for number in np.unique(own):
        axes.scatter(
            *shown[own == number].T, s=26 if few else 10, marker=MARKERS[number],
            color=CLASSES[number], edgecolors=PAPER, linewidths=0.7, zorder=3,
            label=f"class {number}" if names is None else said[number], gid=f"examples:{number}",
        )  # fmt: skip
    if wrong.any():
        axes.scatter(
            *shown[wrong].T, s=40 if few else 16, marker="x", color=INK, linewidths=1.0, zorder=4,
            label="wrong", gid="wrong",
        )  # fmt: skip
    axes.set_xlabel("x1")
    axes.set_ylabel("x2")
    scheme.legend(figure, "outside upper left", 4, handletextpad=0.2, columnspacing=1.0)
    scheme.noted(
        figure,
        f"{wrong.sum():,} of {len(shown):,} examples are on the wrong side.",
        f"One in {every} of {len(inputs):,} is drawn." if every > 1 else "",
        "" if np.isfinite(sure).all() else "In red, it is not finite.",
    )
    return figure


def _logits(predict: Callable[[Any], Any], inputs: np.ndarray) -> np.ndarray:
    outputs = predict(inputs.astype(np.float32))
    logits = logits_of(outputs)
    check_shapes(
        "boundary",
        logits.ndim == 2 and len(logits) == len(inputs) and logits.shape[1] <= len(CLASSES),
        expected=f"logits [examples, classes] of at most {len(CLASSES)} classes, for which there"
        " are colours, or one for each example",
        fix="Let predict be lambda x: network.apply(params, state, x)[0], or run.predict",
        outputs=outputs,
        inputs=inputs,
    )
    return logits
