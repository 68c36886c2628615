"""The manifest of a checkpoint: a description of every array, with digests to detect corruption.

It contains the sha256 of each array's bytes in memory, so that no storage error is missed, the
sha256 of each file, and the sha256 of the manifest itself. Its content is used only after these
are verified, and no name in it determines where anything is written.

In format 2, arrays are in parts (see `shards`). In format 3, some of them are in the base of the
run (see `frozen`). In format 1, and for the other arrays of some older checkpoints of format 3,
arrays are whole, as written by Orbax (see `engine`).
"""

import functools
import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import Explained, InvalidType, InvalidValue
from jaxnn.storage import files
from jaxnn.storage.json_files import decode, encode
from jaxnn.storage.parts import Shard, check_parts, check_whole_files, from_json, num_bytes, put

FORMAT = 3
FILE = "manifest.json"
FOLDER = "base"  # beside the checkpoints
_PARSE_ERRORS = (ValueError, TypeError, KeyError, AttributeError)
_DTYPES = frozenset(
    "bool int4 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bfloat16 float16 float32"
    " float64 complex64 complex128 float8_e4m3fn float8_e5m2".split()
)
_KEYS = ("threefry2x32", "rbg", "unsafe_rbg")
# The fields in addition to arrays and files.
_FIELDS = {
    "format": int,
    "step": int,
    "rows": int,
    "seconds": float,
    "value": float | None,
    "config": dict,
    "identity": dict,
    "environment": dict,
    "eval_path": str,
}


class CorruptCheckpoint(Explained):
    """A checkpoint is corrupt; it is quarantined, and an older one is used."""


@dataclass(frozen=True)
class Leaf:
    """An array of a checkpoint.

    Attributes:
      name: its path in the tree, such as `state/params/hidden_1/weight`.
      dtype: the dtype of the stored array; unsigned integers for PRNG keys.
      shape: the shape of the stored array; PRNG keys have an additional axis of words.
      keys: the implementation of PRNG keys, such as `threefry2x32`; else `None`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    keys: str | None = None

    @property
    def size(self) -> int:
        """The number of bytes."""
        return num_bytes(self.shape, self.dtype)

    @property
    def is_storable(self) -> bool:
        """Whether a checkpoint can hold arrays of this dtype."""
        return self.dtype in _DTYPES and self.keys in (None, *_KEYS)

    def __str__(self) -> str:
        return f"{self.keys + ' keys as ' if self.keys else ''}{self.dtype}{list(self.shape)}"


def leaves_of(tree: Any) -> list[Leaf]:
    """Returns the descriptions of the arrays in a tree of arrays or shapes."""

    def leaf(path, array):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            data = jax.eval_shape(jax.random.key_data, array)
            return Leaf(name, str(data.dtype), data.shape, _impl(array.dtype))
        return Leaf(name, str(array.dtype), tuple(array.shape))

    return [leaf(path, array) for path, array in jax.tree.leaves_with_path(tree)]


@functools.cache
def _impl(dtype: Any) -> str:
    for impl in _KEYS:
        if jax.eval_shape(lambda i=impl: jax.random.key(0, impl=i)).dtype == dtype:
            return impl
    return str(dtype)


def unflatten(like: Any, arrays: Mapping[str, Any]) -> Any:
    """Returns arrays by name in a tree with the structure of `like`, with typed PRNG keys."""
    places = shardings_of(like)

    def array(leaf):
        if _is_absent(leaf, arrays):
            return put(np.zeros(leaf.shape, leaf.dtype), places[leaf.name])
        saved = arrays[leaf.name]
        return jax.random.wrap_key_data(jnp.asarray(saved), impl=leaf.keys) if leaf.keys else saved

    return jax.tree.unflatten(jax.tree.structure(like), map(array, leaves_of(like)))


def shardings_of(like: Any) -> dict[str, Any]:
    """Returns the sharding of each array in `like` by its name; `None` means the host."""
    leaves = jax.tree.leaves(like)
    places = (x.sharding if isinstance(x, jax.ShapeDtypeStruct) else None for x in leaves)
    return {leaf.name: place for leaf, place in zip(leaves_of(like), places)}


def _is_absent(leaf: Leaf, names: Container[str]) -> bool:
    """Returns whether a leaf is absent since an older jaxnn did not save compensations; it is 0."""
    return "/compensation" in leaf.name and leaf.name not in names


def check_dtypes(leaves: Sequence[Leaf]) -> None:
    """Raises `InvalidType` unless a checkpoint can hold arrays of these dtypes."""
    for leaf in leaves:
        if not leaf.is_storable:
            raise InvalidType(
                "checkpoint",
                f"{leaf.name} has a dtype that checkpoints do not support",
                got=str(leaf),
                expected=f"{', '.join(sorted(_DTYPES))}, or keys {', '.join(_KEYS)}",
                fix="Convert it to one of these, or leave out the directory (--out)",
            )


def check_same(where: Path, saved: Sequence[Leaf], wanted: Sequence[Leaf]) -> None:
    """Raises `InvalidType` with the first difference, unless a checkpoint contains these arrays."""
    names = {leaf.name for leaf in saved}
    wanted = [leaf for leaf in wanted if not _is_absent(leaf, names)]
    if list(saved) == list(wanted):
        return
    got, expected = ({leaf.name: leaf for leaf in leaves} for leaves in (saved, wanted))
    differs = [name for name in [*expected, *got] if got.get(name) != expected.get(name)]
    # Differences of the state are more useful than those of metrics, which follow from them.
    name = min(differs, key=lambda name: not name.startswith("state/"), default="")
    raise InvalidType(
        "checkpoint",
        f"{where} belongs to another network, optimizer or population, or has other metrics",
        got=f"{got.get(name, 'nothing')} at {name}" if differs else "arrays in another order",
        expected=f"{expected.get(name, 'nothing')} there" if differs else "the same order",
        fix="Train with the network and optimizer that wrote it, choose another directory"
        " (--out), or load the parameters that fit with jaxnn.warm_start",
    )


def encode_manifest(
    fields: dict[str, Any], arrays: Sequence[Mapping[str, Any]], folder: Path
) -> bytes:
    """Returns the encoded manifest for the files in a folder, and syncs these files to disk.

    Args:
      fields: other fields of the manifest.
      arrays: the entries of the arrays, from `entry_of`.
      folder: the folder of the checkpoint.
    """
    parts = _digests_of_parts(arrays)
    entries = []
    for path in sorted(folder.rglob("*")):
        files.force(path)
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            # The writer of each part has verified it, so the first process need not read it again.
            known = (path.stat().st_size, parts[name]) if name in parts else files.digest(path)
            entries.append({"name": name, "size": known[0], "sha256": known[1]})
    files.force(folder)
    number = 3 if any("base" in each for each in arrays) else 2
    content = {"format": number, **fields, "arrays": [*arrays], "files": entries}
    return encode({**content, "sha256": _own(content)}, indent=1)


def entry_of(leaf: Leaf, shards: Sequence[Shard]) -> dict[str, Any]:
    """Returns the entry of an array in parts."""
    ordered = sorted(shards, key=lambda shard: shard.bounds)
    return {**asdict(leaf), "sha256": _digest(ordered), "shards": ordered}


def _digest(parts: Sequence[Shard]) -> str:
    """Returns the digest of an array from those of its parts, in order."""
    return parts[0].sha256 if len(parts) == 1 else _joined(each.sha256 for each in parts)


def _joined(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _digests_of_parts(arrays: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns a digest of all parts in each of their files, by its name."""
    within: dict[str, list[Shard]] = {}
    for each in arrays:
        for shard in map(from_json, each.get("shards", [])):
            within.setdefault(shard.file, []).append(shard)
    return {
        name: _joined(each.sha256 for each in sorted(shards, key=lambda shard: shard.offset))
        for name, shards in within.items()
    }


def _own(content: dict[str, Any]) -> str:
    # This must be the same in every format, so that a newer manifest does not look corrupt.
    return hashlib.sha256(encode(content, sort_keys=True)).hexdigest()


def read_verified(folder: Path) -> dict[str, Any]:
    """Reads the manifest of a checkpoint, and verifies every file.

    Only the size is verified for files with parts of arrays, whose bytes are verified when read.

    Raises:
      CorruptCheckpoint: if a file is missing, corrupt or unexpected.
      InvalidValue: if the checkpoint was written by a newer jaxnn.
      OSError: if the disk cannot be read.
    """
    content = read_manifest(folder)
    if content["step"] != int(folder.name):
        raise corrupt(folder, f"the manifest of step {content['step']}", "that of its own step")
    wanted = {each["name"]: each for each in content["files"]}
    parts = _digests_of_parts(content["arrays"])
    entries = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    there = {path.relative_to(folder).as_posix(): path for path in entries}
    there.pop(FILE)
    for name in sorted(wanted.keys() | there.keys()):
        if name not in there:
            raise corrupt(folder, f"no {name}", "the file")
        if name not in wanted:
            raise corrupt(folder, f"{name}, which was not written with it", "no such file")
        if there[name].is_symlink() or not there[name].is_file():
            raise corrupt(folder, f"{name}, which is not a file", "a file")
        size = there[name].stat().st_size
        if size != wanted[name]["size"]:
            raise corrupt(folder, f"{name} of {size:,} bytes", f"{wanted[name]['size']:,} bytes")
        if name not in parts and files.digest(there[name]) != (size, wanted[name]["sha256"]):
            raise corrupt(folder, f"{name} with other bytes", "the bytes that were written")
    return content


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads the manifest of a checkpoint, and verifies only the manifest.

    Raises:
      CorruptCheckpoint: if the manifest is corrupt.
      InvalidValue: if it was written by a newer jaxnn.
    """
    try:
        content = decode(files.read(folder / FILE))
        intact = content.pop("sha256") == _own(content)
    except (*_PARSE_ERRORS, FileNotFoundError, NotADirectoryError) as error:
        raise corrupt(folder, f"{FILE} that cannot be read ({error})", "the manifest") from None
    except OSError:
        if (folder / FILE).is_symlink():
            raise corrupt(folder, f"{FILE} that is a symbolic link", "a file") from None
        raise
    if not intact:
        raise corrupt(folder, f"{FILE} with other bytes", "those that were written")
    number = content.get("format")
    if type(number) is int and number > FORMAT:
        raise InvalidValue(
            "checkpoint",
            f"{folder} was written by a newer jaxnn",
            got=f"format {number}",
            expected=f"format {FORMAT} or older",
            fix="Upgrade jaxnn, or choose another directory (--out)",
        )
    try:
        _check_content(content)
    except _PARSE_ERRORS as error:
        raise corrupt(folder, f"{FILE} with invalid content ({error})", "a manifest") from None
    return content


def leaves_in(content: Mapping[str, Any]) -> list[Leaf]:
    """Returns the descriptions of the arrays in a manifest."""
    return [
        Leaf(each["name"], each["dtype"], tuple(each["shape"]), each["keys"])
        for each in content["arrays"]
    ]


def _check_content(content: dict[str, Any]) -> None:
    """Raises unless every field has its type, and arrays are no larger than their files.

    So reading a file never allocates more memory than its size.
    """
    content = {"eval_path": "", **content}  # missing in manifests before 2026-12
    for name, kind in _FIELDS.items():
        value = content.get(name)
        negative = isinstance(value, int) and value < 0
        # In Python, bool is a subclass of int.
        if not isinstance(value, kind) or isinstance(value, bool) or negative:
            raise ValueError(f"without {name}")
    leaves, sizes = leaves_in(content), {each["name"]: each["size"] for each in content["files"]}
    for each in (*content["arrays"], *content["files"]):
        if not isinstance(each["name"], str) or not isinstance(each["sha256"], str):
            raise ValueError("a name or a digest is not a string")
    for leaf in leaves:
        if not leaf.is_storable:
            raise ValueError(f"{leaf.name} has the dtype {leaf}")
        if not all(type(n) is int and n >= 0 for n in leaf.shape):
            raise ValueError(f"{leaf.name} has the shape {leaf.shape}")
    own = [each for each in content["arrays"] if "base" not in each]
    if sum(leaf.size for leaf in leaves_in({"arrays": own})) > sum(sizes.values()):
        raise ValueError("its arrays are larger than its files")
    if len({"shards" in each for each in own}) > 1:
        raise ValueError("some of its arrays are in parts")
    for leaf, each in zip(leaves, content["arrays"]):
        if "base" not in each and "shards" not in each:
            continue
        parts = [from_json(part) for part in each.get("base", each.get("shards"))]
        if "base" in each:
            check_whole_files(leaf, parts)
        else:
            check_parts(leaf, parts, sizes)
        if each["sha256"] != _digest(parts):
            raise ValueError(f"the parts of {leaf.name} have another digest")
    if len(sizes) < len(content["files"]) or not all(map(files.is_safe, sizes)):
        raise ValueError("a file has a name that is not allowed")


def corrupt(folder: Path, got: str, expected: str) -> CorruptCheckpoint:
    """Returns the error for a corrupt checkpoint."""
    return CorruptCheckpoint(
        "checkpoint",
        f"{folder} is corrupt",
        got=got,
        expected=expected,
        fix="It is skipped, and the newest good one used",
    )
