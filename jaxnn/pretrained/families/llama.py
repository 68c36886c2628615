"""Llama and models with the same architecture: SmolLM2, Mistral, Qwen2 and Qwen3."""

import math

from jaxnn.layers import Rotary
from jaxnn.models import gpt
from jaxnn.pretrained.families.family import ACTIVATIONS, Family, Plan, blocks
from jaxnn.pretrained.rules import Row, again, turned
from jaxnn.pretrained.settings import Settings

_ROLES = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "attention": "o_proj"}
_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


def _plan(settings: Settings, stacked: bool) -> Plan:
    """Reads the configuration of a decoder with rotary positions and SwiGLU."""
    kind = settings.choice("model_type", {name: name for name in _ARCHITECTURES})
    settings.architecture({_ARCHITECTURES[kind]: kind}, _ARCHITECTURES[kind])
    settings.take("max_position_embeddings", None)  # rotary positions have no maximum
    features, heads = settings.integer("hidden_size"), settings.integer("num_attention_heads")
    vocabulary, layers = settings.integer("vocab_size"), settings.layers("num_hidden_layers")
    bias = _biases(settings, kind)
    tied = settings.flag("tie_word_embeddings", False)
    network = gpt(
        vocabulary,
        form="modern",
        layers=layers,
        heads=heads,
        features=features,
        kv_heads=settings.integer("num_key_value_heads", heads),
        head_features=settings.integer("head_dim", features // heads),
        window=_window(settings, kind, layers),
        rotary=_rotary(settings),
        head_norm=kind == "qwen3",
        hidden=settings.integer("intermediate_size"),
        activation=settings.choice("hidden_act", ACTIVATIONS),
        epsilon=settings.number("rms_norm_eps", 1e-6),
        bias=bias,
        tied=tied,
        stacked=stacked,
    )
    return Plan(network, _rows(stacked, tied), prefix="model.", outputs=vocabulary)


def _rows(stacked: bool, tied: bool) -> list[Row]:
    block = blocks(stacked)
    attend, feed = f"{block}/attention/branch", f"{block}/mlp/branch"
    attention, layer = f"{attend}/attention", "layers.{n}"
    hidden = {"gate_proj": f"{feed}/hidden/gate/0", "up_proj": f"{feed}/hidden/up"}
    linears = {f"self_attn.{_ROLES[n]}": f"{attention}/{n}" for n in ("query", "key", "value")}
    linears |= {"self_attn.o_proj": f"{attention}/output", "mlp.down_proj": f"{feed}/output"}
    linears |= {f"mlp.{theirs}": ours for theirs, ours in hidden.items()}
    return [
        Row("embed_tokens.weight", "tokens/weight"),
        *(Row(f"{layer}.{a}.weight", f"{b}/weight", turned) for a, b in linears.items()),
        *(Row(f"{layer}.{a}.bias", f"{b}/bias") for a, b in linears.items()),
        Row(f"{layer}.self_attn.q_norm.weight", f"{attention}/query_norm/scale"),
        Row(f"{layer}.self_attn.k_norm.weight", f"{attention}/key_norm/scale"),
        Row(f"{layer}.self_attn.rotary_emb.inv_freq", None),
        Row(f"{layer}.input_layernorm.weight", f"{attend}/norm/scale"),
        Row(f"{layer}.post_attention_layernorm.weight", f"{feed}/norm/scale"),
        Row("norm.weight", "body/norm/scale"),
        Row("lm_head.weight", "tokens/weight", again)
        if tied
        else Row("lm_head.weight", "output/weight", turned),
    ]


def _biases(settings: Settings, kind: str) -> list[str]:
    bias = ["query", "key", "value"] if kind == "qwen2" else []
    if kind in ("llama", "qwen3") and settings.flag("attention_bias", False):
        bias += [*_ROLES]
    if kind == "llama" and settings.flag("mlp_bias", False):
        bias += ["hidden", "output"]
    return bias


def _window(settings: Settings, kind: str, layers: int) -> int | None:
    """Returns the size of the attention window; raises if it differs between layers."""
    if kind == "llama":
        return None
    window = settings.take("sliding_window", 4096 if kind == "mistral" else None)
    if kind != "mistral" and not settings.flag("use_sliding_window", False):
        settings.take("max_window_layers", None)
        window = None
    types = settings.take("layer_types", None)
    full, slides = "full_attention", "sliding_attention"
    if types is not None and types != [slides if window else full] * layers:
        raise settings.wrong("layers of different kinds are not supported", f"{types}"[:80], full)
    if window is not None and kind != "mistral" and types is None:
        settings.expect("max_window_layers", 0)
    settings.take("max_window_layers", None)
    return None if window is None else settings.integer("sliding_window")


def _rotary(settings: Settings) -> Rotary:
    settings.expect("partial_rotary_factor", 1.0, 1, None)
    # Older configurations store the base and the scaling under separate keys.
    both = settings.take("rope_parameters", None), settings.take("rope_scaling", None)
    given = next((each for each in both if each is not None), {})
    if not isinstance(given, dict):
        raise settings.wrong("rope_parameters is not valid", repr(given), "an object")
    outer = settings.take("rope_theta", None)
    inner = Settings(settings.source, {"rope_theta": outer or 10000.0} | given)
    base = inner.number("rope_theta")
    inner.expect("partial_rotary_factor", 1.0, 1, None)
    kind = inner.choice("rope_type", _ROPES, inner.take("type", "default"))
    rotary = Rotary(base)
    if kind != "default":
        rotary = rotary._replace(factor=inner.number("factor"))
    if kind == "llama3":
        low, high = (inner.number(f"{name}_freq_factor") for name in ("low", "high"))
        length = inner.integer("original_max_position_embeddings")
        rotary = rotary._replace(low=low, high=high, length=length)
    if kind == "yarn":
        rotary = _yarn(inner, rotary)
    inner.finish()
    return rotary


def _yarn(settings: Settings, rotary: Rotary) -> Rotary:
    for name in ("mscale", "mscale_all_dim"):
        settings.expect(name, None)
    settings.expect("truncate", True)
    scale = settings.number("attention_factor", 0.1 * math.log(max(rotary.factor, 1.0)) + 1.0)
    return rotary._replace(
        low=settings.number("beta_slow", 1.0),
        high=settings.number("beta_fast", 32.0),
        length=settings.integer("original_max_position_embeddings"),
        yarn=True,
        scale=scale,
    )


_ROPES = {name: name for name in ("default", "linear", "llama3", "yarn")}
family = Family(tuple(_ARCHITECTURES), _plan)
