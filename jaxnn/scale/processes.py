"""Coordinates the processes of a run: which one is the first, and how all agree on values.

The first process decides what depends on a clock, a signal or a disk, and the other processes read
its decisions. They communicate through the coordination service of `jax.distributed`, which uses no
device, so training is not interrupted and background threads can take part. In a single process,
each of these functions is a plain call.

>>> agree("length", lambda: 4), collect("seconds", 0.5), is_first()
(4, [0.5], True)
"""

import contextlib
import json
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax

from jaxnn.checks import Explained

# The timeout of a single request to the service, in milliseconds.
_PATIENCE = 1000
# A value is deleted after this many newer values of its name; no process is that far behind.
_BEHIND = 64

ended = threading.Event()
"""An event that is set once the run of all processes has ended with an error."""

# Where a process that has reached the end of its script stores it.
DONE = "jaxnn/done"

_counts: Counter[str] = Counter()


class ProcessLost(Explained, RuntimeError):
    """Another process of the run has ended, and no process can continue without it."""


def count() -> int:
    """Returns the number of processes in the run, which is 1 without `jaxnn.scale.start`."""
    return _state().num_processes if client() is not None else 1


def index() -> int:
    """Returns the index of this process, from 0."""
    return _state().process_id if client() is not None else 0


def is_first() -> bool:
    """Returns whether this is the first process, which writes to the directory and the screen."""
    return index() == 0


def agree(name: str, decide: Callable[[], Any]) -> Any:
    """Returns the decision of the first process, which alone calls `decide`.

    All processes must call `agree` equally often with the same name.

    Args:
      name: the name of the decision, without a slash.
      decide: returns a value that can be stored as JSON.

    Raises:
      Exception: the error that `decide` raises, in all processes.
      ProcessLost: if the first process ends before it decides.
    """
    if count() == 1:
        return decide()
    key = f"{_key(name)}/0"
    if not is_first():
        value, error = _get(key, 0)
        if error is not None:
            raise _error(*error)
        return value
    try:
        value = decide()
    except Exception as error:
        kind = OSError if isinstance(error, OSError) else type(error)
        _set(key, [None, [kind.__name__, str(error)]])
        raise
    _set(key, [value, None])
    return value


def _error(name: str, words: str) -> Exception:
    """Returns the error that the first process raised, with the same type if it is known."""
    kinds, known = [Explained, OSError], {}
    while kinds:
        kind = kinds.pop()
        known[kind.__name__] = kind
        kinds += kind.__subclasses__() if issubclass(kind, Explained) else []
    return known.get(name, RuntimeError)(words)


def collect(name: str, value: Any) -> list[Any]:
    """Returns the values of all processes, in order, in each process; see `agree`."""
    if count() == 1:
        return [value]
    key = _key(name)
    _set(f"{key}/{index()}", value)
    return [value if i == index() else _get(f"{key}/{i}", i) for i in range(count())]


def report(name: str, value: Any) -> list[Any] | None:
    """Returns the values of all processes in the first process, and `None` in the others."""
    if count() == 1:
        return [value]
    key = _key(name)
    if not is_first():
        _set(f"{key}/{index()}", value)
        return None
    return [value, *(_get(f"{key}/{i}", i) for i in range(1, count()))]


def any_process(name: str, flag: bool) -> bool:
    """Returns whether the flag of any process is known to be true to the first; see `agree`."""
    if count() > 1 and flag and not is_first():
        client().key_value_set(f"jaxnn/flag/{name}/{index()}", "1", allow_overwrite=True)

    def known() -> bool:
        return flag or (count() > 1 and bool(client().key_value_dir_get(f"jaxnn/flag/{name}/")))

    return agree(name, known)


def stored(folder: str) -> dict[int, str]:
    """Returns the values that processes have stored in a folder of the service, by their index."""
    entries = client().key_value_dir_get(f"{folder}/")
    return {int(key.rpartition("/")[2]): value for key, value in entries}


def address() -> str:
    """Returns the address of the first process, `HOST:PORT`."""
    return _state().coordinator_address


def client() -> Any:
    """Returns the client of the coordination service, or `None` for a single process."""
    return _state().client


def _state() -> Any:
    from jax._src import distributed  # JAX has no public access to this service

    return distributed.global_state


def _key(name: str) -> str:
    number = _counts[name]
    _counts[name] += 1
    if number >= _BEHIND and is_first():
        client().key_value_delete(f"jaxnn/{name}/{number - _BEHIND}/")
    return f"jaxnn/{name}/{number}"


def _set(key: str, value: Any) -> None:
    client().key_value_set_bytes(key, zlib.compress(json.dumps(value).encode(), 1))


def _get(key: str, process: int) -> Any:
    """Waits for a value, and raises `ProcessLost` if a process ends."""
    is_done = False
    while not ended.is_set():
        try:
            content = client().blocking_key_value_get_bytes(key, _PATIENCE)
        except jax.errors.JaxRuntimeError as error:
            if is_done or "DEADLINE_EXCEEDED" not in str(error):
                break
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                is_done = process in stored(DONE)
        else:
            return json.loads(zlib.decompress(content))
    raise lost(f"no word from process {process}")


def lost(got: str) -> ProcessLost:
    """Returns the error for a process that has ended."""
    return ProcessLost(
        "processes",
        "a process of this run has ended",
        got=got,
        expected=f"all {count()} of them, without which none can continue",
        fix="Start all of them again with the same command: the run resumes from its newest"
        " checkpoint, if it has a directory",
    )
