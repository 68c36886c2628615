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
    "P1": "A run that is killed ends, after the same command again, with the same bits as one that"
    " nothing stopped.",
    "P2": "A checkpoint that is listed is whole.",
    "P3": "Corruption of a checkpoint is detected and reported; an older one is used, and nothing"
    " is deleted.",
    "P4": "What cannot be used is refused before anything compiles, with the fix.",
    "P5": "Resuming with another network, optimizer, configuration or data is refused, unless it is"
    " allowed.",
    "P6": "No row of metrics is lost, and none is there twice.",
    "P7": "One process at a time writes to a run directory.",
    "P8": "Ctrl-C or SIGTERM saves within a chunk, about a second; a second one ends the process at"
    " once, and harms nothing.",
    "P9": "A disk that is full or fails is reported, and costs no checkpoint. Training continues,"
    " and ends with an error only if the last save, or a row, cannot be written.",
    "P10": "What is not a number becomes neither the newest nor the best checkpoint.",
    "P11": "A process waits for what is being saved, however it ends; a failed save is an error.",
    "P12": "Files are data: none of them runs code, or causes a write elsewhere.",
    "P13": "What an older version wrote stays readable.",
    "P14": "A run resumes with another number of devices, and warns that bits may differ.",
}

PAGE = """\
# Reliability

What a run directory promises, and how often each promise was put to the test. A stop of any kind
costs at most the time since the last save, a minute by default; the same command then resumes. The
page is written by `python -m tests.promises` from what the tests counted: a promise that was broken
has its number in the column *broken*, one that nothing has tried a dash.

{table}

Tried on {date} with Python {python} on {system}, {versions}.
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
    for line in lines:
        place = sums.setdefault((line["promise"], line["what"], line["test"]), [0, 0])
        place[0] += line["count"]
        place[1] += line["bad"]
    rows = [
        "| | promise | tried | broken | test |",
        "|---|---|--:|--:|---|",
    ]
    for promise, words in PROMISES.items():
        rows.append(f"| {promise} | **{words}** | | | |")
        mine = [(key, each) for key, each in sums.items() if key[0] == promise]
        for (_, what, test), (count, bad) in sorted(mine):
            rows.append(f"| | {what} | {count} | {bad} | `{test}` |")
        if not mine:
            rows.append("| | | - | - | |")
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
