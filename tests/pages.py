"""What is on the page of a run: its elements with their attributes, and its words."""

import re
from html.parser import HTMLParser

from jaxnn import report

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "\"'><b id=injected>&amp;",
    "\u202e\u200fgnorw\u2066",
    "</title></style><svg onload=alert(1)>",
    "$\\frac{1}{$ %s {0} \\x00\x00\x1b[31m",
    "x" * 10_000,
    "\ud800",
)
CELLS = {"td", "th"}
VOID = {"br", "hr", "img", "input", "link", "meta"}


class Page(HTMLParser):
    """What is on a page: its elements with their attributes and the text in them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.wrong = [], [], []
        self.texts = []  # pieces of text, and whole cells of tables, each in its open elements
        self.feed(text)
        self.close()
        assert not self.wrong and not self.open, (self.wrong, self.open)

    def handle_starttag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})
        if tag not in VOID:
            self.open.append((tag, self.elements[-1]))

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag):
        if tag in CELLS and self.open:
            self.texts.append((dict(self.open), self.open[-1][1]["text"]))
        if not self.open or self.open.pop()[0] != tag:
            self.wrong.append((tag, self.getpos()))

    def handle_data(self, data):
        if not any(tag in CELLS for tag, _ in self.open):
            self.texts.append((dict(self.open), data))
        for _, element in self.open:
            element["text"] += data

    def all(self, tag, **attributes):
        given = attributes.items()
        return [
            e for e in self.elements if e["tag"] == tag and all(e.get(k) == v for k, v in given)
        ]

    def text(self, name):
        return next(e["text"] for e in self.elements if e.get("id") == name)


def plain(text):
    return text.replace("\u00a0", " ")


def page_of(out):
    """Writes the report of a run, and returns it."""
    return Page(report.write(out).read_text())


def words(text):
    """Returns the words of a page in one line, without its script and its style."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))
