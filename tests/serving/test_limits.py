"""What a server does at once has a limit, and what fails in the background is said."""

import asyncio
import logging
import threading

import jaxnn
from jaxnn.serving import text
from jaxnn.serving.batching import Batcher


def test_texts_wait_for_their_turn():
    characters, begun = jaxnn.Characters("ab"), []

    def drawn(name):
        for token in (0, 1):
            begun.append(name)
            yield token

    async def written(turns, name):
        return [event async for event in text._events(characters, drawn(name), 2, turns)]

    async def both():
        turns = asyncio.Semaphore(1)
        return await asyncio.gather(written(turns, "one"), written(turns, "two"))

    for events in asyncio.run(both()):
        assert '{"text": "a"}' in events[0] and events[-1].startswith("event: done")
    assert begun == ["one", "one", "two", "two"]


def test_a_bucket_that_compiles_does_not_delay_the_end():
    began, release, compiled = threading.Event(), threading.Event(), []

    def prepare(bucket):
        began.set()
        release.wait()
        compiled.append(bucket)

    async def stopped():
        batcher = Batcher(lambda inputs: inputs, (1, 8), prepare=prepare)
        batcher.start()
        await asyncio.to_thread(began.wait)
        await batcher.stop()

    runner = threading.Thread(target=asyncio.run, args=[stopped()])
    runner.start()
    try:
        runner.join(60)
        assert not runner.is_alive() and compiled == []
    finally:
        release.set()
        runner.join()


def test_a_bucket_that_does_not_compile_is_said_and_left_out(caplog):
    def prepare(bucket):
        if bucket == 64:
            raise MemoryError("too little memory")

    async def grown():
        batcher = Batcher(lambda inputs: inputs, (1, 8, 64), prepare=prepare)
        batcher.start()
        await batcher._growth
        await batcher.stop()
        return batcher.buckets

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(grown()) == (1, 8)
    assert "batches stay at 8 examples: too little memory" in caplog.text
