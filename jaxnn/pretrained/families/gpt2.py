"""GPT-2, with learned positions and one fused layer for queries, keys and values."""

from jaxnn.models import gpt
from jaxnn.pretrained.families.family import ACTIVATIONS, Family, Plan, blocks
from jaxnn.pretrained.rules import Row, again, parted, turned
from jaxnn.pretrained.settings import Settings


def _plan(settings: Settings, stacked: bool) -> Plan:
    """Reads the configuration of a GPT-2 language model."""
    settings.architecture({"GPT2LMHeadModel": True}, "GPT2LMHeadModel")
    settings.expect("scale_attn_weights", True)
    settings.expect("scale_attn_by_inverse_layer_idx", False)
    settings.expect("reorder_and_upcast_attn", False)
    for name in ("n_ctx", "summary_type", "summary_use_proj", "summary_activation"):
        settings.take(name, None)  # a language model does not use these
    settings.take("summary_proj_to_labels", None)
    features, vocabulary = settings.integer("n_embd"), settings.integer("vocab_size")
    tied = settings.flag("tie_word_embeddings", True)
    network = gpt(
        vocabulary,
        layers=settings.layers("n_layer"),
        heads=settings.integer("n_head"),
        features=features,
        positions=settings.integer("n_positions"),
        hidden=settings.integer("n_inner", 4 * features),
        activation=settings.choice("activation_function", ACTIVATIONS, "gelu_new"),
        epsilon=settings.number("layer_norm_epsilon", 1e-5),
        tied=tied,
        stacked=stacked,
    )
    return Plan(network, _rows(stacked, tied), prefix="transformer.", outputs=vocabulary)


def _rows(stacked: bool, tied: bool) -> list[Row]:
    attend, feed = (f"{blocks(stacked)}/{side}/branch" for side in ("attention", "mlp"))
    norms = {"h.{n}.ln_1": f"{attend}/norm", "h.{n}.ln_2": f"{feed}/norm", "ln_f": "body/norm"}
    linears = {
        "h.{n}.attn.c_proj": f"{attend}/attention/output",
        "h.{n}.mlp.c_fc": f"{feed}/hidden",
        "h.{n}.mlp.c_proj": f"{feed}/output",
    }
    names = [f"{attend}/attention/{name}" for name in ("query", "key", "value")]
    output = Row("lm_head.weight", "output/weight", turned)
    return [
        Row("wte.weight", "tokens/weight"),
        Row("wpe.weight", "body/positions/weight"),
        *(Row(f"{a}.weight", f"{b}/scale") for a, b in norms.items()),
        *(Row(f"{a}.bias", f"{b}/bias") for a, b in norms.items()),
        *(Row(f"{a}.weight", f"{b}/weight") for a, b in linears.items()),
        *(Row(f"{a}.bias", f"{b}/bias") for a, b in linears.items()),
        *(
            Row(f"h.{{n}}.attn.c_attn.{each}", tuple(f"{x}/{each}" for x in names), parted(3))
            for each in ("weight", "bias")
        ),
        # Older files store the attention masks.
        Row("h.{n}.attn.bias", None),
        Row("h.{n}.attn.masked_bias", None),
        Row("lm_head.weight", "tokens/weight", again) if tied else output,
    ]


family = Family(("gpt2",), _plan)
