"""What a run says about the machine: one line, and a warning when an accelerator stands idle."""

import re

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.scale.devices import describe, devices_of, idle_accelerator
from tests.driver.test_train import native_conv


def test_the_line_says_platform_devices_precision_and_version():
    if jax.default_backend() != "cpu":
        pytest.skip("the expected line is that of two CPU devices")
    assert describe() == f"cpu, 2 devices, float32, jax {jax.__version__}"


def test_the_line_says_how_products_are_rounded():
    with jax.default_matmul_precision("bfloat16"):
        assert ", float32, products in bfloat16, jax " in describe()


def test_the_line_says_float64_where_it_is_on():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        assert ", float64, " in describe()
    finally:
        jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize(
    ("file", "kind", "package"),
    [
        ("dev/accel0", "TPU", "jax[tpu]"),
        ("dev/vfio/0", "TPU", "jax[tpu]"),
        ("dev/nvidia0", "GPU", "jax[cuda12]"),
    ],
)
def test_a_device_file_that_jax_does_not_use_is_warned_of(tmp_path, file, kind, package):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.touch()
    warning = idle_accelerator({}, tmp_path)
    assert f"this machine has a {kind} (/{file})" in warning
    assert f"Install {package} at the same version" in warning
    assert f"jax {jax.__version__} runs on cpu" in warning
    assert "Set JAX_PLATFORMS=cpu" in warning
    assert "\n" not in warning


@pytest.mark.parametrize(
    ("variable", "value", "kind"),
    [
        ("TPU_ACCELERATOR_TYPE", "v5e-1", "TPU"),
        ("COLAB_TPU_ADDR", "10.0.0.2:8470", "TPU"),
        ("COLAB_GPU", "1", "GPU"),
        ("COLAB_GPU", "0", None),
        ("COLAB_GPU", "", None),
        ("COLAB_RELEASE_TAG", "release", None),
    ],
)
def test_a_variable_that_promises_an_accelerator_is_warned_of(tmp_path, variable, value, kind):
    warning = idle_accelerator({variable: value}, tmp_path)
    if kind is None:
        assert warning is None
    else:
        assert re.search(rf"has a {kind} \({variable}\)", warning)


def test_no_warning_where_there_is_none_or_the_cpu_was_asked_for(tmp_path, monkeypatch):
    assert idle_accelerator({}, tmp_path) is None
    promised = {"COLAB_GPU": "1", "JAX_PLATFORMS": "cpu"}
    assert idle_accelerator(promised, tmp_path) is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert idle_accelerator({"COLAB_GPU": "1"}, tmp_path) is None


def test_the_devices_of_a_tree_are_those_that_hold_it():
    first, second = jax.devices("cpu")[:2]
    assert devices_of({"a": 1.0, "b": jax.device_put(1.0, second)}) == (second,)
    assert devices_of({}) == devices_of(np.ones(2)) == (jax.devices()[0],)
    for default, device in ((second, second), ("cpu", first)):
        with jax.default_device(default):
            assert devices_of({}) == (device,)


def test_where_the_data_are_decides_the_form_and_not_the_default_backend(monkeypatch, key):
    network = jaxnn.serial(native_conv(4), jaxnn.flatten(), jaxnn.linear(2))
    learner = jaxnn.learner(network, jaxnn.classification(), optax.sgd(0.1))
    images = {"inputs": np.zeros((8, 6, 6, 1), np.float32), "labels": np.zeros(8, np.int32)}
    data = jaxnn.resident(images, batch_size=4)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert jaxnn.train(learner, data, steps=1, key=key).form == "stepped"
