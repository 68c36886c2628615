"""Looking at pictures as a reader does: is it legible, and does it look as it did?"""

import tempfile
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from unittest import mock

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread, imsave
from matplotlib.text import Text

REFERENCE = Path(__file__).parent / "reference"
DPI = 100  # of the references
WINDOW, STEP, MOVED = 20, 8, 3  # pixels: what is compared is the mean colour of windows
TOLERANCE = 0.05  # of a window; letters that move by a pixel change it less, a lost label more
SMALLEST = 7  # points


def legible(figure):
    """Asserts that all letters are large enough, within the figure and clear of each other.

    Returns the words that a reader sees.
    """
    drawn = _drawn(figure)
    sizes = {text.get_text(): text.get_fontsize() for text, _ in drawn}
    assert sizes, "there is no text at all"
    assert not [item for item in sizes.items() if item[1] < SMALLEST]
    assert _clashes(figure, drawn) == []
    return list(sizes)


def overlaps(figure):
    """Returns the pairs of texts that overlap; what the figure's edge cuts is paired with it."""
    return _clashes(figure, _drawn(figure))


def texts(figure):
    """Returns the words that a reader sees, in the order in which they are drawn."""
    return [text.get_text() for text, _ in _drawn(figure)]


def by_gid(figure, prefix):
    """Returns the parts of a figure whose names begin with a prefix, by their names."""
    artists = figure.findobj(lambda artist: (artist.get_gid() or "").startswith(prefix))
    return {artist.get_gid(): artist for artist in artists}


def same(figure, name):
    """Asserts that a figure looks like `tests/reference/NAME.png`.

    Means over windows are compared: other versions of matplotlib and of its letters pass, and a bar
    or a label that is missing does not. Where there is no reference, this writes one, and fails.
    """
    pixels, path = render(figure), REFERENCE / f"{name}.png"
    if not path.exists():
        imsave(path, pixels)
        raise AssertionError(f"There was no {path.name}: look at it, and run the test again.")
    expected = imread(path)[..., :3]
    assert np.abs(np.subtract(pixels.shape, expected.shape)).max() <= 1, "it is of another size"
    # Versions round the inches of a figure in their own ways.
    high, wide = np.minimum(pixels.shape, expected.shape)[:2]
    pixels, expected = pixels[:high, :wide], expected[:high, :wide]
    worst = difference(pixels, expected)
    if worst > TOLERANCE:
        seen = Path(tempfile.gettempdir()) / f"{name}.png"
        imsave(seen, pixels)
        raise AssertionError(f"{name} differs by {worst:.3f}, over {TOLERANCE}: see {seen}")


def difference(pixels, expected):
    """Returns the largest difference of the mean colours of two pictures' windows, from 0 to 1.

    A window may have moved by some pixels, as layouts do that depend on the width of letters.
    """
    reach = range(-MOVED, MOVED + 1)
    here, there = _sums(pixels), _windows(_sums(expected), 0, 0)
    differences = [np.abs(_windows(here, y, x) - there).max(-1) for y in reach for x in reach]
    return np.min(differences, 0).max()


def render(figure):
    """Returns a figure as `[height, width, 3]` numbers from 0 to 1."""
    with _small(figure):
        figure.draw_without_rendering()  # a layout is final the second time
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3] / 255
    return pixels.astype(np.float32)


def _sums(pixels):
    """Returns the sums of all that is above and left of each pixel, the edges being continued."""
    edge = (MOVED + 1, MOVED + WINDOW)
    return np.pad(pixels.astype(np.float64), (edge, edge, (0, 0)), "edge").cumsum(0).cumsum(1)


def _windows(sums, down, right):
    """Returns the mean colours of windows that begin every few pixels, all moved by so many."""
    margin = 2 * MOVED + 1 + WINDOW
    y = np.arange(0, sums.shape[0] - margin, STEP)[:, None] + MOVED + down
    x = np.arange(0, sums.shape[1] - margin, STEP) + MOVED + right
    low, wide = y + WINDOW, x + WINDOW
    return (sums[low, wide] - sums[y, wide] - sums[low, x] + sums[y, x]) / WINDOW**2


def _drawn(figure):
    """Returns each text that is in fact drawn, with the four corners of its box in pixels."""
    drawn, draw = [], Text.draw

    def record(text, renderer, *args, **kwargs):
        if text.get_visible() and text.get_text().strip():
            drawn.append((text, _corners(text, renderer)))
        return draw(text, renderer, *args, **kwargs)

    with mock.patch.object(Text, "draw", record), _small(figure):
        figure.draw_without_rendering()
    return drawn


@contextmanager
def _small(figure):
    before = figure.dpi
    figure.set_dpi(DPI)
    yield
    figure.set_dpi(before)


def _corners(text, renderer):
    # An annotation's box would contain its arrow.
    box = Text.get_window_extent(text, renderer)
    angle = np.deg2rad(text.get_rotation())
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # The box around a slanted text is wider than the text, by an amount that its angle tells.
    wide, high = np.linalg.solve(np.abs(turn), [box.width, box.height])
    half = np.maximum([wide, high], 2) / 2 - 0.5
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return square @ turn.T + [(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]


def _meet(first, second):
    """Returns whether two rectangles overlap: no side of either lies between them."""
    for box in (first, second):
        for side in (box[1] - box[0], box[3] - box[0]):
            p, q = first @ side, second @ side
            if p.max() <= q.min() or q.max() <= p.min():
                return False
    return True


def _clashes(figure, drawn):
    pairs = [
        (a.get_text(), b.get_text()) for (a, p), (b, q) in combinations(drawn, 2) if _meet(p, q)
    ]
    cut = [
        (text.get_text(), "the edge of the figure")
        for text, box in drawn
        if (box < 0).any() or (box > figure.get_size_inches() * DPI).any()
    ]
    return pairs + cut
