"""A run directory predicts by itself: in a fresh process, without the code that trained it."""

import subprocess
import sys
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.catalog.verification import verify
from jaxnn.runs import executable, lowering
from jaxnn.storage import program_file
from jaxnn.storage.json_files import CorruptFile
from tests.registry import real, whole

KEY = jax.random.key(0)
INPUTS, LABELS = real(24, 5), whole(3, 24)
DATA = jaxnn.resident({"inputs": INPUTS, "labels": LABELS}, batch_size=6)
NETWORK = jaxnn.serial(jaxnn.standardize(0.5, 2.0), jaxnn.mlp([4], 3))


@cache  # one learner compiles once, however many tests run it
def learner(network, make_objective):
    return jaxnn.learner(network, make_objective(), optax.sgd(0.5))


def trained(out, network=NETWORK, *, data=DATA, change=lambda learner: learner, **options):
    made = learner(network, options.pop("objective", jaxnn.classification))
    return jaxnn.fit(change(made), data, steps=6, out=out, quiet=True, **{"key": KEY} | options)


@pytest.mark.parametrize(
    "change",
    [
        lambda learner: learner,
        lambda learner: jaxnn.average(learner, decay=0.5),
        lambda learner: jaxnn.accumulate(learner, 2),
    ],
    ids=["plain", "average", "accumulate"],
)
def test_a_run_predicts_what_it_predicted(change, tmp_path):
    run = trained(tmp_path, change=change, evaluate=DATA, watch="test/loss", every=1)
    loaded = jaxnn.load(tmp_path)
    for count in (1, 5, 24):
        np.testing.assert_array_equal(
            loaded.predict(INPUTS[:count], batch_size=8), run.predict(INPUTS[:count], batch_size=8)
        )
    assert loaded.member is None


def test_a_run_predicts_in_a_fresh_process(tmp_path):
    """Nothing of the code that trained it is there, and the accuracy is that of the result."""
    run = trained(tmp_path / "run", evaluate=DATA)
    np.savez(tmp_path / "data.npz", inputs=INPUTS, labels=LABELS)
    code = (
        "import sys\n"
        "sys.modules['flatbuffers'] = None  # which jax needs for files that expire\n"
        "import numpy as np, jaxnn\n"
        "data = np.load(sys.argv[2])\n"
        "read = jaxnn.load(sys.argv[1]).predict(data['inputs']).argmax(-1)\n"
        "print(float(np.mean(read == data['labels'], dtype=np.float32)))\n"
    )
    arguments = [sys.executable, "-c", code, tmp_path / "run", tmp_path / "data.npz"]
    said = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert float(said) == run.result["test/accuracy"]


def test_statistics_are_those_of_the_training(tmp_path):
    """A network built again with other statistics computes with those that it was fitted with."""
    run = trained(tmp_path)
    loaded = jaxnn.load(tmp_path)
    other = jaxnn.serial(jaxnn.standardize(0.0, 1.0), jaxnn.mlp([4], 3))
    outputs, _ = other.apply(loaded.params, loaded.state, INPUTS)
    np.testing.assert_allclose(outputs, run.predict(INPUTS), atol=1e-6)


def test_of_a_population_the_best_member_predicts(tmp_path):
    run = trained(tmp_path, key=jaxnn.keys(range(3)), evaluate=DATA, watch="test/loss")
    loaded = jaxnn.load(tmp_path)
    assert loaded.member == int(np.argmin(run.result["best/test/loss"]))
    expected = run.predict(INPUTS)[loaded.member]
    np.testing.assert_allclose(loaded.predict(INPUTS), expected, rtol=1e-6)


def test_a_population_without_a_loss_is_ranked_by_the_metric_that_it_reports(tmp_path):
    def scored(learner):
        def update(state, batch, gradients):
            after, metrics = learner.update(state, batch, gradients)
            return after, {"score": metrics["accuracy"]}

        return learner._replace(update=update)

    run = trained(tmp_path, key=jaxnn.keys(range(3)), change=scored)
    assert jaxnn.load(tmp_path).member == int(np.argmax(run.result["train/score"]))


def test_inputs_may_be_a_tree(tmp_path):
    network = jaxnn.Network(
        lambda key, inputs: ({"scale": jnp.ones(())}, {}),
        lambda params, state, inputs, *, key=None: (
            params["scale"] * inputs["left"] + inputs["right"][:, :1],
            state,
        ),
    )
    inputs = {"left": real(8, 1), "right": real(8, 3)}
    data = jaxnn.resident({"inputs": inputs, "labels": real(8, 1)}, batch_size=4)
    run = trained(tmp_path, network, data=data, objective=jaxnn.regression)
    np.testing.assert_array_equal(jaxnn.load(tmp_path).predict(inputs), run.predict(inputs))


def test_a_network_whose_shapes_cannot_be_free_predicts_in_batches_of_one_size(tmp_path):
    def apply(params, inputs):
        assert int(inputs.shape[0]) > 0  # a Python number of the batch, which no free size has
        return inputs * params["scale"]

    network = jaxnn.stateless(apply, lambda key, inputs: {"scale": jnp.ones(())})
    data = jaxnn.resident({"inputs": INPUTS, "labels": INPUTS}, batch_size=4)
    run = trained(tmp_path, network, data=data, objective=jaxnn.regression)
    loaded = jaxnn.load(tmp_path)
    assert loaded.program.signature[1].shape == (lowering.FIXED, 5)
    many = np.tile(INPUTS, (4, 1))
    np.testing.assert_array_equal(loaded.predict(many), run.predict(many))


def test_the_number_of_examples_is_free_where_predict_is_a_function_of_jit(tmp_path):
    trained(tmp_path, change=lambda learner: learner._replace(predict=jax.jit(learner.predict)))
    assert jaxnn.load(tmp_path).program.signature[1].shape[0] != lowering.FIXED


def test_a_network_is_compared_with_the_one_that_was_trained(tmp_path):
    trained(tmp_path)
    assert jaxnn.load(tmp_path, network=NETWORK).program
    other = jaxnn.serial(jaxnn.standardize(0.5, 2.0), jaxnn.mlp([4], 3, activation=jnp.tanh))
    with pytest.raises(jaxnn.InvalidValue, match="not the one that was trained"):
        jaxnn.load(tmp_path, network=other)


def test_wrong_inputs_are_refused(tmp_path):
    trained(tmp_path)
    loaded = jaxnn.load(tmp_path)
    with pytest.raises(jaxnn.InvalidType, match=r"float32\[4\].*expected.*float32\[5\]"):
        loaded.predict(INPUTS[:, :4])
    data = jaxnn.resident(
        {"inputs": np.zeros((6, 5), np.uint8), "labels": LABELS[:6]}, batch_size=6
    )
    trained(tmp_path / "bytes", data=data)
    with pytest.raises(jaxnn.InvalidValue, match="do not fit into uint8"):
        jaxnn.load(tmp_path / "bytes").predict(INPUTS)
    assert jaxnn.load(tmp_path / "bytes").predict(np.full((1, 5), 255)).shape == (1, 3)


def test_a_program_that_is_missing_corrupt_or_of_another_version_is_an_error(tmp_path):
    trained(tmp_path)
    program = program_file.read(tmp_path)
    program_file.write(tmp_path, replace(program, code=b"of another version"))
    with pytest.raises(executable.NoProgram, match="cannot be read by jax"):
        jaxnn.load(tmp_path).predict(INPUTS)
    program_file.write(tmp_path, program)
    (tmp_path / program_file.FILE).write_bytes((tmp_path / program_file.FILE).read_bytes() + b"0")
    with pytest.raises(CorruptFile, match="corrupt"):
        jaxnn.load(tmp_path).predict(INPUTS)
    program_file.write(tmp_path, program, program_file.WRITER)
    states = {each.what: each.state for each in verify(tmp_path)}
    assert (states[program_file.FILE], states[program_file.WRITER]) == ("corrupt", "good")
    (tmp_path / program_file.FILE).unlink()
    with pytest.raises(executable.NoProgram, match="no program to predict with"):
        jaxnn.load(tmp_path).predict(INPUTS)


def test_what_cannot_be_exported_is_said(tmp_path):
    def apply(params, inputs):
        return jax.pure_callback(lambda x: x, inputs, inputs) * params["scale"]

    network = jaxnn.stateless(apply, lambda key, inputs: {"scale": jnp.ones(())})
    data = jaxnn.resident({"inputs": INPUTS, "labels": INPUTS}, batch_size=4)

    def unseen(learner):
        return learner._replace(gradients=jaxnn.learning.no_gradients, update=lambda s, b, g: (
            s._replace(step=s.step + 1), learner.evaluate(s, b)))  # fmt: skip

    with pytest.warns(jaxnn.Caution, match="no program to predict with"):
        trained(tmp_path, network, data=data, objective=jaxnn.regression, change=unseen)


def test_an_error_without_a_message_is_named_by_its_type(tmp_path):
    def apply(params, inputs):
        if not isinstance(inputs.shape[0], int) or inputs.shape[0] > 6:
            raise AssertionError  # as an assertion of a user does
        return inputs * params["scale"]

    network = jaxnn.stateless(apply, lambda key, inputs: {"scale": jnp.ones(())})
    data = jaxnn.resident({"inputs": INPUTS, "labels": INPUTS}, batch_size=6)
    with pytest.warns(jaxnn.Caution, match=r"cannot be exported \(AssertionError\)"):
        trained(tmp_path, network, data=data, objective=jaxnn.regression)


def test_numbers_that_overflow_the_dtype_of_training_are_refused(tmp_path):
    network = jaxnn.stateless(lambda params, inputs: inputs.astype(jnp.float32) * params["scale"],
                              lambda key, inputs: {"scale": jnp.ones(())})  # fmt: skip
    inputs = INPUTS.astype(np.float16)
    data = jaxnn.resident({"inputs": inputs, "labels": INPUTS}, batch_size=6)
    run = trained(tmp_path, network, data=data, objective=jaxnn.regression)
    loaded = jaxnn.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(inputs.astype(np.float32)), run.predict(inputs))
    with pytest.raises(jaxnn.InvalidValue, match="do not fit into float16"):
        loaded.predict(np.full((1, 5), 1e6, np.float32))


def test_sequences_of_different_lengths_are_predicted(tmp_path):
    inputs, lengths = real(8, 4, 3), np.array([1, 2, 3, 4] * 2)
    data = jaxnn.resident(
        {"inputs": inputs, "labels": whole(2, 8), "lengths": lengths}, batch_size=4
    )
    run = trained(tmp_path, jaxnn.rnn([3], 2), data=data)
    masked = jaxnn.Masked.from_lengths(inputs, lengths)
    np.testing.assert_allclose(jaxnn.load(tmp_path).predict(masked), run.predict(masked), rtol=1e-6)
    with pytest.raises(jaxnn.InvalidType, match="not such as the run was trained on"):
        jaxnn.load(tmp_path).predict(inputs)
