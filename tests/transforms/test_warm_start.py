"""Starting from another network: what is taken is so bit for bit, and all else as without."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.models.flax import flax_parameters, from_flax
from jaxnn.transforms._warm_start import Origin, resize, warm_start
from tests.flax_models import LinenModel, NnxModel
from tests.mistakes import DATA, INPUTS
from tests.registry import real
from tests.sources import KEY, NETWORK, PARAMS, WIDER, normalized, source
from tests.trees import assert_same_bits

pytestmark = pytest.mark.slow


def initial(network, key=KEY, inputs=INPUTS):
    return jax.jit(network.init)(key, inputs)


def origins(started):
    return {(row.tree, row.name): (row.origin, row.source) for row in started.table.rows}


# --- What is taken -----------------------------------------------------------------------------


def test_by_default_every_leaf_of_the_same_name_is_taken(key):
    started = warm_start(NETWORK, PARAMS, INPUTS)
    assert_same_bits(initial(started.network), (PARAMS, {}))
    assert_same_bits(started.network.init(key, INPUTS), (PARAMS, {}))
    assert started.network.apply is NETWORK.apply
    assert started.network.parts == NETWORK.parts
    assert {row.origin for row in started.table.rows} == {"taken"}
    assert started.table.unused == ()


def test_partial():
    """What has no source is drawn as it would be without any; what is not used is said."""
    body = {"hidden_1": PARAMS["hidden_1"], "decoder": {"weight": np.ones((2, 2))}}
    started = warm_start(NETWORK, body, INPUTS)
    params, _ = initial(started.network)
    assert_same_bits(params["hidden_1"], PARAMS["hidden_1"])
    assert_same_bits(params["output"], initial(NETWORK)[0]["output"])
    assert str(started.table).splitlines() == [
        "name             tree    shape   origin       source",
        "hidden_1/bias    params  (8,)    taken        hidden_1/bias",
        "hidden_1/weight  params  (4, 8)  taken        hidden_1/weight",
        "output/bias      params  (3,)    initialised",
        "output/weight    params  (8, 3)  initialised",
        "                 params  (2, 2)  not used     decoder/weight",
    ]
    assert repr(started.table) == str(started.table)


def test_a_rule_leaves_leaves_as_they_are_drawn():
    started = warm_start(NETWORK, WIDER, INPUTS, {"output": None})
    params, _ = initial(started.network)
    assert_same_bits(params["hidden_1"], WIDER["hidden_1"])
    assert_same_bits(params["output"], initial(NETWORK)[0]["output"])
    unused = started.table.unused
    assert [row.source for row in unused] == ["output/bias", "output/weight"]
    assert unused[0] == Origin("", "params", (5,), "not used", "output/bias")


def test_what_is_not_taken_is_drawn_by_the_key():
    first, again, other = (
        initial(warm_start(NETWORK, WIDER, INPUTS, {"output": None}).network, key)[0]
        for key in (KEY, KEY, jax.random.key(6))
    )
    assert_same_bits(first, again)
    assert (first["output"]["weight"] != other["output"]["weight"]).all()
    assert_same_bits(first["hidden_1"], other["hidden_1"])


def test_renamed():
    old = {"layers": [PARAMS["hidden_1"], PARAMS["output"]]}
    for rules in (
        {"hidden_1": "layers/0", "output": "layers/1"},
        [("hidden_1/*", "layers/0/*"), ("output/*", "layers/1/*")],
    ):
        started = warm_start(NETWORK, old, INPUTS, rules)
        assert_same_bits(initial(started.network)[0], PARAMS)
        assert origins(started)["params", "output/bias"] == ("taken", "layers/1/bias")
        assert started.table.unused == ()


def test_one_leaf_may_be_taken_more_than_once():
    block = jaxnn.serial(("one", jaxnn.linear(4)), ("two", jaxnn.linear(4)))
    layer, _ = source(jaxnn.linear(4))
    started = warm_start(block, {"shared": layer}, INPUTS, {"one": "shared", "two": "shared"})
    assert_same_bits(initial(started.network)[0], {"one": layer, "two": layer})
    assert started.table.unused == ()


def test_changed_by_a_function():
    """Weights of a library that stores them transposed, and under another name."""
    theirs = {"fc": {"kernel": PARAMS["hidden_1"]["weight"].T}, "output": PARAMS["output"]}
    rules = {
        "hidden_1/weight": ("fc/kernel", lambda array, shape: array.T),
        "output/bias": lambda array, shape: array * 2,
    }
    started = warm_start(NETWORK, theirs, INPUTS, rules)
    params, _ = initial(started.network)
    assert_same_bits(params["hidden_1"]["weight"], PARAMS["hidden_1"]["weight"])
    assert_same_bits(params["hidden_1"]["bias"], initial(NETWORK)[0]["hidden_1"]["bias"])
    assert_same_bits(params["output"]["bias"], 2 * PARAMS["output"]["bias"])
    assert [row.origin for row in started.table.rows] == [
        "initialised", "changed", "changed", "taken",
    ]  # fmt: skip
    assert started.table.rows[1].source == "fc/kernel"


def test_converted():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    rules = {"*": lambda array, shape: array.astype("float32")}
    params, _ = initial(warm_start(NETWORK, half, INPUTS, rules).network)
    assert_same_bits(params, jax.tree.map(lambda x: x.astype(np.float32), half))


def test_dtypes_and_kinds_of_arrays_stay():
    """Integers, 16-bit floats and scalars, given as arrays of jax."""
    drawn = {"count": jnp.int32(0), "half": jnp.zeros(3, jnp.bfloat16), "on": jnp.zeros(2, bool)}
    network = jaxnn.stateless(lambda params, inputs: inputs, lambda key, inputs: drawn)
    given = {
        "count": jnp.int32(7),
        "half": jnp.arange(3, dtype=jnp.bfloat16),
        "on": jnp.ones(2, bool),
    }
    started = warm_start(network, given, INPUTS)
    params, _ = initial(started.network)
    assert_same_bits(params, given)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(params))


def test_what_init_returns_is_a_copy(key):
    """An initialised network may be used up by training, and the source is still there."""
    given = jax.tree.map(jnp.array, PARAMS)
    network = warm_start(NETWORK, given, INPUTS).network
    for init in (network.init, jax.jit(network.init)):
        used, _ = init(key, INPUTS)
        jax.tree.map(lambda x: x.delete(), used)
        assert_same_bits(given, PARAMS)


# --- Resized -----------------------------------------------------------------------------------


def positions(*shape):
    """A network that adds a table of positions."""
    return jaxnn.stateless(
        lambda params, inputs: inputs + params["positions"].sum(),
        lambda key, inputs: {"positions": 0.02 * jax.random.normal(key, shape)},
    )


def test_positions_are_interpolated_between_the_centres_of_intervals():
    """By hand: 2 to 4 positions, 4 at the quarters between; from 4 to 2, a hat of two intervals."""
    four = resize(0)(jnp.array([[0.0, 8.0], [4.0, 0.0]]), (4, 2))
    assert four.tolist() == [[0, 8], [1, 6], [3, 2], [4, 0]]
    two = resize(0)(jnp.array([0.0, 0.0, 7.0, 0.0]), (2,))
    np.testing.assert_allclose(two, [1.0, 3.0], rtol=1e-6)  # 7 * 1/7, 7 * 3/7 of hats 3, 3, 1


def test_resized():
    table = real(4, 4, 6)
    network = positions(8, 8, 6)
    started = warm_start(network, {"positions": table}, INPUTS, {"positions": resize(0, 1)})
    params, _ = initial(started.network)
    assert_same_bits(params["positions"], jax.jit(lambda x: resize(0, 1)(x, (8, 8, 6)))(table))
    assert str(started.table).splitlines()[1] == (
        "positions  params  (8, 8, 6)  changed  positions"
    )
    slope = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None, None], (4, 4, 6))
    finer = resize(0, 1)(jnp.array(slope), (8, 8, 6))
    np.testing.assert_allclose(np.diff(finer, axis=0)[1:-1], 0.5, rtol=1e-6)
    np.testing.assert_allclose(np.diff(finer, axis=1), 0, atol=1e-6)


def test_resized_keeps_the_dtype_and_what_has_its_shape():
    table = jnp.array(real(4, 6), jnp.bfloat16)
    assert resize(0)(table, (8, 6)).dtype == jnp.bfloat16
    assert_same_bits(resize(0)(table, (4, 6)), table)


# --- State -------------------------------------------------------------------------------------


def test_statistics_go_with_the_parameters_by_the_same_rules():
    network = normalized()
    params, state = source(normalized(first="body"))
    started = warm_start(network, params, INPUTS, {"first/*": "body/*"}, state=state)
    drawn, statistics = initial(started.network)
    assert_same_bits(drawn, {"first": params["body"], "output": params["output"]})
    assert_same_bits(statistics, {"first": state["body"]})
    assert origins(started)["state", "first/norm/mean"] == ("taken", "body/norm/mean")
    assert started.table.unused == ()


def test_statistics_are_left_by_the_same_rules():
    params, state = source(normalized())
    started = warm_start(normalized(), params, INPUTS, {"*norm": None}, state=state)
    drawn, statistics = initial(started.network)
    assert_same_bits(statistics, initial(normalized())[1])
    assert_same_bits(drawn["first"]["norm"], initial(normalized())[0]["first"]["norm"])
    assert_same_bits(drawn["first"]["dense"], params["first"]["dense"])
    assert [(row.tree, row.source) for row in started.table.unused] == [
        ("params", "first/norm/bias"), ("params", "first/norm/scale"),
        ("state", "first/norm/mean"), ("state", "first/norm/var"),
    ]  # fmt: skip


def test_a_network_may_be_told_that_there_are_no_statistics():
    params, _ = source(normalized(first="body"))
    started = warm_start(normalized(), params, INPUTS, {"first/*": "body/*"}, state={})
    assert_same_bits(initial(started.network)[1], initial(normalized())[1])
    assert origins(started)["state", "first/norm/var"] == ("initialised", "")


def test_predictions_are_those_of_the_source():
    params, state = source(normalized())
    state["first"]["norm"]["var"] **= 2
    network = warm_start(normalized(), params, INPUTS, state=state).network
    apply = jax.jit(network.apply)
    assert_same_bits(apply(*initial(network), INPUTS), apply(params, state, INPUTS))


def test_one_name_in_parameters_and_state_is_two_leaves():
    def both(key, inputs):
        return {"x": jnp.zeros(2)}, {"x": jnp.zeros(3)}

    network = jaxnn.Network(both, NETWORK.apply)
    given = {"x": np.ones(2, np.float32)}, {"x": np.full(3, 2, np.float32)}
    for rules in ((), {"x": "x"}):
        started = warm_start(network, given[0], INPUTS, rules, state=given[1])
        assert_same_bits(initial(started.network), given)


# --- Flax --------------------------------------------------------------------------------------


def test_flax_networks_start_from_flax_parameters():
    images = real(2, 6, 6, 1)
    network = from_flax(NnxModel, outputs=3)
    old = from_flax(NnxModel, outputs=7)
    params, state = source(old, images)
    started = warm_start(network, params, images, {"output/*": None}, state=state)
    drawn, statistics = initial(started.network, inputs=images)
    plain, _ = initial(network, inputs=images)
    assert_same_bits(drawn, params | {"output": plain["output"]})
    assert_same_bits(statistics, state)


def test_linen_collections_are_named_by_the_collection():
    old = from_flax(LinenModel(outputs=3))
    params, state = flax_parameters(source_of_linen(old))
    renamed = {"old": params}, {"batch_stats": {"old": state["batch_stats"]}}
    rules = {"batch_stats/*": "batch_stats/old/*", "*": "old/*"}
    started = warm_start(old, renamed[0], INPUTS, rules, state=renamed[1])
    assert_same_bits(initial(started.network), (params, state))


def source_of_linen(network):
    params, state = source(network)
    return {"params": params, **state}


# --- Training ----------------------------------------------------------------------------------


def trained(network, optimizer, steps=1, **settings):
    learner = jaxnn.learner(network, jaxnn.classification(), optimizer)
    return list(jaxnn.train(learner, DATA, steps=steps, key=KEY, **settings))[-1]


def test_training_begins_where_the_source_ended():
    """A first report over no change is of the source; then the loss falls further."""
    first = trained(NETWORK, optax.sgd(0.1), steps=30)
    network = warm_start(NETWORK, first.state.params, INPUTS).network
    last = trained(network, optax.sgd(0.0))
    assert_same_bits(last.state.params, first.state.params)
    last = trained(network, optax.sgd(0.1), steps=30)
    assert last.metrics["train/loss"] < first.metrics["train/loss"]


@pytest.mark.parametrize(
    ("optimizer", "memory"),
    [
        (optax.contrib.schedule_free_sgd(0.1), lambda state: state.z),
        (optax.contrib.dog(), lambda state: optax.tree.get(state, "init_params")),
    ],
)
def test_an_optimizer_remembers_the_parameters_that_were_taken(optimizer, memory):
    network = warm_start(NETWORK, WIDER, INPUTS, {"output": None}).network
    learner = jaxnn.learner(network, jaxnn.classification(), optimizer)
    state = jax.jit(partial(learner.init, hparams={}))(KEY, batch=DATA.arrays)
    assert_same_bits(state.params["hidden_1"], WIDER["hidden_1"])
    assert_same_bits(memory(state.opt_state), state.params)


def test_hyper_parameters_of_the_network_are_traced():
    def build(h):
        network = jaxnn.mlp([8], 3, dropout=h["dropout"], scale=h["scale"])
        return warm_start(network, WIDER, INPUTS, {"output": None}).network

    hparams = {"dropout": 0.5, "scale": 3.0}
    last = trained(build, optax.sgd(0.0), hparams=hparams)
    plain = jaxnn.learner(
        lambda h: jaxnn.mlp([8], 3, dropout=h["dropout"], scale=h["scale"]),
        jaxnn.classification(), optax.sgd(0.0),
    )  # fmt: skip
    expected = jax.jit(plain.init)(KEY, hparams, DATA.arrays).params
    assert_same_bits(last.state.params, expected | {"hidden_1": WIDER["hidden_1"]})


def test_every_member_of_a_population_starts_there():
    network = warm_start(NETWORK, WIDER, INPUTS, {"output": None}).network
    learner = jaxnn.learner(network, jaxnn.classification(), optax.sgd(0.0))
    training = jaxnn.train(learner, DATA, steps=1, key=jaxnn.keys(range(3)))
    params = jax.tree.map(np.asarray, list(training)[-1].state.params)
    assert_same_bits(
        params["hidden_1"], jax.tree.map(lambda x: np.stack([x] * 3), WIDER["hidden_1"])
    )
    assert len(np.unique(params["output"]["weight"][:, 0, 0])) == 3


# --- Blocks with numbers -------------------------------------------------------------------------


def deep(count, stacked=False):
    block = jaxnn.serial(("nodes", jaxnn.linear(4)), ("activation", jaxnn.activation(jnp.tanh)))
    if stacked:
        return jaxnn.serial(("blocks", jaxnn.repeat(block, count)))
    return jaxnn.serial(*((f"block_{n}", block) for n in range(1, count + 1)))


def counted_from_zero(params):
    """The parameters as another library would name them."""
    return {f"layers/{n}".split("/")[1]: params[f"block_{n + 1}"] for n in range(len(params))}


FOUR = jax.ShapeDtypeStruct((1, 4), jnp.float32)


def test_blocks_are_counted_anew_stacked_and_taken_apart():
    params, _ = deep(3).init(KEY, jnp.ones((1, 4)))
    theirs = {"layers": counted_from_zero(params)}
    renumbered = warm_start(deep(3), theirs, FOUR, {"block_{n+1}": "layers/{n}"})
    assert_same_bits(initial(renumbered.network, inputs=jnp.ones((1, 4)))[0], params)
    assert not renumbered.table.unused
    stacked = warm_start(deep(3, True), theirs, FOUR, {"blocks": "layers/{n}"})
    both = initial(stacked.network, inputs=jnp.ones((1, 4)))[0]
    weights = jnp.stack([params[f"block_{n}"]["nodes"]["weight"] for n in (1, 2, 3)])
    assert_same_bits(both["blocks"]["nodes"]["weight"], weights)
    assert not stacked.table.unused
    apart = warm_start(deep(3), both, FOUR, {"block_{n+1}": "blocks[{n}]"})
    assert_same_bits(initial(apart.network, inputs=jnp.ones((1, 4)))[0], params)


@pytest.mark.parametrize(
    ("network", "rules", "words"),
    [
        (
            deep(3),
            {"block_{n+1}": "layers/{n}"},
            "more blocks than the net.*layers/3/nodes/bias",
        ),
        (deep(5), {"block_{n+1}": "layers/{n}"}, "no leaf.*layers/4/nodes"),
        (deep(3, True), {"blocks": "layers/{n}"}, r"wrong shape.*\(4, 4\)"),
        (deep(3), {"block_{n}": "layers/{n}"}, "more blocks than the network.*layers/0"),
    ],
    ids=["fewer", "more", "stacked", "shifted"],
)
def test_a_source_with_other_blocks_than_the_network_is_refused(network, rules, words):
    params, _ = deep(4).init(KEY, jnp.ones((1, 4)))
    theirs = {"layers": counted_from_zero(params)}
    with pytest.raises(jaxnn.InvalidValue, match=words):
        warm_start(network, theirs, FOUR, rules)
