"""A population that was begun on some devices resumes on others, to the same values."""

import json
import shutil
import warnings
from functools import cache
from itertools import product

import jax
import numpy as np
import optax
import pytest

import jaxnn
from tests import compiling, failpoints
from tests.forked import compiled, process
from tests.harness import bits, counted, timeless

COUNTS = (1, 2, 8)


@cache  # one learner compiles once in a process
def learner():
    network = jaxnn.mlp([8], 1, dropout=0.1)
    return jaxnn.learner(network, jaxnn.regression(), lambda h: optax.sgd(h["rate"]))


def fit(out):
    """Trains five members, one of which diverges and one stops early."""
    inputs = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    data = jaxnn.resident({"inputs": inputs, "labels": inputs[:, :1]}, batch_size=12)
    rates = np.array([0.3, 1e-6, 1e30, 0.1, 0.01])
    return jaxnn.fit(
        learner(), data, steps=16, every=4, key=jaxnn.keys(range(5)), hparams={"rate": rates},
        evaluate=data, watch=jaxnn.Watch("test/loss", patience=2, margin=1e-3), out=out, quiet=True,
        saving=jaxnn.Saving(seconds=1e9, every=4),
    )  # fmt: skip


def child(count, place, counts, resumed, cache):
    """Trains on so many devices: to the end and to a stop, or on from all that was stopped."""
    jax.config.update("jax_num_cpu_devices", count)
    compiling.fast()
    jaxnn.compile_cache(cache)
    results = {}
    if not resumed:
        results["unbroken"] = outcome(place / f"unbroken-{count}")
        failpoints.arm("after a row", 2, "RuntimeError")
        try:
            fit(place / f"begun-{count}")
        except RuntimeError:
            results["stopped"] = True
    else:
        for before in counts:
            out = place / f"{before}-{count}"
            shutil.copytree(place / f"begun-{before}", out)
            results[before] = outcome(out)
    (place / f"{resumed}-{count}.json").write_text(json.dumps(results))


def outcome(out):
    with warnings.catch_warnings(record=True) as said:
        run = fit(out)
    result = json.loads((out / "result.json").read_text()) | {"seconds": 0}
    return {
        "bits": bits({"state": run.state, "best": run.best}),
        "rows": timeless((out / "metrics.jsonl").read_bytes()),
        "result": result,
        "said": [str(each.message) for each in said if each.category is jaxnn.Caution],
    }


def children(place, counts, resumed):
    """Returns the results of a process on each number of devices; they run one after another."""
    results = {}
    for count in counts:
        forked = process(child, count, place, counts, resumed, compiled().name)
        forked.join(300)
        assert forked.exitcode == 0
        results[count] = json.loads((place / f"{resumed}-{count}.json").read_text())
    return results


@pytest.mark.parametrize(
    "counts",
    [pytest.param((1, 2), marks=pytest.mark.slow), pytest.param(COUNTS, marks=pytest.mark.nightly)],
)
def test_a_population_goes_on_with_any_number_of_devices(counts, tmp_path):
    begun, gone_on = (children(tmp_path, counts, resumed) for resumed in (False, True))
    assert begun[1]["unbroken"]["result"]["status"][:3] == ["done", "stopped", "diverged"]
    with counted(P14="pairs of device counts, each with the same bits") as tried:
        for before, after in product(counts, counts):
            results = gone_on[after][str(before)]
            (unbroken := dict(begun[before]["unbroken"])).pop("said")
            said = results.pop("said")
            assert begun[before]["stopped"] and results == unbroken
            # Of eight devices five have a member. One line says what has changed.
            used = [min(count, 5) for count in (before, after)]
            changed = [f"devices {used[0]} -> {used[1]}"] if before != after else []
            assert [text.partition(": ")[2] for text in said] == changed
            tried.append((before, after))
