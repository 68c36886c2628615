"""How a text file is read: plain data, saved with the columns, so that new files are read alike."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from jaxnn.checks import InvalidValue, choice
from jaxnn.typing import Any

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>", "?")
_UTF_8 = ("utf-8", "utf8")


@dataclass(frozen=True)
class Reading:
    """How a text file is read; the arguments of `read_table`.

    Attributes:
      delimiter: what stands between the fields; `None` to detect it.
      header: whether the first line names the columns.
      text: columns that stay text.
      dates: pairs of a column and the format of its dates.
      missing: what stands for a missing value.
      encoding: of the file.
      decimal: the decimal mark; `None` to detect it.
      names: of the columns of the file that was read, empty before.
    """

    delimiter: str | None = None
    header: bool = True
    text: tuple[str, ...] = ()
    dates: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = MISSING
    encoding: str = "utf-8"
    decimal: str | None = None
    names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        delimiter: str | None = None,
        header: bool | None = True,
        text: Sequence[str] = (),
        dates: Mapping[str, str] | None = None,
        missing: Sequence[str] = MISSING,
        encoding: str = "utf-8",
        decimal: str | None = None,
    ) -> "Reading":
        """Returns the reading that `read_table` is asked for.

        Raises:
          InvalidValue: if an option cannot be used.
        """
        if isinstance(text, str):
            text = (text,)
        if isinstance(missing, str):
            missing = (missing,)
        if delimiter is not None and len(delimiter.encode()) != 1:
            raise InvalidValue(
                "read_table",
                "the delimiter is not one plain character",
                got=f"delimiter={delimiter!r}",
                expected="such as ',', ';' or '\\t'",
                fix="Leave delimiter= away, and it is detected",
            )
        if decimal is not None:
            choice("read_table", "the decimal mark", decimal, (".", ","))
        pairs = tuple((dates or {}).items())
        return cls(
            delimiter, bool(header), tuple(text), pairs, tuple(missing), encoding, decimal, ()
        )

    @property
    def is_utf_8(self) -> bool:
        """Whether the file is in UTF-8."""
        return self.encoding.lower() in _UTF_8

    def to_dict(self) -> dict[str, Any]:
        """Returns it as plain data for JSON."""
        return {**dataclasses.asdict(self), "dates": dict(self.dates)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Reading":
        """Returns the reading of which `to_dict` gave the content."""
        options = {name: value for name, value in content.items() if name != "names"}
        return replace(cls.of(**options), names=tuple(content.get("names", ())))

    def with_text(self, names: Iterable[str]) -> "Reading":
        """Returns this reading with more columns that stay text."""
        dated = dict(self.dates)
        more = (name for name in names if name not in dated)
        return replace(self, text=tuple(dict.fromkeys((*self.text, *more))))


# The newest reading of files with these columns, in this process. Frames lose whatever is attached
# to them by the first filter; the names of columns stay.
_READ: dict[tuple[str, ...], Reading] = {}


def remember(reading: Reading) -> None:
    """Remembers how a file was read, for `reading_of`."""
    _READ.pop(reading.names, None)
    _READ[reading.names] = reading


def reading_of(names: Iterable[str]) -> Reading | None:
    """Returns how the last file that had all these columns was read in this process, if one was."""
    wanted = set(names)
    return next((r for r in reversed(_READ.values()) if wanted <= set(r.names)), None)
