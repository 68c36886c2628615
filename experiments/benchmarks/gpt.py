"""A training step of `char_gpt` beside nanoGPT's model in PyTorch, and one in JAX by hand.

    pip install -e ".[bench]"
    python -m experiments.benchmarks.gpt             # three minutes on two cores
    python -m experiments.benchmarks.gpt --train     # trains both, and compares what they reach

Each is a process of its own, and they take turns, so that what else the machine does falls on all.
All have nanoGPT's sizes for a CPU, its AdamW, its clipping and float32; times include taking the
batch. PyTorch is eager, with its fused attention and fused AdamW, as nanoGPT runs without
`--compile`. A last line tells how fast the trained form of it writes, compiling apart.
"""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

import jaxnn
from experiments.char_gpt import PRESETS, network, optimizer
from experiments.char_gpt import Config as Experiment

SIZE, STEPS, RATE = PRESETS["cpu"], 2000, 1e-3
Train = Callable[[int], float]  # does so many steps, and returns their loss


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to measure."""

    rounds: int = 7  # turns of each
    steps: int = 40  # steps in a turn
    train: bool = False  # also train for 2,000 steps, and compare the losses


def tokens() -> tuple[np.ndarray, np.ndarray]:
    """Returns the text as numbers: the first nine tenths, and the rest."""
    text = jaxnn.datasets.tiny_shakespeare()
    numbers, border = jaxnn.Characters(text).encode(text), int(0.9 * len(text))
    return numbers[:border], numbers[border:]


def ours() -> tuple[Train, Callable[[], float], Callable[[int], float]]:
    """The learner of `char_gpt`, as `fit` runs it."""
    import jax
    import jax.numpy as jnp

    from jaxnn.loop._advance import advance
    from jaxnn.loop._run import empty_window, trace_step

    text, held_out = tokens()
    model = network(Experiment(), 65)
    learner = jaxnn.learner(
        model, jaxnn.next_token(), optimizer(Experiment().warm_up, STEPS, b2=0.99)
    )
    data = jaxnn.windows(text, SIZE.context + 1, batch_size=SIZE.batch_size)
    data = data.shuffled(jax.random.key(1))
    hparams = {name: jnp.float32(x) for name, x in (("learning_rate", RATE), ("weight_decay", 0.1))}
    state = learner.init(jax.random.key(0), hparams, data.batch(jnp.int32(0)))
    empty = partial(empty_window, trace_step(learner, state, data)[1][1])

    def train(count):
        nonlocal state
        state, window, _ = advance(learner, state, data, count, empty(), "looped")
        return float(window["loss"].value())

    def test():
        rest = jaxnn.windows(held_out, SIZE.context + 1, stride=SIZE.context, batch_size=64)
        return float(jaxnn.evaluate(learner, state, rest)["loss"])

    def write(count):
        options = {"key": jax.random.key(0), "context": SIZE.context, "temperature": 0.8}
        arguments = model, state.params, state.state, np.zeros((1, 1), np.int32), count
        jax.block_until_ready(jaxnn.generate(*arguments, **options))
        began = time.perf_counter()
        jax.block_until_ready(jaxnn.generate(*arguments, **options))
        return time.perf_counter() - began

    return train, test, write


def by_hand() -> tuple[Train, None, None]:
    """The same model as one writes it in JAX for this one size, as one compiled loop."""
    import jax
    import jax.numpy as jnp
    import optax
    from jax import lax

    time_, width, heads, count = SIZE.context, SIZE.features, SIZE.heads, SIZE.batch_size
    text = jnp.asarray(tokens()[0])
    rows = count * time_

    def weight(key, *shape):
        return 0.02 * jax.random.normal(key, shape)

    def layer(key):
        keys = jax.random.split(key, 4)
        return {
            "norms": jnp.ones((2, width)),
            "look": weight(keys[0], width, 3 * width), "tell": weight(keys[1], width, width),
            "up": weight(keys[2], width, 4 * width), "down": weight(keys[3], 4 * width, width),
        }  # fmt: skip

    def normal(x, scale):
        x = x - x.mean(-1, keepdims=True)
        return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5) * scale

    def block(x, p):
        parts = (normal(x, p["norms"][0]) @ p["look"]).reshape(count, time_, 3, heads, -1)
        q, k, v = parts.transpose(2, 0, 3, 1, 4).reshape(3, count * heads, time_, -1)
        scores = jnp.einsum("btf,bsf->bts", q, k) / (width // heads) ** 0.5
        scores = jnp.where(jnp.tril(jnp.ones((time_, time_), bool)), scores, -1e30)
        mixed = jnp.einsum("bts,bsf->btf", jax.nn.softmax(scores), v)
        mixed = mixed.reshape(count, heads, time_, -1).transpose(0, 2, 1, 3).reshape(rows, width)
        x = x + mixed @ p["tell"]
        return x + jax.nn.gelu(normal(x, p["norms"][1]) @ p["up"]) @ p["down"]

    def loss(params, batch):
        x = params["tokens"][batch[:, :-1].reshape(-1)] + jnp.tile(params["places"], (count, 1))
        for own in params["layers"]:
            x = block(x, own)
        logits = normal(x, params["norm"]) @ params["tokens"].T
        labels = batch[:, 1:].reshape(-1)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(RATE, b2=0.99, weight_decay=0.1, mask=partial(jax.tree.map, _is_matrix)),
    )

    @partial(jax.jit, donate_argnums=0)
    def steps(carry, first, n):
        def step(number, carry):
            params, memory, total = carry
            key = jax.random.fold_in(jax.random.key(1), number)
            start = jax.random.randint(key, (count, 1), 0, len(text) - time_)
            batch = text[start + jnp.arange(time_ + 1)].astype(jnp.int32)
            value, grads = jax.value_and_grad(loss)(params, batch)
            updates, memory = tx.update(grads, memory, params)
            return optax.apply_updates(params, updates), memory, total + value

        return lax.fori_loop(first, first + n, step, carry)

    keys = jax.random.split(jax.random.key(0), 2 + SIZE.layers)
    params = {
        "tokens": weight(keys[0], 65, width), "places": weight(keys[1], time_, width),
        "layers": [layer(key) for key in keys[2:]], "norm": jnp.ones(width),
    }  # fmt: skip
    carry, done = (params, tx.init(params), jnp.zeros(())), 0

    def train(n):
        nonlocal carry, done
        carry = steps((*carry[:2], jnp.zeros(())), done, n)
        done += n
        return float(carry[2]) / n

    return train, None, None


def _is_matrix(array) -> bool:
    return array.ndim > 1


WORKERS = {"jaxnn": ours, "JAX by hand": by_hand}


def work(name: str, pipe) -> None:
    """Runs one measurement in a process of its own."""
    if name == "PyTorch":
        from experiments.benchmarks.nano_gpt import nano_gpt

        train, test, write = nano_gpt(*tokens(), SIZE, STEPS)
    else:
        train, test, write = WORKERS[name]()
    parts = {"train": train, "test": test, "write": write}
    for part, *arguments in iter(pipe.recv, None):
        began = time.perf_counter()
        value = parts[part](*arguments)
        pipe.send((value, time.perf_counter() - began))


def main(config: Config) -> None:
    """Prints the times of a step, their ratios, and what training reaches."""
    context, pipes = multiprocessing.get_context("spawn"), {}
    for name in ("PyTorch", *WORKERS):
        pipes[name], other = context.Pipe()
        context.Process(target=work, args=(name, other), daemon=True).start()

    def ask(name, *words):
        pipes[name].send(words)
        return pipes[name].recv()

    seconds = {name: [] for name in pipes}
    for _ in range(config.rounds + 1):  # of which the first compiles
        for name in pipes:
            seconds[name].append(ask(name, "train", config.steps)[1] / config.steps)
    print(f"{config.rounds} turns of {config.steps} steps; milliseconds of a step (range)")
    for name, taken in seconds.items():
        taken = [1e3 * each for each in taken[1:]]
        ratios = [a / b for a, b in zip(seconds["PyTorch"][1:], seconds[name][1:])]
        print(
            f"{name:12}{statistics.median(taken):8.1f} ({min(taken):.1f} to {max(taken):.1f}),"
            f"  {statistics.median(ratios):.2f} times as fast as PyTorch"
            f" ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )
    written = 2000
    taken = ask("jaxnn", "write", written)[0]
    print(f"jaxnn writes {written / taken:,.0f} characters a second")
    if config.train:
        done = (config.rounds + 1) * config.steps
        for name in ("PyTorch", "jaxnn"):
            ask(name, "train", STEPS - done)
            loss, _ = ask(name, "test")
            print(f"{name:12}{loss:.4f} nats per character after {STEPS} steps", flush=True)
    for pipe in pipes.values():
        pipe.send(None)


if __name__ == "__main__":
    import tyro

    try:
        main(tyro.cli(Config, prog="python -m experiments.benchmarks.gpt", description=__doc__))
    except (jaxnn.Invalid, ImportError) as error:
        sys.exit(f"{error}")
