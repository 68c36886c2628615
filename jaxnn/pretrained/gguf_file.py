"""Reads GGUF files, the format of llama.cpp, which holds settings and often quantized weights.

A file has the number of tensors and of settings, then each setting with its type, then each
tensor with its shape, type and offset, then the data. Quantized tensors are dequantized when they
are read, to the values that llama.cpp computes with. Source:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import math
import struct
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.pretrained.packages import package
from jaxnn.pretrained.stored import Stored, check_is_data, check_shape, corrupt, map_file
from jaxnn.typing import Any

_NUMBERS: dict[int, str] = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd"))
_TEXT, _LIST = 8, 9
_PLAIN = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 30: np.dtype(jnp.bfloat16)}  # F32, F16, BF16


class _Cursor:
    """Reads a file sequentially, and raises if the file ends too early."""

    def __init__(self, path: Path, data: np.ndarray):
        self.path, self.data, self.place = path, data, 0

    def take(self, count: int, what: str) -> bytes:
        if count > len(self.data) - self.place:
            left = len(self.data) - self.place
            raise corrupt(self.path, f"it ends within {what}", f"{left} bytes", f"{count} bytes")
        self.place += count
        return self.data[self.place - count : self.place].tobytes()

    def number(self, kind: int, what: str) -> Any:
        (value,) = struct.unpack("<" + _NUMBERS[kind], self.take(_SIZES[kind], what))
        return value

    def text(self, what: str) -> str:
        return self.take(self.number(10, what), what).decode(errors="replace")

    def value(self, kind: int, what: str) -> Any:
        """Reads a value of the given type: a number, a string, or a list of either."""
        if kind in _NUMBERS:
            return self.number(kind, what)
        if kind == _TEXT:
            return self.text(what)
        if kind != _LIST:
            raise corrupt(self.path, f"{what} has an unknown type", str(kind), "0 to 12")
        kind, count = self.number(4, what), self.number(10, what)
        if kind in _NUMBERS:
            numbers = self.take(min(count, 2**62) * _SIZES[kind], what)
            return np.frombuffer(numbers, "<" + _NUMBERS[kind]).tolist()
        if kind != _TEXT:
            raise corrupt(self.path, f"{what} is a list of lists", f"type {kind}", "one level")
        if count > (len(self.data) - self.place) // 8:
            raise corrupt(self.path, f"it ends within {what}", f"{count} texts", "fewer")
        return [self.text(what) for _ in range(count)]


_SIZES = {kind: struct.calcsize("<" + letter) for kind, letter in _NUMBERS.items()}


class Gguf(NamedTuple):
    """The contents of a GGUF file: its settings, and its tensors by name."""

    settings: dict[str, Any]
    tensors: dict[str, Stored]


def read_gguf(path: Path) -> Gguf:
    """Returns the settings and tensors of a GGUF file.

    Raises:
      InvalidValue: if the file does not follow the format, or if its version or the type of a
        tensor is not supported.
    """
    check_is_data(path)
    data = map_file(path)
    cursor = _Cursor(path, data)
    if (magic := cursor.take(4, "its first bytes")) != b"GGUF":
        raise corrupt(path, "it does not begin with the GGUF magic", repr(magic), "b'GGUF'")
    if (version := cursor.number(4, "its version")) not in (2, 3):
        raise corrupt(path, "its version is unknown", f"version {version}", "2 or 3")
    tensors, count = cursor.number(10, "its counts"), cursor.number(10, "its counts")
    if tensors + count > len(data) // 12:  # an entry takes at least 12 bytes
        raise corrupt(path, "its counts exceed its size", f"{tensors}, {count}", "fewer")
    settings = {}
    for _ in range(count):
        name = cursor.text("a setting")
        if name in settings:
            raise corrupt(path, f"the setting {name[:80]} is repeated", "two", "one")
        settings[name] = cursor.value(cursor.number(4, name), name)
    fields = {}
    for _ in range(tensors):
        name = cursor.text("the names of tensors")
        if name in fields:
            raise corrupt(path, f"the tensor {name[:80]} is repeated", "two", "one")
        rank = cursor.number(4, name)
        if rank > 8:
            raise corrupt(path, f"{name} has too many axes", str(rank), "at most 8")
        shape = check_shape(path, name, [cursor.number(10, name) for _ in range(rank)][::-1])
        fields[name] = shape, cursor.number(4, name), cursor.number(10, name)
    alignment = settings.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 2**20:
        raise corrupt(path, "its alignment is not valid", repr(alignment), "32")
    start = -(-cursor.place // alignment) * alignment
    return Gguf(settings, _tensors(path, data, start, fields))


def _tensors(path: Path, data: np.ndarray, start: int, fields: dict[str, Any]) -> dict[str, Stored]:
    tensors, end = {}, 0
    for name, (shape, kind, offset) in sorted(fields.items(), key=lambda item: item[1][2]):
        size = _bytes(path, name, shape, kind)
        if offset < end:
            raise corrupt(path, f"{name} overlaps another tensor", f"{offset}", f"{end} or more")
        end = offset + size
        if end > len(data) - start:
            got = f"{len(data)} bytes"
            raise corrupt(path, f"it ends within {name}", got, f"{start + end} bytes")
        part = data[start + offset : start + end]
        dtype = _PLAIN[kind] if kind in _PLAIN else np.dtype(np.float32)
        tensors[name] = Stored(shape, dtype, _reader(part, shape, kind), path)
    return {name: tensors[name] for name in fields}


def _bytes(path: Path, name: str, shape: tuple[int, ...], kind: int) -> int:
    if kind in _PLAIN:
        return math.prod(shape) * _PLAIN[kind].itemsize
    sizes = package("gguf", "quantized weights").GGML_QUANT_SIZES
    block, size = sizes.get(kind, (1, 0))
    if not size:
        raise corrupt(path, f"{name} has an unknown data type", str(kind), "a known one")
    try:
        _dequantized(np.zeros((1, size), np.uint8), kind)  # one block
    except NotImplementedError as error:
        raise InvalidValue(
            "pretrained.load",
            f"{name} has a data type that cannot be dequantized",
            got=str(error),
            expected="a type that the package gguf dequantizes, such as Q4_K or Q8_0",
            fix="Load the model in another quantization, or upgrade gguf",
        ) from None
    if not shape or shape[-1] % block:
        got = f"shape {shape}"
        raise corrupt(path, f"{name} does not consist of whole blocks", got, f"rows of {block}")
    return math.prod(shape) // block * size


def _reader(part: np.ndarray, shape: tuple[int, ...], kind: int) -> Any:
    def read() -> np.ndarray:
        if kind in _PLAIN:
            aligned = part if part.ctypes.data % _PLAIN[kind].itemsize == 0 else part.copy()
            return aligned.view(_PLAIN[kind]).reshape(shape)
        return _dequantized(part.reshape(*shape[:-1], -1), kind)

    return read


def _dequantized(rows: np.ndarray, kind: int) -> np.ndarray:
    quants = package("gguf.quants", "quantized weights")
    types = package("gguf", "quantized weights").GGMLQuantizationType
    return quants.dequantize(rows, types(kind)).astype(np.float32, copy=False)
