"""An ensemble of eight networks is more accurate than one, and measures its disagreement.

    python -m experiments.ensemble_mnist

Eight MLPs for MNIST with different seeds train as one population. The experiment averages their
predicted probabilities, and compares the result with single networks by accuracy and by calibration
error: the difference between the confidence of predictions and their accuracy.
"""

from dataclasses import dataclass, replace
from statistics import mean

import jax
import jax.numpy as jnp
import optax

import jaxnn
from experiments import mnist
from experiments.command import command
from jaxnn.metrics import calibration_error, disagreement
from jaxnn.storage.opening import open_directory


@dataclass(frozen=True, kw_only=True)
class Config:
    """The members, and their hyper-parameters."""

    members: int = 8  # networks in the ensemble
    dropout: float = 0.2  # probability of dropping a hidden node's output
    learning_rate: float = 1e-3  # peak step size of AdamW
    weight_decay: float = 1e-2  # weight decay of AdamW, multiplied by the step size
    batch_size: int = 128  # examples per training step
    epochs: float = 12  # passes over the training data
    seed: int = 0  # random seed of the first member; the others use the next integers


def classification() -> jaxnn.Objective:
    """Returns classification with the calibration error as an additional metric."""
    base = jaxnn.classification()

    def metrics(outputs, batch):
        labels = batch["labels"]
        error = calibration_error(outputs, labels, jaxnn.objectives.weights_of(batch, labels))
        return {**base.metrics(outputs, batch), "calibration_error": error}

    return base._replace(metrics=metrics)


def differing(outputs, batch):
    """Returns the disagreement of members with outputs `[batch, members, classes]`."""
    weights = jaxnn.objectives.weights_of(batch, batch["labels"])
    return {"disagreement": disagreement(jnp.moveaxis(outputs, 1, 0), weights)}


def evaluated(network: jaxnn.Network, objective, data: jaxnn.Resident) -> dict[str, float]:
    """Returns the metrics of a trained network."""
    judge = jaxnn.learner(network, objective, optax.identity())
    state = judge.init(jax.random.key(0), {}, data.in_order(0))
    return jaxnn.evaluate(judge, state, data)


def main(config: Config, out: jaxnn.Directory) -> jaxnn.Run:
    """Trains the members, and evaluates them as an ensemble and one by one."""
    train, test = jaxnn.datasets.mnist()
    data = jaxnn.resident(train, batch_size=config.batch_size)
    steps = jaxnn.data.steps_of(f"{config.epochs} epochs", data)
    rate = optax.cosine_decay_schedule(config.learning_rate, steps)
    learner = jaxnn.learner(
        mnist.network(mnist.Config(), {"dropout": config.dropout}),
        classification(),
        optax.adamw(rate, weight_decay=config.weight_decay),
    )
    tested = jaxnn.resident(test, batch_size=1000)
    seeds = range(config.seed, config.seed + config.members)
    with open_directory(out) as directory:
        run = jaxnn.fit(
            learner,
            data,
            steps=steps,
            key=jaxnn.keys(seeds),
            evaluate=tested,
            every=jaxnn.Every(evaluate="25%"),
            out=directory.part("members"),
        )
        together = evaluated(jaxnn.ensemble(learner, run.state), classification(), tested)
        beside = jaxnn.ensemble(learner, run.state, average="none")
        nothing = jaxnn.objective(
            lambda outputs, batch: jnp.zeros(outputs.shape[0]), metrics=differing
        )
        result = {
            **{"experiment": "ensemble_mnist", "members": config.members},
            **{"steps": sum(run.result["steps"]), "seconds": run.result["seconds"]},
            **{f"test/{name}": value for name, value in together.items()},
            **{f"one/{name}": mean(run.result[f"test/{name}"]) for name in together},
            "test/disagreement": evaluated(beside, nothing, tested)["disagreement"],
            "train/loss": mean(run.result["train/loss"]),
            **{name: run.result[name] for name in ("device", "jax")},
        }
        directory.finish(result)
    return replace(run, result=result, out=directory.path)


if __name__ == "__main__":
    command(Config, main, sweeps=True)
