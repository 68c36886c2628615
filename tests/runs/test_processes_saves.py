"""Training does not wait for the disk: two processes save while their main threads go on."""

import json
import statistics
import time

import pytest

from jaxnn.storage import shards
from jaxnn.storage.checkpointing import Checkpointer
from tests import together

pytestmark = pytest.mark.slow

MOST = 0.5  # seconds that the main thread may wait for a save
DISK = 1.5  # seconds that the disk takes for a save


def timed(place):
    """Slows down the disk of this process, and stores how long its main thread waits for saves."""
    write, snapshot, save = shards.write_all, Checkpointer.snapshot, Checkpointer.save
    waits, copying = [], []

    def slow(*arguments):
        time.sleep(DISK)
        return write(*arguments)

    def copy(self, progress, *, now=False):
        began = time.monotonic()
        copied = snapshot(self, progress, now=now)
        copying[:] = [time.monotonic() - began]
        return copied

    def start(self, copied, *arguments):
        began = time.monotonic()
        save(self, copied, *arguments)
        if not copied.final:  # the last save is waited for
            waits.append(copying[0] + time.monotonic() - began)
            (place / "waits.json").write_text(json.dumps(waits))

    shards.write_all, Checkpointer.snapshot, Checkpointer.save = slow, copy, start


def test_the_main_thread_hardly_waits_for_a_save(tmp_path):
    options = ["--report", "--width", "512", "--steps", "160"]
    group = together.start(2, tmp_path / "run", *options, pace=0.25, before=timed)
    assert group.codes() == [0, 0], group.said
    assert (tmp_path / "run" / "report.html").exists()
    for child in group.children:
        waits = json.loads((child.place / "waits.json").read_text())
        # The median, since other programs on this machine may delay any of them.
        assert len(waits) >= 3 and statistics.median(waits) <= MOST, waits
