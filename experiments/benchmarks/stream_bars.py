"""What a stream costs: beside data in memory, Grain's shuffle, a copy, and PyTorch's DataLoader.

    python -m experiments.benchmarks.stream_bars                       # minutes on two cores
    python -m experiments.benchmarks.stream_bars --only tokens images

Each line is a figure with its bar, which `tests/streams/test_speed.py` asserts. Contenders take
turns in one process, on files in a temporary folder that fit into the page cache. The figure is the
median ratio over the rounds. `tokens` requires grain, and `images` torch and Pillow.
"""

# pyright: reportMissingImports=false

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import jaxnn
from experiments import char_gpt
from experiments import images as image_experiment
from jaxnn import streams
from jaxnn.scale import devices
from jaxnn.streams.threads import Threads

WORDS = np.array([3, 4], np.uint32)  # the key of an order
KEY = jax.random.key(0)


class Bar(NamedTuple):
    """A figure and its upper bound.

    Attributes:
      name: the name of the figure.
      value: the measured value.
      most: the upper bound; a quantity with a lower bound is inverted.
      note: the figures that the value is computed from.
    """

    name: str
    value: float
    most: float
    note: str


def in_turn(rounds: int, *contenders: Callable[[], float]) -> list[list[float]]:
    """Returns the seconds that each contender reports per round, after a warm-up round."""
    for contender in contenders:
        contender()
    seconds = [[contender() for contender in contenders] for _ in range(rounds)]
    return [list(each) for each in zip(*seconds)]


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Returns the median ratio over the rounds."""
    return statistics.median(a / b for a, b in zip(ours, theirs))


def seconds_of(workload: Callable[[], Any], times: int = 1) -> float:
    """Returns the mean time of a call in seconds."""
    began = time.perf_counter()
    for _ in range(times):
        workload()
    return (time.perf_counter() - began) / times


def token_file(folder: Path, count: int = 50_000_000) -> Path:
    """Writes 100 MB of tokens."""
    path = folder / "tokens.bin"
    np.random.default_rng(0).integers(0, 65, count, np.uint16).tofile(path)
    return path


def resume(folder: Path, rounds: int) -> Iterator[Bar]:
    """Step 10^9 of a stream is there at once."""
    data = jaxnn.stream(streams.tokens(token_file(folder), 65), batch_size=12)
    first = [seconds_of(lambda: data.read(10**9)) for _ in range(rounds)]
    yield Bar("milliseconds until step 10^9", 1e3 * max(first), 50, f"the most of {rounds}")


def tokens(folder: Path, rounds: int) -> Iterator[Bar]:
    """A batch of 12 x 65 tokens costs a quarter of Grain's time, and 64 x 1,025 twice the time of
    copying as many windows, one by one, from their places in the mapped file."""
    import grain  # pyright: ignore

    path = token_file(folder)
    text = np.memmap(path, np.uint16, "r")

    class Windows:
        def __len__(self):
            return len(text) - 64

        def __getitem__(self, index):
            return {"inputs": text[index : index + 65]}

    theirs = grain.MapDataset.source(Windows()).seed(0).shuffle().repeat().batch(12)
    position = iter(range(10**6))
    with Threads(8, "benchmark") as pool:

        def read(length, size):
            data = jaxnn.stream(streams.tokens(path, length), batch_size=size)
            return lambda: seconds_of(lambda: data.training(pool, WORDS, next(position)), 8) / 32

        small, grains = in_turn(
            rounds, read(65, 12), lambda: seconds_of(lambda: theirs[next(position)], 100)
        )
        note = f"{1e6 * statistics.median(small):.0f} us, {1e6 * statistics.median(grains):.0f} us"
        yield Bar("12 x 65 tokens / grain", ratio(small, grains), 0.25, note)
        starts = np.random.default_rng(1).integers(0, len(text) - 1024, 64)
        large, copies = in_turn(
            rounds,
            read(1025, 64),
            lambda: seconds_of(lambda: np.stack([text[i : i + 1025] for i in starts]), 100),
        )
        note = f"{1e6 * statistics.median(large):.0f} us, {1e6 * statistics.median(copies):.0f} us"
        yield Bar("64 x 1,025 tokens / copying", ratio(large, copies), 2, note)


def write_images(folder: Path, count: int = 256, size: tuple[int, int] = (500, 375)) -> Path:
    """Writes JPEG files that resemble photographs, smooth noise, in four classes."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / "photographs" / f"class{number % 4}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (75, 100, 3), np.uint8))
        fine = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(fine + rng.normal(0, 4, fine.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(path, quality=90)
    return folder / "photographs"


def images(folder: Path, rounds: int, workers: int = 2) -> Iterator[Bar]:
    """Images are decoded 0.9 times as fast as by PyTorch's DataLoader, with as many workers."""
    import torch.utils.data  # pyright: ignore

    source = streams.images(write_images(folder), 224)
    data = jaxnn.stream(source, batch_size=32, block=1, workers=workers)

    class Dataset(torch.utils.data.Dataset):
        def __len__(self):
            return len(source)

        def __getitem__(self, index):
            example = source[index]  # decoded by Pillow, as in jaxnn
            return torch.from_numpy(np.array(example["inputs"])), int(example["labels"])

    loader = torch.utils.data.DataLoader(
        Dataset(), 32, shuffle=True, num_workers=workers, persistent_workers=True
    )
    with Threads(workers, "benchmark") as pool:

        def ours():
            for step in range(len(source) // 32):
                data.training(pool, WORDS, step)

        def theirs():
            for _ in loader:
                pass

        mine, torchs = in_turn(rounds, lambda: seconds_of(ours), lambda: seconds_of(theirs))
    note = ", ".join(f"{len(source) / statistics.median(x):.0f} a second" for x in (mine, torchs))
    yield Bar("images of 224 x 224 / DataLoader", ratio(mine, torchs), 1 / 0.9, note)


def overhead(folder: Path, rounds: int) -> Iterator[Bar]:
    """MNIST's MLP trains from files as fast as from memory."""
    train, _ = jaxnn.datasets.mnist()
    for name, array in train.items():
        np.save(folder / f"{name}.npy", array)
    source = streams.arrays({name: folder / f"{name}.npy" for name in train})
    learner = jaxnn.learner(
        jaxnn.serial(jaxnn.standardize(33.3, 78.6), jaxnn.mlp([256, 256], 10)),
        jaxnn.classification(), optax.adam(1e-3),
    )  # fmt: skip

    def trained(data):
        cpu = time.process_time()
        run = jaxnn.fit(learner, data, steps=4000, every=400, key=KEY, quiet=True)
        cpus.append((time.process_time() - cpu) / 4000)
        first, last = run.history[0], run.history[-1]
        return (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])

    cpus: list[float] = []
    streamed, resident = in_turn(
        rounds,
        lambda: trained(jaxnn.stream(source, batch_size=128)),
        lambda: trained(jaxnn.resident(train, batch_size=128)),
    )
    note = ", ".join(f"{1e6 * statistics.median(x):.0f} us" for x in (streamed, resident))
    used = ratio(cpus[2::2], cpus[3::2])
    note = f"{note} a step; of processor time {used:.3f}"
    yield Bar("step of MNIST's MLP / resident", ratio(streamed, resident), 1.03, note)


def waiting(folder: Path, rounds: int) -> Iterator[Bar]:
    """The device does not wait for the tokens of `char_gpt`, nor for images that decode fast."""
    config = char_gpt.Config()
    size = char_gpt.PRESETS["cpu"]
    learner = jaxnn.learner(char_gpt.network(config, 65), jaxnn.next_token(), optax.adam(1e-3))
    source = streams.tokens(token_file(folder), size.context + 1)
    data = jaxnn.stream(source, batch_size=size.batch_size)
    run = jaxnn.fit(learner, data, steps=1000, key=KEY, every=100, quiet=True)
    yield _waiting("char_gpt", run, 0.01)
    source = streams.images(write_images(folder, 2048, (32, 32)), 32)
    config = image_experiment.Config(epochs=3)
    run = image_experiment.trained(config, None, source, source, len(source.names), quiet=True)
    yield _waiting("images of 32 x 32", run, 0.02)


def _waiting(name: str, run: jaxnn.Run, most: float) -> Bar:
    speed = run.speed
    note = f"{speed['data_wait_seconds']} s, {speed['steps_per_second']} steps a second"
    return Bar(f"share of waiting, {name}", speed["data_wait_share"], most, note)


WORKLOADS = {
    "resume": resume,
    "tokens": tokens,
    "images": images,
    "overhead": overhead,
    "waiting": waiting,
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to measure."""

    only: tuple[str, ...] = (*WORKLOADS,)
    rounds: int = 7  # of each contender, after one that is not measured


def main(config: Config) -> None:
    """Measures and prints each figure."""
    print(devices.describe())
    for name in config.only:
        with tempfile.TemporaryDirectory() as folder:
            for bar in WORKLOADS[name](Path(folder), config.rounds):
                holds = "" if bar.value <= bar.most else ", which is too much"
                print(
                    f"{bar.name}: {bar.value:.3g} (at most {bar.most:.3g}{holds}; {bar.note})",
                    flush=True,
                )


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, prog="python -m experiments.benchmarks.stream_bars", description=__doc__))
