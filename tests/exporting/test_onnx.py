"""ONNX: every registered model gives the same numbers in ONNX Runtime, for any number of examples.

jax2onnx needs an environment of its own, in which `.ci/run` runs this file; others skip it.
"""

import json
import warnings

import jax
import numpy as np
import pytest

import jaxnn
from tests.registry import NETWORKS

pytest.importorskip("jax2onnx", reason="jax2onnx needs an environment of its own")
runtime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("default")
MODELS = {
    "mlp", "gpt", "gpt_modern", "convnet", "rnn", "rnn_every_step", "resnet", "resnet_imagenet",
    "tabular", "vae", "nnx", "linen",
}  # fmt: skip
CASES = [case for case in NETWORKS if case.name in MODELS]


def test_there_are_models():
    assert {case.name for case in CASES} == MODELS


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_model_in_onnx(case, tmp_path):
    network, inputs = case.thing, jax.tree.map(np.asarray, case.data)
    params, state = network.init(jax.random.key(0), inputs)
    # Flax promotes ranks where jax2onnx takes its layers apart.
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        path = jaxnn.export((network, params, state), tmp_path / "model.onnx", inputs=inputs)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    leaves = jax.tree.leaves(inputs)
    for count in {1, 2, len(leaves[0])}:
        parts = [x[:count] for x in leaves]
        names = [each.name for each in session.get_inputs()]
        computed = session.run(None, dict(zip(names, parts)))
        part = jax.tree.unflatten(jax.tree.structure(inputs), parts)
        expected = jax.tree.leaves(network.apply(params, state, part)[0])
        for a, b in zip(computed, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    about = json.loads(session.get_modelmeta().custom_metadata_map["jaxnn"])
    assert about["inputs"] and about["kind"]


def test_what_onnx_does_not_know_is_named(tmp_path):
    network, inputs = jaxnn.layers.gru(2, reverse=True), np.ones((2, 3, 2), np.float32)
    params, state = network.init(jax.random.key(0), inputs)
    with pytest.raises(jaxnn.exporting.NotTranslated, match="[Rr]everse scan"):
        jaxnn.export((network, params, state), tmp_path / "model.onnx", inputs=inputs)
    assert not [*tmp_path.iterdir()]
