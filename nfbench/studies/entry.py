"""One point of a study's grid: what runs together, for how long, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nfbench.analysis.asked import said
from nfbench.learning.learner import Sources
from nfbench.records import Accuracy, Sampling, StepTime, Workload, key


class Entry(NamedTuple):
    """One point of a grid: one workload, or several that take turns.

    ``table`` is the kind of its table in the study file and ``place`` its number there, ``seeds`` are those of training
    runs, ``time_limit`` caps the seconds of each task, start aside, ``claims`` are those that it is for.
    """

    table: str
    workloads: tuple[Workload, ...]
    sampling: Sampling = Sampling()
    seeds: tuple[int, ...] = ()
    sources: Sources = Sources()
    time_limit: float | None = None
    claims: tuple[str, ...] = ()
    place: int = 0

    @property
    def compared(self) -> tuple[StepTime, StepTime] | None:
        """The net and the baseline of a ratio."""
        if self.table != "compare":
            return None
        net, baseline = self.workloads
        assert isinstance(net, StepTime) and isinstance(baseline, StepTime)
        return net, baseline


class Task(NamedTuple):
    """What is run, resumed, sharded and handed out as a whole: one round or one seed of an entry."""

    entry: Entry
    round: int = 0
    seed: int = 0

    @property
    def workload(self) -> Workload:
        """Its first workload."""
        return self.entry.workloads[0]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its workloads."""
        return tuple(key(w) for w in self.entry.workloads)

    @property
    def identity(self) -> tuple[object, ...]:
        """What two tasks that are the same have in common."""
        return self.keys, self.round, self.seed

    @property
    def name(self) -> str:
        """The task in a few words: "nfnet-f0, batch 64, λ 0.02, seed 1"."""
        first = self.workload
        parts = [" against ".join(dict.fromkeys(w.model for w in self.entry.workloads))]
        parts += said(first)
        if (pair := self.entry.compared) is not None:
            other = [part for part in said(pair[1]) if part not in parts]
            if other or pair[0].model == pair[1].model:
                parts.append(f"against {', '.join(other) or 'without'}")
        if self.round or self.entry.sampling.rounds > 1:
            parts.append(f"round {self.round + 1}")
        if isinstance(first, Accuracy) and (self.seed or len(self.entry.seeds) > 1):
            parts.append(f"seed {self.seed}")
        return ", ".join(parts)


def tasks(entries: Sequence[Entry], seed: int = 0) -> list[Task]:
    """The tasks of the entries in their order, each once; ``seed`` is that of what is no training run."""
    found = [
        Task(entry, round, number)
        for entry in entries
        for round in range(entry.sampling.rounds)
        for number in (entry.seeds or (seed,))
    ]
    once: dict[tuple[object, ...], Task] = {}
    for task in found:
        before = once.setdefault(task.identity, task)
        if before.entry.claims != task.entry.claims:
            # measured once, for all that it speaks to
            claims = tuple(dict.fromkeys((*before.entry.claims, *task.entry.claims)))
            once[task.identity] = before._replace(entry=before.entry._replace(claims=claims))
    return list(once.values())
