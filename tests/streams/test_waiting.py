"""How long a run waits for its data is measured, and said."""

import json
import time

import jax
import optax

import jaxnn
from jaxnn.streams import stream
from tests.streams.sources import examples, fields

ROWS = examples(fields())
# Compiled once, however many tests run it.
LEARNER = jaxnn.learner(jaxnn.mlp([5], 4), jaxnn.classification(), optax.adam(1e-2))


def trained(rows, out=None, evaluate=None, steps=20, **options):
    data = stream(rows, batch_size=4, block=5, **options)
    return jaxnn.fit(
        LEARNER,
        data,
        steps=steps,
        every=10,
        key=jax.random.key(0),
        quiet=True,
        out=out,
        evaluate=evaluate,
    )


def slow(example, random):
    time.sleep(0.005)
    return example


def test_waiting_for_data_is_measured(tmp_path):
    speed = trained(ROWS, tmp_path, read=slow, workers=1, steps=70).speed
    # Fourteen blocks of a tenth of a second, of which some are read while it compiles.
    assert 0.2 < speed["data_wait_seconds"] and 0.05 < speed["data_wait_share"] <= 1
    assert speed["examples_skipped"] == 0
    assert json.loads((tmp_path / "speed.json").read_text()) == speed


def test_evaluating_on_a_stream_counts():
    test = stream(ROWS, batch_size=8, read=slow, workers=1)
    before = trained(ROWS).speed["data_wait_seconds"]
    assert trained(ROWS, evaluate=test).speed["data_wait_seconds"] > before + 0.05


def test_data_on_the_device_have_no_such_numbers():
    data = jaxnn.resident(fields(), batch_size=4)
    run = jaxnn.fit(LEARNER, data, steps=20, key=jax.random.key(0), quiet=True)
    assert not {"data_wait_seconds", "examples_skipped"} & set(run.speed)


def test_skipped_examples_are_counted():
    def read(example, random):
        if example["labels"] == 3:
            raise OSError("bad sector")
        return example

    run = trained(ROWS, read=read, on_error="skip")
    assert run.speed["examples_skipped"] > 0
