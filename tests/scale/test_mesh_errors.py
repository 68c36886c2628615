"""What cannot be spread over devices is refused before anything compiles, with the fix."""

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxnn
from jaxnn import scale
from jaxnn.driver.meshes import uses_all
from jaxnn.scale import _mesh

LEARNER = jaxnn.learner(jaxnn.mlp([8], 3), jaxnn.classification(), optax.sgd(0.1))
ARRAYS = {"inputs": np.ones((10, 4), np.float32), "labels": np.arange(10) % 3}
STATE = jax.eval_shape(LEARNER.init, jax.random.key(0), {}, ARRAYS)


def devices(count, processes=1):
    """Stands for devices: a mesh is refused before it asks them anything."""

    class Device:
        def __init__(self, number):
            self.process_index = number * processes // count

    return [Device(number) for number in range(count)]


def test_slices_follow_one_another_along_data():
    """Within a slice are the devices that share parameters, between slices the least is sent."""

    class Device:
        platform = device_kind = "gpu"

        def __init__(self, number):
            self.id, self.slice_index = number, number % 2
            self.process_index = number // 4

    arranged = _mesh._arranged([Device(number) for number in range(8)], 4, 2)
    slices = [[device.slice_index for device in row] for row in arranged]
    assert slices == [[0, 0], [0, 0], [1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("platform", "count", "batch_size", "all_of_them"),
    [
        pytest.param("tpu", 8, 64, True, id="tpu"),
        pytest.param("gpu", 2, 64, True, id="gpu"),
        pytest.param("gpu", 1, 64, False, id="one"),
        pytest.param("gpu", 8, 100, False, id="does not divide"),
        pytest.param("cpu", 8, 64, False, id="cpu"),
    ],
)
def test_a_run_uses_all_accelerators_that_divide_its_batch(
    platform, count, batch_size, all_of_them
):
    chips = devices(count)
    for chip in chips:
        chip.platform = platform
    assert uses_all(chips, batch_size) == all_of_them


@pytest.mark.parametrize(
    ("arguments", "count", "fix"),
    [
        pytest.param({"data": 3}, 8, r"data=2 or data=4\.", id="data"),
        pytest.param({"model": 3}, 8, r"model=2 or model=4\.", id="model"),
        pytest.param({"data": 16}, 8, r"data=8\.", id="too many"),
        pytest.param({"data": 8, "model": 2}, 8, r"data=4\.", id="product"),
        pytest.param({"data": 0}, 8, "data=1", id="zero"),
    ],
)
def test_a_mesh_must_divide_the_devices(arguments, count, fix):
    with pytest.raises(jaxnn.InvalidValue, match=fix):
        scale.mesh(**arguments, devices=devices(count))


def test_every_process_takes_part():
    with pytest.raises(jaxnn.InvalidValue, match=r"product is 8, as every process takes part"):
        scale.mesh(4, devices=devices(8, processes=2))


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        pytest.param({"hiden_1": None}, "matches no name.*'hidden_1'", id="no name"),
        pytest.param({"*": None, "output": None}, "never used", id="never used"),
        pytest.param(
            {"*": [scale.split(0, "data"), scale.largest("data")]}, "an axis twice", id="mesh axis"
        ),
        pytest.param(
            {"*": [scale.split(0, "data"), scale.split(0, "model")]}, "an axis twice", id="axis"
        ),
        pytest.param({"*": scale.split(0, "rows")}, "one of data, model", id="no axis"),
        pytest.param({"*": "data"}, "has the wrong type.*largest", id="value"),
        pytest.param(
            {"output/weight": PartitionSpec(None, "data")}, "does not divide.*largest", id="uneven"
        ),
        pytest.param({"output/weight": scale.split(2, "data")}, "does not divide", id="no such"),
    ],
)
def test_rules_are_checked(rules, words):
    with pytest.raises(jaxnn.Invalid, match=f"(?s){words}"):
        scale.shard(LEARNER, scale.mesh(2), rules).placement.shardings(STATE)


def test_rules_for_other_networks_are_refused():
    learner = jaxnn.learner(jaxnn.linear(2), jaxnn.classification(), optax.sgd(0.1))
    state = jax.eval_shape(learner.init, jax.random.key(0), {}, ARRAYS)
    sharded = scale.shard(learner, scale.mesh(1, 2), scale.tensor)
    with pytest.raises(jaxnn.InvalidValue, match="tensor match no parameter.*bias, weight"):
        sharded.placement.shardings(state)


def test_no_axis_of_the_mesh_is_idle():
    with pytest.raises(jaxnn.InvalidValue, match=r"model=2 and the rules fsdp.*rules=tensor"):
        scale.shard(LEARNER, scale.mesh(1, 2), scale.fsdp)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        pytest.param(("rows",), AxisType.Auto, id="names"),
        pytest.param(("data",), AxisType.Explicit, id="explicit"),
    ],
)
def test_a_mesh_of_ones_own_has_our_axes(names, kind):
    own = jax.make_mesh((2,), names, axis_types=(kind,))
    with pytest.raises(jaxnn.InvalidValue, match=r"an axis 'data'.*jaxnn.scale.mesh\(\)"):
        scale.shard(LEARNER, own)


def test_a_learner_has_one_mesh():
    sharded = scale.shard(LEARNER, scale.mesh(2))
    with pytest.raises(jaxnn.InvalidValue, match="has a mesh already"):
        scale.shard(sharded, scale.mesh(1))
    with pytest.raises(jaxnn.InvalidType, match="the learner has no mesh"):
        scale.shares(LEARNER, STATE)


def train(batch_size, **options):
    data = jaxnn.resident(ARRAYS, batch_size=batch_size)
    options = {"key": jax.random.key(0), "mesh": scale.mesh(2)} | options
    return jaxnn.train(LEARNER, data, steps=1, **options)


def test_a_mesh_must_divide_the_batch():
    with pytest.raises(jaxnn.InvalidValue, match=r"batch_size=4 or 6, or mesh\(data=1\)"):
        train(5)


def test_members_on_a_mesh_train_one_after_another():
    with pytest.raises(jaxnn.InvalidValue, match="one after another, each on the whole mesh"):
        train(4, key=jaxnn.keys([0, 1]), execution=jaxnn.Execution(width=2))


def test_rules_alone_ask_for_all_devices_and_nothing_for_one():
    assert len(train(4, mesh=None, rules=scale.fsdp).devices) == 2
    assert len(train(4, mesh=None).devices) == 1


def test_moments_and_averages_lie_as_their_parameter():
    learner = jaxnn.average(jaxnn.learner(jaxnn.mlp([8], 4), jaxnn.classification(), optax.adam(1)))
    rules = {"hidden_1/weight": scale.split(1, "data"), "output/*": scale.split(0, "data")}
    sharded = scale.shard(learner, scale.mesh(2), rules)
    state = jax.eval_shape(learner.init, jax.random.key(0), {}, ARRAYS)
    lies = sharded.placement.shardings(state)
    trees = lies.params, lies.opt_state[0].mu, lies.opt_state[0].nu, lies.extra["average"]
    for tree in trees:
        assert list(tree["hidden_1"]["weight"].spec) == [None, "data"]
        assert list(tree["output"]["bias"].spec) == ["data"]
        assert not any(tree["hidden_1"]["bias"].spec)
    table = scale.shares(sharded, state)
    row = {row.parameter: row for row in table.rows}["hidden_1/weight"]
    assert (row.split, row.arrays, row.device_bytes) == ("axis 1 over data", 4, row.bytes / 2)
    assert "axis 1 over data" in str(table) and table.total.bytes > table.total.device_bytes


def test_factored_moments_lie_as_far_as_they_divide():
    network, adafactor = jaxnn.mlp([256], 4), optax.adafactor(0.1, min_dim_size_to_factor=2)
    learner = jaxnn.learner(network, jaxnn.classification(), adafactor)
    arrays = {"inputs": np.ones((10, 256), np.float32), "labels": np.arange(10) % 4}
    sharded = scale.shard(learner, scale.mesh(2), scale.fsdp)
    state = jax.eval_shape(learner.init, jax.random.key(0), {}, arrays)
    lies = sharded.placement.shardings(state)
    assert list(lies.params["hidden_1"]["weight"].spec) == [None, "data"]
    jax.tree.map(lambda x, place: place.shard_shape(x.shape), state, lies)  # all of them divide
