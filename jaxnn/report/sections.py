"""Sections of a page: a heading, an introduction, and the content.

A section is a function from the subject of the page to its content. Its docstring is shown as the
introduction:

    @section("curves", "Learning curves")
    def _curves(source):
        \"\"\"Each curve goes from the first training step to the last.\"\"\"

If the files that a section needs are missing, it is left out. If drawing it fails, for example
because a file is corrupt, a sentence with the error replaces it, and the rest of the page is shown.
"""

import re
import string
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from jaxnn.checks import Explained
from jaxnn.markup import Markup, cut, element, join, listing
from jaxnn.pictures import scheme
from jaxnn.storage.recording import Frame

LETTERS = 40  # maximum length of a name in a picture
# Errors that arrays or JSON of an unexpected form cause.
WRONG = (ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError)


class Section(NamedTuple):
    """A section: its `id`, heading, introduction, and a function that returns its content."""

    name: str
    title: str
    lead: str
    make: Callable[..., Markup | None]


def section(name: str, title: str) -> Callable[[Callable[..., Markup | None]], Section]:
    """Returns a decorator that turns a function into a section."""
    return lambda make: Section(name, title, " ".join((make.__doc__ or "").split()), make)


def rendered(sections: Iterable[Section], *about: Any) -> list[tuple[Section, Markup]]:
    """Returns the sections that have content for the subject of the page."""
    shown = []
    for each in sections:
        try:
            with warnings.catch_warnings():
                # Missing glyphs do not matter: the fonts of the reader render the text of a page.
                warnings.filterwarnings("ignore", "Glyph", UserWarning)
                content = each.make(*about)
        except (Explained, *WRONG) as error:
            words = f"This cannot be shown: {cut(f'{type(error).__name__}: {error}', 300)}"
            content = element("p", words, class_="missing")
        if content:
            heading = f"{each.name}-title"
            lead = element("p", each.lead, class_="lead") if each.lead else None
            head = element("div", element("h2", each.title, id=heading), lead, class_="head")
            body = element("div", content, class_="body")
            frame = element("section", head, body, id=each.name, aria_labelledby=heading)
            shown.append((each, frame))
    return shown


def filled(file: str, **values: Any) -> Markup:
    """Returns the HTML of a file in this package, with `$names` replaced by values."""
    template = string.Template((resources.files("jaxnn.report") / file).read_text("utf-8"))
    return Markup(template.substitute({name: join(value) for name, value in values.items()}))


def unbroken(text: str) -> Markup:
    """Returns text whose lines break only between words, not at hyphens."""
    words = text.split(" ")
    return listing((element("span", w, class_="whole") if "-" in w else w for w in words), " ")


def some(frames: Sequence[Frame], count: int) -> list[Frame]:
    """Returns a subset of the recorded steps, including the first and the last."""
    places = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return [frames[place] for place in places]


def under(frame: Frame, prefix: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a recorded step whose names have a prefix, by the rest of the name."""
    names = (name for name in frame.arrays if name.startswith(prefix))
    return {name.removeprefix(prefix): frame.arrays[name] for name in names}


def shortened(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns reports with shortened names of metrics."""
    return [{cut(name, LETTERS): value for name, value in row.items()} for row in rows]


def drawn(figure: scheme.Figure, name: str, title: str, caption: Any = None) -> Markup:
    """Returns a matplotlib figure as an element of the page.

    Its `name` must be unique on the page; its `title` is the text for screen readers.
    """
    seen: set[str] = set()

    def once(match: re.Match[str]) -> str:
        """Removes repeated ids, since equal elements of a figure have the same name."""
        first = match[1] not in seen
        seen.add(match[1])
        return match[0] if first else ""

    picture = re.sub(r'\sid="([^"]*)"', once, scheme.svg(figure, title=title, prefix=name))
    below = element("figcaption", caption) if caption else None
    return element("figure", Markup(picture), below, class_="picture")
