"""The command that made a run, as it was typed: with it, the run can be done again.

    python -m experiments.mnist --model convnet

It stands in `command.txt`, and is information alone: a run is the same whatever command makes it,
and a notebook makes runs without one.
"""

import shlex
import sys
from pathlib import Path

from jaxnn.storage import files

FILE = "command.txt"
LARGEST = 1 << 20  # bytes


def typed() -> str | None:
    """Returns the command line of this process, quoted for a shell; `None` if it has no script.

    It names the module or the script that was started, without where Python lies and without what
    runs the script (a debugger, a profiler); arguments stay as they are.
    """
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if hasattr(sys, "ps1") or not hasattr(main, "__file__"):  # typed line by line, or a notebook
        return None
    script, *arguments = map(str, sys.argv or [""])
    if spec is not None and spec.name != "__main__":
        said = ["python", "-m", spec.name.removesuffix(".__main__")]
    elif script.endswith(".py"):
        said = ["python", _place(Path(script))]
    else:
        return None
    return shlex.join([*said, *arguments])


def read(run: Path) -> str | None:
    """Returns the command that made a run, as far as that is known."""
    try:
        return files.read(run / FILE, LARGEST).decode(errors="replace").strip() or None
    except (OSError, ValueError):
        return None


def _place(script: Path) -> str:
    """Returns the path of a script, and nothing of folders outside of the current one."""
    if not script.is_absolute():
        return str(script)
    here = Path.cwd()
    return str(script.relative_to(here)) if script.is_relative_to(here) else script.name
