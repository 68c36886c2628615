"""Mistakes in networks, objectives, optimizers and learners, each with its answer."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxnn
from jaxnn import InvalidType, InvalidValue
from jaxnn.objectives import batchwise
from tests.mistakes import BYTES, DATA, GREY_IMAGES, IMAGES, KEY, judge, learner, train


def batch_mean(outputs, batch):
    return jnp.mean(outputs)


def lone_apply():
    return jaxnn.Network(lambda key, x: ({}, {}), lambda params, state, x, *, key=None: x)


def thriftless():
    """An optimizer that forgets a parameter."""

    def update(updates, state, params=None):
        return {name: {"weight": layer["weight"]} for name, layer in updates.items()}, state

    return optax.GradientTransformation(lambda params: (), update)


def widening():
    """A network whose state does not stay float32."""

    def apply(params, state, inputs, *, key=None):
        return inputs[:, :3] * params["w"], {"seen": state["seen"].astype(jnp.int32)}

    return jaxnn.Network(lambda key, x: ({"w": jnp.ones((1, 3))}, {"seen": jnp.zeros(())}), apply)


def changed(**functions):
    return learner()._replace(**functions)


def scalar_metrics(state, batch, gradients):
    return state._replace(step=state.step + 1), {"loss": jnp.zeros(())}


def no_metrics(state, batch, gradients):
    return state._replace(step=state.step + 1), {}


def init_and_apply(network, shape, dtype=jnp.float32):
    inputs = jax.ShapeDtypeStruct(shape, dtype)

    def both(inputs):
        return network.apply(*network.init(KEY, inputs), inputs)

    return jax.eval_shape(both, inputs)


V, T = InvalidValue, InvalidType
CASES = {
    # Networks.
    "no nodes": (lambda: jaxnn.linear(0), V, r"linear: features .* features=0", r"features=1"),
    "half a node": (lambda: jaxnn.mlp([2.5], 3), V, r"features=2\.5", r"Pass, say, features=1"),
    "no scale": (lambda: jaxnn.linear(3, scale=0), V, r"scale=0", r"Pass, say, scale="),
    "bytes into nodes": (
        lambda: train(BYTES),
        T, r"inputs of dtype uint8 and shape \(4, 4\)",
        r"Put standardize\(mean, std\) first in the network, or convert the data",
    ),
    "numbers into an embedding": (
        lambda: train(parts=(jaxnn.serial(jaxnn.embedding(5, 3), jaxnn.flatten()),)),
        T, r"embedding: the inputs are not integers. Got inputs of dtype float32",
        r"Use linear\(features\) for real-valued inputs",
    ),
    "no deviation": (
        lambda: jaxnn.standardize([1, 2], [0.5, 0]),
        V, r"std=\[0\.5, 0\.0\]",
        r"Leave out constant features, or pass std=np\.maximum\(std, 1e-6\)",
    ),
    "residual shapes": (
        lambda: train(parts=(jaxnn.serial(jaxnn.residual(jaxnn.linear(3))),)),
        V, r"branch \(4, 3\) of linear, and shortcut \(4, 4\) of identity",
        r"Give the branch as many features as its inputs, or pass shortcut=linear\(n\)",
    ),
    "a name twice": (
        lambda: jaxnn.serial(("hidden", jaxnn.linear(3)), ("hidden", jaxnn.linear(3))),
        V, r"must have distinct names. Got names=\['hidden', 'hidden'\]",
        r"Write serial\(\('hidden', linear\(64\)\), \('output', linear\(10\)\)\)",
    ),
    "no parts": (lambda: jaxnn.parallel(), V, r"there are no parts", r"Write parallel\(\('hidden'"),
    "a function among networks": (
        lambda: jaxnn.serial(jaxnn.linear(3), jnp.tanh),
        T, r"part '1' is not a network",
        r"Wrap a function in activation\(\.\.\.\)",
    ),
    "an activation that was called": (
        lambda: jaxnn.activation(jaxnn.flatten()),
        T, r"activation: not a function",
        r"Pass the function itself, activation\(jax\.nn\.relu\)",
    ),
    "padding": (
        lambda: init_and_apply(jaxnn.conv(4, 3, padding="HALF"), (1, 6, 6, 3)),
        V, r"padding='HALF'; expected 'SAME', 'VALID' or a pair",
        r"Pass padding='SAME'",
    ),
    "groups that do not divide the channels": (
        lambda: init_and_apply(jaxnn.conv(4, 3, groups=2), (1, 6, 6, 3)),
        V, r"conv: channels .* channels=3 and groups=2", r"or groups=1",
    ),
    "groups that do not divide the features": (
        lambda: jaxnn.conv(3, 3, groups=2), V, r"features=3 and groups=2", r"Pass, say, features=4",
    ),
    "convolutions of no scale": (
        lambda: jaxnn.conv(3, 3, scale=0), V, r"conv: scale .* scale=0", r"Pass, say, scale=",
    ),
    "images without channels": (
        lambda: init_and_apply(jaxnn.conv(4, 3), (1, 6)),
        V, r"no spatial axis. Got inputs of shape \(1, 6\)",
        r"\[batch, height, width, channels\], grey ones with images\[\.\.\., None\]",
    ),
    "a window for other axes": (
        lambda: init_and_apply(jaxnn.conv(4, (3, 3, 3)), (1, 6, 6, 3)),
        V, r"window=\(3, 3, 3\) for 2 spatial axes",
        r"Pass window=\(1, 1\), with your sizes",
    ),
    "a window too large": (
        lambda: init_and_apply(jaxnn.max_pool(7), (1, 6, 6, 3)),
        V, r"of extent 7 and inputs of shape \(1, 6, 6, 3\)",
        r"Choose a smaller window, or padding='SAME'",
    ),
    "a convolution too large": (
        lambda: init_and_apply(jaxnn.conv(2, 7, padding="VALID"), (1, 6, 6, 3)),
        V, r"of extent 7 and inputs of shape \(1, 6, 6, 3\)",
        r"Choose a smaller window, or padding='SAME'",
    ),
    "numbers without an axis of features": (
        lambda: init_and_apply(jaxnn.linear(1), (12,)),
        V, r"inputs of shape \(12,\)",
        r"Pass inputs\[:, None\]",
    ),
    "other channels": (
        lambda: train(IMAGES, parts=(jaxnn.convnet([4], 8, 3),), evaluate=GREY_IMAGES),
        V, r"conv: .* inputs of shape \(4, 6, 6, 1\) and weight of shape \(3, 3, 3, 4\)",
        r"Pass inputs of the shape that init was called",
    ),
    # Learners and their parts.
    "a loss without the axis of the batch": (
        lambda: train(parts=(None, batch_mean)),
        V, r"batch_mean: .* Got values of shape \(\) for a batch of 4; expected shape \(4,\)",
        r"Leave out the mean over the batch, or pass batchwise\(loss\)",
    ),
    "a loss of each example, called batchwise": (
        lambda: train(parts=(None, batchwise(lambda outputs, batch: outputs[:, 0]))),
        V, r"one value for the whole batch. Got a value of shape \(4,\)",
        r"Return values\.mean\(\), or pass the loss without batchwise",
    ),
    "metrics that are no function": (
        lambda: jaxnn.objective(batch_mean, metrics=None),  # pyright: ignore
        T, r"objective: metrics is not a function. Got metrics=None; .* a function of \(outputs",
        r"Pass a function, or leave out metrics",
    ),
    "an apply of one value": (
        lambda: train(parts=(lone_apply(),)),
        T, r"apply must return two values. Got one array; expected a pair",
        r"Write `return outputs, state` in apply, or create the network with stateless\(\)",
    ),
    "an optimizer that loses a parameter": (
        lambda: train(parts=(None, None, thriftless())),
        T, r"Got nothing at params\['hidden_1'\]\['bias'\]; expected \(8,\)",
        r"Return updates with the structure",
    ),
    "a state that changes its dtype": (
        lambda: train(parts=(widening(),)),
        T, r"at state\.state\['seen'\]. Got int32\[\] after the step; expected float32\[\]",
        r"Return a state of the same structure, shapes and dtypes from step",
    ),
    "a network of the wrong type": (
        lambda: learner(network=[8, 3]),
        T, r"the network has the wrong type. Got list",
        r"Pass mlp\(\[64\], 10\), serial\(\.\.\.\) or from_flax\(model\)",
    ),
    "an objective by name": (
        lambda: learner(objective="cross_entropy"),
        T, r"Got str 'cross_entropy'; expected Objective",
        r"Pass classification\(\), regression\(\) or a custom loss",
    ),
    "an objective that was not called": (
        lambda: train(parts=(None, jaxnn.classification)),
        T, r"the objective has the wrong type. Got function",
        r"Pass classification\(\)",
    ),
    "an optimizer by name": (
        lambda: learner(optimizer="adam"),
        T, r"Got str 'adam'; expected GradientTransformation",
        r"Pass optax\.adam\(1e-3\), or lambda h: optax\.adam\(h\['learning_rate'\]\)",
    ),
    "an optimizer that was not called": (
        lambda: train(parts=(None, None, optax.adam)),
        T, r"the optimizer has the wrong type",
        r"Pass optax\.adam\(1e-3\)",
    ),
    "not a learner": (
        lambda: jaxnn.train(jaxnn.mlp([8], 3), DATA, steps=3, key=KEY),
        T, r"learner has the wrong type. Got a Network; expected a Learner",
        r"Pass learner\(network, objective, optimizer\)",
    ),
    "metrics that are numbers": (
        lambda: train(parts=changed(update=scalar_metrics)),
        T, r"the results of the learner's step are not metrics by name. Got 'loss' with a value of",
        r"Return \{'error': jaxnn\.metrics\.mean\(values, weights\)\}",
    ),
    "no metrics": (
        lambda: train(parts=changed(update=no_metrics)),
        T, r"the learner's step returns no metric. Got an empty dict; expected at least one metric",
        r"Return \{'loss':",
    ),
    "evaluation metrics that are numbers": (
        lambda: train(parts=changed(evaluate=lambda s, b: {"loss": 0.0}), evaluate=DATA),
        T, r"in the data 'test', train: the results of the learner's evaluate are not metrics",
        r"Return \{'error':",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)
