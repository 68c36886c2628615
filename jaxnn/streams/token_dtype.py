"""Checks that a file of tokens holds 16-bit tokens if the caller does not say what it holds.

The file has no header, and any bytes can be read as 16-bit tokens. But wider tokens are below
2**18, since larger vocabularies are not in use. Then every other 16-bit number is at most 3, and
the others are larger. No 16-bit tokens are so. The check reads a few kilobytes.

>>> import tempfile
>>> path = Path(tempfile.mkdtemp()) / "train.bin"
>>> np.arange(5000, 5100, dtype=np.uint16).tofile(path)
>>> check_dtype(path)
>>> np.arange(5000, 5100, dtype=np.uint32).tofile(path)
>>> check_dtype(path)  # doctest: +ELLIPSIS
Traceback (most recent call last):
jaxnn.checks.InvalidValue: tokens: a file seems to hold something other than 16-bit tokens. Got ...
"""

from pathlib import Path

import numpy as np

from jaxnn.checks import InvalidValue

_WORD, _PIECE, _PIECES = 8, 1024, 16  # bytes of the widest dtype and of a piece; pieces to read
_COUNT = 32  # as many numbers of a sample do not have a pattern by chance
# The bound of the numbers in each dtype; the widest first, since it also has the pattern of others.
_BOUNDS = {"<i8": 2**18, ">i8": 2**18, "<u4": 2**18, ">u4": 2**18, ">u2": 2**8}
_TEXT = np.isin(np.arange(256), [9, 10, 13, *range(32, 127)])  # the bytes of ASCII text


def check_dtype(path: Path) -> None:
    """Raises `InvalidValue` if a file seems to hold something other than 16-bit tokens."""
    sample = _sample(path)
    content = np.frombuffer(sample, np.uint8)
    if sample.startswith(b"\x93NUMPY"):
        raise _other(path, "begins as a .npy file", f"Rename it to {path.stem}.npy")
    if len(content) >= 2 * _COUNT and _TEXT[content].all():
        raise _other(path, "holds text", "Encode the text, or pass dtype=np.uint8 to read bytes")
    for dtype, bound in _BOUNDS.items():
        numbers = content.view(dtype).astype(np.int64)
        if len(numbers) < _COUNT or not 0 <= numbers.min() <= numbers.max() < bound:
            continue
        upper, lower = numbers >> 16, numbers & 0xFFFF
        if (lower > upper.max()).sum() >= _COUNT:
            words = f"holds numbers up to {numbers.max()} if dtype={dtype!r}"
            fix = f"Pass dtype={dtype!r}, or dtype='<u2' if it does hold 16-bit tokens"
            raise _other(path, words, fix)


def _sample(path: Path) -> bytes:
    """Returns pieces of the file that begin at multiples of the size of the widest dtype."""
    size = path.stat().st_size // _WORD * _WORD
    last = max(0, size - _PIECE)
    places = {last * i // (_PIECES - 1) // _WORD * _WORD for i in range(_PIECES)}
    with path.open("rb") as file:
        return b"".join(_read(file, place, min(_PIECE, size)) for place in sorted(places))


def _read(file, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def _other(path: Path, what: str, fix: str) -> InvalidValue:
    return InvalidValue(
        "tokens",
        "a file seems to hold something other than 16-bit tokens",
        got=f"{path}, which {what}",
        expected="an array of np.uint16, written by tofile",
        fix=fix,
    )
