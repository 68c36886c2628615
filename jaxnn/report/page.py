"""The report of a run: a page in one file, which works offline.

    write("runs/mine")      # writes runs/mine/report.html

Its security policy allows the one script by its digest, styles, and the images that are in it.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from jaxnn.markup import Markup, cut, element, join, listing, quoted
from jaxnn.report import description, network, results, sweep_page
from jaxnn.report.advice import advice, otherwise
from jaxnn.report.headline import notes, sentence
from jaxnn.report.learning import learning
from jaxnn.report.packed import text
from jaxnn.report.sections import Section, filled, rendered, section, unbroken
from jaxnn.report.source import Source, read
from jaxnn.storage import files


def write(path: str | Path, out: str | Path | None = None) -> Path:
    """Writes the report of a run, and returns its path.

    Args:
      path: the directory of the run, finished or not, or of a sweep, or one with a single run.
      out: the file to write; by default `report.html` in the directory.

    Raises:
      InvalidValue: if there is no run, or a newer jaxnn has written it.
      OSError: if the file cannot be written.
    """
    source = read(Path(path).expanduser())
    file = source.contents.path / "report.html" if out is None else Path(out).expanduser()
    files.write(file, of_run(source).encode(errors="replace"))
    return file


def of_run(source: Source) -> Markup:
    """Returns the page of a run."""
    about = source.about
    name = str(about.experiment or source.contents.path.resolve().name)
    done = f"step {source.step:,}"
    outcome = results.sections(source)
    if source.many:
        most = max(row["steps"] for row in source.table)
        done = f"{len(source.table):,} networks, up to {most:,} steps each"
        outcome = sweep_page.sections(source)
    what = [description.columns, *network.SECTIONS, *description.SECTIONS]
    sections = [learning, _advice, *outcome, *what]
    early = source.result.get("status") == "stopped"
    facts = [about.experiment and quoted(name), "stopped early" if early else about.status, done]
    shown = rendered(sections, source)
    return page(f"{name}: report", sentence(source), facts, shown, notes(source))


@section("advice", "Findings")
def _advice(source):
    # A docstring would be shown as the introduction, which this section does not need.
    advices = advice(source)
    if not advices:
        many = "Nothing: no network diverged, and no best value is at the edge of what was tried."
        return element("p", many if source.many else otherwise(source))
    items = [
        element("li", element("h3", each.title), element("p", each.what), element("p", each.do))
        for each in advices
    ]
    return element("ul", *items, class_="advice")


def page(
    title: str,
    heading: str,
    facts: Iterable,
    shown: list[tuple[Section, Markup]],
    notes: Iterable[str] = (),
) -> Markup:
    """Returns a page with a title, `facts`, a heading with `notes`, and sections."""
    folder = resources.files("jaxnn.report")
    style, script = (Markup((folder / f).read_text("utf-8")) for f in ("page.css", "page.js"))
    return filled(
        "page.html",
        title=cut(title),
        style=style,
        script=script,
        digest=text(hashlib.sha256(script.encode()).digest()),
        facts=listing(filter(None, facts), " · "),
        heading=unbroken(heading),
        notes=join(*[element("p", note, class_="note") for note in notes]),
        links=join(*[element("a", each.title, href=f"#{each.name}") for each, _ in shown]),
        sections=join(*[content for _, content in shown]),
        time=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
    )
