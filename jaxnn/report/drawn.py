"""Pictures of `jaxnn.pictures` as parts of a page."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnn.markup import Markup, cut, element
from jaxnn.pictures import scheme


def _once(picture: str) -> str:
    """Returns SVG in which each id stands once: what is of a kind in a figure shares a name."""
    seen: set[str] = set()

    def kept(match: re.Match[str]) -> str:
        first = match[1] not in seen
        seen.add(match[1])
        return match[0] if first else ""

    return re.sub(r'\sid="([^"]*)"', kept, picture)


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
