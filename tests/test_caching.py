"""The compile cache: what was compiled once, on this machine, is loaded from then on."""

import re
from collections import Counter
from pathlib import Path

import jax
import pytest

import jaxnn
from tests.trees import assert_same_bits

README = (Path(__file__).parents[1] / "README.md").read_text()
EVENTS = "/jax/compilation_cache/"


@pytest.fixture
def requests(cache_options):
    """Counts what is asked of the cache, by the name of jax's event."""
    jax.config.update("jax_enable_compilation_cache", True)
    _requests.clear()
    return _requests


_requests = Counter()


def _listen(event, **details):
    if event.startswith(EVENTS):
        _requests[event.removeprefix(EVENTS)] += 1


jax.monitoring.register_event_listener(_listen)


def test_the_same_cell_run_again_compiles_nothing_and_gives_the_same_bits(requests):
    """The cell is the first example of the README, which builds its network and learner anew."""
    code, *_ = re.findall(r"```python\n(.*?)```", README, re.S)
    code = compile(code.replace("20 epochs", "2 epochs"), "README.md", "exec")

    def cell():
        names = {}
        requests.clear()
        exec(code, names)
        return names["run"].state, dict(requests)

    first, asked = cell()
    assert asked["compile_requests_use_cache"] == asked["cache_misses"] + asked.get("cache_hits", 0)
    assert asked["cache_misses"] >= 2
    again, asked = cell()
    assert asked["compile_requests_use_cache"] == asked["cache_hits"] >= 2
    assert "cache_misses" not in asked
    assert_same_bits(first, again)


def test_it_says_where_it_is(cache_options, monkeypatch, tmp_path):
    assert jaxnn.compile_cache() == tmp_path / "cache" / "jaxnn" / "compiled"
    assert jaxnn.compile_cache(tmp_path / "mine") == tmp_path / "mine"
    assert jaxnn.compile_cache() == tmp_path / "mine"  # what jax is set to already stays
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    assert jaxnn.compile_cache() == tmp_path / ".cache" / "jaxnn" / "compiled"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / ".cache" / "jaxnn" / "compiled")


def test_it_counts_though_something_was_compiled_before(requests, tmp_path):
    """As in a notebook whose first cells have used jax already."""
    jax.config.update("jax_compilation_cache_dir", None)
    jax.jit(lambda x: x + 1)(1.0)
    folder = jaxnn.compile_cache(tmp_path / "mine")
    jax.jit(lambda x: x + 2)(1.0)
    assert list(folder.iterdir())
