"""A small run of which files are replaced, and the proof that none of them did harm."""

import builtins
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from jaxnn.scale.memory import used_by
from tests.small import Small


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    return Small(tmp_path_factory.mktemp("small"))


@pytest.fixture(autouse=True)
def harmless(small, tmp_path, monkeypatch):
    """Asserts that a test runs no code of a file, and takes neither memory nor time."""
    monkeypatch.chdir(tmp_path)

    def ran(*args, **kwargs):
        raise AssertionError("code of a file was run")

    def run(code, *args, run=exec):
        # Imports, and the annotations that tests enforce, are run so.
        caller = sys._getframe(1).f_globals["__name__"].split(".")[0]
        assert caller in ("_frozen_importlib", "importlib", "jaxtyping", "beartype"), caller
        return run(code, *args)

    def stuck(number, frame):
        raise TimeoutError("it waits for what never comes")

    for place, name in (
        (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (builtins, "eval"),
        (os, "system"), (subprocess, "Popen"),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, ran)
    monkeypatch.setattr(builtins, "exec", run)
    handler = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(60)  # far more than a busy machine needs
    memory = used_by().peak
    began = time.process_time()
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    assert time.process_time() - began < 1
    assert used_by().peak - memory < 100_000_000
    assert not any(tmp_path.iterdir())
