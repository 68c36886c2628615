"""ViT, which reads an image as a sequence of patches."""

from jaxnn.models import vit
from jaxnn.pretrained.families.family import ACTIVATIONS, Family, Plan, blocks, images, labels_of
from jaxnn.pretrained.rules import Row, kernel, turned, without_axes
from jaxnn.pretrained.settings import Settings

# The names of a layer's parts in the files of transformers before version 5, and since version 5.
_OLD = {
    "attention.attention.query": "attention/branch/attention/query",
    "attention.attention.key": "attention/branch/attention/key",
    "attention.attention.value": "attention/branch/attention/value",
    "attention.output.dense": "attention/branch/attention/output",
    "intermediate.dense": "mlp/branch/hidden",
    "output.dense": "mlp/branch/output",
}
_NEW = {
    "attention.q_proj": "attention/branch/attention/query",
    "attention.k_proj": "attention/branch/attention/key",
    "attention.v_proj": "attention/branch/attention/value",
    "attention.o_proj": "attention/branch/attention/output",
    "mlp.fc1": "mlp/branch/hidden",
    "mlp.fc2": "mlp/branch/output",
}


def _plan(settings: Settings, stacked: bool) -> Plan:
    """Reads the configuration of an image encoder or classifier."""
    names = {"ViTModel": False, "ViTForImageClassification": True}
    labels = labels_of(settings) if settings.architecture(names, "ViTModel") else None
    size, patch = settings.integer("image_size"), settings.integer("patch_size")
    for name in ("encoder_stride", "pooler_output_size", "pooler_act"):
        settings.take(name, None)  # for the pooler and the decoder, which the network does not have
    network = vit(
        labels,
        patch=patch,
        patches=(size // patch) ** 2,
        layers=settings.layers("num_hidden_layers"),
        heads=settings.integer("num_attention_heads"),
        features=settings.integer("hidden_size"),
        hidden=settings.integer("intermediate_size"),
        activation=settings.choice("hidden_act", ACTIVATIONS),
        epsilon=settings.number("layer_norm_eps", 1e-12),
        bias=settings.flag("qkv_bias", True),
        stacked=stacked,
    )
    inputs = images(size, settings.integer("num_channels", 3))
    return Plan(network, _rows(stacked), inputs, prefix="vit.", outputs=labels)


def _rows(stacked: bool) -> list[Row]:
    linears = {"classifier": "output"}
    norms = {"layernorm": "norm"}
    for layer, names in (("encoder.layer.{n}", _OLD), ("layers.{n}", _NEW)):
        linears |= {f"{layer}.{a}": f"{blocks(stacked)}/{b}" for a, b in names.items()}
        for when, side in (("before", "attention"), ("after", "mlp")):
            norms[f"{layer}.layernorm_{when}"] = f"{blocks(stacked)}/{side}/branch/norm"
    return [
        Row("embeddings.cls_token", "class/weight", without_axes(2)),
        Row("embeddings.position_embeddings", "positions/weight", without_axes(1)),
        Row("embeddings.patch_embeddings.projection.weight", "patches/weight", kernel),
        Row("embeddings.patch_embeddings.projection.bias", "patches/bias"),
        *(Row(f"{a}.weight", f"{b}/weight", turned) for a, b in linears.items()),
        *(Row(f"{a}.bias", f"{b}/bias") for a, b in linears.items()),
        *(Row(f"{a}.weight", f"{b}/scale") for a, b in norms.items()),
        *(Row(f"{a}.bias", f"{b}/bias") for a, b in norms.items()),
        Row("pooler.dense.weight", None),
        Row("pooler.dense.bias", None),
    ]


family = Family(("vit",), _plan)
