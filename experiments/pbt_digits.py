"""Population-based training: weak networks copy strong ones and vary the copied hyper-parameters.

    python -m experiments.pbt_digits

16 networks for the digits train with Adam, each with its own learning rate and dropout rate. Every
second epoch, the worst quarter by validation loss copies the weights and the hyper-parameters of
one of the best, and multiplies the hyper-parameters by a factor. As a baseline, the same 16
settings train without this selection. Both winners are evaluated on the held-out digits.
"""

from dataclasses import dataclass, replace

import jax
import numpy as np
import optax

import jaxnn
from experiments import digits
from experiments.command import command
from jaxnn.storage.opening import open_directory


@dataclass(frozen=True, kw_only=True)
class Config:
    """The search space, and the training of each network."""

    members: int = 16  # networks in the population
    learning_rates: tuple[float, float] = (1e-4, 1e-1)  # range of the step size of Adam
    dropouts: tuple[float, float] = (0.0, 0.5)  # range of the dropout probability
    batch_size: int = 64  # examples per training step
    epochs: float = 40  # passes over the training data
    every: float = 2  # epochs between selections
    seed: int = 0  # random seed for settings, initialization, data order and dropout


def main(config: Config, out: jaxnn.Directory) -> jaxnn.Run:
    """Trains the population with and without selection, and evaluates both winners."""
    train, test = jaxnn.split(jaxnn.datasets.digits(), 0.2, stratify="labels")
    train, validation = jaxnn.split(train, 0.2, stratify="labels")
    data = jaxnn.resident(train, batch_size=config.batch_size)
    learner = jaxnn.learner(
        lambda hparams: digits.network(digits.Config(), hparams),
        jaxnn.classification(),
        lambda hparams: optax.adam(hparams["learning_rate"]),
    )
    explore = {"learning_rate": config.learning_rates, "dropout": config.dropouts}
    draws = {
        "learning_rate": jaxnn.search.log_random_range(*config.learning_rates, config.members),
        "dropout": jaxnn.search.random_range(*config.dropouts, config.members),
    }
    settings = jaxnn.sweep(draws, draw_seed=config.seed)
    seeds = range(config.seed, config.seed + config.members)
    select = jaxnn.search.population_based_training("validation/loss", explore)

    def trained(select, part):
        run = jaxnn.fit(
            learner,
            data,
            steps=f"{config.epochs} epochs",
            every=f"{config.every} epochs",
            key=jaxnn.keys(seeds),
            hparams=settings.hparams,
            evaluate={"validation": jaxnn.resident(validation, batch_size=512)},
            select=select,
            out=part,
        )
        winner = int(np.nanargmin(run.result["validation/loss"]))
        state = jax.tree.map(lambda x: x[winner], run.state)
        return run, winner, jaxnn.evaluate(learner, state, jaxnn.resident(test, batch_size=512))

    with open_directory(out) as directory:
        _, _, fixed = trained(None, directory.part("fixed"))
        run, winner, evolved = trained(select, directory.part("evolved"))
        for epoch, rate, dropout in schedule(run, winner):
            print(f"epoch {epoch:4.0f}: learning rate {rate:.2g}, dropout {dropout:.2g}")
        result = {
            **{name: run.result[name] for name in ("experiment", "members")},
            **{"steps": sum(run.result["steps"]), "seconds": run.result["seconds"]},
            "validation/loss": run.result["validation/loss"][winner],
            **{f"test/{name}": value for name, value in evolved.items()},
            **{f"fixed/{name}": value for name, value in fixed.items()},
            **{name: run.result[name] for name in ("device", "jax")},
        }
        directory.finish(result)
    return replace(run, result=result, out=directory.path)


def schedule(run: jaxnn.Run, winner: int) -> list[tuple[float, float, float]]:
    """Returns epoch, learning rate and dropout of the winner and its ancestors."""
    settings, member = [], winner
    for row in reversed([row for row in run.history if "select/parent" in row]):
        hparams = [row[f"select/{name}"][member] for name in ("learning_rate", "dropout")]
        settings.append((row["epoch"], *hparams))
        member = row["select/parent"][member]
    return settings[::-1]


if __name__ == "__main__":
    command(Config, main, sweeps=True)
