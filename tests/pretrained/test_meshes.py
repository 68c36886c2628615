"""Loading onto a mesh: each device gets its share, and the numbers are those of one device."""

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import pretrained, scale
from jaxnn.checks import InvalidValue
from jaxnn.names import named_leaves
from jaxnn.scale import memory
from tests.pretrained.files import write_folder

HALVES = {"*": scale.largest("data", at_least=1)}
TOKENS = np.arange(10, dtype=np.int32).reshape(2, 5)


def loaded(folder, **options):
    return pretrained.load(folder, mesh=scale.mesh(2), **options)


@pytest.mark.parametrize("stacked", [False, True], ids=["blocks", "stacked"])
def test_each_device_holds_its_share_of_the_same_model(stacked, tmp_path):
    alone = pretrained.load(write_folder(tmp_path), stacked=stacked)
    shared = loaded(tmp_path, stacked=stacked, rules=HALVES)
    whole = sum(x.nbytes for x in jax.tree.leaves(alone.params))
    for device in jax.devices()[:2]:
        shards = [x.addressable_shards for x in jax.tree.leaves(shared.params)]
        own = [each.data.nbytes for parts in shards for each in parts if each.device == device]
        assert sum(own) == whole / 2
    for name, array in named_leaves(alone.params).items():
        np.testing.assert_array_equal(named_leaves(shared.params)[name], array, strict=True)
    logits, expected = (
        jax.jit(model.network.apply)(model.params, model.state, TOKENS)[0]
        for model in (shared, alone)
    )
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_what_was_loaded_onto_a_mesh_is_fine_tuned_there(tmp_path):
    write_folder(tmp_path)
    losses = []
    for options in ({}, {"mesh": scale.mesh(2), "rules": HALVES}):
        model = pretrained.load(tmp_path, **options)
        learner = jaxnn.learner(model.network, jaxnn.next_token(), optax.sgd(0.1))
        data = jaxnn.windows(np.arange(64, dtype=np.int32) % 11, 6, batch_size=4)
        run = jaxnn.fit(
            learner, data, steps=3, key=jax.random.key(0), start=(model.params, {}), **options
        )
        losses.append(run.result["train/loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_model_that_does_not_fit_on_one_device_loads_onto_two(tmp_path, monkeypatch):
    write_folder(tmp_path)
    monkeypatch.setattr(memory, "available", lambda device: 4000)
    with pytest.raises(InvalidValue, match=r"rules=jaxnn\.scale\.fsdp"):
        pretrained.load(tmp_path)
    with pytest.raises(InvalidValue, match="more memory than is free"):
        loaded(tmp_path)  # replicated
    loaded(tmp_path, rules=HALVES)


def test_rules_that_do_not_match_are_refused(tmp_path):
    write_folder(tmp_path)
    with pytest.raises(InvalidValue, match="pretrained.load: the axis of a rule"):
        loaded(tmp_path, rules={"*": scale.split(0, "rows")})
    with pytest.raises(InvalidValue, match="a rule matches no name"):
        loaded(tmp_path, rules={"*nothing": scale.largest("data")})
