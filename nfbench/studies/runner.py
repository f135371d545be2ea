"""Runs the workloads of one command: here, in processes of their own, or against each other. Only it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from nfbench.analysis import gate, metrics, stats, turn_ratios
from nfbench.analysis.store import new_id
from nfbench.devices import open_device
from nfbench.measuring.measure import measure
from nfbench.measuring.outcome import Keep, Labels, Watch
from nfbench.records import Resolved, Result, Sampling, StepTime
from nfbench.studies.entries import TURN_TIME
from nfbench.studies.processes import TOGETHER, Group, Seat, crowded, running


def here(
    workloads: Sequence[StepTime], sampling: Sampling, *, device: str, seed: int, keep: Keep, watch: Watch
) -> None:
    """Measure the workloads in this process, one after the other.

    Raises:
        NfbenchError: the device or a workload cannot be had; what came before it is kept.
    """
    opened = open_device(device)
    for workload in workloads:
        if opened.usable():
            watch.about(workload.model)
            measure(opened, workload, sampling, keep, seed=seed, watch=watch)
        else:
            apart(Seat(workload), sampling, device=device, seed=seed, keep=keep, watch=watch)


def apart(seat: Seat, sampling: Sampling, *, device: str, seed: int, keep: Keep, watch: Watch) -> None:
    """Measure in a fresh process what cannot run in this one, whose device an error has made useless.

    Raises:
        NfbenchError: the device cannot be had.
    """
    labels = Labels(session=new_id()) if seat.beside else Labels()
    with running([Group([seat], device=device, seed=seed, labels=labels)], keep, watch) as state:
        for group in state.each():
            group.turn(0, 0, sampling, keep, watch)


def in_rounds(
    workloads: Sequence[StepTime], sampling: Sampling, *, device: str, seed: int, keep: Keep, watch: Watch
) -> None:
    """Measure the workloads in turns A B B A …, each in a process of its own that lives for one round.

    A workload that fails leaves a row with its status and takes no further turn of that round; the others go on.
    Import is most of a worker's start, so the workers of a few rounds start together, before any of them is timed.

    Raises:
        NfbenchError: the device cannot be had.
    """
    seats = [Seat(workload) for workload in workloads]
    labels = Labels(session=new_id())
    # what each auto became in the first round holds for all, so that they replicate each other
    settled: list[Resolved | None] = [None] * len(seats)
    at_once = max(1, TOGETHER // len(seats))
    whole = sampling.rounds * sampling.turns
    for first in range(0, sampling.rounds, at_once):
        rounds = range(first, min(first + at_once, sampling.rounds))
        groups = [Group(seats, device=device, seed=seed, labels=labels) for _ in rounds]
        with running(groups, keep, watch) as state:
            for round, group in zip(rounds, state.each(), strict=True):
                group.settled = settled
                # a net that has had its only turn leaves the memory to the next
                group.alone = sampling.turns == 1
                for turn in range(sampling.turns):
                    place = f" ({round * sampling.turns + turn + 1}/{whole})" if whole > 1 else ""
                    group.turn(round, turn, sampling, keep, watch, said=place)


TURNS = 2
"""Turns of a round: A B, then B A, in which a steady drift cancels."""


def sampling_against(rounds: int | None, within: float, max_time: float, nets: int) -> Sampling:
    """How long to measure ``nets`` against each other: ``rounds``, or where that is None until a look ends it.

    ``max_time`` caps the seconds in which steps are timed, over all rounds and nets; it decides how long a turn is, and
    at which look there is no time for the next. The rounds of the first look always run.
    """
    looks = gate.LOOKS if rounds is None else ()
    least = rounds or gate.LOOKS[0]
    return Sampling(
        within=within,
        min_steps=3,
        rounds=rounds or gate.LOOKS[-1],
        turns=TURNS,
        max_time=max(TURN_TIME, max_time / (max(least, stats.LEAST_ROUNDS) * TURNS * nets)),
        turn_time=min(TURN_TIME, max_time / (least * TURNS * nets)),
        looks=looks,
    )


@dataclass
class Versus:
    """Workloads timed against the first of them, round after round, until the ratios are known well enough.

    ``sampling`` is that of `sampling_against`, ``max_time`` in seconds as there. What each `auto` becomes in the first
    round holds for all. Where the peaks of all nets do not fit in the memory together, each turn gets fresh processes.
    A round in which the GPU was slowed down is run again, up to `gate.MOST_VOID` times.
    """

    workloads: Sequence[StepTime]
    sampling: Sampling
    max_time: float
    _: KW_ONLY
    device: str
    seed: int
    keep: Keep
    watch: Watch

    def __post_init__(self) -> None:
        self.labels = Labels(session=new_id())
        self.settled: list[Resolved | None] = [None] * len(self.workloads)
        self.failed: set[int] = set()
        self.alone = False
        self.results: list[Result] = []
        self.tried = self.sound = self.void = 0
        self.timed = self.longest = 0.0

    def run(self) -> list[Result]:
        """The results of the rounds, whole or not.

        Raises:
            NfbenchError: the device cannot be had.
        """
        for look in self.sampling.looks or (self.sampling.rounds,):
            if self.sound and self.timed + (look - self.sound) * self.longest > self.max_time:
                break
            while self.sound < look and self._comparable():
                self._rounds(min(look - self.sound, max(1, TOGETHER // len(self.workloads))), look)
            if not self._comparable() or self._narrow():
                break
        return self.results

    def _comparable(self) -> bool:
        others = len(self.workloads) - 1 - len(self.failed - {0})
        return 0 not in self.failed and others > 0 and self.void <= gate.MOST_VOID

    def _rounds(self, count: int, look: int) -> None:
        """Rounds whose processes start together, before any of them is timed."""
        groups = [self._group() for _ in range(count)]
        with running(groups, self.keep, self.watch) as state:
            for group in state.each():
                if not self._comparable():
                    return
                self._round(group, look)

    def _group(self) -> Group:
        return Group(
            [Seat(workload) for workload in self.workloads],
            device=self.device,
            seed=self.seed,
            labels=self.labels,
            alone=self.alone,
        )

    def _round(self, group: Group, look: int) -> None:
        group.settled, group.out = self.settled, set(self.failed)
        if self.alone and not group.alone:
            group.run_alone()
            group.out = set(self.failed)
        words = f" (round {self.sound + 1}, look after {look})" if self.sampling.looks else ""
        words = words or f" (round {self.sound + 1} of {look})"
        rows: list[Result] = []
        turn = 0
        while turn < TURNS and 0 not in group.out and len(group.out) < len(self.workloads) - 1:
            results = group.turn(self.tried, turn, self.sampling, self.keep, self.watch, said=words)
            turn += 1
            if not group.alone and crowded(results):
                self.watch.note("They do not fit in the device's memory together: each turn gets fresh processes.")
                self.alone, turn, rows = True, 0, []
                # an even number of rounds on, so that the first net still begins
                self.tried += 2
                group.run_alone()
                group.out |= self.failed
                continue
            rows += [result for result in results if result is not None]
        self.failed |= group.out
        self.tried += 1
        self.results += rows
        if not self._comparable():
            return
        if any(map(metrics.voided, rows)):
            self.void += 1
            return
        seconds = sum(t for r in rows if (blocks := r.reading("block_time")) is not None for t in blocks.finite)
        self.sound, self.timed, self.longest = self.sound + 1, self.timed + seconds, max(self.longest, seconds)

    def _narrow(self) -> bool:
        """Whether each ratio's interval is as narrow as wanted."""
        first, *others = self.workloads
        there = [other for place, other in enumerate(others, 1) if place not in self.failed]
        ratios = [turn_ratios.paired(self.results, first, other) for other in there]
        widths = [(r.estimate.half_width, r.estimate.value) for r in ratios if r is not None]
        return bool(widths) and all(half is not None and half <= self.sampling.within * value for half, value in widths)
