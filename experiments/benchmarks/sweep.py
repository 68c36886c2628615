"""256 training runs at once, by jaxnn and by other libraries.

    python -m experiments.benchmarks.sweep            # about six minutes on two cores

A network 64-64-10 learns the digits with Adam at 32 learning rates, from 8 seeds each: 20 epochs in
batches of 64. Seconds are those from data in memory to the test accuracy of all of them. Each
library trains in a process of its own, in turn. `cold` compiles, with an empty compile cache; what
the others compile, and the start of their processes, is left out. A second table shows what more
runs cost. The others are extras (`pip install -e ".[bench]"`); those that are missing are left out.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnn
from experiments.benchmarks import peers
from jaxnn.scale import devices

RATES = np.geomspace(1e-4, 1e-1, 32)
Package = Literal["jaxnn", "flax", "sklearn", "torch", "keras"]

# By the name of the package: what the table says, and what trains.
PEERS = {
    "flax": ("Flax, jitted step", peers.flax),
    "sklearn": ("scikit-learn, joblib", peers.scikit_learn),
    "torch": ("PyTorch, eager", peers.torch),
    "keras": ("Keras, model.fit", peers.keras),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to measure."""

    repeats: int = 3  # times that each is measured
    seeds: int = 8  # runs of each of the 32 learning rates
    only: Package | None = None  # measure this one, once, in this process, and print JSON


class Row(NamedTuple):
    """What was measured once.

    Attributes:
      name: what trained.
      seconds: how long all the runs took.
      accuracies: on test data, of each run.
      note: versions, and what else there is to know.
    """

    name: str
    seconds: float
    accuracies: list[float]
    note: str


def work_of(seeds: int) -> peers.Work:
    """Returns the digits, with pixels of mean 0 and deviation 1, and what to train on them."""
    parts = jaxnn.split(jaxnn.datasets.digits(), 0.2, stratify="labels")
    arrays = []
    for part in parts:
        arrays.append(((part["inputs"].reshape(-1, 64) - 4.88) / 6.02).astype(np.float32))
        arrays.append(part["labels"].astype(np.int64))
    return peers.Work([(rate, seed) for rate in RATES for seed in range(seeds)], *arrays)


def jaxnn_runs(work: peers.Work) -> list[Row]:
    """Trains all runs as one population, twice: the second time with other seeds."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    learner = jaxnn.learner(
        jaxnn.mlp([peers.HIDDEN], peers.CLASSES),
        jaxnn.classification(),
        lambda hparams: optax.adam(hparams["learning_rate"]),
    )
    train = {"inputs": work.inputs, "labels": work.labels}
    test = {"inputs": work.test_inputs, "labels": work.test_labels}
    rates, seeds = (np.array(numbers) for numbers in zip(*work.runs))
    rows = []
    with TemporaryDirectory() as cache:
        jaxnn.compile_cache(cache)
        for name, first in (("jaxnn, cold", 0), ("jaxnn, warm", 1000)):
            began = time.perf_counter()
            run = jaxnn.fit(
                learner,
                jaxnn.resident(train, batch_size=peers.BATCH_SIZE),
                steps=f"{peers.EPOCHS} epochs",
                key=jax.vmap(jax.random.key)(first + seeds),
                hparams={"learning_rate": jnp.asarray(rates, jnp.float32)},
                every=f"{peers.EPOCHS} epochs",
                evaluate=jaxnn.resident(test, batch_size=len(work.test_labels)),
                quiet=True,
            )
            jax.block_until_ready(run.state)
            seconds = time.perf_counter() - began
            rows.append(Row(name, seconds, run.result["test/accuracy"], devices.describe()))
    return rows


def peer_runs(package: str, work: peers.Work) -> list[Row]:
    """Trains all runs by another library, after some that nobody times."""
    name, peer = PEERS[package]
    train, note = peer(work)
    train(work.runs[: 2 * (os.cpu_count() or 1)])
    began = time.perf_counter()
    accuracies = train(work.runs)
    return [Row(name, time.perf_counter() - began, accuracies, note)]


def apart(name: str, seeds: int) -> list[Row]:
    """Measures in a process of its own."""
    command = [sys.executable, "-m", "experiments.benchmarks.sweep"]
    command += ["--only", name, "--seeds", str(seeds)]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [Row(*row) for row in json.loads(lines.splitlines()[-1])]
    for row in rows:
        print(f"{row.name}, {len(row.accuracies)} runs: {row.seconds:.2f} s", file=sys.stderr)
    return rows


def spread(rows: list[Row]) -> str:
    """Returns median and range of the seconds."""
    seconds = [row.seconds for row in rows]
    return f"{median(rows):8.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def median(rows: list[Row]) -> float:
    """Returns the median of the seconds."""
    return statistics.median(row.seconds for row in rows)


def compare(measured: dict[str, list[Row]]) -> None:
    """Prints a line for each library, beside jaxnn cold and warm."""
    runs = len(measured["jaxnn, cold"][0].accuracies)
    print(f"\n{f'{runs} runs':22}{'seconds (range)':26}{'x cold':>7}{'x warm':>7}", end="")
    print("   accuracy: best, mean")
    for name, rows in measured.items():
        against = [median(rows) / median(measured[f"jaxnn, {kind}"]) for kind in ("cold", "warm")]
        ratios = "".join(f"{ratio:7.2f}" for ratio in against)
        accuracies = rows[-1].accuracies
        reached = f"{max(accuracies):.3f}, {statistics.mean(accuracies):.3f}"
        print(f"{name:22}{spread(rows):26}{ratios}   {reached}   {rows[-1].note}")


def main(config: Config) -> None:
    """Prints both tables."""
    if config.only:
        work = work_of(config.seeds)
        rows = jaxnn_runs(work) if config.only == "jaxnn" else peer_runs(config.only, work)
        print(json.dumps(rows))
        return
    here = [package for package in PEERS if find_spec(package)]
    for package in [package for package in PEERS if package not in here]:
        print(f'{package} is left out: it is not installed (pip install -e ".[bench]")')
    fewer = [seeds for seeds in (1, 2, 4) if seeds < config.seeds]
    measured: dict[tuple[int, str], list[Row]] = {}
    for _ in range(config.repeats):
        asked = [("jaxnn", seeds) for seeds in (*fewer, config.seeds)]
        for name, seeds in asked + [(package, config.seeds) for package in here]:
            for row in apart(name, seeds):
                measured.setdefault((seeds, row.name), []).append(row)
    compare({name: rows for (seeds, name), rows in measured.items() if seeds == config.seeds})
    heads = ("jaxnn, runs", "cold, s", "warm, s", "difference, s", "warm, ms a run")
    print("\n" + "".join(f"{head:>15}" for head in heads))
    for seeds in (*fewer, config.seeds):
        cold, warm = (median(measured[seeds, f"jaxnn, {kind}"]) for kind in ("cold", "warm"))
        runs = seeds * len(RATES)
        figures = (cold, warm, cold - warm, 1e3 * warm / runs)
        print(f"{runs:15}" + "".join(f"{figure:15.2f}" for figure in figures))


if __name__ == "__main__":
    import tyro

    try:
        main(tyro.cli(Config, prog="python -m experiments.benchmarks.sweep", description=__doc__))
    except jaxnn.Invalid as error:
        sys.exit(f"{error}")
