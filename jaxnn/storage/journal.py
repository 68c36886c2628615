"""The journal of a run, `metrics.jsonl`: a row of JSON for each report, in the order of steps.

>>> journal = parse(b'{"step": 4}\\n{"step": 8}\\n{"st')
>>> journal.rows, journal.size, journal.error
([{'step': 4}, {'step': 8}], 24, 'line 3 has no end')
"""

from pathlib import Path
from typing import Any, NamedTuple

from jaxnn.storage import files
from jaxnn.storage.json_files import decode

FILE = "metrics.jsonl"


class Journal(NamedTuple):
    """The rows of a journal, up to the first line that cannot be parsed.

    Attributes:
      rows: the rows as written, with `None` for numbers that are not finite.
      ends: the byte offset at which the line of each row ends.
      error: the error of the line after the last row, or `""`.
    """

    rows: list[dict[str, Any]]
    ends: list[int]
    error: str

    @property
    def size(self) -> int:
        """The number of bytes of the rows."""
        return self.ends[-1] if self.ends else 0


def read(run: Path, start: int = 0) -> Journal:
    """Reads the journal of a run from the byte `start`; it is empty if there is none."""
    try:
        return parse(files.read(run / FILE, start=start), start)
    except (ValueError, OSError) as error:
        return Journal([], [], "" if isinstance(error, FileNotFoundError) else str(error))


def parse(content: bytes, start: int = 0) -> Journal:
    """Parses the bytes of a journal that begin at the byte `start`."""
    rows, ends, end = [], [], start
    *lines, torn = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            row = decode(line)
            if type(row["step"]) is not int:
                raise ValueError("its step is not an int")
            if rows and row["step"] <= rows[-1]["step"]:
                raise ValueError(f"its step {row['step']} comes after {rows[-1]['step']}")
        except (ValueError, TypeError, KeyError) as error:
            return Journal(rows, ends, f"line {number}: {error!r}")
        end += len(line) + 1
        rows.append(row)
        ends.append(end)
    return Journal(rows, ends, f"line {len(lines) + 1} has no end" if torn else "")
