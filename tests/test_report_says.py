"""A report says what is known, and no more: facts about the words on a page."""

import json
import re

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import report
from jaxnn.records import recording
from tests.recorded import curve, digits, write


def words(file):
    """Returns the text of a page, in one line."""
    page = re.sub(r"<(script|style)\b.*?</\1>", " ", file.read_text(), flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_page_that_a_diverged_run_leaves_says_so(tmp_path):
    draws = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    data = jaxnn.resident({"inputs": draws, "labels": 1e4 * draws[:, :1]}, batch_size=8)
    wild = jaxnn.learner(jaxnn.mlp([4], 1), jaxnn.regression(), optax.sgd(1e3))
    with pytest.raises(jaxnn.NotFinite, match=r"first in step (\d+)") as caught:
        jaxnn.fit(
            wild, data, steps=20, key=jax.random.key(0), out=tmp_path / "wild", quiet=True,
            report=True,
        )  # fmt: skip
    said = words(tmp_path / "wild" / "report.html")
    began = re.findall(r"first in step (\d+)", str(caught.value))[0]
    assert "diverged · step" in said and "It is going on" not in said
    assert f"It began in step {began}." in said
    assert f"python -m jaxnn diagnose {tmp_path / 'wild'}" in said


def page(path, rows=None, **speed):
    """Returns the words on the page of a run that has such reports."""
    if rows is not None:
        write(path, {}, rows, {"steps": rows[-1]["step"], "seconds": 1.0, "status": "done"})
    if speed:
        (path / "speed.json").write_text(json.dumps(speed))
    return words(report.write(path))


def falling(to):
    return lambda t: to ** (t + 0.01)


def test_that_curves_part_is_said_with_their_numbers(tmp_path):
    rows = curve(12, train__loss=falling(0.01), test__loss=lambda t: 0.5 + (t - 0.8) ** 2)
    said = page(tmp_path, rows)
    assert "did not over-fit" not in said
    assert "The loss on training examples is 0.00955, and that on held-out examples 0.54" in said
    assert "after 0.5003 at step 100: it knows the examples that it trained on better" in said


def test_curves_that_do_not_part_are_not_said_to(tmp_path):
    said = page(tmp_path, curve(12, train__loss=falling(0.1), test__loss=falling(0.12)))
    assert "No warning" in said and "knows the examples" not in said and "after 0." not in said


def test_of_others_nothing_is_said_where_none_were_held_out(tmp_path):
    said = page(tmp_path, curve(12, train__loss=falling(0.01)))
    assert "No examples were held out, so how it does on others is not known" in said
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
    assert "sample" not in page(tmp_path).partition("What stands out")[0]
    about.write_text(json.dumps(told | {"probe": {"of": "train", "count": 40}}))
    assert "means over the steps since the report before" in page(tmp_path)


def test_what_is_not_known_of_the_device_is_said_to_be(tmp_path):
    rows = curve(4, train__loss=falling(0.1))
    said = page(tmp_path, rows, steps_per_second=1234.0, share_of_peak=None)
    assert "share of what the device can do not known" in said
    assert "training steps in a second, without compiling 1,234" in said
    assert "waiting for data none: they are on the device" in said
    said = page(tmp_path, rows, share_of_peak=0.25)
    assert "share of what the device can do 25.0 %" in said.replace("\u00a0", " ")
