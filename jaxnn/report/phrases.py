"""Numbers and names as one says them.

>>> figure("test/loss", 0.087507), figure("test/loss", float("nan"))
('0.08751', 'not finite')
>>> told("test/accuracy"), told("train/loss")
('accuracy on held-out examples', 'loss on training examples')
"""

import math
import re
from typing import Any

from jaxnn.catalog.sweeps import word
from jaxnn.markup import Markup, cut, element

BLANK = "\u00a0"  # between a number and its sign, where no line ends
_SHARES = re.compile(r"(^|.*/)(accuracy|top_\d+|skipped)$")
_PARTS = {"train": "training examples", "test": "held-out examples"}
_METRICS = {"mae": "mean absolute error (mae)", "r2": "explained share of the variance (r2)"}
_UNITS = (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0), ("second", 1.0))


def is_share(name: str) -> bool:
    """Whether a metric is a share of examples, told in percent."""
    return _SHARES.fullmatch(name) is not None


def figure(name: str, value: Any) -> str:
    """Returns the value of a metric."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "not finite"
    return percent(value) if is_share(name) else word(float(value))


def percent(share: float) -> str:
    """Returns a share in percent, in one line; only all is 100 %, and only nothing is 0 %.

    >>> [percent(share).replace(BLANK, " ") for share in (0.9972, 0.99999, 1.0, 0.0001)]
    ['99.7 %', '99.999 %', '100 %', '0.01 %']
    """
    for digits in (1, 2, 3, 4):
        said = f"{100 * share:.{digits}f}"
        if not (said.rstrip("0").rstrip(".") in ("100", "0") and 0 < share < 1):
            break
    return f"{100 if share == 1 else 0}{BLANK}%" if share in (0, 1) else f"{said}{BLANK}%"


def sure(chance: float) -> str:
    """Returns how sure a network is.

    >>> sure(0.983).replace(BLANK, " "), sure(0.9999).replace(BLANK, " ")
    ('98 % sure', 'over 99 % sure')
    """
    return f"over 99{BLANK}% sure" if chance > 0.99 else f"{100 * chance:.0f}{BLANK}% sure"


def value_of(name: str, value: Any) -> Markup:
    """Returns the value of a metric as an element that knows it with all its digits."""
    known = isinstance(value, int | float) and math.isfinite(value)
    return element("data", figure(name, value), value=repr(value) if known else "")


def told(name: str) -> str:
    """Returns the name of a metric as one says it."""
    best = "best " if name.startswith("best/") else ""
    if name.endswith("/learning_rate"):
        return "learning rate"
    part, _, metric = name.removeprefix("best/").partition("/")
    where = _PARTS.get(part, f"{cut(part, 60)} examples")
    said = _METRICS.get(metric) or spaced(metric or part)
    return f"{best}{said}" + (f" on {where}" if metric else "")


def spaced(name: str) -> str:
    """Returns a name as words: `learning_rate` is "learning rate"."""
    return cut(name, 80).replace("_", " ")


def time(seconds: float) -> str:
    """Returns a time as one says it.

    >>> [time(each).replace(BLANK, " ") for each in (1.72, 60, 5400)]
    ['1.7 seconds', '1 minute', '1.5 hours']
    """
    unit, size = next((each for each in _UNITS if seconds >= each[1]), _UNITS[-1])
    number = f"{seconds / size:.{0 if seconds / size >= 9.95 else 1}f}".removesuffix(".0")
    return f"{number}{BLANK}{unit}{'' if number == '1' else 's'}"


def setting(value: Any) -> str:
    """Returns the value of a hyper-parameter.

    >>> setting([64, 64]), setting(None), setting(0.0031622776), setting([*range(9)])
    ('64, 64', 'none', '0.00316228', '0, 1, 2, 3, 4, 5, … (9)')
    """
    if isinstance(value, list | tuple):
        shown = [setting(each) for each in (value if len(value) <= 8 else value[:6])]
        more = [f"… ({len(value)})"] if len(value) > 8 else []
        return ", ".join(shown + more)
    return "none" if value is None else word(value, 6)


def steps(count: int) -> str:
    """Returns a number of training steps."""
    return f"{count:,} training step{'' if count == 1 else 's'}"


def listed(words: list[str], last: str = "and") -> str:
    """Returns words as a sentence lists them.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
