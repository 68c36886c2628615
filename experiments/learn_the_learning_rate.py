"""Gradients through complete training runs learn a learning rate, and a sweep checks it.

    python -m experiments.learn_the_learning_rate

A network of 64-64-10 nodes trains on the digits by gradient descent with momentum. The loss on
held-out digits is differentiated with respect to the learning rate, through all training steps
(`jaxnn.unroll`). Each outer step runs one training with new weights and a new order of the data.
The outer problem is an ordinary learner: its network has one parameter, the logarithm of the rate,
and trains another network before it predicts. The experiment compares the learned rate with the
best rate of a sweep, on held-out and test digits, over seeds that neither of them used.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnn
from experiments.command import command
from jaxnn.storage.opening import open_directory


@dataclass(frozen=True, kw_only=True)
class Config:
    """The outer training, the inner trainings and the sweep."""

    first: float = 1e-3  # initial learning rate
    outer_rate: float = 0.2  # peak step size of Adam for the logarithm of the learning rate
    steps: int = 150  # outer steps, each of which is one training
    momentum: float = 0.9  # momentum of the inner gradient descent
    batch_size: int = 64  # examples per training step
    epochs: float = 5  # passes over the training data per training
    lowest: float = 1e-3  # lowest learning rate of the sweep
    highest: float = 1.0  # highest learning rate of the sweep
    rates: int = 31  # number of learning rates, logarithmically spaced
    seeds: int = 8  # trainings per rate in the sweep; twice as many in the comparison
    seed: int = 0  # random seed for weights and data order


def training(network: jaxnn.Learner, data: jaxnn.Resident, steps: int, first: float):
    """Returns a network that trains with its parameter, the learning rate, and then predicts."""

    def init(key, inputs):
        return {"log_rate": jnp.float32(np.log(first))}, {}

    def apply(params, state, inputs, *, key=None):
        weights, order = jax.random.split(jax.random.key(0) if key is None else key)
        hparams = {"learning_rate": jnp.exp(params["log_rate"])}
        trained = network.init(weights, hparams, data.in_order(0))
        trained, _ = jaxnn.unroll(network, steps)(trained, data.shuffled(order))
        return network.predict(trained, inputs), state

    return jaxnn.Network(init, apply)


def main(config: Config, out: jaxnn.Directory) -> jaxnn.Run:
    """Learns the rate, sweeps it, and compares the two rates."""
    train, test = jaxnn.split(jaxnn.datasets.digits(), 0.2, stratify="labels")
    train, held_out = jaxnn.split(train, 0.2, stratify="labels")
    data = jaxnn.resident(train, batch_size=config.batch_size)
    steps = jaxnn.data.steps_of(f"{config.epochs} epochs", data)
    judges = {"held_out": held_out, "test": test}
    judges = {name: jaxnn.resident(part, batch_size=512) for name, part in judges.items()}
    network = jaxnn.learner(
        jaxnn.serial(jaxnn.standardize(4.88, 6.02), jaxnn.mlp([64], 10, activation=jnp.tanh)),
        jaxnn.classification(),
        lambda hparams: optax.sgd(hparams["learning_rate"], momentum=config.momentum),
    )
    decay = optax.cosine_decay_schedule(config.outer_rate, config.steps)
    learner = jaxnn.learner(
        training(network, data, steps, config.first), jaxnn.classification(), optax.adam(decay)
    )
    with open_directory(out) as directory:
        outer = jaxnn.fit(
            learner,
            jaxnn.resident(held_out, batch_size=len(held_out["labels"])),
            steps=config.steps,
            key=jaxnn.keys(config.seed),
            every=1,
            out=directory.part("learned"),
        )

        def trainings(part, rates, seeds):
            sweep = jaxnn.sweep({"learning_rate": rates}, seeds=seeds)
            many = {"key": sweep.key, "hparams": sweep.hparams, "evaluate": judges}
            run = jaxnn.fit(network, data, steps=steps, **many, out=directory.part(part))
            metrics = {k: v for k, v in run.result.items() if k.split("/")[0] in judges}
            means = {k: np.reshape(v, (len(rates), -1)).mean(1) for k, v in metrics.items()}
            return means

        rates = jaxnn.log_range(config.lowest, config.highest, config.rates)
        means = trainings("sweep", rates, range(config.seeds))
        learned = float(np.exp(outer.state.params["log_rate"]))
        rates_by_name = {"learned": learned, "swept": float(rates[means["held_out/loss"].argmin()])}
        fresh = range(config.seeds, 3 * config.seeds)
        compared = trainings("compared", list(rates_by_name.values()), fresh)
        result = {"experiment": "learn_the_learning_rate", "steps": config.steps}
        result |= {k: outer.result[k] for k in ("seconds", "device", "jax")}
        for number, (name, rate) in enumerate(rates_by_name.items()):
            result[f"{name}/rate"] = rate
            for metric, values in compared.items():
                result[metric.replace("/", f"/{name}_")] = float(values[number])
        directory.finish(result)
    return replace(outer, result=result, out=directory.path)


if __name__ == "__main__":
    command(Config, main, sweeps=True)
