"""Tokens in binary files, in the format of nanoGPT: consecutive integers without a header.

>>> import tempfile
>>> path = Path(tempfile.mkdtemp()) / "train.bin"
>>> np.arange(10, dtype=np.uint16).tofile(path)
>>> source = tokens(path, 5, stride=2)
>>> len(source), source[2]["inputs"].tolist()
(3, [4, 5, 6, 7, 8])
"""

from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from jaxnn.checks import InvalidType, InvalidValue, positive_integer
from jaxnn.streams.files import Files, in_any_order, mapped
from jaxnn.streams.source import MOST, Rows, digest
from jaxnn.streams.token_dtype import check_dtype
from jaxnn.typing import Any


class Tokens(Rows):
    """Windows of the tokens of several files, which form one long sequence."""

    def __init__(self, files: Files, parts: list[np.ndarray], length: int, stride: int):
        self.files, self.parts, self.length, self.stride = files, parts, length, stride
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return 1 + (int(self._starts[-1]) - self.length) // self.stride

    def rows(self, index: np.ndarray) -> dict[str, Any]:
        """Returns the windows with the given indices, `{"inputs": [windows, length]}`."""
        starts = np.asarray(index) * self.stride
        which = np.searchsorted(self._starts, starts, "right") - 1
        inside = starts + self.length <= self._starts[which + 1]
        if inside.all() and (which == which[0]).all():
            return {"inputs": self._inside(int(which[0]), starts)}
        inputs = np.empty((len(starts), self.length), self.parts[0].dtype)
        for number in np.unique(which[inside]):
            mine = np.flatnonzero(inside & (which == number))
            inputs[mine] = self._inside(int(number), starts[mine])
        for row in np.flatnonzero(~inside):
            number = which[row]
            place, done = starts[row] - self._starts[number], 0
            while done < self.length:  # the window extends into the next file
                piece = self.parts[number][place : place + self.length - done]
                inputs[row, done : done + len(piece)] = piece
                done, number, place = done + len(piece), number + 1, 0
        return {"inputs": inputs}

    def _inside(self, number: int, starts: np.ndarray) -> np.ndarray:
        """Returns windows within one file by a single gather, 4 times as fast as a loop."""
        windows = sliding_window_view(np.asarray(self.parts[number]), self.length)
        return windows[starts - self._starts[number]]

    def place(self, index: int) -> str:
        """Returns a description of the file and token at which a window begins."""
        start = index * self.stride
        number = int(np.searchsorted(self._starts, start, "right")) - 1
        return f"from token {start - self._starts[number]} of {self.files.paths[number]}"

    def fingerprint(self) -> str:
        """Returns a digest of the files, the dtype, and the length and stride of the windows."""
        return digest(self.files.fingerprint(), self.parts[0].dtype.str, self.length, self.stride)

    def __repr__(self) -> str:
        count, files = int(self._starts[-1]), len(self.parts)
        return (
            f"Tokens({count:,} in {files} file{'s' * (files > 1)}: {len(self):,} windows of"
            f" {self.length})"
        )


def tokens(paths: Any, length: int, *, stride: int | None = None, dtype: Any = None) -> Tokens:
    """Opens files of tokens as a source of windows; tokens are read on demand.

    Args:
      paths: a file, a folder, a pattern with `*`, or a list of them. `.bin` files hold only the
        tokens, `.npy` files an array `[time]`.
      length: the number of tokens in a window; `context + 1` for next-token prediction.
      stride: the distance between the starts of consecutive windows; use `context` to evaluate each
        token once. By default 1, or the smallest stride with fewer than 2**31 windows.
      dtype: the dtype of the tokens in `.bin` files. The default is uint16, and an error if a file
        seems to hold another dtype.

    Returns:
      A source whose examples are `{"inputs": [length]}`.

    Raises:
      InvalidValue: if there are no files, a file cannot be read, ends within a token or looks like
        another dtype, or a window does not fit.
      InvalidType: if dtypes differ, or a `.npy` file is not an array `[time]` of integers.
    """
    positive_integer("tokens", "length", length)
    if stride is not None:
        positive_integer("tokens", "stride", stride)
    files = Files("tokens", paths, (".bin", ".npy"))
    parts = [in_any_order(_opened(path, dtype)) for path in files.paths]
    if len({part.dtype for part in parts}) > 1:
        kinds = [f"{path.name} {part.dtype}" for path, part in zip(files.paths, parts)]
        raise InvalidType(
            "tokens",
            "the files hold tokens of different dtypes",
            got=", ".join(kinds[:4]),
            expected="one dtype",
            fix="Write them again with the same tokenizer",
        )
    total = sum(map(len, parts))
    if total < length:
        raise InvalidValue(
            "tokens",
            "the files hold fewer tokens than a window",
            got=f"{total} tokens and length={length}",
            expected=f"at least {length}",
            fix="Name more files, or pass a shorter length",
        )
    stride = -(-total // (MOST - 1)) if stride is None else int(stride)
    return Tokens(files, parts, int(length), stride)


def _opened(path: Path, dtype: Any) -> np.ndarray:
    if path.suffix == ".npy":
        array = mapped("tokens", path)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise InvalidType(
                "tokens",
                "a file does not hold tokens",
                got=f"{path} with {array.dtype}{list(array.shape)}",
                expected="whole numbers [time]",
                fix="Save the tokens as one array of one axis",
            )
        return array
    given, dtype = dtype, np.dtype(np.uint16 if dtype is None else dtype)
    if dtype.kind not in "iu":
        raise InvalidType(
            "tokens",
            "the dtype of tokens is not one of integers",
            got=f"dtype={dtype.name}",
            expected="np.uint16, np.uint32 or another dtype of integers",
            fix="Pass the dtype that the files were written in",
        )
    size = path.stat().st_size
    if size == 0 or size % dtype.itemsize:
        raise InvalidValue(
            "tokens",
            "a file is empty" if not size else "a file ends within a token",
            got=f"{path} of {size} bytes",
            expected=f"a multiple of {dtype.itemsize} bytes, those of a token in {dtype}",
            fix="Write it again, or pass the dtype that it was written in",
        )
    if given is None:
        check_dtype(path)
    return np.memmap(path, dtype, "r")
