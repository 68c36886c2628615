"""The time and memory of SmolLM2-135M, beside its file format's own package and PyTorch.

    pytest -n 0 -m benchmark -s tests/pretrained/test_costs.py

Each measurement is taken in a fresh process, or in turns with its peer in this one.
"""

import json
import statistics
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxnn import pretrained
from jaxnn.models import generate
from jaxnn.models._writing import write_all
from jaxnn.storage import checkpoints
from tests.pretrained.peers import smollm, transformers

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc"),
]

MEASURE = """
import json, sys, time
def resident(name):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])
"""
OPEN = """
from gguf import GGUFReader
begin = time.perf_counter()
GGUFReader(sys.argv[1])
print(json.dumps({"seconds": time.perf_counter() - begin}))
"""
LOAD = """
import jax, gguf
from jaxnn import pretrained
jax.numpy.zeros(3).block_until_ready()
begin = time.perf_counter()
model = pretrained.load(sys.argv[1])
jax.block_until_ready(model.params)
print(json.dumps({"seconds": time.perf_counter() - begin, "peak": resident("VmHWM:")}))
"""
STEPS = """
import jax, jax.numpy as jnp, numpy as np, optax, jaxnn
path, out, form = sys.argv[1:]
model = jaxnn.pretrained.load(path, stacked=True)
adapted, adam = jaxnn.lora(model.network, rank=8), optax.adam(1e-3)
tokens = np.arange(129 * 64, dtype=np.int32) % 1000
key, state = jax.random.key(0), {"base": model.params, "scale": jnp.float32(2)}
if form == "fit":
    data = jaxnn.windows(tokens, 129, batch_size=4)
    learner = jaxnn.learner(adapted, jaxnn.next_token(), adam)
    jaxnn.fit(learner, data, steps=3, key=key, start=({}, {"base": model.params}), out=out,
              quiet=True, saving=jaxnn.Saving(seconds=0, last=1))
else:
    batches = tokens.reshape(-1, 4, 129)
    params = jax.jit(lambda: adapted.init(key, batches[0, :, :-1])[0])()
    def step(params, memory, state, batch):
        def loss(params):
            logits, _ = adapted.apply(params, state, batch[:, :-1], key=key)
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()
        value, grads = jax.value_and_grad(loss)(params)
        updates, memory = adam.update(grads, memory, params)
        return optax.apply_updates(params, updates), memory, value
    step, memory = jax.jit(step, donate_argnums=(0, 1)), adam.init(params)
    for batch in batches[:3]:
        params, memory, value = step(params, memory, state, batch)
    float(value)
print(json.dumps({"peak": resident("VmHWM:")}))
"""


def measured(program, *arguments):
    command = [sys.executable, "-c", MEASURE + program, *map(str, arguments)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


def test_a_gguf_file_loads_in_twice_the_time_that_its_package_opens_it():
    path, seconds, peak = smollm(), {"open": [], "load": []}, 0
    for _ in range(5):
        seconds["open"].append(measured(OPEN, path)["seconds"])
        result = measured(LOAD, path)
        seconds["load"].append(result["seconds"])
        peak = max(peak, result["peak"])
    opens, loads = (statistics.median(each) for each in seconds.values())
    print(f"\nopened in {opens:.2f} s, loaded in {loads:.2f} s; peak {peak / 1e9:.2f} GB")
    assert loads <= 2 * opens
    assert peak <= 1.1e9


@pytest.mark.usefixtures("optimized", "cache_options")
def test_tokens_are_generated_faster_than_by_pytorch():
    library = transformers()
    import torch

    path, count = smollm(), 100
    model = pretrained.load(path)
    theirs = library.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    theirs.generation_config.eos_token_id = None  # it would stop
    text = "The quick brown fox jumps over the lazy dog, and nobody saw it happen. " * 3
    prompt = np.array([model.tokenizer.encode(text)[:42]], np.int32)

    def ours(prompt):
        tokens = generate(
            model.network, model.params, model.state, prompt, count,
            key=jax.random.key(0), temperature=0,
        )  # fmt: skip
        return np.asarray(tokens)[0].tolist()

    def pytorch(prompt):
        with torch.no_grad():
            known = torch.tensor(prompt.astype(np.int64))
            out = theirs.generate(known, max_new_tokens=count, do_sample=False)
        return out[0, prompt.shape[1] :].tolist()

    assert ours(prompt) == pytorch(prompt)  # and compiles
    compiled = write_all._cache_size()
    ours(prompt[:, :37])
    assert write_all._cache_size() == compiled  # a prompt of another length compiles nothing
    seconds = {ours: [], pytorch: []}
    for _ in range(5):
        for work in seconds:
            begin = time.perf_counter()
            work(prompt)
            seconds[work].append(time.perf_counter() - begin)
    own, other = (count / statistics.median(each) for each in seconds.values())
    print(f"\njaxnn {own:.1f} tokens a second, PyTorch {other:.1f}")
    assert own >= 1.5 * other


def test_it_stops_at_its_stop_token():
    model = pretrained.load(smollm(), stacked=True)
    question = [{"role": "user", "content": "What is the capital of France? One word."}]
    prompt = np.array([model.tokenizer.chat(question)], np.int32)
    tokens = generate(
        model.network, model.params, model.state, prompt, 60,
        key=jax.random.key(0), temperature=0, stop=model.tokenizer.stop,
    )  # fmt: skip
    assert 0 < int(tokens.mask.sum()) < 60
    assert not np.isin(tokens.values[tokens.mask], model.tokenizer.stop).any()


def test_a_run_of_adapters_takes_the_memory_of_steps_by_hand_and_a_small_directory(tmp_path):
    path, out = smollm(), tmp_path / "run"
    hand, fit = (measured(STEPS, path, out, form) for form in ("hand", "fit"))
    print(f"\nby hand {hand['peak'] / 1e9:.2f} GB, fit {fit['peak'] / 1e9:.2f} GB at the peak")
    assert fit["peak"] <= 1.2 * hand["peak"]
    sizes = {file: file.stat().st_size for file in out.rglob("*") if file.is_file()}
    base = sum(size for file, size in sizes.items() if file.parent.name == "base")
    folders = checkpoints.folders(out / "checkpoints")
    each = [sum(size for file, size in sizes.items() if place in file.parents) for place in folders]
    rest = sum(sizes.values()) - base - sum(each)
    print(f"base {base / 1e6:.1f} MB, checkpoints {[round(x / 1e6, 1) for x in each]} MB,"
          f" the rest {rest / 1e6:.2f} MB")  # fmt: skip
    adapters = 4 * 2_442_240  # bytes: rank 8 of all 210 matrices
    assert base <= 540e6 and rest <= 1e6
    assert len(each) == 1 and each[0] <= 3 * adapters + 1e6  # with the two moments of Adam
