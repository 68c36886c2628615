"""A stream trains, evaluates, selects and resumes as the same data do in memory, bit for bit."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import assert_trees_all_close, assert_trees_all_equal

import jaxnn
from jaxnn.driver import Execution
from jaxnn.search import population_based_training
from jaxnn.storage.identity import identity
from jaxnn.streams import stream
from tests.streams.sources import examples, fields

ARRAYS = fields()
ROWS = examples(ARRAYS)
KEY = jax.random.key(5)


def network(hparams=None):
    return jaxnn.serial(jaxnn.mlp([5], 4), jaxnn.dropout(0.2))


@cache  # one learner compiles once, however many tests run it
def made():
    return jaxnn.learner(
        network(), jaxnn.classification(), lambda hparams: optax.adam(hparams["rate"])
    )


def both(**options):
    """Trains on the same examples in memory and as a stream; returns both runs."""
    kept = {n: jaxnn.resident(ARRAYS, batch_size=size) for n, size in (("train", 4), ("test", 5))}
    streams = {n: stream(ROWS, batch_size=x.batch_size, block=3) for n, x in kept.items()}
    settings = {"steps": 25, "every": 10, "key": KEY, "hparams": {"rate": 0.01}, "quiet": True}
    return [
        jaxnn.fit(made(), data["train"], evaluate=data["test"], **settings | options)
        for data in (kept, streams)
    ]


def same(one, other):
    assert_trees_all_equal(one.state._replace(key=None), other.state._replace(key=None))
    assert one.history == [
        row | {"seconds": old["seconds"]} for row, old in zip(other.history, one.history)
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"execution": Execution(form="stepped")},
        {"watch": jaxnn.Watch("test/accuracy", patience=1), "steps": 60},
        {"key": jaxnn.keys([1, 2, 3])},
        {
            "key": jaxnn.keys([1, 2, 3, 4]),
            "hparams": {"rate": np.array([1e-3, 3e-3, 1e-2, 1e-1])},
            "select": population_based_training("test/loss", {"rate": (1e-4, 1.0)}),
        },
    ],
    ids=["single", "stepped", "patience", "population", "selection"],
)
def test_a_stream_trains_as_resident_data(options):
    same(*both(**options))


def test_members_side_by_side_train_as_those_of_resident_data():
    kept, streamed = both(key=jaxnn.keys([1, 2, 3]), execution=Execution(width=3))
    params = kept.state.params, streamed.state.params
    assert_trees_all_close(*params, rtol=1e-5, atol=1e-6)  # sums in another order


def test_a_stream_evaluates_as_resident_data():
    run, _ = both()
    want = jaxnn.evaluate(run.learner, run.state, jaxnn.resident(ARRAYS, batch_size=5))
    assert jaxnn.evaluate(run.learner, run.state, stream(ROWS, batch_size=5, block=2)) == want


def test_a_run_on_a_stream_resumes_and_predicts(tmp_path):
    data = stream(ROWS, batch_size=4, block=3)
    settings = {"key": KEY, "hparams": {"rate": 0.01}, "quiet": True, "every": 10}
    whole = jaxnn.fit(made(), data, steps=40, out=tmp_path / "whole", **settings)
    training = jaxnn.train(made(), data, steps=40, key=KEY, hparams={"rate": 0.01}, every=10)
    start = training.start()
    for progress in training.chunks(start, until=17):
        saved = jax.tree.map(jnp.copy, progress.trial)
    for progress in training.chunks(training.start(saved, 17)):
        pass
    assert_trees_all_equal(progress.state._replace(key=None), whole.state._replace(key=None))
    loaded = jaxnn.load(tmp_path / "whole")
    np.testing.assert_allclose(
        loaded.predict(ARRAYS["inputs"]), whole.predict(ARRAYS["inputs"]), rtol=1e-6, atol=1e-6
    )


def test_another_source_is_another_run():
    def data_of(rows):
        data = stream(rows, batch_size=4)
        training = jaxnn.train(made(), data, steps=4, key=KEY, hparams={"rate": 0.01})
        return identity(training)["data"]

    other = [{**row, "inputs": row["inputs"] + 1} for row in ROWS]
    assert data_of(ROWS) == data_of(list(ROWS)) != data_of(other)


def test_an_error_of_the_source_ends_the_run():
    class Breaks(list):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            if self.reads > 500:
                raise OSError("bad sector")
            return super().__getitem__(index)

    with pytest.raises(jaxnn.InvalidValue, match="example . cannot be read.*bad sector"):
        jaxnn.fit(
            made(), stream(Breaks(ROWS[:8]), batch_size=2), steps=10_000, key=KEY,
            hparams={"rate": 0.01}, quiet=True,
        )  # fmt: skip


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Sines:
    """Data of one's own: points that are drawn on the device, and never stored."""

    key: jax.Array
    batch_size = 16
    num_examples = 1600
    num_batches = 100

    def shuffled(self, key):
        return Sines(key)

    def batch(self, step):
        x = jax.random.uniform(jax.random.fold_in(self.key, step), (16, 1), minval=-1)
        index = step * 16 + jnp.arange(16, dtype=jnp.int32)
        return {"inputs": x, "labels": jnp.sin(x), "index": index}

    in_order = batch

    @property
    def examples(self):
        return {k: v for k, v in self.batch(0).items() if k != "index"}


def test_data_of_ones_own_train_and_are_recorded(tmp_path):
    learner = jaxnn.learner(jaxnn.mlp([8], 1), jaxnn.regression(), optax.adam(1e-2))
    data = Sines(jax.random.key(0))
    run = jaxnn.fit(
        learner, data, steps="3 epochs", evaluate=data, key=KEY, out=tmp_path, quiet=True
    )
    assert run.result["test/loss"] < 0.01
    assert jaxnn.load(tmp_path).predict(np.float32([[0.5]])) == pytest.approx(np.sin(0.5), abs=0.1)


def test_data_of_ones_own_train_on_a_mesh():
    learner = jaxnn.learner(jaxnn.mlp([8], 1), jaxnn.regression(), optax.adam(1e-2))
    data = Sines(jax.random.key(0))
    one, several = (
        jaxnn.fit(learner, data, steps=20, evaluate=data, key=KEY, mesh=mesh, quiet=True)
        for mesh in (None, jaxnn.scale.mesh())
    )
    assert several.result["test/loss"] == pytest.approx(one.result["test/loss"], rel=1e-4)
