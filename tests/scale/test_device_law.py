"""The device law: on eight devices every learner comes to what it comes to on one."""

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import scale
from tests.cases import held, real, whole
from tests.flax_models import NnxModel
from tests.registry import LEARNERS
from tests.scale.simulated import norm, on_devices

# A multiple of eight, and of the parts of `accumulate`.
BATCH, STEPS = 24, 6

_LARGEST = {over: scale.largest(over, at_least=0) for over in ("data", "model")}
LAYOUTS = {
    "data parallel": (8, 1, scale.replicated),
    "fsdp": (8, 1, {"*": _LARGEST["data"]}),
    "4x2": (4, 2, {"*": [_LARGEST["model"], _LARGEST["data"]]}),
}
# Learners like others in what meshes do with them.
SELDOM = {"averaged", "convnet", "nnx", "regression"}

MODELS = {
    "gpt": (
        lambda: jaxnn.gpt(
            32, layers=2, heads=2, features=16, positions=8, dropout=0.1, stacked=True
        ),
        {"inputs": whole(32, 32, 9, dtype=np.uint16)},
        jaxnn.next_token,
    ),
    "gpt_modern": (
        lambda: jaxnn.gpt(32, layers=2, heads=4, features=16, kv_heads=2, form="modern"),
        {"inputs": whole(32, 32, 9, dtype=np.uint16)},
        jaxnn.next_token,
    ),
    "resnet": (
        lambda: jaxnn.resnet([1, 1], 4, width=8, activation=jax.numpy.tanh),
        {"inputs": real(32, 8, 8, 1), "labels": whole(4, 32)},
        jaxnn.classification,
    ),
    "mlp": (
        lambda: jaxnn.mlp([16, 8], 4, dropout=0.1),
        {"inputs": real(32, 6), "labels": whole(4, 32)},
        jaxnn.classification,
    ),
}  # fmt: skip


def law(learner, arrays, hparams, layouts):
    """Returns the relative errors of update, statistics and loss on each layout."""
    data = jaxnn.resident(arrays, batch_size=BATCH)
    run = jax.jit(jaxnn.run, static_argnums=0)

    def trained(learner):
        begun = jax.jit(learner.init)(jax.random.key(0), hparams, data.batch(0))
        after, window = run(learner, begun, data, STEPS)
        metrics = {name: float(metric.value()) for name, metric in window.items()}
        test = jaxnn.evaluate(learner, after, data)
        metrics |= {f"test {name}": value for name, value in test.items()}
        return *(jax.tree.map(np.asarray, floats(state)) for state in (begun, after)), metrics

    begun, reference, expected = trained(learner)
    results = {}
    for name, (rows, columns, rules) in layouts.items():
        sharded = scale.shard(learner, scale.mesh(rows, columns), rules)
        own, after, metrics = trained(sharded)
        loss = [abs(metrics[n] / expected[n] - 1) for n in expected if n.endswith("loss")]
        results[name] = {
            "begun": norm(own, begun) / norm(begun, [0.0] * len(begun)),
            "update": norm(after, reference) / norm(reference, begun),
            "loss": max(loss, default=0.0),
        }
    return results


def floats(state):
    return [x for x in jax.tree.leaves(state) if jax.numpy.issubdtype(x.dtype, jax.numpy.inexact)]


def law_of_case(name):
    (case,) = [case for case in LEARNERS if case.name == name]
    if name == "gan":
        return law(case.thing, case.data, {}, LAYOUTS)
    return law(case.thing, case.data, case.facts["hparams"], LAYOUTS)


TENSORS = {
    "tensor": (4, 2, scale.tensor),
    "both": (4, 2, scale.tensor_fsdp),
    "eight columns": (1, 8, scale.tensor),
    "fsdp": LAYOUTS["fsdp"],
}


def law_of_model(name, layouts):
    network, arrays, objective = MODELS[name]
    learner = jaxnn.learner(network(), objective(), optax.sgd(0.1, momentum=0.9))
    return law(learner, arrays, {}, {each: TENSORS[each] for each in layouts})


def law_of_flax():
    network = jaxnn.from_flax(NnxModel, outputs=3)
    learner = jaxnn.learner(network, jaxnn.classification(), optax.sgd(0.1))
    arrays = {"inputs": real(32, 6, 6, 1), "labels": whole(3, 32)}
    return law(learner, arrays, {}, LAYOUTS)


@pytest.mark.slow
def test_a_flax_model_does_what_it_does_on_one_device(tmp_path):
    check(on_devices(8, law_of_flax, tmp_path))


@pytest.mark.slow
@held(LEARNERS, "device", seldom=SELDOM)
def test_eight_devices_do_what_one_does(case, tmp_path):
    half = case.facts.get("half", False)  # whose last digit is a thousandth
    limits = {"loss": 1e-4, "update": 1e-3} if half else {}
    check(on_devices(8, law_of_case, tmp_path, case.name), **limits)


# Of two of the models, one layout by day.
FEW = {"gpt_modern": "both", "resnet": "tensor"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, layouts",
    [
        *((name, [FEW[name]] if name in FEW else [*TENSORS]) for name in MODELS),
        *(pytest.param(name, [*TENSORS], marks=pytest.mark.nightly) for name in FEW),
    ],
    ids=[*MODELS, *(f"{name} on all" for name in FEW)],
)
def test_rules_for_tensors_do_what_one_device_does(name, layouts, tmp_path):
    check(on_devices(8, law_of_model, tmp_path, name, layouts))


def check(results, loss=1e-6, update=1e-4):
    for layout, errors in results.items():
        assert errors["begun"] <= 1e-6, (layout, errors)
        assert errors["loss"] <= loss and errors["update"] <= update, (layout, errors)
