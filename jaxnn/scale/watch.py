"""A thread that ends this process when another process of the run has ended.

No exception handler can recover from the loss of a process: the others would wait for it in a
collective, and then in the shutdown of `jax.distributed`. The first process that fails therefore
announces it, one process prints one line, and all exit without that shutdown. The same command then
resumes the run.
"""

import atexit
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jax

from jaxnn.formatting import first_line
from jaxnn.scale import processes
from jaxnn.scale.processes import ProcessLost, client, lost, stored

# Seconds between two checks, without a heartbeat until a process is lost, and until a process
# that does not exit by itself is ended.
PULSE, SILENCE, GRACE = 1.0, 12.0, 6.0
# Seconds that a process which has reached its end waits for the others.
LINGER = 1800.0
# The exit code if another process is lost, as for an interrupted run that can be resumed.
INTERRUPTED = 75
_ENDED, _LEFT, _ALIVE = "jaxnn/ended", "jaxnn/left", "jaxnn/alive"
# What a call of the service raises if process 0 is lost, or a script has shut it down.
_UNREACHABLE = (jax.errors.JaxRuntimeError, AttributeError)
_FIRST = "process 0, which has ended or does not answer"
# Errors that this process causes itself, regardless of the other processes.
_OWN = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED", "NOT_FOUND", "CpuCallback error")

_begun, _stop = threading.Event(), threading.Event()
# The reason is printed once: by the main thread, or where jax aborts the process.
_print_lock = threading.Lock()
_prints, _printed = threading.Event(), threading.Event()  # by the main thread of this process
_exit_lock = threading.RLock()  # of the thread that ends this process


def begin() -> None:
    """Starts the thread, once, and makes an uncaught exception end all processes."""
    if processes.count() == 1 or _begun.is_set():
        return
    _begun.set()
    thread = threading.Thread(target=_watch, name="jaxnn watch", daemon=True)
    thread.start()
    if not processes.is_first():
        _explain_abort()

    def finish():
        _await_others()
        # The interpreter would abort if it ended while the thread calls the service. A thread that
        # ends the process has the right exit code.
        _stop.set()
        thread.join(SILENCE + GRACE)
        _leave_word()

    atexit.register(finish)
    show = sys.excepthook

    def excepthook(kind, error, trace):
        if client() is None:  # the script has disconnected
            return show(kind, error, trace)
        code = INTERRUPTED if issubclass(kind, ProcessLost) else 1
        announce(code, f"{kind.__name__}: {error}")
        _print_once(lambda: show(kind, error, trace))
        leave(code)

    sys.excepthook = excepthook


def _await_others() -> None:
    """Waits at the end of a script until all processes have reached it, or one has failed."""
    until = time.monotonic() + LINGER
    with contextlib.suppress(*_UNREACHABLE):
        client().key_value_set(f"{processes.DONE}/{processes.index()}", "1", allow_overwrite=True)
        while len(stored(processes.DONE)) < processes.count():
            if processes.ended.wait(PULSE / 2) or time.monotonic() > until:
                return


@contextmanager
def together(code: Callable[[BaseException], int]) -> Iterator[None]:
    """Ends all processes with exit code `code(error)` if the body fails in this process.

    Raises:
      ProcessLost: instead of an error that the loss of another process causes.
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
        got = first_line(error)[:120] if _first_answers() else _FIRST
        raise lost(got) from None
    except ProcessLost:
        announce(INTERRUPTED, None)
        raise
    except BaseException as error:
        announce(code(error), str(error) or type(error).__name__)
        raise


def announce(code: int, words: str | None) -> None:
    """Announces to all processes that the run has ended, unless that was announced before.

    Args:
      code: the exit code of the processes.
      words: the reason in one line; `None` if another process was lost. The first process names it.
    """
    value = json.dumps({"code": code, "words": words})
    try:
        client().key_value_set(f"{_ENDED}/by", value)
    except jax.errors.JaxRuntimeError as error:
        # Without the first process, which hosts the service, the second one prints.
        speaks = words is not None or processes.index() == 1
        known = "ALREADY_EXISTS" in str(error) or processes.ended.is_set()
        alone = speaks and not known
    else:
        alone = words is not None
    if alone and _print_lock.acquire(blocking=False):
        _prints.set()
    processes.ended.set()


def end(code: int, words: str) -> NoReturn:
    """Ends all processes with an exit code and a line that is printed once."""
    if processes.count() == 1:
        print(words, file=sys.stderr, flush=True)
        raise SystemExit(code)
    announce(code, words)
    _print_once(lambda: print(words, file=sys.stderr, flush=True))
    leave(code)


def _print_once(show: Callable[[], None]) -> None:
    """Prints the reason with `show` if this process is the one that prints it."""
    if _prints.is_set() and not _printed.is_set():
        show()
        _printed.set()


def leave(code: int, wait: float = GRACE + 2) -> NoReturn:
    """Ends this process; the first process, which hosts the service, waits for the others.

    Args:
      code: the exit code, unless another one was announced.
      wait: the maximum time in seconds that the first process waits where another one was lost.
        Otherwise all can leave, and it waits for those that are slow.
    """
    _exit_lock.acquire()
    try:
        with contextlib.suppress(*_UNREACHABLE):
            why = _announced()
            code = code if why is None else why["code"]
            _leave_word()
            if processes.is_first():
                is_loss = why is not None and why["words"] is None
                missing = _missing(wait if is_loss else SILENCE + GRACE)
                if is_loss:
                    print(_words(missing), file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _watch() -> None:
    """Sends heartbeats, checks those of other processes, and exits when the run has ended."""
    beats: dict[int, tuple[str, float]] = {}
    number = 0
    with contextlib.suppress(*_UNREACHABLE):
        while (why := _announced()) is None:
            number += 1
            word = json.dumps([number, socket.gethostname()])
            client().key_value_set(f"{_ALIVE}/{processes.index()}", word, allow_overwrite=True)
            if processes.is_first() and _silent(beats):
                announce(INTERRUPTED, None)
            elif _stop.wait(PULSE):
                return
        processes.ended.set()
        time.sleep(GRACE)  # the main thread may be about to exit, with more information
        # A script may have caught the error.
        _print_once(lambda: print(why["words"], file=sys.stderr))
        leave(why["code"], wait=2.0)


def _explain_abort() -> None:
    """Lets this process exit as after any other loss where jax aborts it, as process 0 has ended.

    No Python handler of the signal would run, as the process ends before the next instruction.
    """
    system = ctypes.CDLL(None)
    system.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def explain(number: int) -> None:
        if _first_answers():
            return  # the reason is another one, and the process aborts
        if not _print_lock.acquire(blocking=False):
            _printed.wait(GRACE)  # the main thread prints the reason, and exits
        if processes.index() == 1 and not _printed.is_set():
            os.write(2, f"{lost(_FIRST)}\n".encode())
        os._exit(INTERRUPTED)

    _handlers.append(explain)
    system.signal(signal.SIGABRT, ctypes.cast(explain, ctypes.c_void_p))


_handlers: list[Any] = []  # as long as the process lives


def _first_answers() -> bool:
    """Returns whether process 0 can be reached; it sends the first bytes of a connection."""
    host, _, port = processes.address().rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=4.0) as connection:
            return bool(connection.recv(1))  # the connection to a stopped process is accepted
    except OSError:
        return False


def _silent(beats: dict[int, tuple[str, float]]) -> list[int]:
    """Returns the processes whose heartbeats have stopped for more than `SILENCE` seconds."""
    now, left = time.monotonic(), stored(_LEFT)
    # If this process was stopped, so may have been the others, as on a machine that was suspended.
    was_stopped = now - beats.get(processes.index(), ("", now))[1] > 5 * PULSE
    for number, word in stored(_ALIVE).items():
        if was_stopped or number in left or beats.get(number, ("", 0.0))[0] != word:
            beats[number] = word, now
    return [number for number, (_, since) in beats.items() if now - since > SILENCE]


def _missing(seconds: float) -> list[int]:
    """Waits up to `seconds`, and returns the processes that have not announced their exit."""
    until = time.monotonic() + seconds
    while True:
        missing = sorted({*range(processes.count())} - {*stored(_LEFT)})
        if not missing or time.monotonic() > until:
            return missing
        time.sleep(0.1)


def _words(missing: list[int]) -> str:
    """Returns the message about the lost processes."""
    alive = stored(_ALIVE)
    missing = missing or sorted(stored(processes.DONE))
    named = [f"{n} on {json.loads(alive[n])[1]}" if n in alive else f"{n}" for n in missing]
    which = f"process {', '.join(named)}" if named else "one of them"
    return str(lost(f"{which}, which has ended or does not answer"))


def _announced() -> dict[str, Any] | None:
    entries = client().key_value_dir_get(_ENDED + "/")
    return json.loads(entries[0][1]) if entries else None


def _leave_word() -> None:
    """Announces the exit of this process, so that missing heartbeats are not an error."""
    if client() is not None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            place = f"{_LEFT}/{processes.index()}"
            client().key_value_set(place, "1", allow_overwrite=True)
