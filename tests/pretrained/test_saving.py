"""The way back: what is loaded and saved is what it was, bit for bit, for transformers too."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import pretrained
from jaxnn.checks import InvalidValue
from jaxnn.pretrained.source import open_source
from tests.pretrained.models_to_load import ALL, saved
from tests.pretrained.peers import peer


def bits(folder):
    """The tensors of a folder, as bytes."""
    tensors = open_source(folder).tensors
    return {name: (x.shape, str(x.dtype), x.read().tobytes()) for name, x in tensors.items()}


@pytest.fixture(scope="module", params=ALL)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, saved(request.param, folder)


@pytest.mark.parametrize("stacked", [False, True], ids=["blocks", "stacked"])
def test_what_is_saved_again_has_the_same_bits(case, stacked, tmp_path):
    torch = peer("torch")

    name, folder, model = case
    if stacked and name.startswith("resnet"):
        pytest.skip("a ResNet has no blocks that are alike")
    pretrained.save(pretrained.load(folder, stacked=stacked), tmp_path / "again")
    assert bits(tmp_path / "again") == bits(folder)
    again = type(model).from_pretrained(tmp_path / "again").state_dict()
    for key, tensor in model.state_dict().items():
        assert torch.equal(again[key], tensor), key


@pytest.mark.parametrize("name", ["gpt2", "llama_tied", "bert_classes", "vit"])
def test_bfloat16_and_shards_come_back(name, tmp_path):
    torch = peer("torch")

    model = saved(name, tmp_path / "whole").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "source", max_shard_size="4KB")
    assert len(list((tmp_path / "source").glob("*.safetensors"))) > 1
    loaded = pretrained.load(tmp_path / "source", stacked=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.params)} == {jnp.dtype(jnp.bfloat16)}
    pretrained.save(loaded, tmp_path / "again", shard_bytes=4000)
    assert len(list((tmp_path / "again").glob("*.safetensors"))) > 1
    assert bits(tmp_path / "again") == bits(tmp_path / "source")
    again = type(model).from_pretrained(tmp_path / "again", dtype=torch.bfloat16).state_dict()
    for key, tensor in model.state_dict().items():
        assert torch.equal(again[key], tensor), key


def test_parameters_that_were_trained_are_what_transformers_loads(tmp_path):
    model = saved("llama_tied", tmp_path)
    loaded = pretrained.load(tmp_path)
    params = jax.tree.map(lambda x: x + 1, loaded.params)
    pretrained.save(dataclasses.replace(loaded, params=params), tmp_path)  # over its own source
    again = type(model).from_pretrained(tmp_path)
    expected = model.get_input_embeddings().weight.detach().numpy() + 1
    np.testing.assert_array_equal(again.get_input_embeddings().weight.detach().numpy(), expected)


def test_parameters_of_another_network_are_refused(tmp_path):
    saved("llama_tied", tmp_path / "source")
    loaded = pretrained.load(tmp_path / "source")
    for params in ({}, jax.tree.map(lambda x: x[:1], loaded.params)):
        with pytest.raises(InvalidValue, match="network"):
            pretrained.save(dataclasses.replace(loaded, params=params), tmp_path / "again")
    assert not (tmp_path / "again").exists()
