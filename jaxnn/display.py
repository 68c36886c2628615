"""HTML representations of objects in notebooks, in the colours and fonts of the page.

>>> columns(("part", "FLOPs"), [("<b>", "12")]).count("&lt;b&gt;")
1
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jaxnn.markup import Markup, cut, element, join, table

# The maximum number of lines in a notebook; `str` returns all of them.
LINES = 100
_STYLE = """\
.jaxnn { color: inherit; background: transparent; overflow-x: auto }
.jaxnn table { border-collapse: collapse; color: inherit; font-variant-numeric: tabular-nums }
.jaxnn th, .jaxnn td { text-align: right; white-space: pre }
.jaxnn th:first-child, .jaxnn .text { text-align: left }"""


def columns(heads: Sequence[Any], rows: Iterable[Sequence[Any]], *, left: int = 1) -> Markup:
    """Returns a table with `left` columns of text, followed by columns of numbers.

    A row whose first cell is "total" is bold.
    """
    rows = list(rows)
    if len(rows) > LINES:
        rows = [*rows[: LINES - 1], (f"... {len(rows) - LINES:,} more",), rows[-1]]

    def cells(row: Sequence[Any]) -> list[Any]:
        if row[0] == "total":
            return [element("b", cell) for cell in row]
        return [
            element("div", cell, class_="text") if 0 < place < left else cell
            for place, cell in enumerate(row)
        ]

    return table(None, cells(heads), map(cells, rows))


def outline(network: Any) -> Markup:
    """Returns the parts of a network, one per line, indented by depth."""
    lines = [*_lines(network, "", 0)]
    more = f"... {len(lines) - LINES:,} more" if len(lines) > LINES else None
    return join(*lines[:LINES], more and element("div", more))


def _lines(network: Any, name: str, depth: int) -> Iterator[Markup]:
    kind, settings, children, *_ = network.parts
    # A function is represented by its name.
    shown = ((key, cut(getattr(value, "__name__", value), 60)) for key, value in settings)
    values = ", ".join(f"{key}={value}" for key, value in shown)
    yield element(
        "div",
        name and join(element("b", name), " "),
        kind,
        values and join(" ", element("span", values, style="opacity: 0.75")),
        style=f"padding-left: {1.5 * depth:g}em",
    )
    for child_name, child in children:
        yield from _lines(child, child_name, depth + 1)


def learner(parts: Any, hparams: Any) -> Markup:
    """Returns the network of a learner, if it does not need other hyper-parameters."""
    if parts is None:
        return element("div", "a custom learner")
    try:
        network = parts.network(hparams)
    except Exception:  # a user's function may fail in any way without its hyper-parameters
        return element("div", "a learner whose network depends on hyper-parameters")
    return join(element("div", "a learner for"), outline(network))


def block(*pieces: Any) -> Markup:
    """Returns one element with all pieces, which scrolls if it is wider than the page."""
    return element("div", element("style", Markup(_STYLE)), *pieces, class_="jaxnn")
