"""The models that packages carry: real weights, against their own libraries."""

import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxnn import pretrained
from jaxnn.masked import Masked
from jaxnn.models import generate
from tests.pretrained.peers import minilm, peer, smollm, transformers

TEXTS = [
    "A cat sits on the mat.",
    "Hello",
    "The quick brown fox jumps over the lazy dog, and nobody saw it happen until evening.",
]


@pytest.mark.nightly  # minutes on two cores
@pytest.mark.usefixtures("optimized", "cache_options")
@pytest.mark.parametrize("stacked", [False, True], ids=["blocks", "stacked"])
def test_smollm_writes_what_transformers_writes(stacked):
    library = transformers()
    import torch

    path = smollm()
    begin = time.perf_counter()
    model = pretrained.load(path, stacked=stacked)
    print("seconds to load:", time.perf_counter() - begin)
    theirs = library.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    tokens = np.array([model.tokenizer.encode(TEXTS[2] * 3)], np.int32)[:, :42]
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens.astype(np.int64))).logits.numpy()
    logits, _ = jax.jit(model.network.apply)(model.params, model.state, tokens)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-4)
    written = generate(
        model.network, model.params, model.state, tokens, 100,
        key=jax.random.key(0), temperature=0,
    )  # fmt: skip
    with torch.no_grad():
        known = torch.tensor(tokens.astype(np.int64))
        theirs.generation_config.eos_token_id = None  # it would stop
        out = theirs.generate(known, max_new_tokens=100, do_sample=False)
    assert written[0].tolist() == out[0, tokens.shape[1] :].tolist()


def test_minilm_says_what_sentence_transformers_says():
    library = peer("sentence_transformers")
    folder = minilm()
    model = pretrained.load(folder)
    apply = jax.jit(model.network.apply)
    batch = model.tokenizer.batch(TEXTS)
    together, _ = apply(model.params, model.state, batch)
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-5)
    for row, text in zip(together, TEXTS, strict=True):
        alone, _ = apply(model.params, model.state, model.tokenizer.batch([text]))
        np.testing.assert_allclose(alone[0], row, rtol=0, atol=1e-6)
    padded = np.pad(batch.values, ((0, 0), (0, 5)))
    padded = Masked(padded, np.pad(batch.mask, ((0, 0), (0, 5))))
    more, _ = apply(model.params, model.state, padded)
    np.testing.assert_allclose(more, together, rtol=0, atol=1e-6)


MEMORY = """
import sys, jax, jax.numpy as jnp, numpy as np
jnp.zeros(3).block_until_ready()
from jaxnn import pretrained
import safetensors
def anonymous():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return 1024 * int(next(x for x in lines if x.startswith("Anonymous:")).split()[1])
peak = start = anonymous()
own = np.empty
def watched(*arguments, **options):
    global peak
    peak = max(peak, anonymous())
    return own(*arguments, **options)
np.empty = watched
dtype = getattr(jnp, sys.argv[2]) if sys.argv[2] != "None" else None
model = pretrained.load(sys.argv[1], stacked=sys.argv[3] == "True", dtype=dtype)
sizes = [x.size * x.dtype.itemsize for x in jax.tree.leaves(model.params)]
print(max(peak, anonymous()) - start, sum(sizes), max(sizes))
"""


@pytest.mark.parametrize(
    ("dtype", "stacked"),
    [("None", False), ("None", True), ("bfloat16", True)],
    ids=["float32", "stacked", "bfloat16"],
)
def test_loading_takes_the_parameters_and_two_arrays(dtype, stacked):
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is read from /proc")
    command = [sys.executable, "-c", MEMORY, str(minilm()), dtype, str(stacked)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used, total, largest = map(int, out.split())
    # Beside the arrays: what tracing the network, and the tokenizer, leave in the heap.
    assert used <= total + 2 * largest + 60 * 2**20, (used, total, largest)
