"""A fit that is ready to start, and its outcome after training alone or in a population."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.data import resident
from jaxnn.driver import Watch, train
from jaxnn.driver.chunks import Training
from jaxnn.learning import TrainState
from jaxnn.search import keys
from jaxnn.sklearn.folds import Folds, per_fold
from jaxnn.sklearn.settings import Settings
from jaxnn.typing import Any, Hparams

# The batch size of evaluation and prediction. Predictions are padded to full batches, so that the
# outputs for an example have the same bits whatever the other examples are.
BATCH = 256


@dataclass(frozen=True)
class Problem:
    """A fit that is ready to start.

    Attributes:
      settings: the settings of the learner.
      arrays: the fields of all examples by name, on the host.
      rows: the row numbers of the training examples.
      validation: the row numbers of examples held out for early stopping, or `None`.
      batch_size: the number of examples in a batch.
      epoch: the number of steps in an epoch.
      epochs: the maximum number of epochs.
      watch: the rule that stops training.
      hparams: the hyper-parameters.
      seed: the source of all randomness.
      digest: identifies the examples and the split into training and validation.
    """

    settings: Settings
    arrays: dict[str, np.ndarray]
    rows: np.ndarray
    validation: np.ndarray | None
    batch_size: int
    epoch: int
    epochs: int
    watch: Watch
    hparams: Hparams
    seed: int
    digest: bytes

    @property
    def group(self) -> tuple[Any, ...]:
        """The properties that all members of one population share."""
        fields = tuple((name, x.shape[1:], x.dtype) for name, x in self.arrays.items())
        held = self.validation is not None
        steps = self.batch_size, self.epoch, self.epochs
        return (self.settings, fields, held, steps, self.watch, tuple(self.hparams))

    @property
    def identity(self) -> tuple[Any, ...]:
        """A value that is equal for problems with equal outcomes."""
        return self.group, self.digest, self.seed, tuple(self.hparams.values())


def digest_of(arrays: Iterable[np.ndarray]) -> bytes:
    """Returns a digest of the dtypes, shapes and values of arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


class Outcome(NamedTuple):
    """The outcome of a fit.

    Attributes:
      state: the state to predict with, on the host; its key is stored as key data.
      metrics: the value of each metric after each epoch, by name.
      status: the status of the run at its end.
      step: the step at which the run ended.
    """

    state: TrainState
    metrics: dict[str, np.ndarray]
    status: int
    step: int


def solve(problem: Problem, *, start: Any = None, verbose: bool = False) -> Outcome:
    """Trains a single problem.

    Args:
      problem: the problem to train.
      start: the initial `(params, state)`, or `None`.
      verbose: whether to print the metrics of each epoch.
    """
    parts = {"train": problem.rows, "validation": problem.validation}
    data = {
        name: resident(
            {field: array[rows] for field, array in problem.arrays.items()},
            batch_size=problem.batch_size if name == "train" else BATCH,
        )
        for name, rows in parts.items()
        if rows is not None
    }
    training = train(
        problem.settings.learner(),
        data.pop("train"),
        steps=problem.epoch * problem.epochs,
        every=problem.epoch,
        key=jax.random.key(problem.seed),
        hparams=problem.hparams,
        evaluate=data,
        watch=problem.watch,
        start=start,
    )
    state, *rest = _trained(training, held_out=bool(data), verbose=verbose)
    return Outcome(state, *rest)


def solve_together(problems: Sequence[Problem]) -> list[Outcome]:
    """Trains problems of one `group` as a population, with the same outcomes as `solve`."""
    first = problems[0]
    folds = {problem.digest: problem for problem in problems}
    numbers = {digest: number for number, digest in enumerate(folds)}
    inputs = jnp.asarray(np.concatenate([problem.arrays["inputs"] for problem in folds.values()]))
    own = [(problem, problem.rows) for problem in folds.values()]
    held = [(p, p.validation) for p in folds.values() if p.validation is not None]
    names = list(first.hparams)
    hparams = {name: np.array([p.hparams[name] for p in problems]) for name in names}
    training = train(
        per_fold(first.settings.learner()),
        _folds(inputs, own, first.batch_size),
        steps=first.epoch * first.epochs,
        every=first.epoch,
        key=keys([problem.seed for problem in problems]),
        hparams={**hparams, "fold": np.array([numbers[p.digest] for p in problems])},
        evaluate={"validation": _folds(inputs, held, BATCH)} if held else None,
        watch=first.watch,
    )
    state, metrics, status, step = _trained(training, held_out=bool(held))
    state = state._replace(hparams={name: state.hparams[name] for name in names})
    return [
        Outcome(
            jax.tree.map(lambda x, i=i: x[i], state),
            {name: values[:, i] for name, values in metrics.items()},
            status[i],
            step[i],
        )
        for i in range(len(problems))
    ]


def _folds(inputs: Any, parts: Iterable[tuple[Problem, Any]], batch_size: int) -> Folds:
    """Returns `Folds` from pairs of a problem and rows; `inputs` are those of all problems."""
    parts = list(parts)
    most = max(len(rows) for _, rows in parts)
    starts = np.cumsum([0, *(len(problem.arrays["inputs"]) for problem, _ in parts)])

    def filled(array):
        return np.concatenate([array, np.repeat(array[:1], most - len(array), 0)])

    fields = {
        name: jnp.asarray(np.stack([filled(p.arrays[name][rows]) for p, rows in parts]))
        for name in parts[0][0].arrays
        if name != "inputs"
    }
    places = np.stack([filled(start + rows) for start, (_, rows) in zip(starts, parts)])
    sizes, size = np.unique([len(rows) for _, rows in parts], return_inverse=True)
    arrays = jnp.asarray(places.astype(np.int32)), fields, jnp.asarray(size.astype(np.int32))
    return Folds(inputs, *arrays, jax.random.key(0), batch_size, tuple(sizes.tolist()))


def _trained(training: Training, *, held_out: bool, verbose: bool = False) -> tuple[Any, ...]:
    """Trains to the end, and returns the fields of an `Outcome` for the run or all members."""
    beginning = progress = training.start()
    rows: list[Any] = []
    for progress in training.chunks(beginning):
        if progress.metrics:
            rows.append(progress.metrics)
        if progress.metrics and verbose:
            words = (f"{name} {float(value):.4g}" for name, value in progress.metrics.items())
            print(f"epoch {len(rows)}: {', '.join(words)}")
    step = np.asarray(progress.state.step)
    state = progress.best if held_out else progress.state
    state = jax.device_get(state._replace(key=jax.random.key_data(state.key)))
    rows = jax.device_get(rows)
    metrics = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return state, metrics, np.asarray(progress.status), step
