"""How things show themselves in a notebook: a little HTML in the page's own colours and letters.

All that is said is text: nothing in a name can become markup.

>>> columns(("part", "FLOPs"), [("<b>", "12")], left=1).count("&lt;b&gt;")
1
"""

import html
from collections.abc import Iterable, Sequence
from typing import Any

# A hundred lines are more than anybody reads in a notebook; the whole is in `str`.
LINES = 100


def escaped(value: Any) -> str:
    """Returns a value as text in HTML, without the characters that no page may have."""
    text = str(value)
    kept = (each if each.isprintable() or each in "\n\t " else "\ufffd" for each in text)
    return html.escape("".join(kept))


def columns(heads: Sequence[Any], rows: Iterable[Sequence[Any]], *, left: int = 1) -> str:
    """Returns a table whose first `left` columns are words and the others numbers.

    The last row is told apart by a line above it if it begins with "total".
    """
    rows = list(rows)

    def line(tag, cells, more=""):
        sides = ["left" if place < left else "right" for place in range(len(cells))]
        return "".join(
            f'<{tag} style="text-align: {side}; white-space: pre; {more}">{escaped(cell)}</{tag}>'
            for side, cell in zip(sides, cells)
        )

    rule = "border-top: 1px solid currentColor"
    body = [line("td", row, rule if row[0] == "total" else "") for row in rows[: LINES - 1]]
    if len(rows) > LINES:
        body.append(line("td", (f"... {len(rows) - LINES:,} more",)))
    body += [line("td", row, rule if row[0] == "total" else "") for row in rows[LINES - 1 :][-1:]]
    head = f"<tr>{line('th', heads)}</tr>"
    return (
        '<table style="border-collapse: collapse; color: inherit; font-variant-numeric:'
        f' tabular-nums"><thead>{head}</thead><tbody>'
        + "".join(f"<tr>{each}</tr>" for each in body)
        + "</tbody></table>"
    )


def block(*pieces: str) -> str:
    """Returns pieces of HTML as one, which scrolls by itself where it is wider than the page."""
    style = "color: inherit; background: transparent; overflow-x: auto"
    return f'<div style="{style}">{"".join(pieces)}</div>'
