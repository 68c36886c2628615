"""How the progress of a run is shown: in lines, on a terminal, and in a notebook."""

import contextlib
import io
import math
import os
import re
import subprocess
import sys
import types

import jax
import optax
import pytest
import rich.console
from rich.cells import cell_len

import jaxnn
from jaxnn.driver import speed
from jaxnn.formatting import any_letters
from jaxnn.progress.display import LINES, Moment, describe, screen, shown
from jaxnn.scale.memory import Used, used, used_by


@pytest.mark.parametrize("every", [1, 7, 100])
def test_off_a_terminal_there_are_plain_lines_and_not_many(capsys, every):
    steps, rate = [*range(every, 1000, every), 1000], [None]
    with shown(1000, rate=lambda: rate[0]) as show:
        for step in steps:
            show(step, {})  # chunks between reports print nothing
            show(step, {"train/loss": 1 / step})
            rate[0] = 50.0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "compiling"
    assert min(len(steps), LINES) - 2 <= len(lines) <= LINES + 1
    assert lines[0] == f"step {every}/1000, train/loss {1 / every:.4g}"
    form = r"step \d+/1000, train/loss [\d.e-]+, 50 steps/s, 0:00:\d\d left"
    assert all(re.fullmatch(form, each) for each in lines[1:])
    assert lines[-1].startswith("step 1000/1000") and lines[-1].endswith(" 0:00:00 left")


def test_the_last_report_of_a_run_that_ends_early_is_a_line(capsys):
    with shown(1000, rate=lambda: 9.0) as show:
        for step in range(10, 300, 10):
            show(step, {"test/accuracy": step / 1000})
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("step 290/1000, test/accuracy 0.29,") and len(lines) < 10


def test_the_lines_of_a_second_run_begin_anew(capsys):
    with screen() as draw:
        for total in (100, 100_000):
            draw(Moment(10, total))
            draw(Moment(total, total))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["step 10/100", "step 100/100", "step 10/100000", "step 100000/100000"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("terminal", [True, False])
def test_any_encoding_can_show_it(monkeypatch, encoding, terminal):
    bytes_ = io.BytesIO()
    file = io.TextIOWrapper(bytes_, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", file)
    console = rich.console.Console(file=file, force_terminal=terminal, width=60)
    monkeypatch.setattr(rich.console, "Console", lambda: console)
    with screen() as draw:
        draw(Moment(3, 7, 1.0, {"größe/日本": 1.0, "a/" + "b" * 99: 2.0}, lambda: used_by()))
    file.flush()
    text = bytes_.getvalue().decode(encoding)
    assert "step 3/7" in text and "e/" in text and ("日本" in text) == (encoding == "utf-8")


@pytest.mark.parametrize("errors, shown", [("replace", "K?ln"), ("backslashreplace", r"K\xf6ln")])
def test_letters_that_an_encoding_lacks_are_replaced(monkeypatch, errors, shown):
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_, encoding="ascii"))
    any_letters(errors)
    print("Köln", flush=True)
    assert bytes_.getvalue().decode() == f"{shown}\n"


PROGRAM = """
import sys
import jax, numpy, optax, jaxnn

data = {"inputs": numpy.ones((4, 1), "f4"), "labels": numpy.ones((4, 1), "f4")}
learner = jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.1))
data = jaxnn.resident(data, batch_size=4)
for encoding in sys.argv[1:]:
    sys.stdout.reconfigure(encoding=encoding)
    jaxnn.fit(learner, data, steps=3, every=1, key=jax.random.key(0))
"""


@pytest.mark.slow
def test_a_training_is_shown_in_a_terminal_of_any_encoding():
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    encodings = ["latin-1", "ascii", "cp1252"]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *encodings],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
        text=True,
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # its end
            while part := os.read(ours, 4096):
                shown += part
        os.close(ours)
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    assert shown.count(b"3/3") >= 3 or shown.count(b"train/loss") >= 3


@pytest.fixture
def terminal(monkeypatch):
    """Returns `terminal(**of_console)`, which makes a screen of which the text can be read."""

    def console_with(**settings):
        console = rich.console.Console(
            **{"file": io.StringIO(), "force_terminal": True, "width": 120, **settings}
        )
        monkeypatch.setattr(rich.console, "Console", lambda: console)
        return console.file

    return console_with


def test_on_a_terminal_there_is_a_bar_the_pace_the_metrics_a_sparkline_and_the_memory(terminal):
    file = terminal()
    with shown(200, rate=lambda: 50.0) as show:
        show(50, {"train/loss": 0.5})
        show(100, {"train/loss": 0.25, "test/accuracy": 0.75})
        show(200, {})  # the metrics stay
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", file.getvalue())
    bar, metrics, more = (line.strip() for line in text.splitlines()[-3:])
    assert "\x1b[" in file.getvalue()
    assert re.fullmatch(r"step 200/200 ━{40} 50 steps/s, 0:00:00 left", bar)
    assert metrics == "train/loss 0.25, test/accuracy 0.75"
    memory = r"memory [\d.]+ [kMG]B, peak [\d.]+ [kMG]B"
    assert re.fullmatch(f"loss █▁, {memory}", more)


def test_the_peak_of_the_memory_and_losses_that_are_not_finite_are_shown(terminal):
    file = terminal()
    with screen() as draw:
        draw(Moment(1, 2, metrics={"test/loss": [3.0, math.nan, 5.0]}))
        draw(Moment(2, 2, metrics={"test/loss": [math.inf]}, memory=lambda: Used(5, 6, "device")))
    assert "test/loss nan (best nan)\nloss ▁✗, device memory 5 B, peak 6 B" in file.getvalue()


def test_until_the_first_step_it_says_that_it_compiles(terminal):
    file = terminal()
    with shown(200, rate=lambda: None):
        pass
    assert re.search(r"step 0/200 .* compiling", file.getvalue())


def test_a_terminal_is_drawn_seldom_and_once_more_at_the_end(terminal):
    file = terminal()
    with shown(10_000, rate=lambda: 1.0) as show:
        for step in range(1, 10_001):
            show(step, {"train/loss": 1.0 / step})
    assert file.getvalue().count("steps/s") < 100
    assert "step 10000/10000" in file.getvalue()


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(terminal, monkeypatch, capsys):
    monkeypatch.setenv("TERM", "dumb")
    terminal()
    with shown(200, rate=lambda: None) as show:
        show(200, {"train/loss": 0.5})
    assert capsys.readouterr().out == "compiling\nstep 200/200, train/loss 0.5\n"


MOMENTS = [
    Moment(0, 200),
    Moment(3, None, 1e-12, {"train/loss": math.nan}),
    Moment(1_234_567, 987_654_321, 1e9, {"train/loss": 1.0}),
    Moment(5, 0, 3.0, {"test/" + "accuracy" * 20: 0.5}, lambda: Used(10**12, 10**12, "device")),
    Moment(5, 10, 1.0, {"train/loss": [0.5] * 5, "running": 5}, lambda: used_by()),
    Moment(7, 9, 1e-9, {}, lambda: Used(None, None, "process")),
]


@pytest.mark.parametrize("width", [1, 12, 24, 40, 79, 200])
def test_nothing_is_wider_than_the_terminal(terminal, width):
    file = terminal(width=width, color_system=None)
    for moment in MOMENTS:
        with screen() as draw:
            draw(moment)
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "\n", file.getvalue())
    assert all(cell_len(each) <= width for each in re.split(r"[\r\n]", text))


def test_a_line_is_one_line_and_steers_no_terminal(capsys):
    with screen() as draw:
        draw(Moment(1, 2, None, {"a/\x1b[2J\nb\x07": 1.0}, name="a\n\x1b"))
        draw(Moment(3))
        draw(Moment(3, 3, 0.0))
    assert capsys.readouterr().out.splitlines() == [
        "a ?: step 1/2, a/?[2J b? 1", "step 3", "step 3/3",
    ]  # fmt: skip


def test_a_notebook_without_widgets_gets_lines(terminal, monkeypatch, capsys):
    terminal(force_jupyter=True, force_terminal=False)
    monkeypatch.setattr("jaxnn.progress.display.find_spec", lambda name: None)
    with shown(200, rate=lambda: None) as show:
        show(200, {"train/loss": 0.5})
    assert capsys.readouterr().out == "compiling\nstep 200/200, train/loss 0.5\n"


def test_quiet_says_nothing(capsys):
    with shown(10, rate=lambda: None, quiet=True) as show:
        show(10, {"train/loss": 0.5})
    assert capsys.readouterr() == ("", "")


def test_metrics_are_described_in_four_figures():
    assert (
        describe({"train/loss": 0.123456, "test/r2": 1.0, "test/n": 1e-9})
        == "train/loss 0.1235, test/r2 1, test/n 1e-09"
    )


def test_a_population_is_described_by_its_counts_and_the_mean_and_best_of_its_members():
    row = {"running": 2, "train/loss": [1.0, math.nan, 3.0], "test/accuracy": [0.5, 0.7, 0.6]}
    assert describe(row) == (
        "2 running, 1 stopped, train/loss 2 (best 1), test/accuracy 0.6 (best 0.7)"
    )
    assert describe(row | {"running": 3}).startswith("3 running, train/loss")


def test_waiting_for_data_is_shown_where_it_matters(capsys):
    for share in (None, 0.001, 0.25):
        with shown(10, rate=lambda: 5.0, waiting=lambda: share) as show:
            show(10, {"train/loss": 0.5})
        line = capsys.readouterr().out
        assert ("left, waiting for data 25%" in line) is (share == 0.25)


def test_the_rate_is_that_of_recent_chunks_and_without_compiling(monkeypatch):
    now = [0.0]
    clock = types.SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(speed, "time", clock)
    data = jaxnn.resident({"inputs": [[1.0]], "labels": [[1.0]]}, batch_size=1)
    learner = jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.1))
    training = jaxnn.train(learner, data, steps=9, key=jax.random.key(0))
    measured, step = speed.Speed(training), 0
    assert measured.recent() is None

    def chunk(seconds, compiling=0.0):
        nonlocal step
        step, now[0] = step + 10, now[0] + seconds + compiling
        if compiling:
            speed._listen(speed._COMPILED, compiling)
        measured.at(step)

    chunk(1.0, compiling=30.0)
    assert measured.recent() is None  # the first chunk has no beginning
    chunk(1.0, compiling=7.0)  # an evaluation's program
    chunk(1.0)
    assert measured.recent() == pytest.approx(10.0)
    for _ in range(speed.RECENT):
        chunk(2.0)
    assert measured.recent() == pytest.approx(5.0)


def test_memory_is_that_of_this_process_on_a_cpu():
    block = bytearray(50_000_000)
    block[::4096] = b"x" * len(block[::4096])
    memory = used()
    assert memory.of == "process" and memory.peak >= 50_000_000
    if memory.now is not None:
        assert 50_000_000 < memory.now <= memory.peak * 1.01
    assert used_by(2**30) == Used(None, None, "process")


def test_memory_is_that_of_the_device_which_tells_it(monkeypatch):
    class Device:
        platform = "gpu"

        def __init__(self, **stats):
            self.memory_stats = lambda: stats or None

    devices = [
        Device(bytes_in_use=5, peak_bytes_in_use=9),
        Device(bytes_in_use=7, peak_bytes_in_use=8),
        Device(),
    ]
    monkeypatch.setattr("jax.local_devices", lambda: devices)
    assert used() == Used(5, 9, "device")
    monkeypatch.setattr("jax.local_devices", lambda: devices[2:])
    assert used().of == "process"
