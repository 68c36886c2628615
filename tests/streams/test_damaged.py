"""Files that are cut off anywhere, or have wrong bytes: an error that names the file, or data."""

import numpy as np
import pytest

from jaxnn.checks import Invalid
from jaxnn.streams import arrays, arrow, images, records, stream, tokens, write_records
from tests.streams.sources import examples, fields

ARRAYS = fields()


def npz(path):
    np.savez(path, **ARRAYS)
    return arrays


def npy(path):
    np.save(path, ARRAYS["inputs"])
    return arrays


def tokens_npy(path):
    np.save(path, np.arange(500, dtype=np.uint16))
    return lambda path: tokens(path, 5)


def feather(path):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"inputs": ARRAYS["inputs"].tolist(), "labels": ARRAYS["labels"]})
    with pyarrow.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=16)
    return arrow


def parquet(path):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"inputs": ARRAYS["inputs"].tolist(), "labels": ARRAYS["labels"]})
    module = pytest.importorskip("pyarrow.parquet")
    module.write_table(table, path, row_group_size=16, write_page_checksum=True)
    return arrow


def arrayrecord(path):
    pytest.importorskip("array_record")
    write_records(examples(ARRAYS)[:4], path)
    return records


def png(path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    image.fromarray(pixels).save(path)
    return lambda path: images(path.parents[1], 30)


def jpeg(path):
    png(path)
    return lambda path: images(path.parents[1], 30)


FORMATS = {
    "npz": (npz, "0.npz"),
    "npy": (npy, "0.npy"),
    "tokens": (tokens_npy, "0.npy"),
    "arrow": (feather, "0.arrow"),
    "parquet": (parquet, "0.parquet"),
    "arrayrecord": (arrayrecord, "0.arrayrecord"),
    "png": (png, "0.png"),
    "jpeg": (jpeg, "0.jpg"),
}
# Formats with a checksum of all data, so that wrong bytes never become examples.
CHECKED = {"parquet", "arrayrecord", "png"}


@pytest.fixture(params=FORMATS)
def file(request, tmp_path):
    """The name of a format, the path of a file, and the function that opens it."""
    write, name = FORMATS[request.param]
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    return request.param, path, write(path)


def read(path, opened):
    """Returns all examples of a file, or `None` after an error that names the file."""
    try:
        data = stream(opened(path), batch_size=1, workers=1, timeout=60)
        return data.take(np.arange(data.num_examples))
    except Invalid as error:
        assert path.name in str(error)
        return None


def test_a_file_that_is_cut_off_is_named(file):
    _, path, opened = file
    content, whole = path.read_bytes(), read(path, opened)
    for length in np.linspace(0, len(content) - 30, 20, dtype=int).tolist():
        path.write_bytes(content[:length])
        assert read(path, opened) is None, f"{length} of {len(content)} bytes"
    for length in range(len(content) - 20, len(content), 4):
        path.write_bytes(content[:length])
        if (rest := read(path, opened)) is not None:  # an image with all pixels, without its end
            assert path.suffix in (".png", ".jpg")
            np.testing.assert_array_equal(rest["inputs"], whole["inputs"])


@pytest.mark.filterwarnings("ignore")  # Pillow warns of some
def test_wrong_bytes_are_an_error_or_examples(file):
    name, path, opened = file
    content, rng = path.read_bytes(), np.random.default_rng(0)
    whole = read(path, opened)
    for _ in range(60):
        wrong = bytearray(content)
        wrong[rng.integers(len(wrong))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(wrong))
        again = read(path, opened)
        if again is not None and name in CHECKED:
            assert all(np.array_equal(again[k], whole[k]) for k in again.keys() & whole.keys())
