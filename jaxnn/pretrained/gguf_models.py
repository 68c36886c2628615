"""Converts the settings and tensors of a GGUF file to the format of transformers.

llama.cpp uses other names. For Llama it also orders the rows of the query and key weights
differently: the two coordinates that a rotary position embedding rotates together are adjacent,
while in transformers they are half a head apart.
"""

from pathlib import Path

import numpy as np

from jaxnn.names import match_name
from jaxnn.pretrained.gguf_file import Gguf
from jaxnn.pretrained.settings import Settings
from jaxnn.pretrained.stored import Stored
from jaxnn.typing import Any

_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_LAYERS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    **{f"blk.{{n}}.{a}.*": f"model.layers.{{n}}.{b}.*" for a, b in _LAYERS.items()},
}


def as_model(path: Path, file: Gguf) -> tuple[dict[str, Any], dict[str, Stored]]:
    """Returns the configuration and tensors of a GGUF file, with the names of transformers.

    Raises:
      InvalidValue: if the architecture is not supported, or an unknown setting may change numbers.
    """
    inside = {
        name: value
        for name, value in file.settings.items()
        if not name.startswith(("general.", "tokenizer.", "quantize."))
    }
    whole = Settings(path.name, file.settings)
    kind = whole.choice("general.architecture", {name: name for name in _ARCHITECTURES})
    tokens = file.settings.get("tokenizer.ggml.tokens")
    vocabulary = len(tokens) if isinstance(tokens, list) else None
    config = _config(Settings(path.name, inside), kind, vocabulary)
    config["tie_word_embeddings"] = "output.weight" not in file.tensors
    for name in ("bos", "eos"):
        config[f"{name}_token_id"] = file.settings.get(f"tokenizer.ggml.{name}_token_id")
    tensors = {}
    for name, tensor in file.tensors.items():
        renamed = _renamed(name)
        if kind == "llama" and renamed.endswith(("q_proj.weight", "k_proj.weight")):
            side = "num_attention_heads" if "q_proj" in renamed else "num_key_value_heads"
            tensor = tensor._replace(read=_apart(tensor, config[side]))
        tensors[renamed] = tensor
    return config, tensors


def _config(settings: Settings, kind: str, vocabulary: int | None) -> dict[str, Any]:
    def key(name: str) -> str:
        return f"{kind}.{name}"

    features, heads = (
        settings.integer(key(n)) for n in ("embedding_length", "attention.head_count")
    )
    head_features = settings.integer(key("attention.key_length"), features // heads)
    for name in ("rope.dimension_count", "attention.value_length"):
        settings.expect(key(name), head_features)
    settings.expect(key("rope.scaling.type"), "none", "linear")
    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": settings.number(key("rope.freq_base"), 10000.0),
    }
    if settings.take(key("rope.scaling.type"), "none") == "linear":
        factor = settings.number(key("rope.scaling.factor"))
        rope |= {"rope_type": "linear", "factor": factor}
    settings.expect(key("expert_count"), 0)
    settings.expect(key("expert_used_count"), 0)
    config = {
        "architectures": [_ARCHITECTURES[kind]],
        "model_type": kind,
        "hidden_size": features,
        "num_attention_heads": heads,
        "num_key_value_heads": settings.integer(key("attention.head_count_kv"), heads),
        "head_dim": head_features,
        "num_hidden_layers": settings.integer(key("block_count")),
        "intermediate_size": settings.integer(key("feed_forward_length")),
        "max_position_embeddings": settings.integer(key("context_length")),
        "rms_norm_eps": settings.number(key("attention.layer_norm_rms_epsilon")),
        "vocab_size": settings.integer(key("vocab_size"), vocabulary),
        "hidden_act": "silu",
        "rope_parameters": rope,
        "dtype": "float32",
    }
    settings.finish()
    return config


def _renamed(name: str) -> str:
    """Returns the transformers name of a tensor, or `name` itself if it is not known."""
    for pattern, template in _NAMES.items():
        if (match := match_name(pattern, name, nodes=False)) is not None:
            return match.fill("pretrained", template)
    return name


def _apart(tensor: Stored, heads: int) -> Any:
    """Returns a reader of the tensor with rotary pairs half a head apart, as in transformers."""

    def read() -> np.ndarray:
        rows = tensor.read()
        pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
        return pairs.swapaxes(1, 2).reshape(rows.shape)

    return read
