"""Run by `test_distributed` under torchrun, two processes: what they find goes to ``found-RANK.json``.

All that needs real ranks stands in this one script, since each start of torch takes seconds.
"""

from __future__ import annotations

import json
import os
import signal
import warnings
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner
from make import asked_and_settled
from test_feed import numbered, streaming
from torch import Tensor, nn

from nfbench.catalog.models import find
from nfbench.cli import main
from nfbench.devices import base, open_device
from nfbench.learning.data import ArraySet
from nfbench.learning.trainer import LearningStep, RankedLearningStep
from nfbench.nets.build import awaken, build
from nfbench.nets.optimizer import build_optimizer

RANK, RANKS = int(os.environ["RANK"]), 2
BATCH, PX, CLASSES = 8, 16, 10
found: dict[str, Any] = {}
said: dict[str, list[Any]] = {}


def nothing() -> None:
    return None


def step_of(model: str, ranks: int, micro_batch: int, **settings: Any) -> Any:
    """A step of a net in float64 without dropout, the same weights wherever it is built."""
    torch.manual_seed(0)
    net = build(replace(find(model), drop_rate=0.0, drop_path_rate=0.0), num_classes=CLASSES)
    awaken(net)
    workload, resolved = asked_and_settled(BATCH, PX, world_size=ranks, **settings)
    optimizer = build_optimizer(net.double(), "sgd", "nfnet", 0.1)
    kind = LearningStep if ranks == 1 else RankedLearningStep
    step = kind(net, optimizer, workload, resolved, device=torch.device("cpu"), classes=CLASSES, seed=0)
    step.arrange("nhwc", micro_batch)
    return step


def batch_of() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(BATCH, 3, PX, PX, generator=generator, dtype=torch.float64)
    return images, torch.randint(CLASSES, (BATCH,), generator=generator)


def weights(step: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in step.net.parameters()])


def gradient(step: Any, rank: int, ranks: int) -> Tensor:
    """The gradient that an update over the rank's share of the batch takes, and that it has reached its clip."""
    taken: list[Tensor] = []

    def look() -> None:
        taken.append(torch.cat([p.grad.flatten() for p in step.net.parameters()]))

    step.clip = look
    share = BATCH // ranks
    images, targets = batch_of()
    part = slice(rank * share, (rank + 1) * share)
    step.feed(images[part], targets[part])
    step.update(nothing, step.accumulation_steps)
    return taken[0]


def apart(a: Tensor, b: Tensor) -> float:
    """How far two vectors are apart, as a share of the longer."""
    return float((a - b).norm() / max(a.norm(), b.norm()))


def gradients() -> None:
    for model in ("tiny-nfnet", "tiny-resnet"):
        whole = gradient(step_of(model, 1, BATCH), 0, 1)
        for micro_batch in (4, 2):
            own = gradient(step_of(model, RANKS, micro_batch), RANK, RANKS)
            found[f"{model} {micro_batch}"] = apart(whole, own)
    clipped = {}
    for ranks, rank in ((1, 0), (RANKS, RANK)):
        step = step_of("tiny-nfnet", ranks, BATCH // RANKS, clipping=0.01)
        before = weights(step)
        for _ in range(2):
            images, targets = batch_of()
            part = slice(rank * (BATCH // ranks), (rank + 1) * (BATCH // ranks))
            step.feed(images[part], targets[part])
            step.update(nothing, step.accumulation_steps)
        clipped[ranks] = weights(step) - before
    found["clipped"] = apart(clipped[1], clipped[RANKS])


def ascents() -> None:
    """SAM's ascent is of a rank's own images and communicates nothing; what it leads to is reduced."""
    step = step_of("tiny-nfnet", RANKS, 2, sam=0.05)
    images, targets = batch_of()
    share = slice(RANK * 4, RANK * 4 + 4)
    step.feed(images[share], targets[share])
    if RANK == 0:
        step._ascent_gradient(0, 1)  # on one rank only: it would hang if it were reduced
    found["sam"] = gradient(step, RANK, RANKS).tolist()[:50]


def buffers() -> None:
    """A running mean that was this rank's number before an update, after it, less what the update brought."""
    for broadcast in (True, False):
        step = step_of("tiny-resnet", RANKS, 4, broadcast_buffers=broadcast)
        first = next(m for m in step.net.modules() if isinstance(m, nn.BatchNorm2d))
        first.running_mean.fill_(float(RANK))
        seen: list[Tensor] = []
        first.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].detach()))
        gradient(step, RANK, RANKS)
        before = (first.running_mean - 0.1 * seen[-1].mean((0, 2, 3))) / 0.9
        found[f"buffers {broadcast}"] = before.tolist()


def streams() -> None:
    """The labels, each an image's number, of this rank's batches of a set that streams."""
    feed = streaming(ArraySet(numbered(43)), ArraySet(numbered(21)), rank=RANK, ranks=RANKS)
    epochs = [[labels.tolist() for _, labels in islice(feed.train(epoch), feed.updates)] for epoch in (0, 0, 1)]
    found["streamed"] = [*epochs, [labels.tolist() for _, labels in feed.test()]]


class Breaking(nn.Module):
    """A net that breaks on rank 1 at its 20th pass."""

    def __init__(self, how: str, classes: int) -> None:
        super().__init__()
        self.how, self.passes = how, 0
        self.net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, classes))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        if RANK == 1 and self.passes == 20:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise MemoryError("no more")
        y: Tensor = self.net(x)
        return y


def memory(num_classes: int) -> nn.Module:
    return Breaking("memory", num_classes)


def killed(num_classes: int) -> nn.Module:
    return Breaking("killed", num_classes)


def failures() -> None:
    """Worlds of their own, in processes that are forked off while torch has no threads: a rank of each breaks."""
    for how, port in zip(("memory", "killed"), os.environ["FREE_PORTS"].split(), strict=True):
        if not (child := os.fork()):
            for name in [name for name in os.environ if name.startswith("TORCHELASTIC")]:
                del os.environ[name]
            os.environ["MASTER_PORT"], base.OTHERS_END = port, 1.0
            for number, file in ((1, "out"), (2, "err")):
                os.dup2(os.open(f"{how}-{RANK}.{file}", os.O_WRONLY | os.O_CREAT), number)
            net = ("--model", f"two_ranks:{how}", "--batch", "8", "--micro-batch", "4", "--layout", "nhwc")
            code = 70
            try:
                main(["step-time", *net, "--px", "32", "--device", "cpu", "--within", "0.0001%", "--out", how])
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        parts = (Path(f"{how}-{RANK}.{file}").read_text(encoding="utf-8") for file in ("out", "err"))
        said[how] = [os.waitstatus_to_exitcode(status), *parts]


def commands() -> None:
    small = ("--px", 16, "--quiet", "--device", "cpu")
    for name, args in {
        "step-time": ("step-time", "--model", "tiny-nfnet", "--batch", 8, "--max-time", 2, *small, "--out", "steps"),
        "composed": (
            *("step-time", "--model", "tiny-resnet", "--batch", 4096, "--micro-batch", 8, "--layout", "nhwc"),
            *("--max-time", 1, *small, "--out", "composed", "--no-broadcast-buffers"),
        ),
        "accuracy": (
            *("accuracy", "--model", "tiny-nfnet", "--batch", 64, "--epochs", 1, "--px", 16, "--quiet"),
            *("--device", "cpu", "--checkpoint", "saved", "--out", "runs"),
        ),
        "again": (
            *("accuracy", "--model", "tiny-nfnet", "--batch", 64, "--epochs", 1, "--px", 16, "--quiet"),
            *("--device", "cpu", "--checkpoint", "saved", "--out", "again"),
        ),
        "sync_batch": ("step-time", "--model", "tiny-resnet", "--norm", "sync_batch", *small),
        "cuda:0": ("step-time", "--model", "tiny-resnet", "--device", "cuda:0"),
    }.items():
        done = CliRunner().invoke(main, [str(a) for a in args])
        said[name] = [done.exit_code, done.stdout, done.stderr]


if __name__ == "__main__":
    warnings.simplefilter("error")
    base.OTHERS_END = 0.0  # torchrun names whom it ends, and here nobody reads that
    failures()
    torch.set_num_threads(1)
    open_device("cpu")
    gradients()
    ascents()
    buffers()
    streams()
    base.leave_world()
    commands()
    Path(f"found-{RANK}.json").write_text(json.dumps(found | {"said": said}), encoding="utf-8")
