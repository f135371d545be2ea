"""The commands on CUDA, with real workers and ranks: they end well, and nothing of it passes for a measurement."""

from __future__ import annotations

import subprocess
import sys

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


@pytest.mark.simulated(devices=2)
@pytest.mark.parametrize(
    "settings",
    [
        # it chooses among statistics by their values, which are none here, so that nothing may have run before
        ("--model", "tiny-resnet-s", "--norm", "sync_batch", "--micro-batch", 4),
        ("--model", NET, "--micro-batch", "auto"),
    ],
)
def test_two_ranks_share_a_batch_by_nccl(settings: tuple[object, ...]) -> None:
    launcher = ("torch.distributed.run", "--nproc-per-node", "2", "-m", "nfbench")
    step = ("step-time", *settings, "--batch", 8, "--max-time", 1)
    done = in_own_process(*step, *SHORT, module=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    (row,) = rows()
    assert row.status == "ok" and row.step.world_size == 2
    assert row.resolved is not None and row.resolved.backend == "nccl"
