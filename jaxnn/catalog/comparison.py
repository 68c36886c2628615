"""Compares two runs or two checkpoints, down to the bits of every array.

Two runs are the same if they differ only in their times. Arrays are compared by the digests in the
manifests, and read only if these differ, to compute the largest difference.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnn.catalog.contents import Contents, read
from jaxnn.catalog.entries import find, parts
from jaxnn.checks import InvalidValue
from jaxnn.formatting import aligned, count
from jaxnn.storage import checkpoints
from jaxnn.storage.directory import CHECKPOINTS
from jaxnn.storage.json_files import CorruptFile, finite
from jaxnn.storage.manifest import CorruptCheckpoint, leaves_in

WIDTH, SHOWN = 24, 20  # maximum length of a value, and lines of a section; --json has all


@dataclass(frozen=True)
class Side:
    """A run or a checkpoint to compare.

    Attributes:
      contents: the contents of the run directory.
      step: the step of the checkpoint; `None` for a run.
      manifest: the manifest of the checkpoint, or of the run's newest one; `{}` if it has none.
    """

    contents: Contents
    step: int | None
    manifest: dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """A difference between two runs.

    Attributes:
      section: `config`, `result`, `metrics` (the first row that differs), `checkpoint`, `identity`,
        `environment` or `arrays`, preceded by the name of the part, as in `population/arrays`.
      name: the name of the field or array.
      a: the value in the first run, or a description of the array; `None` if it is missing.
      b: the same for the second run.
      largest: the largest absolute difference of two floating-point arrays; `None` if not finite.
    """

    section: str
    name: str
    a: Any
    b: Any
    largest: float | None = None


def side(name: str) -> Side:
    """Reads the run `RUN`, or its checkpoint `RUN@STEP`.

    Raises:
      InvalidValue: if it does not exist, or was written by a newer jaxnn.
      CorruptFile: if it is corrupt.
    """
    run, at, step = name.rpartition("@")
    run = name if not at or Path(name).expanduser().exists() else run
    contents = read(find(Path(run).expanduser()))
    for words in contents.errors.values():
        raise CorruptFile(words)
    manifests = {str(each): manifest for each, manifest in contents.manifests.items()}
    if run == name:
        return Side(contents, None, contents.newest)
    if step not in manifests:
        raise InvalidValue(
            "diff",
            f"{run} has no checkpoint {step}",
            got=name,
            expected=f"the step of one: {', '.join(manifests) or 'but there is none'}",
            fix=f"Write {run}@{[*manifests][0]}" if manifests else f"Write {run}",
        )
    return Side(contents, int(step), manifests[step])


def differences(a: Side, b: Side, part: str = "") -> Iterator[Difference]:
    """Yields the differences between two runs, including their parts, or two checkpoints.

    Raises:
      CorruptCheckpoint: if an array is corrupt.
      InvalidValue: if a part was written by a newer jaxnn, or a checkpoint has just been deleted.
    """
    runs = a.step is None and b.step is None
    sections = {"config": (_config(a), _config(b))}
    if runs:
        sections["result"] = _results(a.contents, b.contents)
    sections["checkpoint"] = (_saved(a), _saved(b))
    if a.manifest and b.manifest:
        for name in ("identity", "environment"):
            sections[name] = (a.manifest[name], b.manifest[name])
    for section, (left, right) in sections.items():
        for name in _differing(left, right):
            yield Difference(part + section, name, left.get(name), right.get(name))
    if runs:
        yield from _rows(a.contents, b.contents, part + "metrics")
    if a.manifest and b.manifest:
        yield from _arrays(a, b, part + "arrays")
    if runs:
        yield from _parts(a.contents.path, b.contents.path, part)


def text(differences: Sequence[Difference]) -> str:
    """Returns differences as text."""
    blocks = []
    for section in dict.fromkeys(each.section for each in differences):
        inside = [each for each in differences if each.section == section]
        lines = aligned([_line(each) for each in inside[:SHOWN]], "<<<", "  ")
        more = len(inside) - SHOWN
        blocks.append(f"{section}\n{lines}" + (f"\n  and {more} more" if more > 0 else ""))
    number = len(differences)
    end = count(number, "difference") if number else "the same, but for the time they took"
    return "\n\n".join([*blocks, end])


def _differing(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    return [name for name in {**left, **right} if left.get(name) != right.get(name)]


def _saved(side: Side) -> dict[str, Any]:
    return {name: side.manifest.get(name) for name in ("step", "value")}


def _config(side: Side) -> Mapping[str, Any]:
    return (side.contents.config if side.step is None else side.manifest["config"]) or {}


def _results(a: Contents, b: Contents) -> tuple[dict[str, Any], dict[str, Any]]:
    if a.result is None or b.result is None:
        return {"status": a.status}, {"status": b.status}
    left, right = ({**each.result, "seconds": None} for each in (a, b) if each.result)
    return left, right


def _rows(a: Contents, b: Contents, section: str) -> Iterator[Difference]:
    """Yields the differences in the first row that differs; later rows follow from it."""
    for left, right in zip(a.journal.rows, b.journal.rows):
        if left["step"] != right["step"]:
            yield Difference(section, "step of a row", left["step"], right["step"])
            return
        if names := [name for name in _differing(left, right) if name != "seconds"]:
            for name in names:
                where = f"step {left['step']}, {name}"
                yield Difference(section, where, left.get(name), right.get(name))
            return
    if len(a.journal.rows) != len(b.journal.rows):
        yield Difference(section, "number of rows", len(a.journal.rows), len(b.journal.rows))


def _arrays(a: Side, b: Side, section: str) -> Iterator[Difference]:
    digests = [{x["name"]: x for x in side.manifest["arrays"]} for side in (a, b)]
    left, right = ({leaf.name: leaf for leaf in leaves_in(side.manifest)} for side in (a, b))
    differing = _differing(*digests)
    same_kind = [name for name in differing if left.get(name) == right.get(name)]
    floats = {n for n in same_kind if jnp.issubdtype(np.dtype(left[n].dtype), jnp.inexact)}
    arrays = (_read(a), _read(b)) if floats else ({}, {})
    for name in differing:
        one, other = (str(each[name]) if name in each else None for each in (left, right))
        largest = _largest(arrays[0][name], arrays[1][name]) if name in floats else None
        yield Difference(section, name, one, other, largest)


def _read(side: Side) -> dict[str, np.ndarray]:
    path = side.contents.path / CHECKPOINTS / checkpoints.name(side.manifest["step"])
    try:
        return checkpoints.read_checkpoint(path, side.manifest)
    except CorruptCheckpoint:
        if path.is_dir():
            raise
        wrong, got = f"{path} has just been deleted by its run", "no such directory"
        fix, expected = "Compare again", "a checkpoint that stays"
        raise InvalidValue("diff", wrong, got=got, expected=expected, fix=fix) from None


def _largest(a: np.ndarray, b: np.ndarray) -> float | None:
    kind = np.complex128 if np.iscomplexobj(a) else np.float64
    a, b = a.astype(kind), b.astype(kind)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return finite(float(np.max(np.where(same, 0.0, np.abs(a - b)), initial=0.0)))


def _parts(a: Path, b: Path, part: str) -> Iterator[Difference]:
    left, right = ({each.relative_to(p).as_posix(): each for each in parts(p)} for p in (a, b))
    for name in {**left, **right}:
        if name in left and name in right:
            yield from differences(side(str(left[name])), side(str(right[name])), f"{part}{name}/")
        else:
            one, other = ("a run" if name in each else None for each in (left, right))
            yield Difference(part + "parts", name, one, other)


def _line(each: Difference) -> tuple[str, str, str]:
    a, b, name = each.a, each.b, each.name
    if each.section.endswith("arrays"):
        # The name comes last, because it may be long.
        kinds = str(a) if a == b else f"{_word(a)}, {_word(b)}"
        return "" if each.largest is None else f"by {each.largest:.3g}", kinds, name
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        # For a population, shows the first member that differs.
        places = [place for place, pair in enumerate(zip(a, b)) if pair[0] != pair[1]]
        more = f" (and {len(places) - 1} more)" if places[1:] else ""
        name, a, b = f"{name}[{places[0]}]{more}", a[places[0]], b[places[0]]
    return name, _word(a), _word(b)


def _word(value: Any) -> str:
    words = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return words if len(words) <= WIDTH else f"{words[: WIDTH - 3]}..."
