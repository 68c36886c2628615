"""Tables in Arrow and Parquet files, whose rows are read on demand.

Arrow files are mapped into memory. Parquet files are compressed in row groups, and only the last
few decoded groups are cached. Reading random rows of a large Parquet file is therefore slow;
convert it to Arrow, or use `python -m jaxnn pack`.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.streams.files import Files, missing
from jaxnn.streams.source import Parts, digest
from jaxnn.typing import Any

_GROUPS = 8  # the number of decoded Parquet row groups in the cache


class Arrow(Parts):
    """The rows of tables in files; each part is a row group or record batch."""

    def __init__(self, files: Files, groups: list[Path], counts: list[int], read: Any, schema: str):
        super().__init__(counts, groups)
        self.files, self.read, self.schema = files, read, schema

    def read_part(self, number: int, index: np.ndarray) -> dict[str, Any]:
        """Returns the given rows of a group as an array for each column."""
        return self.read(number, index)

    def fingerprint(self) -> str:
        """Returns a digest of the files and their schema."""
        return digest(self.files.fingerprint(), self.schema)

    def __repr__(self) -> str:
        return f"Arrow({len(self):,} rows in {len(self.files.paths)} files: {self.schema})"


def arrow(paths: Any) -> Arrow:
    """Opens Arrow (`.arrow`, `.feather`) or Parquet (`.parquet`) files as a source.

    Columns are fields, such as `inputs` and `labels`; the `read` argument of `stream` can rename
    them. A column of lists of equal length is an array.

    Args:
      paths: a file, a folder, a pattern with `*`, or a list of them.

    Raises:
      InvalidValue: if there are no files, a file cannot be read, or pyarrow is not installed (it is
        in the extra `[data]`).
      InvalidType: if the files have different columns.
    """
    files = Files("arrow", paths, (".arrow", ".feather", ".parquet"))
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise missing("arrow", "pyarrow") from None
    counts, groups, schemas = [], [], []
    for path in files.paths:
        try:
            if path.suffix == ".parquet":
                file = pq.ParquetFile(path, page_checksum_verification=True)
                sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
                groups += [(path, file, i) for i in range(len(sizes))]
                schemas.append(file.schema_arrow)
            else:
                file = pa.ipc.open_file(pa.memory_map(str(path)))
                sizes = [file.get_batch(i).num_rows for i in range(file.num_record_batches)]
                groups += [(path, file, i) for i in range(len(sizes))]
                schemas.append(file.schema)
            if min(sizes, default=0) < 0:
                raise pa.ArrowInvalid("its number of rows is negative")
        except (pa.ArrowException, OSError) as error:
            raise InvalidValue(
                "arrow",
                "a file cannot be read",
                got=f"{path}: {error}",
                expected="a whole Arrow or Parquet file",
                fix="Write or copy it again",
            ) from None
        counts += sizes
        if not schemas[-1].equals(schemas[0], check_metadata=False):
            raise InvalidType(
                "arrow",
                "the files have different columns",
                got=f"{_words(schemas[-1])} in {path}",
                expected=f"{_words(schemas[0])}, as in {files.paths[0]}",
                fix="Write all files with the same columns",
            )

    if not sum(counts):
        raise InvalidValue(
            "arrow",
            "there are no rows",
            got=f"{files.paths[0]}" + ", ..." * (len(files.paths) > 1),
            expected="at least one row",
            fix="Write or copy the files again",
        )

    @lru_cache(_GROUPS)
    def whole(group):
        _, file, number = groups[group]
        return pa.Table.from_batches(file.read_row_group(number).combine_chunks().to_batches())

    valid = set()

    def mapped(group):
        _, file, number = groups[group]
        batch = file.get_batch(number)
        if group not in valid:
            batch.validate(full=True)  # a corrupt offset of a list would end the process
            valid.add(group)
        return pa.Table.from_batches([batch])

    def read(group, index):
        path = groups[group][0]
        table = whole(group) if path.suffix == ".parquet" else mapped(group)
        taken = table.take(pa.array(index))
        return {name: _numpy(path, name, taken[name]) for name in taken.column_names}

    return Arrow(files, [path for path, *_ in groups], counts, read, _words(schemas[0]))


def _words(schema: Any) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _numpy(path: Path, name: str, column: Any) -> np.ndarray:
    if column.null_count:
        raise InvalidValue(
            "arrow",
            "a value is missing",
            got=f"{column.null_count} of column {name!r} in {path}",
            expected="a value in every row",
            fix="Fill them in before the file is written",
        )
    values = column.to_numpy()
    if values.dtype == object and len(values) and isinstance(values[0], np.ndarray):
        return np.stack(values)
    return values
