"""A small run with three checkpoints, of which tests spoil copies."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import jaxnn
from jaxnn.storage import checkpoints, files, manifest
from jaxnn.storage.checkpointing import Checkpointer, RestoredRun
from jaxnn.storage.opening import open_directory
from tests.options import grouped

STEPS = (4, 8, 12)  # of the checkpoints
BEFORE, NEWEST = map(checkpoints.name, STEPS[1:])


class Small:
    """A small run that has ended well, and copies of it as a kill before its end would leave them.

    Attributes:
      run: it.
      restored: what it resumes from, by step.
    """

    def __init__(self, place: Path):
        draws = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
        data = jaxnn.resident({"inputs": draws, "labels": draws[:, :3].argmax(-1)}, batch_size=8)
        learner = jaxnn.learner(jaxnn.linear(3), jaxnn.classification(), optax.sgd(0.1))
        options = {"steps": STEPS[-1], "every": STEPS[0], "key": jax.random.key(0)}
        self.training = jaxnn.train(learner, data, **options)
        self.given, self.place, self.copies = ((learner, data), options), place, 0
        self.run = self.resume(place / "whole")
        self.restored = {step: self.restore(self.copy([step])) for step in STEPS}

    def copy(self, steps: Collection[int] = STEPS) -> Path:
        """Returns the directory of the run as it was before its end, with some checkpoints."""
        self.copies += 1
        out = self.place / str(self.copies) / "run"
        others = [checkpoints.name(step) for step in STEPS if step not in steps]
        shutil.copytree(self.run.out, out, ignore=shutil.ignore_patterns("result.json", *others))
        return out

    def restore(self, out: Path, resume: bool = False) -> RestoredRun | None:
        """Returns what the run resumes from in a directory."""
        with open_directory(jaxnn.Directory(out, resume=resume)) as directory:
            keeper = Checkpointer(directory, self.training, jaxnn.Saving(), None)
            try:
                return keeper.restore(resume, ())
            finally:
                keeper.wait()

    def resume(self, out: Path, **options: Any) -> jaxnn.Run:
        """Does the run, or the rest of it."""
        arguments, always = self.given
        saving = jaxnn.Saving(every=STEPS[0])
        options = grouped(out, saving=saving, **options)
        return jaxnn.fit(*arguments, **always, quiet=True, **options)


def there(folder: Path) -> dict[str, Any]:
    """Returns what is in a folder by path: the bytes of files, and where links lead."""

    def what(path):
        if path.is_symlink():
            return path.readlink()
        size = path.stat().st_size
        return path.read_bytes() if path.is_file() and size < 1 << 20 else size

    return {path.relative_to(folder).as_posix(): what(path) for path in folder.rglob("*")}


def seal(folder, **fields):
    """Writes a manifest with the digests that its reader asks for."""
    content = contents(folder) | fields
    content.pop("sha256")
    (folder / "manifest.json").write_text(json.dumps(content | {"sha256": manifest._own(content)}))


def contents(folder):
    return json.loads((folder / "manifest.json").read_text())


def reseal(folder):
    """Writes a manifest that agrees with the files that are there."""
    sizes = [
        {"name": path.relative_to(folder).as_posix(), "size": size, "sha256": sha256}
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
        for size, sha256 in [files.digest(path)]
    ]
    seal(folder, files=sizes)
