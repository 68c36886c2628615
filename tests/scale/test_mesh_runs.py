"""Whatever a run does, it does on a mesh: records, resumes, predicts, writes, trains many."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import scale
from jaxnn.scale import resident as resident_data
from tests.scale.simulated import norm, on_devices

pytestmark = pytest.mark.slow

DIGITS = jaxnn.datasets.digits()


def network():
    return jaxnn.serial(
        jaxnn.standardize(5.0, 6.0), ("layers", jaxnn.mlp([64, 32], 10, dropout=0.1))
    )


def adam(hparams):
    return optax.adam(hparams["rate"])


LEARNER = jaxnn.learner(network(), jaxnn.classification(), adam)


def fit(learner=LEARNER, out=None, steps=20, data=None, **options):
    data = jaxnn.resident(DIGITS, batch_size=64) if data is None else data
    options = {"key": jax.random.key(0), "hparams": {"rate": 1e-3}} | options
    return jaxnn.fit(
        learner, data, steps=steps, every=10, evaluate=jaxnn.resident(DIGITS, batch_size=500),
        watch="test/loss", out=out, quiet=True, saving=jaxnn.Saving(seconds=1e9, every=10),
        **options,
    )  # fmt: skip


def both():
    return {"mesh": scale.mesh(4, 2), "rules": scale.tensor_fsdp}


def distance(run, other):
    return norm(run.state.params, other.state.params) / norm(other.state.params, zeros(other))


def zeros(run):
    return jax.tree.map(np.zeros_like, run.state.params)


def recorded():
    with TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        alone, out = fit(), Path(folder) / "many"
        many = fit(out=out, **both())
        inputs = DIGITS["inputs"][:5]
        outputs = many.predict(inputs)
        return {
            "said": [str(each.message) for each in said if each.category is jaxnn.Caution],
            "page": (out / "report.html").stat().st_size,
            "frames": len(list((out / "recording").glob("*"))),
            "update": distance(many, alone),
            "predictions": norm(outputs, alone.predict(inputs)),
            "loaded": norm(outputs, jaxnn.load(out).predict(inputs)),
        }


def test_a_run_on_a_mesh_is_recorded_and_loaded(tmp_path):
    result = on_devices(8, recorded, tmp_path)
    assert result["said"] == [] and result["page"] > 10_000 and result["frames"] > 3
    assert result["update"] <= 1e-5
    assert result["predictions"] <= 1e-4 and result["loaded"] <= 1e-4


def resumed():
    """Eight devices, then four, one and eight again, and what is said when they change."""
    with TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        unbroken = fit(steps=40, **both())
        for steps, options in (
            (10, both()),
            (20, {"mesh": scale.mesh(4), "rules": scale.fsdp}),
            (30, {}),
            (40, both()),
        ):
            run = fit(out=Path(folder) / "run", steps=steps, **options)
        return {
            "loss": abs(run.result["test/loss"] / unbroken.result["test/loss"] - 1),
            "update": distance(run, unbroken),
            "said": [str(each.message) for each in said if each.category is jaxnn.Caution],
        }


def members():
    """A population on a mesh, one member after the other, and one without."""
    options = {
        "key": jaxnn.keys([0, 1, 2]),
        "hparams": {"rate": np.array([1e-3, 1e30, 1e-2], np.float32)},
    }
    alone, many = fit(**options), fit(**options, **both())
    halving = jaxnn.search.successive_halving("test/loss", 2)
    chosen = [fit(**options, select=halving, **mesh).result["status"] for mesh in ({}, both())]
    leaves = [jax.tree.map(lambda x: x[0], run.best.params) for run in (alone, many)]
    return {
        "status": [alone.result["status"], many.result["status"]],
        "chosen": chosen,
        "difference": norm(*leaves),
        "split": list(many.best.params["layers"]["hidden_1"]["weight"].sharding.spec),
    }


def test_members_train_on_a_mesh_one_after_another(tmp_path):
    result = on_devices(8, members, tmp_path)
    assert result["status"][0] == result["status"][1] == ["done", "diverged", "done"]
    assert result["chosen"][0] == result["chosen"][1]
    assert result["difference"] <= 1e-4 and result["split"] == [None, None, "model"]


def large_data():
    """Data whose rows are split, though their number does not divide, and windows of a text."""
    whole = fit(**both())
    resident_data.MOST_WHOLE = 0
    split = fit(**both())
    data = jaxnn.windows(np.arange(1003) % 7, 9, batch_size=16)
    placed = resident_data.placed_data(split.learner.placement, data)
    batches = [jax.jit(lambda data: data.batch(3))(each) for each in (data, placed)]
    examples = [dict(zip(DIGITS, example)) for example in zip(*DIGITS.values())]
    stream = jaxnn.stream(examples, batch_size=64, block=4)
    streamed = fit(data=stream, **both())
    return {
        "update": distance(split, whole),
        "stream": distance(streamed, whole),
        "evaluated": jaxnn.evaluate(streamed.learner, streamed.state, stream)
        == jaxnn.evaluate(whole.learner, whole.state, jaxnn.resident(DIGITS, batch_size=64)),
        "same": bool(np.array_equal(*(batch["inputs"] for batch in batches))),
        "share": placed.arrays["inputs"].addressable_shards[0].data.shape[0],
    }


def test_rows_of_large_data_are_split_in_their_order(tmp_path):
    result = on_devices(8, large_data, tmp_path)
    assert result.pop("update") <= 1e-6 and result.pop("stream") <= 1e-6
    assert result == {"evaluated": True, "same": True, "share": 251}


def transformed():
    """Transforms of networks and learners on a mesh, in either order."""
    half = jaxnn.mixed_precision(network())
    frozen = jaxnn.lora(network(), {"*/weight": True}, rank=4)
    layouts = both()
    plain = jaxnn.learner(network(), jaxnn.classification(), adam)
    results = {}
    for name, learner in {
        "mixed precision": jaxnn.learner(half, jaxnn.classification(), adam),
        "lora": jaxnn.learner(frozen, jaxnn.classification(), adam),
        "all": jaxnn.average(jaxnn.guard(jaxnn.accumulate(plain, 2))),
    }.items():
        rules = scale.fsdp if name == "lora" else layouts["rules"]
        mesh = scale.mesh() if name == "lora" else layouts["mesh"]
        results[name] = distance(fit(learner, mesh=mesh, rules=rules), fit(learner))
    sharded = scale.shard(plain, **layouts)
    outside = jaxnn.average(jaxnn.guard(jaxnn.accumulate(sharded, 2)))
    inside = jaxnn.average(jaxnn.guard(jaxnn.accumulate(plain, 2)))
    results["outside"] = distance(fit(outside), fit(inside))
    return results


def test_transforms_apply_on_a_mesh(tmp_path):
    result = on_devices(8, transformed, tmp_path)
    assert result.pop("mixed precision") <= 1e-2  # bfloat16 has three digits
    assert max(result.values()) <= 1e-5, result


def writing():
    """What a sharded network writes, and a stream of a text that it trains on."""
    gpt = jaxnn.gpt(16, layers=2, heads=2, features=32, positions=16, stacked=True)
    learner = jaxnn.learner(gpt, jaxnn.next_token(), adam)
    tokens = np.random.default_rng(0).integers(0, 16, 2000, dtype=np.uint16)
    data = jaxnn.windows(tokens, 9, batch_size=16)

    def run(**options):
        return jaxnn.fit(
            learner, data, steps=10, key=jax.random.key(0), hparams={"rate": 1e-2}, quiet=True,
            **options,
        )  # fmt: skip

    texts = [
        jaxnn.generate(
            gpt, each.state.params, each.state.state, [[1, 2, 3]], 8, key=jax.random.key(1)
        ).tolist()
        for each in (run(), run(**both()))
    ]
    return texts


def test_a_sharded_network_writes(tmp_path):
    alone, many = on_devices(8, writing, tmp_path)
    assert alone == many


def test_eight_devices_resume_as_four_as_one_and_as_eight(tmp_path):
    result = on_devices(8, resumed, tmp_path)
    assert result["loss"] <= 1e-6 and result["update"] <= 1e-5
    assert all("devices" in text for text in result["said"]), result["said"]
