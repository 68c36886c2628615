"""How things show themselves in a notebook: a little HTML in the page's own colours and letters.

All that is said is text: nothing in a name can become markup.

>>> columns(("part", "FLOPs"), [("<b>", "12")], left=1).count("&lt;b&gt;")
1
"""

import html
from collections.abc import Iterable, Iterator, Sequence
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

    if len(rows) > LINES:
        rows = [*rows[: LINES - 1], (f"... {len(rows) - LINES:,} more",), rows[-1]]
    rule = "border-top: 1px solid currentColor"
    body = [line("td", row, rule if row[0] == "total" else "") for row in rows]
    head = f"<tr>{line('th', heads)}</tr>"
    return (
        '<table style="border-collapse: collapse; color: inherit; font-variant-numeric:'
        f' tabular-nums"><thead>{head}</thead><tbody>'
        + "".join(f"<tr>{each}</tr>" for each in body)
        + "</tbody></table>"
    )


def outline(network: Any, name: str = "") -> str:
    """Returns what a network is made of, a line for each part, those inside it further right."""
    lines = [*_lines(network, name, 0)]
    more = [f"<div>... {len(lines) - LINES:,} more</div>"] if len(lines) > LINES else []
    return "".join(lines[:LINES] + more)


def _lines(network: Any, name: str, depth: int) -> Iterator[str]:
    kind, settings, children, *_ = network.parts
    told = ", ".join(f"{key}={_short(value)}" for key, value in settings)
    words = [f"<b>{escaped(name)}</b>"] if name else []
    words += [escaped(kind)] + (
        [f'<span style="opacity: 0.75">{escaped(told)}</span>'] * bool(told)
    )
    yield f'<div style="padding-left: {1.5 * depth:g}em">{" ".join(words)}</div>'
    for child_name, child in children:
        yield from _lines(child, child_name, depth + 1)


def _short(value: Any) -> str:
    """Returns a setting in a word or two: a function by its name, and no more of an array."""
    text = str(getattr(value, "__name__", value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def learner(parts: Any, hparams: Any) -> str:
    """Returns what a learner is made of; its network may have to be told hyper-parameters."""
    if parts is None:
        return sentence("a learner that was written by hand")
    try:
        network = parts.network(hparams)
    except Exception:  # whoever wrote the function had other numbers in mind
        return sentence("a learner, whose network depends on hyper-parameters")
    return sentence("a learner of") + outline(network)


def sentence(*words: Any) -> str:
    """Returns a line of text."""
    return f"<div>{escaped(' '.join(map(str, words)))}</div>"


def block(*pieces: str) -> str:
    """Returns pieces of HTML as one, which scrolls by itself where it is wider than the page."""
    style = "color: inherit; background: transparent; overflow-x: auto"
    return f'<div style="{style}">{"".join(pieces)}</div>'
