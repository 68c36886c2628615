"""Ensures that a directory has one writer, with a file lock, and with a token as a fallback.

The operating system releases the lock when its holder ends for any reason. The locked file contains
the holder's name and token, which the holder reads again before each rename. So on a network drive
without locks, the later process takes over the directory, and the earlier one notices.
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
# Errors of network drives without locks, where only the token protects the directory.
NO_LOCKS = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)


class DirectoryInUse(Explained):
    """Another process is writing to the run directory."""


@contextmanager
def locked(path: Path) -> Iterator[str]:
    """Holds the lock of a directory, and yields the token of its holder.

    Raises:
      DirectoryInUse: if another process holds it.
      OSError: if the directory cannot be written.
    """
    with open(path / LOCK, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise in_use(path, "another process is writing there") from None
            if error.errno not in NO_LOCKS:
                raise
        token = uuid.uuid4().hex
        lock.truncate(0)
        who = {"token": token, "process": os.getpid(), "host": socket.gethostname()}
        lock.write(encode(who).decode())
        lock.flush()
        try:
            yield token
        finally:
            # Later errors must not name this process, which has ended.
            if owner(path).get("token") == token:
                lock.truncate(0)


def owner(path: Path) -> dict[str, Any]:
    """Returns `token`, `process` and `host` of the last writer; `{}` if it is unknown."""
    try:
        return dict(decode(files.read(path / LOCK)))
    except (OSError, ValueError, TypeError):
        return {}


def alive(process: Any) -> bool:
    """Returns whether a process with this number runs on this host."""
    try:
        os.kill(process, 0)  # sends no signal
    except PermissionError:  # it belongs to another user
        return True
    except (OSError, TypeError, OverflowError):
        return False
    return process > 0


def in_use(path: Path, wrong: str) -> DirectoryInUse:
    """Returns the error for a directory in use, with the process that uses it."""
    here, end = socket.gethostname(), time.monotonic() + 5
    while True:
        who = owner(path)
        ended = who.get("host", here) == here and not alive(who.get("process"))
        # The holder of the lock may not have written its name yet.
        if not ended or time.monotonic() > end:
            break
        time.sleep(0.01)
    return DirectoryInUse(
        "run directory",
        wrong,
        got=f"{path}, process {who.get('process')} on {who.get('host')}" if who else f"{path}",
        expected="a directory that no run is using",
        fix="Wait for that run to end, or choose another directory (--out)",
    )
