"""Blocks are read ahead, in order, from any step, and what goes wrong is said."""

import threading
from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest

from jaxnn.streams.feed import Feed, Stalled
from jaxnn.streams.threads import Threads


def feed(read, **changes):
    settings = {"block": 4, "ahead": 2, "workers": 1, "timeout": 20.0} | changes
    return Feed(read, lambda fields, first: fields, SimpleNamespace(**settings), 40)


def test_blocks_come_in_order_and_from_any_step():
    asked = []

    def read(pool, first):
        asked.append(first)
        return f"block {first}", 1

    blocks = feed(read)
    got = [blocks.at(step) for step in (0, 3, 4, 9, 38, 39)]
    assert got == [("block 0", 4)] * 2 + [("block 4", 8), ("block 8", 12)] + [("block 36", 40)] * 2
    blocks.close()
    assert asked.count(0) == asked.count(4) == asked.count(36) == 1 and max(asked) == 36
    assert blocks.meter.skipped == 4


def test_two_blocks_are_read_ahead():
    started = threading.Semaphore(0)

    def read(pool, first):
        started.release()
        return first, 0

    blocks = feed(read)
    blocks.at(0)
    for _ in range(3):
        assert started.acquire(timeout=20)
    assert not started.acquire(timeout=0.1), "and not more"
    blocks.close()


def test_calls_after_the_threads_have_ended_are_cancelled():
    pool = Threads(2, "test")
    assert pool.map(abs, [-1]) == [1]
    pool.close()
    assert pool.submit(abs, -1).cancelled()
    with pytest.raises(CancelledError):  # and nobody waits for them
        pool.map(abs, [-1, -2])


def test_an_error_of_the_reader_is_that_of_the_caller():
    def read(pool, first):
        if first == 4:
            raise ValueError("of block 4")
        return first, 0

    blocks = feed(read)
    blocks.at(0)
    with pytest.raises(ValueError, match="of block 4"):
        blocks.at(4)
    blocks.close()


def test_what_does_not_come_is_an_error_and_waiting_is_counted():
    go = threading.Event()
    blocks = feed(lambda pool, first: (go.wait(20), 0), timeout=0.2)
    with pytest.raises(Stalled, match="nothing for 0.2 seconds, at batch 8"):
        blocks.at(9)
    go.set()
    blocks.close()
    blocks = feed(lambda pool, first: (threading.Event().wait(0.1), 0))
    blocks.at(0, lambda: False)
    assert blocks.meter.waited == 0
    blocks.at(20, lambda: True)
    assert 0.05 < blocks.meter.waited
    blocks.close()
