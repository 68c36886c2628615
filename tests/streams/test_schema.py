"""All examples of a source have the same fields, shapes and dtypes, or an error says which not."""

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.streams import arrow, concatenate, mix, records, stream, write_records
from tests.streams.sources import examples, fields

ROWS = examples(fields())


def changed(rows, **change):
    return [{**row, **{k: f(row) for k, f in change.items()}} for row in rows]


WIDER = changed(ROWS, inputs=lambda row: np.append(row["inputs"], np.float32(0)))
PIXELS = changed(ROWS, inputs=lambda row: np.uint8(np.abs(row["inputs"]) * 50))
UNLABELLED = [{"inputs": row["inputs"]} for row in ROWS]
WRONG = {
    "shapes": (WIDER, r"different shapes.*inputs\[4\].*expected inputs\[3\]"),
    "dtypes": (PIXELS, "different dtypes.*inputs uint8.*expected inputs float32"),
    "fields": (UNLABELLED, "different fields.*Got inputs in .*expected inputs, labels"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize(
    "combine", [concatenate, lambda sources: mix(sources, [1, 1])], ids=["concatenate", "mix"]
)
def test_sources_with_different_examples_are_not_combined(combine, kind):
    other, words = WRONG[kind]
    source = combine([ROWS, other])
    with pytest.raises(InvalidValue, match=f"{words}, as in .* of source 0"):
        stream(source, batch_size=len(source)).read(0)


@pytest.mark.parametrize("kind", WRONG)
def test_examples_of_a_list_are_named(kind):
    other, words = WRONG[kind]
    for options in ({}, {"read": lambda example, random: example}):
        with pytest.raises(InvalidValue, match=f"{words}.* as in example 0"):
            stream(ROWS[:9] + other[9:], batch_size=20, **options).take(np.arange(20))


@pytest.mark.parametrize("kind", WRONG)
def test_records_of_several_files_are_named(kind, tmp_path):
    pytest.importorskip("array_record")
    other, words = WRONG[kind]
    for number, rows in enumerate((ROWS, other)):
        write_records(rows, tmp_path / f"{number}.arrayrecord")
    source = records(tmp_path)
    with pytest.raises(InvalidValue, match=f"{words}.*row 0 of .*0.arrayrecord"):
        stream(source, batch_size=len(source)).read_in_order(0)


def test_tables_of_several_files_are_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    feather = pytest.importorskip("pyarrow.feather")
    for number, dtype in enumerate((np.float32, np.int64)):
        table = pyarrow.table({"inputs": np.zeros(5, dtype)})
        feather.write_feather(table, tmp_path / f"{number}.arrow", compression="uncompressed")
    words = "different columns.*inputs int64 in .*1.arrow.*inputs float, as in .*0.arrow"
    with pytest.raises(InvalidType, match=words):
        arrow(tmp_path)


def test_stored_dtypes_and_numbers_of_python_may_differ():
    wide = changed(ROWS, inputs=lambda row: np.float64(row["inputs"]), labels=lambda row: 1)
    read = stream(ROWS[:5] + wide[5:10], batch_size=10).take(np.arange(10))
    assert read["inputs"].dtype == np.float32 and read["labels"].dtype == np.int32
    mixed = [{"inputs": 1}, {"inputs": 2.5}]
    assert stream(mixed, batch_size=2).take([0, 1])["inputs"].tolist() == [1.0, 2.5]
    with pytest.raises(InvalidValue, match="example 0 cannot be an array"):
        stream([{"inputs": [[1, 2], [3]]}] * 2, batch_size=2).take([0, 1])


@pytest.mark.parametrize("kind", WRONG)
def test_a_block_that_differs_from_the_examples_before_ends_the_run(kind):
    (other, words), wrong = WRONG[kind], 598
    rows = ROWS * 27
    rows[wrong] = other[0]
    data = stream(rows, batch_size=1, block=1)
    assert wrong not in data.examples["index"], "it is not read before the training"
    learner = jaxnn.learner(jaxnn.mlp([5], 4), jaxnn.classification(), optax.adam(1e-2))
    with pytest.raises(InvalidValue, match=f"{words}, as in the examples read before") as caught:
        jaxnn.fit(learner, data, steps="1 epoch", key=jax.random.key(0), quiet=True)
    assert f"in example {wrong};" in str(caught.value)
