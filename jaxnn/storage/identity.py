"""The identity of a run: its settings, and digests of its data, program and key.

A run resumes only if its identity is unchanged, which is checked before the first step. A change of
the environment is not an error, but may change results in the last bits.
"""

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict
from importlib.metadata import version

import jax
import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.driver.chunks import Training
from jaxnn.driver.trial import Watch
from jaxnn.scale import processes
from jaxnn.storage.json_files import plain
from jaxnn.storage.shards import as_bytes
from jaxnn.typing import Any

# The description of each digest in an error.
_MEANING = {
    "program": "network, objective or optimizer",
    "data": "training data",
    "key": "key or seed",
    "names": "metrics",
    "start": "parameters and state to start from",
}


def identity(training: Training) -> dict[str, Any]:
    """Returns the fields that identify a run, as JSON-serializable values."""
    return {
        **{n: _digest(x) if x.ndim else float(str(x)) for n, x in training.hparams.items()},
        "steps": training.steps,
        "every": training.every,
        "evaluate_every": training.evaluate_every,
        "batch_size": training.data.batch_size,
        "members": training.layout.members,
        "watch": training.watch and asdict(training.watch),
        "names": training.names,
        "key": _digest(jax.random.key_data(training.key)),
        "data": _fingerprint(training.data),
        **{f"data {name}": _fingerprint(part) for name, part in training.evaluations.items()},
        **({} if training.origin is None else {"start": _origin(training.origin)}),
        "program": _program_digest(training),
    }


def environment(training: Training) -> dict[str, Any]:
    """Returns the fields that may change the last bits of results, but not the identity."""
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


def check_processes(training: Training, config: Any) -> None:
    """Raises `InvalidValue` with the differences, unless all processes train the same run.

    Args:
      training: the run of this process.
      config: its configuration.
    """
    if processes.count() == 1:
        return
    saying = {"jax", "jaxlib", "flax", "optax", "numpy", "x64", "threefry_partitionable"}
    versions = {n: x for n, x in environment(training).items() if n in saying}
    mine = plain({**versions, **identity(training), "configuration": plain(config or {})})
    first, *others = processes.collect("identity", mine)
    for number, other in enumerate(others, 1):
        if changes := _changes(first, other):
            raise InvalidValue(
                "fit",
                f"process {number} does not train the same run as process 0",
                **_described(changes),
                fix="Start all processes with the same code, data, options and versions",
            )


def check_identity(
    saved: Mapping[str, Any], now: Mapping[str, Any], allow_change: Collection[str], same_jax: bool
) -> dict[str, tuple[Any, Any]]:
    """Returns the changed fields, `{name: (saved, now)}`.

    Raises:
      InvalidValue: if a field has changed that is not in `allow_change`.
    """
    watch = now.get("watch")
    # Checkpoints before 2026-12 store `watch` as a string.
    older = [Watch(**watch), Watch(**{**watch, "better": None})] if watch else [None]
    if saved.get("watch") in [*map(str, older), *(each and asdict(each) for each in older)]:
        saved = {**saved, "watch": watch}
    changes = _changes(saved, now)
    if not same_jax:
        changes.pop("program", None)  # another version prints the same program differently
    refused = {name: pair for name, pair in changes.items() if name not in allow_change}
    if refused:
        names = [*filter(None, allow_change), *refused]
        raise InvalidValue(
            "fit",
            "the run in the directory was started with other settings",
            **_described(refused),
            fix="Choose another directory (--out), or resume with the change:"
            f" allow_change={names!r} (--allow-change {','.join(names)})",
        )
    return changes


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    pairs = {name: (before.get(name), after.get(name)) for name in {**before, **after}}
    return {name: (old, new) for name, (old, new) in pairs.items() if old != new}


def _described(changes: Mapping[str, tuple[Any, Any]]) -> dict[str, str]:
    """Returns the arguments `got` and `expected` of an error about changed fields."""
    labels = {name: f"{name} ({_MEANING[name]})" if name in _MEANING else name for name in changes}
    return {
        "got": ", ".join(f"{labels[n]} {_short(new, old)}" for n, (old, new) in changes.items()),
        "expected": ", ".join(f"{labels[n]} {_short(*pair)}" for n, pair in changes.items()),
    }


def _short(value: Any, other: Any) -> str:
    if isinstance(value, dict) and isinstance(other, dict):
        value = {name: x for name, x in value.items() if x != other.get(name)}
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _origin(start: Any) -> str:
    """Returns a digest of the initial parameters and state that this process can address fully."""
    leaves = jax.tree.leaves(start)
    return _digest(*(x for x in leaves if getattr(x, "is_fully_addressable", True)))


def _fingerprint(data: Any) -> str:
    """Returns the fingerprint of the data, or a digest of all arrays."""
    if hasattr(data, "fingerprint"):
        return data.fingerprint()
    return _digest(*jax.tree.leaves(getattr(data, "arrays", data.examples)))


def _digest(*arrays: Any) -> str:
    total = hashlib.sha256()
    for array in map(np.asarray, arrays):
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(as_bytes(array))
    return total.hexdigest()[:16]


def _program_digest(training: Training) -> str:
    programs = [training.program]
    if training.select is not None:
        trials = training.shapes(training.layout.slots)
        key = jax.ShapeDtypeStruct((), training.key.dtype)
        programs.append(jax.make_jaxpr(training.select)(key, trials))
    # The addresses of functions are not part of the program.
    texts = [re.sub(r" at 0x[0-9a-f]+", "", str(program)) for program in programs]
    consts = [const for program in programs for const in program.consts]
    words = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    return f"{words}{_digest(*consts)}" if consts else words
