"""The experiments, a line each, with the last measured result of each.

    python -m experiments                               # list them
    python -m experiments --record runs/mnist/0123ab    # save the result of a finished run

Recorded results are files in `experiments/results`: the `result.json` of a run, with the command,
the date and the number of cores. `experiments/README.md` is generated from them, never typed.
Listing reads the experiments without importing them, so that it is instant.
"""

import ast
import json
import os
import re
import shlex
import sys
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent


class Experiment(NamedTuple):
    """An experiment of this folder: a file with a `Config`.

    Attributes:
      name: what it is called after `python -m experiments.`.
      shows: the first sentence of its docstring.
      results: what was recorded of it, by name: its own, then those of its variants.
    """

    name: str
    shows: str
    results: dict[str, dict[str, Any]]


def experiments(folder: Path = HERE) -> list[Experiment]:
    """Returns the experiments of a folder with their recorded results, without importing them."""
    recorded: dict[str, dict[str, Any]] = {
        path.stem: json.loads(path.read_text())
        for path in sorted(folder.glob("results/*.json"), key=lambda path: path.stem)
    }
    listed = []
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text())
        if any(isinstance(node, ast.ClassDef) and node.name == "Config" for node in tree.body):
            results = {k: v for k, v in recorded.items() if v["experiment"] == path.stem}
            shows = first_sentence(ast.get_docstring(tree) or "")
            listed.append(Experiment(path.stem, shows, results))
    return listed


def first_sentence(text: str) -> str:
    """Returns a text up to its first full stop that ends a word, on one line.

    >>> first_sentence("Reaches 0.99, on a laptop. Then\\nmore.")
    'Reaches 0.99, on a laptop.'
    """
    return " ".join(re.split(r"(?<=\.)\s", text + " ", maxsplit=1)[0].split())


def reached(result: dict[str, Any]) -> str:
    """Returns what a run came to: its metrics on test data, or on training data if it has no other.

    >>> reached({"steps": 10, "train/loss": 0.25, "test/accuracy": 0.98765, "test/loss": 0.04})
    'test accuracy 0.9877, test loss 0.04'
    """
    parts = {name.split("/")[0] for name in result if "/" in name}
    shown = parts - {"train"} or parts
    return ", ".join(
        f"{name.replace('/', ' ')} {value:.4g}"
        for name, value in sorted(result.items())
        if name.split("/")[0] in shown and "learning_rate" not in name and value is not None
    )


def lines(listed: list[Experiment]) -> list[tuple[str, str, str]]:
    """Returns `(name, what it shows, last result)` of each experiment and each variant."""
    rows = []
    for experiment in listed:
        names = list(experiment.results)
        if experiment.name not in names:
            names.insert(0, experiment.name)
        for name in names:
            result = experiment.results.get(name)
            measured = f"{reached(result)} in {result['seconds']:.1f} s" if result else ""
            shows = experiment.shows if name == experiment.name else "  " + options(result or {})
            rows.append((name, shows, measured or "not measured yet"))
    return rows


def options(result: dict[str, Any]) -> str:
    """Returns the options of a recorded command: `"--model convnet"`."""
    return " ".join(result["command"].split()[3:])


def save_result(run: Path, folder: Path = HERE) -> Path:
    """Copies a run's result to `results`, with the command, the date and the number of cores.

    Raises:
      SystemExit: if there is no finished run of an experiment.
    """
    try:
        result = json.loads((run / "result.json").read_text())
        config = json.loads((run / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"{run} is not the directory of a finished run: {error}") from None
    name = result["experiment"]
    if name not in [experiment.name for experiment in experiments(folder)]:
        raise SystemExit(f"{run}: there is no experiment {name!r} in {folder}")
    from jaxnn.storage.json_files import plain

    defaults = plain(import_module(f"experiments.{name}").Config())
    if config.keys() != defaults.keys():
        raise SystemExit(f"{run} is a run of another version of {name}: its fields are different")
    changed = {field: value for field, value in config.items() if defaults[field] != value}
    command = shlex.join(["python", "-m", f"experiments.{name}", *arguments(changed)])
    finished = date.fromtimestamp((run / "result.json").stat().st_mtime)
    extra = {"command": command, "date": finished.isoformat(), "cores": os.cpu_count()}
    path = folder / "results" / f"{variant(name, changed)}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(extra | result, indent=2) + "\n")
    return path


def arguments(changed: dict[str, Any]) -> list[str]:
    """Returns fields of a configuration as options of the command line.

    >>> arguments({"model": "convnet", "hidden": [64, 32], "epochs": 6.0, "shift": False})
    ['--model', 'convnet', '--hidden', '64', '32', '--epochs', '6', '--no-shift']
    """
    options = []
    for field, value in changed.items():
        option = field.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{option}" if value else f"--no-{option}")
        else:
            options += [f"--{option}", *words(value)]
    return options


def variant(name: str, changed: dict[str, Any]) -> str:
    """Returns the name of an experiment with some fields changed; a word stands for itself.

    >>> variant("mnist", {"model": "convnet"}), variant("digits", {"hidden": [64, 32], "seed": 1})
    ('mnist-convnet', 'digits-hidden-64-32-seed-1')
    """
    parts = [name]
    for field, value in changed.items():
        parts += words(value) if isinstance(value, str) else [field, *words(value)]
    return re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(parts))


def words(value: Any) -> list[str]:
    """Returns a value of a configuration as one writes it: `6`, not `6.0`."""
    values = value if isinstance(value, list) else [value]
    return [str(v).removesuffix(".0") if isinstance(v, float) else str(v) for v in values]


def readme(listed: list[Experiment]) -> str:
    """Returns the text of `experiments/README.md`."""
    heads = ["experiment", "what it shows", "command", "result"]
    heads += ["seconds", "steps", "device", "jax", "date"]
    rows = [heads, ["---"] * len(heads)]
    for experiment in listed:
        file, shows = f"[{experiment.name}]({experiment.name}.py)", experiment.shows
        if experiment.name not in experiment.results:
            command = f"`python -m experiments.{experiment.name}`"
            rows.append([file, shows, command, "not measured yet", *[""] * 5])
        for result in experiment.results.values():
            cores = f", {result['cores']} cores" if result["device"] == "cpu" else ""
            command, device = f"`{result['command']}`", result["device"] + cores
            seconds, steps = f"{result['seconds']:.1f}", f"{result['steps']:,}"
            measured = [reached(result), seconds, steps, device, result["jax"], result["date"]]
            rows.append([file, shows, command, *measured])
            file, shows = "", ""
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"""# Experiments

One file each, read from top to bottom. Copy one to make your own; `python -m experiments.NAME
--help` shows what you can set.

{table}

Seconds are those of training, compiling included; a second run loads the compiled program from
a cache. This file is written by `python -m experiments --record RUN_DIRECTORY` from the files in
`results`: do not edit it.
"""


def show(rows: list[tuple[str, str, str]]) -> None:
    """Prints the list: as a table on a terminal, as plain lines elsewhere."""
    if not sys.stdout.isatty():
        width = max(len(name) for name, _, _ in rows)
        for name, shows, measured in rows:
            print(f"{name:<{width}}  {shows} [{measured}]")
        return
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("experiment", "what it shows", "last result", box=box.SIMPLE)
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
    print("Start one with python -m experiments.NAME; --help shows what you can set.")


def main(record: tuple[Path, ...] | None = None) -> None:
    """Lists the experiments with their last results.

    Args:
      record: directories of finished runs; their results are saved, and README.md is rewritten
    """
    if record is not None:
        for run in record:
            print(save_result(run).relative_to(HERE.parent))
        (HERE / "README.md").write_text(readme(experiments()))
    show(lines(experiments()))


if __name__ == "__main__":
    import tyro  # listing the experiments does without it

    tyro.cli(main, prog="python -m experiments")
