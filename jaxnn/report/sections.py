"""The sections of a report: a heading, a sentence that says how to read it, and the content.

What a section needs may be missing, or be damaged in a way that only shows when it is drawn: such a
section is left out, and its place says why. The rest of the page stands.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jaxnn.checks import Explained
from jaxnn.markup import Markup, cut, element

# What arrays and JSON of another form than jaxnn's lead to.
_WRONG = (ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError)


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
    made = []
    for section in sections:
        try:
            with warnings.catch_warnings():
                # In a page, letters are drawn by the reader's fonts.
                warnings.filterwarnings("ignore", "Glyph", UserWarning)
                content = section.make()
        except (Explained, *_WRONG) as error:
            words = f"This cannot be shown: {cut(f'{type(error).__name__}: {error}', 300)}"
            content = element("p", words, class_="missing")
        if content:
            made.append((section, _framed(section, content)))
    return made


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
