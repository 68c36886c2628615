"""A user's own data: what each kind of source becomes, every error, and the laws of splitting."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.data._examples import examples
from jaxnn.data._split import split

CSV = "width,height,kind\n1,2.5,0\n3,4,1\n"
TABLE = {"width": [1, 3], "height": [2.5, 4.0], "kind": [0, 1]}


@pytest.fixture
def csv(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.fixture(params=["pandas", "polars", "pyarrow"])
def frame(request):
    library = pytest.importorskip(request.param)
    return library.table if request.param == "pyarrow" else library.DataFrame


def assert_table(data):
    assert data["inputs"].dtype == np.float32 and data["labels"].dtype == np.int32
    np.testing.assert_array_equal(data["inputs"], [[1, 2.5], [3, 4]])
    np.testing.assert_array_equal(data["labels"], [0, 1])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "float16", "float32", "bool"])
def test_inputs_keep_their_dtype_and_are_not_copied(dtype):
    inputs = np.ones((3, 2), dtype)
    assert examples({"inputs": inputs})["inputs"] is inputs


@pytest.mark.parametrize(
    ("name", "given", "stored"),
    [
        ("inputs", "float64", "float32"),
        ("inputs", ">f4", "float32"),
        ("labels", "float64", "float32"),
        ("labels", "int64", "int32"),
        ("labels", "uint64", "int32"),
        ("labels", "bool", "int32"),
        ("labels", "uint8", "uint8"),
    ],
)
def test_dtypes_that_change(name, given, stored):
    data = examples({"inputs": np.ones(2, np.float32)} | {name: np.ones(2, given)})
    assert data[name].dtype == np.dtype(stored)
    np.testing.assert_array_equal(data[name], [1, 1])


def test_tuple_of_lists():
    data = examples(([[1, 2.5], [3, 4]], [0, 1]))
    assert_table(data)


def test_jax_arrays():
    data = examples({"inputs": jnp.ones((2, 3), jnp.bfloat16), "weights": jnp.ones(2)})
    assert isinstance(data["inputs"], np.ndarray) and data["inputs"].dtype == jnp.bfloat16
    assert data["weights"].dtype == np.float32


def test_one_array_is_inputs():
    assert list(examples(np.ones((2, 3)))) == ["inputs"]


def test_npz(tmp_path):
    np.savez(tmp_path / "set.npz", inputs=np.ones((2, 3), np.uint8), labels=np.array([0, 1]))
    data = examples(str(tmp_path / "set.npz"))
    assert data["inputs"].dtype == np.uint8 and data["labels"].dtype == np.int32


def test_csv(csv):
    assert_table(examples(csv(CSV), labels="kind"))
    assert examples(csv(CSV))["inputs"].shape == (2, 3)


def test_csv_as_spreadsheets_save_it(csv):
    text = '\ufeff"width" , height,kind\r\n\r\n 1,"2.5", 0\r\n3,4,+1\r\n\r\n'
    assert_table(examples(csv(text), labels="kind"))


def test_csv_labels_that_are_not_all_whole_are_float32(csv):
    labels = examples(csv("x,y\n1,2\n2,2.0\n"), labels="y")["labels"]
    assert labels.dtype == np.float32 and labels.tolist() == [2, 2]


def test_frame(frame):
    assert_table(examples(frame(TABLE), labels="kind"))
    assert examples(frame(TABLE))["inputs"].shape == (2, 3)
    height = examples(frame(TABLE), labels="height")
    assert height["labels"].dtype == np.float32
    np.testing.assert_array_equal(height["inputs"], [[1, 0], [3, 1]])


def test_frame_of_booleans(frame):
    data = examples(frame({"x": [True, False], "y": [False, True]}), labels="y")
    assert data["inputs"].tolist() == [[1], [0]] and data["labels"].tolist() == [0, 1]
    assert data["labels"].dtype == np.int32


def test_frame_missing_value(frame):
    with pytest.raises(
        InvalidValue, match=r"'x'.*Got 1 of 2, the first in row 1 .*Fill or drop missing values"
    ):
        examples(frame({"x": [1.5, None], "y": [0, 1]}), labels="y")
    with pytest.raises(InvalidValue, match="'y'.*Fill or drop missing values"):
        examples(frame({"x": [1.5, 2], "y": [0, None]}), labels="y")


def test_frame_text(frame):
    with pytest.raises(InvalidType, match="'y'.* 'cat' in row 0.*number the classes"):
        examples(frame({"x": [1.5, 2], "y": ["cat", "dog"]}), labels="y")


def test_frame_unknown_column(frame):
    with pytest.raises(InvalidValue, match="Did you mean 'kind'"):
        examples(frame(TABLE), labels="kinds")


def test_frame_without_rows(frame):
    with pytest.raises((InvalidValue, InvalidType), match="Give every field|Fill or drop"):
        examples(frame({"x": [], "y": []}))


def test_pandas_columns_with_number_names_and_special_dtypes():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.arange(6).reshape(3, 2))
    assert examples(frame, labels="1")["labels"].tolist() == [1, 3, 5]
    nullable = pandas.DataFrame({"x": pandas.array([1, 2], dtype="Int64")})
    assert examples(nullable)["inputs"].tolist() == [[1], [2]]
    for column in (pandas.array([1, None], dtype="Int64"), pandas.array([True, None])):
        with pytest.raises((InvalidValue, InvalidType), match="Fill or drop missing values"):
            examples(pandas.DataFrame({"x": column}))
    for column in (pandas.Categorical(["u", "v"]), pandas.to_datetime(["2020-01-01"] * 2)):
        with pytest.raises(InvalidType, match="drop columns of text"):
            examples(pandas.DataFrame({"x": column}))
    with pytest.raises(InvalidValue, match="distinct name"):
        examples(pandas.DataFrame([[1, 2]], columns=["x", "x"]))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x,y\n1,2\n3,four\n", r"column 'y' .*'four' in row 1 .*Correct them"),
        ("x,y\n1,2\n,4\n", r"column 'x' .*Got 1 of 2, the first in row 1 .*jaxnn.fit_columns"),
        ("x,y\n1,2\n3,nan\n", r"column 'y' .*missing values. Got 1 of 2"),
        ("x,y\n1,1_000\n", r"column 'y' .*'1_000' in row 0 .*Correct them"),
        ("x,y\n\n1,2\n\n3,inf\n", r"column 'y' .*not finite. Got inf in row 1"),
        ('x,"y\nz"\n1,2\n"3",four\n', r"column 'y\\nz' .*'four' in row 1"),
        ("x,y\n1,2\n3\n", r"row 3 of table.csv has the wrong length.*Correct that row"),
        ("x,y\n1,2,3\n", r"row 2 of table.csv has the wrong length.*Correct that row"),
        ("x,y\n", r"table.csv is empty. Got no row below the header"),
        ("x,x\n1,2\n", r"a distinct name for every column"),
        ("", r"table.csv is empty. Got no line"),
        ("x,y\n1,1e39\n", r"too large for float32.*Rescale the inputs"),
        ("x\n\0\n", r"column 'x' does not hold numbers"),
    ],
)
def test_csv_errors(csv, text, error):
    with pytest.raises((InvalidValue, InvalidType), match=re.compile(error, re.DOTALL)):
        examples(csv(text))


def test_csv_label_errors(csv):
    with pytest.raises(InvalidValue, match="Did you mean 'kind'"):
        examples(csv(CSV), labels="kid")
    with pytest.raises(InvalidType, match="column 'y' .*'cat' in row 0 .*number the classes"):
        examples(csv("x,y\n1,cat\n"), labels="y")
    with pytest.raises(InvalidValue, match="Number the classes from 0"):
        examples(csv("x,y\n1,3000000000\n"), labels="y")
    with pytest.raises(InvalidValue, match="one feature at least"):
        examples(csv("y\n1\n"), labels="y")


def test_csv_in_another_encoding(csv):
    with pytest.raises(InvalidValue, match="encoding='latin-1'"):
        examples(csv("größe\n1\n", encoding="latin-1"))


def test_path_errors(tmp_path):
    with pytest.raises(InvalidValue, match="Did you mean '.csv'"):
        examples("table.csvv")
    for ending, words in {"csv": "does not exist", "npz": "No such file"}.items():
        with pytest.raises(InvalidValue, match=f"{words}.*Correct the path"):
            examples(tmp_path / f"absent.{ending}")


def test_npz_errors(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, inputs=np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(InvalidValue, match="without pickled objects.*or save numbers alone"):
        examples(path)
    np.savez(path, inputs=np.ones(1000))
    whole = path.read_bytes()
    corrupt = whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]
    for content in (b"", b"not an archive", whole[:-30], corrupt):
        path.write_bytes(content)
        with pytest.raises(InvalidValue, match="or save numbers alone"):
            examples(path)


ONES = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("source", "error", "fix"),
    [
        ({"input": ONES}, InvalidValue, "Name the array that the network reads 'inputs'"),
        ({}, InvalidValue, "fields none.*Name the array"),
        (
            {"inputs": ONES, "labels": [1]},
            InvalidValue,
            r"labels \[1\].*Give every field one entry",
        ),
        ({"inputs": ONES[:0]}, InvalidValue, "Give every field one entry"),
        ({"inputs": 1.0}, InvalidValue, "Give every field one entry"),
        ({"inputs": ["a", "b"]}, InvalidType, "Turn inputs into one array of numbers"),
        ({"inputs": [[1], [1, 2]]}, InvalidType, "Turn inputs into one array of numbers"),
        ({"inputs": np.array([None])}, InvalidType, "Turn inputs into one array of numbers"),
        ((ONES, ["cat", "dog"]), InvalidType, "Number the classes: names, labels = numpy.unique"),
        ((ONES, np.array([0, 2**31])), InvalidValue, "2147483648.*Number the classes from 0"),
        (np.array([1e300]), InvalidValue, "Rescale the inputs"),
        ((ONES, ONES, ONES), InvalidType, "Pass, say, {'inputs'"),
        ([ONES, ONES], InvalidType, "Pass, say, {'inputs'"),
        (None, InvalidType, "Pass, say, {'inputs'"),
    ],
)
def test_array_errors(source, error, fix):
    with pytest.raises(error, match=fix):
        examples(source)


def test_labels_only_with_columns():
    with pytest.raises(InvalidValue, match="Leave labels= away"):
        examples((ONES, ONES), labels="y")


def numbered(classes):
    order = np.arange(len(classes))
    return {"inputs": order, "labels": np.asarray(classes), "twice": order * 2}


@pytest.mark.parametrize("stratify", [None, "labels"])
@pytest.mark.parametrize("fraction", [0.001, 0.1, 1 / 3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("sizes", [(2,), (1, 1), (5, 1, 30), (7,) * 9, (100, 3)])
def test_split_laws(sizes, fraction, stratify):
    arrays = numbered(np.repeat(np.arange(len(sizes)), sizes))
    rest, held_out = split(arrays, fraction, seed=3, stratify=stratify)
    count = sum(sizes)
    # Every example is in exactly one part, and its fields stay together.
    assert sorted([*rest["inputs"], *held_out["inputs"]]) == list(range(count))
    for part in (rest, held_out):
        assert len(part["inputs"]) >= 1
        for name in arrays:
            np.testing.assert_array_equal(part[name], arrays[name][part["inputs"]])
    if 1 <= count * fraction <= count - 1:
        assert abs(len(held_out["inputs"]) - count * fraction) <= 0.5 + 1e-9
    if stratify:
        held = np.bincount(held_out["labels"], minlength=len(sizes))
        assert np.all(np.abs(held - np.array(sizes) * fraction) < 1)


def test_split_is_shuffled_and_follows_the_seed():
    arrays = numbered(np.zeros(100, int))
    parts = [split(arrays, 0.3, seed=seed)[0]["inputs"].tolist() for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    assert parts[0] != sorted(parts[0])


def test_split_of_small_classes_favours_none():
    """Nine classes of one example: whichever is held out is drawn by the seed."""
    arrays = numbered(np.arange(9))
    drawn = {int(split(arrays, 0.1, seed=s, stratify="labels")[1]["labels"][0]) for s in range(60)}
    assert drawn == set(range(9))


def test_split_by_negative_and_boolean_classes():
    for labels in ([-5, 7] * 10, [False, True] * 10):
        _, held_out = split(numbered(labels), 0.5, stratify="labels")
        assert np.unique(held_out["labels"], return_counts=True)[1].tolist() == [5, 5]


@pytest.mark.parametrize(
    ("arrays", "options", "fix"),
    [
        (numbered([0, 1]), {"fraction": 0.0}, "Pass, say, fraction=0.5"),
        (numbered([0, 1]), {"fraction": 1.0}, "Pass, say, fraction=0.5"),
        (numbered([0, 1]), {"stratify": "label"}, "Did you mean 'labels'"),
        (numbered([0.5, 1.5]), {"stratify": "labels"}, "bin the values: numpy.digitize"),
        ({"inputs": np.ones((3, 2), int)}, {"stratify": "inputs"}, "Leave out stratify="),
        (numbered([0]), {}, r"at least 2\. Give every field"),
        ({"inputs": np.ones(3), "labels": np.ones(2)}, {}, "Give every field"),
        ({}, {}, "no field"),
    ],
)
def test_split_errors(arrays, options, fix):
    with pytest.raises(InvalidValue, match=fix):
        split(arrays, **{"fraction": 0.5} | options)


def test_decimals_and_long_integers_are_numbers():
    polars = pytest.importorskip("polars")
    price = polars.Series(["1.50", "0.25"]).str.to_decimal(scale=2)
    table = polars.DataFrame({"price": price, "count": polars.Series([3, 4], dtype=polars.Int128)})
    data = examples(table)
    assert data["inputs"].tolist() == [[1.5, 3.0], [0.25, 4.0]]
