"""Small runs as each format of checkpoints has them, which every later jaxnn has to go on with.

    XLA_FLAGS=--xla_force_host_platform_device_count=4 python -m tests.golden.make

writes `format-N` with the installed jaxnn, once for each format and never again. A run is as a kill
in the middle leaves it; beside it is written what was kept, and what the run ends with.
"""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import jaxnn
from jaxnn import scale
from jaxnn.storage import checkpoints
from jaxnn.storage.manifest import FORMAT, leaves_of
from tests.trees import numbers

FOLDER = Path(__file__).parent
# Format 3 is that of a run with large arrays that training does not change, saved once.
KINDS = {1: ("single", "population"), 2: ("single", "population"), 3: ("adapted",)}
KEPT, LAST = 6, 12  # the step of the checkpoint, and of the end

draws = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)
DATA = jaxnn.resident({"inputs": draws, "labels": draws[:, :3].argmax(-1)}, batch_size=16)
LEARNER = jaxnn.learner(
    jaxnn.serial(jaxnn.batch_norm(), jaxnn.dropout(0.2), jaxnn.linear(3)),
    jaxnn.classification(),
    lambda hparams: optax.adam(hparams["learning_rate"]),
)
# 72 kB of weights beside which adapters are trained.
ADAPTED = jaxnn.learner(
    jaxnn.lora(jaxnn.mlp([4608], 3), rank=2),
    jaxnn.classification(),
    lambda hparams: optax.adam(hparams["learning_rate"]),
)


def learner(kind: str) -> jaxnn.Learner:
    """Returns the learner of the run of a kind."""
    return ADAPTED if kind == "adapted" else LEARNER


def arguments(kind: str) -> dict[str, Any]:
    """Returns what decides the run of a kind."""
    many = kind == "population"
    return {
        "steps": LAST,
        "every": KEPT,
        "key": jaxnn.keys([0, 1]) if many else jax.random.key(0),
        "hparams": {"learning_rate": np.array([0.1, 0.01]) if many else 0.1},
        "watch": None if many else "train/loss",
    }


def resume(kind: str, out: Path, where: Any = None, **options: Any) -> jaxnn.Run:
    """Does the run of a kind, or the rest of it; `where` may name a mesh and rules."""
    saving = jaxnn.Saving(every=KEPT)
    given = arguments(kind) | {"out": jaxnn.Directory(out, **options), "saving": saving}
    return jaxnn.fit(learner(kind), DATA, **given, **(where or {}), quiet=True)


def shapes(kind: str) -> Any:
    """Returns the form of what is kept of a run."""
    training = jaxnn.train(learner(kind), DATA, **arguments(kind))
    return jax.eval_shape(training.whole)


def digest(tree: Any) -> str:
    """Returns a digest of the names, the kinds and the bytes of all arrays.

    The compensation of sums is as old as format 1 is not: it is 0 of a run that has just begun one.
    """
    total = sha256()
    for leaf, array in zip(leaves_of(tree), jax.tree.leaves(numbers(tree)), strict=True):
        if "/compensation" in leaf.name:
            assert not array.any()
            continue
        total.update(f"{leaf.name} {leaf}".encode() + array.tobytes())
    return total.hexdigest()


def predicted(kind: str, state: Any) -> list:
    """Returns what a state predicts for a few inputs."""
    predict = learner(kind).predict
    outputs = jax.vmap(predict, (0, None)) if kind == "population" else predict
    return np.asarray(outputs(state, draws[:2])).tolist()


def make(kind: str, folder: Path) -> None:
    """Writes a run, and what is known of it."""
    out = folder / kind
    # Arrays in parts are those of format 2: every array that divides lies on four devices.
    rules = {"*": scale.largest("data", at_least=1)}
    parts = {"mesh": scale.mesh(4), "rules": rules}
    run = resume(kind, out, None if kind == "adapted" else parts)
    path = out / "checkpoints" / checkpoints.name(KEPT)
    trial = checkpoints.read_checkpoint(path, checkpoints.read_verified(path), shapes(kind))
    expected = {
        "kept": {"digest": digest(trial), "predicted": predicted(kind, trial.state)},
        "end": {"predicted": predicted(kind, run.state), "history": run.history},
        "jax": jax.__version__,
    }
    (folder / f"{kind}.json").write_text(json.dumps(expected) + "\n")
    # As a kill before the last step was saved would have left it.
    shutil.rmtree(out / "checkpoints" / checkpoints.name(LAST))
    for name in (".lock", "result.json"):
        (out / name).unlink()


if __name__ == "__main__":
    target = FOLDER / f"format-{FORMAT}"
    target.mkdir()  # is never written again
    for each in KINDS[FORMAT]:
        make(each, target)
