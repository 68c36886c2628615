"""What `fit` costs over the same training written by hand as one `lax.scan`.

    python -m experiments.benchmarks.overhead            # about ten minutes on two cores

The program by hand has the same network, order of the data, optimizer and metrics, without a
library. Both run in one process, in turn, for at least `seconds` each time; setting up, compiling
and evaluating are left out. The table gives the median time of a step and the ratio of each pair.
A second table compares a step of the convolutional network inside the loop with the same step
outside it.
"""

import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax

import jaxnn
from jaxnn.data.order import epoch_and_place, permute
from jaxnn.layers._convolve import convolve
from jaxnn.learning._learner import ORDER
from jaxnn.loop._advance import advance
from jaxnn.loop._run import Form, empty_window, trace_step
from jaxnn.scale import devices


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to measure."""

    seconds: float = 10.0  # least time of one run
    pairs: int = 5  # runs of each program
    batch_size: int = 128  # examples in a step (digits: half of it)


def hand_mlp(params, x):
    """An MLP as one writes it by hand, on pixels already scaled."""
    x = x.reshape(x.shape[0], -1)
    for name in ("hidden_1", "hidden_2"):
        x = jax.nn.relu(x @ params[name]["weight"] + params[name]["bias"])
    return x @ params["output"]["weight"] + params["output"]["bias"]


def hand_convnet(params, x):
    """A convolutional network by hand; natively its gradient would be far slower in a loop."""
    x = x[..., None]
    for name in ("conv_1", "conv_2"):
        pads = ((1, 1), (1, 1))
        x = convolve(x, params[name]["weight"], (1, 1), pads, (1, 1), (1, 1), 1)
        x = jax.nn.relu(x + params[name]["bias"])
        x = jnp.maximum(x[:, ::2], x[:, 1::2])
        x = jnp.maximum(x[:, :, ::2], x[:, :, 1::2])
    x = x.reshape(x.shape[0], -1)
    x = jax.nn.relu(x @ params["hidden"]["weight"] + params["hidden"]["bias"])
    return x @ params["output"]["weight"] + params["output"]["bias"]


def by_hand(forward, mean, std, batch_size):
    """Returns the whole training of `n` steps as one compiled scan."""
    optimizer = optax.adam(1e-3)

    @partial(jax.jit, static_argnums=4)
    def program(params, inputs, labels, key, n):
        examples = inputs.shape[0]

        def step(carry, number):
            params, opt_state, total, right = carry
            index = permute(key, *epoch_and_place(number, batch_size, examples), examples)
            x = (inputs[index].astype(jnp.float32) - mean) / std
            y = labels[index]

            def loss_of(params):
                logits = forward(params, x)
                losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, y)
                return losses.mean(), logits

            (loss, logits), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
            updates, opt_state = optimizer.update(grads, opt_state)
            right = right + (logits.argmax(-1) == y).sum()
            return (optax.apply_updates(params, updates), opt_state, total + loss, right), None

        begin = (params, optimizer.init(params), jnp.zeros(()), jnp.zeros((), jnp.int32))
        return lax.scan(step, begin, jnp.arange(n))[0]

    return program


def cases(config: Config):
    """Yields `(name, network, forward by hand, mean, std, data)`."""
    images, _ = jaxnn.datasets.mnist()
    mnist = jaxnn.resident(images, batch_size=config.batch_size)
    digits = jaxnn.resident(jaxnn.datasets.digits(), batch_size=config.batch_size // 2)
    yield "digits 64-64-64-10", jaxnn.mlp([64, 64], 10), hand_mlp, 4.88, 6.02, digits
    yield "MNIST MLP 784-256-256-10", jaxnn.mlp([256, 256], 10), hand_mlp, 33.3, 78.6, mnist
    yield "MNIST convnet", jaxnn.convnet([32, 64], 128, 10), hand_convnet, 33.3, 78.6, mnist


def step_seconds(learner, data, steps, key) -> float:
    """Returns the seconds of a step of `fit`, between its first report and its last."""
    run = jaxnn.fit(
        learner, data, steps=steps + steps // 10, every=steps // 10, key=key, quiet=True
    )
    first, last = run.history[0], run.history[-1]
    return (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])


def compare(config: Config, layers, forward, mean, std, data) -> tuple[int, list, list]:
    """Returns the steps of a run, and the seconds of a step by hand and by `fit`, in turn."""
    network = jaxnn.serial(("pixels", jaxnn.standardize(mean, std)), ("layers", layers))
    learner = jaxnn.learner(network, jaxnn.classification(), optax.adam(1e-3))
    key = jax.random.key(0)
    params = learner.init(key, {}, data.batch(jnp.int32(0))).params["layers"]
    program = by_hand(forward, mean, std, data.batch_size)
    arguments = (
        params,
        data.arrays["inputs"],
        data.arrays["labels"],
        jax.random.fold_in(key, ORDER),
    )
    trial = step_seconds(learner, data, 20, key)
    trial = step_seconds(learner, data, max(20, int(1 / trial)), key)
    steps = max(20, int(config.seconds * 1.1 / trial))
    jax.block_until_ready(program(*arguments, steps))
    hand, ours = [], []
    for _ in range(config.pairs):
        began = time.perf_counter()
        jax.block_until_ready(program(*arguments, steps))
        hand.append((time.perf_counter() - began) / steps)
        ours.append(step_seconds(learner, data, steps, key))
    return steps, hand, ours


def inside_and_outside(config: Config, layers, data, n: int = 50) -> tuple[list, list, bool]:
    """Returns the seconds of a step in the loop and alone, and whether their bits are equal."""
    network = jaxnn.serial(jaxnn.standardize(33.3, 78.6), layers)
    learner = jaxnn.learner(network, jaxnn.classification(), optax.adam(1e-3))
    forms: tuple[Form, Form] = ("looped", "stepped")
    seconds, states = {form: [] for form in forms}, {}
    for _ in range(config.pairs + 1):
        for form in forms:
            state = learner.init(jax.random.key(0), {}, data.batch(jnp.int32(0)))
            window = empty_window(trace_step(learner, state, data)[1][1])
            jax.block_until_ready(state)
            began = time.perf_counter()
            state, _, token = advance(learner, state, data, n, window, form)
            jax.block_until_ready(token)
            seconds[form].append((time.perf_counter() - began) / n)
            states[form] = jax.tree.leaves(state.params)
    same = all((a == b).all() for a, b in zip(states["looped"], states["stepped"]))
    return seconds["looped"][1:], seconds["stepped"][1:], same


def line(name: str, left: list, right: list, note: str) -> str:
    """Returns a row: median milliseconds of both, the median ratio and its range."""
    ratios = sorted(b / a for a, b in zip(left, right))
    figures = f"{1e3 * statistics.median(left):10.4f} {1e3 * statistics.median(right):10.4f}"
    spread = f"{statistics.median(ratios):6.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
    return f"{name:26}{figures}  {spread}  {note}"


def main(config: Config) -> None:
    """Prints both tables."""
    print(f"{devices.describe()}; {config.pairs} pairs of at least {config.seconds:g} s")
    print(f"{'':26}{'hand, ms':>10} {'fit, ms':>10}  fit / hand (range)")
    everything = list(cases(config))
    for name, layers, forward, mean, std, data in everything:
        steps, hand, ours = compare(config, layers, forward, mean, std, data)
        print(line(name, hand, ours, f"{steps} steps"), flush=True)
    print(f"\n{'':26}{'alone, ms':>10} {'loop, ms':>10}  loop / alone (range)")
    name, layers, *_, data = everything[-1]
    looped, stepped, same = inside_and_outside(config, layers, data)
    print(line(name, stepped, looped, "same bits" if same else "DIFFERENT BITS"))


if __name__ == "__main__":
    import tyro

    try:
        main(
            tyro.cli(Config, prog="python -m experiments.benchmarks.overhead", description=__doc__)
        )
    except jaxnn.Invalid as error:
        sys.exit(f"{error}")
