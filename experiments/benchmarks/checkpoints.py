"""What checkpoints cost: how long the training waits, how much slower it is, how soon it resumes.

    python -m experiments.benchmarks.checkpoints         # about three minutes on two cores

An MLP on MNIST with Adam, whose state is about 10 MB, saves every second. It alternates with the
same run that only saves at its end. Then a new call resumes a run: it locates and verifies the
checkpoint, and compiles. Finally, a state of about 1 GB is saved, and the peak memory measured.
"""

import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
import optax

import jaxnn
from jaxnn.scale import devices
from jaxnn.scale.memory import size, used_by
from jaxnn.storage.checkpointing import Checkpointer


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to measure."""

    seconds: float = 20.0  # about, of one run
    pairs: int = 5  # runs with saves and without; 0 for none
    large: bool = True  # whether to save 1 GB too


def learner(width: int):
    """Returns the learner of an MLP with one wide and one narrow hidden layer."""
    network = jaxnn.serial(jaxnn.standardize(33.3, 78.6), jaxnn.mlp([width, 256], 10))
    return jaxnn.learner(network, jaxnn.classification(), optax.adam(1e-3))


@contextmanager
def watched_saves(waits: list[float]):
    """Appends to `waits` the seconds that training waits for each save."""
    snapshot, save, began = Checkpointer.snapshot, Checkpointer.save, {}

    def timed_snapshot(self, progress, **options):
        start = time.perf_counter()
        taken = snapshot(self, progress, **options)
        began[id(self)] = time.perf_counter() - start
        return taken

    def timed_save(self, snapshot, seconds, rows):
        start, before = time.perf_counter(), began[id(self)]
        save(self, snapshot, seconds, rows)
        waits.append(before + time.perf_counter() - start)

    Checkpointer.snapshot, Checkpointer.save = timed_snapshot, timed_save
    try:
        yield
    finally:
        Checkpointer.snapshot, Checkpointer.save = snapshot, save


def run(train, data, steps, out, saving):
    """Trains from the start; returns the run, and the seconds from its first to its last report."""
    shutil.rmtree(out, ignore_errors=True)
    run = jaxnn.fit(
        train, data, steps=steps, every=max(1, steps // 20), key=jax.random.key(0),
        out=jaxnn.Directory(out, report=False), saving=saving, quiet=True,
    )  # fmt: skip
    return run, run.history[-1]["seconds"] - run.history[0]["seconds"]


def small(config: Config, data, place: Path) -> None:
    """Measures saving and resuming with a state of 10 MB."""
    train = learner(768)
    _, seconds = run(train, data, 400, place / "try", jaxnn.Saving())
    steps = int(400 * config.seconds / seconds)
    waits, ratios, done = [], [], None
    for _ in range(config.pairs):
        _, without = run(train, data, steps, place / "none", jaxnn.Saving(seconds=1e9))
        with watched_saves(waits):
            done, saving = run(train, data, steps, place / "each", jaxnn.Saving(seconds=1.0))
        ratios.append(saving / without)
    megabytes = size(done and done.state) / 1e6
    print(f"state of {megabytes:.1f} MB, {steps} steps, {len(waits)} saves, one a second")
    print(f"  training waits  {_figures([1e3 * wait for wait in waits])} ms a save")
    print(f"  slower by       {_figures([100 * (ratio - 1) for ratio in ratios])} %")
    took = []
    for _ in range(config.pairs):
        start = time.perf_counter()
        steps += 1
        out = jaxnn.Directory(place / "each", resume=True, allow_change=["steps"], report=False)
        jaxnn.fit(
            train, data, steps=steps, every=max(1, (steps - 1) // 20), key=jax.random.key(0),
            out=out, quiet=True,
        )  # fmt: skip
        took.append(time.perf_counter() - start)
    print(f"  resumes, does a step, saves: {_figures(took)} s")


def large() -> None:
    """Measures a state of 1 GB with and without a save, each in its own process."""
    spawn = multiprocessing.get_context("spawn")
    for saves in (False, True):
        process = spawn.Process(target=peak, args=(saves,))
        process.start()
        process.join()


def peak(saves: bool) -> None:
    """Trains a state of 1 GB for two steps, and prints the peak memory of the process."""
    images, _ = jaxnn.datasets.mnist()
    data = jaxnn.resident(images, batch_size=128)
    train = learner(80_000)
    training = jaxnn.train(train, data, steps=2, key=jax.random.key(0))
    total = size(jax.eval_shape(lambda: training.whole()))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        out = jaxnn.Directory(Path(place) / "run", report=False) if saves else None
        jaxnn.fit(train, data, steps=2, key=jax.random.key(0), quiet=True, out=out)
    seconds = time.perf_counter() - began
    most = used_by().peak or 0
    print(
        f"state of {total / 1e9:.2f} GB, two steps and {'a' if saves else 'no'} save:"
        f" {seconds:.1f} s, {most / total:.2f} times the memory of the state",
        flush=True,
    )


def _figures(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main(config: Config) -> None:
    """Runs the measurements, and prints the results."""
    print(devices.describe(), flush=True)
    images, _ = jaxnn.datasets.mnist()
    data = jaxnn.resident(images, batch_size=128)
    with tempfile.TemporaryDirectory() as place:
        if config.pairs:
            small(config, data, Path(place))
        if config.large:
            large()


if __name__ == "__main__":
    import tyro

    prog = "python -m experiments.benchmarks.checkpoints"
    try:
        main(tyro.cli(Config, prog=prog, description=__doc__))
    except jaxnn.Invalid as error:
        sys.exit(f"{error}")
