"""`nfbench check` of a tiny study on the real CPU, in a repository of its own: the same code, then a head that sleeps.

uv run python benchmarks/check_cpu.py

Two cores that others share have rounds of 4 to 12 % standard deviation, so the same code must end as same or
inconclusive, never as slower, and a head that sleeps half of every step as slower. Exits with 1 where that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nfbench

NET = """\
import time

import timm
import torch


class Sleeper(torch.nn.Module):
    def __init__(self, net, share):
        super().__init__()
        self.net, self.share = net, share
        self.began = None
        self.slept = 0.0

    def forward(self, x):
        now = time.perf_counter()
        # from forward to forward is a step; what was slept in it does not count
        step = 0.0 if self.began is None else min(1.0, now - self.began - self.slept)
        self.began, self.slept = now, self.share * step
        time.sleep(self.slept)
        return self.net(x)


def net(num_classes):
    return Sleeper(timm.create_model("test_resnet", num_classes=num_classes), {share})
"""

STUDY = """\
title = "Tiny"
question = "Is the head slower?"

[[step-time]]
model = "sleeper:net"
px = 64
batch = 32
micro_batch = 32
layout = "nchw"
"""


def main() -> None:
    """Make the repository, check twice and print what was said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-time", type=float, default=420.0, help="seconds of each check")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        (repository / "tiny.toml").write_text(STUDY)
        _git(repository, "init", "-q", "-b", "main")
        _commit(repository, 0.0, "The base")
        _commit(repository, 0.0, "The same code", "# nothing new\n")
        same, same_time, _ = _check(repository, args.max_time)
        _commit(repository, 0.5, "Sleep half of each step")
        slower, slower_time, code = _check(repository, args.max_time)
    for what, row, took in (("the same code", same, same_time), ("sleeps 50 %", slower, slower_time)):
        noise = f"{100 * row['noise']:.1f} %" if "noise" in row else "–"
        change = f"{100 * (row['ratio'] - 1):+.1f} %" if "ratio" in row else "–"
        print(f"{what}: {row['verdict']}, {change}, {row.get('rounds', 0)} rounds of sd {noise}, {took:.0f} s")
    good = same["verdict"] in ("same", "inconclusive") and slower["verdict"] == "slower" and code == 3
    sys.exit(0 if good and max(same_time, slower_time) <= args.max_time + 30 else 1)


def _check(repository: Path, max_time: float) -> tuple[dict[str, Any], float, int]:
    """The row of the study's workload against the parent commit, seconds and the exit code."""
    package = str(Path(nfbench.__file__).parent.parent)
    command = [sys.executable, "-m", "nfbench", "check", "tiny.toml", "--against", "HEAD~1", "--device", "cpu"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--max-time", str(max_time), "--format", "json", "--quiet"],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": package},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    row: dict[str, Any] = json.loads(done.stdout)[0]
    return row, time.monotonic() - began, done.returncode


def _commit(repository: Path, share: float, message: str, more: str = "") -> None:
    (repository / "sleeper.py").write_text(NET.replace("{share}", str(share)) + more)
    _git(repository, "add", ".")
    _git(repository, "-c", "user.name=nfbench", "-c", "user.email=nfbench@localhost", "commit", "-qm", message)


def _git(repository: Path, *command: str) -> None:
    subprocess.run(["git", *command], cwd=repository, check=True)


if __name__ == "__main__":
    main()
