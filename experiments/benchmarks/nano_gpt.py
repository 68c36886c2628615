"""The model and training step of nanoGPT in PyTorch, with the sizes of its CPU example.

Reimplemented after https://github.com/karpathy/nanoGPT (model.py and train.py, MIT licence):
learned positions, layer normalization without bias, exact GELU, tied output weights, AdamW with
weight decay of matrices only, gradient clipping at 1, warm-up and cosine decay to a tenth, and
initial weights with standard deviation 0.02.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false

import math
from importlib.metadata import version

import numpy as np

from experiments.benchmarks.gpt import RATE, TOTAL, WARM_UP, Given


def nano_gpt(given: Given, *, compiled: bool = False):
    """PyTorch, as nanoGPT runs with and without `--compile`: fused attention and AdamW."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)
    size = given.size
    time, width, heads = size.context, size.features, size.heads

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_1 = nn.LayerNorm(width, bias=False)
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.out = nn.Linear(width, width, bias=False)
            self.norm_2 = nn.LayerNorm(width, bias=False)
            self.up = nn.Linear(width, 4 * width, bias=False)
            self.down = nn.Linear(4 * width, width, bias=False)

        def forward(self, x):
            batch, length, _ = x.shape
            parts = self.qkv(self.norm_1(x)).split(width, 2)
            q, k, v = (p.view(batch, length, heads, -1).transpose(1, 2) for p in parts)
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
            return x + self.down(functional.gelu(self.up(self.norm_2(x))))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(65, width)
            self.places = nn.Embedding(time, width)
            self.blocks = nn.ModuleList([Block() for _ in range(size.layers)])
            self.norm = nn.LayerNorm(width, bias=False)
            for name, parameter in self.named_parameters():
                if parameter.dim() > 1:
                    ends = name.endswith(("out.weight", "down.weight"))
                    nn.init.normal_(
                        parameter, std=0.02 / math.sqrt(2 * size.layers) if ends else 0.02
                    )

        def forward(self, inputs, labels):
            x = self.tokens(inputs) + self.places(torch.arange(inputs.shape[1]))
            for block in self.blocks:
                x = block(x)
            logits = self.norm(x) @ self.tokens.weight.T
            return functional.cross_entropy(logits.reshape(-1, 65), labels.reshape(-1))

    model = Model()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=RATE, betas=(0.9, 0.99), fused=True,
    )  # fmt: skip
    tokens, rest = (torch.from_numpy(x.astype(np.int64)) for x in given[:2])
    error = torch.compile(model) if compiled else model
    done = 0

    def rate(step):
        if step < WARM_UP:
            return RATE * step / WARM_UP
        share = (step - WARM_UP) / (TOTAL - WARM_UP)
        return RATE * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))

    def train():
        nonlocal done
        for _ in range(given.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate(done)
            starts = torch.randint(len(tokens) - time, (size.batch_size,))
            batch = torch.stack([tokens[i : i + time + 1] for i in starts])
            error(batch[:, :-1], batch[:, 1:]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done += 1

    @torch.no_grad()
    def test():
        windows = (len(rest) - 1) // time
        losses = []
        for first in range(0, windows, 64):
            starts = range(first * time, min(first + 64, windows) * time, time)
            batch = torch.stack([rest[i : i + time + 1] for i in starts])
            losses += [float(model(batch[:, :-1], batch[:, 1:]))] * len(starts)
        return sum(losses) / len(losses)

    return train, test, f"torch {version('torch')}, {torch.get_num_threads()} threads"
