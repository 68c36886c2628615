"""The section about the columns of the training table and their encodings."""

from jaxnn.markup import Markup, folded, join, quoted, table
from jaxnn.report.sections import section
from jaxnn.report.source import Source

_SHOWN = 30  # number of columns that are shown without unfolding
_HEADS = ["column", "kind", "encoding", "missing", "classes"]


@section("columns", "What the columns became")
def _columns(source: Source) -> Markup | None:
    """A network computes with numbers close to 0. The encoding of each column depends only on the
    training rows, and is the same for new rows.
    """
    columns = source.columns
    if columns is None:
        return None
    rows = [
        [quoted(name), kind, quoted(words), missing, quoted(classes)]
        for name, kind, words, missing, classes in columns.described()
    ]
    shown = table(f"Columns of {columns.rows:,} training rows", _HEADS, rows[:_SHOWN], class_=None)
    more = rows[_SHOWN:]
    rest = folded(f"{len(more)} more", table(None, _HEADS, more, class_=None)) if more else None
    return join(shown, rest)


SECTIONS = (_columns,)
