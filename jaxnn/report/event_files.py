"""Writes TensorBoard event files with scalars, histograms, pictures and hyper-parameters of runs.

    python -m jaxnn tensorboard runs/mine --out events
    tensorboard --logdir events

They are converted on request from the files of a run. Each run has a folder with one file, which
replaces an older one. This requires the extra `tensorboard`: tensorboardX encodes the events, and
neither TensorFlow nor TensorBoard is imported.
"""

import importlib.util
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnn.catalog import entries as catalog
from jaxnn.checks import Invalid, InvalidValue
from jaxnn.pictures import diagram as diagrams
from jaxnn.pictures._confusion import confusion_matrix
from jaxnn.pictures._curves import curves
from jaxnn.pictures._network import draw
from jaxnn.pictures.scheme import Figure
from jaxnn.report.examples import names_of
from jaxnn.report.sections import WRONG, shortened, some, under
from jaxnn.report.source import Source, read
from jaxnn.storage import files, json_files
from jaxnn.storage.directory import ROWS
from jaxnn.storage.recording import Frame

MEMBERS = 32  # maximum number of members with events; more lines are indistinguishable
DRAWN = 5  # number of steps at which the network is drawn
BARS = 30
Rows = Sequence[Mapping[str, Any]]
Clock = Callable[[int], float]
FILE = "events.out.tfevents.0.jaxnn"


class Written(NamedTuple):
    """The directory of the events, the runs (folders) in it, and the number of omitted members."""

    out: Path
    runs: list[str]
    left_out: int


def write(path: Path, out: Path | None = None) -> Written:
    """Writes the events of a run, or of every run below a directory.

    By default they are written to `path/tensorboard`.

    Raises:
      InvalidValue: if there is no run, or tensorboardX is not installed.
      OSError: if a file cannot be written.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise InvalidValue(
            "tensorboard",
            "event files need the extra `tensorboard`",
            got="no package tensorboardX",
            expected="the package, which encodes events",
            fix='Install it: pip install "jaxnn-toolkit[tensorboard]"',
        )
    catalog.exists(path)
    out = path / "tensorboard" if out is None else out
    names, left_out = [], 0
    for run in catalog.below(path) or [catalog.find(path)]:
        name = run.resolve().name if run == path else run.relative_to(path).as_posix()
        source = read(run)
        networks = [*_networks(source)]
        left_out += len(source.table) - len(networks) if source.many else 0
        for member, rows, settings in networks:
            place = f"{name}/{member}".rstrip("/")
            files.make(out / place)
            _write(out / place / FILE, _clock(source, rows), _summaries(source, rows, settings))
            names.append(place)
    return Written(out, names, left_out)


def _networks(source: Source) -> Iterator[tuple[str, Rows, dict[str, Any]]]:
    """Yields the name, reports and settings of each network that has events.

    Each is a run in TensorBoard: a single run, or one of the first `MEMBERS` members.
    """
    if not source.many:
        yield "", source.rows, source.config
    columns = [*source.fields, "seed"]
    fixed = {n: v for n, v in source.config.items() if not isinstance(v, list)}
    for rows, places in source.groups:
        for member, place in enumerate(places):
            if place < MEMBERS:
                own = [{n: _of_member(v, member) for n, v in row.items()} for row in rows]
                settings = {name: source.table[place].get(name) for name in columns}
                yield f"{place:03d}", own, fixed | settings


def _of_member(value: Any, member: int) -> Any:
    if isinstance(value, list):
        return value[member] if member < len(value) else None
    return value


def _write(file: Path, clock: Clock, summaries: Iterable[tuple[int, Any]]) -> None:
    """Writes the events of a network in the order of their steps."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore
    from tensorboardX.record_writer import RecordWriter

    events = [Event(wall_time=clock(0), file_version="brain.Event:2")]
    for step, shown in sorted(summaries, key=lambda each: each[0]):
        events.append(Event(wall_time=clock(step), step=step, summary=shown))
    # `SummaryWriter` is not used, because it hides errors of its writer thread.
    draft = file.with_name(f"{files.DRAFT}{file.name}")
    records = RecordWriter(str(draft))
    for event in events:
        records.write(event.SerializeToString())
    records.flush()
    records.close()
    files.rename(draft, file)


def _summaries(source: Source, rows: Rows, settings: dict[str, Any]) -> Iterator[tuple[int, Any]]:
    """Yields `(step, summary)` for all events of a network."""
    from matplotlib.image import imread
    from tensorboardX import summary

    if settings:
        hparams = {_text(key): _setting(value) for key, value in settings.items()}
        # Only the session is written: TensorBoard derives the columns from all sessions.
        yield 0, summary.hparams(hparams, {})[1]
    for row in rows:
        for name, value in row.items():
            is_metric = "/" in name and (value is None or isinstance(value, int | float))
            if is_metric and 0 <= row["step"] < 2**63:
                yield row["step"], summary.scalar(_text(name), json_files.number(value))
    if source.many:
        return
    for name, value in source.contents.speed.items():
        if (number := json_files.finite(value)) is not None:
            yield source.step, summary.scalar(f"speed/{_text(name)}", number)
    for step, arrays in source.recorded.frames:
        for name, array in arrays.items():
            if name.startswith(("params/", "activations/")):
                values = np.asarray(array, np.float64)
                values = values[np.isfinite(values)]
                if values.size:
                    yield step, summary.histogram(_text(name), values, BARS)
    for name, step, draw_it in _drawings(source):
        file = io.BytesIO()
        try:
            draw_it().savefig(file, format="png", dpi=200)
        except (Invalid, *WRONG):
            continue  # skips a picture that cannot be drawn
        file.seek(0)
        yield step, summary.image(name, imread(file), dataformats="HWC")


def _drawings(source: Source) -> Iterator[tuple[str, int, Callable[[], Figure]]]:
    """Yields `(tag, step, draw)` for each picture of a run."""
    if source.rows:
        yield "curves", source.step, lambda: curves(shortened(source.rows))
    about, frames, end = source.recorded.about, source.recorded.frames, source.recorded.end
    if "confusion" in end:
        names = names_of(about) or None
        yield "confusion", source.step, lambda: confusion_matrix(end["confusion"], names)
    for frame in some(frames, DRAWN) if about.get("diagram") else ():
        yield "network", frame.step, partial(_network, about["diagram"], frame)


def _network(diagram: dict[str, Any], frame: Frame) -> Figure:
    wires, biases = (under(frame, kind) for kind in ("wires/", "biases/"))
    return draw(diagrams.from_json(diagram), wires, biases=biases)


def _clock(source: Source, rows: Rows) -> Clock:
    """Returns a function from steps to wall times; reports contain seconds since the start."""
    known = [(row["step"], json_files.finite(row.get("seconds"))) for row in rows]
    known = [(0, 0.0), *(each for each in known if each[1] is not None)]
    steps, seconds = np.array(known, float).T
    file = source.contents.path / ROWS
    written = file.stat().st_mtime if file.exists() else 0.0  # the time of the last report
    return lambda step: float(np.interp(step, steps, written - seconds[-1] + seconds))


def _setting(value: Any) -> bool | float | str:
    number = json_files.finite(value)
    return value if isinstance(value, bool) else number if number is not None else _text(value)


def _text(value: Any) -> str:
    """Returns a value as text without characters that cannot be encoded."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="replace").decode()
