"""The harness of the benchmarks, and the guard: jaxnn beside the same program by hand."""

import pytest

from experiments.benchmarks import classifiers
from experiments.benchmarks.harness import Measured, about, compare, table


def quick(work):
    """Does nothing, and has learned what it was given."""
    return (lambda: None), (lambda: work), "no package"


def broken(work):
    """Fails as a package does that has changed."""
    raise ImportError("no such name")


def test_a_table_has_medians_ranges_and_ratios():
    rows = [
        Measured("ours", [1e-3, 2e-3, 3e-3], 1.5, 0.9, 10**8, "jax"),
        Measured("theirs", [2e-3, 4e-3, 9e-3], 0.5, 0.8, None, ""),
    ]
    lines = table(rows).splitlines()
    assert lines[1].split() == "ours 2 1 to 3 1.00 1.5 100 0.9000 jax".split()
    assert lines[2].split() == "theirs 4 2 to 9 2.00 0.5 0.8000".split()
    assert {"machine", "versions", "date", "load"} == about().keys()


def test_everyone_has_the_same_batches():
    work = classifiers.tiny(steps=70)
    order = work.order(0)
    assert order.shape == (70, 32) and (order == work.order(0)).all()
    assert sorted(order.ravel()[:1024]) == list(range(1024))


@pytest.mark.slow
def test_contenders_take_turns_and_missing_ones_are_named(capfd):
    contenders = {"ours": (quick, "jaxnn"), "theirs": (quick, "no_such_package")}
    (row,) = compare(contenders, 0.5, rounds=2)
    assert (row.name, len(row.seconds), row.reached) == ("ours", 2, 0.5)
    assert 'theirs is left out: no_such_package is not installed (pip install -e ".[bench]")' in (
        capfd.readouterr().err
    )
    with pytest.raises(SystemExit, match="ours: RuntimeError: ImportError: no such name"):
        compare({"ours": (broken, "jaxnn")}, 0.5, rounds=1)


@pytest.mark.benchmark
@pytest.mark.parametrize("work", [classifiers.mlp, classifiers.tiny], ids=["mlp", "tiny"])
def test_training_costs_little_over_the_program_by_hand(work):
    """Medians of seven rounds: at most a quarter more time than one scan, and as much learned."""
    given = work()
    names = ("JAX by hand, one scan", "jaxnn")
    contenders = {name: classifiers.CONTENDERS[name] for name in names}
    hand, ours = compare(contenders, given, rounds=7, per_round=given.steps)
    assert ours.median < 1.25 * hand.median
    assert ours.reached > hand.reached - 0.02
