"""Arrays and tables are held out alike: by share, class, group and time, once or in folds."""

import numpy as np
import pytest

import jaxnn
from jaxnn.checks import Invalid

DRAW = np.random.default_rng(0)
ARRAYS = {
    "inputs": {"left": np.arange(60), "right": DRAW.normal(size=(60, 2)).astype(np.float32)},
    "labels": DRAW.integers(0, 3, 60),
    "patient": DRAW.integers(10, 22, 60),
    "day": np.arange(60)[::-1] // 4,
}
WAYS = [{}, {"stratify": "labels"}, {"group": "patient"}, {"time": "day"}]
TABLE = {"rows": ARRAYS["inputs"]["left"], **{k: v for k, v in ARRAYS.items() if k != "inputs"}}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_arrays_and_tables_are_held_out_alike(way):
    for arrays, table in zip(
        [jaxnn.split(ARRAYS, 0.3, seed=2, **way), *jaxnn.folds(ARRAYS, 4, seed=2, **way)],
        [jaxnn.split_table(TABLE, 0.3, seed=2, **way), *jaxnn.fold_table(TABLE, 4, seed=2, **way)],
        strict=True,
    ):
        for part, rows in zip(arrays, table, strict=True):
            assert part["inputs"]["left"].tolist() == rows["rows"].to_list()
            right = ARRAYS["inputs"]["right"][part["inputs"]["left"]]
            np.testing.assert_array_equal(part["inputs"]["right"], right)


def test_groups_and_times_are_not_cut():
    for rest, held in [*jaxnn.folds(ARRAYS, 3, group="patient")]:
        assert not set(rest["patient"]) & set(held["patient"])
    rest, held = jaxnn.split(ARRAYS, 0.3, time="day")
    assert rest["day"].max() < held["day"].min()


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: jaxnn.split(ARRAYS, 0.3, group="patient", time="day"), "what belongs together"),
        (lambda: jaxnn.split(ARRAYS, 0.3, group="inputs"), "cannot be used for group="),
        (lambda: list(jaxnn.folds(ARRAYS, 70)), "Pass fewer folds"),
        (lambda: jaxnn.split(jaxnn.read_table(TABLE), 0.3), "a table to split_table"),
        (lambda: list(jaxnn.folds(jaxnn.read_table(TABLE), 3)), "a table to fold_table"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(Invalid, match=words):
        make()
