"""How a run is shown while it goes on: plain lines, or a bar on a terminal."""

import io
import re

import pytest
import rich.console

from jaxnn.records.progress import LINES, describe, shown


@pytest.mark.parametrize("every", [1, 7, 100])
def test_off_a_terminal_there_are_plain_lines_and_not_many(capsys, every):
    steps = [*range(every, 1000, every), 1000]
    with shown(1000) as show:
        for step in steps:
            show(step, {})  # chunks between reports say nothing
            show(step, {"train/loss": 1 / step})
    lines = capsys.readouterr().out.splitlines()
    assert min(len(steps), LINES) - 2 <= len(lines) <= LINES + 1
    assert lines[0].startswith(f"step {every}/1000, train/loss {1 / every:.4g}, ")
    form = r"step \d+/1000, train/loss [\d.e-]+, [\d,]+ steps/s, \d:\d\d:\d\d left"
    assert all(re.fullmatch(form, line) for line in lines)
    assert lines[-1].startswith("step 1000/1000") and lines[-1].endswith(" 0:00:00 left")


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    screen = io.StringIO()
    console = rich.console.Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(rich.console, "Console", lambda: console)
    with shown(200) as show:
        show(50, {"train/loss": 0.5})
        show(200, {})  # keeps the words
    text = screen.getvalue()
    last = [line for line in text.splitlines() if "step 200/200" in line][-1]
    assert "\x1b[" in text and "━" in last and "steps/s" in last


def test_quiet_says_nothing(capsys):
    with shown(10, quiet=True) as show:
        show(10, {"train/loss": 0.5})
    assert capsys.readouterr() == ("", "")


def test_metrics_are_described_in_four_figures():
    assert (
        describe({"train/loss": 0.123456, "test/r2": 1.0, "test/n": 1e-9})
        == "train/loss 0.1235, test/r2 1, test/n 1e-09"
    )
