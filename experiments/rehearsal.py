"""Rehearses a run in several processes on one machine: `--processes 4`.

Each process runs the command with one device, and connects to the others over the loopback
interface, as it would in a cluster. Only one process prints: the first, or the one that fails.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, Any

from jaxnn.scale._start import VARIABLES, free_port
from jaxnn.scale.watch import INTERRUPTED

# Seconds that the other processes have to exit after one has failed.
_PATIENCE = 28.0


def is_child() -> bool:
    """Returns whether this process is one of several."""
    return all(name in os.environ for name in VARIABLES)


def run(count: int) -> int:
    """Runs this process's command in `count` processes; returns the exit code."""
    # Handlers that raise could lose a child that is being started.
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # which nohup sets
            signal.signal(number, lambda number, _: signals.append(number))
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryFile("w+") as said:
        children = [_start(address, count, number, said) for number in range(count)]
        ended = _await(children, signals)
        codes = [child.wait() for child in children]
        if any(codes):
            return _explain(codes, ended, said)
    return 0


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else ""


def _start(address: str, count: int, number: int, said: IO[str]) -> subprocess.Popen[Any]:
    place = dict(zip(VARIABLES, (address, str(count), str(number))))
    command = [sys.executable, "-m", _module(), *sys.argv[1:]]
    quiet: dict[str, Any] = {} if number == 0 else {"stdout": subprocess.DEVNULL, "stderr": said}
    # In a separate process group, so that Ctrl-C reaches each child only through this process.
    return subprocess.Popen(command, env=os.environ | place, process_group=0, **quiet)


def _await(children: list[subprocess.Popen[Any]], signals: list[int]) -> set[int]:
    """Waits for all processes, and passes on the first of the signals that this one receives.

    Kills the processes that are still running long after one has failed, or at a second signal.

    Returns:
      the numbers of the processes that it has killed.
    """
    failed, is_forwarded, ended = None, False, set()
    while running := [number for number, child in enumerate(children) if child.poll() is None]:
        if signals and not is_forwarded:  # only this process receives it
            is_forwarded = True
            for number in running:
                children[number].send_signal(signal.SIGTERM)
        if failed is None and any(child.poll() for child in children):
            failed = time.monotonic()
        if len(signals) > 1 or (failed is not None and time.monotonic() > failed + _PATIENCE):
            ended.update(running)
            for number in running:
                children[number].kill()
        time.sleep(0.05)
    return ended


def _explain(codes: list[int], ended: set[int], said: IO[str]) -> int:
    """Returns the exit code of the command, and prints the errors of the other processes."""
    killed = [n for n, code in enumerate(codes) if code == -signal.SIGKILL and n not in ended]
    if killed:
        which = ", ".join(map(str, killed))
        words = f"process {which} of {len(codes)} was killed, and the others have ended"
        print(f"{words}; the same command resumes the run", file=sys.stderr)
        return INTERRUPTED
    if {*codes} <= {0, -signal.SIGTERM, -signal.SIGKILL}:  # no process has said so
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    said.seek(0)
    print(said.read(), end="", file=sys.stderr)
    return next((code for code in codes if code > 0), 1)
