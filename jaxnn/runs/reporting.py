"""Writing the report of a run at its end: nothing of the run is lost if that fails."""

import warnings
from pathlib import Path

from jaxnn.checks import Caution


def write_report(path: Path) -> None:
    """Writes the report of a run, or warns with a `Caution` why there is none."""
    try:
        from jaxnn.report import write  # pages are not loaded where none is written

        write(path)
    except Exception as error:
        text = f"the report was not written ({error}): python -m jaxnn report {path} does it again"
        warnings.warn(text, Caution, stacklevel=3)
