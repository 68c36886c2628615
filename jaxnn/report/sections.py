"""The sections of a report: a heading, a sentence that says how to read it, and the content.

What a section needs may be missing, or corrupt in a way that only shows when it is drawn: such a
section is left out, and a sentence says why. The rest of the page stands.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnn.checks import Explained
from jaxnn.markup import Markup, cut, element
from jaxnn.pictures import scheme
from jaxnn.storage.recording import Frame

# What arrays and JSON of another form than jaxnn's lead to.
WRONG = (ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError)


class Section(NamedTuple):
    """A section of a page.

    Attributes:
      name: of its place, `id`.
      title: its heading.
      lead: one sentence that says how to read it.
      make: returns its content, or `None` if there is nothing to show.
    """

    name: str
    title: str
    lead: Any
    make: Callable[[], Markup | None]


def rendered(sections: Iterable[Section]) -> list[tuple[Section, Markup]]:
    """Returns the sections that have something to show."""
    shown = []
    for section in sections:
        try:
            with warnings.catch_warnings():
                # In a page, letters are drawn by the reader's fonts.
                warnings.filterwarnings("ignore", "Glyph", UserWarning)
                content = section.make()
        except (Explained, *WRONG) as error:
            words = f"This cannot be shown: {cut(f'{type(error).__name__}: {error}', 300)}"
            content = element("p", words, class_="missing")
        if content:
            shown.append((section, _framed(section, content)))
    return shown


def _framed(section: Section, content: Markup) -> Markup:
    heading = f"{section.name}-title"
    lead = element("p", section.lead, class_="lead") if section.lead else None
    return element(
        "section",
        element("div", element("h2", section.title, id=heading), lead, class_="head"),
        element("div", content, class_="body"),
        id=section.name,
        aria_labelledby=heading,
    )


def some(frames: Sequence[Frame], count: int) -> list[Frame]:
    """Returns at most so many of the recorded moments, the first and the last among them."""
    places = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return [frames[place] for place in places]


def _once(picture: str) -> str:
    """Returns SVG in which each id stands once: what is of a kind in a figure shares a name."""
    seen: set[str] = set()

    def renamed(match: re.Match[str]) -> str:
        first = match[1] not in seen
        seen.add(match[1])
        return match[0] if first else ""

    return re.sub(r'\sid="([^"]*)"', renamed, picture)


def lettered(name: str, letters: int = 40) -> str:
    """Returns a name that a picture has room for, and that matplotlib takes for no formula."""
    return cut(name, letters).replace("$", r"\$")


def shortened(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns reports whose metrics have names that a picture has room for."""
    return [{lettered(name): value for name, value in row.items()} for row in rows]


def drawn(figure: Any, name: str, title: str, caption: Any = None, *, wide: bool = False) -> Markup:
    """Returns a picture in a page.

    Args:
      figure: of matplotlib.
      name: of the picture, which no other one on the page has.
      title: what it shows, for those who do not see it.
      caption: what stands under it.
      wide: whether it takes the whole width.
    """
    picture = Markup(_once(scheme.svg(figure, title=title, prefix=name)))
    below = element("figcaption", caption) if caption else None
    return element("figure", picture, below, class_="picture wide-one" if wide else "picture")
