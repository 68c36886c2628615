"""The sections about results: curves, confusion matrix, predictions, examples and metrics."""

import numpy as np

from jaxnn.markup import Markup, element, join, quoted, table
from jaxnn.pictures import scheme
from jaxnn.pictures._confusion import confusion_matrix
from jaxnn.pictures._curves import curves
from jaxnn.pictures.scheme import FAINT, INK, canvas
from jaxnn.report.examples import cards, names_of, probabilities
from jaxnn.report.headline import bits, confusion, observed
from jaxnn.report.phrases import display_name, examples_of, listed, percent, value_of
from jaxnn.report.sections import Section, drawn, section, shortened
from jaxnn.report.source import Source

# The title for classes, and the one for numbers.
_KINDS = {
    "worst": ("Where it was most wrong", "Where it was furthest off"),
    "uncertain": ("Where it was least sure", ""),
    "best": ("Where it was right and most sure", "Where it was closest"),
}
CELLS = 30  # maximum number of classes for a table; more are drawn as an image


def sections(source: Source) -> list[Section]:
    """Returns the sections about results."""
    first, others = _curves, ""
    if any(name.startswith("test/") for name in source.last):
        others = " The curves called test are of held-out examples, which it never trains on."
    return [first._replace(lead=first.lead + others), *PREDICTIONS, _numbers]


@section("curves", "Learning curves")
def _curves(source: Source) -> Markup | None:
    """The metrics from the first training step to the last. Training minimizes the loss, which
    measures how wrong the network is.
    """
    if not source.rows:
        return None
    # A constant learning rate is shown as a hyper-parameter.
    rates = [name for name in source.rows[-1] if name.endswith("/learning_rate")]
    flat = {name for name in rates if len(np.unique(source.series(name)[1])) < 2}
    rows = [
        {_named(source, name): value for name, value in row.items() if name not in flat}
        for row in source.rows
    ]
    figure = curves(shortened(rows))
    return drawn(figure, "curves-picture", "How the metrics went during the training")


def _named(source: Source, name: str) -> str:
    """Returns the name of a metric, with the unit of bits per byte."""
    part, _, metric = name.partition("/")
    if metric != "bits_per_byte":
        return name
    return f"{part}/{bits(source.recorded, source.last, part)}"


@section("confusion", "Confusion matrix")
def _confusion(source: Source) -> Markup | None:
    """Rows are the true classes, columns the predicted classes. Correct predictions are on the
    diagonal, and mistakes outside of it.
    """
    end, about, counts = source.recorded.end, source.recorded.about, confusion(source.recorded)
    classes = about.get("classes") or 0
    if classes > CELLS and "worst/outputs" in end and "confusion" not in end:
        words = f"Left out: {classes:,} classes are too many to record."
        return element("p", words, class_="missing")
    if counts is None:
        return None
    names = names_of(about) or [*map(str, range(len(counts)))]
    best = source.best_step
    state = "" if best is None else f" in the best state, of step {best:,}"
    words = f"{int(np.trace(counts)):,} of {int(counts.sum()):,} are right{state}."
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    order = np.argsort(wrong, axis=None)[::-1][:3]
    most = [np.unravel_index(place, counts.shape) for place in order if wrong.flat[place] > 1]
    listed_words = [f"{names[i]} taken for {names[j]} ({int(counts[i, j])})" for i, j in most]
    words += f" Most often {listed(listed_words)}." if most else ""
    if len(counts) <= CELLS:
        return join(element("p", words), _matrix(counts, names))
    figure = confusion_matrix(counts, names)
    return drawn(figure, "confusion-picture", "Confusion matrix", words)


def _matrix(counts: np.ndarray, names: list[str]) -> Markup:
    """Returns the counts as a table, with cells shaded by their fraction of the row."""
    totals = counts.sum(1)

    def cell(i, j):
        count = int(counts[i, j]) or None
        side = "right" if i == j else "wrong"
        style = f"--share:{count / totals[i]:.3f}" if count else None
        return element("td", f"{count:,}" if count else "", class_=count and side, style=style)

    rows = [
        [
            quoted(name),
            *[cell(i, j) for j in range(len(names))],
            percent(float(counts[i, i] / totals[i])) if totals[i] else "",
        ]
        for i, name in enumerate(names)
    ]
    heads = ["true ↓ predicted →", *map(quoted, names), "right"]
    return table("True and predicted classes", heads, rows, class_="cells")


@section("fit", "Predictions and labels")
def _fit(source: Source) -> Markup | None:
    """Predictions over labels: each point is an example, with the label on the horizontal axis and
    the prediction on the vertical axis. On the line, both are equal.
    """
    end = source.recorded.end
    if source.recorded.about.get("classes") or not {"truth", "predicted"} <= end.keys():
        return None  # only regression has this plot
    truth, said = (np.asarray(end[name], float).ravel() for name in ("truth", "predicted"))
    good = np.isfinite(truth) & np.isfinite(said)
    if truth.shape != said.shape or not good.any():
        return None
    figure, axes = canvas(height=3.2)
    both = np.concatenate([truth[good], said[good]])
    axes.plot(*[[both.min(), both.max()]] * 2, color=FAINT, linewidth=0.8)
    axes.plot(truth[good], said[good], ".", color=INK, markersize=3, alpha=0.6)
    axes.set(xlabel="label", ylabel="prediction")
    scheme.linear(axes.xaxis)
    scheme.linear(axes.yaxis)
    lost, part = len(good) - int(good.sum()), observed(source.recorded)
    caption = f"{int(good.sum()):,} {examples_of(part)}."
    caption += f" Not finite: {lost:,} of {len(good):,} predictions." if lost else ""
    return drawn(figure, "fit-picture", "Predictions over labels", caption)


@section("examples", "Examples")
def _examples(source: Source) -> Markup | None:
    """The mistakes of a network show its limits. Below each example is the prediction and, for
    classes, the confidence of the network.
    """
    end, about = source.recorded.end, source.recorded.about
    shown, before = [], np.zeros(0, int)
    for kind, titles in _KINDS.items():
        names = (f"{kind}/{name}" for name in ("rows", "inputs", "labels", "outputs", "index"))
        rows, inputs, labels, outputs, index = map(end.get, names)
        inputs = inputs if rows is None else rows
        if inputs is None or labels is None or outputs is None or not len(inputs):
            continue
        chosen = np.ones(len(labels), bool)
        chances = probabilities(outputs, about)
        if kind == "worst" and chances is not None:  # the worst examples may include correct ones
            right = chances.argmax(-1) == labels.ravel()
            chosen = ~(right & np.isfinite(chances).all(-1))
        if index is not None:  # shows each example once
            chosen &= ~np.isin(index, before)
            before = np.concatenate([before, index[chosen]])
        if chosen.any():
            arrays = (inputs[chosen], labels[chosen], outputs[chosen])
            figures = cards(about, *arrays, None if index is None else index[chosen])
            row = element("div", *figures, class_="examples")
            shown.append(element("div", element("h3", titles[chances is None]), row))
    return join(*shown) or None


PREDICTIONS = (_confusion, _fit, _examples)


@section("numbers", "All results")
def _numbers(source: Source) -> Markup | None:
    """The result is the best state if a metric is watched, else the last state. The table also
    shows the best value of each metric at any step of training.
    """
    rows, watched = [], source.best_step
    for name, last in source.last.items():
        if not isinstance(last, float):
            continue
        at, values = source.series(name)
        top, step = last, source.step
        if np.isfinite(values).any():
            best_of = np.nanargmin if source.contents.is_lower_better(name) else np.nanargmax
            place = best_of(values)
            top, step = float(values[place]), int(at[place])
        cells = [value_of(name, top), f"{step:,}"]
        if name.endswith("/learning_rate"):
            cells = ["", ""]  # a learning rate has no best value
        result = source.outcome.get(name)
        best = [] if watched is None else [value_of(name, result) if name in source.outcome else ""]
        rows.append([display_name(_named(source, name)), *best, value_of(name, last), *cells])
    best = [] if watched is None else [f"best state, step {watched:,}"]
    heads = ["metric", *best, f"last, step {source.step:,}", "best ever", "at training step"]
    return table("Results", heads, rows) if rows else None
