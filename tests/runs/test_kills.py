"""A run that is killed, anywhere and as often as it may be, ends as one that nothing stopped.

After every kill each checkpoint that is listed is whole and the rows of its time stand; at the end
there are the same bits, the same rows, the same result, and no drafts and no trash.
"""

import pytest

from tests.failpoints import POINTS
from tests.harness import KILLED, KINDS, again, counted, ending, of_kills, sound, start

AGAIN = ("after a row", 2)  # there is a checkpoint then, which has a row
# Where two kills of a run do not come at the first and at the second hit of a place.
PLANS = {
    "compiling": [("compiling", 3), ("compiling", 9)],
    "evaluated": [("evaluated", 2), ("evaluated", 3)],
    "owner checked": [("owner checked", 3), ("owner checked", 5)],
    "half of the trash": [("half of the trash", 1), ("half of the trash", 3)],
    "swept": [("draft made", 3), ("swept", 2)],
    "configuration named": [("configuration named", 1), ("locked", 1)],
    **{
        name: [(name, 1), (name, 1)]  # come once in a process
        for name in (
            "traced",
            "directory made",
            "locked",
            "owner written",
            "half of the configuration",
            "half of the result",
            "result unnamed",
            "result named",
        )
    },  # fmt: skip
    **{
        name: [AGAIN, (name, 1), (name, 1)]
        for name in ("restoring", "restored", "rows uncut", "rows cut")
    },
}


# Every other place is for the night.
PLACES = [
    pytest.param(point, marks=pytest.mark.nightly if number % 2 else pytest.mark.slow)
    for number, point in enumerate(POINTS)
]


@pytest.mark.parametrize("point", PLACES)
def test_a_run_that_is_killed_twice_at_a_place_ends_as_if_nothing_had_been(
    point, tmp_path, reference
):
    kind = KINDS[list(POINTS).index(point) % len(KINDS)]
    whole, out = reference(kind), tmp_path / "run"
    # What compiles does so in earnest, and the cache of what is compiled is killed too.
    cache = tmp_path / "compiled" if point == "compiling" else reference.cache
    newest = -1
    with counted(**of_kills("at named places")) as tried:
        for place, number in PLANS.get(point, [(point, 1), (point, 2)]):
            fault = place, number, "kill"
            child = start(out, "--kind", kind, *again(out), fault=fault, cache=cache)
            assert child.wait() == KILLED, child.said
            tried.append(place)
            assert (step := sound(out, whole)) >= newest
            newest = step
        child = start(out, "--kind", kind, *again(out), cache=cache)
        assert ending(child, out) == whole


def test_places_are_many_and_each_has_two_kills():
    assert len(list(POINTS)[::2]) >= 20
    assert all(len(plan) >= 2 for plan in PLANS.values()) and set(PLANS) <= set(POINTS)
