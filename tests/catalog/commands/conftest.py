"""Runs of every kind, trained once, and the command that reads them."""

import json
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import jaxnn
from jaxnn.__main__ import main
from tests.catalog.commands.runs import fit, subprocess_of


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Runs of every kind, and the output about one while it was running."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py"])  # runs record the command that started them
        return _trained(tmp_path_factory.mktemp("trained") / "runs")


def _trained(place):
    seen = []

    @contextmanager
    def interrupted(steps, **options):
        def show(step, row):
            if step == 12 and row:
                seen.append(subprocess_of("runs", str(place), "--json"))
                seen.append(subprocess_of("verify", str(place / "deep" / "cut"), "--json"))
                signal.raise_signal(signal.SIGINT)

        yield show

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sys.modules["jaxnn.runs._fit"], "shown", interrupted)
        fit(place / "deep" / "cut", saving=jaxnn.Saving(seconds=0))
    one = fit(place / "one", saving=jaxnn.Saving(seconds=0))
    twin = fit(place / "twin")
    other = fit(place / "other", 0.02)
    with pytest.raises(jaxnn.NotFinite):
        fit(place / "lost", 1e30)
    rates = jaxnn.log_range(1e-2, 1e-1, 2)
    swept = jaxnn.fit_sweep(
        jaxnn.sweep({"learning_rate": rates, "hidden": [(4,), (5,)]}, seeds=2),
        lambda values, runs, out: fit(
            out, runs.hparams["learning_rate"], values["hidden"], None, key=runs.key
        ),
        structural=["hidden"], out=place / "swept", quiet=True,
    )  # fmt: skip
    return SimpleNamespace(place=place, seen=seen, one=one, twin=twin, other=other, swept=swept)


@pytest.fixture
def call(capsys):
    """Returns `call(*arguments)`, which gives the exit code, the output and the errors."""

    def call(*arguments):
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def query(call):
    """Returns `query(*arguments)`, which returns the exit code and the JSON document."""

    def query(*arguments):
        code, output, _ = call(*arguments, "--json")
        return code, json.loads(output)

    return query


@pytest.fixture
def copy(trained, tmp_path):
    """Returns `copy(name)`, a copy of a run that may be spoilt."""

    def copy(name):
        return Path(shutil.copytree(trained.place / name, tmp_path / "copy" / name))

    return copy
