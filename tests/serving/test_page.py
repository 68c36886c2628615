"""The page in a browser, as a person has it: headless Chromium, where there is one."""

import json
import shutil
from datetime import date, timedelta

import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.serving.served import open_model
from tests.serving.clients import serving

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[test]'")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium: apt-get install chromium"
)

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
# A three, of points from 0 to 1.
THREE = [(0.3, 0.28), (0.45, 0.2), (0.62, 0.25), (0.63, 0.38), (0.48, 0.48), (0.62, 0.55),
         (0.66, 0.7), (0.5, 0.8), (0.3, 0.73)]  # fmt: skip
LINE = [(0.5, 0.15), (0.5, 0.5), (0.5, 0.85)]

WRONG_ROWS = [[], [3], "size", None, [{"sise": 1}], [{"size": "large"}], [{"size": [1]}],
              [{"size": 1}, {"size": "x"}], [{"seen": "soon"}], [{"colour": {}}]]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Returns `opened(client, path="/", **context)`, a page without errors or other requests."""
    contexts, wrong = [], []

    def open_page(client, path="/", **settings):
        context = browser.new_context(**{**DESKTOP, "reduced_motion": "reduce", **settings})
        contexts.append(context)
        client.closing.callback(context.close)
        page = context.new_page()
        home = f"http://127.0.0.1:{client.port}/"
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: r.url.startswith((home, "data:")) or wrong.append(r.url))
        page.goto(home + path.lstrip("/"))
        page.wait_for_selector("section")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def reads(page, text):
    """Waits until the page says what was read."""
    from playwright.sync_api import expect

    expect(page.locator("#value")).to_have_text(text, timeout=60_000)


def draw(page, points):
    box = page.locator("#pad").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


def touch(page, points):
    """Draws by a finger."""
    box = page.locator("#pad").bounding_box()
    places = [
        {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in points
    ]
    session = page.context.new_cdp_session(page)
    for place, kind in zip(places, ["touchStart"] + ["touchMove"] * len(places)):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [place]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def heights(page):
    """Returns the shares of the bars, as they are drawn."""
    return page.eval_on_selector_all(
        "#bars i",
        "all => all.map((e) => e.getBoundingClientRect().height / e.parentNode.clientHeight)",
    )


def pictures(page):
    return page.eval_on_selector_all(".stage canvas", "all => all.map((e) => e.toDataURL())")


@pytest.mark.parametrize(
    ("settings", "hand"), [(DESKTOP, draw), (PHONE, touch)], ids=["desktop", "phone"]
)
def test_a_digit_is_drawn_and_read(settings, hand, opened, client):
    page = opened(client, **settings)
    assert page.text_content("#value") == "?" and max(heights(page)) == 0
    before = pictures(page)
    assert len(before) == 2  # what it sees, and a hidden layer
    hand(page, THREE)
    reads(page, "3")
    assert page.text_content("li.best .name") == "3"
    assert page.text_content("#sure").endswith("% sure") and page.is_hidden("#wrong")
    after = pictures(page)
    assert all(old != new for old, new in zip(before, after))
    # The bars are the probabilities of the answer.
    assert np.argmax(heights(page)) == 3 and sum(heights(page)) == pytest.approx(1, abs=0.05)
    page.click("#clear")
    reads(page, "?")
    page.wait_for_timeout(50)
    assert pictures(page) == before
    page.keyboard.press("Escape")
    hand(page, LINE)
    reads(page, "1")
    hand(page, [(0.2, 0.85), (0.8, 0.85)])
    page.click("#undo")
    reads(page, "1")


@pytest.mark.slow
def test_every_digit_that_it_shows_is_read(opened, client):
    page = opened(client)
    for digit in (3, 4, 5, 6):
        page.click("#show")
        reads(page, str(digit))


def test_a_phone_has_room_for_it(opened, client):
    page = opened(client, **PHONE)
    draw(page, THREE)
    reads(page, "3")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    bars = page.locator("#bars").bounding_box()
    assert bars["y"] + bars["height"] < 844  # seen while one draws
    small = page.eval_on_selector_all(
        "button, input, select",
        "all => all.filter((e) => e.getBoundingClientRect().height < 40).map((e) => e.outerHTML)",
    )
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_everybody_can_read_it(path, scheme, opened, client):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(client, path, color_scheme=scheme)
    if path == "/":
        draw(page, THREE)
        reads(page, "3")
    rules = {"values": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"], "type": "tag"}
    result = Axe().run(page, options={"runOnly": rules, "resultTypes": ["violations"]}).response
    broken = [
        (each["id"], [node["target"] for node in each["nodes"]][:3])
        for each in result["violations"]
    ]
    assert broken == []


def test_light_and_dark(opened, client):
    page = opened(client, color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    draw(page, THREE)
    light = page.evaluate("document.getElementById('pad').toDataURL()")
    page.click("#theme")
    assert page.evaluate(paper) == "rgb(22, 24, 29)"
    assert page.evaluate("document.getElementById('pad').toDataURL()") != light


def test_a_token_comes_with_the_address_and_leaves_it(opened, served):
    with serving(served, token="secret+/=") as client:
        page = opened(client, "/#token=secret%2B%2F%3D")
        assert page.url.endswith(f":{client.port}/")
        draw(page, THREE)
        reads(page, "3")


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """A run on a table of numbers, names and dates."""
    import jax

    pytest.importorskip("polars", reason="polars is not installed: pip install -e '.[data]'")
    random = np.random.default_rng(0)
    size = random.normal(5, 2, 200)
    table = {
        "size": size.tolist(),
        "colour": [("red", "blue")[n] for n in random.integers(2, size=200)],
        "seen": [date(2026, 1, 1) + timedelta(int(n)) for n in random.integers(365, size=200)],
        "kind": [("daisy", "rose")[int(n > 5)] for n in size],
    }
    columns = jaxnn.fit_columns(table, labels="kind")
    learner = jaxnn.learner(columns.network((8,)), columns.objective(), optax.adam(1e-2))
    data = jaxnn.resident(columns.encode(table), batch_size=50)
    out = tmp_path_factory.mktemp("table") / "flowers"
    jaxnn.fit(learner, data, steps=200, key=jax.random.key(0), out=out)
    return out


@pytest.mark.slow
def test_a_row_is_filled_in_and_predicted(opened, flowers):
    served = open_model(flowers)
    served.warm()
    with serving(served) as client:
        page = opened(client, **PHONE)
        for size, kind in (("1.5", "daisy"), ("9", "rose")):
            page.get_by_label("size", exact=True).fill(size)
            reads(page, str(kind))
        page.get_by_label("colour", exact=True).select_option(label="blue")
        page.get_by_label("seen", exact=True).fill("2026-07-01")
        row = {"size": 9, "colour": "blue", "seen": "2026-07-01"}
        answer = client.predict({"rows": [row]})
        expected = jaxnn.load(flowers).predict([row]).to_dicts()[0]
        assert answer["predictions"][0]["kind"] == expected["kind"] == "rose"
        name = "probability of rose"
        assert answer["predictions"][0][name] == pytest.approx(expected[name], rel=1e-4)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        for rows in WRONG_ROWS:
            status, _, answer = client("POST", "/predict", json.dumps({"rows": rows}))
            assert status == 422 and "expected" in answer["error"], rows
