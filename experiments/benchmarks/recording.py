"""What recording and the report cost: the same runs with and without, in turn.

    python -m experiments.benchmarks.recording           # about two minutes on two cores

`python -m experiments.mnist` trains with its default settings and a warm compile cache, with and
without recording. The compared figure is its `seconds`, the training time. Then the report of
`python -m experiments.digits` is written again.
"""

import contextlib
import io
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import jaxnn
from experiments import digits, mnist
from experiments.command import collect_seldom
from jaxnn import report
from jaxnn.scale import devices


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to measure."""

    pairs: int = 7  # runs of mnist with recording and without
    epochs: float = 12  # of each


def trained(experiment, config, out: Path, recorded: bool) -> jaxnn.Run:
    """Trains an experiment without output."""
    with contextlib.redirect_stdout(io.StringIO()):
        return experiment.main(config, jaxnn.Directory(out, config=config, report=recorded))


def main(config: Config) -> None:
    """Runs the measurements, and prints the results."""
    print(devices.describe(), flush=True)
    collect_seldom()  # as the commands do
    place = Path(tempfile.mkdtemp())
    jaxnn.compile_cache(place / "compiled")
    ratios = []
    for pair in range(config.pairs + 1):
        seconds = {}
        for recorded in (False, True) if pair % 2 else (True, False):
            out = place / f"mnist-{pair}-{recorded}"
            run = trained(mnist, mnist.Config(epochs=config.epochs), out, recorded)
            seconds[recorded] = run.result["seconds"]
        if pair:  # the first compiles
            ratios.append(seconds[True] / seconds[False])
            print(f"mnist: {seconds[False]:.2f} s, recorded {seconds[True]:.2f} s", flush=True)
    slower = [100 * (ratio - 1) for ratio in ratios]
    middle, least, most = statistics.median(slower), min(slower), max(slower)
    print(f"recording: {middle:+.1f} ({least:+.1f} to {most:+.1f}) % of the training")
    page = place / "digits" / "report.html"
    trained(digits, digits.Config(), page.parent, True)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        report.write(page.parent)
        times.append(time.perf_counter() - began)
    size = page.stat().st_size / 1e6
    print(f"report of digits: {statistics.median(times):.2f} s, {size:.2f} MB")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
