"""The look of all pictures: colours that everybody can tell apart, and SVG that fits any page."""

import re
import xml.dom.minidom
from itertools import combinations

import matplotlib
import numpy as np
import pytest

from jaxnn.pictures import curves, gradient_flow, scheme, sweep
from jaxnn.pictures.labels import shortened
from tests.figures import TOLERANCE, difference, legible, overlaps, render, texts

DARK_PAGE = "#16181d"

# What eyes see that lack red or green receptors, in linear RGB. Source: Machado, Oliveira and
# Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009.
EYES = {
    "all colours": np.eye(3),
    "no red": np.array([
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]),
    "no green": np.array([
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]),
}  # fmt: skip

# OKLab, in which distances are as large as they look; one that is just seen is about 0.02.
# Source: Ottosson, "A perceptual color space for image processing", 2020.
CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
OPPONENTS = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip


def light(colour):
    """The light of a colour: linear RGB."""
    encoded = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def seen(colour, eyes):
    return OPPONENTS @ np.cbrt(CONES @ np.clip(EYES[eyes] @ light(colour), 0, 1))


def nearest(colours, eyes):
    return min(np.linalg.norm(seen(a, eyes) - seen(b, eyes)) for a, b in combinations(colours, 2))


def contrast(a, b):
    """Source: WCAG 2.1, relative luminance and contrast ratio."""
    low, high = sorted(light(colour) @ [0.2126, 0.7152, 0.0722] for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("eyes", EYES)
def test_everybody_can_tell_the_colours_apart(eyes):
    assert len(scheme.COLOURS) == 8 and nearest(scheme.COLOURS, eyes) > 0.095
    assert nearest(scheme.SIGNED, eyes) > 0.2
    assert nearest((*scheme.CLASSES, scheme.SIGNED[0], scheme.SIGNED[2]), eyes) > 0.09
    # The measure tells: matplotlib's own ten fail it.
    tab = matplotlib.colormaps["tab10"].colors
    assert min(nearest(tab, each) for each in EYES) < 0.04


def test_colours_stand_out_on_white_and_on_dark():
    for colour in (*scheme.COLOURS, *scheme.CLASSES, scheme.MARK):
        assert contrast(colour, "white") > 2.5 and contrast(colour, DARK_PAGE) > 2.5
    assert contrast(scheme.INK, scheme.PAPER) > 7 and contrast(scheme.FAINT, scheme.PAPER) > 4.5
    assert contrast("white", "black") == pytest.approx(21)


def test_signed_colours_end_where_they_say():
    colours = scheme.signed()
    ends = [matplotlib.colors.to_hex(colours(at)) for at in (0.0, 1.0)]
    assert ends == [scheme.SIGNED[0], scheme.SIGNED[2]]


def picture():
    figure, axes = scheme.canvas()
    axes.bar([1, 2, 3], [3, 1, 2], color=scheme.COLOURS[0])
    axes.plot([1, 2, 3], [1, 3, 2], color=scheme.COLOURS[1], gid="wire:1:0:0")
    axes.fill_between(
        [1, 3], [2, 2], [3, 3], color=scheme.PAPER, hatch="//", edgecolor=scheme.FAINT
    )
    axes.imshow([[0, 1], [1, 0]], extent=(0, 1, 0, 1), aspect="auto")
    axes.axis((0, 4, 0, 4))
    axes.set_xlabel("training steps")
    scheme.titled(axes, "a title")
    axes.text(2, 3, "<b>&", fontsize=scheme.TICK, color=scheme.INK, weight="bold")
    scheme.noted(figure, "a remark")
    return figure


def test_svg_stands_in_a_page_of_any_colours_beside_others():
    before = dict(matplotlib.rcParams)
    text = scheme.svg(picture(), title='loss of "a" & <b>', prefix="first")
    assert dict(matplotlib.rcParams) == before
    root = xml.dom.minidom.parseString(text).documentElement
    assert root.getAttribute("role") == "img" and root.getAttribute("width") == "100%"
    assert root.getAttribute("viewBox") and not root.hasAttribute("height")
    assert root.getAttribute("aria-label") == 'loss of "a" & <b>'
    assert root.firstChild.tagName == "title"
    assert root.firstChild.firstChild.data == 'loss of "a" & <b>'
    # Text is text, and nothing in it is markup.
    assert {"<b>&", "training steps", "a title"} <= {
        element.firstChild.data for element in root.getElementsByTagName("text")
    }
    assert "font-weight: 700" in text and "font-family" not in text and "DejaVu" not in text
    # Nothing outside of the picture: no declaration, no style for the page, no date, no address.
    assert text.startswith("<svg ") and "<metadata" not in text and "<style" not in text
    assert re.findall(r'https?://[^" ]+', text) == [
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    ]
    # Its names are its own, and all that it refers to is there.
    ids = [e.getAttribute("id") for e in root.getElementsByTagName("*") if e.hasAttribute("id")]
    assert len(ids) == len(set(ids)) and all(name.startswith("first-") for name in ids)
    assert "first-wire:1:0:0" in ids
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)
    # The page decides its colours; those of data stay, and nothing covers the page.
    for name, colour in scheme.NAMES.items():
        assert text.count(colour) == text.count(f"var(--{name}, {colour})")
    assert "var(--ink, " in text and "var(--faint, " in text and scheme.COLOURS[0] in text
    assert re.search(r'id="first-patch_1">\s*<path[^>]*fill: none', text)


def test_svg_is_the_same_every_time():
    texts = {scheme.svg(picture(), title="t", prefix="p") for _ in range(2)}
    assert len(texts) == 1


def test_a_dollar_sign_in_a_name_is_a_dollar_sign():
    rows = [{"step": step, "test/$a$ $b$": float(step)} for step in (1, 2)]
    pictures = {
        "curves": (curves({"$c$": rows, "d": rows}), ["$a$ $b$", "$c$ 2"]),
        "sweep": (sweep({"$e$": ["$f$", "$g$"]}, [1.0, 2.0], "$h$"), ["$e$", "$f$", "$h$"]),
        "gradients": (gradient_flow({"$i$/weight": 0.1, "j/weight": 0.2}), ["$i$"]),
    }
    for name, (figure, words) in pictures.items():
        text = scheme.svg(figure, title="t", prefix="p")
        assert not [word for word in words if f">{word}</text>" not in text], name


def test_numbers_are_written_as_people_do():
    numbers = [0.0, 1.0, -2.5, 0.001, 1e-4, 1.5e-7, 12345.6, 2e6, 1e6, 0.97214]
    assert [scheme.number(n) for n in numbers] == [
        "0", "1", "−2.5", "0.001", "0.0001", "1.5×10⁻⁷", "12,346", "2×10⁶", "10⁶", "0.9721",
    ]  # fmt: skip


def test_names_are_short_and_keep_what_tells_them_apart():
    assert shortened(["a/layers_1/weight", "a/layers_2/weight"]) == ["layers 1", "layers 2"]
    assert shortened(["blocks/0/weight", "blocks/1/weight"]) == ["blocks/0", "blocks/1"]
    assert shortened(["weight"]) == ["weight"] and shortened([]) == []
    assert [len(name) for name in shortened(["x" * 40, "y"], 10)] == [10, 1]


BLOCK = [
    f"attention/branch/attention/{name}/weight" for name in ("key", "output", "query", "value")
]
BLOCK += ["attention/branch/norm/scale", "mlp/branch/hidden/weight", "mlp/branch/output/weight"]


@pytest.mark.parametrize(
    "names",
    [
        ["tokens/weight", *(f"body/block_{n}/{name}" for n in range(12) for name in BLOCK)],
        [f"layers/{n}/a_part_that_is_long/{leaf}" for n in range(3) for leaf in ("weight", "bias")],
        [f"{'a' * 20}{n}{'b' * 20}" for n in range(12)],
        [f"{'a' * n}" for n in range(20, 40)],
        ["a_b/" + "c" * 30, "a b/" + "c" * 30],
    ],
)
def test_different_names_have_different_labels(names):
    for letters in (12, 20, 22):
        labels = shortened(names, letters)
        assert len(set(labels)) == len(names) and max(map(len, labels)) <= letters
    twice = shortened([*names, *names], 20)
    assert twice[: len(names)] == twice[len(names) :] and len(set(twice)) == len(names)


def test_labels_of_blocks_say_which_part_of_which_block():
    names = [f"body/block_{n}/{name}" for n in (1, 2) for name in BLOCK]
    assert shortened(["tokens/weight", *names, "body/norm/scale"], 20)[:8] == [
        "tokens", "block 1/key", "block 1/output", "block 1/query", "block 1/value",
        "block 1/norm", "block 1/mlp/hidden", "block 1/mlp/output",
    ]  # fmt: skip
    # Numbers are never left out, nor what they count.
    names = [f"layers/{n}/projection/{leaf}" for n in (0, 1) for leaf in ("weight", "bias")]
    assert shortened(names, 14) == ["layers/0", "layers/0/bias", "layers/1", "layers/1/bias"]
    assert shortened(names, 10)[0] == "layers/0"


# --- That the tests of pictures can fail ---------------------------------------------------------


def test_overlaps_are_found_and_what_is_slanted_is_judged_by_its_own_box():
    figure, axes = scheme.canvas()
    assert overlaps(figure) == []
    axes.text(0.5, 0.5, "one", fontsize=8)
    axes.text(0.52, 0.52, "another", fontsize=8)
    axes.text(0.5, 0.5, "unseen", fontsize=8, visible=False)
    axes.text(0.99, 0.2, "too long for this", fontsize=8).set_in_layout(False)
    assert overlaps(figure) == [
        ("one", "another"), ("too long for this", "the edge of the figure"),
    ]  # fmt: skip
    assert "another" in texts(figure) and "unseen" not in texts(figure)
    with pytest.raises(AssertionError):
        legible(figure)
    figure, axes = scheme.canvas()
    for place in (0.4, 0.5):
        axes.text(place, 0.2, "a slanted name", fontsize=8, rotation=30)
    assert overlaps(figure) == []
    axes.text(0.1, 0.8, "tiny", fontsize=5)
    with pytest.raises(AssertionError):
        legible(figure)


def test_a_picture_without_a_bar_or_a_label_or_of_another_colour_is_another_picture():
    whole = render(picture())

    def without(change):
        figure = picture()
        change(figure.axes[0])
        return difference(render(figure), whole)

    assert difference(render(picture()), whole) == 0
    assert without(lambda axes: axes.patches[1].remove()) > TOLERANCE
    assert without(lambda axes: axes.xaxis.label.set_alpha(0)) > TOLERANCE
    assert without(lambda axes: axes.patches[1].set_color(scheme.COLOURS[2])) > TOLERANCE
    # Other versions of the letters draw them a little differently, and that is the same picture.
    with matplotlib.rc_context({"text.hinting": "none"}):
        assert difference(render(picture()), whole) < TOLERANCE
    moved = np.roll(whole, 2, axis=(0, 1))
    assert difference(moved, whole) < TOLERANCE
