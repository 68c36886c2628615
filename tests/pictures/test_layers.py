"""Pictures of layers over time: how weights are spread, and whether gradients arrive."""

import numpy as np
import pytest

from jaxnn import InvalidType, InvalidValue
from jaxnn.pictures import activations, gradient_flow, scheme, weights
from tests.figures import legible, same

NAN = float("nan")
STEPS = (0, 2, 45, 90, 300, 900)


def spread(names=("layers/hidden_1/weight", "layers/hidden_2/weight", "layers/output/weight")):
    random = np.random.default_rng(0)
    start = {name: random.normal(size=(40, 16)) / 4 for name in names}
    return {step: {n: v * (1 + step / 900) for n, v in start.items()} for step in STEPS}


def quantiles(axes):
    return [line for line in axes.lines if line.get_gid() == "quantile"]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes if axes.axison]


def test_lines_are_the_quantiles_and_colour_is_where_the_numbers_are():
    moments = spread()
    figure = weights(moments)
    said = legible(figure)
    assert titles(figure) == ["hidden 1", "hidden 2", "output"]
    for axes, name in zip(figure.axes, moments[0]):
        lines = quantiles(axes)
        for line, q in zip(lines, (0.05, 0.25, 0.5, 0.75, 0.95)):
            assert line.get_xdata().tolist() == list(STEPS)
            expected = [np.quantile(moments[step][name], q) for step in STEPS]
            np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
        cells = axes.collections[0].get_facecolor()[:, 3].reshape(-1, len(STEPS))
        rows = len(cells)
        values = moments[900][name].ravel()
        counts, _ = np.histogram(values, np.linspace(*axes.get_ylim(), rows + 1))
        np.testing.assert_array_equal(cells[:, -1] > 0, counts > 0)
        assert counts[cells[:, -1].argmax()] == counts.max()
    assert figure.axes[2].get_xlabel() == "training steps"
    assert "weight" in said
    same(figure, "weights")


def test_one_moment_is_an_ordinary_histogram():
    outputs = np.random.default_rng(0).normal(size=(256, 8))
    outputs[0, :2] = NAN
    for moments, label in (({7: {"h": outputs}}, "output at step 7"), ({"h": outputs}, "output")):
        figure = activations(moments)
        said = legible(figure)
        (axes,) = figure.axes
        assert axes.get_xlabel() == label and "share of the outputs" in said
        (steps,) = axes.patches
        inside = np.isfinite(outputs) & (outputs >= axes.get_xlim()[0])
        inside &= outputs <= axes.get_xlim()[1]
        shares = steps.get_data().values
        assert shares.sum() == pytest.approx(inside.sum() / outputs.size)
        assert quantiles(axes)[0].get_xdata()[0] == pytest.approx(np.nanmedian(outputs))
        assert "× 2 not finite" in said


def test_layers_that_are_too_many_are_left_out_and_it_is_said():
    figure = weights({step: {f"blocks/{n}/w": np.arange(9.0) * n for n in range(15)}
                      for step in (0, 9)})  # fmt: skip
    said = legible(figure)
    shown = titles(figure)
    assert len(shown) == 12 and shown[0] == "blocks/0" and shown[-1] == "blocks/14"
    assert "12 of 15 layers." in " ".join(said).replace("\n", " ")


def test_what_is_not_finite_or_constant_or_missing_is_an_honest_picture():
    moments = {0: {"b": np.zeros(4), "new": None}, 5: {"b": np.full(4, NAN), "new": np.ones(3)},
               9: {"b": np.zeros(4), "new": np.ones(3)}}  # fmt: skip
    figure = weights(moments)
    said = legible(figure)
    assert np.isnan(quantiles(figure.axes[0])[2].get_ydata()).tolist() == [False, True, False]
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [mark.get_xdata()[0] for mark in marks] == [5]
    assert not [line for line in figure.axes[1].lines if line.get_marker() == "x"]
    assert "some are not finite" in " ".join(said).replace("\n", " ")


def flow(layers=6):
    return {step: {f"layers/hidden_{n}/weight": 10.0 ** (-n / 2) / (1 + step / 300)
                   for n in range(1, layers + 1)} for step in STEPS}  # fmt: skip


def test_gradients_over_steps_are_cells_in_the_order_of_the_network():
    figure = gradient_flow(flow())
    legible(figure)
    axes, key = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [f"hidden {n}" for n in range(1, 7)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the input is above
    expected = [[flow()[step][name] for step in STEPS] for name in flow()[0]]
    np.testing.assert_allclose(np.ravel(axes.collections[0].get_array()), np.ravel(expected))
    assert type(axes.collections[0].norm).__name__ == "LogNorm"
    assert axes.get_xlabel() == "training steps"
    assert key.get_xlabel() == "gradient's root mean square"
    same(figure, "gradient_flow")


def test_gradients_at_one_step_are_dots():
    for sizes, end in (({45: flow()[45]}, " at step 45"), (flow()[45], "")):
        figure = gradient_flow(sizes)
        legible(figure)
        (axes,) = figure.axes
        (dots,) = (line for line in axes.lines if line.get_gid() == "size")
        np.testing.assert_allclose(dots.get_xdata(), list(flow()[45].values()))
        assert dots.get_ydata().tolist() == list(range(6)) and axes.get_xscale() == "log"
        assert axes.get_xlabel() == "gradient's root mean square" + end


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("lost", [NAN, float("inf")])
def test_a_gradient_that_is_zero_or_not_finite_is_marked(over, lost):
    sizes = {"a": 0.1, "b": 0.0, "c": lost, "d": 1e-30}
    figure = gradient_flow({1: sizes, 2: {"a": 1.0, "b": 1.0, "c": 1.0}} if over else sizes)
    said = legible(figure)
    marks = {line.get_marker(): line for line in figure.axes[0].lines if line.get_gid() != "size"}
    assert {mark: line.get_ydata().tolist() for mark, line in marks.items()} == {"o": [1], "x": [2]}
    assert "○: zero. ×: not finite." in said


@pytest.mark.parametrize("layers", [1, 90])
def test_networks_of_any_depth(layers):
    figure = gradient_flow(flow(layers))
    said = legible(figure)
    assert ("One of 3 layers is named." in said) == (layers == 90)
    assert figure.get_figwidth() == scheme.WIDTH and figure.get_figheight() < 8


@pytest.mark.parametrize("call, error, message", [
    (lambda: weights({}), InvalidValue, r"weights: there is nothing to draw. Got no moment"),
    (lambda: weights({0: {}}), InvalidValue, r"moments without any numbers"),
    (lambda: activations({0: {"a": np.zeros(0)}}), InvalidValue, r"activations: .*nothing to draw"),
    (lambda: weights([1, 2]), InvalidType, r"Got a list; expected a Mapping"),
    (lambda: weights({"layer": {"weight": np.ones(2)}}), InvalidType, r"Name leaves as in"),
    (lambda: weights({0: {"a": np.ones(2)}, 1: np.ones(2)}), InvalidType, r"Got keys 0, 1"),
    (lambda: weights({0: {"a": "many"}}), InvalidType, r"the values of a are not numbers"),
    (lambda: gradient_flow({"a": -1.0}), InvalidValue, r"Got a: -1; expected one number"),
    (lambda: gradient_flow({"a": np.ones(3)}), InvalidValue, r"Got a: 3 numbers"),
    (lambda: gradient_flow({}), InvalidValue, r"gradient_flow: there is nothing to draw"),
])  # fmt: skip
def test_mistakes_are_answered(call, error, message):
    with pytest.raises(error, match=message):
        call()
