"""Outlines of networks: for each part its kind, the shape of its output, and the parts inside.

Equal parts in a row become one part with a count. A part that does little by itself, such as an
activation, is appended to the text of the part before it.

>>> import jax.numpy as jnp
>>> from jaxnn.layers import linear
>>> from jaxnn.network import residual, serial
>>> network = serial(("a", residual(linear(4))), ("b", residual(linear(4))))
>>> part = outline(network, jnp.ones((1, 4)), {})[1]
>>> part.title, part.text, part.times, [inner.text for inner in part.children]
('a to b', 'residual: adds its inputs', 2, ['4 nodes'])
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.calls import join
from jaxnn.formatting import count
from jaxnn.network import Network
from jaxnn.pictures.scheme import COLOURS, FAINT, words
from jaxnn.typing import Any

MINOR = (
    "activation", "batch_norm", "channels", "dropout", "flatten", "group_norm", "identity",
    "layer_norm", "rms_norm", "standardize", "stochastic_depth", "last", "mean_over_space",
    "max_pool", "avg_pool",
)  # fmt: skip
_PLAIN = ("", "body", "branch", "layers")  # names that carry no information
_COLOURS = {
    "linear": COLOURS[7], "conv": COLOURS[2], "depthwise_conv": COLOURS[2],
    "conv_transpose": COLOURS[2], "attention": COLOURS[4], "gru": COLOURS[6], "lstm": COLOURS[6],
    "embedding": COLOURS[3], "positions": COLOURS[3], "draw of a normal distribution": COLOURS[5],
}  # fmt: skip


class Part(NamedTuple):
    """A part of a network, or several equal parts in a row."""

    title: str  # the name, the kind if the name carries no information, or the first and last name
    kind: str
    text: str = ""  # its kind and settings in words: "conv, 3×3, 32 channels, relu"
    output: Any = None  # the shape of the output, or a pytree of shapes, if known
    times: int = 1
    children: tuple["Part", ...] = ()

    @property
    def colour(self) -> str:
        """The colour of the kind of the part."""
        return _COLOURS.get(self.kind, FAINT)

    @property
    def shape(self) -> str:
        """The shape of the output for one example, as text."""
        if self.output is None:
            return ""
        return "×".join(map(str, self.output[1:])) or "1" if _is_shape(self.output) else "several"

    def to_json(self) -> dict[str, Any]:
        """Returns the part as a dict that can be stored as JSON."""
        return self._asdict() | {"children": [child.to_json() for child in self.children]}

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Part":
        """Returns the part that `to_json` stored."""
        children = tuple(map(Part.from_json, content["children"]))
        return Part(**{**content, "output": _shapes(content["output"]), "children": children})


def outline(network: Network, inputs: Any, outputs: dict[str, Any]) -> tuple[Part, ...]:
    """Returns the parts of a network in the order of computation; the first part is the input.

    Args:
      network: a network.
      inputs: arrays or `jax.ShapeDtypeStruct`s with a leading batch axis.
      outputs: the output shapes of the parts that the network calls, by path; empty if unknown.
    """
    shape = jax.tree.map(lambda x: tuple(jnp.shape(x)), inputs)
    whole = _part("", network, "", outputs)
    inside = whole.children if whole.kind == "serial" and whole.times == 1 else (whole,)
    return Part("input", "input", output=shape), *inside


def summary(part: Part) -> str:
    """Returns the number of parts of each kind inside a part, as text.

    >>> summary(Part("b", "serial", children=(Part("0", "conv", times=2), Part("1", "linear"))))
    '2 conv, linear'
    """
    times: Counter[str] = Counter()
    for leaf, number in _leaves(part):
        times[words(leaf.kind)] += number
    return ", ".join(f"{number} {kind}" if number > 1 else kind for kind, number in times.items())


def _leaves(part: Part) -> Iterator[tuple[Part, int]]:
    for child in part.children:
        for leaf, times in _leaves(child) if child.children else [(child, 1)]:
            if leaf.kind not in MINOR:
                yield leaf, times * child.times


def _part(name: str, network: Network, path: str, outputs: dict[str, Any]) -> Part:
    parts, output = network.parts, outputs.get(path)
    kind, settings, children = parts.kind, dict(parts.settings), parts.children
    is_called = not outputs or all(join(path, child_name) in outputs for child_name, _ in children)
    if parts.flow == "layer" or not (children and is_called):
        return _titled(Part(name, kind, _settings(kind, settings, output), output))
    inside = tuple(
        _part(child_name, child, join(path, child_name), outputs) for child_name, child in children
    )
    if len(children) == 1 and not children[0][0]:
        (inner,) = inside
        text = listed(inner.text, "" if kind == "repeat" else words(kind))
        title = inner.title if name.isdigit() or not name else words(name)
        return inner._replace(
            title=title, text=text, output=output, times=inner.times * parts.times
        )
    text = listed(words(kind), _settings(kind, settings, output))
    part = Part(name, kind, text, output, parts.times, inside)
    if kind == "residual":
        branch, shortcut = inside
        by = "" if shortcut.kind == "identity" else f", by {_line(shortcut)}"
        inside = branch.children if branch.kind == "serial" else (branch,)
        part = part._replace(text=f"residual: adds its inputs{by}", children=inside)
    elif parts.flow == "parallel":
        part = part._replace(text=f"{len(inside)} branches with the same inputs")
    elif kind == "vae":
        latents = output["mean"] if isinstance(output, dict) else None
        drawn = "draw of a normal distribution"
        draw = Part("latents", drawn, drawn, latents)
        part = part._replace(kind="serial", text="", children=(inside[0], draw, *inside[1:]))
    elif parts.flow in ("serial", "called"):
        text = "" if parts.flow == "serial" else text
        part = part._replace(kind="serial", text=text, children=_merged(inside))
    return _titled(part)


def _titled(part: Part) -> Part:
    """Returns a part with its name as the title, or its kind if the name is plain."""
    kind, name = words(part.kind), words(part.title)
    if part.children:
        return part._replace(title=name)
    if _is_plain(name) or name.startswith(kind):
        return part._replace(title=kind if _is_plain(name) else name)
    return part._replace(title=name, text=listed(kind, part.text))


def _merged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Merges minor parts and repeats in a row of parts, and unpacks containers with plain names."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if part.kind in ("channels", "identity") and len(parts) > 1:
            continue  # these only reshape an array
        if part.kind == "serial" and part.times == 1 and _is_plain(part.title):
            merged += part.children
        elif part.kind in MINOR and last and not last.children:
            text = listed(last.text, _minor(part))
            merged[-1] = last._replace(text=text, output=part.output)
        elif last and part.children and last == part._replace(title=last.title, times=last.times):
            title = _range(last.title.split(" to ")[0], part.title)
            merged[-1] = last._replace(title=title, times=last.times + part.times)
        else:
            merged.append(part)
    return tuple(merged)


def _is_plain(name: str) -> bool:
    return name.isdigit() or name in _PLAIN


def listed(*texts: str) -> str:
    """Joins the texts that are not empty with commas."""
    return ", ".join(filter(None, texts))


def _range(first: str, last: str) -> str:
    """Returns a name for the range from the first to the last name, such as `block 1 to 4`."""
    stem = last.rstrip("0123456789")
    alike = stem != last and first.rstrip("0123456789") == stem != first
    return f"{first} to {last[len(stem) :] if alike else last}"


def _minor(part: Part) -> str:
    """Returns the text for a minor part, which is empty if the part has no effect."""
    match part.kind:
        case "activation":
            return part.text.removeprefix("activation, ")
        case "dropout" | "stochastic_depth" if part.text.endswith("rate 0"):
            return ""
        case "last":
            return "last step"
    return f"{words(part.kind)} {part.text.removeprefix(words(part.kind)).strip(', ')}".strip()


def _line(part: Part) -> str:
    """Returns a description of a small part in one line."""
    if part.children:
        return ", ".join(map(_line, part.children))
    kind = words(part.kind)
    return part.text if part.text.startswith(kind) else f"{kind} {part.text}".strip()


def _settings(kind: str, settings: dict[str, Any], output: Any) -> str:
    """Returns the settings of a part as text."""
    if "window" in settings and kind != "attention":
        sizes = settings["window"]
        space = len(output) - 2 if _is_shape(output) else 1
        sizes = (sizes,) * max(space, 1) if isinstance(sizes, int) else sizes
        window = "×".join(map(str, sizes))
        channels = settings.get("features")
        return listed(window, count(channels, "channel") if channels else "")
    match kind:
        case "linear":
            shared = f"weights of {settings['weights_of']}" if "weights_of" in settings else ""
            return listed(count(settings["features"], "node"), shared)
        case "activation":
            return settings["function"]
        case "dropout" | "stochastic_depth":
            rate = settings.get("rate")
            return f"rate {rate:.3g}" if isinstance(rate, int | float) else ""
        case "attention":
            heads, groups = settings["heads"], settings.get("kv_heads", settings["heads"])
            return listed(
                count(heads, "head"),
                "causal" if settings.get("causal") else "",
                f"{groups} of keys" if groups != heads else "",
                f"window {settings['window']}" if settings.get("window") else "",
            )
        case "gru" | "lstm":
            return count(settings["features"], "unit")
        case "embedding":
            return count(settings["symbols"], "row")
        case "positions":
            return f"up to {settings['length']:,}"
        case "standardize" | "batch_norm" | "layer_norm" | "rms_norm":
            return ""
    return ", ".join(f"{words(name)} {value}" for name, value in settings.items())


def _is_shape(output: Any) -> bool:
    return isinstance(output, tuple) and all(isinstance(size, int) for size in output)


def _shapes(content: Any) -> Any:
    """Converts the lists in shapes that were stored as JSON to tuples."""
    if isinstance(content, list):
        return tuple(map(_shapes, content))
    if isinstance(content, dict):
        return {name: _shapes(inner) for name, inner in content.items()}
    return content
