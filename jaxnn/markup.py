"""HTML that cannot be broken by what it says: text is escaped unless it is markup already.

>>> element("p", "5 < 6 & ", element("b", "so on"), class_="note")
'<p class="note">5 &lt; 6 &amp; <b>so on</b></p>'

Names, labels and paths come from a run, that is from anybody. They are set apart from the words
beside them (`<bdi>`), so that one written from right to left reverses nothing else.
"""

import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

_VOID = {"br", "hr", "img", "input", "link", "meta"}
# Control characters, lone surrogates, and marks that change the direction of text.
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


def element(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """Returns an element.

    Args:
      name: of the element.
      children: `Markup` stays as it is, `None` is left out, anything else is text.
      attributes: `class_` is `class` and `aria_label` is `aria-label`; `None` leaves one out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    end = "" if name in _VOID else f"{join(*children)}</{name}>"
    return Markup(f"<{name}{given}>{end}")


def join(*children: Any) -> Markup:
    """Returns pieces as one piece of markup; what is no markup is text."""
    given = (each for each in children if each is not None)
    return Markup("".join(c if isinstance(c, Markup) else escaped(c) for c in given))


def listing(pieces: Iterable[Any], between: str) -> Markup:
    """Returns pieces with something between them, as one piece of markup."""
    return Markup(escaped(between).join(join(each) for each in pieces))


def escaped(value: Any) -> Markup:
    """Returns text as markup, without the characters that no page may have."""
    return Markup(html.escape(_CONTROLS.sub("\ufffd", str(value))))


def cut(text: Any, letters: int = 160) -> str:
    """Returns a text of at most so many letters, cut in its middle, and none that no page may have.

    >>> cut("from the first to the last", 13)
    'from t…e last'
    """
    text = _CONTROLS.sub("\ufffd", str(text))
    half = (letters - 1) // 2
    return text if len(text) <= letters else f"{text[:half]}…{text[-half:]}"


def quoted(text: Any) -> Markup:
    """Returns what a run says, apart from the words beside it."""
    return element("bdi", cut(text))


def folded(summary: str, content: Any) -> Markup:
    """Returns content that opens when its summary is clicked."""
    return element("details", element("summary", summary), content)


def block(content: Any, name: str) -> Markup:
    """Returns JSON for the page's script: data, which nothing in it can end or run."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return element("script", Markup(text), type="application/json", id=name)


def table(
    caption: str | None,
    heads: Sequence[Any],
    rows: Iterable[Sequence[Any]],
    *,
    class_: str | None = "numbers",
) -> Markup:
    """Returns a table that scrolls by itself where it is wider than the page.

    The first cell of a row is its name. By its class, the others are aligned to the right, as
    numbers are.

    Args:
      caption: says what it is, to those who hear the page.
      heads: of the columns.
      rows: their cells; an element `td` stays as it is.
      class_: of the table.
    """
    head = element("tr", *[element("th", each, scope="col") for each in heads])
    lines = [
        element("tr", element("th", first, scope="row"), *map(_cell, rest)) for first, *rest in rows
    ]
    parts = caption and element("caption", caption), element("thead", head)
    inner = element("table", *parts, element("tbody", *lines), class_=class_)
    # Reached by keyboard, since that is how it is scrolled without a mouse.
    return element("div", inner, class_="wide", role="region", tabindex="0", aria_label=caption)


def _cell(content: Any) -> Markup:
    is_cell = isinstance(content, Markup) and content.startswith("<td")
    return content if is_cell else element("td", content)
