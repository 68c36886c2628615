"""The three data sets at hand: digits (inside the package), MNIST and tiny Shakespeare.

Images come as a dict of NumPy arrays with the reserved fields `inputs` and `labels`, in their
storage dtype (uint8); text comes as one string. Where the bytes come from:

- `digits` needs no network: its file is part of the package.
- The others read the folder named by the environment variable `JAXNN_DATA` where it is set, and
  nothing else then; otherwise a cache, which pooch fills from the first mirror that answers.

Whatever is read is first checked against the sha256 of its *uncompressed* content, so a wrong,
cut or corrupt file is never trained on: it is an error in your folder, and fetched again in
the cache.

    >>> digits()["inputs"].shape
    (1797, 8, 8)
"""

import contextlib
import gzip
import hashlib
import math
import os
import tempfile
import zlib
from importlib import resources
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

import numpy as np

from jaxnn.checks import InvalidValue

FOLDER_VARIABLE = "JAXNN_DATA"
TIMEOUT = 30  # seconds without a byte before the next mirror is tried


class File(NamedTuple):
    """One file that can be downloaded.

    Attributes:
      digest: the sha256 of its uncompressed content, in hexadecimal.
      mirrors: where it lies, in the order in which they are tried.
    """

    digest: str
    mirrors: tuple[str, ...]


_MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
_MNIST_DIGESTS = {
    "train-images-idx3": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

FILES: dict[str, File] = {
    f"mnist/{stem}-ubyte.gz": File(
        digest, tuple(f"{mirror}{stem}-ubyte.gz" for mirror in _MNIST_MIRRORS)
    )
    for stem, digest in _MNIST_DIGESTS.items()
} | {
    "tinyshakespeare.txt": File(
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        (
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
            "input.txt",
            "https://cdn.jsdelivr.net/gh/karpathy/char-rnn@6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/"
            "data/tinyshakespeare/input.txt",
        ),
    )
}
"""Every file that can be downloaded, by its path in the data folder and in the cache."""


def digits() -> dict[str, np.ndarray]:
    """Returns the UCI handwritten digits: 1,797 small images of 0 to 9, from 13 writers.

    Each image counts the ink in 4x4 blocks of a 32x32 bitmap, so pixels run from 0 to 16 (not
    255). This is the test part of the original set, as scikit-learn has it.

    Returns:
      `inputs` uint8 [1797, 8, 8] and `labels` int32 [1797].

    Example:
      >>> digits()["labels"][:10].tolist()
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

    Source: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0.
    """
    with resources.files("jaxnn.data").joinpath("digits.npz").open("rb") as stream:
        with np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("inputs", "labels")}


def mnist() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns MNIST, handwritten digits of 28x28 pixels, as `(train, test)`.

    Returns:
      Two dicts: `inputs` uint8 [60000, 28, 28] and [10000, 28, 28], values 0 to 255, ink high;
      `labels` int32 [60000] and [10000].

    Raises:
      InvalidValue: if a file cannot be had, or is not what it should be.

    Source: LeCun, Cortes & Burges, The MNIST database of handwritten digits, 1998,
    https://yann.lecun.com/exdb/mnist/.
    """

    def part(prefix: str) -> dict[str, np.ndarray]:
        images = f"mnist/{prefix}-images-idx3-ubyte.gz"
        labels = f"mnist/{prefix}-labels-idx1-ubyte.gz"
        return {
            "inputs": read_idx(_content("mnist", images), images, axes=3),
            "labels": read_idx(_content("mnist", labels), labels, axes=1).astype(np.int32),
        }

    return part("train"), part("t10k")


def tiny_shakespeare() -> str:
    """Returns tiny Shakespeare: 1,115,394 characters of the plays, 65 different ones.

    Raises:
      InvalidValue: if the file cannot be had, or is not what it should be.

    Source: Karpathy, The Unreasonable Effectiveness of Recurrent Neural Networks, 2015,
    https://github.com/karpathy/char-rnn; the plays themselves are in the public domain.
    """
    return _content("tiny_shakespeare", "tinyshakespeare.txt").decode("utf-8")


def read_idx(content: bytes, name: str, *, axes: int) -> np.ndarray:
    """Returns the array in an IDX file of unsigned bytes, the format of MNIST and its kin.

    An IDX file is the bytes 0, 0, 8 (for uint8), the number of axes, then each axis's length
    as a big-endian uint32, then the values, last axis fastest.

    Args:
      content: the uncompressed file.
      name: what errors call it.
      axes: how many axes there must be: 3 for images, 1 for labels.

    Raises:
      InvalidValue: if the first four bytes, the header or the length are not as they should be.

    Example:
      >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]), "labels", axes=1).tolist()
      [5, 0, 4]
    """
    magic, start = bytes([0, 0, 8, axes]), 4 + 4 * axes
    if content[:4] != magic or len(content) < start:
        raise InvalidValue(
            "read_idx",
            f"{name} does not start like an IDX file of {axes} axes",
            got=f"{len(content)} bytes, the first being {content[:4].hex(' ')}",
            expected=f"at least {start} bytes, the first being {magic.hex(' ')}",
            fix=f"Fetch {name} again, and uncompress it before reading",
        )
    shape = tuple(np.frombuffer(content, ">u4", axes, offset=4).tolist())
    if len(content) - start != math.prod(shape):
        raise InvalidValue(
            "read_idx",
            f"{name} has the wrong length",
            got=f"{len(content) - start} values after the header",
            expected=f"{math.prod(shape)}, for the shape {shape} in its header",
            fix=f"Fetch {name} again: it was cut or corrupted",
        )
    # Copied, because an array over bytes is read-only.
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _content(where: str, name: str) -> bytes:
    """Returns the verified, uncompressed content of the file `name` of `FILES`."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        return _from_folder(where, name, Path(folder).expanduser())
    import pooch

    cached = Path(pooch.os_cache("jaxnn")) / name
    try:
        return _verified(cached, FILES[name].digest)
    except OSError:
        pass
    except _Corrupt:
        with contextlib.suppress(OSError):
            cached.unlink()
    return _download(where, name, cached)


def _from_folder(where: str, name: str, folder: Path) -> bytes:
    fix = f"unset {FOLDER_VARIABLE} to have it downloaded"
    try:
        return _verified(folder / name, FILES[name].digest)
    except OSError as error:
        raise InvalidValue(
            where,
            f"{name} cannot be read",
            got=f"{FOLDER_VARIABLE}={folder} ({_reason(error)})",
            expected=f"a folder that holds {name}",
            fix=f"Put {name} into {folder}, or {fix}",
        ) from error
    except _Corrupt as error:
        raise InvalidValue(
            where,
            f"{name} is not the file it should be",
            got=f"{folder / name} ({_reason(error)})",
            expected=f"content of sha256 {FILES[name].digest}, uncompressed",
            fix=f"Replace {folder / name}, or {fix}",
        ) from error


def _download(where: str, name: str, cached: Path) -> bytes:
    """Returns the content from the first mirror that has it whole, and leaves it in the cache."""
    import pooch

    # The downloader alone, without pooch.retrieve: that one logs, and would check the digest of
    # the compressed file, which differs from mirror to mirror.
    download = pooch.HTTPDownloader(chunk_size=1 << 16, timeout=TIMEOUT)
    failures: list[str] = []
    for url in FILES[name].mirrors:
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            # Beside its final place, so that the rename stays on one disk and is atomic.
            with tempfile.TemporaryDirectory(prefix="download-", dir=cached.parent) as folder:
                arrived = Path(folder) / cached.name
                download(url, str(arrived), None)
                content = _verified(arrived, FILES[name].digest)
                os.replace(arrived, cached)
                return content
        except (OSError, _Corrupt) as error:  # requests' errors are OSErrors too
            failures.append(f"{url} ({_reason(error)})")
    raise InvalidValue(
        where,
        f"{name} could not be downloaded",
        got="; ".join(failures),
        expected=f"content of sha256 {FILES[name].digest}, uncompressed, from one of them",
        fix=f"Check the connection, or set {FOLDER_VARIABLE} to a folder that holds {name}",
    )


class _Corrupt(Exception):
    """A file's content is not what was asked for."""


def _verified(path: Path, digest: str) -> bytes:
    """Returns the uncompressed content of the file; raises `_Corrupt` unless it has the digest."""
    content = path.read_bytes()
    # By its content, not its name: a server may uncompress on the way.
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _Corrupt(f"corrupt gzip file: {error}") from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != digest:
        raise _Corrupt(f"sha256 {actual}, {len(content)} bytes")
    return content


def _reason(error: Exception) -> str:
    kind = f"{type(error).__name__}: " if isinstance(error, OSError) else ""
    # The first words say it; a connection's error fills half a screen.
    return shorten(f"{kind}{getattr(error, 'strerror', None) or error}", 120, placeholder=" ...")
