"""The laws of learners, and of running them, held over every learner in the registry."""

from dataclasses import replace
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn import metrics as measures
from jaxnn.driver._train import train
from jaxnn.driver.chunks import Training
from jaxnn.loop._advance import advance, looped, stepped
from jaxnn.loop._evaluate import evaluation
from jaxnn.loop._run import empty_window
from tests import registry
from tests.cases import LAWS, held
from tests.loop import test_unroll
from tests.network import test_laws, test_mask_law
from tests.objectives import test_example_law, test_shield_law
from tests.registry import BATCH, LEARNERS
from tests.scale import test_device_law
from tests.trees import assert_close, assert_same_bits, numbers

STEPS = 11  # 132 examples: 4 epochs of 32 and a part, in batches of 12
FORMS = ("looped", "stepped")


@pytest.fixture(scope="module", autouse=True)
def compiled_here():
    """Forgets what other tests have compiled, ours too without optimizations."""
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def ours_optimized(request):
    """Compiles as users do where bits are compared between one program and another."""
    case = getattr(request.node, "callspec", None) and request.node.callspec.params.get("case")
    jax.config.update("jax_disable_most_optimizations", not (case and case.facts.get("ours")))
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@cache
def planned(case, seed=0) -> Training:
    return train(
        case.thing,
        jaxnn.resident(case.data, batch_size=BATCH),
        steps=STEPS,
        key=jax.random.key(seed),
        hparams=case.facts.get("hparams"),
    )


def begin(case, seed=0):
    """Returns `(state, data, window)` at the beginning of a run; a fresh state at every call."""
    made = planned(case, seed)
    trial = made.trials()
    return trial.state, made.data.shuffled(trial.order), empty_window(made.metrics)


@cache
def ran(case, form, steps=STEPS):
    """Returns `(state, window)` after a run in one chunk, as numbers."""
    state, data, window = begin(case)
    return numbers(advance(case.thing, state, data, steps, window, form)[:2])


@cache
def trained(case):
    """Returns a state in which little is 0, for those who do not train."""
    state, data, window = begin(case)
    return advance(case.thing, state, data, 3, window, "looped")[0]


@held(LEARNERS, "chunk")
@pytest.mark.parametrize("split", [1, 3, 8])
def test_chunk(case, split):
    """Running a + b steps is running b after a, bit for bit: state and window, in an epoch too."""
    state, data, window = begin(case)
    state, window, _ = advance(case.thing, state, data, split, window, "looped")
    state, window, token = advance(case.thing, state, data, STEPS - split, window, "looped")
    assert_same_bits((state, window), ran(case, "looped"))
    assert int(token) == STEPS


@held(LEARNERS, "window")
def test_window(case):
    """A window is the sum over its steps, and so the sum of the windows of its parts."""
    state, data, window = begin(case)
    state, first, _ = advance(case.thing, state, data, 4, window, "looped")
    first = numbers(first)
    _, second, _ = advance(case.thing, state, data, STEPS - 4, begin(case)[2], "looped")
    _, wanted = ran(case, "looped")
    assert_close(measures.merge(first, second), wanted)
    counts = [metric.sums[1] for name, metric in wanted.items() if "loss" in name]
    assert counts and all(count == STEPS * BATCH for count in counts)


@held(LEARNERS, "forms")
def test_forms(case):
    """Stepped and looped are one run: the same bits for our own convolutions, on one platform."""
    stepped, looped = ran(case, "stepped"), ran(case, "looped")
    if case.facts.get("ours"):
        assert_same_bits(stepped, looped)
    assert_close(stepped, looped, 1e-3)


@held(LEARNERS, "arrays")
def test_arrays(case):
    """A state is arrays only, keeps its form, and is decided by the seed alone."""
    state, data, _ = begin(case)
    for path, leaf in jax.tree.leaves_with_path(state):
        assert isinstance(leaf, jax.Array) and not getattr(leaf, "weak_type", False), path
    after, _ = jax.eval_shape(lambda s, d: case.thing.step(s, d.batch(s.step)), state, data)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert int(state.step) == 0
    assert_same_bits(state, begin(case)[0])
    others = [numbers(planned(case, seed).trials().state.params) for seed in (0, 1)]
    weights = [[x for x in jax.tree.leaves(tree) if x.ndim > 1] for tree in others]
    assert weights[0] and not any(np.array_equal(a, b) for a, b in zip(*weights))


@held(LEARNERS, "one_trace")
@pytest.mark.parametrize("form", FORMS)
def test_one_trace(case, form, compilations):
    """Other hyper-parameters, seeds and lengths compile nothing: one program for each form."""
    program = {"looped": looped, "stepped": stepped}[form]
    train_shortly(case.thing, case, form, 0, 4, 3, 1.0)
    programs = program._cache_size()
    compilations.clear()
    train_shortly(case.thing, case, form, 1, 9, 4, 0.5)
    assert not compilations and program._cache_size() == programs


@pytest.mark.parametrize("form", FORMS)
def test_a_step_is_traced_once_for_all_runs_of_a_learner(form):
    chex.clear_trace_counter()
    case = next(case for case in LEARNERS if case.name == "dropout")
    counted = case.thing._replace(update=chex.assert_max_traces(case.thing.update, n=1))
    train_shortly(counted, case, form, 0, 4, 3, 1.0)
    train_shortly(counted, case, form, 1, 9, 4, 0.5)


def train_shortly(learner, case, form, seed, steps, every, factor):
    data = jaxnn.resident(case.data, batch_size=BATCH)
    hparams = {k: v * factor for k, v in case.facts.get("hparams", {}).items()}
    options = {"hparams": hparams, "evaluate": data, "execution": jaxnn.Execution(form)}
    key = jax.random.key(seed)
    for _ in jaxnn.train(learner, data, steps=steps, key=key, every=every, **options):
        pass


@held(LEARNERS, "transfers")
@pytest.mark.parametrize("form", FORMS)
def test_transfers(case, form, monkeypatch):
    """Nothing is read from the device while training goes on, until a metric is looked at."""
    reads = []
    kind = type(jnp.zeros(()))
    value = kind._value.fget  # what every conversion to a number on the host goes through
    monkeypatch.setattr(kind, "_value", property(lambda self: (reads.append(1), value(self))[1]))
    evaluate = {"test": planned(case).data}
    options = {"hparams": case.facts.get("hparams"), "every": 4, "evaluate": evaluate}
    options["execution"] = jaxnn.Execution(form)
    arranged = train(case.thing, evaluate["test"], steps=STEPS, key=jax.random.key(0), **options)
    with jax.transfer_guard_device_to_host("disallow"):  # where there is one: not on CPU
        reports = [progress.metrics for progress in arranged]
    assert len(reports) == 3 and not reads
    float(next(iter(reports[0].values())))
    assert reads, "the reads are counted at all"


@held(LEARNERS, "padding")
def test_padding(case):
    """Evaluation in padded batches is evaluation in one batch that holds all examples."""
    state, data = trained(case), planned(case).data
    assert data.num_examples % BATCH != 0
    batch = {**data.arrays, "index": jnp.arange(data.num_examples)}
    at_once = jax.jit(lambda s, b: measures.values(case.thing.evaluate(s, b)))(state, batch)
    assert_close(evaluation(case.thing, state, data), at_once)


@held(LEARNERS, "weightless")
def test_weightless(case):
    """Examples of weight 0 change nothing, whatever they hold; a run with no others is finite."""

    def spoil(x, rows):
        """Infinite and undefined numbers, and classes that there are not."""
        if x.dtype == jnp.uint8:
            return x.at[rows].set(255)
        bad = jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else -100
        return x.at[rows].set(bad).at[-1].set(jnp.nan if bad > 0 else 10**6)

    def after(kept, rest):
        state, data, window = begin(case)
        weights = jnp.float32(np.arange(data.num_examples) < kept)
        keep = np.arange(data.num_examples) < rest
        fields = jax.tree.map(lambda x: spoil(x, ~keep) if rest < 32 else x, data.arrays)
        data = replace(data, arrays=fields | {"weights": weights})
        return numbers(advance(case.thing, state, data, 5, window, "looped")[:2])

    assert_same_bits(after(20, 32), after(20, 20))
    assert not np.array_equal(after(20, 20)[1]["loss"].sums[0], after(32, 32)[1]["loss"].sums[0])
    state, window = after(0, 32)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    assert window["loss"].sums[1] == 0


@held(LEARNERS, "hparams_are_inputs")
def test_hparams_are_inputs(case):
    """Every hyper-parameter is read from the state: another value makes another step."""

    def after(name=None):
        state, data, window = begin(case)
        if name:
            state = state._replace(hparams=state.hparams | {name: 2 * state.hparams[name]})
        return numbers(advance(case.thing, state, data, 1, window, "looped")[0].params)

    wanted = after()
    for name in case.facts["hparams"].keys() - {"scale"}:  # of weights that are drawn already
        same = jax.tree.map(np.array_equal, after(name), wanted)
        assert not all(jax.tree.leaves(same)), name


@held(LEARNERS, "overfits")
def test_overfits(case):
    """It learns 32 examples by heart, whose labels are drawn at random."""
    state, data, window = begin(case)
    before = evaluation(case.thing, state, data)
    state, _, _ = advance(case.thing, state, data, 400, window, "looped")
    after = evaluation(case.thing, state, data)
    assert float(after["loss"]) < case.facts.get("loss", 0.05) < 0.5 * float(before["loss"])
    assert float(after.get("accuracy", 1.0)) > 0.9


def test_exemptions_name_laws():
    """An exemption from a law that does not exist would exempt from nothing, unnoticed."""
    cases = [*registry.NETWORKS, *registry.OBJECTIVES, *registry.LEARNERS]
    assert test_laws.NETWORKS is test_mask_law.NETWORKS is registry.NETWORKS
    assert test_unroll.LEARNERS is test_device_law.LEARNERS is registry.LEARNERS
    assert test_example_law.OBJECTIVES is test_shield_law.OBJECTIVES is registry.OBJECTIVES
    assert {law for case in cases for law in case.exempt} <= LAWS
