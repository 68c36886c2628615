"""The network seen learning: a slider over the moments of the training that were recorded.

What the page's script needs to show a moment is in one block of JSON: for each moment what the
network said of some examples, and the weights that are drawn. All of it is small (`packed`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnn.markup import Markup, block, element, join
from jaxnn.pictures.scheme import COLOURS, MARK, SIGNED
from jaxnn.report.decision import decision
from jaxnn.report.examples import BARS, cards, names_of, probabilities
from jaxnn.report.network import wiring
from jaxnn.report.packed import levels, shares, stacked
from jaxnn.report.phrases import figure, is_share, spaced, sure, value_of
from jaxnn.report.source import Source
from jaxnn.storage.recording import Frame, Recording

EXAMPLES = 12
PIXELS = 250_000  # of all filters at all moments; a page is to be small
FILTERS = 32
SATURATED = 99.0  # percentile of the sizes of weights that has the full colour


class Moments(NamedTuple):
    """What is known of the moments.

    Attributes:
      steps: their training steps.
      name: of the metric that is shown.
      values: its values, NaN where it is not finite.
    """

    steps: list[int]
    name: str
    values: np.ndarray


def learning(source: Source) -> Markup | None:
    """Returns the slider and what it moves; nothing if fewer than two moments were recorded."""
    recorded = source.recorded
    moments = _moments(recorded) if recorded else None
    if recorded is None or moments is None:
        return None
    frames = recorded.frames
    seen = _examples(recorded)
    wires = wiring(recorded)
    filters = _filters(frames)
    surface = decision(recorded) if "boundary" in frames[-1].arrays else None
    loss = stacked(frames, "metrics/loss")
    payload = {
        "steps": moments.steps,
        "planned": source.steps or moments.steps[-1],
        "epochs": _epochs(source, moments.steps),
        "share": is_share(moments.name),
        "figures": [figure(moments.name, float(value)) for value in moments.values],
        "values": [float(v) if np.isfinite(v) else None for v in moments.values],
        "heights": [round(h, 4) if np.isfinite(h) else None for h in _heights(moments)],
        "losses": None if loss is None else [figure("loss", float(each)) for each in loss],
        "colours": [*SIGNED, MARK],
        "examples": seen and seen[1],
        "wires": wires and wires.payload,
        "filters": filters and filters[1],
        "surface": surface and surface[1],
        "classes": list(COLOURS),
    }
    pictures = [each[0] for each in (wires and (wires.picture,), filters, surface) if each]
    return join(
        _panel(source, moments, recorded, loss),
        _chart(moments),
        element("div", *pictures, class_=f"inner of-{len(pictures)}") if pictures else None,
        seen and seen[0],
        block(payload, "recorded"),
    )


def _moments(recorded: Recording) -> Moments | None:
    if len(recorded.frames) < 2:
        return None
    names = {name for frame in recorded.frames for name in frame.arrays}
    metrics = sorted(name for name in names if name.startswith("metrics/"))
    order = ["metrics/accuracy", "metrics/loss", *metrics]
    name = next((each for each in order if each in metrics), None)
    values = stacked(recorded.frames, name) if name else None
    if name is None or values is None or values.ndim != 1:
        return None
    return Moments([frame.step for frame in recorded.frames], name.partition("/")[2], values)


def _epochs(source: Source, steps: list[int]) -> list[float] | None:
    """Returns how often the data was gone through at each step."""
    row = source.rows[-1] if source.rows else {}
    if not row.get("step") or not isinstance(row.get("epoch"), int | float):
        return None
    return [round(step * row["epoch"] / row["step"], 2) for step in steps]


def _heights(moments: Moments) -> np.ndarray:
    """Returns how high each value stands in the chart, from 0 to 1."""
    if is_share(moments.name):
        return np.clip(moments.values, 0, 1)
    low, high = _ends(moments)
    return (moments.values - low) / ((high - low) or 1.0)


def _ends(moments: Moments) -> tuple[float, float]:
    """Returns the values at the foot of the chart and at its top."""
    finite = moments.values[np.isfinite(moments.values)]
    if is_share(moments.name) or not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return 0.0 if 0 <= low < high / 2 else low, high


def _panel(
    source: Source, moments: Moments, recorded: Recording, loss: np.ndarray | None
) -> Markup:
    """Returns what stands over the slider: at which moment, and how good the network was."""
    last = len(moments.steps) - 1
    count = (recorded.about.get("probe") or {}).get("count")
    held_out = (recorded.about.get("probe") or {}).get("of") != "train"
    which = "held-out" if held_out else "training"
    whole = _whole(recorded) if held_out else None
    sample = "a sample of " if whole and isinstance(count, int) and count < whole else ""
    of = f" of {sample}{count:,} {which} examples" if isinstance(count, int) else ""
    share = moments.name == "accuracy" and recorded.about.get("classes")
    epochs = _epochs(source, moments.steps)
    passes = f"{epochs[last]:.1f}" if epochs else ""
    step = element("b", f"{moments.steps[last]:,}", id="at-step")
    planned = f" of {source.steps or moments.steps[last]:,}"
    when = [
        element("p", "Training step ", step, planned, class_="when"),
        element("p", element("span", passes, id="at-epoch"), " passes over the data", class_="pass")
        if epochs
        else None,
    ]
    value = value_of(moments.name, float(moments.values[last]))
    measured = figure("loss", float(loss[last])) if loss is not None else None
    how = [
        element("p", element("b", value, id="at-value"), class_="value"),
        element("p", f"{'right' if share else spaced(moments.name)}{of}", class_="pass"),
        element("p", "loss ", element("span", measured, id="at-loss"), class_="pass")
        if measured and moments.name != "loss"
        else None,
    ]
    note = None
    if sample:
        note = "The results further down are of more of them, so they differ a little."
    elif not held_out:
        note = (
            "As it is right after the step: the curves further down, and the results, are means"
            " over the steps since the report before."
        )
    play = element("button", "▶ Play", type="button", id="play")
    return element(
        "div",
        play,
        element("div", *when),
        element("div", *how, class_="how"),
        element("p", role="status", id="said", class_="unseen"),
        element("p", note, class_="pass") if note else None,
        class_="panel",
    )


def _whole(recorded: Recording) -> int | None:
    """Returns how many examples the results are of, where that is known."""
    counts, truth = (recorded.end.get(name) for name in ("confusion", "truth"))
    if counts is not None:
        return int(counts.sum())
    return None if truth is None else len(truth)


def _chart(moments: Moments) -> Markup:
    """Returns the curve of the metric with a mark on it, over the slider itself."""
    last = len(moments.steps) - 1
    heights = _heights(moments)
    places = 1000 * np.arange(last + 1) / last
    lines, pen = [], "M"
    for x, y in zip(places, heights):
        if np.isfinite(y):
            lines.append(f"{pen}{x:.0f} {100 - 100 * y:.1f}h0")  # a place between gaps is a dot
        pen = "L" if np.isfinite(y) else "M"
    curve = element("path", d="".join(lines), class_="line")
    drawn = element(
        "svg", curve, viewBox="0 0 1000 100", preserveAspectRatio="none", aria_hidden="true"
    )
    low, top = (figure(moments.name, end) for end in _ends(moments))
    words = ("", " right") if moments.name == "accuracy" else (f" {spaced(moments.name)}", "")
    height = f"Upwards:{words[0]} from {low} to {top}{words[1]}"
    height = height if low != top else f"{words[0].strip()} {top}"
    apart = np.diff(moments.steps)
    uneven = apart.max() > 2 * apart.min()
    below = "training steps" + (", closer together at the beginning" if uneven else "")
    every = max(1, -(-last // 6))
    ticks = [
        element("span", f"{moments.steps[at]:,}", style=f"left:{100 * at / last:.2f}%")
        for at in sorted({*range(0, last - every // 2, every), last})
    ]
    slider = element(
        "input", type="range", id="moment", min=0, max=last, value=last, step=1,
        aria_label="Moment of the training", aria_valuetext=f"training step {moments.steps[last]}",
    )  # fmt: skip
    return element(
        "div",
        element(
            "div",
            drawn,
            element("span", height, class_="top"),
            element("i", id="mark", style=f"left:100%;top:{_down(heights[last])}%"),
            class_="line-of",
        ),
        slider,
        element("div", *ticks, class_="ticks", aria_hidden="true"),
        element("p", below, class_="unit", aria_hidden="true"),
        class_="slider",
    )


def _down(height: float) -> float:
    return round(100 - 100 * float(np.nan_to_num(height)), 2)


def _examples(recorded: Recording) -> tuple[Markup, dict[str, Any]] | None:
    """Returns some examples, and what the network said of them at each moment."""
    probe, about = recorded.probe, recorded.about
    outputs = stacked(recorded.frames, "outputs")
    if outputs is None or outputs.ndim < 2 or not {"inputs", "labels"} <= probe.keys():
        return None
    count = min(EXAMPLES, outputs.shape[1], len(probe["inputs"]), len(probe["labels"]))
    outputs, labels = outputs[:, :count], probe["labels"][:count]
    labels = labels.reshape(count, -1)[:, 0] if about.get("classes") else labels
    index = probe["index"][:count] if "index" in probe else None
    chances, names = probabilities(outputs, about.get("classes")), names_of(about)
    payload: dict[str, Any] = {"names": names}
    if chances is not None:
        finite = np.isfinite(chances).all(-1)
        guesses = np.where(finite, np.nan_to_num(chances).argmax(-1), -1)
        payload |= {"labels": labels.astype(int).tolist(), "guesses": guesses.tolist()}
        payload["sure"] = [[sure(float(p)) for p in row] for row in np.nan_to_num(chances.max(-1))]
        payload["chances"] = shares(chances) if len(names) <= BARS else None
    elif outputs[0, 0].size == 1:
        numbers = outputs.reshape(len(outputs), count)
        payload["numbers"] = [[figure("", float(each)) for each in row] for row in numbers]
    else:
        return None
    drawn = cards(about, probe["inputs"][:count], labels, outputs[-1], index)
    which = "examples it never trained on" if (about.get("probe") or {}).get("of") != "train" else (
        "examples of the training data"
    )  # fmt: skip
    head = element("h3", f"What it says of {count} {which}")
    bars = " Each bar is the probability of one class." if payload.get("chances") else ""
    lead = element("p", f"The large word is what the network says at this moment.{bars}")
    return element("div", head, lead, element("div", *drawn, class_="examples live")), payload


def _filters(frames: Sequence[Frame]) -> tuple[Markup, Any] | None:
    """Returns the weights of nodes of the first layer as images, at each moment."""
    filters = stacked(frames, "filters")
    if filters is None or filters.ndim not in (4, 5) or 0 in filters.shape:
        return None
    every, (high, wide) = filters.shape[1], filters.shape[2:4]
    halved = min(high, wide) >= 24
    if halved:  # what is looked at so small loses nothing by half the resolution
        filters = filters[:, :, : high // 2 * 2, : wide // 2 * 2]
        pooled_shape = (high // 2, 2, wide // 2, 2)
        filters = filters.reshape(*filters.shape[:2], *pooled_shape, *filters.shape[4:]).mean(
            (3, 5)
        )
    if filters.ndim == 5:  # the mean over channels, unless they are red, green and blue
        filters = filters.mean(-1)
    size = filters[:, 0].size
    count = max(1, min(filters.shape[1], FILTERS, PIXELS // size))
    count -= count % 8 if 8 < count < every else 0
    filters = filters[:, :count]
    scale = float(np.nanpercentile(np.abs(filters), SATURATED)) if filters.size else 1.0
    words = f"The weights of {count} nodes of the first layer, as images"
    label = f"{words}: which pixels speak for a node and which against it"
    picture = element(
        "figure",
        element("h3", "What its first layer looks for"),
        element("canvas", id="filters", role="img", aria_label=label),
        element(
            "figcaption",
            f"{words}. A pixel in ",
            element("span", "blue", class_="plus"),
            " speaks for the node, one in ",
            element("span", "orange", class_="minus"),
            " against it.",
            " Each is the mean of four pixels of an input." if halved else None,
        ),
        class_="filters",
    )
    return picture, levels(filters, scale)
