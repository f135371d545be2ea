"""What standardizing over a view saves in channels-last memory: nfbench's convolutions against timm's, A B B A.

uv run python benchmarks/standardize.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from evidence import add_out, add_rounds, in_processes, print_round, write_ratio

from nfbench.devices.host import cpu_name
from nfbench.nets.build import awaken, build

MODEL, PX, BATCH, STEPS = "nf-resnet50", 64, 8, 3


def main() -> None:
    """Compare in rounds of fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_rounds(parser)
    add_out(parser, "standardize")
    args = parser.parse_args()
    if args.round is not None:
        torch.set_num_threads(1)
        print_round(args.round, passes(MODEL), passes("timm:nf_resnet50"))
        return
    about = f"Forward and backward of {MODEL} in NHWC, {PX} px, batch {BATCH}, {STEPS} passes a turn, fp32"
    about += f", CPU time of one thread, {cpu_name()}, torch {torch.__version__}"
    title = "What standardizing over a view saves in channels-last memory"
    pairs = in_processes(__file__, args.rounds)
    write_ratio(args.out, "standardize", title, about, ("nfbench's", "timm's"), pairs)


def passes(name: str) -> Callable[[], float]:
    """What times a pass of the net, after one that does not count; CPU time, since others may share the machine."""
    torch.manual_seed(0)
    net = build(name).to(memory_format=torch.channels_last)
    awaken(net)
    images = torch.randn(BATCH, 3, PX, PX).contiguous(memory_format=torch.channels_last)

    def timed(steps: int = STEPS) -> float:
        start = time.process_time()
        for _ in range(steps):
            net(images).square().mean().backward()
            net.zero_grad()
        return (time.process_time() - start) / steps

    timed(1)
    return timed


if __name__ == "__main__":
    main()
