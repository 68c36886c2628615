"""BERT as an encoder of tokens, as a sentence-transformers model, or as a classifier."""

import jax.numpy as jnp

from jaxnn.layers import activation, linear, over_time
from jaxnn.models import bert
from jaxnn.network import Network, describe, serial, stateless
from jaxnn.pretrained.families.family import ACTIVATIONS, Family, Plan, blocks, labels_of
from jaxnn.pretrained.rules import Row, turned
from jaxnn.pretrained.settings import Settings

_CLASSES, _TAGS = "BertForSequenceClassification", "BertForTokenClassification"


def _plan(settings: Settings, stacked: bool) -> Plan:
    """Reads the configuration of an encoder and its head."""
    names = {name: name for name in ("BertModel", _CLASSES, _TAGS)}
    architecture = settings.architecture(names, "BertModel")
    settings.expect("position_embedding_type", "absolute")
    settings.take("tie_word_embeddings", True)  # the network has no output weights
    features = settings.integer("hidden_size")
    body = bert(
        settings.integer("vocab_size"),
        layers=settings.layers("num_hidden_layers"),
        heads=settings.integer("num_attention_heads"),
        features=features,
        hidden=settings.integer("intermediate_size"),
        positions=settings.integer("max_position_embeddings"),
        types=settings.integer("type_vocab_size", 2),
        activation=settings.choice("hidden_act", ACTIVATIONS),
        epsilon=settings.number("layer_norm_eps", 1e-12),
        stacked=stacked,
    )
    if architecture == "BertModel":
        network = serial(("body", body), *_steps(settings)) if settings.steps else body
        path = "body/" if settings.steps else ""
        return Plan(network, _rows(stacked, path), prefix="bert.")
    labels = labels_of(settings)
    pooler = [
        ("pool", over_time("first")),
        ("pooler", linear(features)),
        ("activation", activation(jnp.tanh)),
    ]
    head = pooler if architecture == _CLASSES else []
    network = serial(("body", body), *head, ("output", linear(labels)))
    rows = _rows(stacked, "body/", architecture == _CLASSES)
    return Plan(network, rows, prefix="bert.", outputs=labels)


def _rows(stacked: bool, path: str, pooled: bool = False) -> list[Row]:
    block, layer = blocks(stacked, f"{path}body"), "encoder.layer.{n}"
    attention = f"{block}/attention/sum/branch/attention"
    linears = {
        **{f"{layer}.attention.self.{n}": f"{attention}/{n}" for n in ("query", "key", "value")},
        f"{layer}.attention.output.dense": f"{attention}/output",
        f"{layer}.intermediate.dense": f"{block}/mlp/sum/branch/hidden",
        f"{layer}.output.dense": f"{block}/mlp/sum/branch/output",
        "classifier": "output",
        **({"pooler.dense": "pooler"} if pooled else {}),
    }
    norms = {
        "embeddings": f"{path}norm",
        f"{layer}.attention.output": f"{block}/attention/norm",
        f"{layer}.output": f"{block}/mlp/norm",
    }
    embeddings = {"word": "embed/tokens", "token_type": "embed/types", "position": "positions"}
    return [
        *(
            Row(f"embeddings.{a}_embeddings.weight", f"{path}{b}/weight")
            for a, b in embeddings.items()
        ),
        *(Row(f"{a}.weight", f"{b}/weight", turned) for a, b in linears.items()),
        *(Row(f"{a}.bias", f"{b}/bias") for a, b in linears.items()),
        # Older files name the scale gamma and the bias beta.
        *(Row(f"{a}.LayerNorm.{x}", f"{b}/scale") for a, b in norms.items() for x in _SCALES),
        *(Row(f"{a}.LayerNorm.{x}", f"{b}/bias") for a, b in norms.items() for x in _BIASES),
        Row("embeddings.position_ids", None),
        Row("pooler.dense.*", None),  # applies if the network has no pooler
    ]


def _steps(settings: Settings) -> list[tuple[str, Network]]:
    """Returns the layers that compute the features of a text from those of its tokens."""
    return [
        ("normalize", _unit_length()) if step == "normalize" else ("pool", over_time(step))
        for step in settings.steps
    ]


def _unit_length() -> Network:
    """Divides the features of each example by their Euclidean norm."""

    def apply(params, inputs):
        length = jnp.sqrt(jnp.sum(jnp.square(inputs), -1, keepdims=True))
        return inputs / jnp.maximum(length, 1e-12)

    return describe(stateless(apply), "unit_length")


_SCALES, _BIASES = ("weight", "gamma"), ("bias", "beta")
family = Family(("bert",), _plan)
