"""Loads the parameters of a run, without the code that trained it.

loaded = load("runs/mnist/3fc2a81b90")
outputs = loaded.predict(images)
started = warm_start(network, loaded.params, inputs, state=loaded.state)
"""

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from jaxnn.catalog import entries, outcome
from jaxnn.catalog.contents import METRICS
from jaxnn.checks import Caution, InvalidType, choice
from jaxnn.loop.statuses import DIVERGED
from jaxnn.network import Network
from jaxnn.runs.executable import Executable, NoProgram
from jaxnn.runs.verifying import check_network
from jaxnn.storage import checkpoints, files, json_files, program_file
from jaxnn.storage.directory import CHECKPOINTS, COLUMNS, RESULT, NoCheckpoint
from jaxnn.storage.manifest import FILE, read_verified
from jaxnn.tables import Columns
from jaxnn.typing import Any, Params, State


@dataclass(frozen=True)
class Loaded:
    """The parameters of a run, on the host, with its prediction program.

    For a population, every array has a leading axis of members, and the best member predicts.

    Attributes:
      run: the run directory.
      step: the step of the loaded state.
      params: the parameters that the run evaluates and predicts with, as nested dicts by name. With
        `average`, they are the average.
      state: the network's non-trainable arrays, as nested dicts.
      config: the configuration of the run.
      raw_params: the trained parameters; they equal `params` unless a transform averages them.
      member: the number of the best member, by the watched metric, or else by accuracy or loss;
        `None` for a single run.
      columns: the columns of the table that the run was trained on, if any.
      arrays: the arrays of the state that predicts, by name.
    """

    run: Path
    step: Any
    params: Params = field(repr=False)
    state: State = field(repr=False)
    config: dict[str, Any]
    raw_params: Params = field(repr=False)
    member: int | None
    columns: Columns | None
    arrays: dict[str, Any] = field(repr=False)

    @cached_property
    def program(self) -> Executable:
        """The prediction program of the run, which is read on first use.

        Raises:
          NoProgram: if there is no program, or this version of JAX cannot read it.
          CorruptFile: if the file has changed since it was written.
        """
        program = program_file.read(self.run)
        if program is None:
            raise NoProgram(
                "load",
                "the run has no program to predict with",
                got=f"no {program_file.FILE} in {self.run}",
                expected="one, which fit writes if it is given data",
                fix="Apply the network: network.apply(loaded.params, loaded.state, inputs)",
            )
        return Executable(program, self.arrays, str(self.run))

    @property
    def predicting(self) -> tuple[Params, State]:
        """The parameters and the state that predict; for a population, those of the best member."""
        of = () if self.member is None else self.member
        return jax.tree.map(lambda x: x[of], (self.params, self.state))

    def predict(self, inputs: Any, *, batch_size: int = 1024) -> Any:
        """Returns the outputs for any number of inputs, as `Run.predict` does.

        If the run was trained on a table, the inputs are rows of a table, and the result is a table
        of predictions, with classes by name and numbers in the units of the labels.

        Args:
          inputs: arrays `[examples, ...]` like the training inputs; or a table: a file, a data
            frame or a dict of columns.
          batch_size: the maximum number of examples that are computed at once.

        Raises:
          NoProgram: if the run directory has no prediction program, or this version of JAX cannot
            read it.
          InvalidType: if the structure or shapes of the inputs differ from training.
          InvalidValue: if a number is out of the range of the training dtype.
        """
        return self.program.predict(inputs, batch_size, self.columns)


def load(
    path: str | Path, which: Literal["best", "latest"] = "best", *, network: Network | None = None
) -> Loaded:
    """Loads the parameters of a run from its newest valid checkpoint, or from a given checkpoint.

    The directory is not modified. No Python code from it is executed: the prediction program
    consists of array operations only.

    Args:
      path: a run directory, or the directory of one of its checkpoints.
      which: `"best"` loads the state of the best evaluation if the run watches a metric, else the
        latest state; `"latest"` loads the latest state.
      network: a network to compare with the trained one, by their outputs.

    Raises:
      NoCheckpoint: if there is no valid checkpoint.
      CorruptCheckpoint: if the given checkpoint is corrupt.
      InvalidType: if the run's state has no `params`, as `TrainState` has.
      InvalidValue: if `network` differs from the trained network.
      NoProgram: if `network` is given, and there is no prediction program to compare it with.
    """
    path = Path(path).expanduser()
    choice("load", "which", which, ("best", "latest"))
    content, arrays = _read(path)
    prefix = "best/state" if which == "best" and "best/step" in arrays else "state"
    if f"{prefix}/step" not in arrays or not any(n.startswith(f"{prefix}/params") for n in arrays):
        raise InvalidType(
            "load",
            "the state of the run has no params",
            got=f"arrays {', '.join(list(arrays)[:4])}, ...",
            expected="a state with params, such as TrainState",
            fix="Read them with jaxnn.storage.checkpoints.read_checkpoint",
        )
    eval_path = content.get("eval_path", "params")
    raw, params, state = (
        _nested(arrays, f"{prefix}/{name}/") for name in ("params", eval_path, "state")
    )
    if eval_path != "params":  # an average may have a wider dtype than the parameters
        params = jax.tree.map(lambda value, own: value.astype(own.dtype), params, raw)
    folder = path.parent.parent if (path / FILE).exists() else path
    member = _best_member(folder, content, arrays, prefix)
    own = {name.removeprefix(f"{prefix}/"): array for name, array in arrays.items()
           if name.startswith(f"{prefix}/")}  # fmt: skip
    if member is not None:
        own = {name: array[member] for name, array in own.items()}
    loaded = Loaded(
        run=folder,
        step=arrays[f"{prefix}/step"],
        params=params,
        state=state,
        config=content["config"],
        raw_params=raw,
        member=member,
        columns=_columns(folder),
        arrays=own,
    )
    if network is not None:
        check_network(loaded.program, network, *loaded.predicting)
    return loaded


def _columns(run: Path) -> Columns | None:
    """Returns the columns of the table that a run was trained on, if any."""
    if not (run / COLUMNS).exists():
        return None
    return Columns.from_json(files.read(run / COLUMNS).decode())


def _best_member(
    run: Path, content: dict[str, Any], arrays: dict[str, Any], prefix: str
) -> int | None:
    """Returns the number of the member with the best metric; `None` for a single run."""
    if not np.ndim(arrays[f"{prefix}/step"]):
        return None
    watch = content["identity"].get("watch")
    watch = watch if isinstance(watch, dict) else {}  # before 2026-12, it was a string
    if prefix == "best/state" and watch:
        name, values, known = watch["metric"], arrays["best/value"], arrays["best/step"] > 0
    else:
        reported = [n.removeprefix("metrics/") for n in arrays if n.startswith("metrics/")]
        name = next(n for n in (watch.get("metric"), *METRICS, *reported) if n in reported)
        # A diverged member may have no value.
        values, known = arrays[f"metrics/{name}"], arrays["status"] != DIVERGED
    lower = outcome.is_lower_better(_result(run), name, watch)
    worse = np.where(known & ~np.isnan(values), values if lower else -values, np.inf)
    return int(np.argmin(worse))


def _result(run: Path) -> dict[str, Any]:
    """Returns the result of a run; `{}` if it is unfinished or its result is corrupt."""
    try:
        return json_files.read(run / RESULT)
    except json_files.CorruptFile:
        return {}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if (path / FILE).exists():
        content = read_verified(path)
        return content, checkpoints.read_checkpoint(path, content)
    corrupt = 0
    for folder in checkpoints.folders(path / CHECKPOINTS):
        corrupt += 1
        try:
            content = read_verified(folder)
            return content, checkpoints.read_checkpoint(folder, content)
        except checkpoints.CorruptCheckpoint as error:
            warnings.warn(str(error), Caution, stacklevel=3)
    fix = "Pass the directory of a run with a checkpoint: runs save every minute and at the end"
    if runs := entries.parts(path):  # a sweep, or a directory of runs
        fix = f"Pass one of the runs in it, such as the newest: {entries.newest(runs)}"
    raise NoCheckpoint(
        "load",
        f"{path} has no checkpoint to load",
        got=f"{corrupt} corrupt" if corrupt else "none" if path.is_dir() else "no such directory",
        expected="the directory of a run, or of one of its checkpoints",
        fix=fix,
    )


def _nested(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Returns the arrays whose names start with `prefix` as nested dicts."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        if name.startswith(prefix):
            *outer, last = name.removeprefix(prefix).split("/")
            node = tree
            for part in outer:
                node = node.setdefault(part, {})
            node[last] = array
    return tree
