"""Small runs that commands look at, and the command in a process of its own."""

import hashlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import jax
import numpy as np
import optax

import jaxnn
from tests.options import grouped

ROOT = Path(jaxnn.__file__).parents[1]
COMMANDS = ("runs", "show", "verify", "diff", "diagnose")
CONFIG = {"learning_rate": 0.05, "hidden": [4], "note": None}


@cache  # one learner compiles once, however many runs it does
def learner(hidden):
    return jaxnn.learner(
        jaxnn.mlp(hidden, 1), jaxnn.regression(), lambda h: optax.sgd(h["learning_rate"])
    )


def fit(out, rate=0.05, hidden=(4,), config=CONFIG, **options):
    draws = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    data = jaxnn.resident({"inputs": draws, "labels": draws[:, :1] + 1}, batch_size=8)
    settings = {
        "steps": 20,
        "every": 4,
        "key": jax.random.key(0),
        "hparams": {"learning_rate": rate},
        "evaluate": jaxnn.resident(data.arrays, batch_size=24),
        "watch": "test/loss",
        "name": "small",
    }
    settings |= {"config": config and {**config, "learning_rate": rate}, **options}
    return jaxnn.fit(learner(tuple(hidden)), data, quiet=True, **grouped(out, **settings))


def subprocess_of(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "jaxnn", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def manifest_of(run):
    return run / "checkpoints" / f"{saved(run)[0]:012d}" / "manifest.json"


def saved(run):
    return sorted((int(path.name) for path in (run / "checkpoints").iterdir()), reverse=True)


def reseal(file, **fields):
    """Changes a manifest, and makes its own digest agree, as one who knows it could."""
    content = {**json.loads(file.read_text()), **fields}
    del content["sha256"]
    own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps({**content, "sha256": own}))


def largest(run):
    return manifest_of(run).parent / "shards-00000.bin"


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def append(file, text):
    file.write_text(file.read_text() + text)


def swap_rows(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([lines[1], lines[0], *lines[2:]]))


def spoil_text(name, old, new):
    def spoil(run):
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new, 1))

    return spoil
