"""The command line of a run, to repeat it.

    python -m experiments.mnist --model convnet

It is saved in `command.txt` for information only. Runs from a notebook have none.
"""

import os
import shlex
import sys
from pathlib import Path

from jaxnn.storage import files

FILE = "command.txt"
LARGEST = 1 << 20  # bytes


def current() -> str | None:
    """Returns the command line of this process, quoted for a shell; `None` if it has no script.

    It names the module or script, without the path of Python and without a debugger or profiler.
    """
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if hasattr(sys, "ps1") or not hasattr(main, "__file__"):  # interactive, or a notebook
        return None
    script, *arguments = map(str, sys.argv or [""])
    if spec is not None and spec.name != "__main__":
        program = ["python", "-m", spec.name.removesuffix(".__main__")]
    elif script.endswith(".py"):
        path, here = Path(script), Path.cwd()
        # Folders outside of the current one are not recorded.
        outside = path.is_absolute() and not path.is_relative_to(here)
        program = ["python", path.name if outside else os.path.relpath(path)]
    else:
        return None
    return shlex.join([*program, *arguments])


def read(run: Path) -> str | None:
    """Returns the command line of a run; `None` if it is unknown."""
    try:
        return files.read(run / FILE, LARGEST).decode(errors="replace").strip() or None
    except (OSError, ValueError):
        return None
