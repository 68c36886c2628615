"""Files that are missing, cut off, of other kinds, or that change."""

import numpy as np
import pytest

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.streams import arrays, arrow, images, records, stream, tokens


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def npz(folder, name="0.npz", **fields):
    path = folder / name
    np.savez(path, **(fields or {"inputs": np.zeros((50, 30))}))
    return path


@pytest.mark.parametrize("opened", [arrays, arrow, records, lambda p: tokens(p, 5)])
def test_a_folder_without_files_is_refused(opened, tmp_path):
    with pytest.raises(InvalidValue, match="no file to read.*at least one file that ends in"):
        opened(tmp_path)
    with pytest.raises(InvalidValue, match="no such file"):
        opened(tmp_path / "gone.bin")


def test_truncated_and_compressed_archives_are_refused(tmp_path):
    path = npz(tmp_path)
    cut(path)
    with pytest.raises(InvalidValue, match="0.npz: .*whole"):
        arrays(path)
    np.savez_compressed(path, inputs=np.zeros(9))
    with pytest.raises(InvalidValue, match="compressed.*numpy.savez instead"):
        arrays(path)
    np.savez(path, inputs=np.array([{}], object))
    with pytest.raises(InvalidValue, match="Python objects"):
        arrays(path)


def test_a_number_that_is_not_finite_is_named_with_its_file(tmp_path):
    inputs = np.ones((30, 2), np.float32)
    for name in ("0.npz", "1.npz"):
        npz(tmp_path, name, inputs=inputs)
        inputs[21] = np.nan
    with pytest.raises(InvalidValue, match=r"in example 51 \(row 21 of .*1.npz\), .*not finite"):
        stream(arrays(tmp_path), batch_size=60).read(0)


def test_fields_of_all_files_must_agree(tmp_path):
    npz(tmp_path, "0.npz", inputs=np.zeros((3, 2), np.float32), labels=np.zeros(3, np.int32))
    npz(tmp_path, "1.npz", inputs=np.zeros((3, 4), np.float32), labels=np.zeros(3, np.int32))
    with pytest.raises(InvalidType, match=r"different fields.*\[4\].*1.npz.*\[2\]"):
        arrays(tmp_path)
    npz(tmp_path, "1.npz", inputs=np.zeros((3, 2), np.float32), labels=np.zeros(2, np.int32))
    with pytest.raises(InvalidValue, match=r"leading axis.*labels \[2\]"):
        arrays(tmp_path)


def test_tokens_must_be_whole_and_of_one_dtype(tmp_path):
    path = tmp_path / "0.bin"
    path.write_bytes(b"123")
    with pytest.raises(InvalidValue, match="ends within a token.*3 bytes.*multiple of 2"):
        tokens(path, 1)
    path.write_bytes(b"12")
    with pytest.raises(InvalidValue, match="fewer tokens than a window.*1 tokens and length=5"):
        tokens(path, 5)
    np.save(tmp_path / "1.npy", np.arange(9, dtype=np.uint32))
    with pytest.raises(InvalidType, match="different dtypes.*0.bin uint16, 1.npy uint32"):
        tokens(tmp_path, 5)
    np.save(tmp_path / "1.npy", np.zeros((3, 3)))
    with pytest.raises(InvalidType, match="does not hold tokens.*float64"):
        tokens(tmp_path / "1.npy", 5)


def test_windows_of_long_files_begin_so_far_apart_that_they_can_be_numbered(tmp_path):
    path = tmp_path / "0.bin"
    with path.open("wb") as file:
        file.truncate(2 * 9_000_000_000)  # as many tokens as OpenWebText has; the file is sparse
    source = tokens(path, 1025)
    assert source.stride == 5 and len(source) < 2**31
    assert stream(source, batch_size=2).read(10**9).arrays["inputs"].shape == (32, 2, 1025)
    with pytest.raises(InvalidValue, match="too many examples.*stride="):
        stream(tokens(path, 1025, stride=1), batch_size=2)


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path):
    path = tmp_path / "0.bin"
    np.arange(100, dtype=np.uint16).tofile(path)
    data = stream(tokens(path, 5), batch_size=2)
    data.read(0)
    np.arange(90, dtype=np.uint16).tofile(path)
    with pytest.raises(InvalidValue, match="changed while it was read.*200 bytes.*180 now"):
        data.read(0)
    path.unlink()
    with pytest.raises(InvalidValue, match="gone"):
        data.read(0)


def test_another_file_has_another_fingerprint(tmp_path):
    def made(last):
        path = npz(tmp_path, inputs=np.append(np.zeros(5000), last))
        return stream(arrays(path), batch_size=1).fingerprint()

    assert made(1.0) == made(1.0) != made(2.0)


def test_truncated_tables_and_records_are_refused(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"inputs": [1.0, None]})
    path = tmp_path / "0.parquet"
    parquet.write_table(table, path)
    with pytest.raises(InvalidValue, match="missing.*1 of column 'inputs'"):
        stream(arrow(path), batch_size=1).examples
    cut(path)
    with pytest.raises(InvalidValue, match="0.parquet: .*whole"):
        arrow(path)
    path = tmp_path / "0.arrayrecord"
    path.write_bytes(b"nothing of the kind" * 100)
    pytest.importorskip("array_record")
    with pytest.raises(InvalidValue, match="0.arrayrecord"):
        records(path)


def test_folders_of_images_need_classes_and_images(tmp_path):
    with pytest.raises(InvalidValue, match="no such folder"):
        images(tmp_path / "gone", 8)
    with pytest.raises(InvalidValue, match="no classes.*without subfolders.*FOLDER/CLASS"):
        images(tmp_path, 8)
    (tmp_path / "cats").mkdir()
    with pytest.raises(InvalidValue, match="no image of the class cats.*Remove"):
        images(tmp_path, 8)
    (tmp_path / "cats" / "1.png").write_bytes(b"no image")
    source = images(tmp_path, 8)
    with pytest.raises(InvalidValue, match=r"example 0 \(.*1.png\) cannot be read.*identify"):
        stream(source, batch_size=1).read(0)
    with pytest.raises(InvalidValue, match="mode"):
        images(tmp_path, 8, mode="BGR")


def test_classes_have_the_numbers_of_the_given_names(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for name in "train/a/0 train/b/0 train/c/0 val/c/0 val/b/0 val/.x/0 val/b/.1".split():
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.new("RGB", (4, 4)).save(path)
    train = images(tmp_path / "train", 4)
    assert images(tmp_path / "val", 4).labels.tolist() == [0, 1], "hidden files are none"
    val = images(tmp_path / "val", 4, names=train.names)
    assert val.labels.tolist() == [1, 2] and val.names == ["a", "b", "c"]
    with pytest.raises(InvalidValue, match="not one of the given names.*val/c.*2 classes"):
        images(tmp_path / "val", 4, names=["a", "b"])


def test_images_of_more_than_8_bits_are_refused(tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "a").mkdir()
    image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "a" / "0.png")
    with pytest.raises(InvalidValue, match=r"more than 8 bits.*a/0.png of mode I"):
        images(tmp_path, 4)[0]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_an_image_that_changes_while_it_is_read_is_an_error(tmp_path, on_error):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "a").mkdir()
    for number in range(3):
        image.new("RGB", (4, 4)).save(tmp_path / "a" / f"{number}.png")
    data = stream(images(tmp_path, 4), batch_size=3, on_error=on_error)
    data.read(0)
    image.new("RGB", (40, 40), (9, 8, 7)).save(tmp_path / "a" / "1.png")
    with pytest.raises(InvalidValue, match=r"changed while it was read.*a/1.png"):
        data.read(0)


def test_images_are_scaled_to_cover_and_cut_around_the_centre(tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "a").mkdir()
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    image.fromarray(wide).save(tmp_path / "a" / "wide.png")
    inputs = images(tmp_path, 5)[0]["inputs"]
    assert inputs.shape == (5, 5, 3) and inputs.dtype == np.uint8 and inputs[:, 1:4].min() == 200
    grey = images(tmp_path, (6, 3), mode="L")[0]["inputs"]
    assert grey.shape == (6, 3, 1)
