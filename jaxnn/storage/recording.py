"""The recording of a run: observations of its network during training, as plain arrays.

`recording/about.json` describes the network and the recorded arrays, `probe.npz` holds the observed
examples, `step-*.npz` one observation each, `end.npz` the final predictions on all the data. A
frame depends on its step alone, so a run that resumes writes the same ones again.

>>> import tempfile
>>> folder = Path(tempfile.mkdtemp())
>>> write(folder, frame_name(120), {"metrics/loss": np.float32(0.5)})
>>> [(frame.step, float(frame.arrays["metrics/loss"])) for frame in frames(folder)]
[(120, 0.5)]
"""

import io
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnn.storage import files, json_files

FOLDER, ABOUT, PROBE, END = "recording", "about.json", "probe.npz", "end.npz"
FORMAT = 1
LARGEST = 1 << 26  # bytes of a file
# What NumPy and the modules below it raise of a corrupt file.
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, MemoryError, RuntimeError)
_UNREADABLE += (zipfile.BadZipFile, zlib.error)
_FRAME = re.compile(r"step-(\d{9,})\.npz")


class Frame(NamedTuple):
    """The observation after so many training steps.

    Its arrays have names such as `metrics/loss`, `params/hidden_1/weight`, `activations/hidden_1`,
    and `text`, strings that a language model wrote.
    """

    step: int
    arrays: dict[str, np.ndarray]


class Recording(NamedTuple):
    """The whole recording of a run.

    Attributes:
      about: a description of the network and of the recorded arrays.
      probe: the observed examples: `inputs`, `labels`, `index`.
      frames: the observations, in the order of steps.
      end: the predictions on all the evaluation data; `{}` for an unfinished run.
    """

    about: dict[str, Any]
    probe: dict[str, np.ndarray]
    frames: list[Frame]
    end: dict[str, np.ndarray]


def read(run: Path) -> Recording | None:
    """Returns the recording of a run, `None` if there is none, without its corrupt files."""
    folder = run / FOLDER
    try:
        about = json_files.read(folder / ABOUT)
    except json_files.CorruptFile:
        return None
    if about.get("format") != FORMAT:
        return None
    probe, end = (_arrays(folder / name) or {} for name in (PROBE, END))
    return Recording(about, probe, frames(folder), end)


def probe(run: Path) -> dict[str, np.ndarray]:
    """Returns the observed examples of a run, `{}` if there are none that can be read."""
    return _arrays(run / FOLDER / PROBE) or {}


def frames(folder: Path) -> list[Frame]:
    """Returns the frames in the folder of a recording, in the order of their steps."""
    read = ((step, _arrays(folder / frame_name(step))) for step in steps(folder))
    return [Frame(step, arrays) for step, arrays in read if arrays is not None]


def steps(folder: Path) -> list[int]:
    """Returns the steps that have a frame."""
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(int(match[1]) for name in names if (match := _FRAME.fullmatch(name)))


def frame_name(step: int) -> str:
    """Returns the name of the file of a frame."""
    return f"step-{step:09d}.npz"


def write(folder: Path, name: str, arrays: Mapping[str, Any]) -> None:
    """Writes arrays under their names, the file whole or not at all.

    It is not forced to the disk: a run can do without its recording.
    """
    content = io.BytesIO()
    plain: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    # NumPy's files know no bfloat16.
    np.savez(content, **{n: x.astype("f4") if x.dtype.kind == "V" else x for n, x in plain.items()})
    files.write(folder / name, content.getvalue(), forced=False)


def cut(folder: Path, step: int) -> None:
    """Removes the frames after the step from which a run resumes, and the final predictions."""
    for each in steps(folder):
        if each > step:
            (folder / frame_name(each)).unlink()
    (folder / END).unlink(missing_ok=True)


def copy(run: Path, other: Path) -> None:
    """Copies the recording of a run to another one, if it has any."""
    if (run / FOLDER / ABOUT).is_file():
        shutil.copytree(run / FOLDER, other / FOLDER, dirs_exist_ok=True, symlinks=True)


def _arrays(file: Path) -> dict[str, np.ndarray] | None:
    """Returns the arrays of a file; `None` if it is not one that `write` wrote."""
    try:
        content = io.BytesIO(files.read(file, LARGEST))
        with zipfile.ZipFile(content) as entries:
            if sum(entry.file_size for entry in entries.infolist()) > LARGEST:
                return None
        with np.load(content, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except _UNREADABLE:
        return None
