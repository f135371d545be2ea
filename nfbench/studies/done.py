"""Which tasks of a study are done: workload, machine and software decide, together with round and seed."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from nfbench.analysis import metrics
from nfbench.analysis.sessions import cut_short, of_sessions
from nfbench.catalog.models import find
from nfbench.devices.host import commit_of
from nfbench.errors import NfbenchError
from nfbench.records import Accuracy, AgcCost, Machine, Result, Software, key
from nfbench.studies.entry import Task

FAILED = ("out_of_memory", "unsupported", "error", "timeout")
"""What ends a task without an answer. `diverged` is an answer; what was `interrupted` is not done."""


TIME_LIMIT = "time_limit"
"""The note, in seconds, of the limit that ended a task."""


class Done:
    """The results of earlier sessions, by the task that each belongs to."""

    def __init__(self, results: Iterable[Result], machine: Machine, software: Software) -> None:
        results = list(results)
        self.machine, self.software = machine, software
        self.together = of_sessions(results)
        self.sessions: dict[tuple[str, int, int], dict[str, list[Result]]] = {}
        for r in results:
            if cut_short(r) or r.machine != machine:
                continue
            place = key(r.workload), r.round, r.seed
            self.sessions.setdefault(place, {}).setdefault(r.session or r.id, []).append(r)

    def rows(self, task: Task) -> list[Result] | None:
        """The results of the latest session that did all of the task here with this software; None where none did."""
        software = software_of(task, self.software)
        by_key = [self.sessions.get((name, task.round, task.seed), {}) for name in task.keys]
        first = next((sessions for sessions in by_key if sessions), {})
        for session in sorted(first, key=lambda s: max(r.start for r in first[s]), reverse=True):
            rows = [r for sessions in by_key for r in sessions.get(session, ()) if r.software == software]
            if self._same(task, session) and _whole(task, rows) and _still(task, rows):
                return sorted(rows, key=lambda r: (r.turn, r.start))
        return None

    def _same(self, task: Task, session: str) -> bool:
        """Whether the session was of these workloads, but for clips that do not run here, and no others."""
        return self.together[session] <= set(task.keys)


def failed(rows: Sequence[Result]) -> bool:
    """Whether a task ended without an answer."""
    return any(r.status in FAILED for r in rows)


def _whole(task: Task, rows: Sequence[Result]) -> bool:
    if not rows:
        return False
    # who fails takes no further turn
    if failed(rows):
        return True
    if len(task.keys) > 1 and any(map(metrics.voided, rows)):
        # a round in which the GPU was slowed down is measured again
        return False
    turns = {name: {r.turn for r in rows if key(r.workload) == name} for name in task.keys}
    if isinstance(task.workload, AgcCost):
        # which implementations run here is known to the device alone, and turns end when they are enough
        return len({len(t) for t in turns.values() if t}) == 1
    return all(set(range(task.entry.sampling.turns)) <= t for t in turns.values())


def _still(task: Task, rows: Sequence[Result]) -> bool:
    """Whether what was found is still what is asked: under no larger cap, and of the same images."""
    cap, limit = task.entry.sampling.max_time, task.entry.time_limit
    for r in rows:
        if r.status != "timeout":
            continue
        ended_by = r.notes.get(TIME_LIMIT)
        if r.sampling.max_time < cap or (ended_by is not None and (limit is None or float(ended_by) < limit)):
            return False
    folder = task.entry.sources.folder
    if folder is None or failed(rows) or not isinstance(task.workload, Accuracy):
        return True
    training = rows[-1].resolved.training if rows[-1].resolved is not None else None
    return training is not None and training.data == _content(folder)


@functools.cache
def _content(folder: str) -> str:
    from nfbench.learning.data import load

    return load(f"imagefolder:{folder}").digest


def software_of(task: Task, software: Software) -> Software:
    """The software that a result of the task will name: the commit is that of the code under test."""
    try:
        net = find(task.workload.model)
    except NfbenchError:
        return software
    if net.source != "factory":
        return software
    commit, dirty = _commit(net.config.partition(":")[0])
    return msgspec.structs.replace(software, commit=commit, dirty=dirty)


@functools.cache
def _commit(module: str) -> tuple[str | None, bool | None]:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    return commit_of(Path(spec.origin)) if spec is not None and spec.origin else (None, None)
