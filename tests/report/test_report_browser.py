"""The report in a browser, as a reader has it: headless Chromium, where there is one."""

import json
import shutil

import numpy as np
import pytest

from jaxnn import report
from jaxnn.pictures._network import drawn_order
from jaxnn.storage import recording
from tests.recorded import MOMENTS, curve, digits, write
from tests.report.test_report import hostile

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[test]'")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium: apt-get install chromium"
)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Reports of every kind, by their names, and the directory of the run on digits."""
    folder = tmp_path_factory.mktemp("browser")
    digits(folder / "digits")
    found = {"digits": report.write(folder / "digits")}
    rates = [0.001, 0.01, 0.1, 1.0]
    rows = curve(
        6,
        test__accuracy=lambda t: [0.5 * t, 0.7 * t, 0.9 * t, None],
        train__loss=lambda t: [2 - t, 1.5 - t, 1.2 - t, None],
    )
    last = {name: value for name, value in rows[-1].items() if "/" in name}
    ends = {"members": 4, "steps": [60] * 4, "status": ["done"] * 3 + ["diverged"], "seconds": 1.0}
    write(folder / "population", {"learning_rate": rates, "seed": 0}, rows, ends | last)
    found["population"] = report.write(folder / "population")
    rows = curve(6, test__accuracy=lambda t: 0.9 * t, train__loss=lambda t: 1.2 - t)
    write(folder / "plain", {"learning_rate": 0.2}, rows, {"steps": 60, "seconds": 1.0})
    runs = [folder / "digits", folder / "plain"]
    found["compare"] = report.write_comparison(runs, folder / "compare.html")
    return found


@pytest.fixture
def opened(browser, places):
    """Returns `opened(name or file, **context)`, a page without errors and without requests."""
    contexts, wrong = [], []

    def open_page(name, **settings):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or wrong.append(r.url))
        page.goto(places.get(name, name).as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def shown(page):
    """Returns what the slider moves: step, accuracy, loss, what is said, wires and images."""
    return page.evaluate(
        """() => ({
          step: document.getElementById("at-step").textContent,
          accuracy: document.querySelector("#at-value data").value,
          loss: document.getElementById("at-second").textContent,
          guesses: [...document.querySelectorAll(".live .guess bdi")].map((e) => e.textContent),
          marks: [...document.querySelectorAll(".live .mark")].map((e) => e.textContent),
          wires: [...document.querySelectorAll('[id="net-wires:3"] path')].map((e) =>
            [getComputedStyle(e).stroke, parseFloat(getComputedStyle(e).strokeWidth)]),
          bars: [...document.querySelectorAll(".live .bars u")].map((e) =>
            e.getBoundingClientRect().height),
          images: document.getElementById("filters").toDataURL(),
          says: document.getElementById("moment").getAttribute("aria-valuetext"),
        })"""
    )


def test_the_slider_shows_the_moment(opened, places):
    page = opened("digits")
    run = places["digits"].parent
    recorded = recording.read(run)
    labels = recorded.probe["labels"][:12]
    page.focus("#moment")
    page.keyboard.press("Home")
    seen = []
    for place, frame in enumerate(recorded.frames):
        now = shown(page)
        arrays = frame.arrays
        assert now["step"] == f"{MOMENTS[place]:,}" and f"step {MOMENTS[place]:,}:" in now["says"]
        assert float(now["accuracy"]) == pytest.approx(float(arrays["metrics/accuracy"]))
        assert float(now["loss"]) == pytest.approx(float(arrays["metrics/loss"]), rel=1e-3)
        guesses = arrays["outputs"][:12].argmax(-1)
        assert now["guesses"] == [str(guess) for guess in guesses]
        marks = [
            "✓ right" if guess == label else f"✗ wrong: it is {label}"
            for guess, label in zip(guesses, labels)
        ]
        assert now["marks"] == marks
        seen.append(now)
        page.keyboard.press("ArrowRight")
    assert len({now["images"] for now in seen}) == len(seen)
    # Wires: width and colour by the rule that the pictures have.
    weights = np.stack([frame.arrays["wires/layers/output/weight"] for frame in recorded.frames])
    scale = max(
        np.abs(array).max()
        for frame in recorded.frames
        for name, array in frame.arrays.items()
        if name.startswith("wires/")
    )
    order = drawn_order(weights[-1])
    for now, weight in zip(seen, weights):
        widths = 0.2 + 2.2 * np.abs(weight.ravel()[order]) / scale
        np.testing.assert_allclose([width for _, width in now["wires"]], widths, atol=0.02)
        blue = sum(colour == "rgb(44, 103, 171)" for colour, _ in now["wires"])
        assert abs(blue - (weight >= 0).sum()) <= 2  # of those that are nearly 0
    heights = np.array(seen[-1]["bars"]).reshape(12, 10)
    assert (heights.argmax(-1) == recorded.frames[-1].arrays["outputs"][:12].argmax(-1)).all()


def test_the_slider_shows_what_was_written(opened, tmp_path):
    run = tmp_path / "run"
    digits(run)
    recorded, folder = recording.read(run), run / recording.FOLDER
    recording.write(folder, recording.PROBE, recorded.probe | {"text": np.array(["a ", "<b>"])})
    for step, arrays in recorded.frames:
        own = {"text": np.array([f"first {step}", f"</p>second {step}"])}
        recording.write(folder, recording.frame_name(step), arrays | own)
    page = opened(report.write(run))
    for key, step in (("End", MOMENTS[-1]), ("Home", 0), ("ArrowRight", MOMENTS[1])):
        page.focus("#moment")
        page.keyboard.press(key)
        texts = page.locator("#written .text").all_text_contents()
        assert texts == [f"a first {step}", f"<b></p>second {step}"]
    folded = page.locator("#texts .own").all_text_contents()  # without the script
    assert folded[::2] == [f"first {step}" for step in MOMENTS]


def test_it_plays_and_stops(opened):
    page = opened("digits")
    page.clock.install(time=0)
    page.clock.pause_at(60_000)  # time passes when the test says so, however busy the machine
    page.click("#play")
    assert page.text_content("#play") == "❚❚ Pause" and shown(page)["step"] == "0"
    page.clock.run_for(900)
    assert shown(page)["step"] == "5"
    page.click("#play")
    page.clock.run_for(2000)
    assert shown(page)["step"] == "5" and page.text_content("#said").startswith("training step 5:")
    page.click("#play")
    page.clock.run_for(10_000)
    assert shown(page)["step"] == "240" and page.text_content("#play") == "▶ Play"


def test_the_numbers_are_those_of_the_result(opened, places):
    page = opened("digits")
    result = json.loads((places["digits"].parent / "result.json").read_text())
    told = page.eval_on_selector_all(
        "#numbers data", "all => all.map((each) => Number(each.value))"
    )
    assert {v for name, v in result.items() if "/" in name} <= set(told)
    right = f"{100 * result['test/accuracy']:.1f} %"
    assert right in page.text_content("h1").replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("digits", "light"), ("digits", "dark"), ("population", "light"), ("compare", "dark")],
)
def test_everybody_can_read_it(name, scheme, opened):
    """Names of controls and pictures, contrast, headings and landmarks, as axe checks them."""
    from axe_playwright_python.sync_playwright import Axe

    page = opened(name, color_scheme=scheme)
    page.eval_on_selector_all("details", "all => all.forEach((each) => { each.open = true; })")
    rules = {"values": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"], "type": "tag"}
    found = Axe().run(page, options={"runOnly": rules, "resultTypes": ["violations"]}).response
    broken = [
        (each["id"], [node["target"] for node in each["nodes"]][:3]) for each in found["violations"]
    ]
    assert broken == []


def test_light_and_dark(opened):
    def paper(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = "rgb(255, 255, 255)", "rgb(22, 24, 29)"
    page = opened("digits", color_scheme="light")
    assert paper(page) == light
    page.focus("#theme")
    page.keyboard.press("Enter")
    assert paper(page) == dark and page.get_attribute("#theme", "aria-pressed") == "true"
    ink = page.evaluate(
        """getComputedStyle(document.querySelector("#curves-picture, #curves svg text")).fill"""
    )
    assert ink not in ("rgb(36, 40, 46)", "rgb(0, 0, 0)")
    assert paper(opened("digits", color_scheme="dark")) == dark


@pytest.mark.parametrize("name", ["digits", "population", "compare"])
def test_a_phone_has_room_for_it(name, opened):
    page = opened(name, viewport={"width": 375, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    small = page.eval_on_selector_all(
        "button, input, summary",
        "all => all.filter((e) => e.getBoundingClientRect().height < 40).map((e) => e.outerHTML)",
    )
    assert small == []


def test_paper_has_all_of_it_and_no_controls(opened):
    page = opened("population")
    page.emulate_media(media="print")
    page.wait_for_selector("details:not([open])", state="detached")
    for control in ("button", "nav"):
        assert not page.is_visible(control)
    page = opened("digits")
    page.emulate_media(media="print")
    assert not page.is_visible("#moment") and page.is_visible("#net-figure_1")
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_what_a_run_says_runs_nothing(opened, tmp_path):
    hostile(tmp_path / "run")
    page = opened(report.write(tmp_path / "run"), viewport={"width": 375, "height": 700})
    page.focus("#moment")
    page.keyboard.press("Home")
    assert page.text_content("#at-step") == "0"
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    assert page.query_selector("#injected, [onerror], [onload]") is None
