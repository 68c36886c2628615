"""Formats numbers and names for readers of a report.

>>> figure("test/loss", 0.087507), figure("test/loss", float("nan"))
('0.08751', 'not finite')
>>> display_name("test/accuracy"), display_name("train/loss")
('accuracy on held-out examples', 'loss on training examples')
"""

import math
import re
from typing import Any

from jaxnn import formatting
from jaxnn.formatting import brief, duration
from jaxnn.markup import Markup, cut, element
from jaxnn.pictures.scheme import number, words

BLANK = "\u00a0"  # a no-break space between a number and its unit
_SHARES = re.compile(r"(^|.*/)(accuracy|top_\d+|skipped)$")
_METRICS = {"mae": "mean absolute error (mae)", "r2": "explained share of the variance (r2)"}


def is_share(name: str) -> bool:
    """Returns whether a metric is a fraction of examples, which is shown in percent."""
    return _SHARES.fullmatch(name) is not None


def figure(name: str, value: Any) -> str:
    """Returns the value of a metric as text."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "not finite"
    return percent(value) if is_share(name) else number(float(value))


def percent(share: float) -> str:
    """Returns a fraction in percent, without line breaks."""
    return formatting.percent(share).replace(" ", BLANK)


def sure(chance: float) -> str:
    """Returns a probability as the confidence of a network.

    >>> sure(0.983).replace(BLANK, " "), sure(0.9999).replace(BLANK, " ")
    ('98 % sure', 'over 99 % sure')
    """
    return f"over 99{BLANK}% sure" if chance > 0.99 else f"{100 * chance:.0f}{BLANK}% sure"


def value_of(name: str, value: Any) -> Markup:
    """Returns the value of a metric as an element, with all digits as an attribute."""
    known = isinstance(value, int | float) and math.isfinite(value)
    return element("data", figure(name, value), value=repr(value) if known else "")


def display_name(name: str) -> str:
    """Returns the name of a metric for readers."""
    best = "best " if name.startswith("best/") else ""
    if name.endswith("/learning_rate"):
        return "learning rate"
    part, _, metric = name.removeprefix("best/").partition("/")
    words = _METRICS.get(metric or part) or spaced(metric or part)
    return f"{best}{words}" + (f" on {examples_of(part)}" if metric else "")


def examples_of(part: str) -> str:
    """Returns the description of a dataset: `test` is "held-out examples"."""
    return {"train": "training", "test": "held-out"}.get(part, spaced(part)) + " examples"


def spaced(name: str) -> str:
    """Returns a name as words: `learning_rate` is "learning rate"."""
    return words(cut(name, 80))


def time(seconds: float | None) -> str:
    """Returns a time in words, without line breaks; nothing if it is unknown."""
    return "" if seconds is None else duration(seconds, in_words=True).replace(" ", BLANK)


def setting(value: Any) -> str:
    """Returns the value of a hyper-parameter as text.

    >>> setting([64, 64]), setting(None), setting(0.0031622776), setting([*range(9)])
    ('64, 64', 'none', '0.00316228', '0, 1, 2, 3, 4, 5, … (9)')
    """
    if isinstance(value, list | tuple):
        shown = [setting(each) for each in (value if len(value) <= 8 else value[:6])]
        more = [f"… ({len(value)})"] if len(value) > 8 else []
        return ", ".join(shown + more)
    return "none" if value is None else brief(value, 6)


def listed(words: list[str], last: str = "and") -> str:
    """Joins words as in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def setting_words(values: dict[str, Any]) -> str:
    """Returns a setting as text: "learning rate 0.003"."""
    return listed([f"{spaced(name)} {brief(value)}" for name, value in values.items()])
