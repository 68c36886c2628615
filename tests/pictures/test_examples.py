"""Filters, attention, examples and the decision surface: what they show is what was given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import jaxnn
from jaxnn import InvalidType, InvalidValue
from jaxnn.pictures import attention, attention_weights, boundary, examples, filters
from jaxnn.pictures.scheme import AMOUNT, CLASSES, MARK, SIGNED, WIDTH
from tests.figures import by_gid, legible, same, texts
from tests.mistakes import judge

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(40, 5))
LABELS = RANDOM.integers(0, 5, 40)
IMAGES = RANDOM.random((40, 6, 6))
HEADS = np.exp(RANDOM.normal(size=(4, 5, 5)))
HEADS /= HEADS.sum(-1, keepdims=True)
CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)


def normal(size):
    return np.random.default_rng(1).normal(size=size)


# --- Filters -----------------------------------------------------------------------------------


def test_a_filter_is_the_weights_of_its_node_around_zero():
    weights = np.array([[2.0, 0.0], [-2.0, 1.0], [0.0, -1.0], [1.0, 2.0], [0.5, 0.0], [0.0, 0.0]])
    figure = filters(weights, (2, 3))
    legible(figure)
    assert figure.get_figwidth() == WIDTH and {"weight", "−2", "2"} <= set(texts(figure))
    drawn = [by_gid(figure, "filter:")[f"filter:{node}"].get_array() for node in (0, 1)]
    assert drawn[0].shape == (2, 3, 4)
    np.testing.assert_allclose(drawn[0][0, 0, :3], to_rgb(SIGNED[2]))
    np.testing.assert_allclose(drawn[0][0, 1, :3], to_rgb(SIGNED[0]))
    np.testing.assert_allclose(drawn[0][0, 2, :3], to_rgb(SIGNED[1]), atol=0.01)
    # One scale for all: half of the largest weight looks alike in both.
    np.testing.assert_allclose(drawn[0][1, 0], drawn[1][0, 1])
    np.testing.assert_allclose(drawn[1][1, 0, :3], to_rgb(SIGNED[2]))


def test_filters_of_a_convolution_have_their_channels_side_by_side():
    weights = normal((3, 2, 6, 5))
    figure = filters(weights)
    legible(figure)
    assert len(by_gid(figure, "filter:")) == 5
    assert by_gid(figure, "filter:")["filter:4"].get_array().shape == (3, 2 * 4, 4)
    assert "The first 4 of 6 channels are drawn, side by side." in texts(figure)
    one = filters(weights[:, :, :1])
    pixels = by_gid(one, "filter:")["filter:2"].get_array()
    order = np.argsort(weights[:, :, 0, 2], axis=None)
    assert (np.diff((pixels[..., 2] - pixels[..., 0]).ravel()[order]) > 0).all()  # bluer


def test_of_many_filters_the_first_are_drawn_and_what_is_not_finite_is_said():
    weights = normal((16, 100))
    weights[3, 0] = np.nan
    figure = filters(weights, (4, 4))
    legible(figure)
    assert len(by_gid(figure, "filter:")) == 64
    assert {"Node 0, 1, ... row by row; the first 64 of 100.", "Not finite, in red: 1 weight."} <= {
        *texts(figure)
    }
    pixel = by_gid(figure, "filter:")["filter:0"].get_array()[0, 3, :3]
    np.testing.assert_allclose(pixel, to_rgb(MARK))
    same(filters(np.linspace(-1, 1, 16 * 12).reshape(16, 12), (4, 4)), "filters")


# --- Attention ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count, queries", [(4, 5), (1, 5), (20, 5), (3, 2)])
def test_each_head_has_a_panel_with_its_weights_on_one_scale(count, queries):
    weights = np.resize(HEADS, (count, 5, 5))[:, :queries]
    figure = attention(weights, list("to be"))
    legible(figure)
    panels = by_gid(figure, "head:")
    assert len(panels) == min(count, 16)
    for head, panel in enumerate(panels.values()):
        np.testing.assert_allclose(panel.get_array(), weights[head])
        assert panel.get_clim() == (0.0, weights[:16].max()) and panel.get_cmap().name == AMOUNT
    seen = texts(figure)
    assert {"head 1", "weight", "query: the place that asks"} <= set(seen)
    assert any("key: the place that is looked at" in text for text in seen)
    assert any("the first 16 of 20 heads" in text for text in seen) == (count == 20)


def test_tokens_are_written_where_they_are_legible():
    legible(attention(HEADS[:1], ["$", "\\", "^{", "_", "$"]))
    seen = texts(attention(HEADS[:1], list("to be")))
    assert seen.count("t") == 2 and seen.count("␣") == 2
    wide = np.full((4, 64, 64), 1 / 64)
    assert "t" not in texts(attention(wide, ["t"] * 64))
    lost = HEADS.copy()
    lost[0, 0, 0] = np.nan
    assert any("in red: not finite" in text for text in texts(attention(lost)))
    same(attention(HEADS[:2], list("to be")), "attention")


def params_of(network, inputs):
    shapes, _ = jax.eval_shape(network.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda x: normal(x.shape).astype(np.float32), shapes)


def part(params, inputs):
    return inputs @ params["weight"] + params.get("bias", 0.0)


ATTENTIONS = {
    "plain": jaxnn.attention(8, heads=2),
    "causal": jaxnn.attention(
        8, heads=4, kv_heads=2, causal=True, window=3, rotary=100.0, dropout=0.5, bias=False
    ),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_the_weights_of_attention_are_those_that_the_layer_mixes_its_values_with(name):
    layer, inputs = ATTENTIONS[name], normal((2, 5, 6)).astype(np.float32)
    params = params_of(layer, inputs)
    weights = np.asarray(attention_weights(layer, params, inputs)[""])
    shape = dict(layer.parts.settings)
    assert weights.shape == (2, shape["heads"], 5, 5)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    value = part(params["value"], inputs)
    groups = shape["heads"] // shape.get("kv_heads", shape["heads"])
    value = value.reshape(2, 5, -1, shape["head_features"]).repeat(groups, 2)
    mixed = np.einsum("bhqk,bkhf->bqhf", weights, value).reshape(2, 5, -1)
    outputs = part(params["output"], mixed)
    expected, _ = jax.jit(layer.apply)(params, {}, inputs)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_every_attention_of_a_gpt_is_found_by_its_path_also_inside_repeat():
    tokens = np.arange(6).reshape(1, 6)
    weights_of = {}
    for stacked in (False, True):
        network = jaxnn.gpt(7, layers=2, heads=2, features=4, positions=6, stacked=stacked)
        params = params_of(network, tokens)
        weights_of[stacked] = attention_weights(network, params, tokens)
        for weights in weights_of[stacked].values():
            assert not np.triu(np.asarray(weights)[0, 0, -1] if stacked else weights[0, 0], 1).any()
    assert {path: weights.shape for path, weights in weights_of[False].items()} == {
        f"body/block_{number}/attention/branch/attention": (1, 2, 6, 6) for number in (1, 2)
    }
    assert {path: weights.shape for path, weights in weights_of[True].items()} == {
        "body/blocks/attention/branch/attention": (1, 2, 2, 6, 6)
    }


# --- Examples ----------------------------------------------------------------------------------


def shares(logits):
    return np.asarray(jax.nn.softmax(jnp.asarray(logits), -1))


@pytest.mark.parametrize("kind", ["worst", "best", "uncertain"])
def test_examples_are_those_that_were_asked_for_with_their_prediction(kind):
    share = shares(LOGITS)
    loss = -np.log(share[np.arange(40), LABELS])
    entropy = -(share * np.log(share)).sum(1)
    order = np.argsort({"worst": -loss, "best": loss, "uncertain": -entropy}[kind])[:8]
    figure = examples(IMAGES, LABELS, LOGITS, kind)
    legible(figure)
    seen, drawn = texts(figure), by_gid(figure, "example:")
    assert [text for text in seen if text.startswith("is ")] == [f"is {LABELS[i]}" for i in order]
    said = [
        f"{'✓ right' if share[i].argmax() == LABELS[i] else '✗ wrong'}: {share[i].argmax()}"
        for i in order
    ]
    assert [text for text in seen if text[:1] in "✓✗"] == said
    at = [float(text.split()[1]) for text in seen if text.startswith("at ")]
    np.testing.assert_allclose(at, 100 * share[order].max(1), rtol=5e-3)
    for place, index in enumerate(order):
        span = IMAGES.max() - IMAGES.min()
        pixels = (IMAGES[index] - IMAGES.min()) / span
        np.testing.assert_allclose(drawn[f"example:{place}"].get_array(), pixels, atol=1e-6)
    if kind == "worst":
        same(figure, "examples")


def test_vectors_are_bars_one_logit_is_of_class_1_and_names_are_written():
    inputs = normal((3, 5))
    figure = examples(inputs, np.array([0, 1, 1]), [[-3.0], [2.0], [-1.0]], names=["no", "yes"])
    legible(figure)
    seen = texts(figure)
    assert [text for text in seen if text[:1] in "✓✗"] == [
        "✗ wrong: no",
        "✓ right: yes",
        "✓ right: no",
    ]
    assert f"at {100 / (1 + np.exp(-1.0)):.3g} %" in seen
    assert seen[-1] == "The 3 examples of 3 with the highest loss."


def test_an_example_whose_logits_are_not_finite_is_the_worst_and_has_no_prediction():
    logits = LOGITS.copy()
    logits[17] = np.nan
    figure = examples(IMAGES, LABELS, logits, count=1)
    legible(figure)
    assert "✗ wrong: nothing" in texts(figure) and f"is {LABELS[17]}" in texts(figure)
    assert "✗ wrong: nothing" not in texts(examples(IMAGES, LABELS, logits, "best"))


# --- The decision surface ----------------------------------------------------------------------


def xor(inputs):
    """Logits of class 1: above 0 where the two inputs are on different sides of a half."""
    return -40.0 * (inputs[:, :1] - 0.5) * (inputs[:, 1:] - 0.5)


def test_the_surface_has_the_colour_of_the_predicted_class():
    figure = boundary(xor, CORNERS, np.array([0, 1, 1, 1]))
    legible(figure)
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x1", "x2")
    surface = by_gid(figure, "surface")["surface"]
    left, right, bottom, top = surface.get_extent()
    pixels = surface.get_array()
    for x, y in CORNERS:
        column, row = (
            int(160 * (v - low) / (high - low))
            for v, low, high in ((x, left, right), (y, bottom, top))
        )
        colour = np.array(to_rgb(CLASSES[int(x != y)]))
        # Almost sure, so 0.58 of the colour on white.
        np.testing.assert_allclose(pixels[row, column], 0.58 * colour + 0.42, atol=0.02)
    np.testing.assert_allclose(pixels[80, 80], 0.92, atol=0.08)  # nothing is sure in the middle
    assert {"class 0", "class 1", "wrong"} <= set(texts(figure))
    assert "1 of 4 examples are on the wrong side." in texts(figure)
    np.testing.assert_allclose(by_gid(figure, "wrong")["wrong"].get_offsets(), [[1, 1]])
    np.testing.assert_allclose(by_gid(figure, "examples:0")["examples:0"].get_offsets(), [[0, 0]])


def test_several_classes_have_colours_shapes_and_names():
    random = np.random.default_rng(0)
    inputs, labels = random.normal(size=(2500, 2)), random.integers(0, 3, 2500)
    centres = np.array([[0, 2], [2, -1], [-2, -1.0]])
    figure = boundary(lambda x: x @ centres.T, inputs, labels, names=["a", "b", "c"])
    legible(figure)
    assert {"a", "b", "c"} <= set(texts(figure))
    drawn = by_gid(figure, "examples:")
    assert sum(len(points.get_offsets()) for points in drawn.values()) == 1250
    assert any("One in 2 of 2,500 is drawn." in text.replace("\n", " ") for text in texts(figure))
    same(boundary(xor, CORNERS, np.array([0, 1, 1, 1])), "boundary")


# --- Mistakes ----------------------------------------------------------------------------------

V, T = InvalidValue, InvalidType
CASES = {
    "filters without a shape": (
        lambda: filters(np.ones((64, 3))),
        V, r"filters: .* shape \(64, 3\); .* not shape=None", r"weight'\], \(8, 8\)\)",
    ),
    "filters of another shape": (
        lambda: filters(np.ones((64, 3)), (8, 9)), V, r"shape=\(8, 9\)", r"Pass those of the first",
    ),
    "attention of a batch": (
        lambda: attention(np.ones((2, 4, 5, 5))),
        V, r"Got weights of shape \(2, 4, 5, 5\)", r"attention_weights\(\.\.\.\)\[path\]\[0\]",
    ),
    "other tokens": (
        lambda: attention(HEADS, ["a"]), V, r"Got 1 tokens for 5 places", r"Pass all in their",
    ),
    "no attention": (
        lambda: attention_weights(jaxnn.linear(3), {}, np.ones((1, 2))),
        V, r"no attention in the network. Got a network of kind linear", r"gpt\(65\)",
    ),
    "no network": (
        lambda: attention_weights(3, {}, np.ones((1, 2))), T, r"the wrong type", r"gpt\(65\)",
    ),
    "an unknown kind": (
        lambda: examples(IMAGES, LABELS, LOGITS, "wurst"),
        V, r"kind is unknown. Got kind='wurst'", r"Did you mean 'worst'\?",
    ),
    "too many examples": (
        lambda: examples(IMAGES, LABELS, LOGITS, count=65), V, r"count=65", r"Pass, say, count=1",
    ),
    "labels that are not classes": (
        lambda: examples(IMAGES, LABELS / 2, LOGITS), T, r"dtype float64", r"outputs\.argmax\(-1\)",
    ),
    "other outputs": (
        lambda: examples(IMAGES, LABELS, LOGITS[:7]),
        V, r"labels of shape \(40,\) and outputs of shape \(7, 5\)", r"run\.predict\(inputs\)",
    ),
    "long vectors": (
        lambda: examples(np.ones((40, 300)), LABELS, LOGITS),
        V, r"inputs of shape \(40, 300\)", r"inputs\.reshape\(-1, 28, 28\)",
    ),
    "labels of other classes": (
        lambda: examples(IMAGES, LABELS, LOGITS[:, :2]),
        V, r"Got labels from 0 to 4", r"trained on these labels",
    ),
    "three inputs": (
        lambda: boundary(xor, np.ones((4, 3)), LABELS[:4]),
        V, r"boundary: .* Got inputs of shape \(4, 3\)", r"Pass data with two features",
    ),
    "no function": (
        lambda: boundary(LOGITS, CORNERS, LABELS[:4]), T, r"Got a ndarray", r"Pass run\.predict",
    ),
    "labels between classes": (
        lambda: boundary(xor, CORNERS, np.full(4, 0.5)),
        T, r"Got labels of dtype float64", r"Pass the number of the class",
    ),
    "too many classes": (
        lambda: boundary(lambda x: np.ones((len(x), 9)), CORNERS, LABELS[:4]),
        V, r"outputs of shape \(\d+, 9\)", r"at most 8 classes",
    ),
    "no logits": (
        lambda: boundary(lambda x: np.ones(()), CORNERS, LABELS[:4]),
        V, r"boundary: the shape of outputs", r"network\.apply\(params, state, x\)\[0\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)
