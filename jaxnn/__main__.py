"""Inspects training runs, writes reports, and exports and serves models.

    python -m jaxnn show runs/digits

No command changes a run, except that report and tensorboard write their files
into its directory by default, and none imports code that a run names. So it is
safe to inspect runs that are training, and runs from untrusted sources.
Exit codes: 0 success, 1 the runs differ, 2 invalid input, 4 a file is corrupt
or missing (for watch: no result), 6 a storage error.
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
from jaxnn.formatting import amount, any_letters, comma_separated, count, printable
from jaxnn.storage import files, json_files


class Answer(NamedTuple):
    """The result of a command: its exit code, a document for `--json`, and a text."""

    code: int
    document: dict[str, Any]
    text: str


def runs(directory: str) -> Answer:
    """Lists the runs below a directory, the most recently modified first."""
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
    """Reads every file of a run and every array of its checkpoints, and reports corrupt ones."""
    checks = list(verification.verify(catalog.find(Path(run).expanduser())))
    good = all(check.state == "good" for check in checks)
    document = {"run": run, "good": good, "checks": [asdict(check) for check in checks]}
    return Answer(0 if good else 4, document, verification.text(checks))


def diff(a: str, b: str) -> Answer:
    """Lists the differences between two runs or two checkpoints, except for times."""
    differences = [*comparison.differences(comparison.side(a), comparison.side(b))]
    document = {"a": a, "b": b, "same": not differences}
    document["differences"] = [asdict(each) for each in differences]
    return Answer(1 if differences else 0, document, comparison.text(differences))


def diagnose(run: str) -> Answer:
    """Reports which step, examples and operation caused a loss that is not finite."""
    known = failures.reports(catalog.find(Path(run).expanduser()))
    text = "\n\n\n".join(map(failures.text, known))
    text = text or "nothing to diagnose: no number was not finite"
    return Answer(0 if known else 4, {"run": run, "reports": known}, text)


def report(run: str, out: str | None) -> Answer:
    """Writes the report of a run as an HTML page, and prints its path."""
    from jaxnn import report as pages

    file = pages.write(catalog.find(Path(run).expanduser()), out)
    return Answer(0, {"run": run, "report": str(file)}, str(file))


def compare(runs: list[str], out: str) -> Answer:
    """Writes an HTML page that compares several runs, and prints its path."""
    from jaxnn import report as pages

    file = pages.write_comparison(runs, out)
    return Answer(0, {"runs": runs, "report": str(file)}, str(file))


def watch(run: str, lines: bool) -> Answer:
    """Shows the progress of a run until it ends; exits with 4 if it ends without a result.

    With --json, prints a line for each report, and a last one with the status and the result.
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
    """Predicts for each row of a file with the best state of a run, and prints csv."""
    from jaxnn.runs import load, rows  # here, since it imports everything that computes

    loaded = load(catalog.find(Path(run).expanduser()))
    names, predictions = rows.predictions(loaded, Path(file).expanduser())
    text = comma_separated(names, predictions)
    if out is not None:
        files.write(Path(out).expanduser(), text.encode())
        text = f"{count(len(predictions), 'row')} in {out}"
    document = {"run": run, "columns": names, "predictions": predictions}
    return Answer(0, document, text.rstrip("\n"))


def export(
    run: str, file: str | None, onnx: bool, safetensors: bool, network: str | None
) -> Answer:
    """Writes a model file, which makes predictions without the code that trained the run."""
    from jaxnn.exporting import export as write
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
    """Writes TensorBoard event files for a run, or for every run below a directory."""
    from jaxnn.report import event_files

    done = event_files.write(
        Path(run).expanduser(), None if out is None else Path(out).expanduser()
    )
    more = f", the first of each population; {done.left_out} more have none" * bool(done.left_out)
    text = f"{count(len(done.runs), 'run')}{more}\ntensorboard --logdir {done.out}"
    document = {"run": run, "out": str(done.out), "runs": done.runs, "left_out": done.left_out}
    return Answer(0, document, text)


def pack(source: str, file: str) -> Answer:
    """Writes examples to an ArrayRecord file, for random access by jaxnn.streams.records.

    The source is a file or a folder of arrays, tables or records, or MODULE:FUNCTION, a function
    that yields examples.
    """
    from jaxnn.streams import packing

    written = packing.pack(source, file)
    document = {"source": source, "file": file, "examples": written}
    return Answer(0, document, f"{count(written, 'example')} in {file}")


def serve(model: str, host: str, port: int, token: str | None) -> Answer:
    """Serves a model over HTTP, with an endpoint for programs and a page to try it.

    Requires the extra [serve]. On SIGTERM or Ctrl-C, it completes the accepted requests and exits.
    """
    if missing := [n for n in ("starlette", "uvicorn") if importlib.util.find_spec(n) is None]:
        raise InvalidValue(
            "serve",
            "a package is missing",
            got=f"no {' and no '.join(missing)}",
            expected="Starlette and uvicorn",
            fix="Install them: pip install 'jaxnn-toolkit[serve]'",
        )
    from jaxnn import serving

    serving.serve(model, host, port, token)
    return Answer(0, {}, "")


RUN = {"run": {"help": "the directory of the run"}}
COMMANDS: dict[Callable[..., Answer], dict[str, dict[str, Any]]] = {
    runs: {"directory": {"nargs": "?", "default": "runs", "help": "where to search (runs)"}},
    show: RUN,
    verify: RUN,
    diff: {
        "a": {"help": "the directory of a run, or with @STEP one of its checkpoints"},
        "b": {"help": "the other run or checkpoint"},
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
        "file": {"help": "a csv, parquet, npz or npy file with the training columns"},
        "--out": {"metavar": "FILE", "help": "the csv file to write"},
    },
    serve: {
        "model": {"help": "the directory of a run, or of runs, or a model file"},
        "--host": {"default": "127.0.0.1", "help": "the address to listen on (127.0.0.1)"},
        "--port": {"type": int, "default": 8000, "help": "the port; 0 chooses a free one (8000)"},
        "--token": {"metavar": "T", "help": "the bearer token that requests must have (none)"},
    },
    export: RUN
    | {
        "file": {"nargs": "?", "help": "the file to write (RUN.jaxnn, in this directory)"},
        "--onnx": {"action": "store_true", "help": "write ONNX; requires jax2onnx"},
        "--safetensors": {"action": "store_true", "help": "write only parameters and state"},
        "--network": {
            "metavar": "MODULE:FUNCTION",
            "help": "a function that returns the network; required by --onnx",
        },
    },
    pack: {
        "source": {"help": "a file, a folder, or MODULE:FUNCTION"},
        "file": {"help": "the file to write, FILE.arrayrecord"},
    },
    tensorboard: {
        "run": {"help": "the directory of the run, or a directory of runs"},
        "--out": {"metavar": "DIR", "help": "the directory to write (RUN/tensorboard)"},
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command, prints its result, and returns the exit code."""
    any_letters("backslashreplace")  # unlike "?", an escape cannot be mistaken for a prediction
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
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # no traceback when `| head` closes the pipe
    # Reading arrays initialises the device, whose memory a running training may need.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    raise SystemExit(main())
