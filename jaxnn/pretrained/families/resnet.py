"""ResNet: stages of residual blocks, global average pooling, and an output layer."""

from jaxnn.models import resnet
from jaxnn.pretrained.families.family import ACTIVATIONS, Family, Plan, images, labels_of
from jaxnn.pretrained.rules import Row, kernel, turned
from jaxnn.pretrained.settings import Settings


def _plan(settings: Settings, stacked: bool) -> Plan:
    """Reads the configuration of an image classifier."""
    settings.architecture({"ResNetForImageClassification": True}, "ResNetForImageClassification")
    settings.expect("downsample_in_first_stage", False)
    settings.expect("downsample_in_bottleneck", False)
    for name in ("stage_names", "out_features", "out_indices"):
        settings.take(name, None)  # these select the outputs of a backbone
    width, depths = settings.integer("embedding_size"), settings.take("depths")
    kinds = {"basic": False, "bottleneck": True}
    bottleneck = settings.choice("layer_type", kinds, "bottleneck")
    valid = isinstance(depths, list) and 0 < len(depths) <= 16
    if not valid or not all(type(n) is int and 0 < n < 1000 for n in depths):
        raise settings.wrong("depths is not valid", f"{depths}"[:80], "a list of whole numbers")
    widths = [width * 2**stage * (4 if bottleneck else 1) for stage in range(len(depths))]
    settings.expect("hidden_sizes", widths)
    labels = labels_of(settings)
    activation = settings.choice("hidden_act", ACTIVATIONS)
    network = resnet(
        depths,
        labels,
        form="imagenet",
        width=width,
        bottleneck=bottleneck,
        activation=activation,
    )
    inputs = images(64, settings.integer("num_channels", 3))
    return Plan(network, _rows(), inputs, prefix="resnet.", outputs=labels)


def _rows() -> list[Row]:
    layer, block = "encoder.stages.{s}.layers.{n}", "stage_{s+1}/block_{n+1}/sum"
    pairs = {
        "embedder.embedder": ("conv", "norm"),
        f"{layer}.layer.{{k}}": (f"{block}/branch/conv_{{k+1}}", f"{block}/branch/norm_{{k+1}}"),
        f"{layer}.shortcut": (f"{block}/shortcut/conv", f"{block}/shortcut/norm"),
    }
    rows = [
        Row("classifier.1.weight", "output/weight", turned),
        Row("classifier.1.bias", "output/bias"),
    ]
    for theirs, (conv, norm) in pairs.items():
        rows += [
            Row(f"{theirs}.convolution.weight", f"{conv}/weight", kernel),
            Row(f"{theirs}.normalization.weight", f"{norm}/scale"),
            Row(f"{theirs}.normalization.bias", f"{norm}/bias"),
            Row(f"{theirs}.normalization.running_mean", f"state:{norm}/mean"),
            Row(f"{theirs}.normalization.running_var", f"state:{norm}/var"),
            Row(f"{theirs}.normalization.num_batches_tracked", None),
        ]
    return rows


family = Family(("resnet",), _plan)
