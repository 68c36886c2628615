"""What came of a run: how its metrics went, and on which examples it errs."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxnn.markup import Markup, element, join, table
from jaxnn.pictures._confusion import confusion
from jaxnn.pictures._curves import curves
from jaxnn.report.examples import cards, names_of
from jaxnn.report.phrases import display_name, listed, value_of
from jaxnn.report.sections import Section, drawn, lettered, shortened
from jaxnn.report.source import Source

_KINDS = (
    ("worst", "Where it was most wrong"),
    ("uncertain", "Where it was least sure"),
    ("best", "Where it was most right"),
)


def sections(source: Source) -> list[Section]:
    """Returns the sections about results."""
    return [
        Section(
            "curves",
            "How the training went",
            "Each curve goes from the first training step to the last. The loss is what training"
            f" makes small: how wrong the network is.{_others(source)}",
            lambda: _curves(source),
        ),
        Section(
            "confusion",
            "What it takes for what",
            "A row for what an example is, a column for what the network says it is: what is right"
            " stands on the diagonal, and anything beside it is a mistake.",
            lambda: _confusion(source),
        ),
        Section(
            "fit",
            "What it says, and what is so",
            "Each point is a held-out example: to the right what it is, upwards what the network"
            " says. On the line both are the same.",
            lambda: _regression(source),
        ),
        Section(
            "examples",
            "Examples",
            "A network is known best by its mistakes. Under each example stands what the network"
            " says, and how sure it is.",
            lambda: _examples(source),
        ),
        Section(
            "numbers",
            "All results",
            "The last value of each metric, the best it ever had, and at which training step.",
            lambda: _numbers(source),
        ),
    ]


def _others(source: Source) -> str:
    has = any(name.startswith("test/") for name in source.last)
    words = " The curves called test are of held-out examples, which it never trains on."
    return words if has else ""


def _curves(source: Source) -> Markup | None:
    if not source.rows:
        return None
    figure = curves(shortened(source.rows))
    return drawn(figure, "curves-picture", "How the metrics went during the training")


def _confusion(source: Source) -> Markup | None:
    counts = source.recorded.end.get("confusion") if source.recorded else None
    if source.recorded is None or counts is None or counts.ndim != 2 or not counts.sum():
        return None
    names = names_of(source.recorded.about)
    letters = [lettered(name) for name in names]
    labels, predictions = (
        np.repeat(axis.ravel(), counts.ravel().astype(int)) for axis in np.indices(counts.shape)
    )
    figure = confusion(labels, predictions, letters or None)
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    order = np.argsort(wrong, axis=None)[::-1][:3]
    most = [np.unravel_index(place, counts.shape) for place in order if wrong.flat[place] > 1]
    words = [f"{names[i]} taken for {names[j]} ({int(counts[i, j])})" for i, j in most if names]
    right = int(np.trace(counts))
    caption = f"{right:,} of {int(counts.sum()):,} are right." + (
        f" Most often {listed(words)}." if words else ""
    )
    return drawn(figure, "confusion-picture", "What the network takes for what", caption)


def _regression(source: Source) -> Markup | None:
    if source.recorded is None or source.recorded.about.get("classes"):
        return None  # numbers that stand for classes
    end = source.recorded.end
    if not {"truth", "predicted"} <= end.keys():
        return None
    from jaxnn.pictures.scheme import COLOURS, FAINT, canvas

    truth, said = (np.asarray(end[name], float).ravel() for name in ("truth", "predicted"))
    good = np.isfinite(truth) & np.isfinite(said)
    if truth.shape != said.shape or not good.any():
        return None
    figure, axes = canvas(height=3.2)
    ends = [min(truth[good].min(), said[good].min()), max(truth[good].max(), said[good].max())]
    axes.plot(ends, ends, color=FAINT, linewidth=0.8)
    axes.plot(truth[good], said[good], ".", color=COLOURS[0], markersize=3, alpha=0.6)
    axes.set(xlabel="what it is", ylabel="what the network says")
    lost = len(good) - int(good.sum())
    caption = f"{lost} predictions are not finite." if lost else None
    return drawn(figure, "fit-picture", "Predictions over what is so", caption)


def _examples(source: Source) -> Markup | None:
    if source.recorded is None:
        return None
    return join(*_rows(source.recorded.about, source.recorded.end)) or None


def _rows(about: dict[str, Any], end: dict[str, np.ndarray]) -> Iterator[Markup]:
    for name, title in _KINDS:
        arrays = {key: end.get(f"{name}/{key}") for key in ("inputs", "labels", "outputs", "index")}
        inputs, labels, outputs = (arrays[key] for key in ("inputs", "labels", "outputs"))
        if inputs is None or labels is None or outputs is None or not len(inputs):
            continue
        figures = cards(about, inputs, labels, outputs, arrays["index"])
        yield element("div", element("h3", title), element("div", *figures, class_="examples"))


def _numbers(source: Source) -> Markup | None:
    from jaxnn.metrics import lower_is_better

    rows = []
    for name, last in source.last.items():
        if not isinstance(last, float):
            continue
        at, values = source.series(name)
        if name.endswith("/learning_rate"):  # none is the best
            rows.append([display_name(name), value_of(name, last), "", ""])
            continue
        best, step = last, source.step
        if len(values) and np.isfinite(values).any():
            lower = lower_is_better(name)
            place = int(np.nanargmin(values) if lower else np.nanargmax(values))
            best, step = float(values[place]), int(at[place])
        rows.append([display_name(name), value_of(name, last), value_of(name, best), f"{step:,}"])
    if not rows:
        return None
    return table("Results", ["metric", "last", "best", "at training step"], rows)
