"""A network learns from your own table: numbers, categories, dates, missing values, and a label.

    python -m experiments.table --data FILE --labels COLUMN

FILE is csv (any delimiter), parquet or Arrow. The encoding of the columns is fitted to the training
rows: numbers are standardized, categories get embeddings, missing values are filled and marked. A
validation part decides when to stop, and a test part is reported. The default table has 178 wines
of three cultivars with 13 chemical measurements (UCI, collected by M. Forina). The predictions for
the test part are saved in `predictions.csv`.
"""

import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import optax

import jaxnn
from experiments.command import command
from experiments.fields import Hparam, hparams
from jaxnn.checks import InvalidValue, choice
from jaxnn.formatting import count
from jaxnn.reading._read_table import import_polars
from jaxnn.reading.options import MISSING
from jaxnn.tables import Category

LEAST = 3  # minimum rows of a class, so that each part can have one


@dataclass(frozen=True, kw_only=True)
class Config:
    """The table, its columns, and the hyper-parameters."""

    data: Path = Path(__file__).parent / "tables" / "wine.csv"  # a csv, parquet or Arrow file
    labels: tuple[str, ...] = ("class",)  # columns to predict, usually one
    ignore: tuple[str, ...] = ()  # columns to drop
    kinds: tuple[tuple[str, str], ...] = ()  # COLUMN number, category, one_hot or date
    dates: tuple[str, ...] = ("time", "time_of_year", "weekday", "time_of_day")  # from dates
    group: str | None = None  # keep rows with the same value of this column in the same part
    time: str | None = None  # date column: hold out the latest rows
    balanced: bool = False  # give rare classes more weight in training
    hidden: tuple[int, ...] = (64, 64)  # nodes of each hidden layer
    dropout: Hparam = 0.1  # probability of dropping a hidden node's output
    learning_rate: Hparam = 2e-3  # peak step size of AdamW
    weight_decay: Hparam = 1e-2  # weight decay of AdamW, multiplied by the step size
    batch_size: int = 64  # rows per training step
    epochs: float = 100  # maximum number of passes over the training rows
    patience: int = 15  # stop after this percentage of epochs without a better validation loss
    seed: int = 0  # random seed for the split, initialization, order of rows and dropout

    # How to read text files, now and later in `python -m jaxnn predict`.
    delimiter: str | None = None  # between the fields; None detects it
    header: bool = True  # whether the first line names the columns
    text: tuple[str, ...] = ()  # columns to read as text, such as postal codes
    date_formats: tuple[tuple[str, str], ...] = ()  # COLUMN FORMAT, such as day %d/%m/%Y
    missing: tuple[str, ...] = ()  # more markers of missing values, besides NA, ? and such
    encoding: str = "utf-8"  # such as latin-1
    decimal: str | None = None  # decimal mark; None detects it


def read(config: Config):
    """Returns the table of the file, without rows that lack a label."""
    options = {
        name: getattr(config, name)
        for name in ("delimiter", "header", "text", "encoding", "decimal")
    }
    missing, dates = (*MISSING, *config.missing), dict(config.date_formats)
    table = jaxnn.read_table(config.data, dates=dates, missing=missing, **options)
    for name in config.labels:
        choice("table", "labels", name, table.columns)
    answered = table.drop_nulls(config.labels)
    if answered.height < table.height:
        lacking = count(table.height - answered.height, "row")
        print(f"{lacking} of {table.height:,} without {' or '.join(config.labels)} left out")
    return answered


def parts(config: Config, table):
    """Returns training, validation and test rows: 64, 16 and 20 percent."""
    stratify = None
    if not (config.group or config.time) and len(config.labels) == 1:
        with warnings.catch_warnings(action="ignore"):  # repeated for the training rows
            columns = jaxnn.fit_columns(table, labels=config.labels)
        if columns.task == "classification":
            stratify = config.labels[0]
            check_counts(columns.labels[0])
    seed = config.seed if isinstance(config.seed, int) else 0  # all seeds share one split
    how = {"seed": seed, "stratify": stratify, "group": config.group, "time": config.time}
    rest, test = jaxnn.split_table(table, 0.2, **how)
    train, validation = jaxnn.split_table(rest, 0.2, **how)
    return train, validation, test


def check_counts(label: Category) -> None:
    """Raises `InvalidValue` if a class has too few rows for the three parts."""
    rare = [f"{name} ({n})" for name, n in zip(label.labels, label.counts) if n < LEAST]
    if rare:
        raise InvalidValue(
            "table",
            f"column {label.name!r} has classes of too few rows",
            got=", ".join(rare[:5]) + (", ..." if len(rare) > 5 else ""),
            expected=f"at least {LEAST} rows of each class, for training, validation and testing",
            fix="Merge rare classes, drop their rows, or predict another column",
        )


def trained(config: Config, train, held_out, **options) -> tuple[jaxnn.Columns, jaxnn.Run]:
    """Returns the fitted columns, and a run with early stopping on the validation loss."""
    columns = jaxnn.fit_columns(
        train,
        labels=config.labels,
        ignore=config.ignore,
        dates=config.dates,
        kinds=dict(config.kinds),
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
    """Trains until the validation loss stops improving, and predicts the test rows."""
    train, validation, test = parts(config, read(config))
    held_out = {"validation": validation, "test": test}
    columns, run = trained(config, train, held_out, out=out, **options)
    print(columns)
    if not run.members:
        predictions = columns.decode(run.predict(columns.encode(test)["inputs"]))
        if jaxnn.scale.is_first():  # only one process writes
            predictions.write_csv(f"{run.out}/predictions.csv")
        print(test.select(config.labels).rename("true {}".format).hstack(predictions).head(4))
    return run


if __name__ == "__main__":
    command(Config, main, check=partial(import_polars, "table"))
