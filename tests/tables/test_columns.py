"""What columns become: scikit-learn's numbers, the same for any rows, by JSON too."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import polars
import pytest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils.class_weight import compute_class_weight

import jaxnn
from jaxnn.checks import Caution, Invalid
from jaxnn.data.aligned import is_fixed
from tests.tables.people import CITIES, people

TABLE = people()
TRAIN, TEST = jaxnn.split_table(TABLE, 0.25, stratify="quality")
FORMS = {
    "index": {},
    "one_hot": {"one_hot": True},
    "median": {"fill": "median", "dates": ("year", "weekday", "time")},
    "regression": {"labels": "income"},
    "two numbers": {"labels": ["age", "income"]},
    "marks": {"labels": ["member"], "task": "multi_label"},
    "weighted": {"weights": "age"},
}


def complete(table):
    return table.drop_nulls("income")


def fitted(form="index", train=TRAIN):
    options = {"labels": "quality", "ignore": ["id"], **FORMS[form]}
    return jaxnn.fit_columns(complete(train), **options)


def flat(arrays):
    inputs = arrays.pop("inputs")
    inputs = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    return {**arrays, **inputs}


def frame_of(table):
    return pandas.DataFrame(table.to_dict(as_series=False))


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


# --- scikit-learn --------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", ["mean", "median"])
def test_numbers_are_those_of_scikit_learn(fill):
    names = ["age", "income", "id"]
    train, test = (part[names].with_columns(polars.col("id") * 7) for part in (TRAIN, TEST))
    columns = jaxnn.fit_columns(train, fill=fill)
    pipeline = make_pipeline(StandardScaler(), SimpleImputer(strategy=fill, add_indicator=True))
    pipeline.fit(train.to_numpy())
    for rows in (train, test):
        close(columns.encode(rows)["inputs"], pipeline.transform(rows[names].to_numpy()))
    assert columns.features == ("age", "income", "id", "income is missing")


def test_constant_and_large_numbers_are_those_of_scikit_learn():
    table = {
        "same": [3.3] * 4,
        "stamp": [1.7e9, 1.7e9 + 1, 1.7e9 + 2, 1.7e9 + 4],
        "tiny": 4 * [0.1],
    }
    array = np.stack([*map(np.asarray, table.values())], axis=1)
    close(jaxnn.fit_columns(table).encode(table)["inputs"], StandardScaler().fit_transform(array))


def test_categories_are_those_of_scikit_learn():
    names = ["city", "member", "quality"]
    train, test = (frame_of(part[names]).astype(object) for part in (TRAIN, TEST))
    train, test = (frame.where(frame.notna(), None) for frame in (train, test))
    columns = jaxnn.fit_columns(TRAIN[names])
    ordinal = OrdinalEncoder(encoded_missing_value=4).fit(train)
    one_hot = jaxnn.fit_columns(TRAIN[names], one_hot=True)
    hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(train)
    for rows, frame in ((TRAIN, train), (TEST, test)):
        close(columns.encode(rows)["inputs"]["categories"], ordinal.transform(frame))
        close(one_hot.encode(rows)["inputs"], hot.transform(frame))
    assert columns.sizes == (6, 3, 4)


def test_balanced_weights_are_those_of_scikit_learn():
    columns = fitted()
    rows = complete(TRAIN)
    classes = rows["quality"].unique().sort().to_numpy()
    by_class = compute_class_weight("balanced", classes=classes, y=rows["quality"].to_numpy())
    encoded = columns.encode(rows, balanced=True)
    close(encoded["weights"], by_class[encoded["labels"]])
    assert "weights" not in columns.encode(rows)
    weighted = fitted("weighted")
    factors = weighted.encode(rows, balanced=True)["weights"]
    close(factors, encoded["weights"] * rows["age"].to_numpy())


def test_targets_are_scaled_and_scaled_back():
    columns = fitted("regression")
    rows = complete(TEST)
    scaler = StandardScaler().fit(complete(TRAIN)[["income"]].to_numpy())
    labels = columns.encode(rows)["labels"]
    close(labels, scaler.transform(rows[["income"]].to_numpy())[:, 0])
    for outputs in (labels, labels[:, None]):
        close(columns.decode(outputs)["income"], rows["income"])


# --- Laws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_json_gives_equal_columns(form):
    columns = fitted(form)
    again = jaxnn.Columns.from_json(columns.to_json())
    assert again == columns and again.to_json() == columns.to_json()
    assert str(again) == str(columns)
    a, b = (flat(each.encode(complete(TEST))) for each in (columns, again))
    assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("form", FORMS)
def test_a_row_is_encoded_as_it_is_alone(form, monkeypatch):
    columns, rows = fitted(form), complete(TEST)
    together = flat(columns.encode(rows))
    order = np.random.default_rng(0).permutation(rows.height)
    shuffled = flat(columns.encode(rows[order]))
    alone = flat(columns.encode(rows[3]))
    monkeypatch.setattr("jaxnn.tables._columns._ROWS", 7)
    pieces = flat(columns.encode(rows))
    for name, array in together.items():
        assert array.dtype in (np.float32, np.int32)
        assert is_fixed(array) == (name in ("inputs", "numbers", "categories"))
        np.testing.assert_array_equal(array[order], shuffled[name])
        np.testing.assert_array_equal(array[3:4], alone[name])
        np.testing.assert_array_equal(array, pieces[name])


@pytest.mark.parametrize("form", FORMS)
def test_columns_come_from_the_training_part_alone(form):
    columns, text = fitted(form), fitted(form).to_json()
    columns.encode(complete(TEST).with_columns(polars.col("age") * 7))
    assert columns.to_json() == text


def test_encoding_reads_every_source_alike(tmp_path):
    columns = fitted()
    expected = flat(columns.encode(TEST, labels=False))
    TEST.write_csv(tmp_path / "rows.csv")
    TEST.write_parquet(tmp_path / "rows.parquet")
    sources = [frame_of(TEST), TEST.to_dicts(), TEST.to_dict(), TEST.lazy()]
    for source in [*sources, tmp_path / "rows.csv", tmp_path / "rows.parquet"]:
        encoded = flat(columns.encode(source, labels=False))
        assert all(np.array_equal(expected[name], encoded[name]) for name in expected)


# --- Rows that training has not seen -------------------------------------------------------------


def test_what_is_unknown_has_a_class_of_its_own():
    columns = fitted()
    row = complete(TEST)[:1]
    codes = [
        columns.encode(row.with_columns(city=polars.lit(city)), labels=False)["inputs"]
        for city in [*CITIES, None, "Jena"]
    ]
    assert [int(each["categories"][0, 0]) for each in codes] == [0, 1, 2, 3, 4, 5]
    hot = fitted("one_hot").encode(row.with_columns(city=polars.lit("Jena")))["inputs"]
    names = fitted("one_hot").features
    assert hot[0, [names.index(f"city = {name}") for name in [*CITIES, "missing"]]].sum() == 0


def test_what_was_never_missing_is_unknown_or_filled():
    columns = jaxnn.fit_columns({"a": [1.0, 3.0], "b": ["x", "y"], "c": [True, False]})
    inputs = columns.encode({"a": [None], "b": [None], "c": [None]})["inputs"]
    assert inputs["numbers"].tolist() == [[0.0]] and inputs["categories"].tolist() == [[2, 2]]


def test_names_are_compared_in_the_type_of_the_training_part(tmp_path):
    columns = jaxnn.fit_columns({"code": ["012", "12", "A1"], "n": [1, 2, 3]}, labels="n")
    path = tmp_path / "new.csv"
    path.write_text("code\n012\n12\n")
    assert columns.encode(path)["inputs"]["categories"].tolist() == [[0], [1]]
    whole = jaxnn.fit_columns({"k": [1, 2, 3]}, kinds={"k": "category"})
    codes = [
        whole.encode({"k": values})["inputs"]["categories"][:, 0].tolist()
        for values in ([1.0, 2.5, None], ["3", "x", None], [True, False, None])
    ]
    assert codes == [[0, 3, 3], [2, 3, 3], [0, 3, 3]]
    marks = jaxnn.fit_columns({"m": [True, False]})
    codes = marks.encode({"m": ["True", "false", "maybe"]})["inputs"]["categories"]
    assert codes[:, 0].tolist() == [1, 0, 2]


def test_numbers_and_dates_as_text_are_read():
    columns = jaxnn.fit_columns({"a": [1.0, 3.0], "when": ["2026-01-01", "2026-01-03"]})
    assert [type(c).__name__ for c in columns.inputs] == ["Real", "Category"]
    dated = jaxnn.fit_columns(
        {"a": [1.0, 3.0], "when": ["2026-01-01", "2026-01-03"]}, kinds={"when": "date"}
    )
    inputs = dated.encode({"a": ["3"], "when": ["2026-01-02"]})["inputs"]
    assert dated.features == (
        "a",
        "when (time)",
        "when (time_of_year sine)",
        "when (time_of_year cosine)",
        "when (weekday)",
    )
    close(inputs[:, [0, 1, 4]], [[1.0, 0.0, 0.0]])


# --- Kinds, tasks, predictions -------------------------------------------------------------------


def test_the_table_says_what_is_made_of_each_column():
    table = {"gap": [1.0, None, 3.0], "none": [None] * 3, "name": ["b", "a", "b"], "y": [1, 2, 1]}
    columns = jaxnn.fit_columns(table, labels="y", ignore=["name"])
    lines = str(columns).splitlines()
    assert [line.split()[0] for line in lines] == ["column", "gap", "none", "name", "y"]
    assert "mean 2, deviation 1; missing: 2, and an indicator" in lines[1]
    assert "left out" in lines[2] and "no values" in lines[2]
    assert "left out" in lines[3] and "requested" in lines[3]
    assert re.search(r"labels +numbered for classification +0  2: 1, 2$", lines[4])
    assert columns._repr_html_().count("<tr>") == 5
    texts = jaxnn.fit_columns({"a": [0.5, 1.5] * 30, "text": [f"w{i}" for i in range(60)]})
    assert "60 different texts in 60 rows" in str(texts)


def test_dates_become_the_numbers_of_ones_choice():
    days = ["2026-11-28", "2026-12-06", "2024-02-29"]
    table = jaxnn.read_table({"day": days}, dates={"day": "%Y-%m-%d"})
    parts = ("year", "month", "day", "weekday", "day_of_year", "time")
    columns = jaxnn.fit_columns(table, dates={"day": parts})
    numbers = np.array(
        [[2026, 11, 28, 6, 332], [2026, 12, 6, 7, 340], [2024, 2, 29, 4, 60]], np.float64
    )
    seconds = table["day"].dt.epoch("s").to_numpy()
    expected = StandardScaler().fit_transform(np.column_stack([numbers, seconds]))
    close(columns.encode(table)["inputs"], expected)
    assert columns.features[-1] == "day (time)"


def test_cycles_end_where_they_begin():
    times = ["2024-01-01 00:00", "2024-01-01 12:00", "2024-01-01 23:59", "2024-12-31 23:59"]
    table = jaxnn.read_table({"at": times}, dates={"at": "%Y-%m-%d %H:%M"})
    parts = ("time_of_day", "time_of_week", "time_of_year")
    columns = jaxnn.fit_columns(table, dates=parts)
    points = np.stack(
        [c.decode(x) for c, x in zip(columns.inputs[0].scales, columns.encode(table)["inputs"].T)],
        -1,
    )
    day, week, year = points.reshape(4, 3, 2).transpose(1, 0, 2)
    close(day[1], [0.0, -1.0])
    for cycle in (day, week, year):
        close(np.sum(cycle**2, -1), 1.0)
    assert np.abs(day[0] - day[2]).max() < 0.01 and np.abs(year[0] - year[3]).max() < 0.02
    close(week[1], [np.sin(np.pi / 7), np.cos(np.pi / 7)])


@pytest.mark.parametrize(
    "labels, task",
    [
        (["a", "b"], "classification"),
        ([True, False], "classification"),
        ([3, 8], "classification"),
        ([3.0, 8.0], "regression"),
        ([0.0, 1.0], "classification"),
        (range(30), "regression"),
    ],
)
def test_tasks_follow_from_the_labels(labels, task):
    table = {"x": np.arange(len(labels)) % 9, "y": list(labels)}
    assert jaxnn.fit_columns(table, labels="y").task == task


def test_classes_that_pandas_stores_as_floats():
    frame = pandas.DataFrame({"x": [0.5, 1.5, 2.5, 3.5] * 10, "y": [0, 1, 1, None] * 10})
    columns = jaxnn.fit_columns(frame.dropna(), labels="y")
    assert columns.labels[0].values == (0, 1)
    rows = {"x": [1.0, 2.0], "y": [1.0, 0.0]}
    assert columns.encode(rows)["labels"].tolist() == [1, 0]
    with pytest.raises(Invalid, match=r"not in the training rows. Got 0.5 in row 0"):
        columns.encode({"x": [1.0], "y": [0.5]})
    with pytest.warns(Caution, match="are 2 distinct integers"):
        assert jaxnn.fit_columns(frame.dropna().assign(y=[3.0, 8.0] * 15), labels="y").task


def test_classes_are_decoded_by_name():
    for names in (["no", "yes"], [3, 8], [False, True]):
        columns = jaxnn.fit_columns({"x": [1.0, 2.0], "y": names}, labels="y")
        frame = columns.decode(np.array([[0.0, np.log(3.0)], [5.0, 1.0]]))
        assert frame["y"].to_list() == names[::-1]
        close(frame[f"probability of {names[1]}"][0], 0.75)
        close(frame[f"probability of {names[0]}"][0], 0.25)


def test_marks_are_encoded_and_decoded():
    table = {"x": [1.0, 2.0, 3.0], "red": [True, False, True], "big": [0, 0, 0]}
    columns = jaxnn.fit_columns(table, labels=["red", "big"])
    assert columns.task == "multi_label" and columns.outputs == 2
    labels = columns.encode(table)["labels"]
    assert labels.dtype == np.float32 and labels.tolist() == [[1, 0], [0, 0], [1, 0]]
    frame = columns.decode(np.array([[np.log(3.0), -1.0]]))
    assert frame["red"].to_list() == [True] and frame["big"].to_list() == [False]
    close(frame["probability of red"], [0.75])


def test_errors_of_a_regression_are_in_the_unit_of_the_labels():
    table = {"x": [1.0, 2.0, 3.0], "y": [10.0, 20.0, 60.0]}
    columns = jaxnn.fit_columns(table, labels="y")
    batch = columns.encode(table)
    outputs = batch["labels"] + np.float32([0.0, 0.1, 0.2])
    arrays = jax.tree.map(jnp.asarray, dict(batch))
    mae = columns.objective().metrics(jnp.asarray(outputs), arrays)["mae"].value()
    close(mae, 0.1 * np.std(table["y"]))


# --- Mistakes ------------------------------------------------------------------------------------


XY = {"x": [1.0, 2.0], "y": ["a", "b"]}
MISTAKES = {
    "unknown column": (
        lambda: jaxnn.fit_columns(TABLE, labels="qualty"),
        "Did you mean 'quality'?",
    ),
    "unknown kind": (lambda: jaxnn.fit_columns(XY, kinds={"x": "int"}), "a kind is unknown"),
    "unknown part": (lambda: jaxnn.fit_columns(XY, dates="monht"), "Did you mean 'month'?"),
    "nothing left": (
        lambda: jaxnn.fit_columns(XY, labels="y", ignore=["x"]),
        "no input column remains",
    ),
    "one class": (
        lambda: jaxnn.fit_columns({"x": [1.0, 2.0], "y": ["a", "a"]}, labels="y"),
        "are all the same",
    ),
    "missing label": (
        lambda: jaxnn.fit_columns({"x": [1.0, 2.0, 3.0], "y": ["a", None, "b"]}, labels="y"),
        "table.drop_nulls('y')",
    ),
    "infinite": (lambda: jaxnn.fit_columns({"x": [1.0, np.inf]}), "column 'x' has a number that"),
    "large": (
        lambda: jaxnn.fit_columns({"key": [0, 10**9, 10**9 + 1]}),
        "column 'key' has integers that float32 cannot distinguish",
    ),
    "huge": (lambda: jaxnn.fit_columns({"key": [2**62, 2**62 + 1]}), "ignore=['key']"),
    "large label": (
        lambda: jaxnn.fit_columns(
            {"x": [0.5] * 30, "y": range(0, 30 << 24, 1 << 24)}, labels="y"
        ).encode({"x": [1], "y": [16777217]}),
        "column 'y' has integers",
    ),
    "lacking column": (
        lambda: jaxnn.fit_columns(XY, labels="y").encode({"z": [1.0]}),
        "expected also x",
    ),
    "new label": (
        lambda: jaxnn.fit_columns(XY, labels="y").encode({"x": [1.0], "y": ["c"]}),
        "'c' in row 0 (from 0); expected one of a, b",
    ),
    "no numbers": (
        lambda: jaxnn.fit_columns(XY, labels="y").encode({"x": ["much"]}),
        "column 'x' does not contain numbers",
    ),
    "no dates": (
        lambda: jaxnn.fit_columns(TABLE[["since"]]).encode({"since": ["soon"]}),
        "column 'since' does not contain dates",
    ),
    "negative weight": (
        lambda: jaxnn.fit_columns({"x": [1.0, 2.0], "w": [1.0, -1.0]}, weights="w"),
        "negative or missing",
    ),
    "balanced numbers": (
        lambda: jaxnn.fit_columns(XY, labels="x").encode(XY, balanced=True),
        "only classes can be balanced",
    ),
    "no marks": (
        lambda: jaxnn.fit_columns(XY, labels=["y"], task="multi_label"),
        "is not boolean",
    ),
    "mixed labels": (
        lambda: jaxnn.fit_columns(XY | {"z": [1, 2]}, labels=["x", "y"]),
        "different types",
    ),
    "dates": (lambda: jaxnn.fit_columns(TABLE, labels="since"), "dt.total_days()"),
    "a class for each row": (
        lambda: jaxnn.fit_columns(TABLE, labels="comment", ignore=["id"]),
        "Got 240 classes in 240 rows",
    ),
    "kind of a label": (
        lambda: jaxnn.fit_columns(XY, labels="y", kinds={"y": "category"}),
        "Pass task='classification' or",
    ),
    "a label twice": (lambda: jaxnn.fit_columns(XY, labels=["y", "y"]), "a label is repeated"),
    "lists": (lambda: jaxnn.fit_columns(polars.DataFrame({"x": [[1], [2]]})), "ignore=['x']"),
    "outputs": (
        lambda: jaxnn.fit_columns(XY, labels="y").decode(np.zeros((2, 3))),
        "expected [rows, 2]",
    ),
    "json": (lambda: jaxnn.Columns.from_json("{}"), "does not describe columns"),
}


@pytest.mark.parametrize("make, words", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(make, words):
    with pytest.raises(Invalid, match=re.escape(words)):
        make()


def test_stamps_that_differ_stay_different():
    stamps = {"stamp": [1_700_000_000, 1_700_000_001, 1_700_000_003], "id": [0, 16777216, 16777217]}
    inputs = jaxnn.fit_columns(stamps).encode(stamps)["inputs"]
    assert all(len(np.unique(inputs[:, i])) == 3 for i in range(2))


# --- What is seldom meant ------------------------------------------------------------------------


def test_a_column_that_numbers_the_rows_is_said():
    with pytest.warns(Caution, match=r"'id' looks like a row number or key.*ignore=\['id'\]"):
        jaxnn.fit_columns(TRAIN, labels="quality")
    jaxnn.fit_columns(TRAIN, labels="quality", ignore="id")


@pytest.mark.parametrize(
    "name, other, label",
    [
        ("rating", lambda t: t["quality"].str.to_uppercase(), "quality"),
        ("cents", lambda t: t["income"] * 100, "income"),
    ],
)
def test_a_label_under_another_name_is_said(name, other, label):
    table = complete(TRAIN).drop("id")
    table = table.with_columns(other(table).alias(name))
    with pytest.warns(Caution, match=rf"column '{name}' determines the label '{label}'"):
        jaxnn.fit_columns(table, labels=label)
    jaxnn.fit_columns(table, labels=label, ignore=[name])
