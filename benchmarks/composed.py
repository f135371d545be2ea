"""A composed step against the whole step that it stands for, interleaved A B B A.

uv run python benchmarks/composed.py
"""

from __future__ import annotations

import argparse

import torch
from evidence import add_out, add_rounds, in_processes, print_round, write_ratio

from nfbench.devices.cpu import Cpu
from nfbench.devices.host import cpu_name
from nfbench.measuring.lock import only_one
from nfbench.measuring.outcome import Watch
from nfbench.measuring.window import Window
from nfbench.records import StepTime
from nfbench.units import no_collection

MODEL, PX, BATCH, MICRO_BATCH, PASSES = "nf-resnet26", 96, 64, 8, 3


def main() -> None:
    """Compare in rounds of fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_rounds(parser)
    add_out(parser, "composed")
    args = parser.parse_args()
    if args.round is not None:
        one_round(args.round)
        return
    parts = f"batch {BATCH} as {BATCH // MICRO_BATCH} × {MICRO_BATCH}, composed of {PASSES} passes"
    about = f"{MODEL}, {PX} px, {parts}, fp32, {cpu_name()}, torch {torch.__version__}"
    title = "A composed step against the whole step that it stands for"
    write_ratio(args.out, "composed", title, about, ("composed", "whole"), in_processes(__file__, args.rounds))


def one_round(number: int) -> None:
    """Hold the CPU and time both sides in turns."""
    device = Cpu()
    workload = StepTime(model=MODEL, px=PX, batch=BATCH, micro_batch=MICRO_BATCH, layout="nchw")
    accumulation_steps = BATCH // MICRO_BATCH
    with only_one(device.lock_name(), Watch()), no_collection():
        steps = device.build(workload, device.resolve(workload), seed=0)

        def composed() -> float:
            window = Window(device, steps, PASSES, accumulation_steps)
            window.block(4, refills=0)
            return window.estimate().value

        def whole() -> float:
            window = Window(device, steps, accumulation_steps, accumulation_steps)
            window.block(2, refills=0)
            return sum(window.step) / len(window.step)

        composed()
        print_round(number, composed, whole)


if __name__ == "__main__":
    main()
