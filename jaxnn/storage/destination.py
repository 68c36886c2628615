"""Where a run is written, and under what name: the `out` of `fit`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxnn.checks import InvalidType


@dataclass(frozen=True)
class Directory:
    """The run directory to write; `fit(out="runs/mine")` is short for `Directory("runs/mine")`.

    Attributes:
      path: an unfinished run there is resumed, and where one is finished already a numbered sibling
        is begun.
      name: what the run is called in its result.
      config: what was asked, a dataclass or a mapping, for `config.json`; by default the
        hyper-parameters, or the values and seeds of a sweep.
      resume: whether there must be a run to resume. A finished one is returned as it is, or trained
        further if `steps` was changed on purpose.
      allow_change: what may differ from the run that is resumed: fields of the configuration,
        hyper-parameters, `"steps"`, `"data"`, `"program"`, or what else the error names.
      report: whether the run is recorded, and gets a `report.html` in the end: a page with the
        timeline of its training.
    """

    path: str | Path
    name: str | None = None
    config: Any = None
    resume: bool = False
    allow_change: Sequence[str] = ()
    report: bool = True

    def __post_init__(self):
        path, names = self.path, self.allow_change
        if not isinstance(path, str | os.PathLike) or str(path) == "" or "\0" in str(path):
            raise InvalidType(
                "run directory",
                "out is not a path",
                got=f"out={path!r}",
                expected="the path of a directory",
                fix="Pass, say, out='runs/mine'",
            )
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise InvalidType(
                "run directory",
                "allow_change has the wrong type",
                got=f"allow_change={names!r}",
                expected="a list of names",
                fix="Pass, say, allow_change=['learning_rate']",
            )


def destination(out: str | Path | Directory) -> Directory:
    """Returns `out` as a `Directory`."""
    return out if isinstance(out, Directory) else Directory(out)
