"""Models of Flax as they are called: several inputs, flags of any name, pairs, axes, caches."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import jaxnn
from jaxnn.calls import part_key
from jaxnn.checks import Invalid
from jaxnn.models.flax import from_flax
from tests.models import flax_calls as models
from tests.models.flax_calls import KEY, LENGTHS, ROWS, TOKENS

CAUSAL = jnp.tril(jnp.ones((4, 6, 6)))
PLACES = jnp.arange(6)[None]
TEXT = {"token_ids": TOKENS, "lengths": LENGTHS}
DROPOUT: Any = {"rngs": {"dropout": KEY}}


def equal(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


# name: (network, inputs, the module in training and in inference, its arguments)
LINEN = {
    "dict": (
        from_flax(models.Lengths()),
        TEXT,
        models.Lengths(),
        (TOKENS, LENGTHS),
        "deterministic",
    ),
    "tuple": (
        from_flax(models.Lengths()),
        (TOKENS, LENGTHS),
        models.Lengths(),
        (TOKENS, LENGTHS),
        "deterministic",
    ),
    "own_flags": (
        from_flax(models.Lengths(), call=lambda module, x, **mode: module(x[1], x[0], **mode)),
        [LENGTHS, TOKENS],
        models.Lengths(),
        (TOKENS, LENGTHS),
        "deterministic",
    ),
    "flag_by_another_name": (
        from_flax(models.Lengths(), call=lambda module, x, train: module(x[1], x[0], not train)),
        [LENGTHS, TOKENS],
        models.Lengths(),
        (TOKENS, LENGTHS),
        "deterministic",
    ),
    "unknown_flag": (
        from_flax(models.Unknown(), switch="is_train"),
        ROWS,
        models.Unknown(),
        (ROWS,),
        "is_train",
    ),
}


@pytest.mark.parametrize("name", LINEN)
def test_linen_is_what_flax_computes(name):
    network, inputs, module, arguments, flag = LINEN[name]
    params, state = network.init(KEY, jax.eval_shape(lambda: inputs))
    training, inference = {flag: flag != "deterministic"}, {flag: flag == "deterministic"}
    variables = module.init(KEY, *arguments, **inference)
    equal({"params": params, **state}, variables)
    expected, after = module.apply(
        variables, *arguments, **training, **DROPOUT, mutable=["batch_stats"]
    )
    equal(network.apply(params, state, inputs, key=KEY), (expected, after))
    expected = module.apply(variables, *arguments, **inference)
    equal(network.apply(params, state, inputs), (expected, state))


def test_keyword_inputs_and_a_field_that_says_the_mode():
    network = from_flax(models.Named())
    params, state = network.init(KEY, ROWS)
    expected = models.Named().apply({"params": params}, inputs=ROWS, train=True, **DROPOUT)
    equal(network.apply(params, state, ROWS, key=KEY)[0], expected)

    network, still = from_flax(models.Field(), switch="deterministic"), models.Field()
    params, state = network.init(KEY, ROWS)
    trained = models.Field(deterministic=False).apply({"params": params}, ROWS, **DROPOUT)
    equal(network.apply(params, state, ROWS, key=KEY)[0], trained)
    equal(network.apply(params, state, ROWS)[0], still.apply({"params": params}, ROWS))
    left = from_flax(models.Field(), switch={})
    equal(left.apply(params, state, ROWS, key=KEY)[0], still.apply({"params": params}, ROWS))


def test_a_key_and_another_method():
    other = jax.random.key(5)
    network = from_flax(models.Keyed(), call=lambda m, x, key: m(x, key), inference_key=other)
    params, state = network.init(KEY, ROWS)
    equal(params, models.Keyed().init(KEY, ROWS, KEY)["params"])
    for key, drawn in ((KEY, KEY), (None, other)):
        expected = models.Keyed().apply({"params": params}, ROWS, drawn)
        equal(network.apply(params, state, ROWS, key=key)[0], expected)
    writer = from_flax(models.Keyed(), call=models.Keyed.generate)
    expected = models.Keyed().apply({"params": params}, ROWS[:, :3], method="generate")
    equal(writer.apply(params, state, ROWS[:, :3])[0], expected)


def test_another_module_predicts():
    network = from_flax(models.Configured(False), inference=models.Configured(True))
    inputs = {"inputs": TOKENS, "inputs_positions": PLACES}
    params, state = network.init(KEY, inputs)
    variables = models.Configured(True).init(KEY, TOKENS, PLACES)
    equal(params, variables["params"])
    expected = models.Configured(False).apply(variables, TOKENS, PLACES, **DROPOUT)
    equal(network.apply(params, state, inputs, key=KEY)[0], expected)
    equal(
        network.apply(params, state, inputs)[0],
        models.Configured(True).apply(variables, TOKENS, PLACES),
    )


def test_a_model_that_draws_in_inference():
    other = jax.random.key(5)
    network = from_flax(models.Drawing(), inference_key=other)
    params, state = network.init(KEY, (ROWS, ROWS))
    for key, drawn in ((KEY, part_key(KEY, "lstm")), (None, part_key(other, "lstm"))):
        expected = models.Drawing().apply({"params": params}, ROWS, ROWS, rngs={"lstm": drawn})
        equal(network.apply(params, state, (ROWS, ROWS), key=key)[0], expected)


def test_the_name_of_an_axis_stands_for_all_devices():
    network = from_flax(models.Axis())
    params, state = network.init(KEY, ROWS)

    def on_a_device(x):
        return models.Axis().apply({"params": params, **state}, x, mutable=["batch_stats"])

    expected = jax.tree.map(lambda x: x[0], jax.vmap(on_a_device, axis_name="batch")(ROWS[None]))
    outputs = jax.jit(network.apply)(params, state, ROWS, key=KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), outputs, expected)
    learner = jaxnn.learner(network, jaxnn.classification(), optax.sgd(0.1))
    data = jaxnn.resident({"inputs": ROWS, "labels": jnp.array([0, 1, 0, 1])}, batch_size=4)
    run = jaxnn.fit(learner, data, steps=2, key=KEY)
    assert (run.state.state["batch_stats"]["BatchNorm_0"]["mean"] != 0).all()


def test_what_linen_sows_comes_beside_the_outputs():
    network = from_flax(models.Sowing(), sown=["losses", "intermediates"])
    params, state = network.init(KEY, ROWS)
    assert state == {}
    expected = models.Sowing().apply({"params": params}, ROWS, mutable=["losses", "intermediates"])
    for key in (KEY, None):
        equal(network.apply(params, state, ROWS, key=key)[0], expected)
    dropped = from_flax(models.Sowing(), sown=[])
    equal(dropped.apply(params, state, ROWS, key=KEY), (expected[0], {}))


def test_what_a_call_of_nnx_makes_comes_beside_the_outputs():
    network = from_flax(models.NnxSowing, sown=["kl", nnx.Intermediate])
    params, state = network.init(KEY, ROWS)
    module = models.NnxSowing(nnx.Rngs(KEY))
    hidden = module.hidden(ROWS)
    (outputs, sown), _ = network.apply(params, state, ROWS, key=KEY)
    equal(outputs, module.output(hidden))
    equal(sown, {"kl": {"kl": (hidden**2).mean()}, "Intermediate": {"seen": hidden}})
    dropped = from_flax(models.NnxSowing, sown=())
    equal(dropped.apply(params, state, ROWS)[0], outputs)


def test_sown_losses_reach_the_objective():
    network = from_flax(models.Sowing(), sown=["losses"])

    @jaxnn.objectives.batchwise
    def loss(outputs, batch):
        outputs, sown = outputs
        return ((outputs - batch["labels"]) ** 2).mean() + sum(jax.tree.leaves(sown))

    learner = jaxnn.learner(network, loss, optax.sgd(0.1))
    batch = {"inputs": ROWS, "labels": jnp.zeros((4, 2))}
    state = learner.init(KEY, {}, batch)

    def by_hand(params):
        outputs, left = models.Sowing().apply({"params": params}, ROWS, mutable=["losses"])
        return (outputs**2).mean() + left["losses"]["size"][0]

    after, metrics = learner.step(state, batch)
    assert metrics["loss"].value() == by_hand(state.params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, jax.grad(by_hand)(state.params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after.params, expected)


def test_nnx_is_called_with_streams_masks_and_caches():
    network = from_flax(models.NnxCalled)
    params, state = network.init(KEY, ROWS)
    module = models.NnxCalled(nnx.Rngs(KEY))
    equal(network.apply(params, state, ROWS, key=KEY)[0], module(ROWS, nnx.Rngs(KEY)))
    module = models.NnxCalled(nnx.Rngs(KEY))
    module.eval()
    equal(network.apply(params, state, ROWS)[0], module(ROWS, None))

    network = from_flax(
        models.NnxMasked, call=lambda module, x, **mode: module(x, PLACES, None, CAUSAL, **mode)[0]
    )
    params, state = network.init(KEY, TOKENS)
    module = models.NnxMasked(nnx.Rngs(KEY))
    expected, _ = module(TOKENS, PLACES, None, CAUSAL, rngs=nnx.Rngs(KEY))
    equal(network.apply(params, state, TOKENS, key=KEY)[0], expected)
    module.eval()
    equal(network.apply(params, state, TOKENS)[0], module(TOKENS, PLACES, None, CAUSAL)[0])


def test_an_attribute_of_nnx_says_the_mode():
    network = from_flax(models.NnxFlag, switch="training")
    params, state = network.init(KEY, ROWS)
    outputs = [network.apply(params, state, ROWS, key=key)[0] for key in (KEY, None)]
    equal(outputs[1], models.NnxFlag(nnx.Rngs(KEY))(ROWS))
    assert (outputs[0] != outputs[1]).any()
    left = from_flax(models.NnxFlag, switch={})
    equal(left.apply(params, state, ROWS, key=KEY)[0], outputs[1])


def test_caches_advance_in_inference():
    network, one = from_flax(models.nnx_decoder), jnp.ones((4, 1, 8))
    params, state = network.init(KEY, one)
    module = models.nnx_decoder(nnx.Rngs(KEY))
    module.eval()
    for number in (1, 2):
        outputs, state = network.apply(params, state, one)
        equal(outputs, module(one))
        assert state["cache_index"] == number

    network = from_flax(models.Configured(True, decode=True), switch={})
    params, state = network.init(KEY, TOKENS)
    variables = {"params": params, **state}
    for number in range(2):
        token = TOKENS[:, number : number + 1]
        outputs, state = network.apply(params, state, token)
        expected, changed = models.Configured(True, True).apply(variables, token, mutable=["cache"])
        variables |= changed
        equal((outputs, state), (expected, changed))
    assert state["cache"]["MultiHeadDotProductAttention_0"]["cache_index"] == 2


def test_a_model_with_lists_and_dicts_in_its_settings_generates():
    def network(mixes):
        return from_flax(models.Listed([6, 4], {"hidden": 2.0, "sizes": [1]}, mixes))

    params, state = network(False).init(KEY, TOKENS)
    options = {"key": KEY, "temperature": 0}
    tokens = jaxnn.generate(network(False), params, state, TOKENS, 3, **options)
    last = TOKENS[:, -1:]
    for place in range(3):
        last = network(False).apply(params, state, last)[0].argmax(-1)
        equal(tokens[:, place : place + 1], last.astype(jnp.int32))
    with pytest.raises(Invalid, match="logits differ between reading in chunks and as a whole"):
        jaxnn.generate(network(True), params, state, TOKENS, 3, **options)
    assert "widths=(6, 4)" in repr(network(False))


class Precise(nn.Module):
    dtype: type | None = jnp.float32
    norm: type | None = None

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, dtype=self.dtype)(nn.LayerNorm(dtype=self.norm)(x))


class NnxPrecise(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(5, 3, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)


def test_mixed_precision_narrows_products_where_it_can():
    network = jaxnn.mixed_precision(from_flax(Precise(dtype=None)))
    params, state = network.init(KEY, ROWS)
    program = str(jax.make_jaxpr(network.apply)(params, state, ROWS))
    assert "bf16[4,3] = dot_general" in program


def trained(network, inputs):
    return network.apply(*network.init(KEY, inputs), inputs, key=KEY)


def applied(network, inputs):
    return network.apply(*network.init(KEY, inputs), inputs)


MISTAKES = {
    "one_input_of_two": (
        lambda: trained(from_flax(models.Lengths()), TOKENS),
        r"Lengths is called with 2 inputs: token_ids, lengths.*call=lambda module, inputs",
    ),
    "call_without_a_flag": (
        lambda: trained(
            from_flax(models.Lengths(), call=lambda m, x: m(*x, True)), (TOKENS, LENGTHS)
        ),
        r"Dropout.*Let call take a flag, lambda module, inputs, deterministic.*switch=\{\} accepts",
    ),
    "key_without_one_in_inference": (
        lambda: from_flax(models.Keyed(), call=lambda module, x, key: module(x, key)),
        r"inference has none.*inference_key=jax\.random\.key\(0\)",
    ),
    "call_of_one": (
        lambda: from_flax(models.Keyed(), call=lambda x: x),
        r"the module and the inputs",
    ),
    "call_takes_what_is_not": (
        lambda: from_flax(models.Keyed(), call=lambda module, x, trian: x),
        r"'trian'; expected some of deterministic, .*Did you mean 'train'\?",
    ),
    "field": (
        lambda: from_flax(models.Field()),
        r"deterministic=True, which would.*switch='deterministic'\) to have it False in training",
    ),
    "unknown_boolean": (
        lambda: from_flax(models.Unknown()),
        r"Got is_train, .*switch='is_train'\) if it is true in training, switch=\{'is_train': F",
    ),
    "unknown_switch": (
        lambda: from_flax(models.Unknown(), switch="is_trian"),
        r"no flag 'is_trian'.*Did you mean 'is_train'\?",
    ),
    "unknown_switch_of_nnx": (
        lambda: from_flax(models.NnxFlag, switch="trainin"),
        r"Did you mean 'training'\?",
    ),
    "draws_in_inference": (
        lambda: applied(from_flax(models.Drawing()), (ROWS, ROWS)),
        r"Drawing samples random numbers in inference.*inference=module.*inference_key=",
    ),
    "trains_alone": (
        lambda: applied(from_flax(models.Configured(False)), TOKENS),
        r"samples random numbers in inference",
    ),
    "predicts_alone": (
        lambda: trained(from_flax(models.Configured(True)), TOKENS),
        r"Dropout that stays in inference mode.*inference=module",
    ),
    "sown": (
        lambda: applied(from_flax(models.Sowing()), ROWS),
        r"'losses'.*Write sown=\['losses'\]",
    ),
    "sown_of_nnx": (
        lambda: applied(from_flax(models.NnxSowing), ROWS),
        r"a Variable 'kl'.*sown=\['kl'\]",
    ),
    "sown_by_a_wrong_name": (
        lambda: trained(from_flax(models.Sowing(), sown=["loss"]), ROWS),
        r"no 'loss' in training.*expected some of losses",
    ),
    "sown_is_no_list": (
        lambda: from_flax(models.Sowing(), sown="losses"),
        r'Write sown=\["losses"\]',
    ),
    "bare_arrays": (
        lambda: from_flax(models.NnxBare),
        r"nothing to train.*bare arrays weight.*self\.weight = nnx\.Param\(\.\.\.\)",
    ),
    "attribute": (lambda: from_flax(models.NnxFlag), r"training=False.*switch='training'"),
    "precision": (
        lambda: applied(jaxnn.mixed_precision(from_flax(Precise())), ROWS),
        r"Dense_0, which computes in float32.*layers with dtype=None.*dtype=jnp\.bfloat16",
    ),
    "precision_of_inputs": (
        lambda: applied(jaxnn.mixed_precision(from_flax(Precise(None, jnp.float32))), ROWS),
        r"Dense_0, which computes in float32: its inputs have that dtype",
    ),
    "precision_of_nnx": (
        lambda: applied(jaxnn.mixed_precision(from_flax(NnxPrecise)), ROWS),
        r"layer, which computes in float32: dtype=",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_an_error_that_says_what_to_write(name):
    mistake, fix = MISTAKES[name]
    with pytest.raises(Invalid, match=fix):
        mistake()
