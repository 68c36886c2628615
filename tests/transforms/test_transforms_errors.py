"""Mistakes in transforms of networks and in combinators, each with its answer."""

import jax
import jax.numpy as jnp
import pytest

import jaxnn
from jaxnn import InvalidType, InvalidValue
from tests.mistakes import judge

KEY = jax.random.key(0)
MODEL = jaxnn.mlp([6], 3)
PARAMS = {"body": {"weight": 1.0, "bias": 2.0}}
WEIGHTS = {"*/weight": True}


def traced(network, *shape, dtype=jnp.float32):
    def both(inputs):
        return network.apply(*network.init(KEY, inputs), inputs)

    return jax.eval_shape(both, jax.ShapeDtypeStruct(shape or (2, 4), dtype))


def merged(*branches):
    return jaxnn.parallel(*branches, combine=lambda outputs: jnp.concatenate(outputs, -1))


def sums(*branches):
    return jaxnn.parallel(*branches, combine=sum)


V, T = InvalidValue, InvalidType
NAMES = "hidden_1/bias, hidden_1/weight, output/bias, output/weight"

CASES = {
    # Shapes that do not meet.
    "a residual that is wider": (
        lambda: traced(jaxnn.residual(jaxnn.linear(5))),
        V, r"branch \(2, 5\) of linear, and shortcut \(2, 4\) of identity",
        r"pass shortcut=linear\(n\)",
    ),
    "branches that cannot be merged": (
        lambda: traced(merged(("left", jaxnn.linear(3)), ("flat", jaxnn.flatten())), 2, 5, 4),
        V, r"branches left \(\(2, 5, 3\), 'float32'\), flat \(\(2, 20\), 'float32'\) \(.+\); exp",
        r"Give the branches outputs of matching shapes",
    ),
    "branches that cannot be summed": (
        lambda: traced(sums(jaxnn.linear(3), ("wide", jaxnn.linear(4)))),
        V, r"parallel: .+ branches 0 \(\(2, 3\), 'float32'\), wide \(\(2, 4\), 'float32'\)",
        r"leave out combine to get a tuple",
    ),
    "a repeated layer that is wider": (
        lambda: traced(jaxnn.repeat(jaxnn.linear(5), 3)),
        V, r"Got outputs float32\[2, 5\]; expected the form of the inputs, float32\[2, 4\]",
        r"such as linear\(n\), before repeat",
    ),
    "a repeated layer with other dtypes": (
        lambda: traced(jaxnn.repeat(jaxnn.mixed_precision(jaxnn.linear(4)), 3), dtype=jnp.bfloat16),
        V, r"Got outputs float32\[2, 4\]; expected the form of the inputs, bfloat16\[2, 4\]",
        r"before repeat",
    ),
    "a capture inside of a loop": (
        lambda: traced(jaxnn.repeat(jaxnn.capture(jaxnn.linear(4), [""]), 2)),
        V, r"repeat: .+ Got outputs \('float32\[2, 4\]', \{'': 'float32\[2, 4\]'\}\)",
        r"Give the layer as many features",
    ),
    # Rules over names.
    "frozen: a name that is not there": (
        lambda: traced(jaxnn.freeze(MODEL, {"hiden_1": True})),
        V, rf"freeze: a rule matches no name. Got 'hiden_1'; expected .+ {NAMES}",
        r"Did you mean 'hidden_1'\?",
    ),
    "lora: a name that is not there": (
        lambda: traced(jaxnn.lora(MODEL, {"head/*": True}, rank=2)),
        V, rf"lora: a rule matches no name. Got 'head/\*'; expected .+ {NAMES}",
        r"Write one of those names",
    ),
    "captured: a part that is not there": (
        lambda: jaxnn.capture(MODEL, ["hidden_1", "hidden_2"]),
        V, r"Got 'hidden_2'; expected .+ flatten, hidden_1, activation_1, output",
        r"Did you mean 'hidden_1'\?",
    ),
    "captured: a name for what is under a part": (
        lambda: jaxnn.capture(jaxnn.serial(("body", MODEL)), ["body/output/weight"]),
        V, r"a rule matches no name. Got 'body/output/weight'",
        r"Did you mean 'body/output'\?",
    ),
    "captured: text": (
        lambda: jaxnn.capture(MODEL, "hidden_1"),
        T, r"the patterns have the wrong type. Got 'hidden_1'",
        r"Write \['head', 'layers/\*'\]",
    ),
    "captured: numbers": (
        lambda: jaxnn.capture(MODEL, [1]),
        T, r"Got \[1\]",
        r"Write \['head', 'layers/\*'\]",
    ),
    "captured: a part whose state is lost": (
        lambda: traced(jaxnn.capture(forgetful(), ["0", "lost"])),
        V, r"Got 'lost' in \['0', 'lost'\]; expected parts like 0",
        r"Leave that part out",
    ),
    "a rule that says how much": (
        lambda: traced(jaxnn.freeze(MODEL, {"*": 1})),
        T, r"the rule '\*' has the wrong type. Got a int; expected a bool",
        r"Write \{'\*': True\}",
    ),
    "rules of the wrong type": (
        lambda: traced(jaxnn.freeze(MODEL, ["*"])),
        T, r"the rules have the wrong type. Got \['\*'\]",
        r"Write \{'head': value",
    ),
    "labels: a leaf without one": (
        lambda: jaxnn.param_labels({"*/bias": 1})(PARAMS),
        V, r"Got nothing for body/weight",
        r"Add a last rule for all other leaves: '\*'",
    ),
    "labels: a name that is not there": (
        lambda: jaxnn.param_labels({"head": 1, "*": 2})(PARAMS),
        V, r"labels: a rule matches no name. Got 'head'",
        r"Write one of those names",
    ),
    "labels: not rules": (
        lambda: jaxnn.param_labels("bias"),
        T, r"the rules have the wrong type. Got 'bias'",
        r"Write \{'head': value",
    ),
    # Settings.
    "lora: a bias": (
        lambda: traced(jaxnn.lora(MODEL, {"hidden_1": True}, rank=2)),
        V, r"is not a matrix. Got hidden_1/bias of shape \(6,\); expected some of hidden_1/weight",
        r"Select only weights: \{'\*weight': True\}",
    ),
    "lora: nothing": (
        lambda: traced(jaxnn.lora(MODEL, {"*": False}, rank=2)),
        V, r"no weight is selected. Got rules \{'\*': False\}",
        r"Select only weights",
    ),
    "lora: rank": (lambda: jaxnn.lora(MODEL, WEIGHTS, rank=0), V, r"rank=0", r"Pass, say, rank=1"),
    "lora: scale": (
        lambda: jaxnn.lora(MODEL, WEIGHTS, rank=2, scale=0.0), V, r"scale=0.0", r"Pass, say, scale",
    ),
    "repeat: times": (lambda: jaxnn.repeat(MODEL, 0), V, r"times=0", r"Pass, say, times=1"),
    "repeat: many networks": (
        lambda: jaxnn.repeat([MODEL], 2),
        T, r"repeat: network has the wrong type. Got a list",
        r"Pass a network, such as mlp",
    ),
    "remat: no network": (lambda: jaxnn.remat(3), T, r"Got a int", r"Pass a network"),
    "mixed_precision: no network": (
        lambda: jaxnn.mixed_precision(None), T, r"Got a NoneType", r"Pass a network",
    ),
    "frozen: no network": (lambda: jaxnn.freeze({}, WEIGHTS), T, r"Got a dict", r"Pass a network"),
    "lora: no network": (
        lambda: jaxnn.lora({}, WEIGHTS, rank=2), T, r"Got a dict", r"Pass a network",
    ),
    "captured: no network": (
        lambda: jaxnn.capture({}, ["*"]), T, r"Got a dict", r"Pass a network",
    ),
    "remat: policy": (
        lambda: jaxnn.remat(MODEL, "dotz"),
        V, r"policy='dotz'; expected one of dots, dots_with_no_batch_dims, everything, nothing",
        r"Did you mean 'dots'\?",
    ),
    "mixed_precision: integers": (
        lambda: jaxnn.mixed_precision(MODEL, jnp.int8),
        T, r"compute is not a dtype of floats",
        r"Pass compute=jnp\.bfloat16",
    ),
    "mixed_precision: a word": (
        lambda: jaxnn.mixed_precision(MODEL, "bf16"),
        T, r"Got compute='bf16'",
        r"Pass compute=jnp\.bfloat16",
    ),
}  # fmt: skip


def forgetful():
    """A network that does not return the state of one of its parts."""
    whole = jaxnn.serial(jaxnn.linear(4), ("lost", jaxnn.linear(4)))

    def apply(params, state, inputs, *, key=None):
        outputs, after = whole.apply(params, state, inputs, key=key)
        return outputs, {name: part for name, part in after.items() if name != "lost"}

    return whole._replace(apply=apply)


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)


def test_what_is_not_about_shapes_is_left_to_its_author():
    """An error of ours inside combine, and what jax says of a branch on a traced value."""

    def choosing(outputs):
        return outputs[0] if outputs[0].sum() > 0 else outputs[1]

    def refusing(outputs):
        raise InvalidValue("mine", "no", got="a", expected="b", fix="c")

    for combine, error in ((choosing, jax.errors.TracerBoolConversionError), (refusing, V)):
        branches = jaxnn.parallel(jaxnn.linear(3), jaxnn.linear(3), combine=combine)
        with pytest.raises(error) as caught:
            traced(branches)
        assert "parallel:" not in str(caught.value)
