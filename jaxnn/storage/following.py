"""The run directory of several processes: the first one writes there, the others look on."""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxnn.checks import InvalidValue
from jaxnn.scale import processes
from jaxnn.storage.directory import Directory, RunDirectory, open_directory
from jaxnn.storage.lock import owner

# Seconds that a network drive may take to show what another host has written.
_DELAY = 10.0


class FollowedDirectory(RunDirectory):
    """The run directory in a process that is not the first: it writes nothing."""

    def append(self, row: Mapping[str, Any]) -> None:
        """Leaves the journal to the first process."""

    def size(self, step: int) -> int:
        """Returns 0, since the first process counts the bytes."""
        return 0

    def cut(self, size: int) -> list[dict[str, Any]]:
        """Leaves the journal as it is."""
        return []

    def unfinish(self) -> None:
        """Leaves the result as it is."""

    def check_owner(self) -> None:
        """Leaves it to the first process to be the owner."""

    def write(self, name: str, content: bytes) -> None:
        """Writes nothing."""


@contextmanager
def open_shared(out: Directory, config: Any = None) -> Iterator[RunDirectory]:
    """Opens a run directory for all processes of a run; see `open_directory`.

    Raises:
      InvalidValue: if a process does not see the directory of the first one.
    """
    if processes.is_first():
        with open_directory(out, config) as directory:
            processes.agree("directory", lambda: [directory.path.name, directory.token])
            processes.collect("seen", True)
            yield directory
        return
    name, token = processes.agree("directory", lambda: None)
    path = Path(out.path).absolute().with_name(name)
    _check_seen(path, token)
    processes.collect("seen", True)
    yield FollowedDirectory(path, token, out)


def _check_seen(path: Path, token: str) -> None:
    until = time.monotonic() + _DELAY
    while owner(path).get("token") != token:
        if time.monotonic() > until:
            raise InvalidValue(
                "run directory",
                f"process {processes.index()} on {socket.gethostname()} does not see the directory"
                " of the first process",
                got=f"{path}, {'another one' if path.exists() else 'which does not exist'} here",
                expected="a directory on storage that all processes share",
                fix="Name one there (--out)",
            )
        time.sleep(0.1)
