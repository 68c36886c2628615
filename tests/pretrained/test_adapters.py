"""Adapted pretrained models: merged, saved, and loaded by their own library."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from tests.pretrained.peers import peer, tokens_of, transformers


@pytest.mark.slow
@pytest.mark.parametrize("stacked", [False, True], ids=["blocks", "stacked"])
def test_merged_adapters_are_saved_for_transformers(stacked, tmp_path):
    library = transformers()
    import torch

    peer("safetensors")
    config = library.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    library.LlamaForCausalLM(config).save_pretrained(tmp_path / "source")
    model = jaxnn.pretrained.load(tmp_path / "source", stacked=stacked)
    adapted = jaxnn.lora(model.network, rank=2)
    tokens = tokens_of(2, 8, 32)
    params, _ = adapted.init(jax.random.key(0), tokens)
    draws = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.float32(0.1 * draws.normal(size=x.shape)), params)
    state = {"base": model.params, "scale": jnp.float32(2)}
    logits, _ = adapted.apply(params, state, tokens)
    assert np.abs(logits - model.network.apply(model.params, {}, tokens)[0]).max() > 1e-3

    merged, _ = jaxnn.transforms.merge_lora(params, state)
    jaxnn.pretrained.save(dataclasses.replace(model, params=merged), tmp_path / "tuned")
    theirs = library.AutoModelForCausalLM.from_pretrained(tmp_path / "tuned").eval()
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens.astype(np.int64))).logits.numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
