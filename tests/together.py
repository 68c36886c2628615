"""Runs of several processes on this machine, which tests kill and start again.

Each process is forked (`tests.forked`), and connects to the others over the loopback. The outcome
of a run is read from its directory: the arrays of the last checkpoint, the rows, and the result.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnn
from experiments.command import command
from jaxnn import scale
from jaxnn.scale._start import VARIABLES, free_port
from jaxnn.storage import checkpoints, lock
from jaxnn.storage.manifest import read_verified
from tests import compiling
from tests.forked import compiled, process, redirect
from tests.harness import Child, save_from_the_start, timeless

# All processes of a run must end within this many seconds of the first; JAX itself waits longer.
SOON = 60.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    split: bool = True  # whether each process has a share of the state (FSDP)
    steps: int = 40  # how long
    every: int = 4  # steps between reports
    members: int = 0  # of a population; 0 is a single run
    streamed: bool = False  # whether the data are read during training
    width: int = 32  # nodes of a layer
    report: bool = False  # whether the run is recorded, and has a page
    fails: int = -1  # the step whose learning rate is NaN
    odd: str = ""  # NAME:PROCESS, what is different in one process


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains a network with dropout, batch norm and Adam in all processes."""
    odd, _, number = config.odd.partition(":")
    odd = odd if number == os.environ.get(VARIABLES[2]) else ""
    config = replace(config, odd="")
    draws = np.random.default_rng(odd == "data").normal(size=(1000, 4)).astype(np.float32)
    arrays = {"inputs": draws, "labels": draws[:, :3].argmax(-1)}
    network = jaxnn.serial(
        jaxnn.linear(config.width), jaxnn.activation(jax.nn.relu), jaxnn.batch_norm(),
        jaxnn.dropout(0.2), jaxnn.linear(16 if odd == "network" else config.width),
        jaxnn.linear(3),
    )  # fmt: skip
    if odd == "defect":
        raise RuntimeError("a defect")
    if odd == "directory":
        out = replace(out, path=Path(out.path).parent / "elsewhere" / Path(out.path).name)
    return jaxnn.fit(
        jaxnn.learner(network, jaxnn.classification(), partial(_adam, config.fails)),
        _data(config, arrays, 64),
        steps=config.steps,
        every=config.every,
        key=jaxnn.keys(range(config.members)) if config.members else jax.random.key(odd == "key"),
        hparams={"learning_rate": 0.01},
        evaluate=_data(config, arrays, 512),
        watch="test/loss",
        rules={"*": scale.largest("data", at_least=32)} if config.split else None,
        out=replace(out, report=config.report, config=config),
        quiet=True,
        saving=jaxnn.Saving(seconds=0.0),
        **options,
    )


def _adam(fails: int, hparams: Mapping[str, Any]) -> Any:
    def rate(step):
        return hparams["learning_rate"] + jnp.log(jnp.where(step == fails, -1.0, 1.0))

    return optax.adam(rate if fails >= 0 else hparams["learning_rate"])


def _data(config: Config, arrays: dict[str, Any], batch_size: int) -> Any:
    if not config.streamed:
        return jaxnn.resident(arrays, batch_size=batch_size)
    rows = [{name: array[i] for name, array in arrays.items()} for i in range(1000)]
    return jaxnn.stream(rows, batch_size=batch_size, block=3, workers=2)


@dataclass
class Group:
    """The processes of a run."""

    children: list[Child]

    def codes(self, seconds: float = 200) -> list[int]:
        """Waits until all processes end; returns their exit codes, negative for a signal."""
        until = time.monotonic() + seconds
        return [child.wait(max(0.1, until - time.monotonic())) for child in self.children]

    def first_end(self, seconds: float = 200) -> None:
        """Waits until one of the processes ends."""
        until = time.monotonic() + seconds
        while all(child.process.is_alive() for child in self.children):
            assert time.monotonic() < until, self.said
            time.sleep(0.02)

    def kill(self) -> None:
        """Kills all processes that are still running."""
        for child in self.children:
            child.kill()

    @property
    def said(self) -> list[str]:
        """The output of each process so far, without the lines of Gloo."""
        return [
            "".join(line for line in child.said.splitlines(True) if not line.startswith("[Gloo]"))
            for child in self.children
        ]


def start(
    count: int,
    out: Path,
    *options: str,
    devices: int = 1,
    pace: float = 0.0,
    name: str = "group",
    before: Callable[[Path], None] | None = None,
) -> Group:
    """Starts a run in `count` processes with `devices` devices each.

    Args:
      count: the number of processes.
      out: the run directory.
      *options: the command-line options.
      devices: the number of devices of each process.
      pace: the seconds to delay each report.
      name: the name of this group, unique among groups of the same run directory.
      before: a function that each process calls before it trains, with a folder of its own.
    """
    arguments = ["--out", str(out), "--no-compile-cache", *options]
    return _forked(count, out, name, _child, compiled().name, arguments, devices, pace, before)


def results_of(count: int, function: Callable[..., Any], place: Path, *arguments: Any) -> list[Any]:
    """Calls a function in `count` connected processes, and returns their results by way of JSON.

    Args:
      count: the number of processes, each with one device.
      function: a module-level function; the processes import its module by name.
      place: a folder for the output and the results.
      *arguments: the arguments of the function.
    """
    named = function.__module__, function.__name__
    group = _forked(count, place / "call", "process", _called, *named, arguments)
    assert group.codes() == [0] * count, group.said
    return [json.loads((child.place / "result.json").read_text()) for child in group.children]


def _forked(count: int, out: Path, name: str, function: Callable, *arguments: Any) -> Group:
    address = f"127.0.0.1:{free_port()}"
    children = []
    for number in range(count):
        place = out.parent / f"{out.name}-{name}-{number}"
        place.mkdir(parents=True, exist_ok=True)
        where = dict(zip(VARIABLES, (address, str(count), str(number))))
        children.append(Child(process(function, place, where, *arguments), place))
    return Group(children)


def _connect(place: Path, where: dict[str, str], devices: int) -> None:
    redirect(place / "said")
    os.environ.update(where)
    jax.config.update("jax_num_cpu_devices", devices)
    scale.start()
    compiling.fast()


def _called(place: Path, where: dict[str, str], module: str, name: str, arguments: Any) -> None:
    _connect(place, where, devices=1)
    result = getattr(import_module(module), name)(*arguments)
    (place / "result.json").write_text(json.dumps(result))
    jax.distributed.shutdown()


def _child(
    place: Path,
    where: dict[str, str],
    cache: str,
    arguments: list[str],
    devices: int,
    pace: float,
    before: Callable[[Path], None] | None,
) -> None:
    _connect(place, where, devices)
    jaxnn.compile_cache(cache)
    if before is not None:
        before(place)
    if pace:
        save_from_the_start()
        from jaxnn.runs.history import History

        def slow(self, progress, add=History.add):
            time.sleep(pace)
            return add(self, progress)

        History.add = slow  # pyright: ignore
    sys.argv = ["together", *arguments]
    command(Config, main)
    jax.distributed.shutdown()  # normally done at interpreter exit


@dataclass(frozen=True)
class Ending:
    """The outcome of a run, without times.

    Attributes:
      arrays: the arrays of the last checkpoint, by name.
      rows: the rows of `metrics.jsonl`.
      result: the content of `result.json`.
    """

    arrays: dict[str, np.ndarray]
    rows: list[str]
    result: dict[str, Any]

    @property
    def bits(self) -> dict[str, str]:
        """Returns a digest of each array."""
        return {name: sha256(x.tobytes()).hexdigest()[:16] for name, x in self.arrays.items()}


def ended(out: Path) -> Ending:
    """Returns the outcome of a run; asserts that no draft, quarantine or lock remains."""
    newest, *_ = checkpoints.folders(out / "checkpoints")
    arrays = checkpoints.read_checkpoint(newest, read_verified(newest))
    assert all(path.name.isdecimal() for path in (out / "checkpoints").iterdir())
    assert not (out / "quarantine").exists()
    assert not lock.owner(out)
    result = json.loads((out / "result.json").read_text())
    del result["seconds"]
    rows = timeless((out / "metrics.jsonl").read_bytes())
    return Ending(arrays, rows, result)
