"""What a run is, in a few words and digests: who goes on with it must have the same.

Data, program and key are told by digests, so that a change of any of them is seen before a single
step is done with it; a change of the environment is no mistake, but may change bits.
"""

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from importlib.metadata import version

import jax
import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.data._resident import Resident
from jaxnn.driver.chunks import Training
from jaxnn.typing import Any

# What each digest stands for, in an error.
_MEANING = {
    "program": "network, objective or optimizer",
    "data": "training data",
    "key": "key or seed",
    "names": "metrics",
}


def identity(training: Training) -> dict[str, Any]:
    """Returns what must be the same for a run to be the same, as JSON holds it."""
    hparams = {name: np.asarray(value) for name, value in training.hparams.items()}
    return {
        **{name: _figure(value) for name, value in hparams.items()},
        "steps": training.steps,
        "every": training.every,
        "evaluate_every": training.evaluate_every,
        "batch_size": training.data.batch_size,
        "members": training.layout.members,
        "watch": str(training.watch),
        "names": training.names,
        "key": _digest(jax.random.key_data(training.key)),
        "data": _of_data(training.data),
        **{f"data {name}": _of_data(part) for name, part in training.evaluations.items()},
        "program": _of_program(training),
    }


def environment(training: Training) -> dict[str, Any]:
    """Returns what may change the bits of a run, though it is the same run."""
    devices = training.devices
    return {
        **{name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
        "device": devices[0].device_kind,
        "devices": len(devices),
        "cores": os.cpu_count(),
        "form": training.form,
        "width": training.layout.width or 1,
        "x64": bool(jax.config.values["jax_enable_x64"]),
        "precision": jax.config.values["jax_default_matmul_precision"],
        "threefry_partitionable": bool(jax.config.values["jax_threefry_partitionable"]),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def check_identity(
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    allow_change: Collection[str],
    same_jax: bool,
) -> dict[str, tuple[Any, Any]]:
    """Returns what has changed, `{name: (saved, now)}`.

    Raises:
      InvalidValue: if something has that is not in `allow_change`.
    """
    changes = {
        n: (saved.get(n), now.get(n)) for n in {**saved, **now} if saved.get(n) != now.get(n)
    }
    if not same_jax:
        changes.pop("program", None)  # another version writes the same program in other words
    refused = [name for name in changes if name not in allow_change]
    if refused:
        names = [*filter(None, allow_change), *refused]
        told = {
            name: f"{name} ({_MEANING[name]})" if name in _MEANING else name for name in changes
        }
        raise InvalidValue(
            "fit",
            "the run that is there was begun with something else",
            got=", ".join(f"{told[n]} {_short(changes[n][1])}" for n in refused),
            expected=", ".join(f"{told[n]} {_short(changes[n][0])}" for n in refused),
            fix="Name another directory (--out), or go on with the change:"
            f" allow_change={names!r} (--allow-change {','.join(names)})",
        )
    return changes


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _figure(value: np.ndarray) -> Any:
    return float(str(value)) if value.ndim == 0 else _digest(value)


def _digest(*arrays: Any) -> str:
    total = hashlib.sha256()
    for array in map(np.asarray, arrays):
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()[:16]


def _of_data(data: Resident) -> str:
    return _digest(*jax.tree.leaves(data.arrays))


def _of_program(training: Training) -> str:
    programs = [training.program]
    if training.select is not None:
        trials = training.shapes(training.layout.slots)
        key = jax.ShapeDtypeStruct((), training.key.dtype)
        programs.append(jax.make_jaxpr(training.select)(key, trials))
    # Where a function lies in memory is no part of the program.
    texts = [re.sub(r" at 0x[0-9a-f]+", "", str(program)) for program in programs]
    consts = [const for program in programs for const in program.consts]
    words = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    return f"{words}{_digest(*consts)}" if consts else words
