"""A training step of `char_gpt`, next to nanoGPT in PyTorch and to the same model in plain JAX.

All use the CPU sizes of nanoGPT, its AdamW and gradient clipping, and float32; a step draws its
batch at random positions of the text. `nano_gpt.py` contains the PyTorch model. The loss is the
mean over the last tenth of the text in nats per character, after the same number of steps.
"""

from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

RATE, WARM_UP, TOTAL = 1e-3, 100, 2000


class Given(NamedTuple):
    """The task of all contenders.

    Attributes:
      text: the first nine tenths of the text, as character numbers.
      held_out: the rest of the text.
      size: a `Size` of `char_gpt`.
      steps: the number of steps in a round.
    """

    text: np.ndarray
    held_out: np.ndarray
    size: Any
    steps: int


def given(quick: bool) -> Given:
    """Returns tiny Shakespeare, with 40 steps per round."""
    import jaxnn
    from experiments.char_gpt import PRESETS

    text = jaxnn.datasets.tiny_shakespeare()
    numbers, border = jaxnn.Characters(text).encode(text), int(0.9 * len(text))
    return Given(numbers[:border], numbers[border:], PRESETS["cpu"], 2 if quick else 40)


def ours(given: Given):
    """jaxnn: the learner of `char_gpt`."""
    import jax
    import jax.numpy as jnp

    import jaxnn
    from experiments.char_gpt import Config, network, optimizer

    size = given.size
    learner = jaxnn.learner(
        network(Config(), 65), jaxnn.next_token(), optimizer(WARM_UP, TOTAL, b2=0.99)
    )
    data = jaxnn.windows(given.text, size.context + 1, batch_size=size.batch_size)
    data = data.shuffled(jax.random.key(1))
    hparams = {"learning_rate": jnp.float32(RATE), "weight_decay": jnp.float32(0.1)}
    state = jax.jit(learner.init)(jax.random.key(0), hparams, data.batch(jnp.int32(0)))
    steps = jax.jit(jaxnn.run, static_argnums=0, donate_argnums=1)

    def train():
        nonlocal state
        state, _ = jax.block_until_ready(steps(learner, state, data, given.steps))

    def test():
        options = {"stride": size.context, "batch_size": 64}
        rest = jaxnn.windows(given.held_out, size.context + 1, **options)
        return float(jaxnn.evaluate(learner, state, rest)["loss"])

    return train, test, f"jax {version('jax')}"


def by_hand(given: Given):
    """Plain JAX: the same model for this size only, in one compiled loop."""
    import jax
    import jax.numpy as jnp
    import optax
    from jax import lax

    size, text = given.size, jnp.asarray(given.text)
    time_, width, heads, count = size.context, size.features, size.heads, size.batch_size

    def weight(key, *shape):
        return 0.02 * jax.random.normal(key, shape)

    def layer(key):
        keys = jax.random.split(key, 4)
        return {
            "norms": jnp.ones((2, width)),
            "qkv": weight(keys[0], width, 3 * width), "out": weight(keys[1], width, width),
            "up": weight(keys[2], width, 4 * width), "down": weight(keys[3], 4 * width, width),
        }  # fmt: skip

    def normal(x, scale):
        x = x - x.mean(-1, keepdims=True)
        return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5) * scale

    def block(x, p):
        parts = (normal(x, p["norms"][0]) @ p["qkv"]).reshape(-1, time_, 3, heads, width // heads)
        q, k, v = parts.transpose(2, 0, 3, 1, 4).reshape(3, -1, time_, width // heads)
        scores = jnp.einsum("btf,bsf->bts", q, k) / (width // heads) ** 0.5
        scores = jnp.where(jnp.tril(jnp.ones((time_, time_), bool)), scores, -1e30)
        mixed = jnp.einsum("bts,bsf->btf", jax.nn.softmax(scores), v)
        mixed = mixed.reshape(-1, heads, time_, width // heads).transpose(0, 2, 1, 3)
        x = x + mixed.reshape(-1, width) @ p["out"]
        return x + jax.nn.gelu(normal(x, p["norms"][1]) @ p["up"]) @ p["down"]

    def loss(params, batch):
        x = params["tokens"][batch[:, :-1]] + params["places"]
        x = x.reshape(-1, width)
        for own in params["layers"]:
            x = block(x, own)
        logits = normal(x, params["norm"]) @ params["tokens"].T
        labels = batch[:, 1:].reshape(-1)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    rate = optax.warmup_cosine_decay_schedule(0.0, RATE, WARM_UP, TOTAL, 0.1 * RATE)
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(rate, b2=0.99, weight_decay=0.1, mask=partial(jax.tree.map, _is_matrix)),
    )

    @partial(jax.jit, donate_argnums=0)
    def steps(carry, first):
        def step(number, carry):
            params, memory = carry
            key = jax.random.fold_in(jax.random.key(1), number)
            start = jax.random.randint(key, (count, 1), 0, len(text) - time_)
            batch = text[start + jnp.arange(time_ + 1)].astype(jnp.int32)
            grads = jax.grad(loss)(params, batch)
            updates, memory = tx.update(grads, memory, params)
            return optax.apply_updates(params, updates), memory

        return lax.fori_loop(first, first + given.steps, step, carry)

    keys = jax.random.split(jax.random.key(0), 2 + size.layers)
    params = {
        "tokens": weight(keys[0], 65, width), "places": weight(keys[1], time_, width),
        "layers": [layer(key) for key in keys[2:]], "norm": jnp.ones(width),
    }  # fmt: skip
    carry, done = (params, tx.init(params)), 0

    def train():
        nonlocal carry, done
        carry = jax.block_until_ready(steps(carry, done))
        done += given.steps

    def test():
        windows = (len(given.held_out) - 1) // time_
        places = time_ * np.arange(windows)[:, None] + np.arange(time_ + 1)
        batches = np.array_split(given.held_out[places], max(1, windows // 64))
        mean = jax.jit(loss)
        losses = [float(mean(carry[0], batch)) * len(batch) for batch in batches]
        return sum(losses) / windows

    return train, test, f"jax {version('jax')}"


def _is_matrix(array) -> bool:
    return array.ndim > 1
