"""The wrapper law: every transform computes with the `apply` of a network, also a replaced one.

A replacement is a wrapper, which calls the `apply` that was there, or a plain function. Whatever is
made of such a network computes with the replacement, or refuses it with an error that names it.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.calls import apply_part, init_part, intercept, keep_frames, passes_inputs
from jaxnn.pictures import attention_weights
from jaxnn.pictures.diagram import diagram
from jaxnn.storage import recording
from jaxnn.summary import flops
from tests.cases import real, whole
from tests.made import TRANSFORMS, block
from tests.options import grouped
from tests.trees import assert_close, assert_same_bits

KEY = jax.random.key(5)
ROWS = real(4, 4)
TOKENS = whole(7, 2, 5)


def wrapped(network):
    """Doubles the outputs and adds one."""

    def apply(params, state, inputs, *, key=None):
        outputs, after = network.apply(params, state, inputs, key=key)
        return jax.tree.map(lambda x: 2 * x + 1, outputs), after

    return network._replace(apply=apply)


def plain(network):
    """Computes from its parameters and inputs, and calls nothing."""

    def apply(params, state, inputs, *, key=None):
        total = sum(leaf.sum() for leaf in jax.tree.leaves(params))
        return jnp.tanh(inputs * total.astype(inputs.dtype)) - 3, state

    return network._replace(apply=apply)


REPLACEMENTS = {"wrapped": wrapped, "plain": plain}
ALONE = {
    "warm_start": lambda network: (
        jaxnn.warm_start(
            network, network.init(KEY, ROWS)[0], ROWS, state=network.init(KEY, ROWS)[1]
        ).network
    ),
    "intercept": lambda network: intercept(network, lambda path, part: part),
    "capture": lambda network: jaxnn.capture(network, [""]),
    **{name: change for name, change in TRANSFORMS.items() if name != "capture"},
}
COMBINATORS = {
    "serial": lambda part: jaxnn.serial(("part", part)),
    "parallel": lambda part: jaxnn.parallel(("part", part), combine=lambda outputs: outputs[0]),
    "residual": lambda part: jaxnn.residual(jaxnn.serial(("part", part))),
    "repeat": lambda part: jaxnn.repeat(jaxnn.serial(("part", part)), 2),
}


def apply(network, params, state, inputs):
    """Returns the outputs, without what is captured."""
    outputs, after = jax.jit(network.apply)(params, state, inputs, key=KEY)
    assert trees(after) == trees(state)
    return jax.tree.leaves(outputs)[0]


def trees(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def expected(network, repeats):
    """Returns the outputs of the network, or of its layers in a row."""
    if not repeats:
        return network.apply(*network.init(KEY, ROWS), ROWS, key=KEY)[0]
    outputs = ROWS
    for number in range(3):
        key = jax.random.fold_in(KEY, number)
        outputs, _ = network.apply(*network.init(key, ROWS), outputs, key=key)
    return outputs


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize("name", ALONE)
def test_a_transform_computes_with_what_was_replaced(name, replacement):
    network = REPLACEMENTS[replacement](block())
    changed = ALONE[name](network)
    outputs = apply(changed, *changed.init(KEY, ROWS), ROWS)
    tolerance = 0.1 if name == "mixed_precision" else 1e-5
    assert_close(outputs, expected(network, name == "repeat"), tolerance)


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize("name", COMBINATORS)
def test_a_combinator_computes_with_what_was_replaced(name, replacement):
    """In a transform, too: the part is replaced, or the whole."""
    change = REPLACEMENTS[replacement]
    part = jaxnn.serial(("deep", change(jaxnn.linear(4))))
    plain_part = jaxnn.stateless(
        lambda params, x: part.apply(params, {}, x)[0], lambda key, x: part.init(key, x)[0]
    )
    network, opaque = COMBINATORS[name](part), COMBINATORS[name](plain_part)
    for each, other in ((network, opaque), (change(network), change(opaque))):
        params, state = each.init(KEY, ROWS)
        wanted = other.apply(params, state, ROWS)[0]
        for transform in (jaxnn.remat, jaxnn.mixed_precision, ALONE["capture"], lambda x: x):
            outputs = apply(transform(each), params, state, ROWS)
            assert_close(outputs, wanted, 0.1 if transform is jaxnn.mixed_precision else 1e-5)


PAIRS = [
    pair
    for pair in itertools.permutations(ALONE, 2)
    if "warm_start" not in pair and pair not in [("repeat", "capture"), ("freeze", "lora")]
]


@pytest.mark.nightly
@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize("names", PAIRS, ids="_of_".join)
def test_a_pair_of_transforms_computes_with_what_was_replaced(names, replacement):
    """Before both of them, and between them."""
    outer, inner = (ALONE[name] for name in names)
    change = REPLACEMENTS[replacement]
    tolerance = 0.1 if "mixed_precision" in names else 1e-5
    changed = outer(inner(change(block())))
    outputs = apply(changed, *changed.init(KEY, ROWS), ROWS)
    assert_close(outputs, expected(change(block()), "repeat" in names), tolerance)
    if replacement == "wrapped" and "repeat" != names[0]:
        changed = outer(wrapped(inner(block())))
        outputs = apply(changed, *changed.init(KEY, ROWS), ROWS)
        assert_close(outputs, 2 * expected(block(), "repeat" in names) + 1, tolerance)


@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_half_precision_computes_a_replacement_in_it(replacement):
    """Its products are of bfloat16, whether it calls parts or not."""
    network = REPLACEMENTS[replacement](block())
    params, state = network.init(KEY, ROWS)
    mixed = jaxnn.mixed_precision(network)
    program = str(jax.make_jaxpr(mixed.apply)(params, state, ROWS))
    assert "tanh" in program
    lines = [line for line in program.splitlines() if "= dot_general" in line or "= tanh" in line]
    assert all("f32" not in line.split("=")[0] for line in lines), lines


def test_an_exception_inside_a_wrapper_keeps_the_digits_of_its_parameters():
    exact = jaxnn.mixed_precision(jaxnn.linear(1), jnp.float32)
    params = {"0": {"weight": jnp.full((1, 1), 1 + 2**-12), "bias": jnp.zeros(1)}}
    mixed = jaxnn.mixed_precision(wrapped(jaxnn.serial(wrapped(exact))))
    assert mixed.apply(params, {}, jnp.ones((1, 1)))[0].item() == 2 * (2 * (1 + 2**-12) + 1) + 1


def test_captured_are_the_outputs_of_the_replacement():
    network = jaxnn.serial(
        ("first", wrapped(jaxnn.linear(3))), ("second", wrapped(jaxnn.mlp([3], 2)))
    )
    params, state = network.init(KEY, ROWS)
    paths = ["first", "second", "second/hidden_1"]
    (outputs, captured), _ = jaxnn.capture(network, paths).apply(params, state, ROWS)
    first = 2 * jaxnn.linear(3).apply(params["first"], {}, ROWS)[0] + 1
    assert_close(captured["first"], first)
    hidden, _ = jaxnn.linear(3).apply(params["second"]["hidden_1"], {}, first)
    assert_close(captured["second/hidden_1"], hidden)
    assert_same_bits(captured["second"], outputs)
    assert_same_bits(outputs, network.apply(params, state, ROWS)[0])


def test_captured_of_a_wrapped_transform_are_those_of_the_wrapper():
    for change in (jaxnn.remat, jaxnn.mixed_precision):
        network = jaxnn.serial(("part", wrapped(change(jaxnn.linear(3)))))
        params, state = network.init(KEY, ROWS)
        (outputs, captured), _ = jaxnn.capture(network, ["part"]).apply(params, state, ROWS)
        assert_same_bits(captured["part"], outputs)


def test_a_part_that_a_replacement_does_not_call_cannot_be_captured():
    network = jaxnn.capture(plain(block()), ["branch/linear"])
    params, state = network.init(KEY, ROWS)
    with pytest.raises(jaxnn.InvalidValue, match="a part is not called.* Got 'branch/linear'"):
        network.apply(params, state, ROWS)


def test_a_table_counts_the_replacement():
    network = jaxnn.serial(("first", jaxnn.linear(3)), ("second", jaxnn.linear(2)))
    params, state = network.init(KEY, ROWS)
    whole_table, own = jaxnn.table(wrapped(network), ROWS), jaxnn.table(network, ROWS)
    assert whole_table.rows == own.rows

    def squared(params, state, inputs, *, key=None):
        return inputs @ inputs.T, state

    replaced = network._replace(apply=squared)
    (row,) = jaxnn.table(replaced, ROWS).rows
    assert (row.part, row.kind, row.output) == ("network", "serial", (4, 4))
    assert row.flops == flops(lambda x: squared(params, state, x)[0], ROWS)
    deep = jaxnn.repeat(jaxnn.linear(4), 3)
    (row,) = jaxnn.table(plain(deep), ROWS).rows
    assert (row.parameters, row.times) == (3 * 20, 1)
    (row,) = jaxnn.table(wrapped(deep), ROWS).rows
    assert (row.parameters, row.times) == (3 * 20, 3)


def test_a_table_has_parts_that_are_called_and_not_described():
    inner = jaxnn.linear(3)

    def apply(params, state, inputs, *, key=None):
        outputs, _ = apply_part("inner", inner, params, state, inputs, key)
        return outputs, state

    network = jaxnn.Network(
        lambda key, inputs: ({"inner": init_part("inner", inner, key, inputs)[0]}, {}), apply
    )
    (row,) = jaxnn.table(network, ROWS).rows
    assert (row.part, row.kind, row.parameters, row.flops) == ("inner", "linear", 15, 96)


GPT = jaxnn.gpt(7, layers=1, heads=2, features=8, positions=12)


@pytest.mark.parametrize("mixed", [False, True])
def test_generate_draws_from_the_replacement(mixed):
    def reversed_logits(params, state, inputs, *, key=None):
        logits, after = GPT.apply(params, state, inputs, key=key)
        return -logits, after

    network = GPT._replace(apply=reversed_logits)
    network = jaxnn.mixed_precision(network) if mixed else network
    params, state = GPT.init(KEY, TOKENS)
    text = jaxnn.generate(network, params, state, TOKENS, 4, key=KEY, temperature=0)
    known = np.concatenate([TOKENS, text], 1)
    tokens = jax.jit(network.apply)(params, state, known)[0].argmax(-1)
    assert tokens[:, TOKENS.shape[1] - 1 : -1].tolist() == text.tolist()

    def next_token(params, state, inputs, *, key=None):
        return jax.nn.one_hot((inputs + 1) % 7, 7), state

    text = jaxnn.generate(
        GPT._replace(apply=next_token), params, state, TOKENS, 3, key=KEY, temperature=0
    )
    assert text.tolist() == ((TOKENS[:, -1:] + np.arange(1, 4)) % 7).tolist()


def test_generate_refuses_a_replacement_that_does_not_read_on():
    def mean_so_far(params, state, inputs, *, key=None):
        logits, after = GPT.apply(params, state, inputs, key=key)
        return jnp.cumsum(logits, 1), after

    params, state = GPT.init(KEY, TOKENS)
    with pytest.raises(jaxnn.InvalidType, match="generate: the logits differ between reading"):
        jaxnn.generate(GPT._replace(apply=mean_so_far), params, state, TOKENS, 4, key=KEY)


def test_pictures_of_attention_are_those_of_what_is_called():
    layer = jaxnn.attention(4, heads=2, causal=True)
    x = real(2, 3, 4)
    params, state = layer.init(KEY, x)
    own = attention_weights(layer, params, x)
    assert_same_bits(attention_weights(wrapped(layer), params, x), own)
    with pytest.raises(jaxnn.InvalidValue, match="a part is not called"):
        attention_weights(plain(layer), params, x)


def test_a_diagram_draws_no_parts_that_are_not_called():
    network = jaxnn.mlp([3], 4)
    assert diagram(wrapped(network), ROWS).layers == diagram(network, ROWS).layers
    found = diagram(plain(network), ROWS)
    assert found.layers == () and "does not call the parts" in found.why
    assert [part.kind for part in found.outline] == ["input", "mlp"]


@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_a_recording_has_the_outputs_of_the_replacement(replacement, tmp_path):
    network = REPLACEMENTS[replacement](jaxnn.mlp([3], 4))
    learner = jaxnn.learner(network, jaxnn.regression(), optax.sgd(0.01))
    data = jaxnn.resident({"inputs": real(16, 4), "labels": real(16, 4, seed=1)}, batch_size=4)
    options = {"every": 4, "key": jax.random.key(0), "quiet": True, "report": True}
    run = jaxnn.fit(learner, data, steps=4, **grouped(tmp_path / "run", **options))
    frame = recording.read(run.out).frames[-1]
    inputs = real(16, 4)[recording.read(run.out).probe["index"]]
    wanted = network.apply(run.state.params, run.state.state, jnp.asarray(inputs))[0]
    assert_close(frame.arrays["outputs"], wanted)


def test_rules_of_a_gradient_that_call_parts_keep_their_frames():
    """JAX traces them after `apply` has returned, when a compiled function is differentiated."""
    inner = jaxnn.serial(("first", jaxnn.linear(4)))

    def apply(params, state, inputs, *, key=None):
        compute = keep_frames(lambda params, inputs: inner.apply(params, state, inputs, key=key)[0])

        @jax.custom_vjp
        def ruled(params, inputs):
            return compute(params, inputs)

        def forward(params, inputs):
            return jax.vjp(compute, params, inputs)

        ruled.defvjp(forward, lambda pull, grads: pull(grads))
        return ruled(params, inputs), state

    params, _ = inner.init(KEY, ROWS)
    mixed = passes_inputs(apply)
    mixed = jaxnn.mixed_precision(inner._replace(apply=mixed))
    loss = lambda params: jax.jit(mixed.apply)(params, {}, ROWS)[0].sum()  # noqa: E731
    program = str(jax.make_jaxpr(jax.grad(loss))(params))
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert products and all(":bf16" in line for line in products)


@pytest.mark.parametrize("name", ["repeat", "remat", "mixed_precision", "freeze", "lora"])
def test_a_transform_takes_parameters_of_any_tree(name):
    """Lists and tuples as in stax; named by their places."""

    def init(key, inputs):
        linear = jaxnn.linear(4).init(key, inputs)[0]
        return [(linear["weight"], linear["bias"]), {"scale": jnp.ones(4)}], {}

    def compute(params, state, inputs, *, key=None):
        (weight, bias), after = params
        return (inputs @ weight + bias[None]) * after["scale"][None], state

    rules = {
        "freeze": lambda network: jaxnn.freeze(network, {"0/1": True, "1": True}),
        "lora": lambda network: jaxnn.lora(network, {"0/0": True}, rank=2),
    }
    network = jaxnn.Network(init, compute)
    changed = {**TRANSFORMS, **rules}[name](network)
    params, state = changed.init(KEY, ROWS)
    outputs = apply(changed, params, state, ROWS)
    tolerance = 0.1 if name == "mixed_precision" else 1e-5
    assert_close(outputs, expected(network, name == "repeat"), tolerance)
