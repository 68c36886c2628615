"""A grid shows every image where it belongs, as bright as it is."""

import numpy as np
import pytest

from jaxnn import InvalidValue
from jaxnn.pictures.images import image_grid
from tests.mistakes import judge

IMAGES = np.random.default_rng(0).random((5, 3, 4)).astype(np.float32)


def sheet(images, **options):
    figure = image_grid(images, **options)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    return np.asarray(axes.images[0].get_array()), figure


def test_images_stand_in_rows_with_gaps_between_them():
    pixels, figure = sheet(IMAGES, columns=2)
    assert pixels.shape == (3 * 3 + 2, 2 * 4 + 1)
    np.testing.assert_array_equal(pixels[4:7, 5:9], IMAGES[3])
    np.testing.assert_array_equal(pixels[8:11, :4], IMAGES[4])
    assert (pixels[3] == 1).all() and (pixels[:, 4] == 1).all() and (pixels[8:, 4:] == 1).all()
    width, height = figure.get_size_inches()
    assert np.isclose(height / width, (3 * 3) / (2 * 4))


def test_bytes_colours_and_single_channels():
    grey = (255 * IMAGES).astype(np.uint8)
    np.testing.assert_allclose(sheet(grey)[0][:, :4], grey[0] / 255, rtol=1e-6)
    np.testing.assert_array_equal(sheet(grey[..., None])[0], sheet(grey)[0])
    colours = np.stack([IMAGES, IMAGES / 2, 2 * IMAGES - 0.5], -1)
    np.testing.assert_array_equal(sheet(colours)[0][:, 5:9], np.clip(colours[1], 0, 1))


CASES = {
    "rows of numbers": (
        lambda: image_grid(np.zeros((5, 784))), InvalidValue, r"images of shape \(5, 784\)",
        r"Reshape what the network gives",
    ),
    "two channels": (
        lambda: image_grid(np.zeros((5, 4, 4, 2))), InvalidValue, r"shape \(5, 4, 4, 2\)",
        r"Reshape what the network gives",
    ),
    "no columns": (lambda: image_grid(IMAGES, columns=0), InvalidValue, r"columns=0", r"columns=1"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)
