"""A thread that ends this process when another process of its run has ended.

No exception recovers from the loss of a process: the others would wait for it in a collective, and
then in the shutdown of `jax.distributed`. So the first process to fail announces it, one of them
prints one line, and all leave without that shutdown. The same command then resumes the run.
"""

import atexit
import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jax

from jaxnn.scale import processes
from jaxnn.scale.processes import ProcessLost, client, lost

# Seconds between two looks, without a sign of life until a process is lost, and until a process
# that should leave by itself is ended.
PULSE, SILENCE, GRACE = 1.0, 12.0, 6.0
# The exit code when another process was lost: that of a run that was interrupted and can resume.
INTERRUPTED = 75
_ENDED, _LEFT, _ALIVE = "jaxnn/ended", "jaxnn/left", "jaxnn/alive"
# Errors of this process alone, whatever the others do.
_OWN = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED", "NOT_FOUND")

_begun, _stop = threading.Event(), threading.Event()
_prints = threading.Event()  # whether it falls to this process to say why


def begin() -> None:
    """Starts the thread, and makes an uncaught exception end all processes; does so once."""
    if processes.count() == 1 or _begun.is_set():
        return
    _begun.set()
    thread = threading.Thread(target=_watch, name="jaxnn watch", daemon=True)
    thread.start()

    def finish():
        # An interpreter that ends while the thread asks the service would abort.
        _stop.set()
        thread.join(5.0)
        _leave_word()

    atexit.register(finish)
    show = sys.excepthook

    def excepthook(kind, error, trace):
        announce(1, f"{kind.__name__}: {error}")
        if _prints.is_set():
            show(kind, error, trace)
        leave(1)

    sys.excepthook = excepthook


@contextmanager
def together(code: Callable[[BaseException], int]) -> Iterator[None]:
    """Ends all processes if this one fails, with `code(error)`; what a lost process causes too.

    Raises:
      ProcessLost: instead of the error that the loss of another process has caused.
    """
    if processes.count() == 1:
        yield
        return
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if any(word in str(error) for word in _OWN):
            announce(1, str(error))
            raise
        announce(INTERRUPTED, None)
        raise lost(str(error).splitlines()[0][:120]) from None
    except ProcessLost:
        announce(INTERRUPTED, None)
        raise
    except BaseException as error:
        announce(code(error), str(error) or type(error).__name__)
        raise


def announce(code: int, words: str | None) -> None:
    """Says to all processes that the run has ended, unless one of them has said it.

    Args:
      code: with which they exit.
      words: why, in one line; `None` if another process was lost, which the first one names.
    """
    value = json.dumps({"code": code, "words": words})
    try:
        client().key_value_set(f"{_ENDED}/by", value)
    except jax.errors.JaxRuntimeError as error:
        # Without the first process, which has the service, each is alone.
        alone = "ALREADY_EXISTS" not in str(error)
    else:
        alone = words is not None
    if alone and not processes.ended.is_set():
        _prints.set()
    processes.ended.set()


def end(code: int, words: str) -> NoReturn:
    """Ends all processes, or the only one, with a line that is printed once."""
    if processes.count() == 1:
        print(words, file=sys.stderr, flush=True)
        raise SystemExit(code)
    announce(code, words)
    if _prints.is_set():
        print(words, file=sys.stderr, flush=True)
    leave(code)


def leave(code: int, wait: float = GRACE + 2) -> NoReturn:
    """Ends this process at once; the first one, whose service the others ask, after them.

    Args:
      code: with which it exits, unless another one was announced.
      wait: seconds at most that the first one waits for the others.
    """
    sys.stdout.flush()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        why = _announced()
        code = code if why is None else why["code"]
        _leave_word()
        if processes.is_first():
            missing = _missing(wait)
            if why is not None and why["words"] is None:
                print(_words(missing), file=sys.stderr)
    sys.stderr.flush()
    os._exit(code)


def _watch() -> None:
    """Gives signs of life, looks for those of others, and leaves when the run has ended."""
    beats: dict[int, tuple[str, float]] = {}
    number = 0
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        while (why := _announced()) is None:
            if _stop.wait(PULSE):
                return
            number += 1
            word = json.dumps([number, socket.gethostname()])
            client().key_value_set(f"{_ALIVE}/{processes.index()}", word, allow_overwrite=True)
            if processes.is_first() and _silent(beats):
                announce(INTERRUPTED, None)
        processes.ended.set()
        time.sleep(GRACE)  # the main thread may be about to leave, with more to say
        leave(why["code"], wait=2.0)


def _silent(beats: dict[int, tuple[str, float]]) -> list[int]:
    """Returns the processes that have given no sign of life for too long."""
    now, left = time.monotonic(), _numbers(_LEFT)
    for number, word in _numbers(_ALIVE).items():
        if number in left or beats.get(number, ("", 0.0))[0] != word:
            beats[number] = word, now
    return [number for number, (_, since) in beats.items() if now - since > SILENCE]


def _missing(seconds: float) -> list[int]:
    """Returns the processes that have not said that they leave, after so many seconds."""
    until = time.monotonic() + seconds
    while True:
        missing = sorted({*range(processes.count())} - {*_numbers(_LEFT)})
        if not missing or time.monotonic() > until:
            return missing
        time.sleep(0.1)


def _words(missing: list[int]) -> str:
    """Returns the line about lost processes."""
    alive = _numbers(_ALIVE)
    named = [f"{n} on {json.loads(alive[n])[1]}" if n in alive else f"{n}" for n in missing]
    which = f"process {', '.join(named)}" if named else "one of them"
    return str(lost(f"{which}, which has ended or does not answer"))


def _announced() -> dict[str, Any] | None:
    entries = client().key_value_dir_get(_ENDED + "/")
    return json.loads(entries[0][1]) if entries else None


def _numbers(folder: str) -> dict[int, str]:
    """Returns what each process has written under its number."""
    entries = client().key_value_dir_get(f"{folder}/")
    return {int(key.rpartition("/")[2]): value for key, value in entries}


def _leave_word() -> None:
    """Tells the first process that the silence of this one will mean nothing."""
    if client() is not None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            place = f"{_LEFT}/{processes.index()}"
            client().key_value_set(place, "1", allow_overwrite=True)
