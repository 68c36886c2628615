"""What jaxnn promises about runs that are stopped, and the page that says what was tried.

rm -f figures; JAXNN_FIGURES=$PWD/figures pytest -m slow
python -m tests.promises figures > docs/reliability.md
"""

import datetime
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

PROMISES = {
    "P1": "A run that is killed and restarted with the same command ends with the same bits as an"
    " uninterrupted run.",
    "P2": "Every listed checkpoint is complete.",
    "P3": "Corrupt checkpoints are detected and reported. The run uses an older one, and deletes"
    " nothing.",
    "P4": "Bad input raises an error that states the fix, before anything compiles.",
    "P5": "A run does not resume with a different network, optimizer, configuration or data unless"
    " you allow it.",
    "P6": "No row of metrics is lost or duplicated.",
    "P7": "Only one process at a time writes to a run directory.",
    "P8": "Ctrl-C or SIGTERM saves within a chunk, about a second. A second signal ends the process"
    " at once, without harm.",
    "P9": "A full or failing disk is reported, and loses no checkpoint and no row. Training"
    " continues, tries again, and ends with an error only if it cannot write the last checkpoint or"
    " the rows before it.",
    "P10": "A state that is not finite never becomes the newest or the best checkpoint.",
    "P11": "A process completes pending saves before it ends, however it ends. A failed save is an"
    " error.",
    "P12": "Files are data: reading them never runs code or writes elsewhere.",
    "P13": "Newer versions read the runs of older versions.",
    "P14": "A run resumes on a different number of devices, and warns that bits may differ.",
}

PAGE = """\
# Reliability

This page lists what a run directory guarantees, how often the tests tried each guarantee, and how
often it failed. An interruption of any kind loses at most the time since the last save, by default
one minute, and the same command resumes the run. `python -m tests.promises` generates this page
from the counts of the tests; the tests of a row were last run on its date. A dash marks a guarantee
that no test has tried.

{table}

Generated on {date} with Python {python} on {system}, {versions}.
"""


def figure(promise: str, what: str, count: int, bad: int = 0) -> None:
    """Adds a line to the file of figures that `JAXNN_FIGURES` names, if it does.

    Args:
      promise: `P1` to `P14`.
      what: was tried, in plain words.
      count: how often.
      bad: how often the promise was broken.
    """
    assert promise in PROMISES
    if "JAXNN_FIGURES" in os.environ:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").split("::")[0]
        line = {"promise": promise, "what": what, "count": count, "bad": bad, "test": test}
        line["date"] = datetime.date.today().isoformat()
        with open(os.environ["JAXNN_FIGURES"], "a") as file:
            file.write(json.dumps(line) + "\n")


@contextmanager
def counted(**what: str) -> Iterator[list[Any]]:
    """Yields a list of what was tried, and adds a figure for each promise, `P1="kills"`.

    What raises is a broken promise.
    """
    tried: list[Any] = []
    bad = 1
    try:
        yield tried
        bad = 0
    finally:
        for promise, words in what.items():
            figure(promise, words, len(tried), bad)


def table(lines: Iterable[dict[str, Any]]) -> str:
    """Returns the table of all promises, figures of the same being added up."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    dates: dict[tuple[str, str, str], str] = {}
    for line in lines:
        key = line["promise"], line["what"], line["test"]
        place = sums.setdefault(key, [0, 0])
        place[0] += line["count"]
        place[1] += line["bad"]
        dates[key] = max(dates.get(key, ""), line["date"])
    rows = [
        "| | guarantee | tried | broken | last tried | test |",
        "|---|---|--:|--:|---|---|",
    ]
    for promise, words in PROMISES.items():
        rows.append(f"| {promise} | **{words}** | | | | |")
        mine = [(key, each) for key, each in sums.items() if key[0] == promise]
        for key, (count, bad) in sorted(mine):
            rows.append(f"| | {key[1]} | {count} | {bad} | {dates[key]} | `{key[2]}` |")
        if not mine:
            rows.append("| | | - | - | | |")
    return "\n".join(rows)


def page(lines: Iterable[dict[str, Any]]) -> str:
    """Returns `docs/reliability.md`."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    return PAGE.format(
        table=table(lines),
        date=datetime.date.today().isoformat(),
        python=platform.python_version(),
        system=platform.system(),
        versions=", ".join(f"{name} {version(name)}" for name in names),
    )


if __name__ == "__main__":
    print(page(map(json.loads, Path(sys.argv[1]).read_text().splitlines())), end="")
