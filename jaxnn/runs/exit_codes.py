"""Exit codes of commands, which tell scripts and cluster schedulers how to proceed.

>>> exit_code(Invalid("fit: ...")), exit_code(KeyboardInterrupt()), exit_code(KeyError("a"))
(2, 75, 1)
"""

from jaxnn.checks import Invalid
from jaxnn.runs.output import NotFinite
from jaxnn.scale.processes import ProcessLost
from jaxnn.scale.watch import INTERRUPTED
from jaxnn.storage.directory import NoCheckpoint
from jaxnn.storage.lock import DirectoryInUse

_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (Invalid, 2),
    (NotFinite, 3),
    (NoCheckpoint, 4),
    (DirectoryInUse, 5),
    (OSError, 6),
    (KeyboardInterrupt, INTERRUPTED),
    (ProcessLost, INTERRUPTED),
)


def exit_code(error: BaseException) -> int:
    """Returns the exit code for an error; 1 for an unexpected error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)
