"""The network seen learning: a slider over the moments of the training that were recorded.

What the page's script needs to show a moment is in one block of JSON: for each moment what the
network said of some examples, and the weights that are drawn. All of it is small (`packed`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnn.markup import Markup, block, element, join
from jaxnn.pictures.scheme import MARK, SIGNED
from jaxnn.report.decision import decision
from jaxnn.report.examples import BARS, cards, names_of, probabilities
from jaxnn.report.network import wiring
from jaxnn.report.packed import levels, shares, stacked
from jaxnn.report.phrases import figure, is_share, spaced, sure, value_of
from jaxnn.report.sections import filled, section
from jaxnn.report.source import Source
from jaxnn.storage.recording import Frame, Recording

EXAMPLES = 12
PIXELS = 250_000  # of all filters at all moments; a page is to be small
FILTERS = 32
SATURATED = 99.0  # percentile of the sizes of weights that has the full colour


class Moments(NamedTuple):
    """The training steps of the moments, and a metric, NaN where it is not finite."""

    steps: list[int]
    name: str
    values: np.ndarray

    @property
    def ends(self) -> tuple[float, float]:
        """The values at the foot of the chart and at its top."""
        finite = self.values[np.isfinite(self.values)]
        if is_share(self.name) or not len(finite):
            return 0.0, 1.0
        low, high = float(finite.min()), float(finite.max())
        return 0.0 if 0 <= low < high / 2 else low, high

    @property
    def heights(self) -> np.ndarray:
        """How high each value stands in the chart, from 0 to 1."""
        low, high = self.ends
        heights = (self.values - low) / ((high - low) or 1.0)
        return np.clip(heights, 0, 1) if is_share(self.name) else heights


@section("learning", "Watch it learn")
def learning(source: Source) -> Markup | None:
    """Move the slider through the training, or press play: everything here is as it was then."""
    moments, frames = _moments(source.recorded), source.recorded.frames
    if moments is None:
        return None
    examples, wires = _examples(source.recorded), wiring(source.recorded)
    filters, surface = _filters(frames), None
    if "boundary" in frames[-1].arrays:
        surface = decision(source.recorded)
    loss = stacked(frames, "metrics/loss")
    losses = None if loss is None else [figure("loss", float(each)) for each in loss]
    row = source.rows[-1] if source.rows else {}
    epochs = None
    if row.get("step") and isinstance(row.get("epoch"), int | float):
        epochs = [round(step * row["epoch"] / row["step"], 2) for step in moments.steps]
    payload = {
        "steps": moments.steps,
        "planned": source.steps or moments.steps[-1],
        "epochs": epochs,
        "share": is_share(moments.name),
        "figures": [figure(moments.name, float(value)) for value in moments.values],
        "values": [float(v) if np.isfinite(v) else None for v in moments.values],
        "heights": [round(h, 4) if np.isfinite(h) else None for h in moments.heights],
        "losses": losses,
        "colours": [*SIGNED, MARK],
        "examples": examples and examples[1],
        "wires": wires and wires[1],
        "filters": filters and filters[1],
        "surface": surface and surface[1],
    }
    pictures = [each[0] for each in (wires, filters, surface) if each]
    return join(
        filled("learning.html", **_panel(source, moments, epochs, losses), **_chart(moments)),
        element("div", *pictures, class_=f"inner of-{len(pictures)}") if pictures else None,
        examples and examples[0],
        block(payload, "recorded"),
    )


def _moments(recorded: Recording) -> Moments | None:
    """Returns the moments with the accuracy, or else the loss, or else another metric."""
    names = {name for frame in recorded.frames for name in frame.arrays}
    metrics = sorted(name for name in names if name.startswith("metrics/"))
    metrics.sort(key=lambda n: (n != "metrics/accuracy", n != "metrics/loss"))
    values = stacked(recorded.frames, metrics[0]) if metrics else None
    if len(recorded.frames) < 2 or values is None or values.ndim != 1:
        return None
    return Moments([frame.step for frame in recorded.frames], metrics[0].partition("/")[2], values)


def _panel(
    source: Source, moments: Moments, epochs: list[float] | None, losses: list[str] | None
) -> dict[str, Any]:
    """Returns what stands over the slider: at which moment, and how good the network was."""
    about, end, last = source.recorded.about, source.recorded.end, moments.steps[-1]
    probe = about.get("probe") or {}
    count, held_out = probe.get("count"), probe.get("of") != "train"
    # Of so many examples are the results further down.
    whole = int(end["confusion"].sum()) if "confusion" in end else len(end.get("truth", ()))
    is_sample = held_out and isinstance(count, int) and count < whole
    what = "right" if moments.name == "accuracy" and about.get("classes") else spaced(moments.name)
    if isinstance(count, int):
        which = "held-out" if held_out else "training"
        what += f" of {'a sample of ' * is_sample}{count:,} {which} examples"
    note = None
    if is_sample:
        note = "The results further down are of more of them, so they differ a little."
    elif not held_out:
        note = (
            "As it is right after the step: the curves further down, and the results, are means"
            " over the steps since the report before."
        )
    epoch = epochs and element("span", f"{epochs[-1]:.1f}", id="at-epoch")
    loss = losses and moments.name != "loss" and element("span", losses[-1], id="at-loss")
    return {
        "step": f"{last:,}",
        "planned": f"{source.steps or last:,}",
        "passes": epoch and element("p", epoch, " passes over the data", class_="pass"),
        "value": value_of(moments.name, float(moments.values[-1])),
        "what": what,
        "loss": element("p", "loss ", loss, class_="pass") if loss else None,
        "note": note and element("p", note, class_="pass"),
    }


def _chart(moments: Moments) -> dict[str, Any]:
    """Returns the curve of the metric with a mark on it, and the slider."""
    last, heights = len(moments.steps) - 1, moments.heights
    lines, pen = [], "M"
    for x, y in zip(np.linspace(0, 1000, last + 1), heights):
        if np.isfinite(y):
            lines.append(f"{pen}{x:.0f} {100 - 100 * y:.1f}h0")  # a place between gaps is a dot
        pen = "L" if np.isfinite(y) else "M"
    low, top = (figure(moments.name, end) for end in moments.ends)
    words = ("", " right") if moments.name == "accuracy" else (f" {spaced(moments.name)}", "")
    height = f"Upwards:{words[0]} from {low} to {top}{words[1]}"
    apart = np.diff(moments.steps)
    uneven = apart.max() > 2 * apart.min()
    every = max(1, -(-last // 6))
    ticks = [
        element("span", f"{moments.steps[at]:,}", style=f"left:{100 * at / last:.2f}%")
        for at in sorted({*range(0, last - every // 2, every), last})
    ]
    return {
        "curve": "".join(lines),
        "height": height if low != top else f"{words[0].strip()} {top}",
        "down": round(100 - 100 * float(np.nan_to_num(heights[last])), 2),
        "last": last,
        "plain": moments.steps[last],
        "ticks": join(*ticks),
        "unit": "training steps" + (", closer together at the beginning" if uneven else ""),
    }


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
    chances, names = probabilities(outputs, about), names_of(about)
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
    trained = (about.get("probe") or {}).get("of") == "train"
    which = "examples of the training data" if trained else "examples it never trained on"
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
    if filters.ndim == 5:  # the mean over channels
        filters = filters.mean(-1)
    small = min(high, wide) >= 24
    if small:  # what is looked at so small loses nothing by half the resolution
        high, wide = high // 2, wide // 2
        filters = filters[:, :, : 2 * high, : 2 * wide]
        filters = filters.reshape(*filters.shape[:2], high, 2, wide, 2).mean((3, 5))
    count = max(1, min(every, FILTERS, PIXELS // filters[:, 0].size))
    count -= count % 8 if 8 < count < every else 0
    filters = filters[:, :count]
    scale = float(np.nanpercentile(np.abs(filters), SATURATED)) if filters.size else 1.0
    size = " Each is the mean of four pixels of an input." if small else None
    return filled("filters.html", count=count, size=size), levels(filters, scale)
