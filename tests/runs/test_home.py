"""Every path that a user gives may begin with `~`, the home directory."""

import contextlib
import io
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnn
from jaxnn import __main__ as command
from jaxnn.report import compare, page
from tests.registry import real, whole

RUN = "~/runs/mine"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    import optax

    place = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(place))
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        data = jaxnn.resident({"inputs": real(8, 2), "labels": whole(3, 8)}, batch_size=4)
        learner = jaxnn.learner(jaxnn.linear(3), jaxnn.classification(), optax.sgd(0.1))
        jaxnn.fit(learner, data, steps=4, key=jax.random.key(0), out=RUN, quiet=True)
        yield place
        assert not list(Path().iterdir())


def test_a_run_is_written_there(home):
    assert (home / "runs/mine/result.json").exists()
    assert jaxnn.Directory(RUN).path == home / "runs/mine"


def test_it_is_loaded_from_there(home):
    assert jaxnn.load(RUN).step == 4


@pytest.mark.parametrize("words", [["show"], ["verify"], ["report"], ["runs"], ["watch"]], ids=str)
def test_the_command_line_reads_it(home, words):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert command.main([*words, RUN]) == 0, output.getvalue()


def test_pages_are_written_there(home):
    assert page.write(RUN, "~/page.html") == home / "page.html"
    shutil.copytree(home / "runs/mine", home / "runs/other")
    both = [RUN, "~/runs/other"]
    assert compare.write_comparison(both, "~/both.html") == home / "both.html"


@pytest.mark.usefixtures("cache_options")
def test_the_compile_cache_is_there(home):
    assert jaxnn.compile_cache("~/compiled") == home / "compiled"


def test_predictions_and_models_are_written_there(home):
    np.save(home / "rows.npy", real(3, 2))
    assert command.main(["predict", RUN, "~/rows.npy", "--out", "~/predictions.csv"]) == 0
    assert len((home / "predictions.csv").read_text().splitlines()) == 4
    assert command.main(["export", RUN, "~/model.jaxnn"]) == 0
    assert jaxnn.load_model("~/model.jaxnn").predict(real(3, 2)).shape == (3, 3)


def test_data_are_read_from_there(home):
    np.savez(home / "data.npz", inputs=real(8, 2), labels=whole(3, 8))
    np.arange(10, dtype=np.uint16).tofile(home / "tokens.bin")
    (home / "data.csv").write_text("a,b\n1.5,0\n2.5,1\n")
    assert len(jaxnn.examples("~/data.npz")["inputs"]) == 8
    assert len(jaxnn.streams.arrays("~/data.npz")) == 8
    assert len(jaxnn.streams.arrays("~/da*.npz")) == 8
    assert len(jaxnn.streams.tokens("~/tokens.bin", 5)) > 0
    pytest.importorskip("polars")
    assert jaxnn.read_table("~/data.csv").height == 2
    assert jaxnn.examples("~/data.csv", labels="b")["labels"].tolist() == [0, 1]
