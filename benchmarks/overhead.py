"""What nfbench's timed window adds to a step: its stamps against a bare loop with one wall clock, interleaved A B B A.

uv run python benchmarks/overhead.py
"""

from __future__ import annotations

import argparse

import torch
from bare_loop import bare_loop
from evidence import add_out, add_rounds, in_processes, print_round, write_ratio

from nfbench.devices.cpu import Cpu
from nfbench.devices.host import cpu_name
from nfbench.measuring.lock import only_one
from nfbench.measuring.outcome import Watch
from nfbench.measuring.window import Window
from nfbench.records import StepTime
from nfbench.units import no_collection

MODEL, PX, BATCH, CLIPPING, STEPS = "nf-resnet26", 96, 8, 0.01, 20


def main() -> None:
    """Compare in rounds of fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_rounds(parser)
    add_out(parser, "overhead")
    args = parser.parse_args()
    if args.round is not None:
        one_round(args.round)
        return
    about = f"{MODEL}, {PX} px, batch {BATCH}, {STEPS} steps a turn, fp32, {cpu_name()}, torch {torch.__version__}"
    title = "What nfbench's timed window adds to a step"
    pairs = in_processes(__file__, args.rounds)
    write_ratio(args.out, "overhead", title, about, ("nfbench", "bare loop"), pairs)


def one_round(number: int) -> None:
    """Hold the CPU and time both sides in turns."""
    device = Cpu()
    workload = StepTime(model=MODEL, px=PX, batch=BATCH, micro_batch=BATCH, layout="nchw", agc=CLIPPING)
    with only_one(device.lock_name(), Watch()):
        steps = device.build(workload, device.resolve(workload), seed=0)
        bare = bare_loop(MODEL.replace("-", "_"), PX, BATCH, CLIPPING, torch.contiguous_format)

        def ours() -> float:
            window = Window(device, steps, 1, 1)
            with no_collection():
                window.block(STEPS, refills=0)
            return window.block_time[0] / STEPS

        def theirs() -> float:
            return bare(STEPS)

        ours()
        theirs()
        print_round(number, ours, theirs)


if __name__ == "__main__":
    main()
