"""Examples from anywhere become a file that a stream reads."""

import builtins
import re

import numpy as np
import pytest
from chex import assert_trees_all_equal

from jaxnn.__main__ import main
from jaxnn.streams import arrow, records, stream
from tests.streams.sources import COUNT, examples, fields


def yielding():
    """Yields examples, one after another, as a program reads them from somewhere."""
    yield from examples(fields())


def wrong():
    yield [1, 2]


@pytest.fixture
def packed():
    pytest.importorskip("array_record")


def test_a_generator_becomes_a_file(packed, tmp_path, capsys):
    file = tmp_path / "all.arrayrecord"
    assert main(["pack", f"{__name__}:yielding", str(file)]) == 0
    assert f"{COUNT} examples in {file}" in capsys.readouterr().out
    source = records(file)
    assert_trees_all_equal(source.rows(np.arange(COUNT)), fields())


def test_files_become_one(packed, tmp_path):
    folder, file = tmp_path / "shards", tmp_path / "all.arrayrecord"
    folder.mkdir()
    for number, part in enumerate((slice(0, 9), slice(9, None))):
        np.savez(folder / f"{number}.npz", **{k: v[part] for k, v in fields().items()})
    assert main(["pack", str(folder), str(file)]) == 0
    assert_trees_all_equal(records(file).rows(np.arange(COUNT)), fields())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nothing.npz", "not one that can be opened.*module:function"),
        ("os:nothing", "no such function"),
        ("nowhere.at.all:f", "no such function"),
        (f"{__name__}:wrong", "does not yield examples.*a list"),
        (".", "not one that can be opened"),
    ],
)
def test_what_cannot_be_packed_is_said(packed, source, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["pack", source, "all.arrayrecord"]) == 2
    assert not list(tmp_path.iterdir())

    assert re.search(words, capsys.readouterr().err)


@pytest.mark.parametrize("opened", [records, arrow])
def test_a_package_that_is_not_there_is_named(opened, tmp_path, monkeypatch):
    whole = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] in ("array_record", "pyarrow"):
            raise ImportError(name)
        return whole(name, *arguments, **options)

    for name in ("0.arrayrecord", "0.parquet"):
        (tmp_path / name).touch()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"is not installed.*pip install 'jaxnn-toolkit\[data\]'"):
        opened(tmp_path)


class HuggingFace:
    """As a dataset of Hugging Face: a whole number gives a dict of plain Python, a list columns."""

    columns = fields()

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        assert type(index) is int, "NumPy's numbers are not whole numbers there"
        return {name: column[index].tolist() for name, column in self.columns.items()}


def test_a_dataset_of_hugging_face_is_a_source():
    def read(example, random):
        return {
            "inputs": np.array(example["inputs"], np.float32),
            "labels": np.int32(example["labels"]),
        }

    block = stream(HuggingFace(), batch_size=COUNT, read=read).read_in_order(0).in_order(0)
    assert_trees_all_equal({k: np.asarray(block[k]) for k in fields()}, fields())


class Grain:
    """As a data source of Grain: `len`, and an item by its number."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, record_key):
        return self.items[record_key]


def test_a_source_of_grain_is_a_source():
    assert_trees_all_equal(
        stream(Grain(examples(fields())), batch_size=3).take(np.arange(COUNT))["inputs"],
        fields()["inputs"],
    )
