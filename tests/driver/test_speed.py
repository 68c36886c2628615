"""The speed of a run, from times that are given."""

import threading

import jax
import optax
import pytest

import jaxnn
from jaxnn.driver import speed
from jaxnn.driver.speed import Speed


@pytest.fixture
def clock(monkeypatch):
    """Returns the time of day, as a list of one number, and a `Speed` with no compilations yet."""
    data = jaxnn.resident({"inputs": [[1.0], [2.0]], "labels": [[3.0], [5.0]]}, batch_size=2)
    line = jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.1))
    training = jaxnn.train(line, data, steps=4, key=jax.random.key(0))
    now = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(speed, "_compilations", [])
    return now, Speed(training)


def compile_until(now, end, *, other=False):
    """Listens to a compilation from now until its end, in another thread if that is wanted."""
    seconds, now[0] = end - now[0], end
    thread = threading.Thread(target=speed._listen, args=(speed._COMPILED, seconds))
    thread.run() if not other else (thread.start(), thread.join())


@pytest.mark.parametrize("other", [True, False])
def test_the_pace_is_that_since_the_last_compilation(clock, other):
    now, measured = clock
    assert measured.recent() is None
    measured.at(1)
    compile_until(now, 10.0, other=other)  # an evaluation, or a recording beside the training
    now[0] = 10.1
    measured.at(2)
    now[0] = 10.6
    measured.at(52)
    assert measured.recent() == pytest.approx(100.0)


def test_only_compilations_of_this_thread_are_waited_for(clock):
    now, measured = clock
    compile_until(now, 3.0)
    compile_until(now, 5.0, other=True)
    assert speed._waited(speed._compilations) == pytest.approx(3.0)
