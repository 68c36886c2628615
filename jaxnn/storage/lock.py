"""One writer for a directory: a lock of the system, and a token where there are no locks.

The system frees the lock, whatever ends its holder. The locked file names the holder and its token,
which the holder reads again before each rename: on a network drive without locks the later process
takes the directory, and the earlier one notices.
"""

import errno
import fcntl
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxnn.checks import Explained
from jaxnn.storage import files
from jaxnn.storage.json_files import decode, encode

LOCK = ".lock"


class DirectoryInUse(Explained):
    """Another process is writing to the run directory."""


@contextmanager
def locked(path: Path) -> Iterator[str]:
    """Holds the lock of a directory, and yields the token of its holder.

    Raises:
      DirectoryInUse: if another process holds it.
      OSError: if it cannot be written.
    """
    with open(path / LOCK, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise in_use(path, "another process is writing there") from None
            # Some network drives have no locks: there the token alone must do.
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
                raise
        token = uuid.uuid4().hex
        lock.truncate(0)
        who = {"token": token, "process": os.getpid(), "host": socket.gethostname()}
        lock.write(encode(who).decode())
        lock.flush()
        try:
            yield token
        finally:
            # The next process must not be pointed to this one, which has left.
            if owner(path).get("token") == token:
                lock.truncate(0)


def owner(path: Path) -> dict[str, Any]:
    """Returns `token`, `process` and `host` of the last writer, `{}` if it is not known."""
    try:
        return dict(decode(files.read(path / LOCK)))
    except (OSError, ValueError, TypeError):
        return {}


def alive(process: Any) -> bool:
    """Whether a process of that number runs on this host."""
    try:
        os.kill(process, 0)  # sends no signal
    except PermissionError:  # it belongs to another user
        return True
    except (OSError, TypeError, OverflowError):
        return False
    return process > 0


def in_use(path: Path, wrong: str) -> DirectoryInUse:
    """Returns the error about a directory in use, which names the process that has it."""
    who, end = owner(path), time.monotonic() + 5
    # The holder of the lock may not have written its name yet.
    while _is_over(who) and time.monotonic() < end:
        time.sleep(0.01)
        who = owner(path)
    name = f", process {who.get('process')} on {who.get('host')}" if who else ""
    return DirectoryInUse(
        "run directory",
        wrong,
        got=f"{path}{name}",
        expected="a directory that no run is using",
        fix="Wait for that run to end, or name another directory (--out)",
    )


def _is_over(who: dict[str, Any]) -> bool:
    here = who.get("host", socket.gethostname()) == socket.gethostname()
    return here and not alive(who.get("process"))
