"""Pictures say what the numbers say: cells, axes, and what has no value."""

import itertools

import numpy as np
import pytest

import jaxnn
from jaxnn.pictures._sweep import sweep
from tests.figures import legible, same

RATES = np.geomspace(1e-4, 1e-1, 16).tolist()


def grid(**values):
    rows = list(itertools.product(*values.values()))
    return {name: [row[i] for row in rows] for i, name in enumerate(values)}


def draw(columns, values, name="test/accuracy"):
    """Returns the axes, its colours as an array, the colour bar and the labels of the legend."""
    figure = sweep(columns, values, name)
    axes, bar = figure.axes
    shown = (axes.images or axes.collections)[0]
    words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return axes, shown, bar, words


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_a_cell_is_the_value_of_its_pair_whatever_the_order_of_the_runs():
    columns = grid(learning_rate=RATES, seed=[0, 1, 2])
    values = np.random.default_rng(0).random(48)
    order = np.random.default_rng(1).permutation(48)
    mixed = {name: [column[i] for i in order] for name, column in columns.items()}
    axes, shown, bar, words = draw(mixed, values[order])
    np.testing.assert_array_equal(shown.get_array(), values.reshape(16, 3).T)
    assert axes.get_xlabel() == "learning rate" and axes.get_ylabel() == "seed"
    assert bar.get_ylabel() == "test/accuracy" and axes.get_title(loc="left") == ""
    assert words == [f"best: {values.max():.4g}"]
    x, y = axes.lines[0].get_data()
    assert (x[0], y[0]) == np.unravel_index(values.argmax(), (16, 3))
    assert axes.images[0].origin == "lower"


def test_the_axis_of_a_log_range_has_its_decades_where_they_are():
    axes, *_ = draw(grid(learning_rate=RATES, seed=[0, 1]), np.arange(32.0))
    assert labels(axes.xaxis) == ["0.0001", "0.001", "0.01", "0.1"]
    np.testing.assert_allclose(axes.get_xticks(), [0, 5, 10, 15], atol=1e-9)
    assert labels(axes.yaxis) == ["0", "1"]


def test_a_few_values_are_all_named_and_words_keep_their_order():
    axes, shown, *_ = draw(grid(model=["mlp", "convnet"], batch_size=[64, 32]), [1, 2, 3, 4])
    assert labels(axes.xaxis) == ["mlp", "convnet"] and labels(axes.yaxis) == ["32", "64"]
    assert shown.get_array().tolist() == [[2, 4], [1, 3]]
    assert axes.get_xticks().tolist() == axes.get_yticks().tolist() == [0, 1]


def test_further_columns_are_averaged_and_the_title_says_so():
    columns = grid(a=[1, 2], b=[1, 2, 3], weight_decay=[0.0, 0.1], seed=[0, 1], c=["same"])
    values = np.random.default_rng(0).random(24)
    axes, shown, *_ = draw(columns, values)
    np.testing.assert_allclose(shown.get_array(), values.reshape(2, 3, 4).mean(-1).T)
    assert axes.get_title(loc="left") == "mean over weight decay, seed"


def test_what_diverged_is_hatched_and_does_not_enter_a_mean():
    columns = grid(a=[1, 2], b=[1, 2], seed=[0, 1])
    values = [0.5, np.nan, np.nan, np.nan, 0.1, 0.3, 0.7, 0.9]
    axes, shown, _, words = draw(columns, values)
    means = shown.get_array()
    np.testing.assert_allclose(means.filled(np.nan), [[0.5, 0.2], [np.nan, 0.8]])
    assert axes.patch.get_hatch() and words == ["best: 0.8", "diverged"]
    assert "diverged" not in draw(columns, np.arange(8.0))[3]


def test_all_may_have_diverged():
    _, shown, _, words = draw(grid(a=[1, 2], seed=[0, 1]), [np.nan] * 4)
    assert shown.get_array().mask.all() and words == ["diverged"]


def test_bright_is_good():
    columns = grid(a=[1, 2], seed=[0, 1])
    for name, best in (("test/loss", 1.0), ("test/accuracy", 4.0)):
        _, shown, _, words = draw(columns, [1.0, 2.0, 3.0, 4.0], name)
        brightness = [sum(shown.to_rgba(value)[:3]) for value in (1.0, 2.0, 3.0, 4.0)]
        assert words == [f"best: {best:.4g}"]
        assert np.argmax(brightness) == [1.0, 2.0, 3.0, 4.0].index(best)


def test_a_loss_of_many_sizes_has_a_logarithmic_scale():
    columns = grid(a=[1, 2, 3], seed=[0, 1])
    wide, narrow = [0.01, 0.02, 0.03, 0.04, 1.0, 1000.0], [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert type(draw(columns, wide, "test/loss")[1].norm).__name__ == "LogNorm"
    assert type(draw(columns, narrow, "test/loss")[1].norm).__name__ == "Normalize"


def test_random_draws_are_points():
    draws = np.random.default_rng(0)
    columns = {
        "rate": np.repeat(10 ** draws.uniform(-4, -1, 20), 2).tolist(),
        "dropout": np.repeat(draws.random(20), 2).tolist(),
        "decay": np.repeat(draws.random(20), 2).tolist(),
        "seed": [0, 1] * 20,
    }
    values = draws.random(40)
    values[6:9] = np.nan
    axes, shown, _, words = draw(columns, values)
    means = np.array([values[n : n + 2].mean() for n in range(0, 40, 2)])
    means[4] = values[9]
    assert len(shown.get_offsets()) == 19 and len(axes.collections[1].get_offsets()) == 1
    assert sorted(shown.get_array()) == pytest.approx(sorted(means[np.isfinite(means)]))
    assert "diverged" in words and axes.get_title(loc="left") == "mean over seed"
    at = dict(zip(np.round(shown.get_offsets()[:, 0], 9), shown.get_offsets()[:, 1]))
    assert at[np.round(columns["rate"][0], 9)] == columns["dropout"][0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")


@pytest.mark.parametrize("columns", [{"seed": [0, 1, 2]}, {"rate": [0.1], "seed": [0]}])
def test_one_thing_that_varies_or_none_makes_a_strip(columns):
    count = len(columns["seed"])
    axes, shown, *_ = draw(columns, np.arange(count))
    assert shown.get_array().shape == (1, count)
    assert labels(axes.yaxis) == [] and axes.get_ylabel() == ""


def test_it_is_legible_at_the_width_of_a_column_and_leaves_no_trace():
    import matplotlib

    before = dict(matplotlib.rcParams)
    values = np.r_[np.arange(7.0), np.nan]
    figure = sweep(grid(learning_rate=[0.001, 0.01], seed=[0, 1], a=[1, 2]), values, "test/loss")
    assert figure.get_figwidth() == 3.5 and dict(matplotlib.rcParams) == before
    assert not figure.canvas.manager  # no window: pyplot knows nothing of it
    legible(figure)
    same(figure, "sweep")


def test_long_words_are_slanted_and_do_not_overlap():
    words = ["adam", "sgd", "momentum", "a very long optimizer"]
    legible(sweep(grid(optimizer=words, model=["mlp", "convnet"]), np.arange(8.0), "test/loss"))


@pytest.mark.parametrize("columns, values", [({}, []), ({"a": [1, 2]}, [1.0]), ({}, [1.0])])
def test_columns_are_as_long_as_the_values(columns, values):
    with pytest.raises(jaxnn.InvalidValue, match="differ in length.*one value for each run"):
        sweep(columns, values, "test/loss")
