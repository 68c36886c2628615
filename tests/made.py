"""What stands in the registry and takes more than a line to make."""

import jax
import jax.numpy as jnp
import optax

import jaxnn
from jaxnn.calls import apply_part, init_part
from jaxnn.network import Parts, collect
from tests.cases import Case, real


def concatenated(outputs):
    return jnp.concatenate(outputs, -1)


def blocks():
    def block(features):
        return jaxnn.serial(jaxnn.linear(features), jaxnn.activation(jnp.tanh))

    return jaxnn.serial(("first", block(4)), jaxnn.residual(block(4)), ("last", jaxnn.linear(2)))


def scaled():
    return jaxnn.stateless(
        lambda params, inputs: inputs * params["scale"][None],
        lambda key, inputs: {"scale": jax.random.normal(key, inputs.shape[-1:])},
    )


def gated():
    """A layer with parts of its own, as a user writes one: this, and a line in the registry."""
    children = ("values", jaxnn.linear(3)), ("gates", jaxnn.linear(3))

    def init(key, inputs):
        return collect({name: init_part(name, part, key, inputs) for name, part in children})

    def apply(params, state, inputs, *, key=None):
        values, gates = (apply_part(*c, params, state, inputs, key)[0] for c in children)
        return values * jax.nn.sigmoid(gates), state

    return jaxnn.Network(init, apply, Parts("gated", (), children))


def centred():
    """A part with a state that training changes, in the dtypes that it is given."""

    def apply(params, state, inputs, *, key=None):
        outputs = inputs - state["mean"].astype(inputs.dtype)[None]
        if key is not None:
            mean = inputs.mean(0).astype(state["mean"].dtype)
            state = {"mean": 0.9 * state["mean"] + 0.1 * mean}
        return outputs, state

    def init(key, inputs):
        return {}, {"mean": jnp.zeros(inputs.shape[-1:], jnp.float32)}

    return jaxnn.Network(init, apply)


def block():
    """A layer for `repeat`: with a state, with randomness, and with parts of parts."""
    inside = ("linear", jaxnn.linear(4)), ("centred", centred()), ("dropout", jaxnn.dropout(0.2))
    return jaxnn.residual(jaxnn.serial(*inside, jaxnn.activation(jnp.tanh)))


TRANSFORMS = {
    "repeat": lambda network: jaxnn.repeat(network, 3),
    "remat": jaxnn.remat,
    "mixed_precision": jaxnn.mixed_precision,
    "freeze": lambda network: jaxnn.freeze(network, {"*bias": True}),
    "lora": lambda network: jaxnn.lora(network, {"*weight": True}, rank=2),
    "capture": lambda network: jaxnn.capture(network, ["branch", "*/linear"]),
}
"""Every transform of a network; of pairs the registry has some, and `test_transforms` all."""


def transformed(*names):
    """Returns the block in transforms, the first of them outermost."""
    network = block()
    for name in reversed(names):
        network = TRANSFORMS[name](network)
    return network


def case_of(*names):
    """Returns the case of the block in transforms."""
    exempt, facts = {}, {}
    if "mixed_precision" in names:
        coarse = "bfloat16 has three digits; `test_transforms` compares it with float32"
        exempt = {"gradients": coarse, "compiled": coarse}
        facts = {"bfloat16": jnp.float32}
        if names[0] == "capture":
            exempt["bfloat16"] = "outputs are float32, and what is captured bfloat16"
    elif {"freeze", "lora"} & {*names}:
        exempt = {"bfloat16": "what is frozen is state, which this law leaves in float32"}
    make, several = (lambda: transformed(*names)), len(names) > 1
    return Case("_of_".join(names), make, real(4, 4), exempt, facts, several)


def pinball(outputs, batch):
    errors = (batch["labels"] - outputs).mean(-1)
    return jnp.maximum(0.9 * errors, -0.1 * errors)


def spread(outputs, batch):
    return jnp.var(outputs)


def noisy(key, example):
    return example + 0.1 * jax.random.normal(key, example.shape)


def flat(inputs):
    return inputs.reshape(len(inputs), -1)


def teacher(inputs):
    return jnp.concatenate([inputs, inputs**2], -1)


def sgd(h):
    return optax.sgd(h["learning_rate"], momentum=0.9)


def adam(h):
    return optax.adam(h["learning_rate"])


def with_dropout(h):
    return jaxnn.mlp([32], 3, dropout=h["dropout"], scale=h["scale"])


def with_smoothing(h):
    return jaxnn.classification(label_smoothing=h["smoothing"])


def normalized():
    return jaxnn.serial(
        jaxnn.linear(32), jaxnn.batch_norm(), jaxnn.activation(jnp.tanh), jaxnn.linear(3)
    )


def embedded():
    return jaxnn.serial(jaxnn.embedding(7, 6), jaxnn.flatten(), jaxnn.mlp([32], 3))


def two_convolutions():
    shapes = {"strides": 2, "padding": "VALID"}
    return jaxnn.serial(
        jaxnn.conv(4, 3), jaxnn.activation(jax.nn.relu), jaxnn.conv(6, 3, groups=2, **shapes),
        jaxnn.activation(jnp.tanh), jaxnn.flatten(), jaxnn.linear(3),
    )  # fmt: skip


def measured():
    more = {"f1": jaxnn.metrics.f1, "calibration_error": jaxnn.metrics.calibration_error}
    return jaxnn.classification(metrics=more)
