"""Event files, which TensorBoard shows: scalars, histograms, pictures and hyper-parameters of runs.

    python -m jaxnn tensorboard runs/mine --out events
    tensorboard --logdir events

They are written from what a run has left, when asked for; the run itself writes none. Each run has
a folder with one file, which takes the place of an older one: doing it again doubles nothing. It
needs the extra `tensorboard`, but not TensorFlow.
"""

import importlib.util
import io
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from jaxnn.report.examples import names_of
from jaxnn.report.sections import shortened
from jaxnn.report.source import Source, read
from jaxnn.storage import files, json_files
from jaxnn.storage.directory import ROWS
from jaxnn.storage.recording import Frame

# So many members of a population or a sweep have events: what more lines would say, nobody sees.
MEMBERS = 32
# Moments of the training at which the network is drawn.
DRAWN = 5
BARS = 30
FILE = "events.out.tfevents.0.jaxnn"
_WRONG = (ValueError, TypeError, KeyError, IndexError, AttributeError)  # of corrupt files


class Written(NamedTuple):
    """What was written.

    Attributes:
      out: the directory to show.
      runs: the names of the runs in it, which are folders.
      left_out: how many members of populations have no events.
    """

    out: Path
    runs: list[str]
    left_out: int


def write(path: Path, out: Path | None = None) -> Written:
    """Writes the events of a run, or of every run below a directory.

    Args:
      path: the run, or the directory.
      out: where to write; `tensorboard` in that directory by default.

    Raises:
      InvalidValue: if there is no run, or TensorBoard is not installed.
      OSError: if it cannot be written.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise InvalidValue(
            "tensorboard",
            "TensorBoard is not installed",
            got="no package tensorboard",
            expected="the package, which reads and writes event files",
            fix="Install it: pip install tensorboard",
        )
    catalog.exists(path)
    runs = catalog.below(path) or [catalog.find(path)]
    out = path / "tensorboard" if out is None else out
    names, left_out = [], 0
    for run in runs:
        name = run.resolve().name if run == path else run.relative_to(path).as_posix()
        source = read(run)
        each = (
            [*_members(source)]
            if source.many
            else [_Run("", source.rows, source.contents.config or {})]
        )
        left_out += len(source.table) - len(each) if source.many else 0
        for one in each:
            place = f"{name}/{one.name}".rstrip("/")
            files.make(out / place)
            files.write(out / place / FILE, b"".join(map(_record, _events(source, one, place))))
            names.append(place)
    return Written(out, names, left_out)


class _Run(NamedTuple):
    """What TensorBoard takes for a run: one network, alone or of many."""

    name: str
    rows: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]


def _members(source: Source) -> Iterator[_Run]:
    """Yields the members of a sweep or a population, the first `MEMBERS` of them."""
    fixed = {n: v for n, v in (source.contents.config or {}).items() if not isinstance(v, list)}
    columns = [*source.fields, "seed"]
    for rows, places in source.groups:
        for member, place in enumerate(places):
            if place < MEMBERS:
                own = [{n: _of_member(v, member) for n, v in row.items()} for row in rows]
                settings = {name: source.table[place].get(name) for name in columns}
                yield _Run(f"{place:03d}", own, {**fixed, **settings})


def _of_member(value: Any, member: int) -> Any:
    if isinstance(value, list):
        return value[member] if member < len(value) else None
    return value


def _made_by_protobuf(name: str) -> Any:
    """Returns a module whose names appear as it is imported, where no type checker sees them."""
    return importlib.import_module(f"tensorboard.compat.proto.{name}")


# --- Events --------------------------------------------------------------------------------------


def _events(source: Source, run: _Run, name: str) -> Iterator[Any]:
    """Yields the events of a run in the order of their steps, the hyper-parameters first."""
    event_pb2, summary_pb2 = _made_by_protobuf("event_pb2"), _made_by_protobuf("summary_pb2")
    from tensorboard.plugins.hparams import summary_v2  # pyright: ignore

    clock = _Clock(source, run.rows)
    yield event_pb2.Event(wall_time=clock(0), file_version="brain.Event:2")
    settings = {_text(key): _setting(value) for key, value in run.settings.items()}
    if settings:
        started = summary_v2.hparams_pb(settings, trial_id=name, start_time_secs=clock(0))
        yield event_pb2.Event(wall_time=clock(0), step=0, summary=started)
    single = not source.many
    events = [*_scalars(run.rows)]
    if single:
        events += [*_histograms(source), *_pictures(source), *_speed(source)]
    for step, values in sorted(events, key=lambda each: each[0]):
        summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(**v) for v in values])
        yield event_pb2.Event(wall_time=clock(step), step=step, summary=summary)


def _scalars(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    for row in rows:
        values = [
            {"tag": _text(name), "simple_value": json_files.number(value)}
            for name, value in row.items()
            if "/" in name and (value is None or isinstance(value, int | float))
        ]
        if values and 0 <= row["step"] < 2**63:
            yield row["step"], values


def _speed(source: Source) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yields the numbers of the machine, which are of the run as a whole."""
    values = [
        {"tag": f"speed/{_text(name)}", "simple_value": number}
        for name, value in source.speed.items()
        if (number := json_files.finite(value)) is not None
    ]
    if values:
        yield source.step, values


def _histograms(source: Source) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    for step, arrays in source.recorded.frames if source.recorded else ():
        values = [
            {"tag": _text(name), "histo": bars}
            for name, array in arrays.items()
            if name.startswith(("params/", "activations/"))
            and (bars := _histogram(array)) is not None
        ]
        if values:
            yield step, values


def _histogram(array: np.ndarray) -> Any:
    """Returns the histogram of what is finite; `None` if nothing is."""
    summary_pb2 = _made_by_protobuf("summary_pb2")
    values = np.asarray(array, np.float64).ravel()
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    counts, edges = np.histogram(values, BARS)
    # A bucket ends at its limit; the first, which is empty, at the least value.
    return summary_pb2.HistogramProto(
        min=values.min(), max=values.max(), num=values.size, sum=values.sum(),
        sum_squares=np.square(values).sum(),
        bucket_limit=edges.tolist(), bucket=[0, *counts.tolist()],
    )  # fmt: skip


def _pictures(source: Source) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yields pictures; what cannot be drawn is left out."""
    for name, step, draw_it in _drawings(source):
        try:
            yield step, [{"tag": name, "image": _image(draw_it())}]
        except (Invalid, *_WRONG):
            continue


def _drawings(source: Source) -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """Yields `(tag, step, draw)` of the pictures that there are."""
    if source.rows:
        yield "curves", source.step, lambda: curves(shortened(source.rows))
    if source.recorded is None:
        return
    about, frames = source.recorded.about, source.recorded.frames
    if "confusion" in source.recorded.end:
        counts = source.recorded.end["confusion"]
        yield (
            "confusion",
            source.step,
            lambda: confusion_matrix(counts, names_of(about) or None),
        )
    if not about.get("diagram"):
        return
    places = np.linspace(0, len(frames) - 1, min(DRAWN, len(frames))).round().astype(int)
    for frame in (frames[place] for place in places):
        yield "network", frame.step, partial(_network, about["diagram"], frame)


def _network(source: dict[str, Any], frame: Frame) -> Any:
    wires, biases = (
        {name.removeprefix(kind): x for name, x in frame.arrays.items() if name.startswith(kind)}
        for kind in ("wires/", "biases/")
    )
    return draw(diagrams.from_json(source), wires, biases=biases)


def _image(figure: Any) -> Any:
    summary_pb2 = _made_by_protobuf("summary_pb2")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=200)
    content = file.getvalue()
    width, height = struct.unpack(">II", content[16:24])  # as PNG has it
    return summary_pb2.Summary.Image(
        width=width, height=height, colorspace=4, encoded_image_string=content
    )


# --- Values --------------------------------------------------------------------------------------


class _Clock:
    """The time of day of a step: the reports say how long after the beginning they were."""

    def __init__(self, source: Source, rows: Sequence[Mapping[str, Any]]):
        known = [(row["step"], json_files.finite(row.get("seconds"))) for row in rows]
        known = [(step, seconds) for step, seconds in known if seconds is not None]
        self.steps = [0, *(step for step, _ in known)]
        self.seconds = [0.0, *(seconds for _, seconds in known)]
        # The last report was written last.
        file = source.contents.path / ROWS
        written = file.stat().st_mtime if file.exists() else 0.0
        self.began = written - self.seconds[-1]

    def __call__(self, step: int) -> float:
        return self.began + float(np.interp(step, self.steps, self.seconds))


def _record(event: Any) -> bytes:
    from tensorboard.summary.writer.record_writer import RecordWriter  # pyright: ignore

    file = io.BytesIO()
    RecordWriter(file).write(event.SerializeToString())
    return file.getvalue()


def _setting(value: Any) -> bool | float | str:
    number = json_files.finite(value)
    return value if isinstance(value, bool) else number if number is not None else _text(value)


def _text(value: Any) -> str:
    """Returns a value in letters that any file may have."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="replace").decode()
