"""Graceful shutdown on Ctrl-C and SIGTERM, by an event that is checked after each chunk."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def signals() -> Iterator[threading.Event]:
    """Yields an event that Ctrl-C and SIGTERM set; a second signal ends the process at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    # A signal that is ignored, as in a background job, remains ignored. A handler that was not
    # installed from Python (None) is replaced by the default handler of the system at the end.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: old for number, old in before.items() if old is not signal.SIG_IGN}

    def stop(number, frame):
        stopped.set()
        # The default handler of the system, since Python's would wait for the device. In a
        # notebook, Python's handler is used, since a second signal must not end the kernel.
        for either in before:
            gentle = hasattr(sys, "ps1") or "ipykernel" in sys.modules
            signal.signal(either, signal.default_int_handler if gentle else signal.SIG_DFL)

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
