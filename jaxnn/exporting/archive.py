"""The model file: a zip archive of uncompressed entries, each with a digest.

An uncompressed entry can be memory-mapped, so that parameters are read on first use, and its
declared size cannot exceed the size of the file. Only the entry names listed here are allowed. The
comment of the archive contains the sha256 of `model.json`, which contains those of other entries.
"""

import hashlib
import os
import re
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.exporting.description import FORMAT, CorruptModel
from jaxnn.names import named_leaves
from jaxnn.pretrained.safetensors_file import read_safetensors, write_safetensors
from jaxnn.storage import files, json_files
from jaxnn.typing import Any

MODEL, PARAMS, PROGRAM = "model.json", "params.safetensors", "program.stablehlo"
EXAMPLES, TOKENIZER = "examples.safetensors", "tokenizer.json"
# The optional programs of a model; see `Model.layers` and `Model.writer`.
MORE = {"layers": "layers.stablehlo", "writer": "writer.stablehlo"}
REQUIRED = (MODEL, PARAMS, PROGRAM, EXAMPLES)
ENTRIES = (*REQUIRED, TOKENIZER, *MORE.values())
MOST_JSON = 64 << 20  # maximum size of model.json in bytes
MOST_CODE = 1 << 30  # maximum size of a program or tokenizer in bytes
ALIGNED = 64  # alignment of the content of each entry in bytes
_COMMENT = re.compile(rb"jaxnn model (\d{1,6})\nsha256 ([0-9a-f]{64})\n")
_DATE = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that equal models give identical files


Entry = bytes | Mapping[str, np.ndarray]
"""The content of an entry: its bytes, or arrays by name."""


class Place(NamedTuple):
    """The position of an entry in the file, in bytes."""

    start: int
    size: int


def write(path: Path, content: Mapping[str, Any], entries: Mapping[str, Entry]) -> None:
    """Writes a model file atomically.

    Args:
      path: the file to write; an existing file is replaced.
      content: the content of `model.json`, without the digests.
      entries: the other entries by name, each as bytes or as a dict of arrays.

    Raises:
      OSError: if the file cannot be written.
    """
    folder = path.parent
    with tempfile.TemporaryDirectory(dir=folder, prefix=files.DRAFT) as draft:
        parts = {name: _draft(Path(draft) / name, entry) for name, entry in entries.items()}
        digests = {name: files.digest(part)[1] for name, part in parts.items()}
        text = json_files.encode({**content, "digests": digests}, indent=1)
        (Path(draft) / MODEL).write_bytes(text)
        whole = Path(draft) / "model.zip"
        with zipfile.ZipFile(whole, "x", zipfile.ZIP_STORED, allowZip64=True) as archive:
            archive.comment = f"jaxnn model {FORMAT}\nsha256 {_sha256(text)}\n".encode()
            for name in (MODEL, *parts):
                _append(archive, name, Path(draft) / name)
        files.force(whole)
        files.rename(whole, path)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays to a safetensors file atomically.

    Raises:
      OSError: if the file cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=files.DRAFT) as draft:
        whole = _draft(Path(draft) / path.name, arrays)
        files.force(whole)
        files.rename(whole, path)


def _draft(path: Path, entry: Entry) -> Path:
    if isinstance(entry, bytes):
        path.write_bytes(entry)
        return path
    forms = {name: (array.shape, array.dtype) for name, array in entry.items()}
    write_safetensors(path, forms, map(np.asarray, entry.values()), {})
    return path


def _append(archive: zipfile.ZipFile, name: str, part: Path) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.external_attr = 0o644 << 16
    # An extra field of zeros aligns the content to a multiple of `ALIGNED`.
    size = part.stat().st_size
    large = size * 1.05 > zipfile.ZIP64_LIMIT  # the rule of zipfile; sizes then take 20 more bytes
    begin = archive.fp.tell() + 30 + len(name) + 4 + 20 * large  # pyright: ignore
    padding = -begin % ALIGNED
    info.extra = struct.pack("<HH", 0x4A4E, padding) + bytes(padding)
    info.file_size = size
    with archive.open(info, "w") as out, part.open("rb") as source:
        while block := source.read(1 << 20):
            out.write(block)


class Archive:
    """A model file opened for reading, whose structure and digests have been checked.

    Attributes:
      path: the path of the file.
      content: the content of `model.json`.
      places: the position of each entry, by name.
    """

    def __init__(self, path: Path):
        self.path = path
        self.places = self._check_zip()
        text = self.read(MODEL, MOST_JSON)
        match = _COMMENT.fullmatch(self._comment)
        if match is None:
            raise self.corrupt("it has no digest", repr(self._comment[:60]), "one in its comment")
        if int(match[1]) > FORMAT:
            raise InvalidValue(
                "load_model",
                f"{path} is of a newer format than this version of jaxnn reads",
                got=f"format {int(match[1])}",
                expected=f"format {FORMAT} at most",
                fix="Update jaxnn: pip install -U jaxnn-toolkit",
            )
        if _sha256(text) != match[2].decode():
            expected = f"{match[2][:8].decode()}..."
            raise self.corrupt(f"{MODEL} is not what was written", "another digest", expected)
        try:
            self.content = json_files.decode(text)
            if not isinstance(self.content, dict):
                raise ValueError(f"a {type(self.content).__name__}")
        except ValueError as error:
            raise self.corrupt(f"{MODEL} cannot be read", str(error), "a JSON object") from None
        self._check_digests()

    def corrupt(self, wrong: str, got: str, expected: str) -> CorruptModel:
        """Returns a `CorruptModel` error for this file."""
        return CorruptModel(
            "load_model",
            f"{self.path} is corrupt: {wrong}",
            got=got,
            expected=expected,
            fix="Copy it again from where it was written, or export the run again",
        )

    def read(self, name: str, at_most: int = MOST_CODE) -> bytes:
        """Returns the content of an entry as bytes."""
        place = self.places[name]
        if place.size > at_most:
            raise self.corrupt(f"{name} is too large", f"{place.size:,} bytes", f"{at_most:,}")
        with files.open_regular(self.path) as file:
            file.seek(place.start)
            return file.read(place.size)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Returns the arrays of an entry by name; each is read on first use."""
        try:
            tensors, _ = read_safetensors(self.path, *self.places[name])
        except ValueError as error:
            raise self.corrupt(f"{name} cannot be read", str(error), "safetensors") from None
        return {name: tensor.read() for name, tensor in tensors.items()}

    def _check_zip(self) -> dict[str, Place]:
        """Returns the entry positions; raises if an entry is compressed, unknown or overlaps."""
        try:
            with files.open_regular(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                with zipfile.ZipFile(file) as archive:
                    infos, self._comment = archive.infolist(), archive.comment
                if len(infos) > len(ENTRIES):
                    raise ValueError(f"{len(infos)} entries")
                places = [(info.filename, self._place(file, info)) for info in infos]
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            got = str(error) or type(error).__name__
            raise self.corrupt("it is no model file", got, "a zip that jaxnn wrote") from None
        end = 0
        for name, place in sorted(places, key=lambda item: item[1].start):
            if name not in ENTRIES:
                raise self.corrupt("it has an entry that does not belong there", repr(name[:80]),
                                   ", ".join(ENTRIES))  # fmt: skip
            if place.start < end or place.start + place.size > size:
                got = f"bytes {place.start} to {place.start + place.size} of {size}"
                raise self.corrupt(f"{name} overlaps another entry", got, "one behind the other")
            end = place.start + place.size
        names = [name for name, _ in places]
        if len(set(names)) < len(names) or not set(REQUIRED) <= set(names):
            raise self.corrupt("entries are missing, or there twice", ", ".join(names) or "none",
                               ", ".join(REQUIRED))  # fmt: skip
        return dict(places)

    def _place(self, file: BufferedReader, info: zipfile.ZipInfo) -> Place:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ValueError(f"{info.filename[:80]!r} is compressed or encrypted")
        if info.compress_size != info.file_size:
            raise ValueError(f"{info.filename[:80]!r} has two sizes")
        file.seek(info.header_offset)
        header = file.read(30)
        if len(header) < 30 or header[:4] != b"PK\3\4":
            raise ValueError(f"{info.filename[:80]!r} is not where it should be")
        name, extra = struct.unpack("<HH", header[26:])
        return Place(info.header_offset + 30 + name + extra, info.file_size)

    def _check_digests(self) -> None:
        digests = self.content.get("digests")
        others = sorted(set(self.places) - {MODEL})
        if not isinstance(digests, dict) or sorted(digests) != others:
            raise self.corrupt("its digests are not those of its entries", str(digests)[:80],
                               ", ".join(others))  # fmt: skip
        for name in others:
            start, size = self.places[name]
            digest = hashlib.sha256()
            with files.open_regular(self.path) as file:
                file.seek(start)
                while size and (block := file.read(min(size, 1 << 20))):
                    digest.update(block)
                    size -= len(block)
            if digest.hexdigest() != digests[name]:
                got = f"sha256 {digest.hexdigest()[:8]}..."
                raise self.corrupt(f"{name} is not what was written", got,
                                   f"{str(digests[name])[:8]}...")  # fmt: skip


def arrays_of(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    """Returns the leaves of a tree as arrays by name; `{"inputs": ...}` for a single array."""
    return dict(zip(names_of(tree, prefix), map(np.asarray, named_leaves(tree).values())))


def names_of(tree: Any, prefix: str) -> list[str]:
    """Returns the names of the leaves of a tree, each with the prefix."""
    return [f"{prefix}/{name}".rstrip("/") for name in named_leaves(tree)]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
