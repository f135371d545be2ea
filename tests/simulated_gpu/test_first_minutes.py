"""`benchmarks/first_gpu.sh` whole on the simulated GPU, with its times cut: exit codes and files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nfbench.analysis.store import load

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.simulated
def test_the_first_minutes_pass_and_leave_their_files(tmp_path: Path) -> None:
    python, folder = tmp_path / "python", tmp_path / "first"
    # bash and its tools are not preloaded
    python.write_text(f'#!/bin/sh\nLD_PRELOAD={os.environ["LD_PRELOAD"]} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    environment = {
        key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "SIMULATED_GPU_REPORTS")
    }
    cut = {"NFBENCH_SECONDS": "1", "NFBENCH_ROUNDS": "1", "NFBENCH_PATIENCE": "3", "PYTHON": str(python)}
    # the tests themselves run in test_gpu_suite.py
    cut["PYTEST_ADDOPTS"] = "-p no:xdist -k 'two_launches or is_not_synchronized'"
    script = subprocess.run(
        ["bash", ROOT / "benchmarks/first_gpu.sh", folder],
        env=environment | cut,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    steps = [line.split("\t") for line in (folder / "steps.tsv").read_text().splitlines()]
    log = (folder / "log.txt").read_text()
    assert {name: result for name, result, *_ in steps if result != "passed"} == {}, log[-6000:]
    assert script.returncode == 0 and len(steps) == 11
    assert (folder / "report.md").read_text()
    rows = load([folder / "results.jsonl"]).results
    assert rows and all(row.machine.simulated for row in rows)
