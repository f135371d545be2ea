"""The commands on CUDA, with real workers and ranks: they end well, and nothing of it passes for a measurement."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli
from simulated_gpu.commands import FOLDER, NET, in_own_process, rows

from nfbench.devices.cuda import QUIET
from nfbench.records import AgcCost

pytestmark = pytest.mark.simulated
SHORT = ("--device", "cuda", "--quiet", "--out", FOLDER)


COMPILED_AND_PROFILED = """
import torch
from nfbench.devices.cuda import Cuda
Cuda()
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]):
    torch.compile(lambda x: x * 2 + 1)(torch.ones(8, device="cuda"))
"""


def test_neither_triton_nor_kineto_writes_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in QUIET:
        monkeypatch.delenv(name, raising=False)
    # what has been compiled is not warned of
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "cache")
    done = subprocess.run([sys.executable, "-c", COMPILED_AND_PROFILED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_agc_cost_times_every_clip(cli: Cli) -> None:
    done = cli("agc-cost", "--model", NET, "--batch", 8, "--max-time", 0.1, *SHORT)
    assert done.exit_code == 0, done.output
    clips = [row for row in rows() if isinstance(row.workload, AgcCost)]
    assert {row.workload.impl for row in clips} == {"reference", "foreach", "fused", "timm", "copy"}
    assert all(row.reading("clip_host") for row in clips)


def test_accuracy_trains_an_epoch(cli: Cli) -> None:
    done = cli("accuracy", "--model", NET, "--dataset", "digits", "--epochs", 1, *SHORT)
    assert done.exit_code == 0, done.output
    (row,) = rows()
    # its loss is what memory that was used before holds
    assert row.status in ("ok", "diverged") and row.machine.simulated


STUDY = f"""
title = "t"
question = "q"
[settings]
turn_time = 0.1
max_time = 0.4
[[step-time]]
model = "{NET}"
batch = 8
layout = "nhwc"
"""


@pytest.mark.usefixtures("workers_in_process")
def test_check_times_both_sides_and_judges_them(cli: Cli) -> None:
    Path("mine.toml").write_text(STUDY)
    # what the verdict is hangs on the load of this machine
    done = cli("check", "mine.toml", "--slower-than", "90%", "--inconclusive", "pass", *SHORT)
    assert done.exit_code == 0 and "1 incomparable" not in done.output, done.output
    assert "simulated: no timing" in done.output
    sides = [row.side for row in rows()]
    assert sides.count("base") == sides.count("head") >= 4


@pytest.mark.simulated(devices=2)
def test_two_ranks_share_a_batch_by_nccl() -> None:
    launcher = ("torch.distributed.run", "--nproc-per-node", "2", "-m", "nfbench")
    # sync_batch chooses statistics by their values, which are none here
    net = ("--model", "tiny-resnet-s", "--micro-batch", 4)
    done = in_own_process("step-time", *net, "--batch", 8, "--max-time", 1, *SHORT, module=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    (row,) = rows()
    assert row.status == "ok" and row.step.world_size == 2
    assert row.resolved is not None and row.resolved.backend == "nccl"
