"""Checkpoints of arrays in parts: read onto any devices, and any corruption is detected."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn.storage import checkpoints, shards
from jaxnn.storage.manifest import CorruptCheckpoint, leaves_of, read_manifest, read_verified
from tests.promises import counted

FIELDS = {
    "rows": 0, "seconds": 0.0, "value": None, "config": {}, "identity": {}, "environment": {},
    "eval_path": "params",
}  # fmt: skip
SPECS = {"matrix": P("data"), "columns": P(None, "data"), "half": P("data")}


def tree():
    return {
        "matrix": np.arange(96, dtype=np.float32).reshape(12, 8) / 7,
        "columns": np.arange(24, dtype=np.int32).reshape(3, 8),
        "half": jnp.arange(16, dtype=jnp.bfloat16),
        "scalar": np.int32(7),
        "empty": np.zeros((0, 3), np.float32),
        "key": jax.random.key(3),
    }


def on(count):
    """Returns the tree on a mesh of so many devices."""
    mesh = Mesh(np.array(jax.devices()[:count]), ("data",), axis_types=(AxisType.Auto,))
    return {
        name: jax.device_put(x, NamedSharding(mesh, SPECS.get(name, P())))
        for name, x in tree().items()
    }


def plain(x):
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def saved(folder, count, step=5):
    """Writes a checkpoint of the tree on so many devices."""
    arrays = on(count)
    whole = [jax.random.key_data(arrays[name]) if name == "key" else arrays[name]
             for name in sorted(arrays)]  # fmt: skip
    checkpoints.write_checkpoint(folder, step, leaves_of(arrays), whole, FIELDS)
    return folder / checkpoints.name(step)


def like(count):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), on(count)
    )


def restored(folder, wanted, corrupt=None):
    corrupt = [] if corrupt is None else corrupt
    found = checkpoints.newest(
        folder, wanted, lambda content: None, lambda path, error: corrupt.append(str(error))
    )
    assert found is not None
    return found


@pytest.mark.parametrize("before", (1, 2))
@pytest.mark.parametrize("after", (1, 2))
def test_parts_are_read_onto_any_devices(before, after, tmp_path):
    saved(tmp_path / "run", before)
    _, found = restored(tmp_path / "run", like(after))
    for name, x in on(after).items():
        assert np.array_equal(plain(found[name]), plain(x)), name
        assert found[name].sharding.is_equivalent_to(x.sharding, x.ndim), name


def test_parts_are_read_whole_where_no_place_is_named(tmp_path):
    path = saved(tmp_path / "run", 2)
    arrays = checkpoints.read_checkpoint(path, read_verified(path))
    for name, x in tree().items():
        assert isinstance(arrays[name], np.ndarray)
        assert np.array_equal(arrays[name], plain(x)), name


def test_each_part_is_there_once(tmp_path):
    path = saved(tmp_path / "run", 2)
    entries = {each["name"]: each["shards"] for each in read_manifest(path)["arrays"]}
    assert {name: len(parts) for name, parts in entries.items()} == {
        "matrix": 2, "columns": 2, "half": 2, "scalar": 1, "empty": 0, "key": 1,
    }  # fmt: skip
    size = sum(plain(x).nbytes for x in tree().values())
    assert (path / "shards-00000.bin").stat().st_size == size
    assert sorted(each.name for each in path.iterdir()) == ["manifest.json", "shards-00000.bin"]


def test_no_more_than_a_part_and_what_is_wanted_is_read(tmp_path, monkeypatch):
    path, sizes = saved(tmp_path / "run", 2), []
    read = shards._read
    monkeypatch.setattr(shards, "_read", lambda *a: sizes.append(a[1].num_bytes(a[2])) or read(*a))
    restored(tmp_path / "run", like(1))
    assert max(sizes) <= 12 * 8 * 4 // 2
    assert sum(sizes) == (path / "shards-00000.bin").stat().st_size


def test_every_byte_of_the_parts_counts(tmp_path):
    saved(tmp_path / "run", 2, step=4)
    path = saved(tmp_path / "run", 2)
    file = path / "shards-00000.bin"
    content, whole = file.read_bytes(), read_verified(path)
    with counted(P3="bytes of sharded arrays, each changed once") as tried:
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1 << place % 8
            file.write_bytes(changed)
            with pytest.raises(CorruptCheckpoint, match="other bytes at"):
                checkpoints.read_checkpoint(path, whole)
            tried.append(place)
    corrupt = []
    content, _ = restored(tmp_path / "run", like(2), corrupt)
    assert content["step"] == 4 and len(corrupt) == 1


HARM = {
    "a part that is missing": lambda entry: entry["shards"].pop(),
    "a part twice": lambda entry: entry["shards"].append(entry["shards"][0]),
    "a part that is outside the file": lambda entry: entry["shards"][0].__setitem__(1, 1 << 40),
    "a part before the file": lambda entry: entry["shards"][0].__setitem__(1, -4),
    "a part outside the array": lambda entry: entry["shards"][0][2][0].__setitem__(1, 1 << 40),
    "a part that is empty": lambda entry: entry["shards"][0][2][0].__setitem__(1, 0),
    "a file elsewhere": lambda entry: entry["shards"][0].__setitem__(0, "../shards-00000.bin"),
    "parts of other parts": lambda entry: entry["shards"][0].__setitem__(2, [[0, 6]]),
    "no numbers": lambda entry: entry["shards"][0].__setitem__(1, "0"),
    "no parts": lambda entry: entry.pop("shards"),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_manifest_of_parts_is_not_trusted(harm, tmp_path):
    from jaxnn.storage import manifest

    path = saved(tmp_path / "run", 2)
    content = json.loads((path / "manifest.json").read_text())
    del content["sha256"]
    HARM[harm](next(each for each in content["arrays"] if each["name"] == "matrix"))
    (path / "manifest.json").write_text(json.dumps(content | {"sha256": manifest._own(content)}))
    with pytest.raises(CorruptCheckpoint):
        checkpoints.read_checkpoint(path, read_manifest(path))


def test_a_disk_that_fails_leaves_no_draft(tmp_path, monkeypatch):
    saved(tmp_path / "run", 2, step=4)

    def fails(array):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "as_bytes", fails)
    with pytest.raises(OSError, match="the disk is full"):
        saved(tmp_path / "run", 2)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [checkpoints.name(4)]
