"""The wrapper law of learners: what is replaced by hand survives every transform and option of fit.

Each of a learner's functions is replaced by one whose effect is seen. Whatever transforms it then,
or trains it, must compute with the replacement, or refuse by name what it cannot do.
"""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.learning import no_gradients
from jaxnn.metrics import mean
from jaxnn.storage import recording
from tests.registry import real, whole
from tests.trees import assert_close, assert_same_bits

KEY = jax.random.key(0)
ARRAYS = {"inputs": real(12, 5), "labels": whole(3, 12)}
BATCH = jax.tree.map(jnp.asarray, ARRAYS | {"index": np.arange(12, dtype=np.int32)})
TRANSFORMS = {
    "average": lambda learner: jaxnn.average(learner, decay=0.5),
    "guard": jaxnn.guard,
    "spikes": lambda learner: jaxnn.guard(learner, spike=6.0),
    "scale_loss": jaxnn.scale_loss,
    "accumulate": lambda learner: jaxnn.accumulate(learner, 2),
}
CHAINS = [
    *((name,) for name in TRANSFORMS),
    *itertools.permutations(TRANSFORMS, 2),
    ("shard",),
    ("shard", "accumulate"),
    ("average", "shard"),
]
TRANSFORMS["shard"] = lambda learner: jaxnn.scale.shard(learner, jaxnn.scale.mesh(1))
# A learner is guarded against spikes before anything else guards it: the other order is refused.
REFUSED = {("guard", "spikes"), ("scale_loss", "spikes")}


def plain():
    return jaxnn.learner(jaxnn.linear(3), jaxnn.classification(), optax.sgd(0.5))


def transformed(learner, chain):
    for name in chain:
        learner = TRANSFORMS[name](learner)
    return learner


def replaced(base):
    """Returns a learner of which each function is replaced, with the effect that its name says."""

    def start_at_one(key, hparams, batch):
        state = base.init(key, hparams, batch)
        extra = state.extra
        if "average" in extra:
            extra = extra | {"average": jax.tree.map(jnp.ones_like, extra["average"])}
        return state._replace(params=jax.tree.map(jnp.ones_like, state.params), extra=extra)

    def without_bias(state, batch, part=None, factor=None):
        gradients = base.gradients(state, batch, part, factor)
        return gradients._replace(values=gradients.values | {"bias": 0 * gradients.values["bias"]})

    def report_size(state, batch, gradients):
        after, metrics = base.update(state, batch, gradients)
        return after, metrics | {"size": mean(optax.tree.norm(after.params), jnp.ones(()))}

    def report_seven(state, batch):
        return base.evaluate(state, batch) | {
            "seven": mean(jnp.float32(7), jnp.ones(()), better="lower")
        }

    def add_100(state, inputs):
        return base.predict(state, inputs) + 100.0

    def forbid(hparams, arrays, state, batch):
        base.check(hparams, arrays, state, batch)
        if "forbidden" in arrays:
            raise jaxnn.InvalidValue("law: a field is forbidden")

    return base._replace(
        init=start_at_one, gradients=without_bias, update=report_size, evaluate=report_seven,
        predict=add_100, check=forbid,
    )  # fmt: skip


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
def test_transforms_compute_with_what_was_replaced(chain):
    if chain in REFUSED:
        with pytest.raises(jaxnn.InvalidValue, match="guard: the learner is already guarded"):
            transformed(replaced(plain()), chain)
        return
    learner = transformed(replaced(plain()), chain)
    state = learner.init(KEY, {}, BATCH)
    assert_same_bits(state.params, jax.tree.map(jnp.ones_like, state.params))
    step = jax.jit(learner.step)
    for _ in range(3):
        state, metrics = step(state, BATCH)
    assert float(metrics["size"].value()) == pytest.approx(float(optax.tree.norm(state.params)))
    assert_same_bits(state.params["bias"], jnp.ones(3))
    assert not np.allclose(state.params["weight"], 1.0)
    assert float(learner.evaluate(state, BATCH)["seven"].value()) == 7.0
    expected = learner.eval_params(state)
    outputs = ARRAYS["inputs"] @ np.asarray(expected["weight"]) + np.asarray(expected["bias"])
    assert_close(learner.predict(state, jnp.asarray(BATCH["inputs"])), outputs + 100.0)
    with pytest.raises(jaxnn.InvalidValue, match="law: a field is forbidden"):
        learner.check({}, ARRAYS | {"forbidden": ARRAYS["labels"]}, state, BATCH)


OPTIONS = {
    "nothing": {},
    "skip": {"not_finite": "skip"},
    "looped": {"execution": jaxnn.Execution(form="looped")},
    "stepped": {"execution": jaxnn.Execution(form="stepped")},
    "watch": {"watch": "test/seven"},
    "population": {"key": jax.random.split(KEY, 2)},
    "selection": {
        "key": jax.random.split(KEY, 2),
        "watch": "test/loss",
        "select": jaxnn.search.successive_halving("test/loss", 4),
    },
}


@pytest.mark.parametrize("chain", [(), *((name,) for name in TRANSFORMS)], ids="-".join)
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_fit_computes_with_what_was_replaced(name, chain):
    if name not in ("nothing", "skip") and chain:
        pytest.skip("the driver sees no more of a transform than its functions")
    learner = replaced(transformed(plain(), chain))
    data = jaxnn.resident(ARRAYS, batch_size=6)
    options = {"key": KEY, "evaluate": data, "quiet": True} | OPTIONS[name]
    run = jaxnn.fit(learner, data, steps=4, **options)
    state = run.state
    sizes = (
        jax.vmap(optax.tree.norm)(state.params) if run.members else optax.tree.norm(state.params)
    )
    # Reports are of all steps since the last one: here every step ends in the same size or above.
    assert np.all(np.abs(np.asarray(run.result["train/size"]) - sizes) < 1.0)
    assert np.all(np.asarray(run.result["test/seven"]) == 7.0)
    assert np.all(np.asarray(state.params["bias"]) == 1.0)
    assert np.all(run.predict(ARRAYS["inputs"]) > 50.0)


@pytest.mark.parametrize("chain", [(), ("average",), ("scale_loss", "accumulate")], ids="-".join)
def test_what_is_recorded_is_what_was_replaced(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["jaxnn.runs.output"], "write_report", lambda path: None)
    learner = replaced(transformed(plain(), chain))
    data = jaxnn.resident(ARRAYS, batch_size=6)
    out = jaxnn.Directory(tmp_path / "run", report=True)
    run = jaxnn.fit(learner, data, steps=4, key=KEY, evaluate=data, quiet=True, out=out)
    last = recording.read(run.out).frames[-1].arrays
    assert last["metrics/seven"] == 7.0
    assert last["gradients/bias"] == 0.0
    # The examples are those of weight, in an order of the recorder's: they are compared as a set.
    outputs = run.learner.predict(run.state, jnp.asarray(ARRAYS["inputs"]))
    assert_close(np.sort(last["outputs"], 0), np.sort(outputs, 0))


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
@pytest.mark.parametrize("kind", ["one piece", "narrow"])
def test_what_a_transform_cannot_use_is_refused_by_name(kind, chain):
    """A step in one piece, and gradients that take no more than a state and a batch."""
    if chain in REFUSED:
        pytest.skip("refused already")
    base = plain()
    if kind == "one piece":
        by_hand = base._replace(
            gradients=no_gradients, update=lambda state, batch, _: base.step(state, batch)
        )
        needed = [name for name in chain if name not in ("average", "shard")]
    else:
        by_hand = base._replace(gradients=lambda state, batch: base.gradients(state, batch))
        needed = [name for name in chain if name in ("scale_loss", "accumulate")]
    learner = transformed(by_hand, chain)

    def step():
        return learner.step(learner.init(KEY, {}, BATCH), BATCH)

    if not needed:
        same = transformed(base, chain)
        assert_same_bits(step(), same.step(same.init(KEY, {}, BATCH), BATCH))
        return
    names = "|".join({"spikes": "guard"}.get(name, name) for name in needed)
    with pytest.raises(
        jaxnn.InvalidType, match=f"^({names}): .*learner('s| computes no) gradients"
    ):
        jax.eval_shape(step)
