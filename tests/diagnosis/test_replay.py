"""Replay: which operation is blamed, and where it is said to be."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from jax import lax

import jaxnn
from jaxnn.diagnosis.replay import first_not_finite
from jaxnn.models.flax import from_flax
from tests.registry import real, whole

pytestmark = pytest.mark.slow

BATCH = {"inputs": real(8, 4), "labels": whole(3, 8)}
IMAGES = {"inputs": real(8, 6, 6, 1), "labels": whole(3, 8)}


def logarithm(x):
    return jnp.log(x)


def root(x):
    return jnp.sqrt(jnp.abs(x))


def line(function, after=1):
    """Says where the code is that stands so many lines after a function begins."""
    code = function.__code__
    file = os.path.basename(code.co_filename)
    return f"{file}:{code.co_firstlineno + after} ({code.co_name})"


def stepped(network, batch=BATCH, optimizer=None, change=lambda state: state):
    """Replays a training step from the beginning, or from another state."""
    learner = jaxnn.learner(network, jaxnn.classification(), optimizer or optax.sgd(0.1))
    return first_not_finite(learner.step, change(learner.init(jax.random.key(0), {}, batch)), batch)


def wrap(function):
    """A network with a function in the middle, in a part of a part."""
    inner = jaxnn.serial(jaxnn.linear(5), ("function", jaxnn.activation(function)))
    return jaxnn.serial(("layers", inner), ("output", jaxnn.linear(3)))


def texts(arrays):
    return tuple(map(str, arrays))


def fields(finding, *names):
    return tuple(getattr(finding, name) for name in names)


# --- Training steps ----------------------------------------------------------------------------


def test_forward():
    finding = stepped(wrap(logarithm))
    assert fields(finding, "operation", "gave", "phase") == ("log", "NaN", "forward")
    assert fields(finding, "layer", "where") == ("layers/function", line(logarithm))
    (given,), (gave,) = finding.inputs, finding.outputs
    assert (given.dtype, given.shape, given.nans) == ("float32", (8, 5), 0) and given.low < 0
    assert str(gave).startswith("float32[8,5] from ") and str(gave).endswith(f" {gave.nans} NaN")
    text = f"log gave NaN in the forward pass of layers/function ({line(logarithm)[:-1]}: "
    assert str(finding) == text.replace(" (logarithm", " in logarithm)") + f"its input {given}"


def test_backward():
    """The root is finite, and its slope infinite: that is computed in the forward pass."""
    finding = stepped(wrap(root), BATCH | {"inputs": np.zeros((8, 4), np.float32)})
    assert fields(finding, "operation", "gave", "phase") == ("div", "inf", "backward")
    assert fields(finding, "layer", "where") == ("layers/function", line(root))
    assert str(finding.inputs[1]) == "float32[8,5] of 0"
    # Infinities of both signs meet where the gradient of a bias is summed.
    assert finding.then.startswith("reduce_sum at _linear.py:")
    assert str(finding).endswith(f"; {finding.then} turned it into NaN")


def test_backward_of_what_is_compiled():
    """A norm is compiled once, and traced where it was first called; neither is said of another."""

    def elsewhere(x):
        return jnp.linalg.norm(x, axis=-1, keepdims=True)

    def norm(x):
        return x * jnp.linalg.norm(x, axis=-1, keepdims=True)

    assert first_not_finite(elsewhere, jnp.ones((8, 5))) is None
    finding = stepped(wrap(norm), BATCH | {"inputs": np.zeros((8, 4), np.float32)})
    assert fields(finding, "phase", "layer") == ("backward", "layers/function")
    assert fields(finding, "operation", "where") == ("div", line(norm))


def test_update():
    """The rate of the first step is 1 / 0; then it is multiplied by gradients that are 0."""

    def schedule(count):
        return 1.0 / count

    inputs = BATCH["inputs"] * [0, 1, 1, 1]
    finding = stepped(jaxnn.linear(3), BATCH | {"inputs": inputs}, optax.sgd(schedule))
    assert fields(finding, "operation", "gave", "phase") == ("div", "inf", "update")
    assert fields(finding, "layer", "where") == ("", line(schedule))
    assert texts(finding.inputs) == ("float32[] of 1", "float32[] of 0")
    assert finding.then.startswith("mul at ") and " in the update (" in str(finding)


def test_update_from_gradients():
    """A transformation of gradients of one's own."""

    def normalized(updates, params):
        return jax.tree.map(lambda g: g / jnp.abs(g).max(), updates)

    batch = BATCH | {"inputs": np.zeros((8, 4), np.float32)}
    finding = stepped(jaxnn.linear(3), batch, optax.stateless(normalized))
    assert fields(finding, "operation", "gave", "phase") == ("div", "NaN", "update")
    assert finding.where == line(normalized).replace("normalized", "<lambda>")
    assert texts(finding.inputs) == ("float32[4,3] of 0", "float32[] of 0")


def test_overflow_in_a_convolution():
    """Our own gradient rule hides the operation in a function of its own."""
    network = jaxnn.serial(
        jaxnn.activation(lambda x: x * 1e30), ("conv", jaxnn.conv(2, 3)),
        ("relu", jaxnn.activation(jax.nn.relu)), jaxnn.flatten(), jaxnn.linear(3),
    )  # fmt: skip
    finding = stepped(network, change=lambda s: _scaled(s, "conv", 1e15), batch=IMAGES)
    assert fields(finding, "operation", "phase") == ("conv_general_dilated", "forward")
    assert finding.layer == "conv" and finding.where.startswith("_convolve.py:")


def _scaled(state, name, factor):
    layer = jax.tree.map(lambda x: x * factor, state.params[name])
    return state._replace(params={**state.params, name: layer})


class Dense(linen.Module):
    """A layer of Linen, and what is not finite for half of its outputs."""

    @linen.compact
    def __call__(self, inputs, train: bool):
        return linen.Dense(3)(jnp.log(linen.Dense(5, name="hidden")(inputs)))


class Nnx(nnx.Module):
    """The same in NNX, which gives no names to a program."""

    def __init__(self, rngs):
        self.hidden, self.output = nnx.Linear(4, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, inputs):
        return self.output(jnp.log(self.hidden(inputs)))


@pytest.mark.parametrize(
    "model, layer, call", [(Dense(), "model/Dense", Dense.__call__), (Nnx, "model", Nnx.__call__)]
)
def test_flax(model, layer, call):
    network = jaxnn.serial(("model", from_flax(model)))
    finding = stepped(network)
    assert fields(finding, "operation", "layer", "phase") == ("log", layer, "forward")
    code = getattr(call, "__wrapped__", call).__code__
    assert finding.where.startswith("test_replay.py:") and finding.where.endswith(" (__call__)")
    assert int(finding.where[15:-11]) - code.co_firstlineno in (1, 2)
    large = BATCH | {"inputs": BATCH["inputs"] * 1e3}
    finding = stepped(network, large, change=lambda s: _scaled(s, "model", 1e37))
    assert fields(finding, "operation", "gave") in (("dot_general", "NaN"), ("dot_general", "inf"))
    assert finding.where.startswith("test_replay.py:"), "a line of Flax says little"


def test_what_is_done_again_for_a_gradient():
    @jax.checkpoint
    def again(x):
        return jnp.sin(root(x))

    finding = stepped(wrap(again), BATCH | {"inputs": np.zeros((8, 4), np.float32)})
    assert fields(finding, "operation", "phase") == ("div", "backward")
    assert fields(finding, "layer", "where") == ("layers/function", line(root))


def test_clean():
    """Also with dropout and its keys, statistics, and an optimizer that begins at infinity."""
    network = jaxnn.serial(jaxnn.mlp([5], 4, dropout=0.5), jaxnn.batch_norm(), jaxnn.linear(3))
    plateau = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(accumulation_size=3))
    assert stepped(network, optimizer=plateau) is None


@pytest.mark.parametrize("compiled", [False, True])
def test_arguments(compiled):
    """NaN that was there before is nobody's fault, unless something else is somebody's."""
    learner = jaxnn.learner(wrap(jnp.tanh), jaxnn.classification(), optax.sgd(0.1))
    step = jax.jit(learner.step) if compiled else learner.step
    batch = BATCH | {"inputs": np.where(np.arange(4) == 1, np.nan, BATCH["inputs"])}
    batch["inputs"] = batch["inputs"].astype(np.float32)
    finding = first_not_finite(step, learner.init(jax.random.key(0), {}, batch), batch)
    assert fields(finding, "operation", "gave", "where") == ("argument", "NaN", "[1]['inputs']")
    start = "argument [1]['inputs'] held NaN from the beginning: float32[8,4] from "
    assert str(finding).startswith(start) and str(finding).endswith(", 8 NaN")
    both = jax.jit(lambda x, y: (x + 1, jnp.log(y)))
    finding = first_not_finite(both, jnp.nan, jnp.float32(-1))
    assert (finding.operation, *texts(finding.inputs)) == ("log", "float32[] of -1")


def test_nothing_is_donated():
    learner = jaxnn.learner(wrap(logarithm), jaxnn.classification(), optax.sgd(0.1))
    state = learner.init(jax.random.key(0), {}, BATCH)
    finding = first_not_finite(jax.jit(learner.step, donate_argnums=0), state, BATCH)
    assert fields(finding, "operation", "layer", "where") == (
        "log", "layers/function", line(logarithm),
    )  # fmt: skip
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


# --- Loops, branches and functions -------------------------------------------------------------


def falling(carry, x):
    lower = carry - x
    return lower, jnp.log(lower)


def test_scan():
    finding = first_not_finite(lambda x: lax.scan(falling, 3.5, x), jnp.ones(6))
    assert fields(finding, "operation", "gave", "iterations") == ("log", "NaN", (3,))
    assert finding.where == line(falling, 2) and texts(finding.inputs) == ("float32[] of -0.5",)
    assert ", iteration 3 (" in str(finding)


def test_gradient_of_a_scan():
    """It runs backwards, and its turns have the numbers that they have forwards."""

    def loss(x):
        return lax.scan(lambda carry, y: (carry + jnp.sqrt(y), None), 0.0, x)[0]

    finding = first_not_finite(jax.grad(loss), jnp.array([1.0, 2, 0, 3, 4]))
    assert fields(finding, "operation", "phase", "iterations") == ("div", "backward", (2,))
    backwards = lambda x: lax.scan(falling, 3.5, x, reverse=True)  # noqa: E731
    assert first_not_finite(backwards, jnp.ones(6)).iterations == (2,)


def test_loops_in_loops():
    def powers(x, n):
        return lax.fori_loop(0, n, lambda _, y: y * y, x)

    def outer(x, n):
        return lax.scan(lambda carry, y: (powers(carry + y, n), None), x, jnp.array([0.0, 1, 8]))

    finding = first_not_finite(outer, jnp.float32(0), 6)
    assert fields(finding, "operation", "gave", "iterations") == ("mul", "inf", (2, 5))
    assert finding.where == line(powers).replace("powers", "<lambda>")


@pytest.mark.parametrize("wanted", [0, 1])
def test_branch(wanted):
    """Of two branches that are alike, the one that was taken."""

    def logarithms(x):
        return jnp.log(x)

    branches = (logarithm, logarithms)
    branch = lambda i, x: lax.cond(i == 0, *branches, x)  # noqa: E731
    finding = first_not_finite(branch, wanted, -jnp.ones(2))
    assert fields(finding, "operation", "where") == ("log", line(branches[wanted]))
    switch = lambda i, x: lax.switch(i, (jnp.sin, *branches), x)  # noqa: E731
    assert first_not_finite(switch, wanted + 1, -jnp.ones(2)).where == line(branches[wanted])
    assert first_not_finite(switch, 0, -jnp.ones(2)) is None


def _with_a_rule(rule):
    function = rule(logarithm)
    if rule is jax.custom_vjp:
        function.defvjp(lambda x: (jnp.log(x), x), lambda x, g: (g / x,))
    elif rule is jax.custom_jvp:
        function.defjvps(lambda g, out, x: g / x)
    return function


@pytest.mark.parametrize(
    "rule", [jax.jit, jax.checkpoint, jax.vmap, jax.custom_jvp, jax.custom_vjp]
)
def test_inside_a_function(rule):
    function = _with_a_rule(rule)
    finding = first_not_finite(lambda x: jnp.sum(2 * function(x)), -jnp.ones(2))
    assert fields(finding, "operation", "where", "phase") == ("log", line(logarithm), "forward")
    finding = first_not_finite(jax.grad(lambda x: jnp.sum(2 * function(x))), jnp.zeros(2))
    assert fields(finding, "operation", "gave", "phase") == ("div", "inf", "backward")


def test_many_at_once():
    """Layers and phases are those of one."""

    def loss(x):
        with jax.named_scope("part"):
            return jax.checkpoint(root)(x).sum()

    finding = first_not_finite(jax.vmap(jax.grad(loss)), jnp.zeros((3, 2)))
    assert fields(finding, "layer", "phase", "where") == ("part", "backward", line(root))
    assert str(finding.inputs[1]) == "float32[3,2] of 0"
    learner = jaxnn.learner(jaxnn.linear(3), jaxnn.classification(), optax.sgd(lambda n: 1.0 / n))
    states = jax.vmap(lambda key: learner.init(key, {}, BATCH))(jax.random.split(jax.random.key(0)))
    finding = first_not_finite(jax.vmap(learner.step, (0, None)), states, BATCH)
    assert fields(finding, "operation", "layer", "phase") == ("div", "", "update")
