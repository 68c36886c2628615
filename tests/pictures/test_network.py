"""The picture of a network: wires are the weights, blocks the parts, and both are legible."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from matplotlib.colors import to_hex

import jaxnn
from jaxnn import InvalidType, InvalidValue
from jaxnn.network import describe, stateless
from jaxnn.pictures._network import colour_and_width, draw, drawn_order, network
from jaxnn.pictures.diagram import biases, diagram, from_json, to_json, wires
from jaxnn.pictures.scheme import MARK, SIGNED, WIDTH, svg
from tests.figures import by_gid, legible, same, texts
from tests.mistakes import judge

IMAGES = jax.ShapeDtypeStruct((1, 8, 8), jnp.uint8)
DIGITS = jaxnn.serial(
    ("pixels", jaxnn.standardize(4.88, 6.02)), ("layers", jaxnn.mlp([64, 20], 10, dropout=0.1))
)
XOR = jaxnn.mlp([3], 1, activation=jnp.tanh)
VAE = jaxnn.vae(jaxnn.mlp([8], 4), jaxnn.mlp([8], 64))
TOKENS = jax.ShapeDtypeStruct((2, 16), jnp.int32)
PAIR = jax.ShapeDtypeStruct((1, 2), jnp.float32)
ROW = jax.ShapeDtypeStruct((1, 8), jnp.float32)


def params_of(network, inputs, seed=0):
    """Parameters that are the same with every version of JAX."""
    random = np.random.default_rng(seed)
    shapes, _ = jax.eval_shape(network.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), shapes)


def drawn_wires(figure, layer, weight):
    """Returns the colours, widths and ends of a layer's wires, `[from, to, ...]` each."""
    group = by_gid(figure, "wires:")[f"wires:{layer}"]
    places = np.argsort(drawn_order(np.asarray(weight)))
    colours = np.array([to_hex(colour) for colour in group.get_edgecolors()])
    ends = np.array(group.get_segments())
    arrays = (colours[places], np.asarray(group.get_linewidths())[places], ends[places])
    return [array.reshape(*np.shape(weight), *array.shape[1:]) for array in arrays]


def drawn_nodes(figure, layer):
    """Returns the centres, fills and edges of a layer's nodes."""
    group = by_gid(figure, "nodes:")[f"nodes:{layer}"]
    boxes = [path.get_extents() for path in group.get_paths()]
    centres = [((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for box in boxes]
    return np.array(centres), *(
        [to_hex(c) for c in of] for of in (group.get_facecolors(), group.get_edgecolors())
    )


def test_the_layers_are_those_of_the_network():
    plan = diagram(DIGITS, IMAGES)
    assert [layer[:2] + layer[3:] for layer in plan.layers] == [
        ("input", 64, "", "standardize"),
        ("hidden_1", 64, "layers/hidden_1/weight", "relu"),
        ("hidden_2", 20, "layers/hidden_2/weight", "relu"),
        ("output", 10, "layers/output/weight", ""),
    ]
    # Of an image its middle, where something is; of nodes the first and the last.
    assert plan.layers[0].shown == tuple(range(32, 40))
    assert plan.layers[1].shown == (0, 1, 2, 3, 4, 5, 58, 59, 60, 61, 62, 63)
    assert plan.layers[3].shown == tuple(range(10))
    assert plan.outline == () and plan.why == ""


@pytest.mark.parametrize("shape, first", [((28, 28), 400), ((32, 32, 3), (16 * 32 + 10) * 3)])
def test_of_an_image_the_middle_of_its_middle_row_is_shown(shape, first):
    shown = diagram(jaxnn.mlp([4], 2), np.ones((1, *shape))).layers[0].shown
    step = shape[2] if shape[2:] else 1
    assert shown == tuple(range(first, first + 12 * step, step))


def test_normalization_and_parts_without_names_are_understood():
    parts = jaxnn.linear(4), jaxnn.batch_norm(), jaxnn.activation(jnp.tanh), jaxnn.linear(2)
    for whole in (jaxnn.serial(*parts), jaxnn.mixed_precision(jaxnn.serial(*parts))):
        layers = diagram(whole, ROW).layers
        assert [layer.name for layer in layers] == ["input", "layer_1", "output"]
        assert [layer.leaf for layer in layers] == ["", "0/weight", "3/weight"]
        assert layers[1].activation == "batch norm, tanh"
    assert diagram(jaxnn.linear(3), ROW).layers[1][:4] == ("output", 3, (0, 1, 2), "weight")


def test_wires_are_the_weights_by_indexing_in_a_program_too():
    params, plan = params_of(DIGITS, IMAGES), diagram(DIGITS, IMAGES)
    drawn = jax.jit(lambda p: (wires(plan, p), biases(plan, p)))(params)
    for layer, before in zip(plan.layers[1:], plan.layers):
        part = params["layers"][layer.name]
        expected = part["weight"][np.ix_(before.shown, layer.shown)]
        np.testing.assert_array_equal(drawn[0][layer.leaf], expected)
        np.testing.assert_array_equal(drawn[1][layer.leaf], part["bias"][list(layer.shown)])
    plain = jaxnn.serial(jaxnn.linear(3, bias=False), jaxnn.linear(2))
    assert list(biases(diagram(plain, ROW), params_of(plain, ROW))) == ["1/weight"]


@pytest.mark.parametrize("network", [DIGITS, VAE])
def test_a_diagram_survives_json(network):
    plan = diagram(network, np.ones((1, 8, 8)))
    again = from_json(json.loads(json.dumps(to_json(plan))))
    assert again == plan
    assert jax.tree.structure(again) == jax.tree.structure(plan)


def test_every_node_and_wire_is_drawn_with_the_width_and_colour_of_its_weight():
    params = params_of(DIGITS, IMAGES)
    plan = diagram(DIGITS, IMAGES)
    figure = network(DIGITS, params, IMAGES)
    shown = [len(layer.shown) for layer in plan.layers]
    nodes = [drawn_nodes(figure, place)[0] for place in range(4)]
    assert [len(each) for each in nodes] == shown == [8, 12, 12, 10]
    weights = {leaf: np.asarray(weight) for leaf, weight in wires(plan, params).items()}
    scale = max(abs(weight).max() for weight in weights.values())
    for number, layer in enumerate(plan.layers[1:], start=1):
        weight = weights[layer.leaf]
        colours, widths, ends = drawn_wires(figure, number, weight)
        np.testing.assert_allclose(widths, 0.2 + 2.2 * abs(weight) / scale, atol=1e-3)
        np.testing.assert_array_equal(colours == SIGNED[2], weight > 0)
        np.testing.assert_array_equal(colours == SIGNED[0], weight < 0)
        expected = np.stack(np.broadcast_arrays(nodes[number - 1][:, None], nodes[number]), 2)
        np.testing.assert_allclose(ends, expected, atol=1e-6)
        # The widest are drawn last, over the others.
        group = by_gid(figure, "wires:")[f"wires:{number}"]
        assert (np.diff(group.get_linewidths()) >= 0).all()


def test_what_is_left_out_is_counted_and_the_key_says_the_scale():
    params = jax.tree.map(np.zeros_like, params_of(DIGITS, IMAGES))
    params["layers"]["hidden_1"]["weight"][32, 0] = 3
    figure = network(DIGITS, params, IMAGES)
    legible(figure)
    seen = texts(figure)
    assert [text for text in seen if "more" in text] == ["32 more", "24 more", "52 more", "8 more"]
    total = 64 * 64 + 64 * 20 + 20 * 10
    assert {"−3", "3", "weight", f"360 of {total:,} weights are drawn."} <= set(seen)
    assert {"input", "64 numbers", "hidden 1", "64 nodes", "relu", "output", "10 nodes"} <= set(
        seen
    )
    assert seen[seen.index("0") :][:10] == [str(digit) for digit in range(10)]


def test_a_small_network_is_drawn_whole():
    params = params_of(XOR, PAIR)
    params["output"]["bias"][0] = -1.0
    params["hidden_1"]["bias"][:] = 0.5
    figure = network(XOR, params, PAIR)
    assert figure.get_figwidth() == WIDTH
    legible(figure)
    assert {"x1", "x2", "2 numbers", "3 nodes", "1 node", "tanh", "bias"} <= set(texts(figure))
    assert not [text for text in texts(figure) if "more" in text or "drawn" in text]
    assert drawn_nodes(figure, 2)[1] == [SIGNED[0]]
    assert drawn_nodes(figure, 0)[1] == 2 * ["#ffffff"]
    same(figure, "network")


def test_names_of_outputs_and_a_scale_of_ones_own():
    plan = diagram(jaxnn.linear(2), np.ones((1, 1)))
    shown = {"weight": [[0.5, -4.0]]}
    fills = {"weight": [0.0, 0.5]}
    figure = draw(plan, shown, biases=fills, scale=1.0, bias_scale=0.5, names=["cat", "$d$"])
    assert {"cat", "$d$", "1", "0.5"} <= set(texts(figure))
    assert drawn_nodes(figure, 1)[1][1] == SIGNED[2]
    assert drawn_wires(figure, 1, shown["weight"])[1][0].tolist() == pytest.approx([1.3, 2.4])


def test_what_is_not_finite_is_drawn_as_such_and_said():
    params = params_of(XOR, PAIR)
    params["hidden_1"]["weight"][1, 2] = np.nan
    params["hidden_1"]["bias"][0] = np.inf
    figure = network(XOR, params, PAIR)
    legible(figure)
    group = by_gid(figure, "wires:")["wires:1"]
    assert to_hex(group.get_edgecolors()[-1]) == MARK
    dotted = [style[1] is not None for style in group.get_linestyles()]
    assert dotted == [False] * 5 + [True]
    assert drawn_order(params["hidden_1"]["weight"])[-1] == 1 * 3 + 2
    assert drawn_nodes(figure, 1)[2][0] == MARK
    said = {"1 weight is not finite: dotted.", "1 bias is not finite: a red ring."}
    assert said <= set(texts(figure))
    assert colour_and_width(np.nan, 1.0) == (MARK, 1.0)


def test_a_page_finds_every_wire_in_the_svg():
    page = svg(network(XOR, params_of(XOR, PAIR), PAIR), title="XOR", prefix="n")
    groups = {
        name: len(re.findall("<path", paths))
        for name, paths in re.findall(r'<g id="n-(\w+:\d)">(.*?)</g>', page, re.DOTALL)
    }
    assert groups == {"wires:1": 6, "wires:2": 3, "nodes:0": 2, "nodes:1": 3, "nodes:2": 1}


# --- Blocks ------------------------------------------------------------------------------------


def test_one_of_a_kind_is_in_the_singular():
    shape = jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32)
    parts = outline_of(
        jaxnn.serial(("edges", jaxnn.conv(1, 3)), ("turned", jaxnn.conv(2, 3))), shape
    )
    assert [part.text for part in parts[1:]] == ["conv, 3×3, 1 channel", "conv, 3×3, 2 channels"]
    shape = jax.ShapeDtypeStruct((1, 4, 8), jnp.float32)
    (_, part) = outline_of(jaxnn.serial(jaxnn.layers.attention(8, heads=1, causal=True)), shape)
    assert part.text == "1 head, causal"


def leaves(parts):
    for part in parts:
        yield from leaves(part.children) if part.children else [part]


def outline_of(network, inputs):
    return diagram(network, inputs).outline


NETWORKS = {
    "gpt": (jaxnn.gpt(65, layers=3, heads=4, features=32, positions=16), TOKENS),
    "gpt_stacked": (
        jaxnn.gpt(65, layers=3, heads=4, features=32, form="modern", kv_heads=2, stacked=True),
        TOKENS,
    ),
    "resnet": (jaxnn.resnet([2, 3], 10), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)),
    "resnet_imagenet": (
        jaxnn.resnet([1, 2], 10, form="imagenet", bottleneck=True),
        jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32),
    ),
    "convnet": (jaxnn.convnet([4, 8], 16, 10), jax.ShapeDtypeStruct((1, 28, 28), jnp.float32)),
    "vae": (VAE, jax.ShapeDtypeStruct((1, 8, 8), jnp.float32)),
    "rnn": (jaxnn.rnn([8, 8], 1), jax.ShapeDtypeStruct((1, 9, 2), jnp.float32)),
    "branches": (jaxnn.parallel(*(jaxnn.linear(3) for _ in range(6))), ROW),
    "deep": (
        jaxnn.serial(*(jaxnn.linear(8) for _ in range(30))),
        ROW,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_are_legible_and_say_why_they_are_blocks(name):
    network, inputs = NETWORKS[name]
    plan = diagram(network, inputs)
    assert plan.layers == () and plan.why.startswith("Drawn as blocks: ")
    figure = draw(plan, {})
    legible(figure)
    assert figure.get_figwidth() == WIDTH and figure.get_figheight() < 9.5
    assert plan.why in " ".join(texts(figure)).replace("\n", " ")


@pytest.mark.parametrize("name", ["convnet", "vae", "rnn", "resnet_imagenet", "deep"])
def test_parts_are_in_the_order_of_the_table_with_its_shapes(name):
    network, inputs = NETWORKS[name]
    shapes = [row.output for row in jaxnn.table(network, inputs).rows]
    drawn = [part for part in leaves(outline_of(network, inputs)[1:])]
    rest = iter(shapes)
    for part in drawn:
        if part.title != "latents" and not part.title.startswith("gru"):
            assert part.output in rest, part  # after those before it


def test_what_does_little_is_in_the_line_of_the_part_before_it():
    parts = outline_of(*NETWORKS["convnet"])
    assert [(part.title, part.text) for part in parts] == [
        ("input", ""),
        ("conv 1", "3×3, 4 channels, relu, max pool 2×2"),
        ("conv 2", "3×3, 8 channels, relu, max pool 2×2, flatten"),
        ("hidden", "linear, 16 nodes, relu"),
        ("output", "linear, 10 nodes"),
    ]
    assert parts[2].output == (1, 392)


@pytest.mark.parametrize("name", ["gpt", "gpt_stacked"])
def test_a_gpt_is_one_block_that_is_repeated(name):
    parts = outline_of(*NETWORKS[name])
    titles = [part.title for part in parts]
    first = ["input", "tokens", "positions", "block 1 to 3", "norm", "output"]
    assert titles == (first if name == "gpt" else ["input", "tokens", "blocks", "norm", "output"])
    (repeated,) = [part for part in parts if part.children]
    assert repeated.times == 3 and [p.kind for p in repeated.children] == ["residual"] * 2
    attention = repeated.children[0]
    assert attention.text == "residual: adds its inputs"
    assert [part.kind for part in attention.children][1] == "attention"
    assert attention.children[1].text.startswith("4 heads, causal")
    assert attention.output == (2, 16, 32)
    assert parts[-1].output == (2, 16, 65) and "weights of tokens" in parts[-1].text
    figure = draw(diagram(*NETWORKS[name]), {})
    seen = texts(figure)
    assert f"{repeated.title} × 3" in seen and seen.index("attention") > seen.index("tokens")
    assert {"16×32", "16×65", "16"} <= set(seen)


def test_the_pictures_of_a_gpt_and_of_a_convnet_are_as_they_were():
    same(draw(diagram(*NETWORKS["gpt_stacked"]), {}), "network_gpt")
    same(draw(diagram(*NETWORKS["resnet_imagenet"]), {}), "network_resnet")


def test_a_resnet_has_its_shortcuts_and_says_what_it_sums_up():
    network = jaxnn.resnet([3, 3, 3], 10)
    plan = diagram(network, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    stages = [part for part in plan.outline if part.title.startswith("stage")]
    assert [[p.title for p in stage.children] for stage in stages] == [
        ["block 1 to 3"], ["block 1", "block 2 to 3"], ["block 1", "block 2 to 3"],
    ]  # fmt: skip
    assert [stage.output for stage in stages] == [(1, 32, 32, 16), (1, 16, 16, 32), (1, 8, 8, 64)]
    total = stages[1].children[0].children[0]
    assert total.text == "residual: adds its inputs, by padded, features 32, strides 2"
    figure = draw(plan, {})
    seen = " ".join(texts(figure)).replace("\n", " ")
    assert "Of dashed blocks the inside is not drawn." in seen
    assert "block 1 to 3 × 3" in seen and "residual: adds its inputs: 2 conv" in seen


def test_a_network_that_says_nothing_is_one_block_that_says_so():
    def init(key, inputs):
        return {"kernel": jnp.ones((8, 3))}

    model = stateless(lambda params, inputs: inputs @ params["kernel"], init)
    plan = diagram(describe(model, "Model", outputs=3), ROW)
    assert plan.why == "Model does not describe its parts."
    assert [part[:4] for part in plan.outline] == [
        ("input", "input", "", (1, 8)), ("Model", "Model", "outputs 3", (1, 3)),
    ]  # fmt: skip
    figure = draw(plan, {})
    legible(figure)
    assert "Model" in texts(figure)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(8, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)

    def __call__(self, x):
        return x + self.norm(self.hidden(x))


class Model(nnx.Module):
    def __init__(self, outputs, rngs):
        self.block, self.output = Block(rngs), nnx.Linear(8, outputs, rngs=rngs)

    def __call__(self, x):
        return self.output(self.block(x))


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside"])
def test_the_submodules_of_a_flax_model_are_drawn(inside):
    network = jaxnn.from_flax(Model, outputs=3)
    network = jaxnn.serial(("model", network), ("last", jaxnn.linear(2))) if inside else network
    plan = diagram(network, ROW)
    assert plan.why == "Drawn as blocks: the submodules of a model of another library."
    if inside:
        _, model, last = plan.outline
        assert model.text == "Model, outputs 3" and model.output == (1, 3)
        block, output = model.children
    else:
        _, block, output = plan.outline
    assert (block.title, block.text, block.output) == ("block", "Block", (1, 8))
    assert [part.title for part in block.children] == ["hidden", "norm"]
    assert (output.title, output.text, output.output) == ("output", "Linear", (1, 3))
    figure = draw(plan, {})
    legible(figure)
    assert "Block" in " ".join(texts(figure))


WHY = {
    "lora": (
        jaxnn.lora(jaxnn.mlp([8], 3), {"hidden_1/weight": True}, rank=2),
        ROW,
        "hidden_1/weight is not among its parameters",
    ),
    "deep": (jaxnn.mlp([4] * 6, 3), ROW, "7 layers are too many"),
    "places": (jaxnn.linear(3), np.ones((1, 5, 2)), "many places"),
    "nothing": (jaxnn.serial(jaxnn.flatten(), jaxnn.activation(jnp.tanh)), ROW, "no linear layers"),
    "unknown": (
        jaxnn.serial(jaxnn.linear(3), jaxnn.network.stateless(lambda p, x: x)), ROW, "(network)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHY)
def test_the_reason_for_blocks_is_said(name):
    network, inputs, why = WHY[name]
    assert why in diagram(network, inputs).why


def test_a_network_without_parameters_is_drawn():
    legible(network(jaxnn.flatten(), {}, ROW))


# --- Mistakes ----------------------------------------------------------------------------------

V, T = InvalidValue, InvalidType
PLAN = diagram(XOR, PAIR)
PARAMS = params_of(XOR, PAIR)
CASES = {
    "no network": (
        lambda: diagram(jnp.tanh, ROW),
        T, r"diagram: network has the wrong type", r"Pass a network, such as mlp",
    ),
    "other inputs": (
        lambda: diagram(jaxnn.gpt(5, layers=1, heads=1, features=4), object()),
        V, r"does not accept these inputs", r"Pass a batch, such as data\['inputs'\]\[:1\]",
    ),
    "no parameters": (
        lambda: network(XOR, {}, PAIR),
        V, r"not those of the network. Got none; expected hidden_1/weight", r"run\.state\.params",
    ),
    "other parameters": (
        lambda: network(XOR, PARAMS, np.ones((1, 3))),
        V, r"Got shape \(2, 3\)", r"run\.state\.params",
    ),
    "no wires": (
        lambda: draw(PLAN, {}),
        V, r"draw: the wires are not those of the network. Got none", r"run\.state\.params",
    ),
    "other biases": (
        lambda: draw(PLAN, wires(PLAN, PARAMS), biases={"output/weight": np.ones(2)}),
        V, r"the biases are not those of the network. Got shape \(2,\)", r"run\.state\.params",
    ),
    "other names": (
        lambda: network(XOR, PARAMS, PAIR, names=["no", "yes"]),
        V, r"Got 2 names for 1 nodes", r"or leave names out",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)


def test_parts_inside_parts_are_all_drawn_where_there_is_room():
    convnet, inputs = NETWORKS["convnet"]
    inside = jaxnn.serial(("pixels", jaxnn.standardize(0.0, 1.0)), ("layers", convnet))
    seen = texts(draw(diagram(inside, inputs), {}))
    assert {"conv 1", "conv 2", "hidden", "output"} <= set(seen)
    assert not [words for words in seen if words.startswith("…")]


def test_of_many_names_only_those_that_are_shown_are_measured(monkeypatch):
    """Each takes a tenth of a millisecond, and there may be thirty thousand."""
    measured = []
    monkeypatch.setattr(
        "jaxnn.pictures._network.width_of", lambda text, *size: measured.append(text) or 10.0
    )
    net = jaxnn.mlp([3], 5000)
    params, _ = net.init(jax.random.key(0), np.ones((1, 2), np.float32))
    names = [f"class {number}" for number in range(5000)]
    network(net, params, np.ones((1, 2), np.float32), names=names)
    assert 0 < sum(text.startswith("class ") for text in measured) < 50
