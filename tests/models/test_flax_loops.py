"""Flax models beside loops by hand over the same models: the same curves, in the same time."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import jaxnn
from jaxnn.learning._learner import ORDER
from jaxnn.learning._learner import STEPS as STREAM
from jaxnn.models.flax import flax_parameters

STEPS, ROUNDS, MOST = 20, 9, 1.03
KEY = jax.random.key(0)


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        for _ in range(2):
            x = nn.Dropout(0.1, deterministic=not train)(nn.relu(nn.Dense(512)(x)))
        return nn.Dense(10)(x)


class Conv(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        for channels in (16, 32):
            x = nn.Conv(channels, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
            x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        return nn.Dense(10)(x.reshape(len(x), -1))


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, tokens, train: bool):
        x = nn.Embed(64, 128)(tokens)
        for _ in range(2):
            y = nn.LayerNorm()(x)
            x += nn.MultiHeadDotProductAttention(4, deterministic=not train)(y)
            x += nn.Dense(128)(nn.gelu(nn.Dense(512)(nn.LayerNorm()(x))))
        return nn.Dense(10)(x.mean(1))


class NnxMlp(nnx.Module):
    def __init__(self, rngs):
        sizes = [(784, 512), (512, 512)]
        self.layers = getattr(nnx, "List", list)([nnx.Linear(*s, rngs=rngs) for s in sizes])
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.output = nnx.Linear(512, 10, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = self.dropout(nnx.relu(layer(x)))
        return self.output(x)


class NnxConv(nnx.Module):
    def __init__(self, rngs):
        self.conv_1, self.norm_1 = nnx.Conv(1, 16, (3, 3), rngs=rngs), nnx.BatchNorm(16, rngs=rngs)
        self.conv_2, self.norm_2 = nnx.Conv(16, 32, (3, 3), rngs=rngs), nnx.BatchNorm(32, rngs=rngs)
        self.output = nnx.Linear(7 * 7 * 32, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.avg_pool(nnx.relu(self.norm_1(self.conv_1(x))), (2, 2), strides=(2, 2))
        x = nnx.avg_pool(nnx.relu(self.norm_2(self.conv_2(x))), (2, 2), strides=(2, 2))
        return self.output(x.reshape(len(x), -1))


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm_1, self.norm_2 = nnx.LayerNorm(128, rngs=rngs), nnx.LayerNorm(128, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 128, decode=False, rngs=rngs)
        self.hidden = nnx.Linear(128, 512, rngs=rngs)
        self.output = nnx.Linear(512, 128, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm_1(x))
        return x + self.output(nnx.gelu(self.hidden(self.norm_2(x))))


class NnxTransformer(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(64, 128, rngs=rngs)
        self.blocks = getattr(nnx, "List", list)([NnxBlock(rngs) for _ in range(2)])
        self.output = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.output(x.mean(1))


class Small(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(x))
        return nn.Dense(10)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x)))


class NnxSmall(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.norm = nnx.Linear(784, 16, rngs=rngs), nnx.BatchNorm(16, rngs=rngs)
        self.dropout, self.output = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        return self.output(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


DRAWS = np.random.default_rng(0)
ROWS = DRAWS.normal(size=(2560, 784)).astype(np.float32)
IMAGES = DRAWS.normal(size=(1280, 28, 28, 1)).astype(np.float32)
TEXTS = DRAWS.integers(0, 64, (640, 64)).astype(np.int32)
SMALL = {"linen": (Small(), ROWS[:64], 16), "nnx": (NnxSmall, ROWS[:64], 16)}
MODELS = {
    "linen_mlp": (Mlp(), ROWS, 256),
    "linen_convnet": (Conv(), IMAGES, 64),
    "linen_transformer": (Transformer(), TEXTS, 16),
    "nnx_mlp": (NnxMlp, ROWS, 256),
    "nnx_convnet": (NnxConv, IMAGES, 64),
    "nnx_transformer": (NnxTransformer, TEXTS, 16),
}
CASES = SMALL | MODELS


def loss_of(logits, labels):
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), (logits.argmax(-1) == labels).mean()


def linen_loop(model, variables, optimizer):
    """Returns the initial carry, a step as in the examples of Flax, and what reads a carry."""
    params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}

    def step(carry, x, labels, key):
        params, rest, opt_state = carry

        def loss(params):
            logits, after = model.apply(
                {"params": params, **rest}, x, train=True, mutable=[*rest], rngs={"dropout": key}
            )
            mean, accuracy = loss_of(logits, labels)
            return mean, (accuracy, after)

        (mean, (accuracy, rest)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), rest, opt_state), (mean, accuracy)

    return (params, rest, optimizer.init(params)), step, lambda carry: carry[:2]


def nnx_loop(module, optimizer):
    """Returns the same for NNX; the step is over a split module, the faster form."""
    module.train()
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    def step(carry, x, labels, key):
        params, rest, opt_state = carry

        def loss(params):
            module = nnx.merge(graph, params, jax.tree.map(lambda x: x, rest))
            streams = dict(nnx.to_flat_state(nnx.state(module, nnx.RngState)))
            for number, path in enumerate(sorted(each for each in streams if each[-1] == "key")):
                streams[path][...] = jax.random.fold_in(key, number)
                streams[(*path[:-1], "count")][...] = jnp.uint32(0)
            nnx.update(module, nnx.from_flat_state(streams))
            mean, accuracy = loss_of(module(x), labels)
            return mean, (accuracy, nnx.split(module, nnx.Param, ...)[2])

        (mean, (accuracy, rest)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), rest, opt_state), (mean, accuracy)

    def read(carry):
        return flax_parameters(nnx.merge(graph, *carry[:2]))

    return (params, rest, optimizer.init(params)), step, read


def loop_of(model, state, optimizer):
    """Returns the loop by hand that begins with the arrays of a state."""
    flax_model = jaxnn.models.to_flax(model, *jax.tree.map(jnp.copy, (state.params, state.state)))
    if isinstance(model, nn.Module):
        return linen_loop(model, flax_model, optimizer)
    return nnx_loop(flax_model, optimizer)


def problem(name, optimizer):
    """Returns the model, a learner, the inputs and the labels."""
    model, inputs, _ = CASES[name]
    labels = np.random.default_rng(1).integers(0, 10, len(inputs)).astype(np.int32)
    learner = jaxnn.learner(jaxnn.from_flax(model), jaxnn.classification(), optimizer)
    return model, learner, inputs, labels


NIGHTLY = [pytest.param(name, marks=pytest.mark.nightly) for name in MODELS]


@pytest.mark.parametrize("name", [*SMALL, *NIGHTLY])
def test_curves_and_parameters_have_the_bits_of_a_loop_by_hand(name):
    """The same initial arrays, keys and order of batches; dropout and batch normalization too."""
    optimizer, steps = optax.adam(1e-3), 6
    model, learner, inputs, labels = problem(name, optimizer)
    fields = {"inputs": inputs, "labels": labels}
    data = jaxnn.resident(fields, batch_size=CASES[name][2])
    state = jax.jit(learner.init)(KEY, {}, data.batch(0))
    carry, step, read = loop_of(model, state, optimizer)
    step, ordered, by_hand = jax.jit(step), data.shuffled(jax.random.fold_in(KEY, ORDER)), []
    for number in range(steps):
        key = jax.random.fold_in(jax.random.fold_in(KEY, STREAM), number)
        batch = ordered.batch(number)
        arguments = batch["inputs"], batch["labels"], jax.random.split(key)[1]
        carry, (mean, _) = step(carry, *arguments)
        by_hand.append(float(mean))
    start = state.params, state.state
    losses = []
    for progress in jaxnn.train(learner, data, steps=steps, key=KEY, every=1, start=start):
        losses.append(float(progress.metrics["train/loss"]))
    assert losses == by_hand
    for own, other in zip((progress.state.params, progress.state.state), read(carry)):
        jax.tree.map(np.testing.assert_array_equal, own, other)


@pytest.mark.benchmark
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("name", MODELS)
def test_a_step_takes_the_time_of_a_loop_by_hand(name):
    model, learner, inputs, labels = problem(name, optax.adam(1e-3))
    size = MODELS[name][2]
    data = jaxnn.resident({"inputs": inputs, "labels": labels}, batch_size=size)
    steps = STEPS * (ROUNDS + 2)
    ours = iter(jaxnn.train(learner, data, steps=steps, key=KEY, every=STEPS))
    batch = {"inputs": inputs[:size], "labels": labels[:size]}
    carry, step, _ = loop_of(model, learner.init(KEY, {}, batch), optax.adam(1e-3))
    arrays, order = (jnp.asarray(inputs), jnp.asarray(labels)), np.random.default_rng(1)
    by_index = jax.jit(
        lambda carry, arrays, index, number: step(
            carry, *(x[index] for x in arrays), jax.random.fold_in(KEY, number)
        ),
        donate_argnums=0,
    )

    def by_hand():
        nonlocal carry
        for number in range(STEPS):
            index = order.integers(0, len(inputs), size)
            carry, measured = by_index(carry, arrays, index, number)
        jax.device_get(measured)

    def by_jaxnn():
        assert np.isfinite(next(ours).metrics["train/loss"])

    seconds = {by_hand: [], by_jaxnn: []}
    for turn in range(ROUNDS + 2):
        for work in (by_hand, by_jaxnn):
            begin = time.perf_counter()
            work()
            if turn > 1:
                seconds[work].append((time.perf_counter() - begin) / STEPS)
    hand, own = (statistics.median(each) for each in seconds.values())
    print(f"\n{name}: by hand {1e3 * hand:.2f} ms, jaxnn {1e3 * own:.2f} ms, {own / hand:.3f}")
    assert own <= MOST * hand
