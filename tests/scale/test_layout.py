"""Where members are: slots, devices, and how they are rebalanced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.scale import memory
from jaxnn.scale.layout import Layout
from tests.trees import assert_same_bits

ONE, TWO = tuple(jax.devices()[:1]), tuple(jax.devices()[:2])


@pytest.mark.parametrize(
    ("members", "devices", "asked", "width", "slots"),
    [
        (6, ONE, 1, 1, 6),
        (6, ONE, 4, 3, 6),  # two blocks of 3 rather than 4 and 2
        (7, ONE, 4, 4, 8),
        (6, ONE, 100, 6, 6),
        (1, ONE, 8, 1, 1),
        (5, TWO, 1, 1, 6),
        (5, TWO, 8, 3, 6),
        (9, TWO, 2, 2, 12),  # 5 on a device: blocks of 2, 2 and 1
        (2, TWO, 8, 1, 2),
        (1, TWO, 1, 1, 2),
    ],
)
def test_the_width_is_evened_out_and_slots_fill_the_last_blocks(
    members, devices, asked, width, slots
):
    layout = Layout(members, devices, asked)
    assert (layout.width, layout.slots) == (width, slots)
    assert slots % (width * len(devices)) == 0 and slots - members < width * len(devices)


def test_one_run_has_no_devices_and_is_left_where_it_is():
    tree = {"a": jnp.arange(3)}
    assert Layout().copies(tree) == [tree] and Layout().join([tree]) is tree


def population(count):
    """Returns arrays of all kinds that a trial holds, keys among them."""
    return {
        "keys": jax.random.split(jax.random.key(3), count),
        "weights": jnp.arange(4.0 * count).reshape(count, 2, 2),
        "flags": jnp.arange(count) % 2 == 0,
        "small": jnp.arange(count, dtype=jnp.int8),
    }


def cut(layout, tree):
    return layout.cut(jax.device_put(tree, layout.sharding))


@pytest.mark.parametrize(("members", "devices", "width"), [(5, ONE, 2), (5, TWO, 1), (4, TWO, 2)])
def test_parts_are_joined_and_cut_without_a_copy(members, devices, width):
    layout = Layout(members, devices, width)
    tree = population(layout.slots)
    parts = cut(layout, tree)
    assert [part["small"].devices() for part in parts] == [{device} for device in devices]
    assert_same_bits(layout.join(parts), tree)
    again = layout.cut(layout.join(parts))
    for part, other in zip(parts, again):
        assert_same_bits(part, other)
        pointers = [p["weights"].unsafe_buffer_pointer() for p in (part, other)]
        assert pointers[0] == pointers[1]


@pytest.mark.parametrize("devices", [ONE, TWO])
def test_moved_parts_are_the_rows_of_their_source(devices):
    layout = Layout(6, devices)
    tree, source = population(6), np.array([5, 0, 2, 1, 4, 3], np.int32)
    parts = layout.moved(cut(layout, tree), source)
    assert_same_bits(layout.join(parts), jax.tree.map(lambda x: x[source], tree))
    assert [part["keys"].devices() for part in parts] == [{device} for device in devices]
    back = layout.moved(parts, np.argsort(source).astype(np.int32))
    assert_same_bits(layout.join(back), tree)


def blocks(layout, active):
    """Returns how many blocks have something to do, of the device that has most of them."""
    shares = active.reshape(len(layout.devices), -1, layout.width)
    return max(sum(block.any() for block in share) for share in shares)


@pytest.mark.parametrize("devices", [ONE, TWO])
@pytest.mark.parametrize(("members", "width"), [(1, 1), (5, 1), (12, 1), (12, 2), (11, 3), (40, 5)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_packing_needs_the_fewest_blocks_and_loses_nobody(members, devices, width, share):
    layout = Layout(members, devices, width)
    for seed in range(5):
        active = np.random.default_rng(seed).random(layout.slots) < share
        fewest = -(-int(active.sum()) // (layout.width * len(devices)))
        order = layout.packed(active)
        if order is None:
            assert blocks(layout, active) <= 1.1 * fewest
        else:
            assert sorted(order) == list(range(layout.slots))
            assert fewest == blocks(layout, active[order]) < blocks(layout, active)
            assert layout.packed(active[order]) is None


def test_nothing_is_moved_where_nothing_is_won():
    one_by_one = Layout(8, ONE)
    assert all(one_by_one.packed(np.arange(8) < n) is None for n in range(9))
    assert Layout(8, TWO).packed(np.arange(8) % 4 < 2) is None  # two on each device
    assert Layout(8, TWO).packed(np.arange(8) < 4) is not None  # all on the first


# --- Memory ------------------------------------------------------------------------------------


class Device:
    """A device that says what memory it has."""

    def __init__(self, platform, **stats):
        self.platform, self.memory_stats = platform, lambda: stats or None


def test_what_is_available_is_what_the_device_says_less_what_is_in_use():
    gpu = Device("gpu", bytes_limit=1000, bytes_in_use=400)
    assert memory.available(gpu) == int(memory.SHARE * 600)
    assert memory.available(Device("gpu", bytes_limit=1000)) == int(memory.SHARE * 1000)


def test_cores_that_are_devices_share_the_free_memory(monkeypatch):
    monkeypatch.setattr(memory, "_free", lambda: 10_000)
    assert memory.available(jax.devices()[0]) == int(memory.SHARE * 10_000 / 2)


def test_where_nobody_says_how_much_is_free_all_of_it_is(monkeypatch):
    assert 2**20 < memory._free() < 2**50
    monkeypatch.setattr(memory.Path, "read_text", lambda path: "MemTotal: 1 kB\n")
    assert 2**20 < memory._free() < 2**50


def test_a_program_needs_its_arguments_its_results_and_what_it_works_with():
    x = jax.ShapeDtypeStruct((1000,), jnp.float32)

    def added(x, y):
        return x + y

    apart = jax.jit(added).lower(x, x).compile()
    in_place = jax.jit(added, donate_argnums=0).lower(x, x).compile()
    assert 12_000 <= memory.needed(apart, "cpu") < 13_000
    assert 8_000 <= memory.needed(in_place, "cpu") < 9_000
    assert memory.size({"x": x, "keys": population(2)["keys"]}) == 4000 + 16
