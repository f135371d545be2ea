"""nfbench's training loop against torchvision's reference loop on Fashion-MNIST: images/s, in turns A B B A.

The reference does what torchvision's `references/classification/train.py` does: a DataLoader whose workers resize, crop
and flip each image by itself, then forward, zero_grad, backward, torch's plain SGD, and after each update the loss and
top-1 and top-5 of its batch for the log. Both train the same net at the same precision, px, batch and augmentation; an
NF net is clipped in both.

uv run python benchmarks/training_loop.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import msgspec
import torch
import torchvision.transforms as tv
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from nfbench.analysis.stats import mean_of_logs
from nfbench.devices.cpu import Cpu
from nfbench.learning.data import Arrays, ArraySet
from nfbench.learning.feed import CROP_PAD
from nfbench.learning.learner import Sources
from nfbench.learning.recipe import build_loss
from nfbench.learning.setup import Setup
from nfbench.learning.trainer import Trainer
from nfbench.measuring.lock import only_one
from nfbench.measuring.outcome import Watch
from nfbench.nets.agc import adaptive_clip_grad_, agc_parameters
from nfbench.nets.optimizer import parameter_groups
from nfbench.records import Accuracy


def main() -> None:
    """Hold the CPU and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-resnet")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--updates", type=int, default=30, help="updates a turn")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="processes of the reference's DataLoader")
    args = parser.parse_args()
    device = Cpu()
    with only_one(device.lock_name(), Watch()):
        compare(device, args)


def compare(device: Cpu, args: argparse.Namespace) -> None:
    """Print each turn, then the paired ratio of images/s, which has no interval: one process is one round."""
    workload = Accuracy(model=args.model, dataset="fashion-mnist", batch=args.batch, ema="none", augment="flip")
    setup = Setup(device, workload, 0, Sources(), Watch())
    trainer = Trainer(setup, Watch())
    theirs = reference(setup, args.workers, args.updates)
    images = args.updates * args.batch

    def ours() -> float:
        trainer.updates = args.updates
        trained = trainer.train(0, float("inf"))
        return float(images / trained.seconds)

    def other() -> float:
        began = time.perf_counter()
        for _ in islice(theirs, args.updates):
            pass
        return float(images / (time.perf_counter() - began))

    # what starts workers and fills caches is in neither
    ours(), other()
    pairs = []
    for turn in range(args.turns):
        a, b = (ours(), other()) if turn % 2 == 0 else reversed((other(), ours()))
        pairs.append((a, b))
        print(f"turn {turn + 1:2}: nfbench {a:.0f} images/s, reference {b:.0f} images/s, {a / b:.2f} ×", flush=True)
    ratio = mean_of_logs([a / b for a, b in pairs])
    resolved = setup.resolved
    print(
        f"{args.model}, Fashion-MNIST at {resolved.px} px, batch {args.batch}, {resolved.precision}, "
        f"{setup.training.augment}, {args.workers} workers, {device.machine.name}, {device.machine.cpu_cores} cores, "
        f"torch {torch.__version__}"
    )
    print(f"nfbench trains {ratio.value:.2f} times the images/s, over {args.turns} turns of one process")


def reference(setup: Setup, workers: int, updates: int) -> Iterator[float]:
    """Updates without end of torchvision's loop; it keeps its workers from one turn of ``updates`` to the next."""
    px, training = setup.resolved.px, setup.training
    assert isinstance(setup.data.train, Arrays)
    dataset = ArraySet(setup.data.train)
    steps = [tv.Resize((px, px))]
    if training.augment == "flip":
        steps += [tv.RandomCrop(px, padding=px // CROP_PAD, padding_mode="reflect"), tv.RandomHorizontalFlip()]
    dataset.transform = tv.Compose([*steps, tv.ToTensor(), tv.Normalize(training.mean, training.std)])
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        cast(Any, dataset),
        batch_size=setup.workload.batch,
        # as many as a turn takes, or workers would go on reading in the other's turn
        sampler=RandomSampler(range(len(dataset)), num_samples=updates * setup.workload.batch),
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )
    net = setup.module()
    groups = parameter_groups(net, training.weight_decay)
    optimizer = torch.optim.SGD(groups, lr=training.lr, momentum=training.momentum or 0.0)
    criterion = build_loss(msgspec.structs.asdict(training))
    yield from _updates(net, loader, optimizer, criterion, setup.resolved.agc)


def _updates(
    net: nn.Module,
    loader: DataLoader[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    criterion: nn.Module,
    clipping: float | None,
) -> Iterator[float]:
    clipped = agc_parameters(net)
    net.train()
    while True:
        for images, labels in loader:
            outputs = net(images)
            loss = criterion(outputs, labels)
            optimizer.zero_grad()
            loss.backward()
            if clipping is not None:
                adaptive_clip_grad_(clipped, clipping)
            optimizer.step()
            with torch.no_grad():
                first = outputs.topk(5, 1).indices == labels[:, None]
                log = [loss.item(), first[:, :1].sum().item(), first.sum().item()]
            yield log[0]


if __name__ == "__main__":
    main()
