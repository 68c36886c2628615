"""Loading what a run has learned, without the program that trained it.

loaded = load("runs/mnist/3fc2a81b90")
started = warm_start(network, loaded.params, inputs, state=loaded.state)
"""

import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import jax

from jaxnn.checks import Caution, InvalidType, choice
from jaxnn.storage import checkpoints
from jaxnn.storage.directory import CHECKPOINTS, NoCheckpoint
from jaxnn.storage.manifest import FILE, read_verified
from jaxnn.typing import Any, Params, State


class Loaded(NamedTuple):
    """What a run has learned, on the host.

    For a population, every array has a leading axis of members.

    Attributes:
      step: the training steps done; for the best state, when it was the best.
      params: the parameters that the run evaluates and predicts with, as nested dicts by name:
        with `average`, the average.
      state: the network's other arrays, in the same form.
      config: the configuration of the run.
      raw_params: the parameters that training adjusts: `params`, unless a transform averages them.
    """

    step: Any
    params: Params
    state: State
    config: dict[str, Any]
    raw_params: Params


def load(path: str | Path, which: Literal["best", "latest"] = "best") -> Loaded:
    """Loads parameters from the newest good checkpoint of a run, or from one checkpoint.

    Nothing but arrays and numbers is read, nothing is executed, and nothing in the directory is
    changed.

    Args:
      path: a run directory, or the folder of one of its checkpoints.
      which: the parameters of the best evaluation, if the run watches a metric, or the latest.

    Raises:
      NoCheckpoint: if there is no checkpoint that is good.
      CorruptCheckpoint: if the one that is named is not as it was written.
      InvalidType: if the run was one of a learner with another state than `TrainState`.
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
    return Loaded(arrays[f"{prefix}/step"], params, state, content["config"], raw)


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
