"""A learning rate is learned by gradients through whole trainings, and compared with a sweep.

    python -m experiments.learn_the_learning_rate

A network of 64-64-10 nodes is trained on the digits by gradient descent with momentum. How its loss
on held-out digits depends on the learning rate is differentiated through all the training steps
(`jaxnn.unroll`), and descended: each outer step is a training from new weights, in a new order.
Outside it is plain learning: of a network with one parameter, the logarithm of the rate, which
makes predictions by training another network first. The rate that it ends at is compared with the
best of a sweep, over seeds that neither has seen, on held-out digits and on test digits.
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
    """How the rate is learned, and what is swept."""

    first: float = 1e-3  # learning rate to begin with
    outer_rate: float = 0.2  # peak step size of Adam, on the logarithm of the learning rate
    steps: int = 150  # outer steps, a training each
    momentum: float = 0.9  # of the gradient descent
    batch_size: int = 64  # examples in a training step
    epochs: float = 5  # passes over the training data, of each training
    lowest: float = 1e-3  # learning rate of the sweep
    highest: float = 1.0  # learning rate of the sweep
    rates: int = 31  # learning rates from the lowest to the highest, in equal ratios
    seeds: int = 8  # trainings of each rate in the sweep; twice as many in the comparison
    seed: int = 0  # decides weights and orders


def training(network: jaxnn.Learner, data: jaxnn.Resident, steps: int, first: float):
    """A network whose parameter is the learning rate with which it trains before it predicts."""

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
