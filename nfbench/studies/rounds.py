"""Workloads that take turns A B B A, round after round of fresh processes, for one command: how many rounds, and when
they are enough."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nfbench.analysis import gate, metrics, stats, turn_ratios
from nfbench.records import Result, Sampling, StepTime, key
from nfbench.studies.entries import TURN_TIME, Entry, Task
from nfbench.studies.run import Board, Execution, Home, Wanted
from nfbench.units import grouped

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
class Enough:
    """Tells why no further round of ``workloads``, timed against the first of them, is wanted; None where one is.

    ``sampling`` is that of `sampling_against`, ``max_time`` in seconds as there. A round in which the GPU was slowed
    down on one side is run again, up to `gate.MOST_VOID` times.
    """

    workloads: Sequence[StepTime]
    sampling: Sampling
    max_time: float

    def __call__(self, task: Task, results: Sequence[Result]) -> str | None:
        first, *others = self.workloads
        failed = {key(r.workload) for r in results if r.status != "ok"}
        others = [other for other in others if key(other) not in failed]
        if key(first) in failed or not others:
            return "a net failed, and there is nothing left to compare"
        rounds = list(grouped(results, lambda r: r.round).values())
        sound = [rows for rows in rounds if not metrics.uneven(rows)]
        if len(rounds) - len(sound) > gate.MOST_VOID:
            return "the GPU was slowed down in too many rounds"
        looks = self.sampling.looks or (self.sampling.rounds,)
        if len(sound) >= looks[-1]:
            return "all rounds are there"
        if len(sound) not in looks:
            return None
        if self._narrow(results, others):
            return "each interval is as narrow as wanted"
        seconds = [sum(map(_timed, rows)) for rows in sound]
        to_come = next(look for look in looks if look > len(sound)) - len(sound)
        return "the time is up" if sum(seconds) + to_come * max(seconds) > self.max_time else None

    def _narrow(self, results: Sequence[Result], others: Sequence[StepTime]) -> bool:
        ratios = [turn_ratios.paired(results, self.workloads[0], other) for other in others]
        widths = [(r.estimate.half_width, r.estimate.value) for r in ratios if r is not None]
        return bool(widths) and all(half is not None and half <= self.sampling.within * value for half, value in widths)


def _timed(result: Result) -> float:
    blocks = result.reading("block_time")
    return 0.0 if blocks is None else sum(blocks.finite)


def in_rounds(
    workloads: Sequence[StepTime],
    sampling: Sampling,
    *,
    device: str,
    seed: int,
    keep: Callable[..., None],
    board: Board,
    enough: Callable[[Task, Sequence[Result]], str | None] | None = None,
) -> list[Result]:
    """The results of the rounds of ``sampling``, or of as many more as it takes until it is ``enough``.

    ``keep`` gets those of a round at once. All are of one session, and a workload that failed takes no part in later
    rounds.

    Raises:
        NfbenchError: the device cannot be had.
    """

    entry = Entry("compare", tuple(workloads), sampling)
    rounds = range(sampling.rounds + (0 if enough is None else gate.MOST_VOID + 1))
    execution = Execution(
        tasks=[Task(entry, round, seed) for round in rounds],
        device=device,
        keep=lambda results: keep(*results),
        board=board,
        home=lambda machine: Home(Path(), ()),
        wanted=Wanted(fresh=True, skip=enough),
        as_one=True,
    )
    execution.run()
    return list(itertools.chain.from_iterable(rows for rows in execution.results if rows is not None))
