"""The recording of a run: what its network was like at moments of the training, in plain arrays.

`recording/about.json` says what the network is made of and what is recorded, `probe.npz` holds the
examples on which it was looked at, `step-*.npz` what was seen at each moment, `end.npz` what it
makes of all the data in the end. A frame depends on its step alone; so a run that goes on writes
the same ones again, and a stop costs nothing.

>>> import tempfile
>>> folder = Path(tempfile.mkdtemp())
>>> write(folder, frame_name(120), {"metrics/loss": np.float32(0.5)})
>>> [(frame.step, float(frame.arrays["metrics/loss"])) for frame in frames(folder)]
[(120, 0.5)]
"""

import io
import os
import re
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
_FRAME = re.compile(r"step-(\d{9,})\.npz")


class Frame(NamedTuple):
    """What was seen at one moment.

    Attributes:
      step: the training steps done.
      arrays: by name, such as `metrics/loss`, `params/hidden_1/weight`, `activations/hidden_1`.
    """

    step: int
    arrays: dict[str, np.ndarray]


class Recording(NamedTuple):
    """All that was recorded of a run.

    Attributes:
      about: what the network is made of, and what was recorded.
      probe: the examples on which the network was looked at: `inputs`, `labels`, `index`.
      frames: the moments, in their order.
      end: what the network makes of all that it is evaluated on; `{}` of an unfinished run.
    """

    about: dict[str, Any]
    probe: dict[str, np.ndarray]
    frames: list[Frame]
    end: dict[str, np.ndarray]


def read(run: Path) -> Recording | None:
    """Returns the recording of a run, `None` where there is none; what is damaged is left out."""
    folder = run / FOLDER
    try:
        about = json_files.read(folder / ABOUT)
    except json_files.CorruptFile:
        return None
    if about.get("format") != FORMAT:
        return None
    probe, end = (_arrays(folder / name) or {} for name in (PROBE, END))
    return Recording(about, probe, frames(folder), end)


def frames(folder: Path) -> list[Frame]:
    """Returns the frames in the folder of a recording, in the order of their steps."""
    found = [(step, _arrays(folder / frame_name(step))) for step in steps(folder)]
    return [Frame(step, arrays) for step, arrays in found if arrays is not None]


def steps(folder: Path) -> list[int]:
    """Returns the steps of which there is a frame."""
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(int(match[1]) for name in names if (match := _FRAME.fullmatch(name)))


def frame_name(step: int) -> str:
    """Returns the name of the file of a frame."""
    return f"step-{step:09d}.npz"


def write(folder: Path, name: str, arrays: Mapping[str, Any]) -> None:
    """Writes arrays under their names, the file whole or not at all.

    It is not forced to the disk: of all that a run writes it is what can be done without.
    """
    content = io.BytesIO()
    plain: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    # NumPy's files know no bfloat16.
    plain = {n: x.astype(np.float32) if x.dtype.kind == "V" else x for n, x in plain.items()}
    np.savez(content, **plain)
    files.write(folder / name, content.getvalue(), forced=False)


def cut(folder: Path, step: int) -> None:
    """Removes the frames after a step, from which the run goes on, and what came of it before."""
    for each in steps(folder):
        if each > step:
            (folder / frame_name(each)).unlink()
    (folder / END).unlink(missing_ok=True)


def _arrays(file: Path) -> dict[str, np.ndarray] | None:
    """Returns what a file holds, which may be anything; `None` if it is not what `write` wrote."""
    try:
        content = io.BytesIO(files.read(file, LARGEST))
        with zipfile.ZipFile(content) as entries:
            if sum(entry.file_size for entry in entries.infolist()) > LARGEST:
                return None
        with np.load(content, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (
        OSError, ValueError, EOFError, KeyError, MemoryError, RuntimeError, zipfile.BadZipFile,
        zlib.error,
    ):  # fmt: skip
        return None
