"""Reading shuffled batches from a file: streams, Grain and PyTorch's `DataLoader`.

The file contains the MNIST images as bytes, in a format that NumPy can memory-map. A round is a
pass over the file in batches of 128, which end up where training needs them: on the device, or as
tensors. `first` includes the start of workers. The sum of all pixels verifies that each contender
reads all images.
"""

# pyright: reportMissingImports=false, reportArgumentType=false, reportCallIssue=false

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BATCH_SIZE = 128


class Given(NamedTuple):
    """The files to read.

    Attributes:
      images: the path of the images, `[examples, 28, 28]`.
      labels: the path of the labels, `[examples]`.
      steps: the number of batches in a pass.
    """

    images: Path
    labels: Path
    steps: int


def given(quick: bool) -> Given:
    """Writes full batches of MNIST to a temporary folder."""
    import jaxnn

    train, _ = jaxnn.datasets.mnist()
    folder, steps = Path(tempfile.mkdtemp()), 20 if quick else 468
    paths = folder / "images.npy", folder / "labels.npy"
    for path, name in zip(paths, ("inputs", "labels")):
        np.save(path, train[name][: steps * BATCH_SIZE])
    return Given(*paths, steps)


def ours(given: Given):
    """jaxnn: `read` of a stream, one block after another; `fit` also prefetches."""
    import jax

    import jaxnn

    source = jaxnn.streams.arrays({"inputs": given.images, "labels": given.labels})
    data = jaxnn.stream(source, batch_size=BATCH_SIZE).shuffled(jax.random.key(0))
    total, done = 0.0, 0

    def train():
        nonlocal total, done
        total = 0.0
        end = done + given.steps
        while done < end:
            block = jax.block_until_ready(jax.device_put(data.read(done)))
            count = min(data.block, end - done)  # the last block of a pass overlaps the next pass
            total += float(np.asarray(block.arrays["inputs"])[:count].sum(dtype=np.int64))
            done += count

    return train, lambda: total / 1e6, f"jax {version('jax')}"


def grain(given: Given):
    """Grain: a shuffled and batched `MapDataset`, read by threads."""
    import grain
    import jax

    images, labels = (np.load(path, mmap_mode="r") for path in given[:2])

    class Source(grain.sources.RandomAccessDataSource):
        def __len__(self):
            return len(labels)

        def __getitem__(self, index):
            return {"inputs": images[index], "labels": labels[index]}

    total, epoch = 0.0, 0

    def train():
        nonlocal total, epoch
        total = 0.0
        data = grain.MapDataset.source(Source()).shuffle(seed=epoch).batch(BATCH_SIZE)
        for batch in data.to_iter_dataset():
            total += float(np.asarray(jax.device_put(batch)["inputs"]).sum(dtype=np.int64))
        epoch += 1

    return train, lambda: total / 1e6, f"grain {version('grain')}"


def torch(given: Given, *, workers: int = 0, whole: bool = False):
    """The `DataLoader` of PyTorch: single examples, or whole batches with a `BatchSampler`."""
    import torch
    from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

    images, labels = (np.load(path, mmap_mode="r") for path in given[:2])

    class Images(Dataset):
        def __len__(self):
            return len(labels)

        def __getitem__(self, index):
            return torch.from_numpy(np.array(images[index])), torch.as_tensor(labels[index])

    options: dict[str, Any] = {}
    if workers:  # started as Linux starts them by default
        options = {"persistent_workers": True, "multiprocessing_context": "fork"}
    options["num_workers"] = workers
    if whole:
        sampler = BatchSampler(RandomSampler(Images()), BATCH_SIZE, drop_last=False)
        loader = DataLoader(Images(), sampler=sampler, batch_size=None, **options)
    else:
        loader = DataLoader(Images(), batch_size=BATCH_SIZE, shuffle=True, **options)
    total = 0.0

    def train():
        nonlocal total
        total = 0.0
        for inputs, _ in loader:
            total += float(inputs.sum(dtype=torch.int64))

    return train, lambda: total / 1e6, f"torch {version('torch')}, {workers} workers"
