"""ArrayRecord files, the indexed records that Grain reads and `python -m jaxnn pack` writes.

A record written by jaxnn holds the fields of an example. Records of other programs are bytes, which
`read` must decode: `stream(records(paths), read=lambda example, random: parse(example["record"]))`.
"""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.streams.files import Files, missing
from jaxnn.streams.schema import combined
from jaxnn.streams.source import Parts
from jaxnn.typing import Any

_MAGIC = b"PK\x03\x04"  # the first bytes of an archive written by numpy.savez


class Records(Parts):
    """The records of several files, concatenated."""

    def __init__(self, files: Files, readers: list[Any]):
        super().__init__((reader.num_records() for reader in readers), files.paths)
        self.files, self.readers = files, readers

    def read_part(self, number: int, index: np.ndarray) -> dict[str, Any]:
        """Returns the given examples of a file."""
        examples = [unpack(record) for record in self.readers[number].read(index.tolist())]
        return combined(np.stack, examples, lambda row: self.place_in(number, int(index[row])))

    def fingerprint(self) -> str:
        """Returns a digest of the files."""
        return self.files.fingerprint()

    def __repr__(self) -> str:
        return f"Records({len(self):,} in {len(self.readers)} files)"


def records(paths: Any) -> Records:
    """Opens ArrayRecord files as a source; records are read on demand.

    Args:
      paths: a file, a folder of `.arrayrecord` files, a pattern with `*`, or a list of them.

    Raises:
      InvalidValue: if there are no files, a file cannot be read, or array_record is not installed
        (it is in the extra `[data]`).
    """
    files = Files("records", paths, (".arrayrecord", ".array_record"))
    module = _module()
    readers = []
    for path in files.paths:
        try:
            reader = module.ArrayRecordReader(str(path), options="index_storage_option:in_memory")
            if not reader.ok() or not reader.num_records():
                raise ValueError("it is cut off, or holds no record")
            readers.append(reader)
        except (ValueError, RuntimeError, OSError) as error:
            raise InvalidValue(
                "records",
                "a file cannot be read",
                got=f"{path}: {error}",
                expected="a whole ArrayRecord file",
                fix="Write it again with python -m jaxnn pack",
            ) from None
    return Records(files, readers)


def write_records(examples: Iterable[Any], path: str | Path) -> int:
    """Writes examples to an ArrayRecord file, one record each; returns the number of examples.

    Args:
      examples: an iterable of dicts of arrays and numbers.
      path: the file to write; it is renamed to this path when it is complete.
    """
    path, count = Path(path).expanduser(), 0
    partial = path.with_name(f"{path.name}.partial")
    writer = _module().ArrayRecordWriter(str(partial), "group_size:1")
    try:
        for example in examples:
            file = io.BytesIO()
            np.savez(file, **example)
            writer.write(file.getvalue())
            count += 1
        writer.close()
        if not count:
            raise InvalidValue(
                "pack", "there is no example", got="a source that yields nothing",
                expected="at least one", fix="Check the source",
            )  # fmt: skip
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def unpack(record: bytes) -> dict[str, Any]:
    """Returns the fields of a record; for records of other programs, `{"record": bytes}`."""
    if not record.startswith(_MAGIC):
        return {"record": record}
    with np.load(io.BytesIO(record), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _module() -> Any:
    try:
        from array_record.python import array_record_module  # pyright: ignore
    except ImportError:
        raise missing("records", "array_record") from None
    return array_record_module
