"""Things show themselves in a notebook: by IPython's formatter, and whatever they are called."""

import html.parser
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.runs._fit import Run
from jaxnn.search._fit_sweep import Swept

BAD = "<script>alert('&\"')</script>\x00"
TAGS = "b br div style span table tbody td th thead tr".split()
DATA = jaxnn.resident({"inputs": [[1.0], [2.0]], "labels": [[3.0], [5.0]]}, batch_size=2)


class Page(html.parser.HTMLParser):
    """What a browser makes of a page: its tags, its attributes and its lines of text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], set(), [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.texts).split())


def page(value):
    """Returns what IPython shows of a value."""
    formatters = pytest.importorskip("IPython.core.formatters")
    data, _ = formatters.DisplayFormatter().format(value)
    made = Page(data["text/html"])
    # On light and on dark: no colour but those around it.
    for name, style in made.attributes:
        if name == "style" and "svg" not in made.tags:
            assert "currentColor" in style or not re.search(r"(?<!-)color: (?!inherit)", style)
        assert not name.startswith("on")
    return made


def test_a_network_is_an_outline():
    made = page(jaxnn.serial(("first", jaxnn.linear(3)), ("r", jaxnn.residual(jaxnn.linear(3)))))
    assert made.tags <= {*TAGS}
    assert made.words.startswith("serial first linear features=3")
    assert "r residual branch linear" in made.words
    indents = [v for n, v in made.attributes if v and v.startswith("padding-left")]
    assert indents[:2] == ["padding-left: 0em", "padding-left: 1.5em"]


def test_a_large_network_is_cut_and_says_so():
    layers = jaxnn.serial(*[jaxnn.linear(1) for _ in range(300)])
    made = page(layers)
    assert made.words.endswith("... 201 more") and len(layers._repr_html_()) < 20_000
    many = jaxnn.table(layers, jax.ShapeDtypeStruct((1, 1), jnp.float32))
    made = page(many)
    assert "... 201 more" in made.words and made.texts.count("linear") == 99
    assert "total" in made.texts[-8:]


def test_a_setting_is_a_word_or_two():
    made = page(jaxnn.activation(jnp.tanh)).words
    assert "tanh" in made and " at 0x" not in made
    assert len(page(jaxnn.standardize(np.arange(999.0), np.ones(999))).words) < 200


def test_a_learner_and_a_training_show_the_network():
    known = jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.1))
    assert page(known).words.startswith("a learner for linear features=1")
    made = jaxnn.learner(
        lambda h: jaxnn.serial(jaxnn.dropout(h["rate"]), jaxnn.linear(1)),
        jaxnn.regression(),
        optax.sgd(0.1),
    )
    assert page(made).words == "a learner whose network depends on hyper-parameters"
    assert "custom learner" in page(known._replace(parts=None)).words
    training = jaxnn.train(made, DATA, steps=2000, key=jax.random.key(0), hparams={"rate": 0.5})
    words = page(training).words
    assert words.startswith("training for 2,000 steps of 2 examples a learner for serial 0 dropout")


def run(**changes):
    rows = [{"step": n, "train/loss": 1 / n, "test/loss": 2 / n} for n in range(1, 9)]
    told = {"experiment": "mine", "steps": 8, "seconds": 61.0, "status": "done"}
    told |= {"train/loss": 0.123456, "test/loss": 0.25}
    learner = jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.1))
    given = {"result": told, "history": rows, "state": None, "best": None, "learner": learner}
    return Run(**{**given, "out": None, **changes})


def test_a_run_is_a_sentence_numbers_and_curves(tmp_path):
    made = page(run(out=tmp_path))
    assert made.words.startswith("mine: 8 steps in 1.0 min metric last train/loss 0.1235")
    assert "svg" in made.tags and ("role", "img") in made.attributes
    assert made.words.endswith(str(tmp_path))
    (tmp_path / "report.html").write_text("")
    assert page(run(out=tmp_path)).words.endswith("report.html")


def test_pictures_on_one_page_share_no_ids():
    pages = [run()._repr_html_(), run(history=run().history[:4])._repr_html_()]
    first, second = (set(re.findall(r'\bid="([^"]*)"', each)) for each in pages)
    assert first and not first & second
    for own, text in zip((first, second), pages):
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', text)) <= own
    assert pages[0] == run()._repr_html_()


def test_the_colours_of_a_picture_are_those_around_it():
    text = run()._repr_html_()
    assert "--ink: currentColor" in text and "var(--ink" in text


def test_a_population_has_the_least_the_median_and_the_most():
    values = [0.5, None, 0.25, math.nan, 1.0, 2.0]
    status = ["done"] * 5 + ["diverged"]
    told = {"steps": [8, 9], "seconds": 1.0, "status": status, "test/loss": values}
    made = page(run(result=told, members=6, history=[]))
    assert made.words.startswith("run: 6 networks, 9 steps in 1.0 s, 1 diverged")
    assert made.words.endswith("test/loss 0.25 0.75 2")
    lost = {**told, "test/loss": [None] * 6}
    assert page(run(result=lost, members=6)).words.count("not finite") == 3


def swept(settings, tmp_path):
    rows = [
        {"rate": n / 10, "seed": seed, "status": "done", "steps": 3, "test/accuracy": n / 100}
        for n in range(settings)
        for seed in (0, 1)
    ]
    result = {"experiment": "mine", "runs": len(rows), "seconds": 2.0, "metric": "test/accuracy"}
    return Swept(result, rows, tmp_path)


def test_a_sweep_has_its_settings_the_best_first(tmp_path):
    words = page(swept(3, tmp_path)).words
    assert words.startswith("mine: 6 runs in 2.0 s; test/accuracy, best first rate mean best runs")
    assert "runs 0.2 0.02 0.02 2 0.1 0.01 0.01 2 0 0 0 2" in words
    assert "and 4 more settings" in page(swept(14, tmp_path)).words
    assert "and 1 more setting " in page(swept(11, tmp_path)).words + " "


def test_no_name_is_markup(tmp_path):
    bad = jaxnn.serial((BAD, jaxnn.linear(2)))
    settings = jaxnn.activation(jnp.tanh)
    settings = settings._replace(parts=settings.parts._replace(kind=BAD, settings=((BAD, BAD),)))
    rows = [{"step": n, f"train/{BAD}": 1 / n} for n in (1, 2)]
    result = {"experiment": BAD, "steps": 2, "seconds": 1.0, f"train/{BAD}": 0.5}
    row = {"<b>": BAD, "seed": 0, "status": "done", f"test/{BAD}": 1.0}
    shown = [
        bad,
        settings,
        jaxnn.table(bad, jax.ShapeDtypeStruct((1, 2), jnp.float32)),
        jaxnn.learner(bad, jaxnn.regression(), optax.sgd(0.1)),
        run(result=result, history=rows, out=tmp_path / BAD.replace("/", "").replace("\0", "")),
        Swept({"experiment": BAD, "metric": f"test/{BAD}"}, [row], tmp_path),
    ]
    for each in shown:
        made = page(each)
        assert "script" not in made.tags and "alert('&\"')" in made.words
        assert "\x00" not in each._repr_html_()
