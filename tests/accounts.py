"""Accounts for every number on the page of a run: each has to be the one that is expected.

`Account(page)` compares the numbers of a section, in their order, with values that the test
computes. A number that is shown and not expected fails, and so does one that is not shown:

    Account(page).section("speed", ["what", "how much", "memory of the process, at most", 1e6])

Left out are: times, which depend on the machine, and stand as "a time"; the ticks and sizes in
pictures; the names of classes below the bars of an example; and the introductions, which are the
same on every page.
"""

import re

from tests.pages import plain

RAISED = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"
POWER = str.maketrans(RAISED, "-0123456789")
NUMBER = re.compile(
    rf"(?<![A-Za-z_])(?P<digits>[−-]?\d+(?:,\d{{3}})*(?:\.\d+)?)(?:×10(?P<power>[{RAISED}]+))?"
    r" ?(?P<unit>%|[kMG]?B\b|million|billion)?"
)
UNITS = {"%": 0.01, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "million": 1e6, "billion": 1e9}
TIME = re.compile(r"\d[\d.]* (day|hour|minute|second)s?\b")
PICTURES = {"script", "style", "svg", "nav", "footer"}
OUTSIDE = {"bars", "ticks", "lead"}
NOISE = 3e-6  # of float32, relative


def matches(found, value):
    """Returns whether a number that is shown is the value, rounded at its last digit."""
    digits, unit = found["digits"].replace(",", "").replace("−", "-"), found["unit"]
    scale = UNITS.get(unit, 1) * 10.0 ** int((found["power"] or "⁰").translate(POWER))
    if unit == "%" and digits in ("0", "100"):  # only exactly none and all are shown so
        return abs(float(digits) / 100 - value) < NOISE
    if isinstance(value, int) and unit is None and found["power"] is None:
        return digits == str(value)
    half = 0.5 * scale * 10.0 ** -len(digits.partition(".")[2])
    return abs(float(digits) * scale - value) <= half + NOISE * abs(value)


def same(name, texts, values):
    """Compares texts with one number each with values."""
    Account.compare(name, [(False, read(text)) for text in texts], values)


def read(text):
    """Returns a text of a page for comparison: without times, and powers with their factor."""
    text = TIME.sub("a time", plain(text).strip())
    return re.sub(r"(?<![\d×])10(?=[⁻¹²³⁴-⁹])", "1×10", text)


class Account:
    """The numbers on a page, and which of them have been compared."""

    def __init__(self, page):
        self.texts, self.left = {}, {}
        for opened, text in page.texts:
            classes = {e.get("class") for e in opened.values()}
            if PICTURES & opened.keys() or OUTSIDE & classes or "body" not in opened:
                continue
            name = opened["section"]["id"] if "section" in opened else "header"
            text = read(text)
            is_cell = "td" in opened or "th" in opened
            if is_cell or re.search(r"\d", text):
                self.texts.setdefault(name, []).append((is_cell, text))

    def section(self, name, expected):
        """Compares a section with texts and numbers in their order; texts are those of cells."""
        self.compare(name, self.texts.pop(name, []), expected)

    @staticmethod
    def compare(name, texts, expected):
        """Compares texts, of which some are cells of tables, with what is expected."""
        left, done = [*expected], []
        for is_cell, text in texts:
            if left and isinstance(left[0], str) and left[0] == text:
                done.append(left.pop(0))
                continue
            found = [*NUMBER.finditer(text)]
            assert found or not is_cell, (name, "a cell", text, "expected", left[:3], done[-3:])
            for each in found:
                value = left.pop(0) if left else "no more numbers"
                known = not isinstance(value, str) and matches(each, value)
                assert known, (name, text, "shows", each[0], "expected", value, "after", done[-3:])
                done.append(value)
        assert not left, (name, "expected, and not shown", left)

    def closed(self, *without):
        """Asserts that no number is left on the page, apart from some sections."""
        left = {name: texts for name, texts in self.texts.items() if name not in without}
        assert not left, left
