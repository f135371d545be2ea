"""A composed step against the whole step that it stands for, interleaved A B B A.

uv run python benchmarks/composed.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from evidence import add_out, write_ratio

from nfbench.devices.cpu import Cpu
from nfbench.measuring.lock import only_one
from nfbench.measuring.watch import Silent
from nfbench.measuring.window import Window, no_collection
from nfbench.records import StepTime

MODEL, PX, BATCH, MICRO_BATCH, PASSES = "nf-resnet26", 96, 64, 8, 3


def main() -> None:
    """Hold the CPU and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    add_out(parser, "composed")
    args = parser.parse_args()
    device = Cpu()
    with only_one(device.lock_name(), Silent()):
        compare(device, args.rounds, args.out)


def compare(device: Cpu, rounds: int, out: Path) -> None:
    """Print each round, then print and write the ratio of the medians and the paired ratio with its interval."""
    workload = StepTime(model=MODEL, px=PX, batch=BATCH, micro_batch=MICRO_BATCH, layout="nchw")
    steps = device.build(workload, device.resolve(workload), seed=0)
    accumulation_steps = BATCH // MICRO_BATCH

    def composed() -> float:
        window = Window(device, steps, PASSES, accumulation_steps)
        window.block(4, refills=0)
        return window.estimate().value

    def whole() -> float:
        window = Window(device, steps, accumulation_steps, accumulation_steps)
        window.block(2, refills=0)
        return sum(window.step) / len(window.step)

    with no_collection():
        composed()
        pairs: list[tuple[float, float]] = []
        for turn in range(rounds):
            if turn % 2 == 0:
                a, b = composed(), whole()
            else:
                b, a = whole(), composed()
            pairs.append((a, b))
            print(f"round {turn + 1}: composed {a:.3f} s, whole {b:.3f} s, ratio {a / b:.3f}", flush=True)
    about = f"{MODEL}, {PX} px, batch {BATCH} as {accumulation_steps} × {MICRO_BATCH}, composed of {PASSES} passes"
    write_ratio(
        out,
        "composed",
        "A composed step against the whole step that it stands for",
        f"{about}, fp32, {device.machine.name}, torch {torch.__version__}",
        ("composed", "whole"),
        pairs,
    )


if __name__ == "__main__":
    main()
