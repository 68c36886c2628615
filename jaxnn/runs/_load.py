"""Loading what a run has learned, without the code that trained it.

loaded = load("runs/mnist/3fc2a81b90")
outputs = loaded.predict(images)
started = warm_start(network, loaded.params, inputs, state=loaded.state)
"""

import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np

from jaxnn import metrics as measures
from jaxnn.catalog.contents import METRICS
from jaxnn.checks import Caution, InvalidType, choice
from jaxnn.loop.statuses import DIVERGED
from jaxnn.network import Network
from jaxnn.runs import prediction
from jaxnn.storage import checkpoints, files
from jaxnn.storage.directory import CHECKPOINTS, COLUMNS, NoCheckpoint
from jaxnn.storage.manifest import FILE, read_verified
from jaxnn.tables import Columns
from jaxnn.typing import Any, Params, State


class Loaded(NamedTuple):
    """What a run has learned, on the host.

    For a population, every array has a leading axis of members, of which the best one predicts.

    Attributes:
      step: the training steps done; for the best state, when it was the best.
      params: the parameters that the run evaluates and predicts with, as nested dicts by name:
        with `average`, the average.
      state: the network's other arrays, in the same form.
      config: the configuration of the run.
      raw_params: the parameters that training adjusts: `params`, unless a transform averages them.
      member: the number of the best member, by the watched metric, or else by accuracy or loss;
        `None` for a single run.
      predictor: the prediction program of the run.
      columns: those of the table that it was trained on, if it was one.
    """

    step: Any
    params: Params
    state: State
    config: dict[str, Any]
    raw_params: Params
    member: int | None
    predictor: prediction.Predictor
    columns: Columns | None

    def predict(self, inputs: Any, *, batch_size: int = 1024) -> Any:
        """Returns the outputs for any number of inputs, as NumPy arrays: those of `Run.predict`.

        A run that was trained on a table takes its rows, as `read_table` reads them, and returns a
        table of predictions: classes by name, numbers in the unit of the labels.

        Args:
          inputs: such as the run was trained on, `[examples, ...]`, with any number of examples; or
            the rows of a table: a file, a data frame, a dict of columns.
          batch_size: the most examples that the device computes at once.

        Raises:
          NoProgram: if the run directory has no prediction program, or this version of JAX cannot
            read it.
          InvalidType: if the inputs do not have the structure and shapes of training.
          InvalidValue: if their numbers do not fit into the dtype of training.
        """
        if self.columns is None:
            return self.predictor(inputs, batch_size)
        rows = self.columns.encode(inputs, labels=False)
        return self.columns.decode(self.predictor(rows["inputs"], batch_size))


def load(
    path: str | Path, which: Literal["best", "latest"] = "best", *, network: Network | None = None
) -> Loaded:
    """Loads parameters from the newest good checkpoint of a run, or from one checkpoint.

    Nothing in the directory is changed, and nothing but its prediction program is executed: matrix
    products and the like, no Python.

    Args:
      path: a run directory, or the folder of one of its checkpoints.
      which: the parameters of the best evaluation, if the run watches a metric, or the latest.
      network: to be compared with the one that was trained, by the outputs of both.

    Raises:
      NoCheckpoint: if there is no checkpoint that is good.
      CorruptCheckpoint: if the one that is named is not as it was written.
      InvalidType: if the run was one of a learner with another state than `TrainState`.
      InvalidValue: if `network` is not the one that was trained.
      NoProgram: if there is a `network`, and no prediction program to compare it with.
    """
    path = Path(path).expanduser()
    choice("load", "which", which, ("best", "latest"))
    content, arrays = _read(path)
    prefix = "best/state" if which == "best" and "best/step" in arrays else "state"
    if f"{prefix}/step" not in arrays or not any(n.startswith(f"{prefix}/params") for n in arrays):
        raise InvalidType(
            "load",
            "the run has no parameters by that name",
            got=f"arrays {', '.join(list(arrays)[:4])}, ...",
            expected="those of a state with params, such as TrainState",
            fix="Read them with jaxnn.storage.checkpoints.read_checkpoint",
        )
    eval_path = content.get("eval_path", "params")
    raw, params, state = (
        _nested(arrays, f"{prefix}/{name}/") for name in ("params", eval_path, "state")
    )
    if eval_path != "params":  # an average may have more digits than what it averages
        params = jax.tree.map(lambda value, own: value.astype(own.dtype), params, raw)
    folder = path.parent.parent if (path / FILE).exists() else path
    member = _best_member(content, arrays, prefix)
    own = {name.removeprefix(f"{prefix}/"): array for name, array in arrays.items()
           if name.startswith(f"{prefix}/")}  # fmt: skip
    if member is not None:
        own = {name: array[member] for name, array in own.items()}
    predictor = prediction.Predictor(folder, own)
    step, config = arrays[f"{prefix}/step"], content["config"]
    loaded = Loaded(step, params, state, config, raw, member, predictor, _columns(folder))
    if network is not None:
        of = () if member is None else member
        prediction.check_network(
            predictor, network, *jax.tree.map(lambda x: x[of], (params, state))
        )
    return loaded


def _columns(run: Path) -> Columns | None:
    """Returns the columns of the table that a run was trained on, if it was one."""
    if not (run / COLUMNS).exists():
        return None
    return Columns.from_json(files.read(run / COLUMNS).decode())


def _best_member(content: dict[str, Any], arrays: dict[str, Any], prefix: str) -> int | None:
    """Returns the number of the member with the best metric; `None` for a single run."""
    if not np.ndim(arrays[f"{prefix}/step"]):
        return None
    watch = content["identity"].get("watch")
    if prefix == "best/state" and isinstance(watch, dict):
        name, values, known = watch["metric"], arrays["best/value"], arrays["best/step"] > 0
    else:
        watch, name = {}, next(name for name in METRICS if f"metrics/{name}" in arrays)
        # A member that has diverged may have none.
        values, known = arrays[f"metrics/{name}"], arrays["status"] != DIVERGED
    better = watch.get("better") or ("lower" if measures.lower_is_better(name) else "higher")
    worse = np.where(known & ~np.isnan(values), values if better == "lower" else -values, np.inf)
    return int(np.argmin(worse))


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
    raise NoCheckpoint(
        "load",
        f"{path} has no checkpoint to load",
        got=f"{corrupt} corrupt" if corrupt else "none" if path.is_dir() else "no such directory",
        expected="the directory of a run, or of one of its checkpoints",
        fix="Name that of a run that has saved one: a run saves at its end, and every minute",
    )


def _nested(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Returns nested dicts of the arrays whose names begin so."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        if name.startswith(prefix):
            *outer, last = name.removeprefix(prefix).split("/")
            node = tree
            for part in outer:
                node = node.setdefault(part, {})
            node[last] = array
    return tree
