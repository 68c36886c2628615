"""The heads of pretrained classifiers: labels beyond them, and heads for other classes."""

import jax
import numpy as np
import optax
import pytest

import jaxnn
from tests.pretrained.models_to_load import saved
from tests.pretrained.peers import tokens_of


def training(network, fields, start):
    """Returns a run that is checked, and not compiled."""
    learner = jaxnn.learner(network, jaxnn.classification(), optax.adam(1e-3))
    data = jaxnn.resident(fields, batch_size=2)
    return jaxnn.train(learner, data, steps=2, key=jax.random.key(0), start=start)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("adapted", [False, True], ids=["all", "lora"])
def test_labels_beyond_the_head_are_refused_before_anything_compiles(adapted, masked, tmp_path):
    saved("bert_classes", tmp_path)
    model = jaxnn.pretrained.load(tmp_path)
    fields = {"inputs": tokens_of(4, 5, 37), "labels": [0, 1, 3, 2]}
    fields |= {"mask": np.arange(20).reshape(4, 5) % 5 < 3} if masked else {}
    network, start = model.network, (model.params, model.state)
    if adapted:
        network, start = jaxnn.lora(network, rank=2), ({}, {"base": model.params})
    words = r"Got labels\[2\]=3 with 3 outputs; expected integers from 0 to 2. .*an output for each"
    with pytest.raises(jaxnn.InvalidValue, match=words):
        training(network, fields, start)


def test_a_head_for_other_classes_is_initialised(tmp_path):
    saved("vit", tmp_path)
    model = jaxnn.pretrained.load(tmp_path)
    *body, _ = model.network.parts.children
    network = jaxnn.serial(*body, ("output", jaxnn.linear(5)))
    params = {name: x for name, x in model.params.items() if name != "output"}
    fields = {"inputs": np.zeros((4, 12, 12, 3), np.float32), "labels": [0, 1, 2, 4]}
    run = training(network, fields, (params, model.state))
    state = jax.eval_shape(run.trials).state
    assert state.params["output"]["weight"].shape[-1] == 5
    with pytest.raises(jaxnn.InvalidValue, match="start has output/.* with a shape that differs"):
        training(network, fields, (model.params, model.state))
