"""A run that is killed at any time, again and again, ends as one that nothing stopped."""

import random

import pytest

from tests.harness import (
    KILLED,
    KINDS,
    RECORDED,
    STREAMED,
    again,
    counted,
    ending,
    of_kills,
    sound,
    start,
)

TRIED = (RECORDED, STREAMED, *KINDS)


def killed_at_random(kills, kind, place, reference, seed):
    """Kills runs at random times, also while they resume from the kill before."""
    whole, seconds, chance = (
        reference(kind),
        reference.seconds(kind),
        random.Random(f"{kind} {seed}"),
    )
    assert bool(whole.recording) == (kind == RECORDED)
    with counted(**of_kills("at random times")) as tried:
        runs = 0
        while len(tried) < kills:
            runs, newest, out = runs + 1, -1, place / f"{runs}" / "run"
            while True:
                delay = chance.uniform(0.1, seconds) if len(tried) < kills else 300
                child = start(out, "--kind", kind, *again(out), pace=0.05, cache=reference.cache)
                child.process.join(delay)
                child.process.kill()
                if child.wait() != KILLED:
                    break
                tried.append(delay)
                assert (step := sound(out, whole)) >= newest
                newest = step
            assert ending(child, out) == whole


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in TRIED if kind != "single"])
def test_a_run_that_is_killed_at_random_times_ends_as_if_nothing_had_been(
    kind, tmp_path, reference
):
    killed_at_random(2, kind, tmp_path, reference, seed=0)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", TRIED)
@pytest.mark.parametrize("seed", range(1, 6))
def test_hundreds_of_kills_lose_nothing(kind, seed, tmp_path, reference):
    killed_at_random(25, kind, tmp_path, reference, seed)
