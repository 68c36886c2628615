"""A network learns from a table of your own: numbers, categories, dates, gaps, and what to predict.

    python -m experiments.table --data FILE --labels COLUMN

FILE is csv (any delimiter), parquet or Arrow. Numbers are standardized, categories become rows of
parameters, missing values are filled and marked, all by the training part. A part is held out to
stop early, another to report. By default: 178 wines of three grapes, by 13 chemical measurements
(UCI, collected by M. Forina). Predictions of the reported part are in `predictions.csv`.
"""

from dataclasses import dataclass
from pathlib import Path

import optax

import jaxnn
from experiments.command import command
from experiments.fields import Hparam, hparams
from jaxnn.checks import choice


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is predicted from what, and the hyper-parameters."""

    data: Path = Path(__file__).parent / "tables" / "wine.csv"  # a csv, parquet or Arrow file
    labels: tuple[str, ...] = ("class",)  # the column to predict, or several
    ignore: tuple[str, ...] = ()  # columns to leave out
    dates: tuple[str, ...] = ("time", "time_of_year", "weekday", "time_of_day")  # of dates
    group: str | None = None  # rows with the same value of this column stay together
    time: str | None = None  # hold out the latest rows by this column
    balanced: bool = False  # whether rare classes weigh more in training
    hidden: tuple[int, ...] = (64, 64)  # nodes of each hidden layer
    dropout: Hparam = 0.1  # probability of dropping a hidden node's output
    learning_rate: Hparam = 2e-3  # peak step size of AdamW
    weight_decay: Hparam = 1e-2  # pull of weights toward zero, for a unit of learning rate
    batch_size: int = 64  # rows in a training step
    epochs: float = 100  # passes over the training rows, at most
    patience: int = 15  # percents of these without a better validation loss before it stops
    seed: int = 0  # decides the split, initialisation, order of the rows and dropout


def parts(config: Config, table):
    """Returns training, validation and test rows, shares of 64, 16 and 20 percent."""
    stratify = None
    if not (config.group or config.time) and len(config.labels) == 1:
        task = jaxnn.fit_columns(table, labels=config.labels).task
        stratify = config.labels[0] if task == "classification" else None
    seed = config.seed if isinstance(config.seed, int) else 0  # many seeds share one split
    how = {"seed": seed, "stratify": stratify, "group": config.group, "time": config.time}
    rest, test = jaxnn.split_table(table, 0.2, **how)
    train, validation = jaxnn.split_table(rest, 0.2, **how)
    return train, validation, test


def trained(config: Config, train, held_out, **options) -> tuple[jaxnn.Columns, jaxnn.Run]:
    """Returns the columns of the training rows, and a run that stopped at the best validation."""
    columns = jaxnn.fit_columns(
        train, labels=config.labels, ignore=config.ignore, dates=config.dates
    )
    examples = columns.encode(train, balanced=config.balanced)
    data = jaxnn.resident(examples, batch_size=min(config.batch_size, train.height))
    steps = jaxnn.data.steps_of(f"{config.epochs} epochs", data)
    decay = optax.cosine_decay_schedule(1.0, steps)
    learner = jaxnn.learner(
        lambda h: columns.network(config.hidden, dropout=h["dropout"]),
        columns.objective(),
        lambda h: optax.adamw(
            lambda step: h["learning_rate"] * decay(step), weight_decay=h["weight_decay"]
        ),
    )
    run = jaxnn.fit(
        learner,
        data,
        steps=steps,
        key=jaxnn.keys(config.seed),
        hparams=hparams(config),
        every="1%",
        evaluate={
            name: jaxnn.resident(columns.encode(rows), batch_size=1024)
            for name, rows in held_out.items()
        },
        watch=jaxnn.Watch("validation/loss", patience=config.patience),
        **options,
    )
    return columns, run


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains until validation rows are predicted no better, and predicts the test rows."""
    table = jaxnn.read_table(config.data)
    for name in config.labels:
        choice("table", "labels", name, table.columns)
    table = table.drop_nulls(config.labels)  # a row without an answer teaches nothing
    train, validation, test = parts(config, table)
    held_out = {"validation": validation, "test": test}
    columns, run = trained(config, train, held_out, out=out, **options)
    print(columns)
    if not run.members:
        predictions = columns.decode(run.predict(columns.encode(test)["inputs"]))
        predictions.write_csv(f"{run.out}/predictions.csv")
        print(test.select(config.labels).rename("true {}".format).hstack(predictions).head(4))
    return run


if __name__ == "__main__":
    command(Config, main)
