"""What is taken for what: the counts are the counts, by any number of classes."""

import numpy as np
import pytest
import sklearn.metrics

from jaxnn import InvalidType, InvalidValue
from jaxnn.pictures import confusion, confusion_matrix, scheme
from tests.figures import legible, same


def answers(count, classes, wrong=0.1):
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, count)
    slips = random.random(count) < wrong
    return labels, np.where(slips, (labels + random.integers(1, classes, count)) % classes, labels)


def written(axes):
    return {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}


def test_the_cells_are_the_counts():
    labels, predictions = answers(360, 10)
    figure = confusion(labels, predictions.astype(float))  # of any dtype
    legible(figure)
    axes, key = figure.axes
    expected = sklearn.metrics.confusion_matrix(labels, predictions)
    shown = written(axes)  # across is predicted, down is true
    assert shown == {(j, i): str(n) for (i, j), n in np.ndenumerate(expected) if n}
    right = int(np.trace(expected))
    assert axes.get_title(loc="left") == f"{right} of 360 right: {right / 3.6:.3g} %"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first class is above
    cells = axes.images[0].get_array()
    shares = expected / expected.sum(1, keepdims=True)
    np.testing.assert_allclose(cells[..., 3], np.sqrt(shares))
    for (i, j), _ in np.ndenumerate(expected):
        colour = scheme.RIGHT if i == j else scheme.WRONG
        assert tuple(np.round(cells[i, j, :3] * 255)) == tuple(bytes.fromhex(colour[1:]))
    assert key.get_xlabel() == "share of the true class"
    same(figure, "confusion")


@pytest.mark.parametrize("classes", [2, 20, 100])
def test_from_two_to_a_hundred_classes(classes):
    figure = confusion(*answers(40 * classes, classes, wrong=0.3))
    legible(figure)
    axes = figure.axes[0]
    if classes == 100:
        assert not axes.texts
        assert "100 classes, too many for numbers" in axes.get_title(loc="left")
    else:
        assert axes.texts and "too many" not in axes.get_title(loc="left")
    assert figure.get_figwidth() == scheme.WIDTH


def test_names_stand_at_their_classes():
    names = "T-shirt Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle-boot".split()
    figure = confusion(*answers(9_000, 10), names)
    legible(figure)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert axes.get_xticklabels()[0].get_rotation() == 90


def test_large_counts_are_shortened_and_classes_without_examples_are_said():
    figure = confusion_matrix([[1_200_000, 34_567, 0], [9_999, 5, 0], [0, 0, 0]])
    said = legible(figure)
    shown = written(figure.axes[0])
    assert shown == {(0, 0): "1.2M", (1, 0): "35k", (0, 1): "9999", (1, 1): "5"}
    assert "1 of the classes has no example." in said


def test_all_right_is_a_hundred_per_cent_and_nearly_all_is_not():
    for counts, said in (([[5, 0], [0, 5]], ": 100 %"), ([[99_999, 1], [0, 9]], "over 99.9 %")):
        assert said in confusion_matrix(counts).axes[0].get_title(loc="left")


@pytest.mark.parametrize("call, error, message", [
    (lambda: confusion([0, 1], [0]), InvalidValue, r"shape \(2,\) and predictions of shape \(1,\)"),
    (lambda: confusion(np.array([], int), np.array([], int)), InvalidValue, r"at least one"),
    (lambda: confusion([0, -1], [0, 1]), InvalidValue, r"labels from -1 to 0.*labels >= 0"),
    (lambda: confusion([0, 1], np.zeros((2, 3))), InvalidType, r"outputs\.argmax\(-1\)"),
    (lambda: confusion([0.5, 1.0], [0, 1]), InvalidType, r"labels are not classes"),
    (lambda: confusion([0, 1], [0, 2], ["a", "b"]), InvalidValue, r"2 names for 3 classes"),
    (lambda: confusion([0, 5000], [0, 1]), InvalidValue, r"labels from 0 to 5000.* to 999"),
    (lambda: confusion_matrix([[0, 0], [0, 0]]), InvalidValue, r"finite sum above 0"),
    (lambda: confusion_matrix([1, 2]), InvalidValue, r"shape \(2,\); expected \[classes, classes"),
])  # fmt: skip
def test_mistakes_are_answered(call, error, message):
    with pytest.raises(error, match=message):
        call()
