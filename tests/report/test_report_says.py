"""A report says what is known, and no more: facts about the words on a page."""

import json
import re

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import pictures, report
from jaxnn.catalog import failures as reports
from jaxnn.catalog import watching
from jaxnn.report.headline import token
from jaxnn.storage import recording
from tests.pages import words
from tests.recorded import curve, digits, write


def test_the_page_that_a_diverged_run_leaves_says_so(tmp_path):
    draws = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    data = jaxnn.resident({"inputs": draws, "labels": 1e4 * draws[:, :1]}, batch_size=8)
    wild = jaxnn.learner(jaxnn.mlp([4], 1), jaxnn.regression(), optax.sgd(1e3))
    with pytest.raises(jaxnn.NotFinite, match=r"first in step (\d+)") as caught:
        jaxnn.fit(
            wild, data, steps=20, key=jax.random.key(0), quiet=True,
            out=jaxnn.Directory(tmp_path / "wild", report=True),
        )  # fmt: skip
    said = words((tmp_path / "wild" / "report.html").read_text())
    began = re.findall(r"first in step (\d+)", str(caught.value))[0]
    assert "diverged · step" in said and "It is going on" not in said
    assert f"It began in step {began}." in said
    assert "steps 20 batch size 8 The rest is not recorded" in said  # without a config=
    assert f"python -m jaxnn diagnose {tmp_path / 'wild'}" in said


def page(path, rows=None, **speed):
    """Returns the words on the page of a run that has such reports."""
    if rows is not None:
        write(path, {}, rows, {"steps": rows[-1]["step"], "seconds": 1.0, "status": "done"})
    if speed:
        (path / "speed.json").write_text(json.dumps(speed))
    return words(report.write(path).read_text())


def falling(to):
    return lambda t: to ** (t + 0.01)


def test_that_curves_part_is_said_with_their_numbers(tmp_path):
    rows = curve(12, train__loss=falling(0.01), test__loss=lambda t: 0.5 + (t - 0.8) ** 2)
    said = page(tmp_path, rows)
    assert "did not over-fit" not in said
    assert "the loss on training examples is 0.00955, and that on held-out examples 0.54" in said
    assert "(lowest at step 100, 0.5003): it knows the examples that it trained on better" in said


def test_curves_that_do_not_part_are_not_said_to(tmp_path):
    said = page(tmp_path, curve(12, train__loss=falling(0.1), test__loss=falling(0.12)))
    assert "Nothing: every number that was reported is finite" in said
    assert "knows the examples" not in said and "(lowest at step" not in said


def test_of_others_nothing_is_said_where_none_were_held_out(tmp_path):
    said = page(tmp_path, curve(12, train__loss=falling(0.01)))
    assert "No examples were held out, so its performance on other examples is unknown" in said
    assert "over-fit" not in said and "curves called test" not in said


def test_the_slider_says_that_it_asks_a_sample(tmp_path):
    digits(tmp_path)
    about = tmp_path / "recording" / "about.json"
    told = json.loads(about.read_text())
    counts = recording.read(tmp_path).end["confusion"].sum()
    about.write_text(json.dumps(told | {"probe": {"of": "test", "count": 40}}))
    said = page(tmp_path)
    assert counts > 40 and "right of a sample of 40 held-out examples" in said
    assert "so they differ a little" in said
    about.write_text(json.dumps(told | {"probe": {"of": "test", "count": int(counts)}}))
    assert "sample" not in page(tmp_path).partition("Findings")[0]
    about.write_text(json.dumps(told | {"probe": {"of": "train", "count": 40}}))
    assert "means over the steps since the report before" in page(tmp_path)


def test_of_the_device_is_said_what_is_known(tmp_path):
    rows = curve(4, train__loss=falling(0.1))
    said = page(tmp_path, rows, steps_per_second=1234.0, share_of_peak=None)
    assert "share of what the device can do" not in said
    assert "training steps in a second, without compiling 1,234" in said
    assert "waiting for data" not in said
    assert "could not be read" not in said
    said = page(tmp_path, rows, data_wait_seconds=2.0, data_wait_share=0.2, examples_skipped=3)
    said = said.replace("\u00a0", " ")
    assert "waiting for data 2 seconds, 20.0 % of it" in said
    assert "It waited for data 20.0 % of the time" in said and "workers= of stream" in said
    assert "3 examples could not be read" in said
    assert "examples that could not be read 3 size of" in said
    assert "1 example could not be read" in page(tmp_path, rows, examples_skipped=1)
    said = page(tmp_path, rows, data_wait_seconds=0.0, data_wait_share=0.0, examples_skipped=0)
    assert "It waited" not in said and "could not be read" not in said
    said = page(tmp_path, rows, share_of_peak=0.25)
    assert "share of what the device can do 25.0 %" in said.replace("\u00a0", " ")


def test_an_overflow_is_not_told_to_keep_away_from_zero():
    found = {"operation": "integer_pow", "gave": "inf", "phase": "forward", "where": ""}
    known = {"learning_rate": None, "checkpoint": None, "step": 1}

    def first(*ranges, dtype="float32", **given):
        inputs = [{"dtype": dtype, "low": low, "high": high} for low, high in ranges]
        return next(reports._advice(known, found | {"inputs": inputs} | given))

    grown = first((-6.283e19, 4.239e17))
    assert "6.283e+19 went into integer_pow" in grown and "away from 0" not in grown
    assert "300 went into mul" in first((3, 3), (-300, -300), dtype="float16", operation="mul")
    assert "away from 0" in first((0, 2))
    assert "away from 0" in first((0, 0), operation="log")
    assert "below 88" in first((0, 1e20), operation="exp")


def test_watch_names_the_command_that_says_why_a_run_diverged(tmp_path):
    rows = curve(4, train__loss=lambda t: None if t == 1 else 1.0)
    write(tmp_path, {}, rows)
    seen = list(watching.follow(tmp_path, 0.01))[-1]
    said = watching.ending(seen, "runs/mine")
    assert said == "diverged at step 40: python -m jaxnn diagnose runs/mine says why"
    assert seen.moment.rate is None  # nor is any time left


def test_what_stands_out_has_the_names_that_the_page_has(tmp_path):
    lost = {"test__mae": lambda t: None if t == 0 else 1.0}
    said = page(tmp_path, curve(4, train__loss=falling(0.1), **lost))
    assert "At times mean absolute error (mae) on held-out examples could not be computed" in said


@pytest.mark.parametrize("size", [1.0, 1.4e29, 1.4e-29])
def test_the_key_of_a_picture_ends_before_its_edge(size):
    inputs = jax.ShapeDtypeStruct((1, 3), np.float32)
    params = {"hidden_1": {"weight": np.full((3, 2), size), "bias": np.full(2, size)}}
    params["output"] = {"weight": np.full((2, 1), size), "bias": np.full(1, size)}
    figure = pictures.network(jaxnn.mlp([2], 1), params, inputs)
    edges = [each.get_window_extent().x1 for each in figure.axes[0].texts]
    assert max(edges) <= figure.bbox.x1
    assert ("±1.4×10²⁹" in [each.get_text() for each in figure.axes[0].texts]) == (size > 1)


def test_the_key_of_nodes_and_wires_has_the_scale_of_all_steps(tmp_path):
    digits(tmp_path)
    frame, leaf = recording.read(tmp_path).frames[2], "layers/hidden_2/weight"
    frame.arrays[f"wires/{leaf}"][0, 0] = 31.0
    frame.arrays[f"biases/{leaf}"][0] = 25.0
    name = recording.frame_name(frame.step)
    recording.write(tmp_path / "recording", name, frame.arrays)
    assert "weight −31 31 bias −25 25" in page(tmp_path)


def mapped(path, answers, labels, **about):
    """Writes a run whose network has two inputs, with what it says of nine places."""
    frames = {"metrics/loss": np.float32(1.0), "boundary": np.float32(answers).reshape(3, 3, 1)}
    inputs = np.float32([[0, 0], [1, 2]])
    about = {"format": 1, "plot_bounds": [[-0.5, 1.5], [-1.0, 3.0]], **about}
    place = path / "recording"
    write(path, {}, curve(3, train__loss=falling(0.1)), {"steps": 30, "seconds": 1.0})
    place.mkdir()
    (place / "about.json").write_text(json.dumps(about))
    recording.write(place, recording.PROBE, {"inputs": inputs, "labels": np.array(labels)})
    for step in (0, 10, 30):
        recording.write(place, recording.frame_name(step), frames)
    return words(report.write(path).read_text())


def test_a_map_has_axes_and_says_what_its_points_and_colours_are(tmp_path):
    said = mapped(tmp_path / "one", [*range(-4, 5)], [0.5, 1.5])
    assert "3 second input −1" in said and "−0.5 first input 1.5" in said
    assert "above 0, up to 4" in said and "below 0, down to −4" in said
    assert "Each ring is an example, in black" in said and "At some moments" not in said
    said = mapped(tmp_path / "two", [np.nan, *range(1, 9)], [0, 1], classes=None)
    assert "larger: from 1 to 8. At some moments it is not finite" in said
    said = mapped(tmp_path / "three", [*range(-4, 5)], [0, 1], classes=2)
    assert "filled with the colour of what it is" in said


def test_the_chart_of_the_slider_says_what_is_upwards_and_to_the_right(tmp_path):
    digits(tmp_path / "digits")
    said = page(tmp_path / "digits").replace("\u00a0", " ")
    assert "Upwards: from 0 % to 100 % right" in said
    assert "training steps, closer together at the beginning" in said
    assert "loss 1 0 " in mapped(tmp_path / "map", [*range(9)], [0, 1])


def test_single_mistakes_are_not_called_frequent(tmp_path):
    digits(tmp_path)
    end = recording.read(tmp_path).end
    counts = np.diag(np.full(10, 9))
    counts[3, 5], counts[1, 2] = 2, 1
    recording.write(tmp_path / "recording", recording.END, {**end, "confusion": counts})
    assert "Most often 3 taken for 5 (2). " in page(tmp_path)


def test_a_vocabulary_is_counted_in_the_outputs_of_the_network():
    """With tied weights the last part of the table is a norm, whose outputs are features."""

    def token_of(features, symbols):
        rows = [{"part": "body/norm", "output": [16, features]}]
        table = {"rows": rows, "total": {"output": [16, symbols]}}
        return token(recording.Recording({"table": table}, {}, [], {}))

    assert token_of(features=384, symbols=65) == "character"
    assert token_of(features=64, symbols=50_257) == "token"
