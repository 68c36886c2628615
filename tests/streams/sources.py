"""Sources of every kind, each with the arrays that it holds: the oracle of what a stream reads."""

import numpy as np
import pytest

from jaxnn import streams

COUNT = 23


def fields():
    """Returns examples as arrays in memory."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(COUNT, 3)).astype(np.float32)
    return {"inputs": inputs, "labels": np.arange(COUNT, dtype=np.int32) % 4}


def examples(arrays):
    """Returns arrays as a list of examples."""
    return [{k: v[i] for k, v in arrays.items()} for i in range(len(arrays["inputs"]))]


def of_list(folder):
    return examples(fields()), fields()


def of_npz(folder):
    arrays = fields()
    for number, part in enumerate((slice(0, 9), slice(9, 10), slice(10, None))):
        np.savez(folder / f"{number}.npz", **{k: v[part] for k, v in arrays.items()})
    return streams.arrays(folder), arrays


def of_npy(folder):
    arrays = fields()
    for name, array in arrays.items():
        np.save(folder / f"{name}-0.npy", array[:8])
        np.save(folder / f"{name}-1.npy", np.asfortranarray(array[8:]))
    return streams.arrays({name: folder / f"{name}-*.npy" for name in arrays}), arrays


def of_bin(folder):
    text = np.arange(100, dtype=np.uint16) * 3
    for number, part in enumerate(np.split(text, [7, 9, 60])):
        part.tofile(folder / f"{number}.bin")
    windows = np.lib.stride_tricks.sliding_window_view(text, 5)[::4]
    return streams.tokens(folder, 5, stride=4), {"inputs": windows}


def of_records(folder):
    pytest.importorskip("array_record")
    arrays = fields()
    streams.write_records(examples(arrays)[:5], folder / "0.arrayrecord")
    streams.write_records(examples(arrays)[5:], folder / "1.arrayrecord")
    return streams.records(folder), arrays


def _table(arrays):
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.table({"inputs": arrays["inputs"].tolist(), "labels": arrays["labels"]})


def of_arrow(folder):
    pyarrow = pytest.importorskip("pyarrow")
    table = _table(fields())
    with pyarrow.ipc.new_file(str(folder / "0.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=6)
    return streams.arrow(folder), fields()


def of_parquet(folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(_table(fields()), folder / "0.parquet", row_group_size=7)
    return streams.arrow(folder), fields()


def of_images(folder):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (6, 4, 5, 3), np.uint8)
    for number, array in enumerate(pixels):
        path = folder / f"class{number // 4}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        image.fromarray(array).save(path)
    labels = np.array([0, 0, 0, 0, 1, 1], np.int32)
    return streams.images(folder, (4, 5)), {"inputs": pixels, "labels": labels}


def of_concatenated(folder):
    rows = examples(fields())
    return streams.concatenate([rows[:4], rows[4:5], rows[5:]]), fields()


def of_mixed(folder):
    arrays = fields()
    rows = examples(arrays)
    source = streams.mix([rows[:10], rows[10:]], [1, 3], length=16)
    order = [10, 0, 11, 12, 13, 1, 14, 15, 16, 2, 17, 18, 19, 3, 20, 21]
    return source, {name: array[order] for name, array in arrays.items()}


SOURCES = {
    name.removeprefix("of_"): make
    for name, make in sorted(globals().items())
    if name.startswith("of_")
}


@pytest.fixture(params=SOURCES)
def source(request, tmp_path):
    """A source, and the arrays that it holds."""
    return SOURCES[request.param](tmp_path)
