"""Places in a run where a test lets something happen: a kill, a signal, or an error of the disk.

A place is a function of the system or of jaxnn that is called with certain words, most often a
path, and the moment before, after or in the middle of it. Nothing of this is in jaxnn itself.
"""

import errno
import io
import itertools
import os
import pkgutil
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax

from jaxnn.storage import files, shards

ROW, SAVE = r"/metrics\.jsonl$", r"checkpoints/\.draft-\d+-\w+"

# {name: (function, moment, words)}. `file:open` and `file:write` are those of `files` and `shards`.
POINTS = {
    # Before the training.
    "traced": ("jaxnn.driver._train:trace_step", "after", ""),
    "compiling": ("compile", "after", ""),
    "directory made": ("pathlib:Path.mkdir", "after", r"/run$"),
    "locked": ("fcntl:flock", "after", r"\.lock"),
    "owner written": ("jaxnn.storage.files:sweep", "before", "/run$"),
    "half of the configuration": ("file:write", "half", "draft-config"),
    "configuration named": ("os:replace", "after", r"-> \S*config\.json"),
    # Training.
    "dispatched": ("jaxnn.driver.chunks:advance", "after", ""),
    "evaluating": ("jaxnn.driver.chunks:report", "before", ""),
    "evaluated": ("jaxnn.driver.chunks:report", "after", ""),
    "copied": ("jaxnn.storage.checkpointing:_duplicate", "after", ""),
    "before a row": ("os:write", "before", ROW),
    "half of a row": ("os:write", "half", ROW),
    "after a row": ("os:write", "after", ROW),
    "rows unforced": ("os:fsync", "before", ROW),
    "rows forced": ("os:fsync", "after", ROW),
    # Saving.
    "folder made": ("pathlib:Path.mkdir", "after", r"/checkpoints$"),
    "draft made": ("pathlib:Path.mkdir", "after", SAVE),
    "arrays begun": ("file:open", "after", SAVE + "/shards-"),
    "half of the arrays": ("file:write", "half", SAVE + "/shards-"),
    "arrays written": ("jaxnn.storage.shards:_write", "after", ""),
    "reading back": ("jaxnn.storage.shards:_read", "before", SAVE),
    "arrays unforced": ("os:fsync", "before", SAVE + "/shards-"),
    "arrays forced": ("os:fsync", "after", SAVE + "/shards-"),
    "half of the manifest": ("file:write", "half", "draft-manifest"),
    "manifest unforced": ("os:fsync", "before", "draft-manifest"),
    "manifest unnamed": ("os:replace", "before", r"-> \S*manifest\.json"),
    "manifest named": ("os:replace", "after", r"-> \S*manifest\.json"),
    "owner checked": ("jaxnn.storage.directory:RunDirectory.check_owner", "after", ""),
    "checkpoint unnamed": ("os:replace", "before", r"-> \S*/\d{12}$"),
    "checkpoint named": ("os:replace", "after", r"-> \S*/\d{12}$"),
    "names forced": ("os:fsync", "after", "/checkpoints$"),
    # Deleting older ones.
    "still named": ("os:replace", "before", r"\.trash-"),
    "in the trash": ("os:replace", "after", r"\.trash-"),
    "half of the trash": ("os:unlink", "after", r"checkpoints/(\.trash-|\d{12})"),
    "last of the trash": ("os:rmdir", "before", r"\.trash-"),
    # Going on.
    "swept": ("jaxnn.storage.files:sweep", "after", ""),
    "restoring": ("jaxnn.storage.checkpoints:read_checkpoint", "before", ""),
    "restored": ("jaxnn.storage.checkpoints:read_checkpoint", "after", ""),
    "rows uncut": ("os:truncate", "before", ROW),
    "rows cut": ("os:truncate", "after", ROW),
    # The end.
    "half of the result": ("file:write", "half", "draft-result"),
    "result unnamed": ("os:replace", "before", r"-> \S*result\.json"),
    "result named": ("os:replace", "after", r"-> \S*result\.json"),
}

# Every call by which a save and a row reach the disk, as far as Python makes it.
DISK = {
    "write": ("os:write", "before", ROW),
    "half a write": ("os:write", "half", ROW),
    "open": ("file:open", "before", SAVE),
    "file write": ("file:write", "half", SAVE),
    "fsync": ("os:fsync", "before", f"{SAVE}|{ROW}|/checkpoints$"),
    "rename": ("os:replace", "before", SAVE),
    "mkdir": ("os:mkdir", "before", f"{SAVE}|/checkpoints$"),
}


def arm(
    point: str | tuple[str, str, str],
    number: int,
    act: str,
    patch: Callable[..., object] = setattr,
) -> list[str]:
    """Lets something happen once, when a point is reached for the `number`-th time.

    Args:
      point: the name of one of `POINTS`, or a function, a moment and words.
      number: which time, from 1.
      act: `kill`; `sleep`; a signal, `SIGINT`, or several, one after another; an error, `ENOSPC`;
        `wait PATH` writes a file and waits until it is gone; `count` does nothing.
      patch: sets an attribute; `monkeypatch.setattr` puts it back.

    Returns:
      The words of the hits so far, a list that grows.
    """
    target, moment, words = POINTS[point] if isinstance(point, str) else point
    hits: list[str] = []
    turn = itertools.count(1)

    def is_hit(args, kwargs):
        said = _words(args, kwargs)
        if not re.search(words, said):
            return False
        hits.append(said)
        return next(turn) == number

    def around(function):
        def wrapper(*args, **kwargs):
            hit = is_hit(args, kwargs)
            if hit and moment == "before":
                _do(act)
            if hit and moment == "half":
                function(args[0], bytes(args[1])[: len(args[1]) // 2])
                _do(act)
            result = function(*args, **kwargs)
            if hit and moment == "after":
                _do(act)
            return result

        return wrapper

    if target == "compile":
        jax.monitoring.register_event_duration_secs_listener(
            lambda event, *_, **__: "compile" in event and is_hit((event,), {}) and _do(act)
        )
    elif target == "file:write":
        raw = type("Raw", (io.FileIO,), {"write": around(io.FileIO.write)})

        def opened(path, mode):
            return io.BufferedWriter(raw(path, mode)) if mode == "wb" else open(path, mode)

        for module in (files, shards):
            patch(module, "open", opened)
    elif target == "file:open":
        for module in (files, shards):
            patch(module, "open", around(open))
    else:
        owner, name = re.fullmatch(r"(.+)[:.](\w+)", target).groups()
        owner = pkgutil.resolve_name(owner)
        patch(owner, name, around(getattr(owner, name)))
    return hits


def _words(args, kwargs) -> str:
    """Returns the paths among arguments, those of open files too."""
    found = []
    for value in [*args, *kwargs.values()]:
        number = value if isinstance(value, int) else getattr(value, "fileno", int)
        if isinstance(value, str | Path):
            found.append(str(value))
        elif isinstance(value, io.IOBase):
            found.append(str(value.name))
        elif type(number) is int and number > 2:
            try:
                found.append(os.readlink(f"/proc/self/fd/{number}"))
            except OSError:
                pass
    return " -> ".join(found)


def _do(act: str) -> None:
    if act == "count":
        return
    print(f"fault: {act}", file=sys.stderr, flush=True)
    if act.startswith("E"):
        number = getattr(errno, act)
        raise OSError(number, os.strerror(number))
    if act == "RuntimeError":
        raise RuntimeError("of the test")
    if act == "sleep":
        time.sleep(1.5)
        return
    if act.startswith("wait "):
        place = Path(act.removeprefix("wait "))
        place.touch()
        while place.exists():
            time.sleep(0.01)
        return
    for name in act.split():
        os.kill(os.getpid(), signal.SIGKILL if name == "kill" else getattr(signal, name))
        time.sleep(0.1)  # until it is served, by the main thread
