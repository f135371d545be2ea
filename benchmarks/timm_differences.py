"""What timm's benchmark.py does in a step and nfbench does not, or the other way round: each measured by itself.

Prints one JSON line: the seconds of a step, and for each difference by how many seconds it makes timm's step longer
(negative: nfbench's). Started by `against_timm.py` as a process of its own.

uv run python benchmarks/timm_differences.py resnet18 --px 96 --batch 8
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import Tensor, nn

from nfbench.devices.cuda import set_tf32
from nfbench.nets.build import awaken, build
from nfbench.nets.optimizer import TIMING_RATE, build_optimizer
from nfbench.nets.train_step import AUTOCAST, FORMATS, LABEL_SMOOTHING

CLASSES = 1000
WARM_UP = 5


class Differences:
    """A net with both tools' losses and optimizers, on one batch."""

    def __init__(self, net: str, px: int, batch: int, layout: str, precision: str, device: str) -> None:
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True
        set_tf32(precision == "tf32")
        self.device, self.dtype = torch.device(device), AUTOCAST.get(precision)
        self.net = build(f"timm:{net}", device=device)
        self.net.to(memory_format=FORMATS[layout])
        parameters = dict(self.net.named_parameters())
        self.gains = [parameters[name] for name in awaken(self.net)]
        self.smooth, self.plain = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING), nn.CrossEntropyLoss()
        self.nfbench = build_optimizer(self.net, "sgd", "nfnet")
        self.timm = create_optimizer_v2(self.net, opt="sgd", lr=TIMING_RATE)
        self.images = torch.randn(batch, 3, px, px, device=device).contiguous(memory_format=FORMATS[layout])
        self.targets = torch.randint(CLASSES, (batch,), device=device)
        self.output = torch.empty(0)

    def synchronize(self) -> None:
        """Wait for a GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], times: int = 1) -> float:
        """How long ``work`` takes, the mean of so many ``times`` in a row."""
        self.synchronize()
        began = time.perf_counter()
        for _ in range(times):
            work()
        self.synchronize()
        return (time.perf_counter() - began) / times

    def gradients(self) -> None:
        """Forward and backward as nfbench has them."""
        self.nfbench.zero_grad()
        with nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype):
            self.output = self.net(self.images)
            loss = self.smooth(self.output, self.targets)
        loss.backward()

    def step(self) -> None:
        """A whole step as nfbench has it."""
        self.gradients()
        self.nfbench.step()

    def loss(self, criterion: nn.Module) -> None:
        """The loss of the latest logits, forward and backward."""
        logits = self.output.detach().requires_grad_()
        with nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype):
            loss: Tensor = criterion(logits, self.targets)
        loss.backward()

    def parts(self, repeats: int) -> tuple[float, dict[str, float]]:
        """The median seconds of a step, and of each part that differs: timm's less nfbench's."""
        for _ in range(WARM_UP):
            self.step()
            self.timm.step()
        collected: list[float] = []
        spent: dict[str, list[float]] = {}
        # many in a row, so that a GPU's work hides the launches as it does in a step
        times = 10 if self.device.type == "cuda" else 1
        for repeat in range(repeats):
            with _collections(collected):
                spent.setdefault("gradients", []).append(self.seconds(self.gradients))
            works: dict[str, Callable[[], object]] = {
                "nfbench's optimizer": self.nfbench.step,
                "timm's optimizer": self.timm.step,
                "smooth loss": lambda: self.loss(self.smooth),
                "plain loss": lambda: self.loss(self.plain),
                "targets": lambda: torch.empty(len(self.targets), device=self.device, dtype=torch.long).random_(
                    CLASSES
                ),
            }
            for name in works if repeat % 2 == 0 else reversed(works):
                spent.setdefault(name, []).append(self.seconds(works[name], times))
        of = {name: statistics.median(values) for name, values in spent.items()}
        return of["gradients"] + of["nfbench's optimizer"], {
            "optimizer": of["timm's optimizer"] - of["nfbench's optimizer"],
            "label smoothing": of["plain loss"] - of["smooth loss"],
            "new targets each step": of["targets"],
            "garbage collection": sum(collected) / repeats,
        }

    def zero_gains(self, pairs: int) -> float:
        """Seconds by which a step takes longer where the gains that timm starts at zero are zero, not one."""

        def with_gains(value: float) -> float:
            with torch.no_grad():
                for gain in self.gains:
                    gain.fill_(value)
            return self.seconds(self.step, 2)

        return _paired(lambda: with_gains(0.0), lambda: with_gains(1.0), pairs)

    def synchronization(self, pairs: int, steps: int = 10) -> float:
        """Seconds by which a step takes longer where each ends with a wait for the GPU."""

        def waits() -> None:
            self.step()
            self.synchronize()

        return _paired(lambda: self.seconds(waits, steps), lambda: self.seconds(self.step, steps), pairs)


def _paired(a: Callable[[], float], b: Callable[[], float], pairs: int) -> float:
    """The median difference a − b of pairs in the order A B B A."""
    a(), b()
    differences = []
    for pair in range(pairs):
        if pair % 2 == 0:
            first, second = a(), b()
        else:
            second, first = b(), a()
        differences.append(first - second)
    return statistics.median(differences)


@contextmanager
def _collections(seconds: list[float]) -> Iterator[None]:
    """Append how long each run of Python's garbage collector inside takes."""
    began = 0.0

    def note(phase: str, _: object) -> None:
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        else:
            seconds.append(time.perf_counter() - began)

    gc.callbacks.append(note)
    try:
        yield
    finally:
        gc.callbacks.remove(note)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("net", help="a name of timm's")
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--layout", choices=FORMATS, default="nchw")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args(words)
    both = Differences(args.net, args.px, args.batch, args.layout, args.precision, args.device)
    step, parts = both.parts(args.repeats)
    if both.gains:
        parts["gains start at zero"] = both.zero_gains(args.repeats // 2)
    if both.device.type == "cuda":
        parts["a synchronization each step"] = both.synchronization(args.repeats // 2)
    print(json.dumps({"net": args.net, "step_time": step, "longer": parts}))


if __name__ == "__main__":
    main()
