"""nccl: one process reduces with itself, two cards with each other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from make import asked_and_settled

import nfbench
from nfbench.analysis import metrics
from nfbench.analysis.store import load

pytestmark = pytest.mark.gpu
ROOT = Path(nfbench.__file__).parent.parent


def ranks(count: int, folder: Path, *args: object) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "-m", "nfbench"]
    done = subprocess.run(
        [*command, *map(str, args), "--quiet", "--out", "kept"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_step_of_one_rank_is_reduced_by_nccl_and_clipped_after_that() -> None:
    import torch.distributed as dist

    from nfbench.nets.build import build
    from nfbench.nets.optimizer import build_optimizer
    from nfbench.nets.ranked_step import RankedStep
    from nfbench.nets.train_step import TrainStep

    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    device = torch.device("cuda", 0)
    workload, resolved = asked_and_settled(8, 32, clipping=0.01)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    store = dist.TCPStore("localhost", port, is_master=True, timeout=timedelta(seconds=60))
    dist.init_process_group("nccl", store=store, rank=0, world_size=1, device_id=device)
    try:
        found = []
        for several in (False, True):
            torch.manual_seed(0)
            net = build("tiny-nf-resnet", num_classes=10).to(device)
            optimizer = build_optimizer(net, "sgd", "nfnet", 0.1)
            kind = RankedStep if several else TrainStep
            step = kind(net, optimizer, workload, resolved, device=device, classes=10, seed=0)
            step.arrange("nhwc", 4)
            torch.manual_seed(1)
            for _ in range(3):
                step.update(lambda: None, 2)
            found.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
            if isinstance(step, RankedStep):
                step.reduce()
                step.alone(lambda: None, 2)
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("norm", ["batch", "sync_batch"])
def test_two_cards_share_a_batch(tmp_path: Path, norm: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    args = ("step-time", "--model", "tiny-resnet", "--batch", 64, "--norm", norm, "--max-time", 3)
    ranks(2, tmp_path, *args)
    (kept,) = load([tmp_path / "kept"]).results
    assert kept.status == "ok" and kept.step.world_size == 2
    assert kept.resolved is not None and kept.resolved.backend == "nccl"
    assert [r.rank for r in kept.each("step_time")] == [0, 1]
    assert (metrics.all_reduce(kept) or 0) > 0


def test_two_cards_train(tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    ranks(2, tmp_path, "accuracy", "--model", "tiny-nfnet", "--batch", 64, "--epochs", 1)
    (kept,) = load([tmp_path / "kept"]).results
    assert kept.status == "ok" and kept.run.world_size == 2


def test_a_rank_without_a_card_is_told_so(tmp_path: Path) -> None:
    count = torch.cuda.device_count()
    if not count:
        pytest.skip("no GPU")
    with pytest.raises(AssertionError, match=r"share a GPU|torch sees|There is no"):
        ranks(count + 1, tmp_path, "step-time", "--model", "tiny-nfnet", "--batch", 4 * (count + 1))
