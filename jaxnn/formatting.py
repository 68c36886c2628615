"""Formats numbers and tables as text: durations, amounts, counts, percentages and values.

>>> print(aligned([("step", "size"), ("45", amount(1_234_567, "B")), ("5", amount(9, "B"))], ">>"))
step     size
  45  1.23 MB
   5      9 B
"""

import csv
import io
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any


def aligned(rows: Iterable[Sequence[str]], sides: str, indent: str = "") -> str:
    """Returns rows as lines with aligned columns; `sides` has `<` or `>` for each column."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        (indent + "  ".join(f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths))).rstrip()
        for row in rows
    )


def duration(seconds: float, *, in_words: bool = False) -> str:
    """Returns a time in its largest suitable unit.

    >>> duration(3.86), duration(100), duration(7200), duration(1e6)
    ('3.9 s', '1.7 min', '2.0 h', '12 d')
    >>> [duration(each, in_words=True) for each in (1.72, 60, 5400)]
    ['1.7 seconds', '1 minute', '1.5 hours']
    """
    units = (("d", "day", 86400), ("h", "hour", 3600), ("min", "minute", 60), ("s", "second", 1))
    short, name, size = next((each for each in units if seconds >= each[2]), units[-1])
    number = f"{seconds / size:.{0 if seconds / size >= 9.95 else 1}f}"
    if not in_words:
        return f"{number} {short}"
    number = number.removesuffix(".0")
    return f"{number} {name}{'' if number == '1' else 's'}"


def amount(number: int, unit: str = "") -> str:
    """Returns a number with three significant digits and an SI prefix.

    >>> amount(12, "B"), amount(1_234_567, "B"), amount(45_000)
    ('12 B', '1.23 MB', '45.0 k')
    """
    prefixes = ("", "k", "M", "G", "T", "P", "E")
    place = next((i for i in range(len(prefixes)) if number < 999.5 * 1000**i), len(prefixes) - 1)
    size = number / 1000**place
    digits = 0 if not place or size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{size:,.{digits}f} {prefixes[place]}{unit}".rstrip()


def brief(value: Any, digits: int = 4) -> str:
    """Returns a value with at most `digits` significant digits.

    >>> brief(0.0031622776), brief((64, 64)), brief("mlp")
    ('0.003162', '64x64', 'mlp')
    """
    if isinstance(value, tuple | list):
        return "x".join(brief(each, digits) for each in value)
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    """Returns a fraction in percent; only 1 becomes 100 %, and only 0 becomes 0 %.

    >>> [percent(share) for share in (0.9972, 0.99999, 1.0, 0.0001)]
    ['99.7 %', '99.999 %', '100 %', '0.01 %']
    """
    for digits in (1, 2, 3, 4):
        text = f"{100 * share:.{digits}f}"
        if not (text.rstrip("0").rstrip(".") in ("100", "0") and 0 < share < 1):
            break
    return f"{100 if share == 1 else 0} %" if share in (0, 1) else f"{text} %"


def count(number: int, noun: str) -> str:
    """Returns a number with a noun, in the plural unless the number is 1.

    >>> count(1, "run"), count(2000, "step")
    ('1 run', '2,000 steps')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message; the name of its type if it has no message.

    >>> first_line(ValueError("too large\\nsee above")), first_line(AssertionError())
    ('too large', 'AssertionError')
    """
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__


def reason(error: BaseException) -> str:
    """Returns the type of an error and the first line of its message.

    >>> reason(ValueError("too large")), reason(AssertionError())
    ('ValueError: too large', 'AssertionError')
    """
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"


def comma_separated(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns rows as comma-separated values with a header; `None` becomes an empty cell.

    >>> comma_separated(["a", "b"], [[1, None], ["x, y", 2.5]])
    'a,b\\n1,\\n"x, y",2.5\\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *rows])
    return text.getvalue()


def any_letters(errors: str = "replace") -> None:
    """Makes the standard streams replace characters that they cannot encode, instead of raising.

    Args:
      errors: `"replace"` writes a question mark, `"backslashreplace"` an escape sequence.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def printable(text: str) -> str:
    """Replaces control characters, since the text of a run directory is not trusted.

    >>> printable("a\\x1b[31mb\\n")
    'a?[31mb\\n'
    """
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)


def wrapped(words: str, first: str = "", indent: str = "") -> str:
    """Wraps a paragraph into lines of at most 80 columns, without breaking words."""
    return textwrap.fill(
        words, 80, initial_indent=first, subsequent_indent=indent or first,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
