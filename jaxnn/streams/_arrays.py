"""Arrays in `.npy` and `.npz` files, which are mapped into memory so that rows are read on demand.

A file written by `numpy.savez` holds several fields by name, a file written by `numpy.save` holds
one. Several files are concatenated.
"""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.streams.files import HEADER_ERRORS, Files, corrupt, mapped
from jaxnn.streams.source import Parts, digest
from jaxnn.typing import Any


class Arrays(Parts):
    """The rows of arrays in several files, concatenated."""

    def __init__(self, files: list[Files], parts: list[dict[str, np.ndarray]]):
        counts = (len(next(iter(part.values()))) for part in parts)
        super().__init__(counts, files[0].paths)
        self.files, self.parts = files, parts

    def read_part(self, number: int, index: np.ndarray) -> dict[str, Any]:
        """Returns the given rows of a file."""
        return {name: np.asarray(array[index]) for name, array in self.parts[number].items()}

    def fingerprint(self) -> str:
        """Returns a digest of the files and their fields."""
        fields = jax.tree.map(lambda x: f"{x.dtype}{x.shape}", self.parts)
        return digest(fields, *[files.fingerprint() for files in self.files])

    def __repr__(self) -> str:
        count = len(self.parts)
        fields = ", ".join(f"{k} {v.dtype}{list(v.shape[1:])}" for k, v in self.parts[0].items())
        return f"Arrays({len(self):,} examples in {count} file{'s' * (count > 1)}: {fields})"


def arrays(paths: Any) -> Arrays:
    """Opens `.npy` or `.npz` files as a source; rows are read on demand.

    Args:
      paths: `.npz` files that each hold all fields, or `.npy` files of inputs: a file, a folder, a
        pattern with `*`, or a list of them. Or a dict `{"inputs": paths, "labels": paths}` with the
        `.npy` files of each field, in the same order.

    Returns:
      A source whose examples consist of one row of each field.

    Raises:
      InvalidValue: if there are no files, fields have different numbers of files, a file is
        truncated or compressed, or its fields are empty or differ in length.
      InvalidType: if files differ in fields, dtypes or shapes.
    """
    if isinstance(paths, Mapping):
        files = [Files("arrays", path, (".npy",)) for path in paths.values()]
        columns = [[mapped("arrays", path) for path in each.paths] for each in files]
        counts = {name: len(column) for name, column in zip(paths, columns)}
        if len(set(counts.values())) > 1:
            raise InvalidValue(
                "arrays",
                "the fields have different numbers of files",
                got=", ".join(f"{count} of {name}" for name, count in counts.items()),
                expected="as many of each",
                fix="Name the files of each field in the same order",
            )
        parts = [dict(zip(paths, part)) for part in zip(*columns)]
        names = [str(path) for path in files[0].paths]
    else:
        files = [Files("arrays", paths, (".npz", ".npy"))]
        names = [str(path) for path in files[0].paths]
        parts = [_fields(path) for path in files[0].paths]
    for name, part in zip(names, parts):
        _check(name, part, names[0], parts[0])
    return Arrays(files, parts)


def _check(name: str, part: dict[str, Any], first_name: str, first: dict[str, Any]) -> None:
    lengths = {field: len(array) if array.ndim else 0 for field, array in part.items()}
    if len(set(lengths.values())) != 1 or min(lengths.values()) < 1:
        raise InvalidValue(
            "arrays",
            "the fields of a file do not hold examples along one leading axis",
            got=f"{name} with {', '.join(f'{k} {list(v.shape)}' for k, v in part.items())}",
            expected="the same first number everywhere, at least 1",
            fix="Write every field with one entry for each example",
        )
    here, there = (
        {field: f"{array.dtype}{list(array.shape[1:])}" for field, array in each.items()}
        for each in (part, first)
    )
    if here != there:
        raise InvalidType(
            "arrays",
            "the files have different fields",
            got=f"{here} in {name}",
            expected=f"{there}, as in {first_name}",
            fix="Write all files with the same fields, dtypes and shapes",
        )


def _fields(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npy":
        return {"inputs": mapped("arrays", path)}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            return {x.filename.removesuffix(".npy"): _member(path, x) for x in members}
    except zipfile.BadZipFile as error:
        raise corrupt("arrays", path, error) from None


def _member(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """Maps an uncompressed array in an archive into memory."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise InvalidValue(
            "arrays",
            "a file is compressed, so that a row has no place of its own in it",
            got=f"{path}",
            expected="an archive without compression",
            fix="Write it with numpy.savez instead of numpy.savez_compressed",
        )
    with path.open("rb") as file:
        try:
            file.seek(member.header_offset + 26)
            name, extra = np.frombuffer(file.read(4), "<u2")
            start = member.header_offset + 30 + int(name) + int(extra)
            file.seek(start)
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran, dtype = read(file)
            if dtype.hasobject:
                raise ValueError("it holds Python objects")
            place = file.tell()
            if place - start + math.prod(shape) * dtype.itemsize != member.file_size:
                raise ValueError(f"{member.filename} is not as long as its header says")
            return np.memmap(path, dtype, "r", place, shape, "F" if fortran else "C")
        except HEADER_ERRORS as error:
            raise corrupt("arrays", path, error) from None
