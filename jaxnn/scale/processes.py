"""The processes of one run: which of them is the first, and how they agree.

What depends on a clock, a signal or a disk is decided by the first process and read by the others.
They exchange it through the coordination service of `jax.distributed`, which needs no device:
training continues meanwhile, and a thread in the background may take part. In a single process each
of these functions is a plain call.

>>> agree("length", lambda: 4), collect("seconds", 0.5), is_first()
(4, [0.5], True)
"""

import json
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax

from jaxnn.checks import Explained

# Milliseconds that a single request to the service may wait.
_PATIENCE = 1000
# A value is deleted when so many more of its name have been agreed on: none is that far behind.
_BEHIND = 64

ended = threading.Event()
"""Is set once the run of all processes has ended with an error."""

_counts: Counter[str] = Counter()


class ProcessLost(Explained, RuntimeError):
    """Another process of the run has ended; none can continue without it."""


def count() -> int:
    """Returns the number of processes that take part; 1 without `jaxnn.scale.start`."""
    return _state().num_processes if client() is not None else 1


def index() -> int:
    """Returns the number of this process, from 0."""
    return _state().process_id if client() is not None else 0


def is_first() -> bool:
    """Returns whether this process owns the directory and the screen."""
    return index() == 0


def agree(name: str, decide: Callable[[], Any]) -> Any:
    """Returns what the first process decides; it alone calls `decide`.

    Each process must call it equally often with the same name.

    Args:
      name: of the matter, without a slash.
      decide: returns what JSON can hold.

    Raises:
      Exception: what `decide` raises, in all processes.
      ProcessLost: if the first process ends before it has decided.
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
    """Returns the error that the first process has raised."""
    kinds, known = [Explained, OSError], {}
    while kinds:
        kind = kinds.pop()
        known[kind.__name__] = kind
        kinds += kind.__subclasses__() if issubclass(kind, Explained) else []
    return known.get(name, RuntimeError)(words)


def collect(name: str, value: Any) -> list[Any]:
    """Returns the values of all processes, in their order, to each of them; see `agree`."""
    if count() == 1:
        return [value]
    key = _key(name)
    _set(f"{key}/{index()}", value)
    return [value if i == index() else _get(f"{key}/{i}", i) for i in range(count())]


def report(name: str, value: Any) -> list[Any] | None:
    """Returns the values of all processes to the first, without waiting in the others."""
    if count() == 1:
        return [value]
    key = _key(name)
    if not is_first():
        _set(f"{key}/{index()}", value)
        return None
    return [value, *(_get(f"{key}/{i}", i) for i in range(1, count()))]


def any_process(name: str, flag: bool) -> bool:
    """Returns whether any process has a true flag, as far as the first one knows; see `agree`."""
    if count() > 1 and flag and not is_first():
        client().key_value_set(f"jaxnn/flag/{name}/{index()}", "1", allow_overwrite=True)

    def known() -> bool:
        return flag or (count() > 1 and bool(client().key_value_dir_get(f"jaxnn/flag/{name}/")))

    return agree(name, known)


def client() -> Any:
    """Returns the client of the coordination service, `None` in a run of one process."""
    return _state().client


def _state() -> Any:
    from jax._src import distributed  # no public function gives the service of jax.distributed

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
    """Waits for a value, as long as no process is lost."""
    while not ended.is_set():
        try:
            content = client().blocking_key_value_get_bytes(key, _PATIENCE)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                break
        else:
            return json.loads(zlib.decompress(content))
    raise lost(f"no word from process {process}")


def lost(got: str) -> ProcessLost:
    """Returns the error about a process that has ended."""
    return ProcessLost(
        "processes",
        "a process of this run has ended",
        got=got,
        expected=f"all {count()} of them, without which none can continue",
        fix="Start all of them again with the same command: the run resumes from its newest"
        " checkpoint, if it has a directory",
    )
