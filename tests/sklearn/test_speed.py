"""How much faster a search as one program is than scikit-learn's over its own networks."""

import statistics

import pytest

pytest.importorskip("sklearn")

from experiments.benchmarks.search import Config, measure


@pytest.mark.benchmark
def test_a_search_is_faster_and_selects_the_same():
    seconds, searches = measure(Config(repeats=1))
    peer, cold, warm = (statistics.median(seconds[name]) for name in ("sklearn", "cold", "warm"))
    assert searches["jaxnn"]["best"] == searches["sklearn"]["best"]
    assert peer > 10 * warm and peer > 4 * cold
