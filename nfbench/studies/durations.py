"""How long the tasks of a study will take, told from how long others took here."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nfbench.records import Accuracy, Dependence, Flops, Result, key
from nfbench.studies.entries import Task

TASK_TIME = "task_time"
"""The reading, in seconds, of what a task took from its request to its last result, start of its process aside."""

PREPARING = 15.0
"""Seconds that a timing is allowed for building, first steps and reading, where nothing is known."""

ENOUGH = 3
"""Timings under the same caps from which one of another workload is told."""

_COUNTED = {Flops: 5.0, Dependence: 30.0}


class Expected(NamedTuple):
    """Seconds of one task; ``measured`` where the same has run here, else no more than a bound on what may be."""

    seconds: float
    measured: bool


class Durations:
    """Learns from results of any software, of one machine."""

    def __init__(self, results: Iterable[Result] = ()) -> None:
        self.same: dict[str, list[float]] = {}
        self.alike: dict[tuple[object, ...], list[float]] = {}
        self.epochs: dict[tuple[object, ...], list[float]] = {}
        self.learn(results)

    def learn(self, results: Iterable[Result]) -> None:
        """Heed what these results took."""
        for r in results:
            if r.status not in ("ok", "diverged"):
                continue
            if (seconds := r.value(TASK_TIME)) is not None:
                self.same.setdefault(key(r.workload), []).append(seconds)
                self.alike.setdefault((type(r.workload), r.sampling), []).append(seconds)
            if isinstance(r.workload, Accuracy) and r.status == "ok" and r.workload.epochs:
                wall = r.value("wall_time")
                if wall is not None:
                    self.epochs.setdefault(_place(r.workload), []).append(wall / r.workload.epochs)

    def of(self, task: Task) -> Expected | None:
        """What ``task`` will take; None where nothing tells, as of a net that has never been trained here."""
        for name in reversed(task.keys):
            if known := self.same.get(name):
                return Expected(statistics.median(known[-9:]), True)
        workload, sampling = task.workload, task.entry.sampling
        if isinstance(workload, Accuracy):
            if known := self.epochs.get(_place(workload)):
                return Expected(statistics.median(known[-9:]) * workload.epochs, True)
            return None
        if (counted := _COUNTED.get(type(workload))) is not None:
            return Expected(counted, False)
        sides = len(task.entry.workloads) if task.entry.table == "compare" else 1
        if len(known := self.alike.get((type(workload), sampling), [])) >= ENOUGH:
            return Expected(statistics.median(known[-9:]), True)
        # three shares of clipped units are three tasks, each of which compiles its kernels
        return Expected(sides * (sampling.turns * sampling.max_time + PREPARING), False)


def _place(workload: Accuracy) -> tuple[object, ...]:
    return workload.model, workload.dataset, workload.px, workload.batch, workload.precision, workload.compile


def total(expected: Sequence[Expected | None]) -> tuple[float, bool, int]:
    """Seconds of all that is known, whether all of that was measured, and how many are not known."""
    known = [e for e in expected if e is not None]
    return sum(e.seconds for e in known), all(e.measured for e in known), len(expected) - len(known)
