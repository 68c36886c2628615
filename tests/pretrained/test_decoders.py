"""Models that write, of random weights: what transformers computes, we compute."""

import jax
import numpy as np
import pytest

from jaxnn import pretrained
from tests.pretrained.peers import shaken, tokens_of, transformers

SMALL = dict(
    vocab_size=37, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    rms_norm_eps=3e-3, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 500.0}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
}  # fmt: skip
MODELS = {
    "llama": ("Llama", dict(rope_parameters=ROPE)),
    "llama_tied": ("Llama", dict(rope_parameters=ROPE, tie_word_embeddings=True)),
    "llama_biased": ("Llama", dict(rope_parameters=ROPE, attention_bias=True, mlp_bias=True)),
    "llama_heads": ("Llama", dict(rope_parameters=ROPE, head_dim=10)),
    "llama_linear": (
        "Llama",
        dict(rope_parameters={"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0}),
    ),
    "llama3": ("Llama", dict(rope_parameters=LLAMA3)),
    "mistral": ("Mistral", dict(rope_parameters=ROPE, sliding_window=5)),
    "qwen2": ("Qwen2", dict(rope_parameters=ROPE)),
    "qwen3": ("Qwen3", dict(rope_parameters=ROPE, head_dim=8, tie_word_embeddings=True)),
}


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory):
    """A folder of a small random model, and the model."""
    library = transformers()
    name, settings = MODELS[request.param]
    config = getattr(library, f"{name}Config")(**SMALL | settings)
    model = shaken(getattr(library, f"{name}ForCausalLM")(config))
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return folder, model


@pytest.mark.parametrize("stacked", [False, True], ids=["blocks", "stacked"])
def test_logits_are_those_of_transformers(case, stacked):
    import torch

    folder, model = case
    loaded = pretrained.load(folder, stacked=stacked)
    tokens = tokens_of(2, 24, 37)
    with torch.no_grad():
        expected = model(torch.tensor(tokens.astype(np.int64))).logits.numpy()
    logits, _ = jax.jit(loaded.network.apply)(loaded.params, loaded.state, tokens)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
