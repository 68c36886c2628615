"""One run on eight simulated devices: what it comes to, what its program does, what is refused."""

from collections import Counter

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import scale
from jaxnn.scale.placement import without_mesh
from jaxnn.storage.identity import identity
from tests.scale.simulated import collectives, differences, on_devices, programs

LAYOUTS = {
    "data parallel": (8, 1, scale.replicated),
    "fsdp": (8, 1, {"*": scale.largest("data", at_least=0)}),
    "4x2": (4, 2, {"*": [scale.largest("model", at_least=0), scale.largest("data", at_least=0)]}),
}


def digits():
    return jaxnn.resident(jaxnn.datasets.digits(), batch_size=64)


def learner():
    network = jaxnn.serial(
        jaxnn.standardize(5.0, 6.0), ("layers", jaxnn.mlp([64, 32], 10, dropout=0.1))
    )
    return jaxnn.learner(network, jaxnn.classification(), lambda h: optax.adam(h["rate"]))


def trained(data, **options):
    return jaxnn.train(
        learner_once, data, steps=20, every=20, key=jax.random.key(0), hparams={"rate": 1e-3},
        evaluate=data, **options,
    )  # fmt: skip


learner_once = learner()


def law():
    """Returns the difference that each layout makes, and the collectives of its program."""
    data = digits()
    (alone,) = trained(data)
    begun = trained(data).start().state.params
    results = {}
    for name, (rows, columns, rules) in LAYOUTS.items():
        training = trained(data, mesh=scale.mesh(rows, columns), rules=rules)
        with programs() as compiled:
            (progress,) = training
        loss = "test/loss"
        results[name] = differences(
            progress.state.params, progress.metrics[loss], alone.state.params, begun,
            alone.metrics[loss],
        )  # fmt: skip
        weight = progress.state.params["layers"]["hidden_1"]["weight"]
        moment = progress.state.opt_state[0].mu["layers"]["hidden_1"]["weight"]
        text = training.lowered().compile().as_text()
        results[name] |= {
            "devices": len(training.devices),
            "split": [list(weight.sharding.spec), list(moment.sharding.spec)],
            "share": weight.addressable_shards[0].data.size / weight.size,
            "collectives": Counter(kind for kind, _ in collectives(text)),
            "loops": compiled.count("looped"),
            "same": identity(training) == identity(trained(data)),
        }
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return on_devices(8, law, tmp_path_factory.mktemp("mesh"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_eight_devices_train_as_one(results, layout):
    result = results[layout]
    assert result["devices"] == 8
    assert result["loss"] <= 1e-6 and result["update"] <= 1e-4
    assert result["same"], "the identity of a run is that without its mesh"


def test_rules_say_where_parameters_and_their_moments_lie(results):
    splits = [result["split"] for result in results.values()]
    assert [split[0] for split in splits] == [[], [None, "data"], ["data", "model"]]
    assert all(of_param == of_moment for of_param, of_moment in splits)
    assert [result["share"] for result in results.values()] == [1, 1 / 8, 1 / 8]


def test_the_loop_is_compiled_once(results):
    assert [result["loops"] for result in results.values()] == [1, 1, 1]


def test_data_parallel_training_adds_up_gradients_once(results):
    assert set(results["data parallel"]["collectives"]) == {"all-reduce"}
    assert results["data parallel"]["collectives"]["all-reduce"] <= 2


def test_a_mesh_of_one_device_changes_no_bit():
    data = digits()
    (alone,), (meshed,) = trained(data), trained(data, mesh=scale.mesh(1))
    assert jax.tree.all(jax.tree.map(np.array_equal, alone.state.params, meshed.state.params))


def test_a_learner_without_its_mesh_is_traced_as_it_was():
    sharded = scale.shard(learner_once, scale.mesh(2), {"*": scale.largest("data", at_least=0)})
    batch = digits().batch(0)
    state = learner_once.init(jax.random.key(0), {"rate": 1e-3}, batch)
    assert "sharding_constraint" in str(jax.make_jaxpr(sharded.step)(state, batch))
    with without_mesh():
        alone = str(jax.make_jaxpr(sharded.step)(state, batch))
    assert "sharding_constraint" not in alone
