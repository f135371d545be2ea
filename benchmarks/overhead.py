"""What nfbench's timed window adds to a step: its stamps against a bare loop with one wall clock, interleaved A B B A.

uv run python benchmarks/overhead.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from bare_loop import bare_loop
from evidence import add_out, write_ratio

from nfbench.devices.cpu import Cpu
from nfbench.measuring.lock import only_one
from nfbench.measuring.watch import Silent
from nfbench.measuring.window import Window, no_collection
from nfbench.records import StepTime

MODEL, PX, BATCH, CLIPPING = "nf-resnet26", 96, 8, 0.01


def main() -> None:
    """Hold the CPU and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=10, help="steps a turn")
    add_out(parser, "overhead")
    args = parser.parse_args()
    device = Cpu()
    with only_one(device.lock_name(), Silent()):
        compare(device, args.rounds, args.steps, args.out)


def compare(device: Cpu, rounds: int, steps_a_turn: int, out: Path) -> None:
    """Print each round, then print and write the ratio of the medians and the paired ratio with its interval."""
    workload = StepTime(model=MODEL, px=PX, batch=BATCH, micro_batch=BATCH, layout="nchw", agc=CLIPPING)
    steps = device.build(workload, device.resolve(workload), seed=0)
    bare = bare_loop(MODEL.replace("-", "_"), PX, BATCH, CLIPPING, torch.contiguous_format)

    def ours() -> float:
        window = Window(device, steps, 1, 1)
        window.block(steps_a_turn, refills=0)
        return window.block_time[0] / steps_a_turn

    def theirs() -> float:
        return bare(steps_a_turn)

    ours()
    theirs()
    pairs: list[tuple[float, float]] = []
    for turn in range(rounds):
        if turn % 2 == 0:
            with no_collection():
                a = ours()
            b = theirs()
        else:
            b = theirs()
            with no_collection():
                a = ours()
        pairs.append((a, b))
        print(f"round {turn + 1:2}: nfbench {1e3 * a:.1f} ms, bare {1e3 * b:.1f} ms, ratio {a / b:.3f}", flush=True)
    about = f"{MODEL}, {PX} px, batch {BATCH}, {steps_a_turn} steps a turn, fp32, {device.machine.name}"
    write_ratio(
        out,
        "overhead",
        "What nfbench's timed window adds to a step",
        f"{about}, torch {torch.__version__}",
        ("nfbench", "bare loop"),
        pairs,
    )


if __name__ == "__main__":
    main()
