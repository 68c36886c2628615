"""The training timeline: a slider over the recorded steps of training.

The data for the page's script are in one block of JSON: for each recorded step, the predictions for
some examples and the weights to draw, in a compact form (`packed`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnn.formatting import count
from jaxnn.markup import Markup, block, element, folded, join
from jaxnn.pictures.scheme import MARK, SIGNED
from jaxnn.report.decision import decision
from jaxnn.report.examples import cards, has_bars, names_of, probabilities
from jaxnn.report.headline import confusion, leading, observed, token
from jaxnn.report.network import wiring
from jaxnn.report.packed import levels, shares, stacked
from jaxnn.report.phrases import display_name, examples_of, figure, is_share, sure, value_of
from jaxnn.report.sections import filled, section
from jaxnn.report.source import Source
from jaxnn.storage.recording import Frame, Recording

EXAMPLES = 12
PIXELS = 250_000  # maximum number for all filters at all steps, which limits the page size
FILTERS = 32
LETTERS = 80  # number of characters shown at the end of a prompt
SATURATED = 99.0  # percentile of absolute weights that has the full colour


class Moments(NamedTuple):
    """The recorded steps, with the headline metric; NaN where it is not finite.

    `second` is the secondary metric, if there is one, and `seconds` has its values as text. `best`
    is the index of the best state among the steps, or of the last one if no metric is watched.
    """

    steps: list[int]
    name: str
    values: np.ndarray
    second: str
    seconds: list[str] | None
    best: int

    @property
    def last(self) -> int:
        """The index of the last state."""
        return len(self.steps) - 1

    @property
    def ends(self) -> tuple[float, float]:
        """The values at the bottom and top of the chart."""
        finite = self.values[np.isfinite(self.values)]
        if is_share(self.name) or not len(finite):
            return 0.0, 1.0
        low, high = float(finite.min()), float(finite.max())
        return 0.0 if 0 <= low < high / 2 else low, high

    @property
    def heights(self) -> np.ndarray:
        """The height of each value in the chart, from 0 to 1."""
        low, high = self.ends
        heights = (self.values - low) / ((high - low) or 1.0)
        return np.clip(heights, 0, 1) if is_share(self.name) else heights

    @property
    def states(self) -> list[str]:
        """A description of the state at each step, if it is the first, best or last one."""
        words = {self.best: "the best state: the result", self.last: "the last state"}
        words = words if self.best != self.last else {}
        return [words.get(place, "") for place in range(len(self.steps))]


@section("learning", "Watch it learn")
def learning(source: Source) -> Markup | None:
    """Move the slider through the training, or press play: everything here is as it was then."""
    moments, recorded = _moments(source), source.recorded
    if moments is None:
        return None
    frames, at = recorded.frames, moments.best
    shown, wires = _examples(recorded, at), wiring(recorded, at)
    filters, surface = _filters(frames), decision(recorded)
    row = source.rows[-1] if source.rows else {}
    epochs = None
    if row.get("step") and isinstance(row.get("epoch"), int | float) and row["epoch"] >= 0.1:
        epochs = [round(step * row["epoch"] / row["step"], 2) for step in moments.steps]
    payload = {
        "steps": moments.steps,
        "epochs": epochs,
        "states": moments.states,
        "share": is_share(moments.name),
        "figures": [figure(moments.name, float(value)) for value in moments.values],
        "values": [float(v) if np.isfinite(v) else None for v in moments.values],
        "heights": [round(h, 4) if np.isfinite(h) else None for h in moments.heights],
        "seconds": moments.seconds,
        "colours": [*SIGNED, MARK],
        "examples": shown and shown[1],
        "wires": wires and wires[1],
        "filters": filters and filters[1],
        "surface": surface and surface[1],
    }
    pictures = [each[0] for each in (wires, filters, surface) if each]
    return join(
        filled("learning.html", **_panel(source, moments, epochs), **_chart(moments)),
        _written(recorded, at),
        element("div", *pictures, class_=f"inner of-{len(pictures)}") if pictures else None,
        shown and shown[0],
        block(payload, "recorded"),
    )


def _moments(source: Source) -> Moments | None:
    """Returns the recorded steps with the headline metric."""
    frames = source.recorded.frames
    names = {name for frame in frames for name in frame.arrays if name.startswith("metrics/")}
    first, second = leading([name.removeprefix("metrics/") for name in names])
    values = stacked(frames, f"metrics/{first}")
    if len(frames) < 2 or values is None or values.ndim != 1:
        return None
    steps, best = [frame.step for frame in frames], source.best_step
    others = stacked(frames, f"metrics/{second}") if second else None
    seconds = None if others is None else [figure(second, float(each)) for each in others]
    place = steps.index(best) if best in steps else len(steps) - 1
    return Moments(steps, first, values, second, seconds, place)


def _panel(source: Source, moments: Moments, epochs: list[float] | None) -> dict[str, Any]:
    """Returns the panel above the slider, with the step and its metrics."""
    about, counts, at = source.recorded.about, confusion(source.recorded), moments.best
    probe, part = about.get("probe") or {}, observed(source.recorded)
    count, held_out = probe.get("count"), part != "train"
    # The number of examples in the results below.
    whole = probe.get("all") or 0 if counts is None else int(counts.sum())
    is_sample = held_out and isinstance(count, int) and count < whole
    what = display_name(moments.name)
    what = "right" if moments.name == "accuracy" and about.get("classes") else what
    if isinstance(count, int):
        what += f" of {'a sample of ' * is_sample}{count:,} {examples_of(part)}"
    notes = []
    if is_sample:
        notes.append("The results further down are of more of them, so they differ a little.")
    elif not held_out:
        notes.append(
            "As it is right after the step: the curves further down, and the results, are means"
            " over the steps since the report before."
        )
    if at != moments.last:
        notes.append(
            f"The result is the best state, of step {moments.steps[at]:,}, marked by a ring; the"
            f" slider ends at the last one, of step {moments.steps[-1]:,}."
        )
    seconds, second = moments.seconds, display_name(moments.second)
    if moments.second == "bits_per_byte":
        second = f"bits per {token(source.recorded)}"
    epoch = epochs and element("span", f"{epochs[at]:.1f}", id="at-epoch")
    passes = epoch and element("p", epoch, " passes over the data", class_="pass")
    state = any(moments.states) and element("p", moments.states[at], id="at-state", class_="pass")
    return {
        "step": f"{moments.steps[at]:,}",
        "planned": f"{source.steps or moments.steps[-1]:,}",
        "passes": join(passes or None, state or None),
        "value": value_of(moments.name, float(moments.values[at])),
        "what": what,
        "second": seconds
        and element("p", f"{second} ", element("span", seconds[at], id="at-second"), class_="pass"),
        "note": element("p", " ".join(notes), class_="pass wholly") if notes else None,
    }


def _chart(moments: Moments) -> dict[str, Any]:
    """Returns the curve of the metric with marks, and the slider."""
    last, heights, at = moments.last, moments.heights, moments.best
    lines, pen = [], "M"
    for x, y in zip(np.linspace(0, 1000, last + 1), heights):
        if np.isfinite(y):
            lines.append(f"{pen}{x:.0f} {100 - 100 * y:.1f}h0")  # an isolated point is a dot
        pen = "L" if np.isfinite(y) else "M"
    low, top = (figure(moments.name, end) for end in moments.ends)
    name = display_name(moments.name)
    words = ("", " right") if moments.name == "accuracy" else (f" {name}", "")
    height = f"Upwards:{words[0]} from {low} to {top}{words[1]}"
    apart = np.diff([step for place, step in enumerate(moments.steps) if place != at or at == last])
    uneven = max(apart, default=0) > 2 * min(apart, default=0)
    every = max(1, -(-last // 6))
    ticks = [
        element("span", f"{moments.steps[place]:,}", style=f"left:{100 * place / last:.2f}%")
        for place in sorted({*range(0, last - every // 2, every), last})
    ]
    down = round(100 - 100 * float(np.nan_to_num(heights[at])), 2)
    place = f"left:{100 * at / last:.2f}%;top:{down}%"
    return {
        "curve": "".join(lines),
        "height": height if low != top else f"{words[0].strip()} {top}",
        "place": place,
        "best": element("i", class_="best", style=place) if at != last else None,
        "last": last,
        "at": at,
        "plain": moments.steps[at],
        "ticks": join(*ticks),
        "unit": "training steps" + (", closer together at the beginning" if uneven else ""),
    }


def _written(recorded: Recording, at: int) -> Markup | None:
    """Returns the text of a language model at one step, and collapsed at all steps."""
    frames = [frame for frame in recorded.frames if "text" in frame.arrays]
    begins = recorded.probe.get("text")
    if begins is None or len(frames) != len(recorded.frames) or begins.dtype.kind != "U":
        return None
    begins = [str(each)[-LETTERS:] for each in begins.ravel()]

    def texts(frame):
        for begin, text in zip(begins, frame.arrays["text"].ravel()):
            own = element("span", str(text), class_="own")
            yield element("p", element("span", begin, class_="given"), own, class_="text")

    of, each = examples_of(observed(recorded)), token(recorded)
    lead = (
        f"It continues the grey beginnings, which are of the {of}: each next {each} is drawn from"
        " the probabilities that the network gives. The luck of the draw is the same at every"
        " moment, so what differs was learned."
    )
    moments = [
        element("li", element("h4", f"After {count(frame.step, 'step')}"), *texts(frame))
        for frame in frames
    ]
    return element(
        "div",
        element("h3", "Generated text"),
        element("p", lead),
        element("div", *texts(frames[at]), id="written"),
        folded("At every moment", element("ol", *moments, id="texts")),
        class_="written",
    )


def _examples(recorded: Recording, at: int) -> tuple[Markup, dict[str, Any]] | None:
    """Returns some examples, with the predictions at each recorded step."""
    probe, about = recorded.probe, recorded.about
    outputs = stacked(recorded.frames, "outputs")
    inputs = probe.get("rows", probe.get("inputs"))
    if outputs is None or outputs.ndim < 2 or inputs is None or "labels" not in probe:
        return None
    count = min(EXAMPLES, outputs.shape[1], len(inputs), len(probe["labels"]))
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
        payload["chances"] = shares(chances) if has_bars(names) else None
    elif outputs[0, 0].size == 1:
        numbers = outputs.reshape(len(outputs), count)
        payload["numbers"] = [[figure("", float(each)) for each in row] for row in numbers]
    else:
        return None
    drawn = cards(about, inputs[:count], labels, outputs[at], index)
    trained = observed(recorded) == "train"
    which = "training examples" if trained else "held-out examples"
    head = element("h3", f"Predictions for {count} {which}")
    bars = " Each bar is the probability of one class." if payload.get("chances") else ""
    lead = element("p", f"The large word is what the network says at this moment.{bars}")
    return element("div", head, lead, element("div", *drawn, class_="examples live")), payload


def _filters(frames: Sequence[Frame]) -> tuple[Markup, Any] | None:
    """Returns the weights of nodes in the first layer as images, at each recorded step."""
    filters = stacked(frames, "filters")
    if filters is None or filters.ndim not in (4, 5) or 0 in filters.shape:
        return None
    every, (high, wide) = filters.shape[1], filters.shape[2:4]
    if filters.ndim == 5:  # the mean over channels
        filters = filters.mean(-1)
    small = min(high, wide) >= 24
    if small:  # half the resolution is enough, since filters are displayed small
        high, wide = high // 2, wide // 2
        filters = filters[:, :, : 2 * high, : 2 * wide]
        filters = filters.reshape(*filters.shape[:2], high, 2, wide, 2).mean((3, 5))
    count = max(1, min(every, FILTERS, PIXELS // filters[:, 0].size))
    count -= count % 8 if 8 < count < every else 0
    filters = filters[:, :count]
    scale = float(np.nanpercentile(np.abs(filters), SATURATED))
    size = " Each is the mean of four pixels of an input." if small else None
    return filled("filters.html", count=count, size=size), levels(filters, scale)
