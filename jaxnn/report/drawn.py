"""Pictures of `jaxnn.pictures` as parts of a page."""

from typing import Any

from jaxnn.pictures import scheme
from jaxnn.report.markup import Markup, element


def drawn(figure: Any, name: str, title: str, caption: Any = None, *, wide: bool = False) -> Markup:
    """Returns a picture in a page.

    Args:
      figure: of matplotlib.
      name: of the picture, which no other one on the page has.
      title: what it shows, for those who do not see it.
      caption: what stands under it.
      wide: whether it takes the whole width.
    """
    picture = Markup(scheme.svg(figure, title=title, prefix=name))
    below = element("figcaption", caption) if caption else None
    return element("figure", picture, below, class_="picture wide-one" if wide else "picture")
