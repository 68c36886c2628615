"""Looks at runs, from any shell: which there are, and how they went.

    python -m jaxnn show runs/digits

Beside `pack`, which writes examples, only pages and event files are written,
and nothing that a run names is imported: a run from a stranger may be looked
at, and so may one that trains.
Exit codes: 0 fine, 1 something differs, 2 bad input, 4 something is corrupt
or missing (for watch: a result), 6 storage.
"""

import argparse
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from jaxnn.catalog import account, comparison, failures, verification, watching
from jaxnn.catalog import entries as catalog
from jaxnn.checks import Explained, Invalid, InvalidValue
from jaxnn.formatting import amount, any_letters, count, printable
from jaxnn.storage import files, json_files


class Answer(NamedTuple):
    """The answer of a command: its exit code, a document for `--json`, a text for people."""

    code: int
    document: dict[str, Any]
    text: str


def runs(directory: str) -> Answer:
    """Lists the runs below a directory, the one that was last written to first."""
    folder = Path(directory).expanduser()
    catalog.exists(folder)
    os.scandir(folder).close()  # raises if it cannot be read
    paths = catalog.below(folder)
    names = [directory if path == folder else path.relative_to(folder).as_posix() for path in paths]
    entries = [*map(catalog.look, paths, names)]
    corrupt = any(entry.errors for entry in catalog.walk(entries))
    text = catalog.listing(entries) if entries else f"no run in {directory}"
    document = {"directory": directory, "runs": [asdict(entry) for entry in entries]}
    return Answer(4 if corrupt else 0, document, text)


def show(run: str) -> Answer:
    """Shows the configuration of a run, its results and its files."""
    document = account.account(catalog.find(Path(run).expanduser()))
    return Answer(4 if document["errors"] else 0, document, account.text(document))


def verify(run: str) -> Answer:
    """Reads every file of a run and every array of its checkpoints, and says what is corrupt."""
    checks = list(verification.verify(catalog.find(Path(run).expanduser())))
    good = all(check.state == "good" for check in checks)
    document = {"run": run, "good": good, "checks": [asdict(check) for check in checks]}
    return Answer(0 if good else 4, document, verification.text(checks))


def diff(a: str, b: str) -> Answer:
    """Lists the differences of two runs, or of two checkpoints, but for the time they took."""
    differences = [*comparison.differences(comparison.side(a), comparison.side(b))]
    document = {"a": a, "b": b, "same": not differences}
    document["differences"] = [asdict(each) for each in differences]
    return Answer(1 if differences else 0, document, comparison.text(differences))


def diagnose(run: str) -> Answer:
    """Says why a loss was not finite: which step, which examples, which operation."""
    known = failures.reports(catalog.find(Path(run).expanduser()))
    text = "\n\n\n".join(map(failures.text, known))
    text = text or "nothing to diagnose: no number was not finite"
    return Answer(0 if known else 4, {"run": run, "reports": known}, text)


def report(run: str, out: str | None) -> Answer:
    """Writes a page with the story of a run, and prints its path."""
    from jaxnn import report as pages

    file = pages.write(catalog.find(Path(run).expanduser()), out)
    return Answer(0, {"run": run, "report": str(file)}, str(file))


def compare(runs: list[str], out: str) -> Answer:
    """Writes a page that shows several runs, and prints its path."""
    from jaxnn import report as pages

    file = pages.write_comparison(runs, out)
    return Answer(0, {"runs": runs, "report": str(file)}, str(file))


def watch(run: str, lines: bool) -> Answer:
    """Shows a run from its files until it ends; 4 if it ends without a result.

    With --json, prints a line for each report, and a last one with its status and result.
    """
    try:
        if not lines:
            update = watching.show(Path(run).expanduser())
            return Answer(0 if update.status == "done" else 4, {}, watching.ending(update, run))
        status = ""
        for line in watching.lines(Path(run).expanduser()):
            print(line, flush=True)
            status = json.loads(line).get("status", "")
        return Answer(0 if status == "done" else 4, {}, "")
    except KeyboardInterrupt:
        return Answer(0, {}, "")


def predict(run: str, file: str, out: str | None) -> Answer:
    """Predicts for the rows of a file with the best state of a run, as csv."""
    from jaxnn.runs import load, rows  # with all that computes

    loaded = load(catalog.find(Path(run).expanduser()))
    names, predictions = rows.predictions(loaded, Path(file).expanduser())
    text = rows.csv(names, predictions)
    if out is not None:
        files.write(Path(out).expanduser(), text.encode())
        text = f"{count(len(predictions), 'row')} in {out}"
    document = {"run": run, "columns": names, "predictions": predictions}
    return Answer(0, document, text.rstrip("\n"))


def export(
    run: str, file: str | None, onnx: bool, safetensors: bool, network: str | None
) -> Answer:
    """Writes a model file, which predicts without the code that trained the run."""
    from jaxnn.exporting import export as write  # with all that computes
    from jaxnn.streams.packing import function_of

    ending = ".onnx" if onnx else ".safetensors" if safetensors else ".jaxnn"
    folder = catalog.find(Path(run).expanduser())
    out = Path(f"{folder.name or 'model'}{ending}") if file is None else Path(file).expanduser()
    if (onnx or safetensors) and out.suffix != ending:
        out = out.with_name(out.name + ending)
    own = None if network is None else function_of("export", network)()
    write(folder, out, network=own)
    size = out.stat().st_size
    use = "" if onnx or safetensors else f"; jaxnn.load_model({str(out)!r}).predict(inputs)"
    document = {"run": run, "file": str(out), "bytes": size}
    return Answer(0, document, f"{out}, {amount(size, 'B')}{use}")


def tensorboard(run: str, out: str | None) -> Answer:
    """Writes event files for TensorBoard, of a run or of every run below a directory."""
    from jaxnn.report import event_files

    done = event_files.write(
        Path(run).expanduser(), None if out is None else Path(out).expanduser()
    )
    more = f", the first of each population; {done.left_out} more have none" * bool(done.left_out)
    text = f"{count(len(done.runs), 'run')}{more}\ntensorboard --logdir {done.out}"
    document = {"run": run, "out": str(done.out), "runs": done.runs, "left_out": done.left_out}
    return Answer(0, document, text)


def pack(source: str, file: str) -> Answer:
    """Writes examples to a file that jaxnn.streams.records reads, in any order, without loading it.

    The source is a file or a folder of arrays, tables or records, or a function of yours that
    yields examples, as MODULE:FUNCTION.
    """
    from jaxnn.streams import packing  # with all that computes

    written = packing.pack(source, file)
    document = {"source": source, "file": file, "examples": written}
    return Answer(0, document, f"{count(written, 'example')} in {file}")


def serve(model: str, host: str, port: int, token: str | None) -> Answer:
    """Serves a model over HTTP: predictions for programs, and a page on which to try it.

    Needs the extra [serve]. It ends at SIGTERM or Ctrl-C, when it has answered what it accepted.
    """
    if missing := [n for n in ("starlette", "uvicorn") if importlib.util.find_spec(n) is None]:
        raise InvalidValue(
            "serve",
            "a package is missing",
            got=f"no {' and no '.join(missing)}",
            expected="Starlette and uvicorn",
            fix="Install them: pip install 'jaxnn-toolkit[serve]'",
        )
    from jaxnn import serving  # with all that computes

    serving.serve(model, host, port, token)
    return Answer(0, {}, "")


RUN = {"run": {"help": "its directory"}}
COMMANDS: dict[Callable[..., Answer], dict[str, dict[str, Any]]] = {
    runs: {"directory": {"nargs": "?", "default": "runs", "help": "where they are (runs)"}},
    show: RUN,
    verify: RUN,
    diff: {
        "a": {"help": "the directory of a run, or with @STEP one of its checkpoints"},
        "b": {"help": "the same of another one"},
    },
    diagnose: RUN,
    watch: RUN
    | {"--json": {"action": "store_true", "dest": "lines", "help": "print lines of JSON"}},
    report: RUN | {"--out": {"metavar": "FILE", "help": "the file to write (RUN/report.html)"}},
    compare: {
        "runs": {"metavar": "RUN", "nargs": "+", "help": "the directories of two runs or more"},
        "--out": {"metavar": "FILE", "default": "compare.html", "help": "the file to write"},
    },
    predict: RUN
    | {
        "file": {"help": "csv, parquet, npz or npy with rows such as it was trained on"},
        "--out": {"metavar": "FILE", "help": "the csv file to write"},
    },
    serve: {
        "model": {"help": "the directory of a run, or of runs, or a model file"},
        "--host": {"default": "127.0.0.1", "help": "the address to listen at (127.0.0.1)"},
        "--port": {"type": int, "default": 8000, "help": "0 takes any that is free (8000)"},
        "--token": {"metavar": "T", "help": "what requests must bear (none)"},
    },
    export: RUN
    | {
        "file": {"nargs": "?", "help": "the file to write (RUN.jaxnn, in this directory)"},
        "--onnx": {"action": "store_true", "help": "write ONNX, by the package jax2onnx"},
        "--safetensors": {"action": "store_true", "help": "write parameters and state alone"},
        "--network": {
            "metavar": "MODULE:FUNCTION",
            "help": "a function of yours that returns the network, which --onnx needs",
        },
    },
    pack: {
        "source": {"help": "a file, a folder, or MODULE:FUNCTION"},
        "file": {"help": "the file to write, FILE.arrayrecord"},
    },
    tensorboard: {
        "run": {"help": "its directory, or one with runs in it"},
        "--out": {"metavar": "DIR", "help": "the directory to write (RUN/tensorboard)"},
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command, prints its answer, and returns the exit code."""
    any_letters("backslashreplace")  # predictions are read on, and ? would be a letter of theirs
    options = vars(_parser().parse_args(arguments))
    command, as_json = options.pop("command"), options.pop("json", False)
    try:
        answer = command(**options)
    except (Explained, OSError) as error:
        code = 2 if isinstance(error, Invalid) else 4 if isinstance(error, Explained) else 6
        print(printable(f"storage: {error}" if code == 6 else str(error)), file=sys.stderr)
        return code
    if as_json:
        print(json_files.encode(answer.document, indent=2).decode())
    elif answer.text:
        print(printable(answer.text))
    return answer.code


def _parser() -> argparse.ArgumentParser:
    description, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser("python -m jaxnn", None, description, more)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command, places in COMMANDS.items():
        about = command.__doc__ or ""
        its = commands.add_parser(command.__name__, help=about, description=about)
        its.set_defaults(command=command)
        for name, settings in places.items():
            its.add_argument(name, **settings)
        if "--json" not in places:
            its.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a traceback
    # Reading arrays starts a device, whose memory a running training may need.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    raise SystemExit(main())
