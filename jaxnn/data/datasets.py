"""Built-in datasets: digits (part of the package), MNIST and tiny Shakespeare.

Image datasets are dicts of NumPy arrays with the fields `inputs` (uint8) and `labels` (int32). Text
is one string. The files are located as follows:

- `digits` reads a file of the package, and needs no network.
- The others read only the folder named by the environment variable `JAXNN_DATA`, if it is set.
  Otherwise they read a cache, which pooch fills from the first mirror that has the file.

The sha256 of the *uncompressed* content of each downloaded file is verified, so that training never
uses a wrong, truncated or corrupt file. Such a file raises an error if it is in your folder, and is
downloaded again if it is in the cache.

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
    """A file that can be downloaded.

    Attributes:
      digest: the sha256 of the uncompressed content, in hexadecimal.
      mirrors: the URLs of the file, in the order in which they are tried.
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
"""The files that can be downloaded, by their path in the data folder and in the cache."""


def digits() -> dict[str, np.ndarray]:
    """Returns the UCI handwritten digits: 1,797 small images of 0 to 9, from 13 writers.

    Each pixel counts the ink in a 4x4 block of a 32x32 bitmap, so values range from 0 to 16, not
    255. This is the test part of the original dataset, the same as in scikit-learn.

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
      Two dicts with `inputs` uint8 [60000, 28, 28] or [10000, 28, 28], from 0 to 255 (full ink),
      and `labels` int32 [60000] or [10000].

    Raises:
      InvalidValue: if a file cannot be read or downloaded, or its content is wrong.

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
    """Returns tiny Shakespeare: 1,115,394 characters of the plays, of which 65 are distinct.

    Raises:
      InvalidValue: if the file cannot be read or downloaded, or its content is wrong.

    Source: Karpathy, The Unreasonable Effectiveness of Recurrent Neural Networks, 2015,
    https://github.com/karpathy/char-rnn; the plays themselves are in the public domain.
    """
    return _content("tiny_shakespeare", "tinyshakespeare.txt").decode("utf-8")


def read_idx(content: bytes, name: str, *, axes: int) -> np.ndarray:
    """Decodes an IDX file of unsigned bytes, the format of MNIST and similar datasets.

    An IDX file consists of the bytes 0, 0, 8 (for uint8), the number of axes, the length of each
    axis as a big-endian uint32, and the values in row-major order.

    Args:
      content: the uncompressed content of the file.
      name: the name of the file in error messages.
      axes: the expected number of axes: 3 for images, 1 for labels.

    Raises:
      InvalidValue: if the first four bytes, the header or the length are wrong.

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
    """Returns the verified, uncompressed content of a file in `FILES`."""
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
    """Downloads a file from the first mirror with the right content, and stores it in the cache."""
    import pooch

    # pooch.retrieve logs, and checks the digest of the compressed file, which differs between
    # mirrors; so only the downloader is used.
    download = pooch.HTTPDownloader(chunk_size=1 << 16, timeout=TIMEOUT)
    failures: list[str] = []
    for url in FILES[name].mirrors:
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            # In the same directory, so that the rename stays on one disk and is atomic.
            with tempfile.TemporaryDirectory(prefix="download-", dir=cached.parent) as folder:
                arrived = Path(folder) / cached.name
                download(url, str(arrived), None)
                content = _verified(arrived, FILES[name].digest)
                os.replace(arrived, cached)
                return content
        except (OSError, _Corrupt) as error:  # errors of requests are OSErrors too
            failures.append(f"{url} ({_reason(error)})")
    raise InvalidValue(
        where,
        f"{name} could not be downloaded",
        got="; ".join(failures),
        expected=f"content of sha256 {FILES[name].digest}, uncompressed, from one of them",
        fix=f"Check the connection, or set {FOLDER_VARIABLE} to a folder that holds {name}",
    )


class _Corrupt(Exception):
    """The content of a file has the wrong digest, or cannot be uncompressed."""


def _verified(path: Path, digest: str) -> bytes:
    """Returns the uncompressed content of a file; raises `_Corrupt` if its digest differs."""
    content = path.read_bytes()
    # The content decides, not the name: a server may uncompress the file in transit.
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
    # Errors of connections are very long; the first words suffice.
    return shorten(f"{kind}{getattr(error, 'strerror', None) or error}", 120, placeholder=" ...")
