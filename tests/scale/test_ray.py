"""The workers of Ray's trainer are the processes of one run."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='Install it: ".[ray]"')
def test_two_workers_train_as_one_process_does(tmp_path):
    losses = []
    for workers in (1, 2):
        out = tmp_path / f"run{workers}"
        settings = {"PYTHONPATH": str(ROOT), "RAY_raylet_start_wait_time_s": "300"}
        command = ["-m", "experiments.on_ray", "--workers", str(workers), "--steps", "60"]
        done = subprocess.run(
            [sys.executable, *command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True,
            env=os.environ | settings, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        result = json.loads((out / "result.json").read_text())
        losses.append([result["train/loss"], result["test/loss"]])
    one, two = losses
    assert two == pytest.approx(one, rel=1e-6)
