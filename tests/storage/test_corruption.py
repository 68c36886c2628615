"""Corruption of every kind in every file of a checkpoint: detected, reported, and quarantined.

The newest checkpoint of a run that was stopped is corrupt. The run then resumes from the one before
it, to the bits of the run that nothing stopped; the corrupt one is quarantined, with the reason.
"""

import itertools
import re
import shutil
import warnings

import numpy as np
import pytest

from jaxnn import Caution, NoCheckpoint
from jaxnn.storage import checkpoints
from tests.harness import timeless
from tests.promises import counted
from tests.small import BEFORE, NEWEST, STEPS, Small, there
from tests.trees import assert_same_bits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Small(tmp_path_factory.mktemp("small"))


# --- Corruption --------------------------------------------------------------------------------


def flip(content, draw):
    bit = int(draw.integers(8 * len(content)))
    content[bit // 8] ^= 1 << bit % 8
    return content


EDITS = {
    "a bit flipped": flip,
    "cut": lambda content, draw: content[: int(draw.integers(1, len(content)))],
    "emptied": lambda content, draw: b"",
    "half of it zero": lambda content, draw: content[: len(content) // 2].ljust(
        len(content), b"\0"
    ),
    "bytes added": lambda content, draw: content + draw.bytes(int(draw.integers(1, 99))),
}


def edited(edit):
    return lambda file, other, draw: file.write_bytes(edit(bytearray(file.read_bytes()), draw))


def linked(file, other, draw):
    """A link leads to the very same bytes."""
    place = next(each for each in file.parents if each.name == "run").parent / "elsewhere"
    file.rename(place)
    file.symlink_to(place)


# What is done to a file, of which there is another in the checkpoint before.
OF_FILES = {name: edited(edit) for name, edit in EDITS.items()} | {
    "deleted": lambda file, other, draw: file.unlink(),
    "taken from another step": lambda file, other, draw: shutil.copy(other, file),
    "a link": linked,
}


def swapped(folder):
    (folder / BEFORE).rename(folder / "mine")
    (folder / NEWEST).rename(folder / BEFORE)
    (folder / "mine").rename(folder / NEWEST)


# {what is done to checkpoints: (how, which is named, what is said of it, the newest good one)}
OF_FOLDERS = {
    "a file added": (
        lambda folder: (folder / NEWEST / "more").write_text("more"),
        NEWEST, "more, which was not written with it", 8,
    ),
    "a link added": (
        lambda folder: (folder / NEWEST / "more").symlink_to(folder),
        NEWEST, "more, which was not written with it", 8,
    ),
    "a folder added": (
        lambda folder: shutil.copytree(folder / BEFORE, folder / NEWEST / "more"),
        NEWEST, "more/manifest.json, which was not written with it", 8,
    ),
    "all deleted": (
        lambda folder: [shutil.rmtree(folder / NEWEST), (folder / NEWEST).mkdir()],
        NEWEST, "manifest.json", 8,
    ),
    "a file instead": (
        lambda folder: [shutil.rmtree(folder / NEWEST), (folder / NEWEST).write_text("more")],
        NEWEST, "manifest.json", 8,
    ),
    "a later name": (
        lambda folder: (folder / NEWEST).rename(folder / checkpoints.name(13)),
        checkpoints.name(13), "the manifest of step 12", 8,
    ),
    "an earlier name": (
        lambda folder: (folder / NEWEST).rename(folder / checkpoints.name(11)),
        checkpoints.name(11), "the manifest of step 12", 8,
    ),
    "the place of another": (
        lambda folder: [shutil.rmtree(folder / BEFORE), (folder / NEWEST).rename(folder / BEFORE)],
        BEFORE, "the manifest of step 12", 4,
    ),
    "steps swapped": (swapped, NEWEST, "the manifest of step 8", 4),
}  # fmt: skip


def corrupt(small, what, file, seed):
    """Returns a run with a corrupt file; `None` if it is the same in both checkpoints."""
    out = small.copy()
    path = out / "checkpoints" / NEWEST / file
    other = out / "checkpoints" / BEFORE / file
    if what == "taken from another step" and path.read_bytes() == other.read_bytes():
        return None
    before = there(out)
    OF_FILES[what](path, other, np.random.default_rng(seed))
    assert there(out) != before
    return out


def files(small):
    folder = small.run.out / "checkpoints" / NEWEST
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return [name for name in names if (folder / name).is_file()]


def cautions(caught):
    assert {each.category for each in caught} <= {Caution}
    return [str(each.message) for each in caught]


def falls_back(small, out, named, words, step=8):
    """Asserts that a run resumes from a step, and that what is corrupt is named and quarantined."""
    folder = there(out / "checkpoints")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        restored = small.restore(out)
    assert restored.step == step
    assert_same_bits(restored.trial, small.restored[step].trial)
    assert restored.rows == small.restored[step].rows
    said = cautions(caught)[0]
    assert re.search(rf"{named} is corrupt\. Got .*{re.escape(words)}", said)
    place = out / "quarantine" / f"{named}-1"
    assert str(place) in said
    assert place.with_suffix(".txt").read_text().strip() in said
    # Not a byte of it is lost, and the rest is as it was.
    moved = {f"{named}/{name}": content for name, content in there(place).items()}
    left = there(out / "checkpoints")
    assert moved.items() <= folder.items()
    assert left == {name: folder[name] for name in left}
    lost = {name for name in folder if name.startswith(named)} - {named} - moved.keys()
    assert not lost and not any(name.startswith(named) for name in left)


# --- Each is seen ------------------------------------------------------------------------------


def tried(small, cases):
    """Asserts that each corruption is detected; returns how many there were."""
    with counted(P3="corruptions, each detected, reported and quarantined") as count:
        for what, file, seed in cases:
            out = corrupt(small, what, file, seed)
            if out is not None:
                # A manifest that is whole, but another's, is named by its step.
                falls_back(small, out, NEWEST, file.removesuffix(".json"))
                count.append(what)
                shutil.rmtree(out.parent)
    return len(count)


def test_each_file_is_damaged_in_some_way(small):
    kinds = itertools.cycle(OF_FILES)
    assert tried(small, [(next(kinds), file, 0) for file in files(small) for _ in range(6)]) == 12


@pytest.mark.parametrize("what", OF_FOLDERS)
def test_checkpoints_are_damaged_as_a_whole(small, what):
    spoil, named, words, step = OF_FOLDERS[what]
    out = small.copy()
    spoil(out / "checkpoints")
    with counted(P3="corruptions, each detected, reported and quarantined") as count:
        falls_back(small, out, named, words, step)
        count.append(what)


@pytest.mark.slow
def test_each_file_is_damaged_in_every_way(small):
    cases = [(what, file, 1) for file in files(small) for what in OF_FILES]
    cases += [("a bit flipped", file, seed) for file in files(small) for seed in range(2, 46)]
    assert tried(small, cases) >= 100


@pytest.mark.nightly
def test_files_are_damaged_500_times(small):
    assert tried(small, itertools.product(OF_FILES, files(small), range(46, 80))) >= 500


# --- And the run resumes -----------------------------------------------------------------------


def ends_as_the_whole(small, out):
    """Asserts that a run resumes to the bits and the rows of the one that nothing stopped."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = small.resume(out)
    assert_same_bits(run.state, small.run.state)
    rows = [timeless((each / "metrics.jsonl").read_bytes()) for each in (out, small.run.out)]
    assert rows[0] == rows[1]
    restored, whole = small.restore(out, resume=True), small.restored[STEPS[-1]]
    assert restored.step == whole.step
    assert_same_bits(restored.trial, whole.trial)
    return cautions(caught)


ENDINGS = [("a bit flipped", "manifest.json"), ("deleted", "shards-00000.bin")]


@pytest.mark.parametrize("what, file", ENDINGS)
def test_what_goes_on_after_damage_ends_as_if_there_was_none(small, what, file):
    with counted(P3="corrupt runs that resumed and ended with the bits of the intact run") as count:
        (said,) = ends_as_the_whole(small, corrupt(small, what, file, 0))
        assert file in said
        count.append(what)


@pytest.mark.slow
@pytest.mark.parametrize("what", [*OF_FILES, *OF_FOLDERS])
def test_after_damage_of_every_kind_a_run_ends_as_if_there_was_none(small, what):
    with counted(P3="corrupt runs that resumed and ended with the bits of the intact run") as count:
        if what in OF_FILES:
            out = corrupt(small, what, "shards-00000.bin", 3)
        else:
            out = small.copy()
            OF_FOLDERS[what][0](out / "checkpoints")
        assert ends_as_the_whole(small, out)
        count.append(what)


def all_damaged(small):
    out = small.copy()
    for step in STEPS:
        manifest = out / "checkpoints" / checkpoints.name(step) / "manifest.json"
        manifest.write_bytes(flip(bytearray(manifest.read_bytes()), np.random.default_rng(step)))
    return out


def test_where_all_are_damaged_the_run_begins_anew_and_says_so(small):
    out = all_damaged(small)
    with counted(P3="corrupt runs that resumed and ended with the bits of the intact run") as count:
        *each, said = ends_as_the_whole(small, out)
        assert [NEWEST in each[0], BEFORE in each[1], len(each)] == [True, True, 3]
        assert said == "no checkpoint is good: the run starts over"
        assert len([path for path in (out / "quarantine").iterdir() if path.is_dir()]) == 3
        count.append("all")


def test_where_all_are_damaged_there_is_nothing_to_resume(small):
    out = all_damaged(small)
    before = there(out / "checkpoints")
    with (
        pytest.warns(Caution),
        pytest.raises(NoCheckpoint, match="Got 3 corrupt, now in quarantine"),
    ):
        small.resume(out, resume=True)
    assert set(there(out / "quarantine").values()) >= set(before.values())
    assert (out / "metrics.jsonl").read_bytes() == (small.run.out / "metrics.jsonl").read_bytes()


def test_damage_of_the_same_step_twice_is_kept_twice(small):
    out = small.copy()
    for number in (1, 2):
        (out / "checkpoints" / NEWEST / "manifest.json").write_text(f"{number}")
        with pytest.warns(Caution, match=f"quarantine/{NEWEST}-{number}"):
            small.restore(out)
        shutil.copytree(small.run.out / "checkpoints" / NEWEST, out / "checkpoints" / NEWEST)
    quarantined = [(out / f"quarantine/{NEWEST}-{n}" / "manifest.json").read_text() for n in (1, 2)]
    assert quarantined == ["1", "2"]
