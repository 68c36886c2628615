"""Four processes: one is killed at a random moment, or another four start, and nothing is lost."""

import random
import time

import pytest

from tests import together
from tests.harness import KILLED, counted, of_kills
from tests.together import SOON, ended

FOUR = 4


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Returns what the run comes to that nothing stops, and the seconds that it takes."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    began = time.monotonic()
    group = together.start(FOUR, out, pace=0.1)
    assert group.codes() == [0] * FOUR, group.said
    return ended(out), time.monotonic() - began


def killed_at_random(kills, place, unbroken, seed, soon=SOON):
    """Kills any of four processes at any time, also while they resume from the kill before."""
    (whole, seconds), chance = unbroken, random.Random(seed)
    proofs = of_kills("of one of four processes at random times")
    with counted(P1=proofs["P1"], P6=proofs["P6"]) as tried:
        run = 0
        while len(tried) < kills:
            run += 1
            out = place / f"run{run}"
            while True:
                group = together.start(FOUR, out, pace=0.1)
                # The first moments are those of `start`, where there is nothing yet to lose.
                group.children[-1].process.join(chance.uniform(1.0, 1.2 * seconds))
                victim = group.children[chance.randrange(FOUR)]
                if len(tried) == kills or not victim.process.is_alive():
                    break
                victim.kill()
                assert victim.process.exitcode in (KILLED, 0)
                if victim.process.exitcode == 0:
                    break
                tried.append(victim)
                began = time.monotonic()
                codes = group.codes(soon)
                assert time.monotonic() - began < soon, group.said
                if (out / "result.json").exists():
                    break  # it had finished, and the others may have left well
                assert all(codes), (codes, group.said)
            codes = group.codes()
            assert codes == [0] * FOUR or (out / "result.json").exists(), group.said
            assert ended(out).bits == whole.bits
            assert ended(out).rows == whole.rows
            assert ended(out).result == whole.result


@pytest.mark.slow
def test_a_run_of_four_of_which_one_is_killed_ends_with_the_same_bits(unbroken, tmp_path):
    killed_at_random(1, tmp_path, unbroken, seed=0)


@pytest.mark.nightly
def test_many_kills_of_one_of_four_lose_nothing(unbroken, tmp_path):
    killed_at_random(20, tmp_path, unbroken, seed=1, soon=30.0)


@pytest.mark.nightly
def test_of_two_copies_of_all_four_one_wins(unbroken, tmp_path):
    groups = [together.start(FOUR, tmp_path / "run", pace=0.1, name=name) for name in "ab"]
    codes = sorted(group.codes() for group in groups)
    assert codes == [[0] * FOUR, [5] * FOUR], [group.said for group in groups]
    assert ended(tmp_path / "run").bits == unbroken[0].bits
