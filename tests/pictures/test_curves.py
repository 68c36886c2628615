"""Learning curves say what the rows say: every value, every gap, every run by its name."""

import matplotlib
import numpy as np
import pytest

from jaxnn import InvalidType, InvalidValue
from jaxnn.pictures import curves, scheme
from jaxnn.pictures.labels import apart
from jaxnn.pictures.series import POINTS, thin
from tests.figures import legible, same

NAN = float("nan")


def history(count=20, every=45, rate=0.02, floor=0.0, seed=0):
    """Rows as those of a run that learns, and does a little worse on what it has not seen."""
    noise = np.random.default_rng(seed).random(count) * 0.01
    rows = []
    for number in range(1, count + 1):
        step = number * every
        loss = 2.3 * np.exp(-rate * step) + floor + 0.01 + noise[number - 1]
        rows.append({
            "step": step, "epoch": step / 22, "seconds": 0.1 * number,
            "train/loss": loss, "train/accuracy": 1 - 0.35 * loss,
            "test/loss": loss + 0.06, "test/accuracy": 0.97 - 0.35 * loss,
        })  # fmt: skip
    return rows


def lines(axes, kind="curve"):
    return [line for line in axes.lines if line.get_gid() == kind]


def column(rows, name):
    return [row[name] for row in rows]


def test_the_lines_are_the_rows_and_are_named_where_they_end():
    rows = history()
    figure = curves(rows, units={"loss": "nats"})
    said = legible(figure)
    loss, accuracy = figure.axes
    assert loss.get_title(loc="left") == "loss (nats)"
    assert accuracy.get_title(loc="left") == "accuracy"
    assert accuracy.get_xlabel() == "training steps"
    assert loss.get_yscale() == "log" and accuracy.get_yscale() == "linear"
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        training, test = lines(axes)
        for line, split in ((training, "train"), (test, "test")):
            np.testing.assert_array_equal(line.get_xdata(), column(rows, "step"))
            np.testing.assert_array_equal(line.get_ydata(), column(rows, f"{split}/{name}"))
        assert (test.get_color(), training.get_color()) == (scheme.INK, scheme.FAINT)
        assert training.is_dashed() and not test.is_dashed()
        last = rows[-1][f"test/{name}"]
        ends = [text for text in said if text.startswith("test ")]
        assert any(float(text.split()[-1]) == pytest.approx(last, rel=1e-3) for text in ends)
    assert figure.get_figwidth() == scheme.WIDTH and not figure.canvas.manager
    same(figure, "curves")


def test_several_runs_have_a_colour_each_and_their_training_is_dashed():
    runs = {"small": history(10), "large": history(20, rate=0.03, seed=1)}
    figure = curves(runs, "loss")
    said = legible(figure)
    drawn = lines(figure.axes[0])
    assert [line.get_color() for line in drawn] == [c for c in scheme.COLOURS[:2] for _ in "12"]
    assert [line.is_dashed() for line in drawn] == [True, False, True, False]
    assert [len(line.get_xdata()) for line in drawn] == [10, 10, 20, 20]
    assert "Dashed: training." in said
    assert [sum(text.startswith(name) for text in said) for name in runs] == [1, 1]
    same(figure, "curves_runs")


def test_many_runs_have_a_legend_and_those_without_a_colour_are_said_to_be_grey():
    figure = curves({f"run {n}": history(4, seed=n) for n in range(16)}, "test/loss")
    said = legible(figure)
    colours = [line.get_color() for line in lines(figure.axes[0])]
    assert colours == [*scheme.COLOURS, *8 * [scheme.FAINT]]
    assert {f"run {n}" for n in range(16)} <= set(said)
    assert "The last 8 of 16 runs are grey." in said


def test_a_population_is_its_median_in_bands():
    values = np.random.default_rng(0).random((6, 9)) + 1
    values[3:, 0] = NAN
    rows = [
        {"step": 10 * step, "running": 9, "train/loss": [None if np.isnan(v) else v for v in row]}
        for step, row in enumerate(values.tolist(), 1)
    ]
    figure = curves(rows)
    said = legible(figure)
    (line,) = lines(figure.axes[0])
    np.testing.assert_allclose(line.get_ydata(), np.nanmedian(values, 1))
    bands = [band.get_paths()[0].vertices for band in figure.axes[0].collections]
    for band, (low, high) in zip(bands, ((0, 1), (0.25, 0.75))):
        expected = np.nanquantile(values[2], [low, high])
        edges = sorted(set(np.round(band[band[:, 0] == 30][:, 1], 9)))
        np.testing.assert_allclose(edges, expected, atol=1e-8)
    remarks = " ".join(said).replace("\n", " ")
    assert "median of 9 members" in remarks and "1 of 9 are not finite at the end." in remarks


def test_what_is_not_finite_is_a_gap_with_a_mark_where_it_happened():
    rows = history()
    for at in (5, 6, 7, 12):
        rows[at]["train/loss"] = [None, NAN, float("inf")][at % 3]
    rows[10]["train/loss"] = NAN  # the one between two gaps must be seen too
    figure = curves(rows, "train/loss")
    said = legible(figure)
    (line,) = lines(figure.axes[0])
    assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [5, 6, 7, 10, 12]
    marks = lines(figure.axes[0], "not finite")
    assert [mark.get_xdata()[0] for mark in marks] == [rows[at]["step"] for at in (5, 10, 12)]
    assert "×: not finite." in said
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    assert dots[0].get_xdata().tolist() == [rows[11]["step"]]


def test_all_may_be_lost_or_there_may_be_one_row():
    figure = curves([{"step": step, "train/loss": None} for step in range(3)])
    said = legible(figure)
    assert "no value is finite" in said
    figure = curves(history(1))
    said = legible(figure)
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    assert len(dots) == 2
    figure = curves([{"step": 0, "score": 0.0}])
    said = legible(figure)
    assert "0" in said


def test_evaluation_may_be_rarer_than_training():
    rows = [row if row["step"] % 90 == 0 else {"step": row["step"], "train/loss": 1.0}
            for row in history()]  # fmt: skip
    training, test = lines(curves(rows, "loss").axes[0])
    assert (len(training.get_xdata()), len(test.get_xdata())) == (20, 10)
    assert np.isfinite(test.get_ydata()).all()


def test_thousands_of_rows_are_few_points_and_no_peak_is_lost():
    values = np.random.default_rng(0).random(5_000)
    values[1_777], values[2_345], values[3_000] = 9.0, -9.0, NAN
    places = thin(values)
    assert len(places) <= 1.1 * POINTS and {0, 1_777, 2_345, 3_000, 4_999} <= set(places.tolist())
    assert thin(values[:POINTS]).tolist() == list(range(POINTS))
    rows = [{"step": step, "train/loss": value} for step, value in enumerate(values.tolist())]
    figure = curves(rows)
    assert len(scheme.svg(figure, title="", prefix="c")) < 40_000
    assert np.nanmax(lines(figure.axes[0])[0].get_ydata()) == 9.0


def test_names_at_line_ends_move_no_further_than_they_must():
    heights = apart(np.array([0.1, 0.5, 0.5, 0.52, 0.9]), 0.1)
    assert np.diff(heights).min() >= 0.1 - 1e-9
    assert heights[[0, 4]].tolist() == [0.1, 0.9]
    assert heights[1:4].mean() == pytest.approx(np.mean([0.5, 0.5, 0.52]))
    assert 0 < apart(np.ones(5), 0.1).min() and apart(np.ones(5), 0.1).max() < 1


def test_settings_of_matplotlib_are_left_alone():
    before = dict(matplotlib.rcParams)
    curves(history(3))
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("call, error, message", [
    (lambda: curves([]), InvalidValue, r"nothing to draw. Got no rows; .* every='5%'"),
    (lambda: curves({}), InvalidValue, r"Got no rows; .* every='5%'"),
    (lambda: curves([{"step": 1, "epoch": 0.1, "device": "cpu"}]),
     InvalidValue, r"Got rows with step, epoch, device; expected rows with a step and"),
    (lambda: curves([{"train/loss": 1.0}]), InvalidValue, r"rows with train/loss"),
    (lambda: curves(history(2), "los"), InvalidValue, r"metrics='los'.*Did you mean 'loss'"),
    (lambda: curves(history(2), ["test/accuraci"]), InvalidValue, r"Did you mean 'test/accuracy'"),
    (lambda: curves(history(2), []), InvalidValue, r"metrics='\[\]'; expected one of accuracy, "),
    (lambda: curves("metrics.jsonl"), InvalidType, r"Got a str; .*json\.loads"),
    (lambda: curves([1, 2]), InvalidType, r"Got a list; expected a list of dicts"),
    (lambda: curves({"mine": history(2), "empty": []}), InvalidValue, r"curves of 'empty'"),
])  # fmt: skip
def test_mistakes_are_answered(call, error, message):
    with pytest.raises(error, match=message):
        call()
