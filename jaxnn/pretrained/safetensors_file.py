"""Reads and writes safetensors files: a JSON header with the offset of each tensor, then the data.

A file consists of eight bytes with the length of the header, the header, and the data, in which
the tensors are contiguous. jaxnn has its own reader because the NumPy reader of the safetensors
package does not support bfloat16, and no reader memory-maps every dtype. Source:
https://github.com/huggingface/safetensors#format.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxnn.pretrained.json_source import parse_json
from jaxnn.pretrained.stored import Stored, check_is_data, check_shape, corrupt, map_file
from jaxnn.typing import Any

DTYPES = {
    "F64": jnp.float64, "F32": jnp.float32, "F16": jnp.float16, "BF16": jnp.bfloat16,
    "F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2,
    "I64": jnp.int64, "I32": jnp.int32, "I16": jnp.int16, "I8": jnp.int8,
    "U64": jnp.uint64, "U32": jnp.uint32, "U16": jnp.uint16, "U8": jnp.uint8, "BOOL": jnp.bool_,
}  # fmt: skip
NAMES = {jnp.dtype(dtype): name for name, dtype in DTYPES.items()}
MOST_HEADER = 100 * 2**20  # bytes; the reference reader has the same limit


def read_safetensors(
    path: Path, start: int = 0, size: int | None = None
) -> tuple[dict[str, Stored], dict[str, str]]:
    """Returns the tensors of a file by name, and the metadata in its header.

    Args:
      path: the file.
      start: the byte offset of the safetensors data, if they are part of a larger file.
      size: the number of bytes of that part. The default is the rest of the file.

    Raises:
      InvalidValue: if the file does not follow the format: a length exceeds the size of the file,
        tensors overlap or leave gaps, or a tensor's size does not match its shape.
    """
    check_is_data(path)
    size = path.stat().st_size - start if size is None else size
    if size < 8:
        raise corrupt(path, "it is too short", f"{size} bytes", "at least 8 bytes and a header")
    with path.open("rb") as file:
        file.seek(start)
        length = int.from_bytes(file.read(8), "little")
        if length > min(MOST_HEADER, size - 8):
            got = f"{length} bytes of header in a file of {size}"
            raise corrupt(path, "its header exceeds the file", got, f"at most {size - 8}")
        header = parse_json(path, file.read(length), "its header")
    about = header.pop("__metadata__", {})
    fields = {name: _field(path, name, entry) for name, entry in header.items()}
    end = 0
    for name, (_, _, begin, stop) in sorted(fields.items(), key=lambda item: item[1][2:]):
        if begin != end:
            raise corrupt(path, f"{name} overlaps another, or leaves a gap", f"{begin}", f"{end}")
        end = stop
    if end != size - 8 - length:
        got = f"{size - 8 - length} bytes of data"
        raise corrupt(path, "its data are too short or too long", got, f"{end} bytes")
    data = map_file(path)[start + 8 + length : start + size]
    tensors = {
        name: Stored(shape, dtype, _reader(data, shape, dtype, begin, stop), path)
        for name, (shape, dtype, begin, stop) in fields.items()
    }
    return tensors, about if isinstance(about, dict) else {}


def _field(path: Path, name: str, entry: Any) -> tuple[tuple[int, ...], Any, int, int]:
    if not isinstance(entry, dict) or entry.get("dtype") not in DTYPES:
        got = repr(entry)[:200]
        raise corrupt(path, f"{name} has no valid dtype", got, f"one of {', '.join(DTYPES)}")
    shape = check_shape(path, name, entry.get("shape"))
    dtype = jnp.dtype(DTYPES[entry["dtype"]])
    offsets = entry.get("data_offsets")
    if not isinstance(offsets, list) or [type(n) for n in offsets] != [int, int] or offsets[0] < 0:
        raise corrupt(path, f"{name} has no valid offsets", repr(offsets)[:200], "[begin, end]")
    begin, stop = offsets
    if stop - begin != math.prod(shape) * dtype.itemsize:
        got = f"{stop - begin} bytes"
        raise corrupt(
            path, f"the size of {name} does not match its shape", got, f"{shape} of {dtype}"
        )
    return shape, dtype, begin, stop


def _reader(data: np.ndarray, shape: tuple[int, ...], dtype: Any, begin: int, stop: int) -> Any:
    # Data that are not aligned to the size of their dtype are copied.
    def read() -> np.ndarray:
        part = data[begin:stop]
        if part.ctypes.data % jnp.dtype(dtype).itemsize:
            part = part.copy()
        return part.view(dtype).reshape(shape)

    return read


def write_safetensors(
    path: Path,
    forms: Mapping[str, tuple[tuple[int, ...], Any]],
    arrays: Iterator[np.ndarray],
    about: Mapping[str, str],
) -> None:
    """Writes the tensors `{name: (shape, dtype)}`; `arrays` yields their values in that order."""
    header: dict[str, Any] = {"__metadata__": dict(about)} if about else {}
    end = 0
    for name, (shape, dtype) in forms.items():
        begin, end = end, end + math.prod(shape) * jnp.dtype(dtype).itemsize
        header[name] = {
            "dtype": NAMES[jnp.dtype(dtype)],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # align the data to a multiple of 8 bytes
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array, (shape, dtype) in zip(arrays, forms.values(), strict=True):
            assert array.shape == shape and array.dtype == jnp.dtype(dtype)
            file.write(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
