"""The decision of a network with two inputs, as a map: what it would say at every place.

    boundary(run.predict, inputs, labels).savefig("boundary.png")

The colour of a place is the class that is predicted there, stronger where it is more certain; the
dark line is where the decision turns. On it are the examples, a shape and a colour for each class;
those that are on the wrong side are crossed out.
"""

from collections.abc import Sequence

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.pictures._examples import two_logits
from jaxnn.pictures.classes import check_classes
from jaxnn.pictures.scheme import COLOURS, INK, LABEL, MARK, PAPER, TICK, canvas, noted
from jaxnn.typing import Any, Callable

CELLS = 160  # from side to side
MOST = 2000  # examples that are drawn
MARKERS = "os^Dvphd"
MARGIN = 0.12  # beyond the examples, of their range


def boundary(
    predict: Any,
    inputs: Any,
    labels: Any,
    *,
    names: Sequence[str] | None = None,
) -> Any:
    """Returns a matplotlib `Figure` of the decision surface, with examples on it.

    Args:
      predict: gives the logits of inputs `[examples, 2]`, float32: `[examples, classes]`; or one
        logit each, `[examples, 1]` or `[examples]`, which is that of class 1.
      inputs: the examples; of more than 2,000, as many in regular distances are drawn.
      labels: their classes, whole numbers from 0.
      names: of the classes.

    Raises:
      InvalidType: if `predict` is no function, or labels are no whole numbers.
      InvalidValue: if the inputs are not two numbers each, there are as many labels not, or there
        are more classes than colours.
    """
    from matplotlib.colors import to_rgb

    inputs, labels = _checked(predict, np.asarray(inputs, float), np.asarray(labels))
    low, high = inputs.min(0), inputs.max(0)
    margin = np.where(high > low, MARGIN * (high - low), 0.5)
    low, high = low - margin, high + margin
    x, y = (np.linspace(low[axis], high[axis], CELLS) for axis in (0, 1))
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(np.float32)
    logits = _logits(predict, grid)
    classes = logits.shape[1]
    _check_classes(classes, labels, names)
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = probabilities / probabilities.sum(1, keepdims=True)
    said = [str(name).replace("$", r"\$") for name in (range(classes) if names is None else names)]
    palette = np.array([to_rgb(colour) for colour in COLOURS[:classes]])
    best = probabilities.argmax(1)
    # Nothing is known at 1 / classes: there the surface has the colour of paper.
    sure = (probabilities.max(1) - 1 / classes) / (1 - 1 / classes)
    shade = (0.08 + 0.5 * sure)[:, None]
    surface = shade * palette[best] + (1 - shade) * np.array(to_rgb(PAPER))
    surface[~np.isfinite(sure)] = to_rgb(MARK)

    figure, axes = canvas(height=3.3)
    axes.imshow(
        surface.reshape(CELLS, CELLS, 3), origin="lower", aspect="auto", interpolation="bilinear",
        extent=(low[0], high[0], low[1], high[1]), gid="surface",
    )  # fmt: skip
    for number in range(classes if classes > 2 else 1):
        others = np.delete(probabilities, number, 1).max(1)
        lead = (probabilities[:, number] - others).reshape(CELLS, CELLS)
        if lead.min() < 0 < lead.max():
            axes.contour(x, y, lead, [0.0], colors=INK, linewidths=1.0)
    every = -(-len(inputs) // MOST)
    shown, own = inputs[::every], labels[::every]
    wrong = _logits(predict, shown.astype(np.float32)).argmax(1) != own
    for number in sorted(set(own.tolist())):
        axes.scatter(
            *shown[own == number].T, s=26 if len(shown) < 200 else 10, marker=MARKERS[number],
            color=COLOURS[number], edgecolors=PAPER, linewidths=0.7, zorder=3,
            label=f"class {said[number]}" if names is None else said[number],
            gid=f"examples:{number}",
        )  # fmt: skip
    if wrong.any():
        axes.scatter(
            *shown[wrong].T, s=40 if len(shown) < 200 else 16, marker="x", color=INK,
            linewidths=1.0, zorder=4, label="wrong", gid="wrong",
        )  # fmt: skip
    axes.set_xlabel("x1", fontsize=LABEL)
    axes.set_ylabel("x2", fontsize=LABEL)
    remarks = [f"{wrong.sum():,} of {len(shown):,} examples are on the wrong side."]
    remarks += [f"One in {every} of {len(inputs):,} is drawn."] if every > 1 else []
    remarks += [] if np.isfinite(sure).all() else ["In red, it is not finite."]
    figure.legend(
        loc="outside upper left", ncols=4, frameon=False, fontsize=TICK, handletextpad=0.2,
        columnspacing=1.0, labelcolor=INK,
    )  # fmt: skip
    noted(figure, " ".join(remarks))
    return figure


def _logits(predict: Callable[[Any], Any], inputs: np.ndarray) -> np.ndarray:
    logits = two_logits(predict(inputs))
    if logits.ndim != 2 or len(logits) != len(inputs):
        raise InvalidValue(
            "boundary",
            "predict does not give logits of classes",
            got=f"outputs of shape {np.shape(predict(inputs))} for inputs of shape {inputs.shape}",
            expected="[examples, classes], or one logit for each example",
            fix="Pass lambda x: network.apply(params, state, x)[0], or run.predict",
        )
    return logits


def _check_classes(classes: int, labels: np.ndarray, names: Sequence[str] | None) -> None:
    if classes > len(COLOURS):
        raise InvalidValue(
            "boundary",
            "there are more classes than colours that can be distinguished",
            got=f"{classes} classes",
            expected=f"at most {len(COLOURS)}",
            fix="Draw those that matter",
        )
    check_classes("boundary", labels, classes, names, "predict")


def _checked(predict: Any, inputs, labels) -> tuple[np.ndarray, np.ndarray]:
    if not callable(predict):
        raise InvalidType(
            "boundary",
            "predict is no function",
            got=f"a {type(predict).__name__}",
            expected="a function from inputs [examples, 2] to logits",
            fix="Pass run.predict, or lambda x: network.apply(params, state, x)[0]",
        )
    if (
        inputs.ndim != 2
        or inputs.shape[1] != 2
        or labels.shape != (len(inputs),)
        or not len(inputs)
    ):
        raise InvalidValue(
            "boundary",
            "a map has two inputs, and each example a label",
            got=f"inputs of shape {inputs.shape} and labels of shape {labels.shape}",
            expected="[examples, 2] and [examples], at least one",
            fix="Pass data with two features, or draw examples(...) of others",
        )
    if not np.isfinite(inputs).all() or not np.array_equal(labels, np.round(labels)):
        raise InvalidType(
            "boundary",
            "labels are no classes, or inputs are not finite",
            got=f"labels of dtype {labels.dtype}",
            expected="whole numbers from 0, and finite inputs",
            fix="Pass the number of the class of each example",
        )
    return inputs, labels.astype(int)
