"""Successive halving tests sixty-four settings for MNIST: the worse half stops, again and again.

    python -m experiments.halving_mnist

Learning rate, weight decay and dropout are drawn at random. All settings train as one population.
After 1/64, 1/32, ..., 1/2 of the steps, the half with the lower accuracy on 6,000 held-out training
images is stopped. This takes a sixteenth of the steps of the full sweep. Only the winner is
evaluated on the test images.
"""

from dataclasses import dataclass, replace

import jax
import optax

import jaxnn
from experiments import mnist
from experiments.command import command
from jaxnn.storage.opening import open_directory


@dataclass(frozen=True, kw_only=True)
class Config:
    """The search space, and the training of each setting."""

    settings: int = 64  # number of random settings
    learning_rates: tuple[float, float] = (1e-4, 3e-2)  # range of the peak step size of AdamW
    weight_decays: tuple[float, float] = (1e-4, 1.0)  # range of the weight decay of AdamW
    dropouts: tuple[float, float] = (0.0, 0.5)  # range of the dropout probability
    held_back: float = 0.1  # fraction of the training images used for validation
    batch_size: int = 128  # examples per training step
    epochs: float = 12  # passes over the training data
    seed: int = 0  # random seed for settings, initialization, data order and dropout


def main(config: Config, out: jaxnn.Directory) -> jaxnn.Run:
    """Runs successive halving, and evaluates the winner."""
    train, test = jaxnn.datasets.mnist()
    train, validation = jaxnn.split(train, config.held_back, seed=config.seed, stratify="labels")
    data = jaxnn.resident(train, batch_size=config.batch_size)
    steps = jaxnn.data.steps_of(f"{config.epochs} epochs", data)
    decay = optax.cosine_decay_schedule(1.0, steps)
    learner = jaxnn.learner(
        lambda hparams: mnist.network(mnist.Config(), hparams),
        jaxnn.classification(),
        lambda hparams: optax.adamw(
            lambda step: hparams["learning_rate"] * decay(step),
            weight_decay=hparams["weight_decay"],
        ),
    )
    count = config.settings
    draws = {
        "learning_rate": jaxnn.search.log_random_range(*config.learning_rates, count),
        "weight_decay": jaxnn.search.log_random_range(*config.weight_decays, count),
        "dropout": jaxnn.search.random_range(*config.dropouts, count),
    }
    settings = jaxnn.sweep(draws, seeds=[config.seed], draw_seed=config.seed)
    with open_directory(out) as directory:
        run = jaxnn.fit(
            learner,
            data,
            steps=steps,
            every=max(1, steps // count),
            key=settings.key,
            hparams=settings.hparams,
            evaluate={"validation": jaxnn.resident(validation, batch_size=1000)},
            select=jaxnn.search.successive_halving("validation/accuracy", steps),
            out=directory.part("settings"),
        )
        scores, status = run.result["validation/accuracy"], run.result["status"]
        winner = max(range(count), key=lambda i: (status[i] == "done", scores[i]))
        state = jax.tree.map(lambda x: x[winner], run.state)
        tested = jaxnn.evaluate(learner, state, jaxnn.resident(test, batch_size=1000))
        share = sum(run.result["steps"]) / (count * steps)
        result = {
            **{"experiment": "halving_mnist", "settings": count, "share of steps": share},
            **{"steps": sum(run.result["steps"]), "seconds": run.result["seconds"]},
            **{f"best/{name}": settings.columns[name][winner] for name in draws},
            "validation/accuracy": scores[winner],
            **{f"test/{name}": value for name, value in tested.items()},
            **{name: run.result[name] for name in ("device", "jax")},
        }
        directory.finish(result)
    return replace(run, result=result, out=directory.path)


if __name__ == "__main__":
    command(Config, main, sweeps=True)
