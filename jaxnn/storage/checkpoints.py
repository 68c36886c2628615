"""Checkpoints: an envelope around the engine, so that nothing is lost, whatever happens.

    checkpoints/000000000500/manifest.json    what everything is, with digests
    checkpoints/000000000500/arrays/          what Orbax wrote

A checkpoint is written as a draft, read back, compared, forced to the disk, and only then given its
name: what has a name is whole. Of several the newest is the one to go on from; there is no pointer
that could name another. What is found damaged is moved to `quarantine`, never deleted, and the next
older one is used. Older ones are deleted after a newer one has been read back, never before.
"""

import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn.checks import Explained, number, positive_integer
from jaxnn.storage import files
from jaxnn.storage.engine import check_shapes, read_arrays, write_arrays
from jaxnn.storage.manifest import (
    FILE,
    Damaged,
    Leaf,
    check_kinds,
    check_same,
    damaged,
    leaves_in,
    leaves_of,
    manifest_of,
    opened,
    restored,
    sealed,
)

ARRAYS, QUARANTINE = "arrays", "quarantine"


@dataclass(frozen=True)
class Saving:
    """When a run saves a checkpoint, and which are kept.

    One is also saved at the end, and when a signal ends the run.

    Attributes:
      seconds: the time between two, which is the most that can be lost.
      last: how many of the newest are kept.
      best: how many of those with the best finite values of the watched metric are kept too.
      every: the number of steps after which the next report is saved, and kept for good; never, if
        `None`.
    """

    seconds: float = 60.0
    last: int = 2
    best: int = 1
    every: int | None = None

    def __post_init__(self):
        if self.seconds != math.inf:
            number("Saving", "seconds", self.seconds, low=0.0)
        positive_integer("Saving", "last", self.last)
        if self.best != 0:
            positive_integer("Saving", "best", self.best)
        if self.every is not None:
            positive_integer("Saving", "every", self.every)


def steps(folder: Path) -> list[int]:
    """Returns the steps of the checkpoints in a folder, the newest first."""
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir())
    return sorted((int(n) for n in names if n.isdecimal() and n == name(int(n))), reverse=True)


def folders(folder: Path) -> list[Path]:
    """Returns the checkpoints in a folder, the newest first."""
    return [folder / name(step) for step in steps(folder)]


def name(step: int) -> str:
    """Returns the name of the folder of a checkpoint."""
    return f"{step:012d}"


def write_checkpoint(
    folder: Path,
    step: int,
    leaves: Sequence[Leaf],
    arrays: Sequence[Any],
    fields: Mapping[str, Any],
    *,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Writes a checkpoint, reads it back, and gives it its name.

    Args:
      folder: in which it will be.
      step: whose state it is.
      leaves: what the arrays are.
      arrays: on any devices; not changed meanwhile.
      fields: of the manifest.
      before: is called right before it gets its name.

    Raises:
      OSError: if it cannot be written, or what was read back is not what was written.
      Damaged: if an array is of a kind that is not read back.
    """
    files.make(folder)
    draft = folder / f"{files.DRAFT}{name(step)}-{uuid.uuid4().hex[:8]}"
    try:
        draft.mkdir()
        write_arrays(draft / ARRAYS, arrays)
        digests = [_digest(np.asarray(array)) for array in arrays]
        _read_back(draft, leaves, digests)
        content = sealed({"step": step, **fields}, leaves, digests, draft)
        files.write(draft / FILE, content)
        manifest_of(draft)  # which would be refused later too
        before()
        files.rename(draft, folder / name(step))
    except BaseException:
        files.discard(draft)
        raise


def _read_back(draft: Path, leaves: Sequence[Leaf], digests: Sequence[str]) -> None:
    """Raises `OSError` unless what is on the disk is what was to be written."""
    try:
        for number, array in read_arrays(draft / ARRAYS, _shapes(leaves)):
            if _digest(array) != digests[number]:
                raise OSError(f"{leaves[number].name} was not read back as it was written: {draft}")
    except ValueError as error:
        raise OSError(f"what was written could not be read back: {draft}: {error}") from error


def read_checkpoint(path: Path, content: Mapping[str, Any], like: Any = None) -> Any:
    """Reads a checkpoint whose manifest was read.

    Args:
      path: of the checkpoint.
      content: of its manifest.
      like: a tree of arrays or shapes, of the form of which the result is; by default the result is
        a dict by name, random keys being numbers in it.

    Raises:
      Damaged: if an array is not what was written.
    """
    leaves = leaves_in(content)
    arrays: list[Any] = [None] * len(leaves)
    try:
        check_shapes(path / ARRAYS, _shapes(leaves))
        for number, array in read_arrays(path / ARRAYS, _shapes(leaves)):
            arrays[number] = array
    except Exception as error:  # the engine has one for each thing that can be wrong
        raise damaged(path, f"arrays that cannot be read ({error})", "arrays") from error
    for leaf, array, each in zip(leaves, arrays, content["arrays"]):
        same = (str(array.dtype), array.shape) == (leaf.dtype, leaf.shape)
        if not same or _digest(array) != each["sha256"]:
            raise damaged(path, f"other bytes at {leaf.name}", "those that were written")
    if like is None:
        return {leaf.name: array for leaf, array in zip(leaves, arrays)}
    return restored(like, leaves, arrays)


def good(
    folder: Path, damage: Callable[[Path, Damaged], None]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields `(path, manifest)` of the checkpoints whose files are as they were written.

    The newest comes first. `damage` is called with each of the others.
    """
    for path in folders(folder):
        try:
            content = opened(path)
        except Damaged as error:
            damage(path, error)
        else:
            yield path, content


def newest(
    folder: Path,
    like: Any,
    check: Callable[[Mapping[str, Any]], None],
    damage: Callable[[Path, Damaged], None],
) -> tuple[dict[str, Any], Any] | None:
    """Reads the newest good checkpoint.

    Args:
      folder: that has them.
      like: a tree of shapes, of the form of what is wanted.
      check: is called with its manifest; raises if it cannot be used.
      damage: is called with each that is newer and damaged.

    Returns:
      `(manifest, tree)`, or `None` if none is good.

    Raises:
      InvalidType: if it holds other arrays, or what is wanted could not be kept.
    """
    wanted = leaves_of(like)
    check_kinds(wanted)
    for path, content in good(folder, damage):
        check_same(path, leaves_in(content), wanted)
        check(content)
        try:
            return content, read_checkpoint(path, content, like)
        except Damaged as error:
            damage(path, error)
    return None


def quarantine(path: Path, why: object) -> Path:
    """Moves a checkpoint out of the way, and writes beside it why; returns where it is now."""
    place = path.parents[1] / QUARANTINE
    if place.is_symlink():
        place.unlink()  # may lead anywhere
    place.mkdir(exist_ok=True)
    number = 1
    while (place / f"{path.name}-{number}").exists():
        number += 1
    target = place / f"{path.name}-{number}"
    files.rename(path, target)
    files.write(target.with_suffix(".txt"), f"{why}\n".encode(errors="replace"))
    return target


def retain(folder: Path, saving: Saving, lower: bool) -> None:
    """Deletes the checkpoints that need not be kept."""
    known: dict[int, Mapping[str, Any]] = {}
    for step in steps(folder):
        try:
            known[step] = manifest_of(folder / name(step))
        except Explained:
            continue  # is left for the one who goes on from it to see
    for step in known.keys() - kept(known, saving, lower):
        files.remove(folder / name(step))


def kept(manifests: Mapping[int, Mapping[str, Any]], saving: Saving, lower: bool) -> set[int]:
    """Returns the steps to keep: the newest, those with the best finite values, and those for good.

    Of equal values the older is the better.
    """
    values = {step: each.get("value") for step, each in manifests.items()}
    finite = {s: v for s, v in values.items() if v is not None and math.isfinite(v)}
    ranked = sorted(finite, key=lambda step: (finite[step] if lower else -finite[step], step))
    for_good = {step for step, each in manifests.items() if each.get("for_good")}
    # Never fewer than two: the last one may be found damaged.
    newest = sorted(manifests, reverse=True)[: max(2, saving.last)]
    return {*newest, *ranked[: saving.best], *for_good}


def _shapes(leaves: Sequence[Leaf]) -> list[tuple[tuple[int, ...], str]]:
    return [(leaf.shape, leaf.dtype) for leaf in leaves]


def _digest(array: np.ndarray) -> str:
    # Viewed as bytes, which is no copy, since bfloat16 has no buffer of its own.
    return sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()
