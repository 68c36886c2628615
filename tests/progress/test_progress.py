"""How a run is shown while it goes on: in lines, on a terminal, and in a notebook."""

import io
import math
import re

import pytest
import rich.console
from rich.cells import cell_len

from jaxnn.progress.display import shown
from jaxnn.progress.screen import LINES, Moment, describe, line, lines, screen
from jaxnn.progress.sparkline import sparkline
from jaxnn.scale.memory import Used, used, used_by


@pytest.mark.parametrize("every", [1, 7, 100])
def test_off_a_terminal_there_are_plain_lines_and_not_many(capsys, every):
    steps = [*range(every, 1000, every), 1000]
    with shown(1000) as show:
        for step in steps:
            show(step, {})  # chunks between reports say nothing
            show(step, {"train/loss": 1 / step})
    said = capsys.readouterr().out.splitlines()
    assert min(len(steps), LINES) - 2 <= len(said) <= LINES + 1
    # The first chunk tells no speed: it was compiled.
    assert said[0] == f"step {every}/1000, train/loss {1 / every:.4g}"
    form = r"step \d+/1000, train/loss [\d.e-]+, [\d,]+ steps/s, \d:\d\d:\d\d left"
    assert all(re.fullmatch(form, each) for each in said[1:])
    assert said[-1].startswith("step 1000/1000") and said[-1].endswith(" 0:00:00 left")


def test_the_last_report_of_a_run_that_ends_early_is_a_line(capsys):
    with shown(1000) as show:
        for step in range(10, 300, 10):
            show(step, {"test/accuracy": step / 1000})
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("step 290/1000, test/accuracy 0.29,") and len(said) < 10


@pytest.fixture
def terminal(monkeypatch):
    """Returns `terminal(**of_console)`, which makes a screen of which the text can be read."""

    def made(**settings):
        console = rich.console.Console(
            **{"file": io.StringIO(), "force_terminal": True, "width": 120, **settings}
        )
        monkeypatch.setattr(rich.console, "Console", lambda: console)
        return console.file

    return made


def test_on_a_terminal_there_is_a_bar_a_sparkline_and_the_memory(terminal):
    file = terminal()
    with shown(200) as show:
        show(50, {"train/loss": 0.5})
        show(100, {"train/loss": 0.25, "test/accuracy": 0.75})
        show(200, {})  # keeps the words
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", file.getvalue())
    first, second, third = text.splitlines()[-3:]
    assert "\x1b[" in file.getvalue()
    assert re.fullmatch(r"step 200/200 ━{40}  [\d,]+ steps/s  0:00:00 left", first.strip())
    assert re.fullmatch(r"train/loss █▁ 0.25  memory [\d.]+ [kMG]B, peak .*", second.strip())
    assert third.strip() == "test/accuracy 0.75"


def test_a_terminal_is_drawn_seldom_and_once_more_at_the_end(terminal):
    file = terminal()
    with shown(10_000) as show:
        for step in range(1, 10_001):
            show(step, {"train/loss": 1.0 / step})
    assert file.getvalue().count("steps/s") < 30
    assert "step 10000/10000" in file.getvalue()


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(terminal, monkeypatch, capsys):
    monkeypatch.setenv("TERM", "dumb")
    terminal()
    with shown(200) as show:
        show(200, {"train/loss": 0.5})
    assert capsys.readouterr().out == "step 200/200, train/loss 0.5\n"


MOMENTS = [
    Moment(0, 200),
    Moment(3, None, 1e-12, {"train/loss": math.nan}, [1.0, math.nan]),
    Moment(1_234_567, 987_654_321, 1e9, {"train/loss": 1.0}, [*range(1000)]),
    Moment(5, 0, 3.0, {"test/" + "accuracy" * 20: 0.5}, [], lambda: Used(10**12, 10**12, "device")),
    Moment(5, 10, 1.0, {"train/loss": [0.5] * 5, "running": 5}, [9] * 99, lambda: used_by()),
    Moment(7, 9, 1e-9, {}, [], lambda: Used(None, None, "process")),
]


@pytest.mark.parametrize("width", [1, 12, 24, 40, 79, 200])
def test_nothing_is_wider_than_the_terminal(terminal, width):
    file = terminal(width=width, color_system=None)
    for moment in MOMENTS:
        assert all(cell_len(each) <= width for each in lines(moment, width)[:2])
        with screen() as draw:
            draw(moment)
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "\n", file.getvalue())
    assert all(cell_len(each) <= width for each in re.split(r"[\r\n]", text))


def test_what_does_not_fit_is_left_out_from_the_least_to_the_most():
    moment = Moment(100, 200, 50.0, {"train/loss": 0.25}, [2.0, 1.0] * 30, lambda: Used(5, 6, "x"))
    wide = lines(moment, 100)
    assert wide[0] == f"step 100/200 {'━' * 20}{'╌' * 20}  50 steps/s  0:00:02 left"
    assert wide[1] == f"train/loss {'█▁' * 20} 0.25  memory 5 B, peak 6 B"
    assert lines(moment, 50)[0] == f"step 100/200 {'━' * 5}╸{'╌' * 5}  50 steps/s  0:00:02 left"
    assert lines(moment, 40)[0] == "step 100/200  50 steps/s  0:00:02 left"
    assert lines(moment, 40)[1] == f"train/loss {'█▁' * 12} 0.25"
    assert lines(moment, 26)[:2] == ("step 100/200  50 steps/s", f"train/loss {'█▁' * 5} 0.25")
    assert lines(moment, 12)[0] == "step 100/200"


def test_a_line_is_one_line_and_steers_no_terminal():
    said = line(Moment(1, 2, None, {"a/\x1b[2J\nb\x07": 1.0}))
    assert said == "step 1/2, a/?[2J b? 1"
    assert line(Moment(3)) == "step 3" and line(Moment(3, 9, 0.0)) == "step 3/9"


def test_a_notebook_has_one_line_that_stays_in_place(terminal, monkeypatch):
    display = pytest.importorskip("IPython.display")
    seen = []

    class Handle:
        def update(self, data, raw):
            seen.append(("update", data, raw))

    def shows(data, raw, display_id):
        seen.append(("display", data, raw and display_id))
        return Handle()

    monkeypatch.setattr(display, "display", shows)
    file = terminal(force_jupyter=True)
    with shown(200) as show:
        show(100, {"train/loss": 0.5})
        show(200, {"train/loss": 0.25})
    kinds, data, flags = zip(*seen)
    assert kinds[0] == "display" and set(kinds[1:]) == {"update"} and all(flags)
    form = r"━{20} █▁ step 200/200, train/loss 0.25, [\d,]+ steps/s, 0:00:00 left"
    assert re.fullmatch(form, data[-1]["text/plain"]) and file.getvalue() == ""


def test_quiet_says_nothing(capsys):
    with shown(10, quiet=True) as show:
        show(10, {"train/loss": 0.5})
    assert capsys.readouterr() == ("", "")


def test_metrics_are_described_in_four_figures():
    assert (
        describe({"train/loss": 0.123456, "test/r2": 1.0, "test/n": 1e-9})
        == "train/loss 0.1235, test/r2 1, test/n 1e-09"
    )


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([3.0], "▁"),
        ([2.0, 2.0], "▁▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([-7.0, 0.0], "▁█"),
        ([1e-6, 1e-3, 1.0], "▁▅█"),  # by its logarithm
        ([0.0, 1e-3, 1.0], "▁▁█"),  # of which 0 has none
        ([1.0, math.nan, None, math.inf, 0.0], "█✗✗✗▁"),
        ([math.nan], "✗"),
        ([-1.7e308, 1.7e308], "▁█"),
        ([5e-324, 1.7e308], "▁█"),
    ],
)
def test_a_sparkline_is_high_where_the_value_is(values, drawn):
    assert sparkline(values) == drawn


def test_a_sparkline_has_the_last_of_many():
    assert sparkline([9.0] * 100 + [0.0, 1.0], 2) == "▁█" and sparkline([1.0] * 99, 0) == ""
    assert len(sparkline([1.0] * 99)) == 40


def test_memory_is_that_of_this_process_on_a_cpu():
    block = bytearray(50_000_000)
    block[::4096] = b"x" * len(block[::4096])
    found = used()
    assert found.of == "process" and found.peak >= 50_000_000
    if found.now is not None:
        assert 50_000_000 < found.now <= found.peak * 1.01
    assert used_by(2**30) == Used(None, None, "process")


def test_memory_is_that_of_the_device_which_tells_it(monkeypatch):
    class Device:
        platform = "gpu"

        def __init__(self, **stats):
            self.memory_stats = lambda: stats or None

    told = [
        Device(bytes_in_use=5, peak_bytes_in_use=9),
        Device(bytes_in_use=7, peak_bytes_in_use=8),
        Device(),
    ]
    monkeypatch.setattr("jax.local_devices", lambda: told)
    assert used() == Used(5, 9, "device")
    monkeypatch.setattr("jax.local_devices", lambda: told[2:])
    assert used().of == "process"
