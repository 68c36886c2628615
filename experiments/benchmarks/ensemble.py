"""Training 64 networks at once: a population of jaxnn, and the ensembles of other libraries.

The networks and data are those of `sweep.py`, at one learning rate. In jaxnn, each network sees the
examples in its own order; in the other libraries, all see the same batches, as documented there.
`klax` reproduces its `fit(vmap_ensemble=True)`, which is not released yet: a compiled Equinox step,
vectorized over the models, in a loop over NumPy batches.
"""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false

from importlib.metadata import version

import numpy as np

from experiments.benchmarks.sweep import CLASSES, HIDDEN, Given, digits

RATE = 3e-3


def given(quick: bool) -> Given:
    """Returns the task with 64 runs, or 4 if `quick`."""
    return digits([(RATE, seed) for seed in range(4 if quick else 64)])


def scan(given: Given):
    """Plain JAX: a scan over all steps, vectorized over the networks."""
    import jax
    import jax.numpy as jnp
    import optax

    tx, inputs, labels = optax.adam(RATE), jnp.asarray(given.inputs), jnp.asarray(given.labels)

    def forward(params, x):
        (w1, b1), (w2, b2) = params
        return jax.nn.relu(x @ w1 + b1) @ w2 + b2

    def loss(params, x, y):
        logits = forward(params, x)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    @jax.vmap
    def train_all(key, order):
        keys = jax.random.split(key)
        params = [
            (jax.random.normal(own, (64, nodes)) * (2 / 64) ** 0.5, jnp.zeros(nodes))
            for own, nodes in zip(keys, (HIDDEN, CLASSES))
        ]

        def step(carry, index):
            params, memory = carry
            grads = jax.grad(loss)(params, inputs[index], labels[index])
            updates, memory = tx.update(grads, memory, params)
            return (optax.apply_updates(params, updates), memory), None

        params = jax.lax.scan(step, (params, tx.init(params)), order)[0][0]
        return (forward(params, given.test_inputs).argmax(-1) == given.test_labels).mean()

    accuracies = np.zeros(1)

    def train():
        nonlocal accuracies
        seeds = [seed for _, seed in given.runs]
        orders = np.stack([given.order(seed) for seed in seeds])
        accuracies = np.asarray(train_all(jax.vmap(jax.random.key)(np.array(seeds)), orders))

    return train, lambda: float(accuracies.mean()), f"jax {version('jax')}"


def klax(given: Given):
    """Equinox, as in klax: a vectorized and compiled step."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    tx, reached = optax.adam(RATE), 0.0

    @eqx.filter_vmap
    def make(key):
        return eqx.nn.MLP(64, CLASSES, HIDDEN, 1, key=key)

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(eqx.if_array(0), 0, None, None))
    def step(model, memory, x, y):
        @eqx.filter_grad
        def grads(model):
            logits = jax.vmap(model)(x)
            return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, memory = tx.update(grads(model), memory, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), memory

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(eqx.if_array(0), None))
    def predict(model, x):
        return jax.vmap(model)(x)

    def train():
        nonlocal reached
        models = make(jax.vmap(jax.random.key)(jnp.arange(len(given.runs))))
        memory = jax.vmap(tx.init)(eqx.filter(models, eqx.is_array))
        for index in given.order(0):
            models, memory = step(models, memory, given.inputs[index], given.labels[index])
        predicted = predict(models, given.test_inputs).argmax(-1)
        reached = float((predicted == given.test_labels).mean())

    return train, lambda: reached, f"equinox {version('equinox')}"


def turbanet(given: Given):
    """TurbaNet: a swarm of Linen models, which all receive the same batch."""
    import optax
    from flax import linen
    from turbanet import TurbaTrainState, softmax_cross_entropy

    class Classifier(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(CLASSES)(linen.relu(linen.Dense(HIDDEN)(x)))

    model, tx, reached, count = Classifier(), optax.adam(RATE), 0.0, len(given.runs)
    targets = np.eye(CLASSES, dtype=np.float32)[given.labels]

    def same(x):
        return np.broadcast_to(x, (count, *x.shape))

    def train():
        nonlocal reached
        swarm = TurbaTrainState.swarm(model, tx, count, given.inputs[:1])
        for index in given.order(0):
            batch = same(given.inputs[index]), same(targets[index])
            swarm, _, _ = swarm.train(*batch, softmax_cross_entropy)
        predicted = np.asarray(swarm.predict(same(given.test_inputs))).argmax(-1)
        reached = float((predicted == given.test_labels).mean())

    return train, lambda: reached, f"turbanet {version('turbanet')}"
