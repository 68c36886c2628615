"""The options for reading a text file, saved with the columns to read later files the same way."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from jaxnn.checks import InvalidValue, choice
from jaxnn.typing import Any

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>", "?")
_UTF_8 = ("utf-8", "utf8")


@dataclass(frozen=True)
class Reading:
    """The options for reading a text file; see the arguments of `read_table`.

    Attributes:
      delimiter: the field delimiter; `None` to detect it.
      header: whether the first line contains the column names.
      text: the columns to read as text.
      dates: pairs of a column and its date format.
      missing: the strings that represent missing values.
      encoding: the encoding of the file.
      decimal: the decimal mark; `None` to detect it.
      names: the column names, once a file was read.
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
        """Returns the options for arguments of `read_table`.

        Raises:
          InvalidValue: if an option is invalid.
        """
        if isinstance(text, str):
            text = (text,)
        if isinstance(missing, str):
            missing = (missing,)
        if delimiter is not None and len(delimiter.encode()) != 1:
            raise InvalidValue(
                "read_table",
                "the delimiter is not a single ASCII character",
                got=f"delimiter={delimiter!r}",
                expected="a character such as ',', ';' or '\\t'",
                fix="Leave out delimiter= to detect it",
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
        """Returns the options as a JSON-serializable dict."""
        return {**dataclasses.asdict(self), "dates": dict(self.dates)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Reading":
        """Returns the options from the result of `to_dict`."""
        options = {name: value for name, value in content.items() if name != "names"}
        return replace(cls.of(**options), names=tuple(content.get("names", ())))

    def with_text(self, names: Iterable[str]) -> "Reading":
        """Returns options with additional columns to read as text, except columns of dates."""
        dated = dict(self.dates)
        more = (name for name in names if name not in dated)
        return replace(self, text=tuple(dict.fromkeys((*self.text, *more))))


# The options of the last file with these columns that this process read. A data frame would lose
# attached options when it is filtered, but its column names remain.
_READ: dict[tuple[str, ...], Reading] = {}


def remember(reading: Reading) -> None:
    """Records the options of a file, for `reading_of`."""
    _READ.pop(reading.names, None)
    _READ[reading.names] = reading


def reading_of(names: Iterable[str]) -> Reading | None:
    """Returns the options of the last file with all these columns, or `None`."""
    wanted = set(names)
    return next((r for r in reversed(_READ.values()) if wanted <= set(r.names)), None)
