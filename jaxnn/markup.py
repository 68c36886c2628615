"""Safe construction of HTML: text is escaped unless it is already `Markup`.

>>> element("p", "5 < 6 & ", element("b", "so on"), class_="note")
'<p class="note">5 &lt; 6 &amp; <b>so on</b></p>'

Names, labels and paths come from a run, so they are not trusted. They are isolated (`<bdi>`), so
that right-to-left text in them does not reorder the text next to them.
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
    """A string that is HTML."""

    __slots__ = ()


def element(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """Returns an HTML element.

    Args:
      name: the name of the element.
      children: the content. `None` is left out, and everything except `Markup` is escaped.
      attributes: the attributes; `class_` becomes `class`, `aria_label` becomes `aria-label`, and
        attributes that are `None` are left out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    end = "" if name in _VOID else f"{join(*children)}</{name}>"
    return Markup(f"<{name}{given}>{end}")


def join(*children: Any) -> Markup:
    """Concatenates pieces; everything except `Markup` is escaped, and `None` is left out."""
    given = (each for each in children if each is not None)
    return Markup("".join(c if isinstance(c, Markup) else escaped(c) for c in given))


def listing(pieces: Iterable[Any], between: str) -> Markup:
    """Concatenates pieces with `between` as a separator."""
    return Markup(escaped(between).join(join(each) for each in pieces))


def escaped(value: Any) -> Markup:
    """Escapes text, and replaces characters that HTML does not allow."""
    return Markup(html.escape(_CONTROLS.sub("\ufffd", str(value))))


def cut(text: Any, letters: int = 160) -> str:
    """Shortens a text to at most `letters` characters by omitting its middle.

    >>> cut("from the first to the last", 13)
    'from t…e last'
    """
    text = _CONTROLS.sub("\ufffd", str(text))
    head = (letters - 1) // 2
    return text if len(text) <= letters else f"{text[:head]}…{text[head + 1 - letters :]}"


def quoted(text: Any) -> Markup:
    """Returns untrusted text of a run, shortened, and isolated from the text next to it."""
    return element("bdi", cut(text))


def folded(summary: str, content: Any) -> Markup:
    """Returns collapsed content, which a click on the summary shows."""
    return element("details", element("summary", summary), content)


def block(content: Any, name: str) -> Markup:
    """Returns JSON data for the page's script, escaped so that no text in it ends the element."""
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
    """Returns a table that scrolls if it is wider than the page.

    The first cell of a row is its header. With the default class, the other cells are aligned to
    the right.

    Args:
      caption: a description of the table, also for screen readers.
      heads: the headers of the columns.
      rows: the cells of each row; a `td` element is not wrapped again.
      class_: the class of the table.
    """
    head = element("tr", *[element("th", each, scope="col") for each in heads])
    lines = [
        element("tr", element("th", first, scope="row"), *map(_cell, rest)) for first, *rest in rows
    ]
    parts = caption and element("caption", caption), element("thead", head)
    inner = element("table", *parts, element("tbody", *lines), class_=class_)
    # It can be focused, so that it can be scrolled with the keyboard.
    return element("div", inner, class_="wide", role="region", tabindex="0", aria_label=caption)


def _cell(content: Any) -> Markup:
    is_cell = isinstance(content, Markup) and content.startswith("<td")
    return content if is_cell else element("td", content)
