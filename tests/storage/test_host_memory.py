"""While a sharded state is saved or read, a host stores its own parts and one array more."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import scale
from jaxnn.scale import memory
from jaxnn.storage import checkpoints
from jaxnn.storage.manifest import leaves_of
from tests import together
from tests.storage.test_shards import FIELDS

pytestmark = pytest.mark.slow

RESET = Path("/proc/self/clear_refs")  # sets the peak of a process to the memory that it uses now
PROCESSES, ARRAYS, SHAPE = 2, 6, (2048, 8192)
ARRAY = 4 * SHAPE[0] * SHAPE[1]  # the bytes of one array, 64 MiB
OWN = ARRAYS * ARRAY // PROCESSES  # the bytes of all parts of a process
SLACK = 40 * 2**20  # for the interpreter, threads and the allocator


@contextmanager
def growth(grown: dict[str, int], name: str) -> Iterator[None]:
    """Stores how many bytes the peak memory of this process was above the memory before."""
    gc.collect()
    RESET.write_text("5")
    before = memory.used_by().now
    yield
    peak = memory.used_by().peak
    assert before is not None and peak is not None
    grown[name] = peak - before


def peaks(folder: str) -> dict[str, int]:
    """Saves a state, and reads it with the same and with another sharding."""
    mesh, grown = scale.mesh(), {}
    by_rows, by_columns = (NamedSharding(mesh, spec) for spec in (P("data"), P(None, "data")))

    @jax.jit
    def state():
        parts = (jax.lax.broadcasted_iota(jnp.float32, SHAPE, 0) + n for n in range(ARRAYS))
        return [jax.lax.with_sharding_constraint(part, by_rows) for part in parts]

    arrays = jax.block_until_ready(state())
    with growth(grown, "save"):
        checkpoints.write_checkpoint(Path(folder), 5, leaves_of(arrays), arrays, FIELDS)
    for name, place in (("same", by_rows), ("other", by_columns)):
        like = [jax.ShapeDtypeStruct(SHAPE, jnp.float32, sharding=place)] * ARRAYS
        with growth(grown, name):
            found = checkpoints.newest(
                Path(folder), like, lambda content: None, lambda path, error: None
            )
        assert found is not None
        for number, array in enumerate(found[1]):
            (part,) = array.addressable_shards
            rows = np.arange(SHAPE[0], dtype=np.float32)[part.index[0]] + number
            assert np.array_equal(part.data[:, 0], rows)
        del found, array, part
    return grown


@pytest.mark.skipif(not RESET.exists(), reason="Only Linux resets the peak memory of a process")
def test_a_host_stores_its_own_parts_and_at_most_one_array_more(tmp_path):
    for grown in together.results_of(PROCESSES, peaks, tmp_path, str(tmp_path / "run")):
        assert grown["save"] <= ARRAY + SLACK, grown
        assert grown["same"] <= OWN + ARRAY + SLACK, grown
        assert grown["other"] <= OWN + ARRAY + SLACK, grown
