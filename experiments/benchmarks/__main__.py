"""jaxnn beside the same programs by hand and in other libraries: prints tables and writes them.

    pip install -e ".[bench]"
    python -m experiments.benchmarks                   # all workloads, an hour on two cores
    python -m experiments.benchmarks --only mlp cold   # some
    python -m experiments.benchmarks --quick           # all, in small

Each contender runs in its own process and warms up before it is measured; contenders take turns.
Those whose packages are missing are skipped and listed. The figures are written as JSON, merged
with those of an earlier call, and as Markdown next to it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.benchmarks import report
from experiments.benchmarks.harness import compare
from experiments.benchmarks.workloads import WORKLOADS

NAMES = "{" + ",".join(WORKLOADS) + "}"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure, and how."""

    only: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="{" + ",".join(WORKLOADS) + "}")
    ] = ()  # workloads
    contenders: tuple[str, ...] = ()  # names of contenders; all by default
    rounds: int | None = None  # of each contender, instead of what each workload says
    quick: bool = False  # do less of each workload, once, to try it
    out: Path = Path("runs/benchmarks")  # folder for figures.json and tables.md


def main(config: Config) -> None:
    """Runs the benchmarks, and prints and writes the figures."""
    unknown = [name for name in config.only if name not in WORKLOADS]
    if unknown:
        known = ", ".join(WORKLOADS)
        raise SystemExit(f"no such workload: {', '.join(unknown)}. There are {known}.")
    written = config.out / "figures.json"
    figures = json.loads(written.read_text()) if written.exists() else {}
    for name in config.only or WORKLOADS:
        workload, note = WORKLOADS[name], report.about()
        rows, absent = compare(
            workload, quick=config.quick, rounds=config.rounds, only=config.contenders
        )
        figures[name] = report.summary(name, workload, rows, absent, note)
        packages = ", ".join(f"{package} {number}" for package, number in note["versions"].items())
        print(f"\n{name}: {workload.title}\n{report.text(report.cells(figures[name]))}")
        for each, words in absent.items():
            print(f'  {each} is left out: {words} not installed (pip install -e ".[bench]")')
        print(f"  {note['date']}; {note['machine']}; load {note['load']}; {packages}", flush=True)
        config.out.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps(figures, indent=1) + "\n")
        (config.out / "tables.md").write_text(report.markdown([*figures.values()]))
    print(f"\n{report.text(report.bars([*figures.values()]))}\n\nwritten to {config.out}")


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks", description=__doc__))
