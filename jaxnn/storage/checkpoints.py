"""Checkpoints, written atomically and verified with digests.

    checkpoints/000000000500/manifest.json      describes all arrays and files, with digests
    checkpoints/000000000500/shards-00000.bin   the parts of the arrays on each process
    checkpoints/base/                           arrays that no step changes, see `frozen`

A checkpoint is written as a draft, read back, compared, synced to disk, and only then renamed, so
every checkpoint with a final name is complete. A run resumes from the newest one. A corrupt
checkpoint is moved to `quarantine`, never deleted, and the previous one is used. Older checkpoints
are deleted only after a newer one has been read back.
"""

import errno
import itertools
import math
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from jaxnn.checks import number, positive_integer
from jaxnn.formatting import amount
from jaxnn.scale import processes
from jaxnn.storage import files, shards
from jaxnn.storage.engine import read_arrays
from jaxnn.storage.frozen import CorruptBase, check_base, discard_unused, read_base
from jaxnn.storage.manifest import (
    FILE,
    CorruptCheckpoint,
    Leaf,
    check_dtypes,
    check_same,
    corrupt,
    encode_manifest,
    leaves_in,
    leaves_of,
    read_manifest,
    read_verified,
    shardings_of,
    unflatten,
)
from jaxnn.storage.parts import put

ARRAYS, QUARANTINE = "arrays", "quarantine"


@dataclass(frozen=True)
class Saving:
    """When a run saves checkpoints, and which checkpoints it retains.

    A run also saves a checkpoint at the end, and when a signal ends it.

    Attributes:
      seconds: the time between saves in seconds, the maximum training time that a crash can lose.
      last: the number of newest checkpoints to retain. Two are the default, since the newest may
        turn out to be corrupt; during training, at least two are retained. 1 makes the directory of
        a finished run smaller.
      best: the number of checkpoints to retain in addition, by the watched metric.
      every: if given, the first report after each `every` steps is saved permanently.

    Raises:
      InvalidValue: if a number is out of range.
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
    """Returns the steps of the checkpoints in a folder, from the newest to the oldest."""
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir())
    return sorted((int(n) for n in names if n.isdecimal() and n == name(int(n))), reverse=True)


def folders(folder: Path) -> list[Path]:
    """Returns the paths of the checkpoints in a folder, from the newest to the oldest."""
    return [folder / name(step) for step in steps(folder)]


def name(step: int) -> str:
    """Returns the folder name of the checkpoint of a step."""
    return f"{step:012d}"


def write_checkpoint(
    folder: Path,
    step: int,
    leaves: Sequence[Leaf],
    arrays: Sequence[Any],
    fields: Mapping[str, Any],
    *,
    before: Callable[[], None] = lambda: None,
    base: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Writes a checkpoint, reads it back, and renames it to its final name.

    All processes of a run call this function; the first one writes the manifest with the given
    `fields`. `leaves` describe all arrays, and `base` maps names of leaves to entries in the base
    of the run. `arrays` are those of the other leaves, on any devices; they must not change until
    the function returns. `before` is called right before the rename.

    Raises:
      OSError: if the checkpoint cannot be written, or reads back differently.
      CorruptCheckpoint: if the manifest would be invalid, for example because of a dtype.
    """
    files.make(folder)
    base = base or {}
    every, leaves = leaves, [leaf for leaf in leaves if leaf.name not in base]
    number = processes.agree("draft", lambda: uuid.uuid4().hex[:8])
    draft = folder / f"{files.DRAFT}{name(step)}-{number}"

    def publish(entries: Sequence[Mapping[str, Any]]) -> None:
        known = {**base, **{entry["name"]: entry for entry in entries}}
        entries = [known[leaf.name] for leaf in every]
        files.write(draft / FILE, encode_manifest({"step": step, **fields}, entries, draft))
        read_manifest(draft)  # raises if it is invalid
        before()
        files.rename(draft, folder / name(step))

    try:
        draft.mkdir(exist_ok=True)
        parts = shards.write_all(draft, leaves, arrays)
        processes.agree("saved", lambda: publish(parts()))
    except BaseException as error:
        files.discard(draft)
        if isinstance(error, OSError) and _is_full(error):
            raise OSError(_full(folder, step, leaves)) from error
        raise


def _is_full(error: OSError) -> bool:
    # The error of another process is known only by its message.
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def _full(folder: Path, step: int, leaves: Sequence[Leaf]) -> str:
    need, free = sum(leaf.size for leaf in leaves), shutil.disk_usage(folder).free
    return (
        f"checkpoint: the disk is full. Got {amount(free, 'B')} free at {folder}; expected about"
        f" {amount(need, 'B')} for the checkpoint of step {step}. Free enough space and repeat the"
        " call: the run resumes from its newest checkpoint, if it has one"
    )


def read_checkpoint(path: Path, content: Mapping[str, Any], like: Any = None) -> Any:
    """Reads the arrays of a checkpoint.

    Args:
      path: the folder of the checkpoint.
      content: its manifest.
      like: a tree of arrays or shapes. Arrays whose shape has a sharding are placed on these
        devices, and others on the host.

    Returns:
      The arrays in a tree with the structure of `like`; by default, a dict by name, with PRNG keys
      as integers.

    Raises:
      CorruptCheckpoint: if the bytes of an array have changed.
      CorruptBase: if an array in the base of the run has changed.
    """
    leaves, places = leaves_in(content), shardings_of(like)
    rows = [(each, leaf, places.get(leaf.name)) for each, leaf in zip(content["arrays"], leaves)]
    try:
        arrays = _read_whole(path, [row for row in rows if not {"base", "shards"} & row[0].keys()])
        for entry, leaf, place in rows:
            if "base" in entry:
                arrays[leaf.name] = read_base(path, entry, leaf, place)
            elif "shards" in entry:
                arrays[leaf.name] = shards.read(path, entry["shards"], leaf, place)
    except (CorruptCheckpoint, CorruptBase):
        raise
    except Exception as error:  # Orbax raises errors of any type
        raise corrupt(path, f"arrays that cannot be read ({error})", "arrays") from error
    return {x.name: arrays[x.name] for x in leaves} if like is None else unflatten(like, arrays)


def _read_whole(path: Path, rows: Sequence[tuple[Mapping[str, Any], Leaf, Any]]) -> dict[str, Any]:
    """Reads whole arrays, as older versions wrote them; `rows` are entries, leaves and places."""
    arrays: dict[str, Any] = {}
    read = read_arrays(path / ARRAYS, [leaf for _, leaf, _ in rows]) if rows else []
    for (entry, leaf, place), array in zip(rows, read):
        same = (str(array.dtype), array.shape) == (leaf.dtype, leaf.shape)
        if not same or sha256(shards.as_bytes(array)).hexdigest() != entry["sha256"]:
            raise corrupt(path, f"other bytes at {leaf.name}", "those that were written")
        arrays[leaf.name] = put(array, place)
    return arrays


def verified(
    folder: Path,
    on_corrupt: Callable[[Path, CorruptCheckpoint], None],
    read: Callable[[Path], dict[str, Any]] = read_verified,
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields `(path, manifest)` of each intact checkpoint, from the newest to the oldest.

    `on_corrupt` is called for each corrupt one. With `read=read_manifest`, only the manifests are
    verified.
    """
    for path in folders(folder):
        try:
            content = read(path)
        except CorruptCheckpoint as error:
            on_corrupt(path, error)
        else:
            yield path, content


def newest(
    folder: Path,
    like: Any,
    check: Callable[[Mapping[str, Any]], None],
    on_corrupt: Callable[[Path, CorruptCheckpoint], None],
) -> tuple[dict[str, Any], Any] | None:
    """Returns `(manifest, tree)` of the newest intact checkpoint, or `None` if there is none.

    All processes of a run call this function. The first one chooses the checkpoint, and each reads
    the parts that it needs.

    Args:
      folder: the folder of the checkpoints.
      like: the tree to return, as shapes with optional shardings; see `read_checkpoint`.
      check: a function of the manifest that raises if the checkpoint is not usable.
      on_corrupt: is called by the first process for each newer checkpoint that is corrupt.

    Raises:
      InvalidType: if the checkpoint contains different arrays, or `like` has unsupported dtypes.
      CorruptBase: if the base of the run is corrupt. Older checkpoints are not tried then.
    """
    wanted = leaves_of(like)
    check_dtypes(wanted)
    candidates = verified(folder, on_corrupt)

    def following() -> int | None:
        path, content = next(candidates, (None, {}))
        if path is not None:
            check_same(path, leaves_in(content), wanted)
            check_base(path, [each for each in content["arrays"] if "base" in each])
        return path and int(path.name)

    while (step := processes.agree("candidate", following)) is not None:
        path = folder / name(step)
        tree, error, content = None, None, {}
        try:
            content = read_manifest(path)
            check(content)
            tree = read_checkpoint(path, content, like)
        except (CorruptCheckpoint, CorruptBase) as wrong:
            error = [isinstance(wrong, CorruptBase), str(wrong)]
        for of_base, wrong in filter(None, processes.collect("restored", error)):
            if of_base:
                raise CorruptBase(wrong)
            if processes.is_first():
                on_corrupt(path, CorruptCheckpoint(wrong))
            break
        else:
            return content, tree
    return None


def quarantine(path: Path, why: object) -> Path:
    """Moves a checkpoint to quarantine, with a file that gives the reason; returns its new path."""
    place = path.parents[1] / QUARANTINE
    if place.is_symlink():
        place.unlink()  # its target may be outside of the run directory
    place.mkdir(exist_ok=True)
    targets = (place / f"{path.name}-{number}" for number in itertools.count(1))
    target = next(target for target in targets if not target.exists())
    files.rename(path, target)
    files.write(target.with_suffix(".txt"), f"{why}\n".encode(errors="replace"))
    return target


def retain(folder: Path, saving: Saving, lower: bool, least: int = 2) -> None:
    """Deletes the checkpoints that are not retained, except corrupt ones."""
    corrupt_ones = []
    manifests = verified(folder, lambda path, error: corrupt_ones.append(path), read_manifest)
    known = {int(path.name): content for path, content in manifests}
    retained = retained_steps(known, saving, lower, least)
    for step in known.keys() - retained:
        files.remove(folder / name(step))
    if not corrupt_ones:
        discard_unused(folder, [known[step] for step in retained])


def retained_steps(
    manifests: Mapping[int, Mapping[str, Any]], saving: Saving, lower: bool, least: int = 2
) -> set[int]:
    """Returns the steps of the newest (at least `least`), the best, and the permanent checkpoints.

    Only finite values are ranked; ties are resolved in favour of the older checkpoint.
    """
    values = {step: each.get("value") for step, each in manifests.items()}
    finite = {s: v for s, v in values.items() if v is not None and math.isfinite(v)}
    ranked = sorted(finite, key=lambda step: (finite[step] if lower else -finite[step], step))
    permanent = {step for step, each in manifests.items() if each.get("for_good")}
    newest = sorted(manifests, reverse=True)[: max(least, saving.last)]
    return {*newest, *ranked[: saving.best], *permanent}
