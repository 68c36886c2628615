"""How long a large table takes from a file to the device, and how much memory.

    python -m experiments.benchmarks.read_table        # about a minute on two cores

A new process reads a CSV file of 1,000,000 rows and 30 columns (numbers, integers, text and a
date), fits the columns, and transfers the arrays to the device. It alternates with a process in
which pandas only reads the file. Memory is the peak of the process, minus its memory before
reading.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to measure."""

    pairs: int = 5  # processes of either kind
    rows: int = 1_000_000  # of the file


def write(path: Path, rows: int) -> None:
    """Writes a table with 20 float, 5 integer, 3 text and one date column, and a label."""
    import polars

    draw = np.random.default_rng(0)
    colours = np.array(["red", "green", "blue", "yellow"])
    columns: dict[str, np.ndarray] = {f"x{i}": draw.normal(size=rows).round(4) for i in range(20)}
    columns |= {f"k{i}": draw.integers(0, 1000, rows) for i in range(5)}
    columns |= {f"c{i}": colours[draw.integers(0, 4, rows)] for i in range(3)}
    days = draw.integers(0, 1000, rows).astype("timedelta64[D]")
    columns["when"] = np.datetime64("2020-01-01") + days
    columns["label"] = np.array(["yes", "no"])[draw.integers(0, 2, rows)]
    polars.DataFrame(columns).write_csv(path)


def measure(path: str, who: str) -> None:
    """Prints the seconds and bytes of one contender."""
    if who == "pandas":
        import pandas

        steps = [lambda _: pandas.read_csv(path)]
    else:
        import jax
        import polars  # noqa: F401, imported before the clock starts, as pandas is

        import jaxnn

        jax.numpy.zeros(1).block_until_ready()

        def fit(table):
            return table, jaxnn.fit_columns(table, labels="label")

        def place(pair):
            data = jaxnn.resident(pair[1].encode(pair[0]), batch_size=512)
            return jax.block_until_ready(data.arrays)

        steps = [lambda _: jaxnn.read_table(path, delimiter=","), fit, place]
    before, start, value, seconds = peak(), time.perf_counter(), None, []
    for step in steps:
        value = step(value)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "bytes": peak() - before, "cpu": time.process_time()}))


def peak() -> int:
    """Returns the peak memory of this process so far, in bytes."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(line)


def compare(config: Config) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Returns the size of the file in bytes, and the figures of each process by contender."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.csv"
        write(path, config.rows)
        figures: dict[str, list[dict[str, Any]]] = {"pandas": [], "jaxnn": []}
        for _ in range(config.pairs):
            for who, measured in figures.items():
                command = [sys.executable, "-m", "experiments.benchmarks.read_table"]
                command += [str(path), who]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                measured.append(json.loads(done.stdout))
        return path.stat().st_size, figures


def time_ratios(figures: dict[str, list[dict[str, Any]]]) -> list[float]:
    """Returns the time of jaxnn divided by that of pandas, for each pair of processes."""
    pairs = zip(figures["jaxnn"], figures["pandas"])
    return [ours["seconds"][-1] / theirs["seconds"][-1] for ours, theirs in pairs]


def main(config: Config) -> None:
    """Measures the contenders in turn, and prints the results."""
    size, figures = compare(config)
    for who, measured in figures.items():
        seconds = np.median([each["seconds"] for each in measured], axis=0)
        most = max(each["bytes"] for each in measured)
        words = ", ".join(f"{each:.2f}" for each in seconds)
        print(
            f"{who}: {words} s (medians, cumulative), {most / 1e6:.0f} MB, {most / size:.2f} files"
        )
    ratios = time_ratios(figures)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"file {size / 1e6:.0f} MB; time of pandas: {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[2] in ("pandas", "jaxnn"):
        measure(*sys.argv[1:])
    else:
        import tyro

        main(tyro.cli(Config, prog="python -m experiments.benchmarks.read_table"))
