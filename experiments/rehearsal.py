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
_PATIENCE = 25.0


def is_child() -> bool:
    """Returns whether this process is one of several."""
    return all(name in os.environ for name in VARIABLES)


def run(count: int) -> int:
    """Runs this process's command in `count` processes; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryFile("w+") as said:
        children = [_start(address, count, number, said) for number in range(count)]
        try:
            _await(children)
        except KeyboardInterrupt:
            # Only this process receives the signal: pass it on.
            for child in children:
                child.send_signal(signal.SIGTERM)
            _await(children)
        codes = [child.wait() for child in children]
        if any(codes):
            return _explain(codes, said)
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


def _await(children: list[subprocess.Popen[Any]]) -> None:
    """Waits for all processes; kills those that are still running long after one has failed."""
    failed = None
    while any(child.poll() is None for child in children):
        if failed is None and any(child.poll() for child in children):
            failed = time.monotonic()
        if failed is not None and time.monotonic() > failed + _PATIENCE:
            for child in children:
                child.kill()
        time.sleep(0.05)


def _explain(codes: list[int], said: IO[str]) -> int:
    """Returns the exit code of the command, and prints the errors of the other processes."""
    killed = [number for number, code in enumerate(codes) if code == -signal.SIGKILL]
    if killed:
        which = ", ".join(map(str, killed))
        words = f"process {which} of {len(codes)} was killed, and the others have ended"
        print(f"{words}; the same command resumes the run", file=sys.stderr)
        return INTERRUPTED
    said.seek(0)
    print(said.read(), end="", file=sys.stderr)
    return next((code for code in codes if code > 0), 1)
