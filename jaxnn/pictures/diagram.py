"""Computes what to draw of a network, from its description and its shapes alone.

A chain of linear layers is drawn as columns of nodes with a wire for each weight. For a wide layer,
only some nodes are shown, and the figure says how many are not. Any other network is drawn as
blocks. A diagram holds no parameters: `wires` reads them by plain indexing, so it also works on
traced parameters inside a training program.

>>> import jax, jax.numpy as jnp
>>> from jaxnn.models import mlp
>>> network = mlp([3], 2)
>>> drawn = diagram(network, jnp.ones((1, 20)))
>>> [(layer.name, layer.width, layer.activation) for layer in drawn.layers]
[('input', 20, ''), ('hidden_1', 3, 'relu'), ('output', 2, '')]
>>> drawn.layers[0].shown
(0, 1, 2, 3, 4, 5, 14, 15, 16, 17, 18, 19)
>>> params, _ = network.init(jax.random.key(0), jnp.ones((1, 20)))
>>> jax.tree.map(jnp.shape, wires(drawn, params))
{'hidden_1/weight': (12, 3), 'output/weight': (3, 2)}
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.calls import intercept, join
from jaxnn.checks import Invalid, InvalidValue, kind
from jaxnn.formatting import first_line
from jaxnn.names import listing, named_leaves
from jaxnn.network import Network, Parts, output_shape
from jaxnn.pictures.arguments import leaf_of
from jaxnn.pictures.outline import Part, listed, outline
from jaxnn.pictures.scheme import words
from jaxnn.typing import Any, Params

ALL, SOME = 16, 6  # layers of up to ALL nodes are shown in full, and others by SOME at either end
DEEPEST = 6  # the largest number of columns of nodes, including the inputs


class Layer(NamedTuple):
    """A column of nodes in a diagram."""

    name: str  # of the part, or "input"
    width: int  # the number of nodes
    shown: tuple[int, ...]  # the indices of the nodes that are drawn, ascending
    leaf: str = ""  # the name of the weights [in, out]; the biases have the same path, with `bias`
    activation: str = ""  # the layers after the weighted sums, in words


class Diagram(NamedTuple):
    """A network from its inputs to its outputs, as columns of nodes or as an outline of parts."""

    layers: tuple[Layer, ...]
    outline: tuple[Part, ...]
    why: str = ""  # why it is drawn as blocks, as a sentence


def diagram(network: Network, inputs: Any, arrays: tuple[Any, Any] | None = None) -> Diagram:
    """Returns what to draw of a network, without computing anything.

    Args:
      network: a network.
      inputs: arrays or `jax.ShapeDtypeStruct`s with a leading batch axis.
      arrays: the parameters and the state of the network, or their shapes, if available.

    Raises:
      InvalidType: if `network` is not a `Network`.
      InvalidValue: if the network does not accept such inputs.
    """
    kind("diagram", "network", network, Network, fix="Pass a network, such as mlp([64], 10)")
    params, calls = _calls(network, inputs, arrays)
    layers, why = _layers(network, params, calls, inputs)
    shapes = {path: call.output for path, call in calls.items()}
    network = _with_called(network, calls)
    return Diagram(layers, () if layers else outline(network, inputs, shapes), why)


def wires(diagram: Diagram, params: Params) -> dict[str, Any]:
    """Returns the weights between the nodes that are shown, `{leaf: [before, shown]}`.

    Raises:
      InvalidValue: if the parameters, which may be traced, do not belong to the network.
    """
    leaves = named_leaves(params)
    values = {}
    for before, layer in zip(diagram.layers, diagram.layers[1:]):
        shape = before.width, layer.width
        weight = leaf_of("wires", "parameters", leaves, layer.leaf, shape)
        values[layer.leaf] = weight[_places(before)[:, None], _places(layer)[None]]
    return values


def biases(diagram: Diagram, params: Params) -> dict[str, Any]:
    """Returns the biases of the nodes that are shown, by the `leaf` of each layer with biases.

    Raises:
      InvalidValue: as for `wires`.
    """
    leaves, values = named_leaves(params), {}
    for layer in diagram.layers[1:]:
        if (name := layer.leaf.removesuffix("weight") + "bias") in leaves:
            bias = leaf_of("biases", "parameters", leaves, name, (layer.width,))
            values[layer.leaf] = bias[_places(layer)]
    return values


def _places(layer: Layer) -> np.ndarray:
    """Returns the nodes that are shown as unsigned indices: JAX need not handle negative ones."""
    return np.array(layer.shown, np.uint32)


def to_json(diagram: Diagram) -> dict[str, Any]:
    """Returns a diagram as a dict that can be stored as JSON."""
    return {
        "layers": [layer._asdict() for layer in diagram.layers],
        "outline": [part.to_json() for part in diagram.outline],
        "why": diagram.why,
    }


def from_json(content: dict[str, Any]) -> Diagram:
    """Returns the diagram that `to_json` stored."""
    layers = (Layer(**{**layer, "shown": tuple(layer["shown"])}) for layer in content["layers"])
    return Diagram(tuple(layers), tuple(map(Part.from_json, content["outline"])), content["why"])


class _Call(NamedTuple):
    """A record of the call of a part."""

    parts: Parts
    output: Any  # the shape of its output, or a pytree of shapes
    # Whether the part may stand between two layers of nodes (it is described, has no weight matrix,
    # and has as many outputs as inputs); and whether it does more than reshape its inputs.
    between: bool
    computes: bool


def _calls(
    network: Network, inputs: Any, arrays: tuple[Any, Any] | None
) -> tuple[Any, dict[str, _Call]]:
    """Returns the shapes of the parameters, and the parts that the network calls, by path."""
    calls: dict[str, _Call] = {}

    def record(path: str, part: Network) -> Network:
        def apply(params, state, inputs, *, key=None):
            outputs, after = part.apply(params, state, inputs, key=key)
            described = part.parts != Parts() and not part.parts.children
            is_layer = described and all(x.ndim < 2 for x in jax.tree.leaves(params))
            sizes = (sum(x.size for x in jax.tree.leaves(tree)) for tree in (inputs, outputs))
            between = is_layer and next(sizes) == next(sizes)
            program = between and jax.make_jaxpr(part.apply)(params, state, inputs)
            calls[path] = _Call(
                part.parts,
                jax.tree.map(lambda x: tuple(x.shape), outputs),
                between,
                bool(program) and any(e.primitive.name not in _RESHAPING for e in program.eqns),
            )
            return outputs, after

        return part._replace(apply=apply)

    try:
        params, state = arrays or jax.eval_shape(network.init, jax.random.key(0), inputs)
        output_shape(intercept(network, record), params, state, inputs)
    except Invalid:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        shapes = jax.tree.map(np.shape, inputs)
        raise InvalidValue(
            "diagram",
            "the network does not accept these inputs",
            got=f"inputs of shape {shapes} ({first_line(error).rstrip('.')})",
            expected="what it is trained on, with the batch in front",
            fix="Pass a batch, such as data['inputs'][:1]",
        ) from error
    return params, calls


def _with_called(network: Network, calls: dict[str, _Call], path: str = "") -> Network:
    """Adds to a description the parts that are known by their calls only, as of a Flax model."""
    parts, below = network.parts, f"{path}/".lstrip("/")
    names = {name for name, _ in parts.children}
    children = tuple((name, _with_called(x, calls, join(path, name))) for name, x in parts.children)
    if parts.flow == "called":
        called = [each for each in calls if each.startswith(below) and each != path]
        inside = [x for x in called if not any(x.startswith(f"{each}/") for each in called)]
        parts_of = ((x.removeprefix(below), calls[x].parts._replace(flow="called")) for x in inside)
        children += tuple(
            (name, _with_called(network._replace(parts=own), calls, join(path, name)))
            for name, own in parts_of
            if name not in names
        )
    return network._replace(parts=parts._replace(children=children))


_RESHAPING = ("reshape", "broadcast_in_dim", "expand_dims", "squeeze")


def _layers(network: Network, params: Any, calls: dict[str, _Call], inputs: Any) -> tuple[Any, str]:
    """Returns the layers of a chain and `""`, or `()` and why the network is not a chain."""
    parts = list(_in_a_row(network))
    if any(path not in calls for path, _ in parts):
        return (), "Drawn as blocks: it does not call the parts in its description."
    linears = [path for path, part in parts if part.parts.kind == "linear"]
    others = [
        part.parts.kind for path, part in parts if path not in linears and not calls[path].between
    ]
    if any(part.parts.flow == "called" for _, part in parts):
        return (), "Drawn as blocks: the submodules of a model of another library."
    if not linears and len(parts) == 1 and not parts[0][1].parts.children:
        return (), f"{others[0] if others else 'It'} does not describe its parts."
    if others:
        inner = dict.fromkeys(kind for path, part in parts for kind in _unusual(path, part, calls))
        kinds = listing(map(words, inner), 4)
        return (), f"Drawn as blocks: it is more than a chain of linear layers ({kinds})."
    if not linears:
        return (), "Drawn as blocks: it has no linear layers."
    if any(len(calls[path].output) != 2 for path in linears):
        return (), "Drawn as blocks: its nodes compute at many places of each example."
    if len(linears) >= DEEPEST:
        return (), f"Drawn as blocks: {len(linears)} layers are too many columns of nodes."
    leaves = named_leaves(params)
    weights = [join(path, "weight") for path in linears]
    missing = [leaf for leaf in weights if leaf not in leaves]
    if missing:
        return (), f"Drawn as blocks: {missing[0]} is not among its parameters."
    width = leaves[weights[0]].shape[0]
    layers = [Layer("input", width, _shown(width, jnp.shape(inputs)[1:]))]
    for path, part in parts:
        if part.parts.kind == "linear":
            leaf = join(path, "weight")
            width = leaves[leaf].shape[1]
            name = _name(path, len(layers), len(linears))
            layers.append(Layer(name, width, _shown(width), leaf))
        elif calls[path].computes:
            function = dict(part.parts.settings).get("function", words(part.parts.kind))
            layers[-1] = layers[-1]._replace(activation=listed(layers[-1].activation, function))
    return tuple(layers), ""


def _in_a_row(network: Network, path: str = "") -> Iterator[tuple[str, Network]]:
    """Yields the parts that a network calls one after the other, with their paths."""
    _, _, children, times, flow = network.parts
    is_transform = len(children) == 1 and not children[0][0] and times == 1
    if flow == "serial" or is_transform:
        for name, child in children:
            yield from _in_a_row(child, join(path, name))
    else:
        yield path, network


def _unusual(path: str, part: Network, calls: dict[str, _Call]) -> list[str]:
    """Returns the kinds of parts that make a network more than a chain of layers."""
    kind, _, children, _, flow = part.parts
    if kind == "linear" or path not in calls or calls[path].between:
        return []
    if flow == "layer" or not children:
        return [kind]
    inner = [each for name, c in children for each in _unusual(join(path, name), c, calls)]
    if flow == "serial":
        return inner
    return [kind, *inner] if flow == "parallel" else inner or [kind]


def _name(path: str, number: int, count: int) -> str:
    """Returns the name of a layer; a layer without a name of its own is named by its number."""
    name = path.rsplit("/", 1)[-1]
    if name and not name.isdigit():
        return name
    return "output" if number == count else f"layer_{number}"


def _shown(width: int, shape: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Returns the nodes that are shown; for an image, pixels from the middle of the middle row."""
    if width <= ALL:
        return tuple(range(width))
    if len(shape) in (2, 3) and min(shape[:2]) > 4 and math.prod(shape) == width:
        channels = width // (shape[0] * shape[1])
        wide = min(shape[1], 2 * SOME)
        first = (shape[0] // 2) * shape[1] + (shape[1] - wide) // 2
        return tuple(pixel * channels for pixel in range(first, first + wide))
    return (*range(SOME), *range(width - SOME, width))
