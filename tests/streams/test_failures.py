"""What goes wrong while a run reads: an error that says where, all that was trained is saved."""

import threading
import time
from functools import cache

import jax
import numpy as np
import optax
import pytest
from chex import assert_trees_all_equal

import jaxnn
from jaxnn.checks import InvalidValue
from jaxnn.storage import checkpoints
from jaxnn.streams import arrays, concatenate, stream, tokens
from jaxnn.streams.feed import Stalled
from tests.streams.sources import examples, fields

ROWS = examples(fields())
KEY = jax.random.key(5)


@cache  # one learner compiles once, however many tests run it
def made():
    return jaxnn.learner(jaxnn.mlp([5], 4), jaxnn.classification(), optax.adam(1e-2))


def trained(source, out=None, *, steps=60, evaluate=None, **options):
    data = stream(source, batch_size=4, block=4, ahead=1, **options)
    return jaxnn.fit(
        made(), data, steps=steps, key=KEY, every=10, evaluate=evaluate, out=out, quiet=True
    )


def threads():
    return {each for each in threading.enumerate() if each.name.startswith("jaxnn-")}


def gone(before, seconds=60):
    end = time.monotonic() + seconds
    while threads() - before and time.monotonic() < end:
        time.sleep(0.01)
    return not threads() - before


@pytest.fixture
def before():
    """The threads of streams that other tests of this process left open."""
    return threads()


class Disk(list):
    """Examples on a disk that fails after so many reads; the examples stay the same."""

    reads, limit, hangs = 0, 10**9, None

    def __getitem__(self, index):
        self.reads += 1
        if self.reads > self.limit:
            if self.hangs is None:
                raise OSError("bad sector")
            self.hangs.wait(60)
        return super().__getitem__(index)

    def fingerprint(self):
        return "of this disk"


def newest(out):
    def on_corrupt(path, error):
        raise error

    steps = [
        content["step"] for _, content in checkpoints.verified(out / "checkpoints", on_corrupt)
    ]
    return max(steps)


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
def test_what_was_trained_is_saved_and_the_same_command_resumes(tmp_path, before, hangs):
    whole, out = trained(ROWS, steps=60), tmp_path / "run"
    disk = Disk(ROWS)
    disk.limit, disk.hangs = 200, threading.Event() if hangs else None
    words = "nothing for 5 seconds" if hangs else r"example \d+ cannot be read.*bad sector"
    with pytest.raises(Stalled if hangs else InvalidValue, match=words) as caught:
        trained(disk, out, **({"timeout": 5.0} if hangs else {}))
    step = newest(out)
    assert f"What was trained up to step {step} is saved" in str(caught.value) and step > 0
    assert not step % 4, "all blocks that were read have been trained on"
    if hangs:
        disk.hangs.set()
    assert gone(before)
    disk.limit = 10**9
    run = trained(disk, out)
    assert_trees_all_equal(run.state._replace(key=None), whole.state._replace(key=None))
    assert len(run.history) == len(whole.history)


def test_what_was_trained_is_saved_if_an_evaluation_cannot_be_read(tmp_path, before):
    disk, out = Disk(ROWS), tmp_path / "run"

    def evaluated(out):
        disk.reads = 0
        return trained(ROWS, out, evaluate=stream(disk, batch_size=8, block=2, workers=1))

    whole = evaluated(None)
    # The examples are read once before the training, and in each of six evaluations.
    each = (disk.reads - len(ROWS)) // 6
    for evaluations, step in ((0, 10), (0, 10), (5, 60), (0, 60)):  # until the disk fails
        disk.limit = len(ROWS) + evaluations * each + 5
        with pytest.raises(InvalidValue, match=f"bad sector.*up to step {step} is saved"):
            evaluated(out)
        assert newest(out) == step and gone(before)
    disk.limit = 10**9
    run = evaluated(out)
    assert_trees_all_equal(run.state._replace(key=None), whole.state._replace(key=None))
    assert timeless(run.history) == timeless(whole.history)


def timeless(history):
    return [{**row, "seconds": 0} for row in history]


def test_a_disk_that_hangs_before_the_training_is_an_error(before):
    disk = Disk(ROWS)
    disk.limit, disk.hangs = 0, threading.Event()
    data = stream(disk, batch_size=4, timeout=0.2)
    for read in (lambda: data.examples, lambda: data.read(0), lambda: data.read_in_order(0)):
        with pytest.raises(Stalled, match="nothing for 0.2 seconds.*disk"):
            read()
    disk.hangs.set()
    assert gone(before)


def test_no_thread_is_left_after_a_run(before):
    trained(ROWS, read=lambda example, random: example, evaluate=stream(ROWS, batch_size=8))
    assert gone(before)


def files(folder, wrong):
    """Writes 600 examples to two files, the last with a label that is out of range."""
    many = {"inputs": np.zeros((600, 3), np.float32), "labels": np.arange(600, dtype=np.int32) % 4}
    many["labels"][wrong] = 9
    for number, part in enumerate((slice(0, 400), slice(400, 600))):
        np.savez(folder / f"{number}.npz", **{k: v[part] for k, v in many.items()})
    return arrays(folder)


WRONG = 599 - 1  # none of the examples that are looked at before the run


def test_a_label_in_the_last_file_is_checked(tmp_path):
    source = files(tmp_path, WRONG)
    assert WRONG not in stream(source, batch_size=4).examples["index"]
    words = rf"in example {WRONG} \(row 198 of .*1.npz\), .*out of range.*=9 with 4 outputs"
    with pytest.raises(InvalidValue, match=words):
        trained(source, steps=1000)
    with pytest.raises(InvalidValue, match=f"in the data 'test'.*{words}|{words}"):
        trained(ROWS, evaluate=stream(source, batch_size=100))
    both = concatenate([ROWS, source])
    with pytest.raises(InvalidValue, match=rf"in example {WRONG + len(ROWS)} \(row 198 of .*1.npz"):
        trained(both, steps=1000)


def test_labels_of_no_weight_may_be_anything():
    many = fields()
    weights = np.ones(len(many["labels"]), np.float32)
    many["labels"] = many["labels"].copy()
    many["labels"][3], weights[3] = 99, 0
    trained(examples({**many, "weights": weights}))


def test_tokens_outside_of_the_vocabulary_are_found_where_they_stand(tmp_path):
    text = np.arange(20_000, dtype=np.uint16) % 8
    text[10_006] = 8
    text.tofile(tmp_path / "0.bin")
    data = stream(tokens(tmp_path, 5, stride=5), batch_size=50)
    assert data.examples["inputs"].max() == 7
    gpt = jaxnn.gpt(8, layers=1, heads=1, features=4, positions=4)
    learner = jaxnn.learner(gpt, jaxnn.next_token(), optax.sgd(0.1))
    with pytest.raises(InvalidValue, match=r"from token 10005 of .*0.bin.*out of range"):
        jaxnn.fit(learner, data, steps="1 epoch", key=KEY, quiet=True)


def test_a_file_that_changes_ends_the_run_and_another_one_does_not_resume_it(tmp_path):
    for number, seed in enumerate((0, 1)):
        part = {k: np.roll(v, seed, 0) for k, v in fields().items()}
        np.savez(tmp_path / f"{number}.npz", **part)
    source, out = arrays(tmp_path / "?.npz"), tmp_path / "run"

    def read(example, random):
        if (tmp_path / "run" / "metrics.jsonl").exists():
            np.savez(tmp_path / "new.npz", **fields())
            (tmp_path / "new.npz").replace(tmp_path / "1.npz")
        return example

    with pytest.raises(InvalidValue, match="a file changed while it was read.*1.npz.*is saved"):
        trained(source, out, steps=3000, read=read, workers=1)
    with pytest.raises(InvalidValue, match="data"):
        trained(arrays(tmp_path / "?.npz"), out, steps=100)


def test_a_decoder_that_raises_names_the_file_and_the_example(tmp_path):
    source = files(tmp_path, 0)

    def read(example, random):
        if example["labels"] == 9:
            raise ValueError("not a picture")
        return example

    with pytest.raises(InvalidValue, match=r"example 0 \(row 0 of .*0.npz\) .*not a picture"):
        stream(source, batch_size=600, read=read).read(0)
