"""What the commands that torchrun may start have in common: what the ranks share, and who keeps results."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TypeVar

import msgspec

from nfbench.commands._landing import Landing
from nfbench.devices.base import place
from nfbench.errors import UnsupportedWorkload
from nfbench.records import Accuracy, Machine, Result, Sampling, StepTime
from nfbench.studies.entries import check_passes

_W = TypeVar("_W", StepTime, Accuracy)


class Elsewhere(Landing):
    """Of a rank that is not the first: nothing lands here."""

    def __init__(self, what: str) -> None:
        self.out, self.what = None, what
        self.results, self.unwritten, self.made = [], [], []
        self.writer, self.held = None, []

    def make(self, machine: Machine) -> None:
        return None

    def keep(self, *results: Result) -> None:
        return None


class Shared(Landing):
    """Of rank 0 of several."""

    def keep(self, *results: Result) -> None:
        super().keep(*results)
        if threading.current_thread() is not threading.main_thread():
            # the process ends after this: its main thread waits for a rank that has failed
            self.say()


def landing(out: Path | None, what: str, device: str) -> Landing:
    """Where results land: with rank 0 alone."""
    here = place()
    if here is None:
        return Landing(out, what, device)
    return Elsewhere(what) if here.rank else Shared(out, what, device)


def check(sampling: Sampling) -> None:
    """Raise `UnsupportedWorkload` where rounds are asked for in processes that torchrun started."""
    here = place()
    if here is not None and sampling.rounds > 1:
        raise UnsupportedWorkload(
            f"--rounds {sampling.rounds} starts fresh processes, and torchrun has started these {here.size}.",
            why="A round of several ranks is a call of torchrun.",
            try_=f"without --rounds, and the same command {sampling.rounds} times with one --out folder",
        )


def shared(workload: _W, broadcast_buffers: bool | None) -> _W:
    """``workload`` with the world size that torchrun gives, and ``broadcast_buffers`` where it was asked for.

    Raises:
        UnsupportedWorkload: the batch does not divide over the ranks, or a setting is of one process or of several.
    """
    here = place()
    if here is None:
        if broadcast_buffers is not None:
            flag = f"--{'' if broadcast_buffers else 'no-'}broadcast-buffers"
            raise UnsupportedWorkload(
                f"{flag} is of several processes, and this is one.",
                why="There is nobody to broadcast to.",
                try_=f"without it, or torchrun --nproc-per-node 2 -m nfbench … {flag}",
            )
        return workload
    _check_batch(workload, here.size)
    if isinstance(workload, Accuracy) and workload.tune != "none":
        raise UnsupportedWorkload(
            "--tune searches in one process, and torchrun has started several.",
            try_="--tune without torchrun, then --lr and --agc with what it finds",
        )
    if workload.sam != "none" and workload.sam_scope == "batch":
        raise UnsupportedWorkload(
            "--sam-scope batch is of one process: one ascent for the batch of all ranks would have to be reduced too.",
            why="As published, each rank takes an ascent of its own.",
            try_="--sam-scope micro-batch",
        )
    kept = workload.broadcast_buffers if broadcast_buffers is None else broadcast_buffers
    return msgspec.structs.replace(workload, world_size=here.size, broadcast_buffers=kept)


def _check_batch(workload: StepTime | Accuracy, ranks: int) -> None:
    batch, micro_batch = workload.batch, workload.micro_batch
    if batch % ranks:
        below, above = batch // ranks * ranks, -(-batch // ranks) * ranks
        raise UnsupportedWorkload(
            f"--batch {batch} does not divide over {ranks} ranks.",
            why="It is the images per update of all of them, and each takes as many.",
            try_=f"--batch {below} or {above}" if below else f"--batch {above}",
        )
    share = batch // ranks
    check_passes(micro_batch, share, f"the {share} images of --batch {batch} that each of {ranks} ranks takes")
