"""A network as blocks: one for each part, with what it is, its output, and the blocks inside.

Equal blocks one after the other are one that is repeated, and what is a matter of computing, such
as `remat`, is a word beside its block.

>>> import jax.numpy as jnp
>>> from jaxnn.layers import linear
>>> from jaxnn.network import residual, serial
>>> network = serial(("a", residual(linear(4))), ("b", residual(linear(4))))
>>> block = blocks_of(network, jnp.ones((1, 4)), {"": (1, 4), "a": (1, 4), "b": (1, 4)})[1]
>>> block.name, block.kind, block.times
('a to b', 'residual', 2)
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.calls import join
from jaxnn.network import Network
from jaxnn.pictures.scheme import words
from jaxnn.typing import Any


class Block(NamedTuple):
    """A part of a network.

    Attributes:
      name: of the part; of a repeated one, of the first and last.
      kind: what it is, such as `"conv"`; `"serial"` for blocks one after the other, `"residual"`
        for a branch and a shortcut that are summed, `"parallel"` for branches on the same inputs,
        `"network"` for parts of which it is not known how they are joined.
      detail: its settings in words: `"3×3, 32 channels"`.
      output: the shape of its output, or a pytree of shapes; `None` if it is not known.
      times: how often it is there, one after the other.
      blocks: what is inside.
    """

    name: str
    kind: str
    detail: str = ""
    output: Any = None
    times: int = 1
    blocks: tuple["Block", ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return self._asdict() | {
            "output": jax.tree.map(list, self.output, is_leaf=_is_shape),
            "blocks": [block.as_json() for block in self.blocks],
        }

    @staticmethod
    def of_json(told: dict[str, Any]) -> "Block":
        """Returns the block that `as_json` has told."""
        inside = tuple(map(Block.of_json, told["blocks"]))
        return Block(**{**told, "output": _as_shapes(told["output"]), "blocks": inside})


def blocks_of(network: Network, inputs: Any, outputs: dict[str, Any]) -> tuple[Block, ...]:
    """Returns the blocks of a network, from what goes in.

    Args:
      network: any network.
      inputs: arrays, or `jax.ShapeDtypeStruct`s, with the batch in front.
      outputs: the shapes of the outputs of its parts, by path.
    """
    shape = jax.tree.map(lambda x: tuple(jnp.shape(x)), inputs)
    whole = _block("", network, "", outputs)
    inside = whole.blocks if whole.kind == "serial" and whole.times == 1 else (whole,)
    return Block("input", "input", output=shape), *inside


def _block(name: str, network: Network, path: str, outputs: dict[str, Any]) -> Block:
    kind, settings, children, times, flow = network.parts
    output = outputs.get(path)
    detail = _detail(kind, dict(settings), output)
    called = all(join(path, child_name) in outputs for child_name, _ in children)
    if flow == "layer" or not (children and called):  # people know a layer as one thing
        return Block(name, kind, detail, output)
    inside = tuple(
        _block(child_name, child, join(path, child_name), outputs) for child_name, child in children
    )
    if len(children) == 1 and not children[0][0]:
        inner = inside[0]._replace(name=name, output=output, times=inside[0].times * times)
        said = "" if kind == "repeat" else words(kind)
        return inner._replace(detail=", ".join(filter(None, (inner.detail, said))))
    if kind == "residual":
        return Block(name, kind, "", output, times, inside)
    if flow == "parallel":
        return Block(name, flow, dict(settings).get("combine", ""), output, times, inside)
    if kind in ("gpt", "tied"):
        # The last product is no part of its own: it has the weights of the first.
        symbols = output[-1] if output else 0
        last = Block("output", "linear", f"{symbols:,} nodes, weights of {inside[0].name}", output)
        return Block(name, "serial", "", output, times, (*_flat(inside), last))
    if kind == "vae":
        latents = output["mean"] if isinstance(output, dict) else None
        drawn = Block("latents", "draw of a normal distribution", "", latents)
        return Block(name, "serial", "", output, times, (inside[0], drawn, *inside[1:]))
    if flow == "serial":
        return Block(name, flow, "", output, times, _repeated(inside))
    return Block(name, "network", kind, output, times, inside)


def _flat(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """Returns blocks with what is merely one after the other in the place of its container."""
    return tuple(
        inner
        for block in blocks
        for inner in (block.blocks if block.kind == "serial" and block.times == 1 else (block,))
    )


def _repeated(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """Returns blocks in which equal ones that follow each other are one."""
    merged: list[Block] = []
    for block in blocks:
        last = merged[-1] if merged else None
        if last and block.blocks and _unnamed(last)._replace(times=block.times) == _unnamed(block):
            name = _range(last.name.split(" to ")[0], block.name)
            merged[-1] = last._replace(name=name, times=last.times + block.times)
        else:
            merged.append(block)
    return tuple(merged)


def _range(first: str, last: str) -> str:
    """Returns a name for all from the first to the last: `block_1 to 4`."""
    stem, end = last.rstrip("0123456789"), last[len(last.rstrip("0123456789")) :]
    alike = end and first.rstrip("0123456789") == stem != first
    return f"{first} to {end if alike else last}"


def _unnamed(block: Block) -> Block:
    return block._replace(name="")


def _detail(kind: str, settings: dict[str, Any], output: Any) -> str:
    """Returns the settings of a part in words."""
    space = len(output) - 2 if _is_shape(output) else 1
    if "window" in settings and kind != "attention":
        sizes = settings["window"]
        sizes = (sizes,) * max(space, 1) if isinstance(sizes, int) else sizes
        window = "×".join(map(str, sizes))
        channels = settings.get("features")
        return f"{window}, {channels} channels" if channels else window
    match kind:
        case "linear":
            return f"{settings['features']:,} node{'s' * (settings['features'] != 1)}"
        case "activation":
            return settings["function"]
        case "dropout" | "stochastic_depth":
            rate = settings.get("rate")
            return f"rate {rate:.3g}" if isinstance(rate, int | float) else ""
        case "attention":
            heads = settings["heads"]
            groups = settings.get("kv_heads", heads)
            said = [f"{heads} heads", "causal" if settings.get("causal") else ""]
            said.append(f"{groups} of keys" if groups != heads else "")
            said.append(f"window {settings['window']}" if settings.get("window") else "")
            return ", ".join(filter(None, said))
        case "gru" | "lstm":
            return f"{settings['features']} unit{'s' * (settings['features'] != 1)}"
        case "embedding":
            return f"{settings['symbols']:,} rows"
        case "positions":
            return f"up to {settings['length']:,}"
        case "standardize" | "batch_norm" | "layer_norm" | "rms_norm" | "tied":
            return ""
    return ", ".join(f"{words(name)} {value}" for name, value in settings.items())


def _is_shape(output: Any) -> bool:
    return isinstance(output, tuple) and all(isinstance(size, int) for size in output)


def _as_shapes(told: Any) -> Any:
    if isinstance(told, list):
        return tuple(map(_as_shapes, told))
    if isinstance(told, dict):
        return {name: _as_shapes(inner) for name, inner in told.items()}
    return told
