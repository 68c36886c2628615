"""What streams cost beside memory, Grain, a copy and PyTorch, on a quiet machine."""

from pathlib import Path

import pytest

from experiments.benchmarks import stream_bars

NEEDS = {"tokens": "grain", "images": "torch"}


@pytest.mark.benchmark
@pytest.mark.parametrize("workload", stream_bars.WORKLOADS)
def test_a_stream_keeps_its_bars(workload, tmp_path):
    if workload in NEEDS:
        pytest.importorskip(NEEDS[workload])
    for bar in stream_bars.WORKLOADS[workload](Path(tmp_path), 7):
        assert bar.value <= bar.most, f"{bar.name}: {bar.note}"
