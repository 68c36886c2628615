"""What streams cost beside memory, Grain, a copy and PyTorch, on a quiet machine."""

from pathlib import Path

import pytest

from experiments.benchmarks import stream_bars

NEEDS = {"tokens": "grain", "images": "torch"}


@pytest.mark.benchmark
@pytest.mark.parametrize("work", stream_bars.WORKS)
def test_a_stream_keeps_its_bars(work, tmp_path):
    if work in NEEDS:
        pytest.importorskip(NEEDS[work])
    for bar in stream_bars.WORKS[work](Path(tmp_path), 7):
        assert bar.value <= bar.most, f"{bar.name}: {bar.note}"
