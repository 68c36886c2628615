"""Runs in processes that tests kill, stop and starve, and assertions about their outcome.

A process is forked (`tests.forked`), and then runs a command. Its outcome must be equal to that of
the same command without interruption: the same bits, rows and result.
"""

import json
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import jaxnn
from experiments.command import command
from jaxnn.storage import checkpoints, program_file
from jaxnn.storage.background import Background
from jaxnn.storage.checkpointing import Checkpointer
from jaxnn.storage.command import FILE as COMMAND
from jaxnn.storage.directory import MEANING, RunDirectory
from jaxnn.storage.recording import FOLDER
from tests import compiling, failpoints
from tests.forked import process, redirect
from tests.promises import counted, figure  # noqa: F401  (tests import both from here)

KILLED = -signal.SIGKILL
SECONDS = 0.0  # between two saves
KINDS = ("single", "population", "patience", "stopping")
RECORDED = "recorded"  # as single, and recorded
STREAMED = "streamed"  # as single, on streams


# --- A small run with all features -----------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    kind: str = "single"  # one of KINDS, RECORDED or STREAMED
    steps: int = 20  # how long
    every: int = 4  # steps between reports


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains one or three networks with dropout, batch norm and Adam."""
    draws = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    arrays = {"inputs": draws, "labels": draws[:, :3].argmax(-1)}
    rates = np.array([0.3, 0.01, 3.0])
    many = config.kind in ("population", "stopping")
    # No loss improves by this margin: a single run ends at its third report.
    ends = {"patience": jaxnn.Watch("test/loss", patience=2, margin=1e6)}
    ends |= {"stopping": jaxnn.Watch("test/loss", patience=1)}
    run = jaxnn.fit(
        _learner(),
        _data(config.kind, arrays, 64),
        steps=config.steps,
        every=config.every,
        key=jaxnn.keys(range(3)) if many else jax.random.key(0),
        hparams={"learning_rate": rates if many else 0.01},
        evaluate=_data(config.kind, arrays, 512),
        watch=ends.get(config.kind, "test/loss"),
        out=replace(out, report=config.kind == RECORDED),
        quiet=True,
        saving=jaxnn.Saving(seconds=SECONDS),
        **options,
    )
    DIGESTS.update(bits(run.state._asdict() | {"best": run.best}))
    return run


def _data(kind: str, arrays: dict[str, Any], batch_size: int) -> Any:
    if kind != STREAMED:
        return jaxnn.resident(arrays, batch_size=batch_size)
    rows = [{name: array[i] for name, array in arrays.items()} for i in range(1000)]
    return jaxnn.stream(rows, batch_size=batch_size, block=2, workers=2)


@cache  # one learner compiles once in a process
def _learner() -> jaxnn.Learner:
    network = jaxnn.serial(
        jaxnn.linear(8), jaxnn.batch_norm(), jaxnn.activation(jax.nn.relu), jaxnn.dropout(0.2),
        jaxnn.linear(3),
    )  # fmt: skip
    return jaxnn.learner(
        network, jaxnn.classification(), lambda hparams: optax.adam(hparams["learning_rate"])
    )


DIGESTS: dict[str, str] = {}


def bits(parts: dict[str, Any]) -> dict[str, str]:
    """Returns a digest of each part of a state."""

    def plain(leaf):
        is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()

    def digest(tree):
        return sha256(b"".join(plain(leaf) for leaf in jax.tree.leaves(tree))).hexdigest()[:16]

    return {name: digest(tree) for name, tree in parts.items()}


# --- Processes ---------------------------------------------------------------------------------


@dataclass
class Child:
    """A process that runs a command.

    Attributes:
      process: the process.
      place: a folder next to the run directory, for the output and the final digests.
    """

    process: Any
    place: Path

    def wait(self, seconds: float = 300) -> int:
        """Waits until the process ends; returns its exit code, negative for a signal."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still runs: {self.said}"
        return self.process.exitcode

    def kill(self) -> None:
        """Kills the process if it is still running."""
        self.process.kill()
        self.process.join()

    @property
    def said(self) -> str:
        """The output of the process so far, stdout and stderr."""
        return (self.place / "said").read_text()


def start(
    out: Path,
    *options: str,
    fault: tuple[Any, int, str] | None = None,
    pace: float | None = None,
    cache: Path | None = None,
    before: Callable[[], None] | None = None,
    place: Path | None = None,
) -> Child:
    """Starts the small run in a new process.

    Args:
      out: the run directory.
      *options: the command-line options.
      fault: the arguments of `failpoints.arm`, or `None`.
      pace: the seconds to delay each report, so that saves happen at any time. By default, each
        chunk is saved after the previous save has completed, so that runs are deterministic.
      cache: the folder of the compile cache, or `None`.
      before: a function that the process calls before it trains.
      place: a folder for the output and the digests; by default one next to the run directory.
    """
    place = place or out.parent / "beside"
    place.mkdir(parents=True, exist_ok=True)
    (place / "digests").unlink(missing_ok=True)
    arguments = ["--out", str(out), "--no-compile-cache", *options]
    return Child(process(_child, place, arguments, fault, pace, cache, before), place)


def _child(place, arguments, fault, pace, cache, before) -> None:
    redirect(place / "said")
    jax.config.update("jax_num_cpu_devices", 2)
    compiling.fast()
    # The report is written from the saved files at the end, and has its own tests.
    sys.modules["jaxnn.runs.output"].write_report = lambda path: None  # pyright: ignore
    if cache is not None:
        jaxnn.compile_cache(cache)
    keep_pace(pace)
    if before is not None:
        before()
    if fault is not None:
        failpoints.arm(*fault)
    sys.argv = ["small", *arguments]
    command(Config, main)
    (place / "digests").write_text(json.dumps(DIGESTS))


def keep_pace(pace: float | None, patch: Callable[..., object] = setattr) -> None:
    """Delays each report, or saves each chunk, the first one in any case; see `pace` of `start`."""

    def busy(self):
        if self._job is not None:
            wait([self._job])
        return False

    def append(self, row, append=RunDirectory.append):
        append(self, row)
        time.sleep(pace)

    save_from_the_start(patch)
    if pace is None:
        patch(Background, "busy", property(busy))
    else:
        patch(RunDirectory, "append", append)


def save_from_the_start(patch: Callable[..., object] = setattr) -> None:
    """Lets training wait until saves are prepared, however slow the machine."""

    def prepare(self, prepare=Checkpointer.prepare):
        prepare(self)
        self.background.wait()

    patch(Checkpointer, "prepare", prepare)


# --- Assertions --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ending:
    """The outcome of a run, without times.

    Attributes:
      digests: the digest of each part of the final state.
      rows: the rows of `metrics.jsonl`.
      result: the content of `result.json`.
      recording: the digest of each file of the recording.
    """

    digests: dict[str, str]
    rows: list[str]
    result: dict[str, Any]
    recording: dict[str, str]


def ending(child: Child, out: Path) -> Ending:
    """Waits for a run, asserts that it succeeds, and returns its outcome."""
    code = child.wait()
    assert code == 0, f"exit code {code}: {child.said}"
    return ended(out, json.loads((child.place / "digests").read_text()))


def ended(out: Path, digests: dict[str, str]) -> Ending:
    """Returns the outcome of a run; asserts that its directory contains only expected files."""
    names = {path.name for path in out.iterdir()} - {FOLDER, COMMAND, MEANING, program_file.FILE}
    files = {"config.json", "metrics.jsonl", "result.json", "speed.json"}
    assert names == {".lock", "checkpoints", *files}
    assert all(path.name.isdecimal() for path in (out / "checkpoints").iterdir())
    result = json.loads((out / "result.json").read_text())
    del result["seconds"]
    seen = out / FOLDER
    recorded = sorted(seen.iterdir()) if seen.exists() else []
    recording = {path.name: sha256(path.read_bytes()).hexdigest()[:16] for path in recorded}
    rows = timeless((out / "metrics.jsonl").read_bytes())
    return Ending(digests, rows, result, recording)


def again(out: Path) -> list[str]:
    """Returns the options that resume a run; a finished run only resumes with `--resume`."""
    return ["--resume"] if (out / "result.json").exists() else []


class Reference:
    """The `Ending` of an uninterrupted run of each kind: `reference("single")`.

    Attributes:
      cache: the folder of the compile cache, which contains the programs of each kind that has run.
    """

    def __init__(self, place: Path):
        self.place, self.cache = place, place / "compiled"
        self.known: dict[str, Ending] = {}
        self.took: dict[str, float] = {}

    def __call__(self, kind: str) -> Ending:
        if kind not in self.known:
            self.known[kind] = self._run(kind, "first")
        return self.known[kind]

    def seconds(self, kind: str) -> float:
        """Returns the seconds of a run of this kind with a warm compile cache."""
        if kind not in self.took:
            whole, began = self(kind), time.monotonic()  # the first compiles
            assert self._run(kind, "second") == whole
            self.took[kind] = time.monotonic() - began
        return self.took[kind]

    def _run(self, kind: str, name: str) -> Ending:
        out = self.place / f"{kind}-{name}" / "run"
        return ending(start(out, "--kind", kind, cache=self.cache), out)


def timeless(rows: bytes) -> list[str]:
    """Returns rows with `seconds` set to 0, the only field that may differ between runs."""
    assert not rows or rows.endswith(b"\n")
    return [json.dumps(json.loads(row) | {"seconds": 0}) for row in rows.splitlines()]


def sound(out: Path, whole: Ending) -> int:
    """Asserts that an interrupted run can resume; returns the newest saved step, or -1.

    Every listed checkpoint is verified, and the rows at its time must be those of `whole`, the
    uninterrupted run.
    """

    def on_corrupt(path, error):
        raise AssertionError(f"{path}: {error}")

    good = list(checkpoints.verified(out / "checkpoints", on_corrupt))
    for _, content in good:
        rows = (out / "metrics.jsonl").read_bytes() if content["rows"] else b""
        assert len(rows) >= content["rows"]
        early = timeless(rows[: content["rows"]])
        assert early == whole.rows[: len(early)]
    assert not (out / "quarantine").exists()
    return max((content["step"] for _, content in good), default=-1)


def of_kills(where: str) -> dict[str, str]:
    """Returns the promises that kills verify, for `counted`."""
    return {
        "P1": f"kills {where}, each resumed and ended with the same bits",
        "P2": f"kills {where}, after which every listed checkpoint was complete",
        "P6": f"kills {where}, after which no row was lost or duplicated",
    }
