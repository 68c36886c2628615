"""Runs a function in a process with simulated devices, and compares what training came to."""

import logging
import re
from contextlib import contextmanager

import jax
import numpy as np

from tests.forked import result_of


def on_devices(count, function, place, *arguments):
    """Returns what `function(*arguments)` returns, as JSON, in a process with so many devices."""
    return result_of(function, place, *arguments, devices=count)


@contextmanager
def programs():
    """Gives a list to which the name of every program is added that is compiled."""
    names = []

    class Listener(logging.Handler):
        def emit(self, record):
            hit = re.search(r"Finished XLA compilation of (?:jit\()?(\w+)", record.getMessage())
            names.extend(hit.groups() if hit else ())

    listener, log = Listener(), logging.getLogger("jax._src.dispatch")
    log.addHandler(listener)
    level, propagated = log.level, log.propagate
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield names
    finally:
        log.removeHandler(listener)
        log.setLevel(level)
        log.propagate = propagated


def collectives(text):
    """Yields the kind and the shapes of each message in the text of a compiled program."""
    for line in text.splitlines():
        hit = re.search(rf"= (.*?) ({'|'.join(KINDS)})(?:-start)?\(", line)
        if hit:
            shapes = re.findall(r"\w+\[([\d,]*)\]", hit[1])
            yield hit[2], [[int(n) for n in shape.split(",") if n] for shape in shapes]


KINDS = "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"


def differences(params, loss, reference, begun, reference_loss):
    """Returns the relative errors of an update and of a loss."""
    update = norm(params, reference) / norm(reference, begun)
    return {"update": update, "loss": abs(float(loss) / float(reference_loss) - 1)}


def norm(tree, other):
    """Returns the norm of the difference of two trees of floats."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    squares = (np.sum(np.square(np.asarray(x, np.float64) - np.asarray(y))) for x, y in pairs)
    return float(np.sqrt(sum(squares)))
