"""Models of random weights, of every family: what transformers computes, we compute."""

import jax
import numpy as np
import pytest

from jaxnn import pretrained
from jaxnn.masked import Masked, values_of
from tests.pretrained.models_to_load import ALL, IMAGES, saved
from tests.pretrained.peers import peer, tokens_of


@pytest.fixture(scope="module", params=ALL)
def case(request, tmp_path_factory):
    """The name of a model, its folder, and the model of transformers."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, saved(request.param, folder)


def inputs_of(name):
    if name in IMAGES:
        size = 12 if name.startswith("vit") else 40
        return np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    return tokens_of(2, 24, 37)


def outputs_of(model, name, inputs, **more):
    torch = peer("torch")

    with torch.no_grad():
        if name in IMAGES:
            outputs = model(torch.tensor(inputs.transpose(0, 3, 1, 2).copy()))
        else:
            outputs = model(torch.tensor(inputs.astype(np.int64)), **more)
    if hasattr(outputs, "logits"):
        return outputs.logits.numpy()
    features = outputs.last_hidden_state.numpy()
    return features[:, 0] if name in IMAGES else features


@pytest.mark.parametrize("stacked", [False, True], ids=["blocks", "stacked"])
def test_outputs_are_those_of_transformers(case, stacked):
    name, folder, model = case
    if stacked and name.startswith("resnet"):
        pytest.skip("a ResNet has no blocks that are alike")
    loaded = pretrained.load(folder, stacked=stacked)
    inputs = inputs_of(name)
    outputs, _ = jax.jit(loaded.network.apply)(loaded.params, loaded.state, inputs)
    expected = outputs_of(model, name, inputs)
    np.testing.assert_allclose(values_of(outputs), expected, rtol=0, atol=1e-4)
    assert np.abs(expected).max() > 0.5  # or the test would be blind


@pytest.mark.parametrize("case", ["bert", "bert_classes"], indirect=True)
def test_types_and_empty_places_are_those_of_transformers(case):
    torch = peer("torch")

    name, folder, model = case
    loaded = pretrained.load(folder)
    tokens, types = tokens_of(2, 9, 37), tokens_of(2, 9, 2, seed=1)
    lengths = np.array([9, 5])
    inputs = {
        "tokens": Masked.from_lengths(tokens, lengths),
        "types": Masked.from_lengths(types, lengths),
    }
    outputs, _ = loaded.network.apply(loaded.params, loaded.state, inputs)
    mask = np.arange(9)[None] < lengths[:, None]
    more = {"attention_mask": mask.astype(np.int64), "token_type_ids": types.astype(np.int64)}
    more = {key: torch.tensor(value) for key, value in more.items()}
    expected = outputs_of(model, name, tokens, **more)
    if expected.ndim == 3:
        outputs, expected = outputs.values[mask], expected[mask]
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-4)
