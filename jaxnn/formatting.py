"""Columns of plain text, which read alike on a terminal, in a pipe and in a file.

>>> print(aligned([("step", "size"), ("45", volume(1_234_567)), ("5", volume(9))], ">>"))
step    size
  45  1.2 MB
   5     9 B
"""

import textwrap
from collections.abc import Iterable, Sequence


def aligned(rows: Iterable[Sequence[str]], sides: str, indent: str = "") -> str:
    """Returns rows as lines whose cells are aligned, `<` to the left and `>` to the right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        (indent + "  ".join(f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths))).rstrip()
        for row in rows
    )


def duration(seconds: float) -> str:
    """Returns a time as one says it.

    >>> duration(3.86), duration(100), duration(7200), duration(1e6)
    ('3.9 s', '1.7 min', '2.0 h', '12 d')
    """
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    unit, size = next((each for each in units if seconds >= each[1]), units[-1])
    return _figure(seconds / size, unit)


def volume(size: int) -> str:
    """Returns bytes as one says them, in thousands.

    >>> volume(12), volume(1_234_567), volume(45_000_000_000)
    ('12 B', '1.2 MB', '45 GB')
    """
    if size < 1000:
        return f"{size} B"
    units = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
    unit, each = next(unit for unit in units if size >= unit[1])
    return _figure(size / each, unit)


def count(number: int, noun: str) -> str:
    """Returns a number of things.

    >>> count(1, "run"), count(2000, "step")
    ('1 run', '2,000 steps')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Returns a text without what steers a terminal: anybody may have written a run directory.

    >>> printable("a\\x1b[31mb\\n")
    'a?[31mb\\n'
    """
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)


def wrapped(words: str, first: str = "", indent: str = "") -> str:
    """Returns a paragraph in lines of at most 80 columns, but for words that are longer."""
    return textwrap.fill(
        words, 80, initial_indent=first, subsequent_indent=indent or first,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _figure(number: float, unit: str) -> str:
    return f"{number:.{0 if number >= 9.95 else 1}f} {unit}"
