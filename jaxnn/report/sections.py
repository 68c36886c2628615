"""The sections of a page: a heading, a lead that says how to read it, and the content.

A section is a function from what the page is about to its content, and its docstring is its lead:

    @section("curves", "How the training went")
    def _curves(source):
        \"\"\"Each curve goes from the first training step to the last.\"\"\"

What a section needs may be missing, or corrupt in a way that only shows when it is drawn: such a
section is left out, and a sentence says why. The rest of the page stands.
"""

import re
import string
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from jaxnn.checks import Explained
from jaxnn.markup import Markup, cut, element, join
from jaxnn.pictures import scheme
from jaxnn.storage.recording import Frame

# What arrays and JSON of another form than jaxnn's lead to.
WRONG = (ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError)


class Section(NamedTuple):
    """A section: its `id`, its heading, its lead, and what returns its content, if it has any."""

    name: str
    title: str
    lead: str
    make: Callable[..., Markup | None]


def section(name: str, title: str) -> Callable[[Callable[..., Markup | None]], Section]:
    """Returns a decorator that makes a section of a function."""
    return lambda make: Section(name, title, " ".join((make.__doc__ or "").split()), make)


def rendered(sections: Iterable[Section], *about: Any) -> list[tuple[Section, Markup]]:
    """Returns the sections that have something to show of what the page is about."""
    shown = []
    for each in sections:
        try:
            with warnings.catch_warnings():
                # In a page, letters are drawn by the reader's fonts.
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
    """Returns the HTML of a file of this package, with values in the places of their `$names`."""
    template = string.Template((resources.files("jaxnn.report") / file).read_text("utf-8"))
    return Markup(template.substitute({name: join(value) for name, value in values.items()}))


def some(frames: Sequence[Frame], count: int) -> list[Frame]:
    """Returns at most so many of the recorded moments, the first and the last among them."""
    places = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return [frames[place] for place in places]


def under(frame: Frame, prefix: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a moment whose names begin so, by the rest of their names."""
    names = (name for name in frame.arrays if name.startswith(prefix))
    return {name.removeprefix(prefix): frame.arrays[name] for name in names}


def lettered(name: str, letters: int = 40) -> str:
    """Returns a name that a picture has room for, and that matplotlib takes for no formula."""
    return cut(name, letters).replace("$", r"\$")


def shortened(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns reports whose metrics have names that a picture has room for."""
    return [{lettered(name): value for name, value in row.items()} for row in rows]


def drawn(figure: Any, name: str, title: str, caption: Any = None) -> Markup:
    """Returns a figure of matplotlib in a page.

    No other one on the page has its `name`; its `title` is for those who do not see it.
    """
    seen: set[str] = set()

    def once(match: re.Match[str]) -> str:
        """Drops an id that is there already: what is alike in a figure shares a name."""
        first = match[1] not in seen
        seen.add(match[1])
        return match[0] if first else ""

    picture = re.sub(r'\sid="([^"]*)"', once, scheme.svg(figure, title=title, prefix=name))
    below = element("figcaption", caption) if caption else None
    return element("figure", Markup(picture), below, class_="picture")
