"""Runs the tasks of a study: each in a process of its own, kept as soon as it ends, and only what is missing."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
import shutil
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nfbench.analysis import metrics
from nfbench.analysis.sessions import CUT_OFF, cut_short, failed, of_sessions
from nfbench.analysis.store import new_id
from nfbench.catalog.models import find
from nfbench.devices.host import commit_of
from nfbench.errors import BadStudy, NfbenchError
from nfbench.learning import tuning
from nfbench.learning.learner import Sources
from nfbench.measuring.outcome import Labels, Turn, Watch, frame
from nfbench.records import (
    Machine,
    Resolved,
    Result,
    Software,
    StepTime,
    Workload,
    key,
    of_kind,
    recency,
)
from nfbench.studies.entries import Task
from nfbench.studies.processes import (
    TOGETHER,
    Group,
    Process,
    Seat,
    Unstarted,
    crowded,
    greeting,
    held_back,
    running,
    start_all,
)
from nfbench.studies.study import value_of
from nfbench.studies.worker import Hello
from nfbench.units import known, resolved


def select(tasks: Sequence[Task], only: Sequence[str]) -> list[Task]:
    """The tasks that one of ``only`` names: a model, a kind of table, a claim, or settings ``key=value,key=value``.

    Raises:
        BadStudy: one of them names nothing.
    """
    if not only:
        return list(tasks)
    found: set[int] = set()
    for wanted in only:
        places = {place for place, task in enumerate(tasks) if _is(task, wanted)}
        if not places:
            names = dict.fromkeys(name for task in tasks for name in _names(task))
            try_ = f"--dry-run, which lists all; --only model={tasks[0].workload.model},batch=8 for settings"
            known(wanted, names, BadStudy, f"--only {wanted} names nothing of this study.", try_)
        found |= places
    return [task for place, task in enumerate(tasks) if place in found]


def shard(tasks: Sequence[Task], which: str) -> list[Task]:
    """Every N-th task beginning with the I-th, of ``I/N``.

    Raises:
        BadStudy: it is no such pair, or the shard has no task.
    """
    first, slash, count = which.partition("/")
    if not slash or not first.isdecimal() or not count.isdecimal() or not 1 <= int(first) <= int(count):
        raise BadStudy(f"--shard {which} is no shard.", try_="--shard 1/4, up to 4/4")
    found = list(tasks[int(first) - 1 :: int(count)])
    if not found:
        raise BadStudy(
            f"--shard {which} is empty: there are {len(tasks)} workloads.", try_=f"--shard {first}/{len(tasks)}"
        )
    return found


def _is(task: Task, wanted: str) -> bool:
    if wanted in _names(task):
        return True
    pairs = [pair.partition("=") for pair in wanted.split(",")]
    return all(equals for _, equals, _ in pairs) and any(
        all(_has(workload, name.strip().replace("-", "_"), text) for name, _, text in pairs)
        for workload in task.entry.workloads
    )


def _has(workload: Any, name: str, text: str) -> bool:
    found = getattr(workload, name, None)
    return found is not None and (str(found) == text.strip() or found == value_of(text))


def _names(task: Task) -> list[str]:
    return [*(w.model for w in task.entry.workloads), task.entry.table, *task.entry.claims]


class Board(Watch):
    """A watch that sees the grid fill."""

    def planned(self, tasks: Sequence[Task], found: Sequence[Sequence[Result] | None], to_do: Sequence[int]) -> None:
        """All tasks, what earlier sessions found of each, and the places of those that will run now."""

    def begun(self, place: int) -> None:
        """The task at ``place`` begins."""

    def ended(self, place: int, results: Sequence[Result], seconds: float) -> None:
        """It ended, after so many seconds."""


class Home(NamedTuple):
    """Where a study's results are: its folder, and what earlier sessions left there."""

    folder: Path
    earlier: Sequence[Result]


class Wanted(NamedTuple):
    """Which tasks to run: those missing, also those that ``retry`` a failure, or all ``fresh``; ``limit`` at most.

    ``skip`` gives a reason to pass over a task, told from all that has been found by then.
    """

    fresh: bool = False
    retry: bool = False
    limit: int | None = None
    skip: Callable[[Task, Sequence[Result]], str | None] | None = None

    def to_do(self, results: Sequence[Sequence[Result] | None]) -> list[int]:
        """The places of the tasks to run, of which ``results`` holds what there is of each."""
        missing = [place for place, rows in enumerate(results) if rows is None or (self.retry and failed(rows))]
        return missing[: self.limit]


WHAT_IS_MISSING = Wanted()


@dataclass(kw_only=True)
class Session(ABC):
    """What of ``tasks`` no earlier session has done on this machine with this software, while it runs and after.

    ``keep`` gets all results of a task at once, as soon as it ends. A task that fails leaves a row with its status, and
    the others go on. ``kind`` is that of the device for which the tasks were chosen. ``results`` are those of each
    task, None where it has none yet; ``passed_over`` says why tasks were not run after all, by their places; so many
    tasks were done ``before``, and so many ``ran``.
    """

    tasks: Sequence[Task]
    device: str
    keep: Callable[[Sequence[Result]], None]
    board: Board
    home: Callable[[Machine], Home]
    study: str | None = None
    kind: str | None = None
    wanted: Wanted = WHAT_IS_MISSING

    def __post_init__(self) -> None:
        self.results: list[list[Result] | None] = [None] * len(self.tasks)
        self.passed_over: dict[int, str] = {}
        self.left: list[int] = []
        self.before = self.ran = 0

    @abstractmethod
    def run(self) -> None:
        """Run them.

        Raises:
            NfbenchError: the device cannot be had, or is not of the ``kind``. What was measured before is kept.
        """

    def plan(self, results: list[list[Result] | None]) -> None:
        """Decide what is ``left``, where ``results`` holds what earlier sessions found of each task."""
        self.results, self.left = results, self.wanted.to_do(results)
        self.before = sum(rows is not None for place, rows in enumerate(results) if place not in self.left)
        self.board.planned(self.tasks, results, list(self.left))

    def passes_over(self, place: int) -> bool:
        """Whether the task is not run after all, for a reason that is noted."""
        if self.wanted.skip is None:
            return False
        why = self.wanted.skip(self.tasks[place], [r for rows in self.results if rows is not None for r in rows])
        if why is not None:
            self.passed_over[place] = why
        return why is not None

    def ended(self, place: int, rows: list[Result], seconds: float) -> None:
        """Note what came of a task, which has been kept."""
        self.results[place] = rows
        self.ran += 1
        self.board.ended(place, rows, seconds)


def measured_once(task: Task, *, device: str, watch: Watch, study: str | None = None) -> list[Result]:
    """The results of one task, which nothing keeps.

    Raises:
        NfbenchError: the device cannot be had.
    """
    kept: list[Result] = []
    group = _group(task, device, study)
    with running([group], kept.append, watch) as state:
        state.current = group
        _turns(task, group, kept, watch)
    return kept


@dataclass(kw_only=True)
class Execution(Session):
    """Runs the tasks here.

    Epochs of a run that was cut off are not trained again: checkpoints stay in ``.checkpoints`` of the study's folder
    until the run's result is kept. Where the tasks are measured ``as_one``, their results are of one session, and a
    workload that failed takes no part in later rounds.
    """

    as_one: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.session = new_id()
        self.buffer: list[Result] = []
        self.started: list[Process] = []
        self.crowded: set[tuple[str, ...]] = set()

    def run(self) -> None:
        try:
            self.hello = self._hello()
            folder, earlier = self.home(self.hello.machine)
            self.checkpoints = Checkpoints(folder, self.tasks, (self.hello.machine, self.hello.software))
            done = Done([] if self.wanted.fresh else earlier, self.hello.machine, self.hello.software)
            self.plan([done.rows(task) for task in self.tasks])
            self._forget_finished()
            for batch in _batches(self.tasks, list(self.left)):
                self._batch(batch)
        finally:
            for process in self.started:
                process.close()

    def _hello(self) -> Hello:
        """What the first worker says of itself; its device has been opened."""
        first = next(_batches(self.tasks, range(len(self.tasks))))
        # what is left to do is known only then, unless that is everything
        count = sum(_workers(self.tasks[places[0]]) for places in first) if self.wanted.fresh else 1
        self.started = [Process(self.device) for _ in range(count)]
        start_all(self.started, self.board, self.kind)
        return greeting(self.started[0], self.tasks[0].workload, self.board)

    def passes_over(self, place: int) -> bool:
        if place in self.left and super().passes_over(place):
            self.left.remove(place)
        return place not in self.left

    def _batch(self, batch: Sequence[Sequence[int]]) -> None:
        """Tasks whose workers start together; those of one tuple share theirs."""
        # nothing is started for tasks that are passed over by now
        batch = [places for places in batch if not all(map(self.passes_over, places))]
        if not batch:
            return
        first = [self.tasks[places[0]] for places in batch]
        groups = [_group(task, self.device, self.study, task.keys in self.crowded) for task in first]
        try:
            for group in groups:
                # those that have been started are as fresh as any
                for index in range(min(len(group.seats), len(self.started))):
                    group.processes[index].close()
                    group.processes[index] = self.started.pop(0)
            with running(groups, self.buffer.append, self.board, self.kind) as state:
                for places, group in zip(batch, state.each(), strict=True):
                    for place in places:
                        self._task(place, group)
        finally:
            # what was measured before a signal
            self.buffer[:] = [
                msgspec.structs.replace(r, notes={**r.notes, CUT_OFF: "by a signal"}) for r in self.buffer
            ]
            self._flush()

    def _task(self, place: int, group: Group) -> None:
        task = self.tasks[place]
        if self.passes_over(place):
            return
        self.board.begun(place)
        group.labels = Labels(session=self.session if self.as_one else new_id(), study=self.study)
        if task.trains:
            group.seats = (Seat(task.workload, sources=self.checkpoints.sources(task)),)
        group.seed = task.seed
        group.settled = self._settled(task)
        group.searched.clear()
        if task.keys in self.crowded and not group.alone:
            group.run_alone()
        group.out = self._out(task) if self.as_one else set()
        began = time.monotonic()
        _turns(task, group, self.buffer, self.board, self._unstarted)
        seconds = time.monotonic() - began
        if group.alone:
            self.crowded.add(task.keys)
        rows = list(self.buffer)
        if rows and rows[-1].status == "timeout" and task.entry.time_limit is not None:
            limit = {TIME_LIMIT: f"{task.entry.time_limit:g}"}
            rows[-1] = msgspec.structs.replace(rows[-1], notes={**rows[-1].notes, **limit})
        self.buffer[:] = rows
        self._flush()
        self.left.remove(place)
        if failed(rows):
            # it is gone, or has words left to say that are no answer to what it is asked next
            for index in range(len(group.seats)):
                group.renew(index)
        else:
            self.checkpoints.forget(task)
        self.ended(place, rows, seconds)

    def _settled(self, task: Task) -> list[Resolved | None]:
        """What each `auto` of the task's steps became in an earlier round, so that rounds replicate each other."""
        settled = {
            key(r.workload): r.resolved
            for other, rows in zip(self.tasks, self.results, strict=True)
            if rows is not None and (other.keys, other.seed) == (task.keys, task.seed)
            for r in of_kind(rows, StepTime)
            if r.status == "ok"
        }
        return [settled.get(name) for name in task.keys]

    def _out(self, task: Task) -> set[int]:
        """The places of workloads that failed in an earlier round."""
        rows = [r for other in self.results if other is not None for r in other]
        failed = {key(r.workload) for r in rows if r.status != "ok"}
        return {place for place, name in enumerate(task.keys) if name in failed}

    def _flush(self) -> None:
        # a signal between the two would lose what has been measured
        with held_back():
            if self.buffer:
                rows, self.buffer[:] = list(self.buffer), []
                self.keep(rows)

    def _unstarted(self, error: Unstarted) -> None:
        """A worker that died before it had opened its device fails by itself; one that was refused ends the study."""
        if not error.died:
            raise error
        message = " ".join(filter(None, (error.what, error.why)))
        # those left begin with the one that runs
        task = self.tasks[self.left[0]]
        self.buffer.append(row_of_error(task, error.seat.workload, message, self.hello, self.study))
        self.board.note(f"{error.seat.workload.model}: error: {message}")

    def _forget_finished(self) -> None:
        """Remove checkpoints of runs that were stopped between their result and this, and all where all begin anew."""
        for place, task in enumerate(self.tasks):
            rows = self.results[place]
            over = rows is not None and not failed(rows)
            if self.wanted.fresh if place in self.left else over:
                self.checkpoints.forget(task)


def _turns(
    task: Task,
    group: Group,
    kept: list[Result],
    watch: Watch,
    unstarted: Callable[[Unstarted], None] | None = None,
) -> None:
    """All turns of a task; nets that do not fit in the memory together begin again, each turn in a fresh process."""
    sampling = task.entry.sampling
    until = math.inf if task.entry.time_limit is None else time.monotonic() + task.entry.time_limit
    turn = 0
    out = set(group.out)
    while turn < sampling.turns and len(group.out) < len(group.seats):
        results = group.turn(
            task.round, turn, sampling, kept.append, watch, said=_place(task), until=until, unstarted=unstarted
        )
        turn += 1
        if turn == 1 and not group.alone and crowded(results):
            watch.note("They do not fit in the device's memory together: each turn gets fresh processes.")
            kept.clear()
            group.run_alone()
            group.out |= out
            turn = 0


def _place(task: Task) -> str:
    """Where in its entry a task stands, for who looks on."""
    seeds, sampling = task.entry.seeds, task.entry.sampling
    if task.trains and len(seeds) > 1:
        return f", seed {task.seed} ({seeds.index(task.seed) + 1} of {len(seeds)})"
    if sampling.looks:
        look = next((look for look in sampling.looks if look > task.round), sampling.looks[-1])
        return f" (round {task.round + 1}, look after {look})"
    return f" (round {task.round + 1} of {sampling.rounds})" if sampling.rounds > 1 else ""


def _group(task: Task, device: str, study: str | None, alone: bool = False) -> Group:
    labels = Labels(session=new_id(), study=study)
    if clips := task.clips:
        seats = [Seat(clips[0], beside=tuple(clips[1:]))]
    else:
        seats = [Seat(w, sources=task.entry.sources) for w in task.entry.workloads]
    return Group(seats, device=device, seed=task.seed, labels=labels, alone=alone)


def _batches(tasks: Sequence[Task], places: Sequence[int]) -> Iterator[list[list[int]]]:
    """Places of tasks whose workers start together, at most `TOGETHER` workers; seeds of one net share a process."""
    batch: list[list[int]] = []
    workers = 0
    for place in places:
        task = tasks[place]
        if batch and task.trains and tasks[batch[-1][0]].keys == task.keys:
            batch[-1].append(place)
            continue
        more = _workers(task)
        if batch and workers + more > TOGETHER:
            yield batch
            batch, workers = [], 0
        batch.append([place])
        workers += more
    if batch:
        yield batch


def _workers(task: Task) -> int:
    """How many workers its workloads need."""
    return 1 if task.clips else len(task.entry.workloads)


def row_of_error(task: Task, workload: Workload, message: str, hello: Hello, study: str | None) -> Result:
    """The row of a workload that no worker could end."""
    asked = Turn(
        workload=workload,
        sampling=task.entry.sampling,
        seed=task.seed,
        round=task.round,
        labels=Labels(session=new_id(), study=study),
    )
    return frame(hello.machine, software_of(task, hello.software), asked, message=message)


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
        for session in sorted(first, key=lambda s: max(recency(r) for r in first[s]), reverse=True):
            rows = [r for sessions in by_key for r in sessions.get(session, ()) if r.software == software]
            # of these workloads, but for clips that do not run here, and no others
            same = self.together[session] <= set(task.keys)
            if same and _whole(task, rows) and _still(task, rows):
                return sorted(rows, key=lambda r: (r.turn, recency(r)))
        return None


def _whole(task: Task, rows: Sequence[Result]) -> bool:
    if not rows:
        return False
    # who fails takes no further turn
    if failed(rows):
        return True
    if len(task.keys) > 1 and metrics.uneven(rows):
        # a round in which the GPU was slowed down is measured again
        return False
    turns = {name: {r.turn for r in rows if key(r.workload) == name} for name in task.keys}
    if task.clips:
        # which implementations run here is known to the device alone, and turns end when they are enough
        return len({len(t) for t in turns.values() if t}) == 1
    return all(set(range(task.entry.sampling.turns)) <= t for t in turns.values())


def _still(task: Task, rows: Sequence[Result]) -> bool:
    """Whether what was found is still what is asked: under no larger cap, and of the same images."""
    cap, limit = task.entry.sampling.max_time, task.entry.time_limit
    for r in rows:
        if r.stopped_by == "max_time" and r.sampling.max_time < cap:
            return False
        if r.status != "timeout":
            continue
        ended_by = r.notes.get(TIME_LIMIT)
        if r.sampling.max_time < cap or (ended_by is not None and (limit is None or float(ended_by) < limit)):
            return False
    folder = task.entry.sources.folder
    if folder is None or failed(rows) or not task.trains:
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


def folder_of(workload: Workload, where: object) -> str:
    """The name of the folder of a net's checkpoints; a run does not go on with other software or on another machine,
    which are ``where``."""
    return hashlib.blake2b(key(workload).encode() + msgspec.json.encode(where), digest_size=6).hexdigest()


class Checkpoints:
    """Those of ``tasks`` in the study's ``folder``, or where the study says that it wants to have them.

    ``where`` is the machine and the software.
    """

    def __init__(self, folder: Path, tasks: Sequence[Task], where: object) -> None:
        self.folder, self.where = folder / ".checkpoints", where
        self.several = len({task.keys for task in tasks if task.trains}) > 1
        self.left = Counter(task.keys for task in tasks if task.trains)

    def file(self, task: Task) -> Path | None:
        """The file of a training run, unless the study has a folder of its own for them."""
        if not task.trains or task.entry.sources.checkpoint is not None:
            return None
        return self.folder / folder_of(task.workload, self.where) / f"seed-{task.seed}.pt"

    def sources(self, task: Task) -> Sources:
        """The paths of a training run, with the folder of its checkpoints."""
        sources, own = task.entry.sources, self.file(task)
        if own is not None:
            return msgspec.structs.replace(sources, checkpoint=str(resolved(own.parent)))
        assert sources.checkpoint is not None
        # a folder holds one run's checkpoints
        given = Path(sources.checkpoint)
        folder = given / folder_of(task.workload, self.where) if self.several else given
        return msgspec.structs.replace(sources, checkpoint=str(folder))

    def forget(self, task: Task) -> None:
        """Remove the file of a run, and the folders around it where no other is in them."""
        path = self.file(task)
        if path is None:
            return
        path.unlink(missing_ok=True)
        self.left[task.keys] -= 1
        if not self.left[task.keys]:
            # all seeds share one search
            (path.parent / tuning.FILE).unlink(missing_ok=True)
        for folder in (path.parent, self.folder):
            with suppress(OSError):
                if folder.is_dir() and not any(folder.iterdir()):
                    shutil.rmtree(folder, ignore_errors=True)
