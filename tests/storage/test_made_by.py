"""The command line of a run: saved as it was typed, shown, and no part of what the run is."""

import json
import os
import shlex
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

import jaxnn
from jaxnn import report
from jaxnn.__main__ import main
from jaxnn.checks import Invalid
from jaxnn.storage import command
from jaxnn.storage.directory import Directory
from jaxnn.storage.opening import open_directory
from tests.pages import Page
from tests.recorded import digits, write

ROOT = Path(jaxnn.__file__).parents[1]


def process(monkeypatch, *argv, file="/home/me/there/train.py", spec=None):
    """Makes this process look like one that was started so."""
    module = ModuleType("__main__")
    module.__spec__ = spec and ModuleSpec(spec, None)
    if file is not None:
        module.__file__ = file
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(sys, "argv", [*argv])


@pytest.mark.parametrize(
    ("argv", "options", "line"),
    [
        (["/a/b.py", "--seed", "1"], {"spec": "lab.b"}, "python -m lab.b --seed 1"),
        (["/a/__main__.py"], {"spec": "lab.__main__"}, "python -m lab"),
        (["train.py", "--note", "it's <b>"], {}, "python train.py --note 'it'\"'\"'s <b>'"),
        (["../other/train.py"], {}, "python ../other/train.py"),
        (["/home/me/there/train.py", "-x"], {}, "python train.py -x"),  # an editor started it
        (["/usr/bin/pytest", "-q"], {"file": "/usr/bin/pytest"}, None),
        (["-c"], {"file": None}, None),
        (["/x/ipykernel_launcher.py", "-f", "/x/k.json"], {"file": None}, None),
    ],
)
def test_it_is_the_module_or_the_script_with_its_arguments(monkeypatch, argv, options, line):
    process(monkeypatch, *argv, **options)
    assert command.current() == line


def test_a_script_below_the_current_folder_is_named_from_there(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    process(monkeypatch, str(tmp_path / "lab/train.py"))
    assert command.current() == "python lab/train.py"


def test_what_is_typed_line_by_line_is_no_command(monkeypatch):
    process(monkeypatch, "train.py")
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert command.current() is None


def test_an_experiment_keeps_how_it_was_started(tmp_path):
    words = ["-m", "experiments.neuron", "--steps", "2", "--out", "a run", "--learning-rate=0.5"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, check=True)
    line = (tmp_path / "a run/command.txt").read_text()
    assert line == "python -m experiments.neuron --steps 2 --out 'a run' --learning-rate=0.5\n"
    page = Page((tmp_path / "a run/report.html").read_text())
    assert page.all("pre")[0]["text"] + "\n" == line
    assert "Its seed is 0." in [each["text"] for each in page.all("p")]


def begin(path, monkeypatch, line, config, **options):
    monkeypatch.setattr(command, "current", lambda: line)
    with open_directory(Directory(path, config=config, **options)) as directory:
        return directory


def test_the_command_is_that_of_the_configuration(tmp_path, monkeypatch):
    begin(tmp_path, monkeypatch, "python a.py", {"rate": 1})
    assert command.read(tmp_path) == "python a.py"
    begin(tmp_path, monkeypatch, "python look.py", {"rate": 1}, resume=True)
    assert command.read(tmp_path) == "python a.py"
    begin(tmp_path, monkeypatch, "python a.py --rate 2", {"rate": 2}, allow_change=["rate"])
    assert command.read(tmp_path) == "python a.py --rate 2"
    # Where nothing came of a change, the command stays with the configuration.
    monkeypatch.setattr(command, "current", lambda: None)
    with pytest.raises(Invalid):
        with open_directory(Directory(tmp_path, config={"rate": 3}, allow_change=["rate"])):
            assert command.read(tmp_path) is None
            raise Invalid("fit", "no", got="1", expected="2", fix="none")
    assert command.read(tmp_path) == "python a.py --rate 2"
    begin(tmp_path, monkeypatch, None, {"rate": 3}, allow_change=["rate"])
    assert command.read(tmp_path) is None


def test_a_command_of_any_letters_is_kept(tmp_path, monkeypatch):
    begin(tmp_path, monkeypatch, "python a.py --name '\udcff é'", {})
    assert command.read(tmp_path) == "python a.py --name '\\udcff é'"


def test_it_is_no_part_of_what_a_run_is(tmp_path, capsys):
    for name in ("one", "two"):
        write(tmp_path / name, {"seed": 1}, [], {"steps": 1, "seconds": 1.0})
        (tmp_path / name / "command.txt").write_text(f"python {name}.py\n")
    assert main(["diff", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    capsys.readouterr()
    assert main(["show", str(tmp_path / "one")]) == 0
    assert "\n\ncommand\n  python one.py\n\n" in capsys.readouterr().out
    main(["show", str(tmp_path / "one"), "--json"])
    assert json.loads(capsys.readouterr().out)["command"] == "python one.py"


def test_the_page_of_a_population_names_its_seeds(tmp_path):
    row = {"step": 2, "seconds": 1.0, "test/loss": [1.0, 2.0, 3.0]}
    write(tmp_path, {"seed": [4, 5, 6]}, [row])
    (tmp_path / "command.txt").write_text("python a.py --seeds 3\n")
    page = Page(report.write(tmp_path).read_text())
    assert "Its seeds are 4, 5, 6." in [each["text"] for each in page.all("p")]


def test_an_argument_is_no_markup_and_steers_no_terminal(tmp_path, capsys):
    evil = shlex.join(["python", "a.py", "</code></pre><img src=x onerror=alert(1)>\x1b[31m\u202e"])
    digits(tmp_path, steps=20)
    before = [each["tag"] for each in Page(report.write(tmp_path).read_text()).elements]
    (tmp_path / "command.txt").write_text(evil + "\n")
    page = Page(report.write(tmp_path).read_text())
    tags = [each["tag"] for each in page.elements]
    assert len(tags) == len(before) + 2 and tags.count("img") == before.count("img")
    assert "<img src=x onerror=alert(1)>" in page.all("pre")[0]["text"]
    assert "\u202e" not in page.all("pre")[0]["text"]
    main(["show", str(tmp_path)])
    assert "\x1b" not in capsys.readouterr().out


def test_what_is_no_file_is_no_command(tmp_path):
    (tmp_path / "command.txt").symlink_to(__file__)
    assert command.read(tmp_path) is None
    (tmp_path / "command.txt").unlink()
    os.mkfifo(tmp_path / "command.txt")
    assert command.read(tmp_path) is None
