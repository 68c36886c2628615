"""All comparisons in one run: prints a table for each, and writes them as JSON.

    pip install -e ".[bench]"
    python -m experiments.benchmarks                      # all of them
    python -m experiments.benchmarks --only mlp tiny      # some

`mlp` and `tiny` are steps of a classifier beside the same one by hand and by other libraries;
`memory` is the most that each of these processes took. What takes longer has a command of its own:
`gpt`, `sweep`, `overhead`, `tables`, `recording`, `checkpoints` (`python -m
experiments.benchmarks.gpt`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.benchmarks import classifiers
from experiments.benchmarks.harness import about, compare, table

WORKS = {"mlp": classifiers.mlp, "tiny": classifiers.tiny}
UNITS = {"mlp": "ms", "tiny": "us"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to measure."""

    only: tuple[Literal["mlp", "tiny"], ...] = ("mlp", "tiny")  # which works
    rounds: int = 7  # of each contender, after one that compiles
    steps: int | None = None  # of a round (default: an epoch of MNIST, 2,000 of tiny)
    out: Path = Path("runs/benchmarks.json")  # where to write the figures


def main(config: Config) -> None:
    """Measures, prints and writes."""
    machine = about()
    packages = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    print(f"{machine['date']}; {machine['machine']}; load {machine['load']}; {packages}")
    figures = {"about": machine, "works": {}}
    for name in config.only:
        work = WORKS[name]() if config.steps is None else WORKS[name](config.steps)
        rows = compare(classifiers.CONTENDERS, work, rounds=config.rounds, per_round=work.steps)
        print(
            f"\n{name}: {UNITS[name]} a step of {work.batch_size} examples, {config.rounds}"
            f" rounds of {work.steps} steps\n{table(rows, UNITS[name])}",
            flush=True,
        )
        figures["works"][name] = [row._asdict() for row in rows]
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"\nwritten to {config.out}")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, prog="python -m experiments.benchmarks", description=__doc__))
