"""One door for data: the same checks and conversions wherever examples come in."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn.checks import InvalidType, InvalidValue
from tests.registry import real, whole

WORDS = {
    "examples": lambda x: jaxnn.examples({"inputs": x}),
    "examples alone": lambda x: jaxnn.examples(x),
    "split": lambda x: jaxnn.split({"inputs": x}, 0.5)[0],
    "resident": lambda x: jaxnn.resident({"inputs": x}, batch_size=1).arrays,
    "windows": lambda x: jaxnn.windows(x, 2, batch_size=1).arrays,
    "predict": lambda x: predict(x),
}
doors = pytest.mark.parametrize("door", WORDS)
FIELDS = {
    "examples": jaxnn.examples,
    "split": lambda fields: jaxnn.split(fields, 0.5)[0],
    "resident": lambda fields: jaxnn.resident(fields, batch_size=1).arrays,
}
field_doors = pytest.mark.parametrize("door", FIELDS)


def predict(inputs):
    network = jaxnn.stateless(lambda params, inputs: 1 * inputs)
    learner = jaxnn.learner(network, jaxnn.regression(), lambda h: None)
    state = jaxnn.learning.TrainState(np.int32(0), {}, {}, {}, None, {}, {})
    return {"inputs": jaxnn.predict(learner, state, inputs)}


def column(*numbers):
    return np.array(numbers)[:, None]


MASKED = np.ma.masked_array([[1.0], [-9999.0], [3.0]], mask=[[0], [1], [0]])


@doors
@pytest.mark.parametrize("masked", [MASKED, MASKED.astype(np.float32), list(MASKED)], ids=repr)
def test_masked_values_are_refused(door, masked):
    if not isinstance(masked, list) or door != "examples alone":
        with pytest.raises(InvalidValue, match=r"masked values.*Fill them with \.filled\(value\)"):
            WORDS[door](masked)


@doors
def test_an_array_that_masks_nothing_is_read(door):
    given = np.ma.masked_array([[1.0], [2.0], [3.0]])
    assert len(WORDS[door](given)["inputs"])


def test_masked_labels_and_lists_of_masked_values_are_refused():
    labels = np.ma.masked_array([0, 1, 2], mask=[0, 0, 1])
    for fields in ({"labels": labels}, {"labels": list(labels)}, {"deep": {"in": [labels]}}):
        for door in FIELDS.values():
            with pytest.raises(InvalidValue, match="has masked values"):
                door({"inputs": np.ones((3, 1)), **fields})


@doors
@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f8", "longdouble", ">f2", ">i4", ">u2"])
def test_other_byte_orders_and_long_doubles_are_converted(door, dtype):
    given = whole(9, 6, 2).astype(dtype)
    read = WORDS[door](given)["inputs"]
    assert read.dtype.isnative and read.dtype.itemsize <= 4
    rows = given if door != "split" else given[np.argsort(given[:, 0], kind="stable")]
    read = np.asarray(read)
    if door != "split":
        np.testing.assert_array_equal(read, rows)
    else:
        assert set(map(tuple, read.tolist())) <= set(map(tuple, given.astype(float).tolist()))


@doors
@pytest.mark.parametrize("large", [1700000001.0, 16777217.0, 2.0**53 + 2**8 - 1], ids=str)
def test_whole_numbers_that_float32_cannot_hold_are_refused(door, large):
    for given in (column(0.0, large, 1.0), column(0.0, -large, 1.0).astype(np.longdouble)):
        with pytest.raises(InvalidValue, match=r"whole numbers that float32 cannot hold.*would be"):
            WORDS[door](given)


@doors
def test_what_float32_rounds_or_holds_is_read(door):
    for numbers in (2.0**24, 2.0**60, 1e9 + 0.1, 1e300 * 1e-299), (255.0, -1.0, 0.5, 3.0):
        assert WORDS[door](column(*numbers))["inputs"].dtype == np.float32
    with pytest.raises(InvalidValue, match="too large for float32.*Rescale"):
        WORDS[door](column(1.0, 1e39, 2.0))


def test_one_column_of_whole_numbers_is_enough():
    given = np.stack([np.array([0.5, 1.5]), np.array([16777217.0, 1.0])], 1)
    with pytest.raises(InvalidValue, match=r"16777217 at inputs\[0, 1\], which would be 16777216"):
        jaxnn.examples(given)


@doors
def test_numbers_that_are_none_are_refused(door):
    for given in (np.array(["a", "b"]), np.array([1j, 2j]), np.array(["2020"], "M8[D]")):
        with pytest.raises(InvalidType, match=r"does not hold numbers. Got dtype"):
            WORDS[door](given)


@doors
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "jax"])
def test_numbers_that_are_not_finite_are_refused(door, bad, dtype):
    given = real(6, 4).astype("float32" if dtype == "jax" else dtype)
    given[[1, 4, 4], [3, 1, 3]] = bad
    given = jnp.asarray(given) if dtype == "jax" else given
    words = rf"Got {bad} at \[1, 3\], 3 of them in 2 of 6 examples, columns 1, 3; expected finite"
    with pytest.raises(InvalidValue, match=words):
        WORDS[door](given)


@field_doors
def test_labels_and_trees_that_are_not_finite_are_refused(door):
    images = np.zeros((3, 2, 2), np.float32)
    images[2, 1, 0] = np.nan
    words = r"inputs/image has numbers.*Got nan at \[2, 1, 0\], 1 of them in 1 of 3 examples;.*"
    with pytest.raises(
        InvalidValue, match=words + r"numpy.isfinite\(inputs/image\).all\(\(1, 2\)\)"
    ):
        FIELDS[door]({"inputs": {"image": images}})
    with pytest.raises(InvalidValue, match=r"labels has.*numpy.isfinite\(labels\), or fill"):
        FIELDS[door]({"inputs": np.ones((3, 2)), "labels": [0.5, np.nan, 1.0]})


@field_doors
def test_empty_places_may_hold_anything(door):
    inputs = np.ones((4, 3, 2))
    inputs[:, 2] = np.nan
    read = FIELDS[door]({"inputs": inputs, "lengths": [2, 1, 2, 0]})["inputs"]
    assert np.isfinite(np.asarray(read)).all()


@field_doors
@pytest.mark.parametrize("bad", [-1.0, -1e-9, np.nan, np.inf, -np.inf])
def test_weights_below_0_and_weights_that_are_none_are_refused(door, bad):
    for weights in ([1.0, bad, 1.0], [[1.0, 0.0], [bad, 1.0], [2.0, 2.0]]):
        with pytest.raises(InvalidValue, match=r"weight is negative or not finite. Got weights\[1"):
            FIELDS[door]({"inputs": np.ones((3, 2)), "weights": np.array(weights)})


@field_doors
@pytest.mark.parametrize("weights", [[0, 1, 2], [True, False, True], [0.0, 0.0, 0.0]], ids=str)
def test_weights_of_0_or_more_are_read(door, weights):
    FIELDS[door]({"inputs": np.ones((3, 2)), "weights": np.array(weights)})


@field_doors
def test_reserved_fields_are_refused(door):
    with pytest.raises(InvalidType, match="the name index is taken"):
        FIELDS[door]({"inputs": np.ones((3, 2)), "index": np.arange(3)})
    with pytest.raises(InvalidType, match="weights are not one array"):
        FIELDS[door]({"inputs": np.ones((3, 2)), "weights": {"a": np.ones(3)}})


TREE = {
    "inputs": {"image": real(6, 2, 2), "more": (whole(9, 6), [{"deep": real(6, 1, seed=2)}][0])},
    "labels": [0, 1, 0, 1, 1, 0],
}


@field_doors
def test_every_tree_is_read(door):
    read = FIELDS[door](TREE)
    assert read["inputs"]["image"].shape[1:] == (2, 2)
    assert read["labels"].dtype == np.int32
    short = {"inputs": TREE["inputs"], "labels": [0, 1, 0]}
    with pytest.raises(InvalidValue, match=r"inputs/image \[6, 2, 2\].* labels \[3\]"):
        FIELDS[door](short)
    with pytest.raises(InvalidValue, match="inputs/more/0 holds whole numbers"):
        FIELDS[door]({**TREE, "inputs": {"more": (column(*[16777217.0] * 6),)}})


def test_a_split_of_trees_keeps_examples_together():
    order = np.arange(40)
    data = {"inputs": {"a": order, "b": (order * 2.0, order[:, None] * 3)}, "labels": order % 4}
    for part in jaxnn.split(data, 0.25, stratify="labels"):
        inputs = part["inputs"]
        np.testing.assert_array_equal(inputs["b"][0], inputs["a"] * 2)
        np.testing.assert_array_equal(inputs["b"][1][:, 0], inputs["a"] * 3)
        np.testing.assert_array_equal(part["labels"], inputs["a"] % 4)


def test_a_tuple_of_a_tree_and_labels():
    inputs = {"left": real(3, 2), "right": [1.0, 2.0, 3.0]}
    read = jaxnn.examples((inputs, [0, 1, 0]))
    assert read["inputs"]["right"].tolist() == [1, 2, 3]


# --- Tables ------------------------------------------------------------------------------------


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "table.csv"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("stamps", [(1700000000, 1700000001), (16777216, 16777217)])
def test_a_column_of_stamps_is_refused_by_name(csv, stamps):
    pandas = pytest.importorskip("pandas")
    first, second = stamps
    table = f"stamp,x,y\n{first},0.5,0\n{second},1.5,1\n"
    frame = pandas.DataFrame({"stamp": stamps, "x": [0.5, 1.5], "y": [0, 1]})
    for source in (csv(table), frame):
        with pytest.raises(InvalidValue, match=r"column 'stamp' holds whole numbers.*Got 1"):
            jaxnn.examples(source, labels="y")
    labels = jaxnn.examples(frame, labels="stamp")["labels"]  # as integers
    assert labels.dtype == np.int32 and labels.tolist() == list(stamps)


@pytest.mark.parametrize("header", ["5.1,3.5,0", "1,2,3", "-1e3,2.5, 7 "])
def test_a_header_of_numbers_is_an_example(csv, header):
    path = csv(f"{header}\n4.9,3.0,1\n")
    with pytest.raises(InvalidValue, match=r"header of table.csv consists of numbers.*header=None"):
        jaxnn.examples(path)
    data = jaxnn.examples(path, labels=2, header=None)
    assert data["inputs"].shape == (2, 2) and data["labels"].tolist()[1] == 1
    assert data["inputs"][0, 0] == float(header.split(",")[0])
    assert jaxnn.examples(path, labels="0", header=None)["inputs"].shape == (2, 2)


def test_a_table_without_a_header_and_its_errors(csv):
    path = csv("\n1,2\n\n3,four\n")
    with pytest.raises(InvalidType, match=r"column 'column_2' .*'four' in row 1"):
        jaxnn.examples(path, header=None)
    with pytest.raises(InvalidValue, match="Got header=1; expected 0 or None"):
        jaxnn.examples(path, header=1)
    with pytest.raises(InvalidValue, match="table.csv is empty"):
        jaxnn.examples(csv(""), header=None)
    assert jaxnn.examples(csv("x,2\n1,2\n"))["inputs"].tolist() == [[1, 2]]


def test_lazy_frames_are_computed(tmp_path):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"x": [0.5, 1.5], "y": [0, 1]})
    data = jaxnn.examples(frame.lazy(), labels="y")
    assert data["inputs"].tolist() == [[0.5], [1.5]] and data["labels"].tolist() == [0, 1]
    for door in FIELDS.values():
        read = door({"inputs": frame.lazy().select("x")})["inputs"]
        assert read.shape[1:] == (1,)
    assert jaxnn.windows(frame.lazy(), 2, batch_size=1).arrays["inputs"].shape == (2, 2)


def test_what_is_computed_later_is_computed():
    class Later:
        def compute(self):
            return np.float64([[1.0], [2.0]])

    for door in FIELDS.values():
        assert door({"inputs": Later()})["inputs"].dtype == np.float32


def test_a_home_directory_is_expanded(csv, monkeypatch):
    path = csv("x\n0.5\n")
    monkeypatch.setenv("HOME", str(path.parent))
    assert jaxnn.examples("~/table.csv")["inputs"].tolist() == [[0.5]]
