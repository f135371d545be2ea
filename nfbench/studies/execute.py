"""Runs the tasks of a study: each in a process of its own, kept as soon as it ends, and only what is missing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from nfbench.analysis.sessions import CUT_OFF
from nfbench.analysis.store import new_id
from nfbench.measuring.outcome import Labels, frame
from nfbench.records import Accuracy, AgcCost, Machine, Resolved, Result, StepTime, key
from nfbench.studies.checkpoints import Checkpoints
from nfbench.studies.done import TIME_LIMIT, Done, failed
from nfbench.studies.entry import Task
from nfbench.studies.group import Group, Seat, Unstarted, Watcher, running
from nfbench.studies.messages import Hello
from nfbench.studies.process import Process
from nfbench.studies.runner import TOGETHER, start, start_all
from nfbench.studies.signals import held_back
from nfbench.studies.together import crowded


class Board(Watcher, Protocol):
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


class Found(NamedTuple):
    """The results of each task, None where it has none yet; how many tasks were done ``before`` and how many ``ran``.

    ``passed_over`` says why tasks were not to be run, by their places.
    """

    results: list[list[Result] | None]
    before: int
    ran: int
    passed_over: dict[int, str]


class Wanted(NamedTuple):
    """Which tasks to run: those missing, also those that ``retry`` a failure, or all ``fresh``; ``limit`` at most.

    ``skip`` gives a reason to pass over a task, told from all that has been found by then.
    """

    fresh: bool = False
    retry: bool = False
    limit: int | None = None
    skip: Callable[[Task, Sequence[Result]], str | None] | None = None


def execute(
    tasks: Sequence[Task],
    *,
    device: str,
    keep: Callable[[Sequence[Result]], None],
    board: Board,
    home: Callable[[Machine], Home],
    study: str | None = None,
    kind: str | None = None,
    wanted: Wanted | None = None,
) -> Found:
    """Run what of ``tasks`` no earlier session has done on this machine with this software.

    ``keep`` gets all results of a task at once, as soon as it ends. A task that fails leaves a row with its status, and
    the others go on. Epochs of a run that was cut off are not trained again: checkpoints stay in ``.checkpoints`` of
    the study's folder until the run's result is kept.

    Raises:
        NfbenchError: the device cannot be had, or is not of the ``kind`` for which the tasks were chosen.
    """
    return _Execution(tasks, device, keep, board, home, study, kind, wanted or Wanted()).run()


def measured_once(task: Task, *, device: str, watch: Watcher, study: str | None = None) -> list[Result]:
    """The results of one task, which nothing keeps.

    Raises:
        NfbenchError: the device cannot be had.
    """
    kept: list[Result] = []
    group = _group(task, device, study)
    with running([group], kept.append) as state:
        start([group], watch)
        state.current = group
        _turns(task, group, kept, watch)
    return kept


class _Execution:
    def __init__(
        self,
        tasks: Sequence[Task],
        device: str,
        keep: Callable[[Sequence[Result]], None],
        board: Board,
        home: Callable[[Machine], Home],
        study: str | None,
        kind: str | None,
        wanted: Wanted,
    ) -> None:
        self.tasks, self.device, self.keep, self.board = list(tasks), device, keep, board
        self.home, self.study, self.kind, self.wanted = home, study, kind, wanted
        self.results: list[list[Result] | None] = [None] * len(self.tasks)
        self.buffer: list[Result] = []
        self.passed_over: dict[int, str] = {}
        self.probe: Process | None = None
        self.ran = 0

    def run(self) -> Found:
        try:
            self.hello = self._hello()
            folder, earlier = self.home(self.hello.machine)
            self.checkpoints = Checkpoints(folder, self.tasks, (self.hello.machine, self.hello.software))
            done = Done([] if self.wanted.fresh else earlier, self.hello.machine, self.hello.software)
            self.results = [done.rows(task) for task in self.tasks]
            to_do = [place for place, rows in enumerate(self.results) if self._missing(rows)][: self.wanted.limit]
            before = sum(rows is not None for place, rows in enumerate(self.results) if place not in to_do)
            self._forget_finished(to_do)
            self.board.planned(self.tasks, self.results, to_do)
            self.left = list(to_do)
            for batch in _batches(self.tasks, to_do):
                self._batch(batch)
        finally:
            if self.probe is not None:
                self.probe.close()
        return Found(self.results, before, self.ran, self.passed_over)

    def _hello(self) -> Hello:
        """What the first worker says of itself; its device has been opened."""
        self.probe = Process(self.device)
        start_all([self.probe], self.board, self.kind)
        if self.probe.hello is None:
            # asking it says why
            task = self.tasks[0]
            labels = Labels(study=self.study)
            group = Group([Seat(task.workload)], device=self.device, seed=0, labels=labels, processes=[self.probe])
            group.turn(0, 0, task.entry.sampling, _nobody, self.board)
            raise AssertionError("a worker that has not opened its device has answered")
        return self.probe.hello

    def _missing(self, rows: Sequence[Result] | None) -> bool:
        return rows is None or (self.wanted.retry and failed(rows))

    def _batch(self, batch: Sequence[Sequence[int]]) -> None:
        """Tasks whose workers start together; those of one tuple share theirs."""
        groups = [_group(self.tasks[places[0]], self.device, self.study) for places in batch]
        try:
            with running(groups, self.buffer.append) as state:
                if self.probe is not None:
                    # the process that told of the device is as fresh as any, and becomes the first of them
                    groups[0].processes[0].close()
                    groups[0].processes[0], self.probe = self.probe, None
                start(groups, self.board, self.kind)
                for places, group in zip(batch, groups, strict=True):
                    state.current = group
                    for place in places:
                        self._task(place, group)
                    group.close()
        finally:
            # what was measured before a signal
            self.buffer[:] = [
                msgspec.structs.replace(r, notes={**r.notes, CUT_OFF: "by a signal"}) for r in self.buffer
            ]
            self._flush()

    def _task(self, place: int, group: Group) -> None:
        task = self.tasks[place]
        found = [r for rows in self.results if rows is not None for r in rows]
        if self.wanted.skip is not None and (why := self.wanted.skip(task, found)) is not None:
            self.passed_over[place] = why
            self.left.remove(place)
            return
        self.board.begun(place)
        group.labels = Labels(session=new_id(), study=self.study)
        if isinstance(task.workload, Accuracy):
            group.seats = (Seat(task.workload, sources=self.checkpoints.sources(task)),)
        group.seed = task.seed
        group.settled = self._settled(task)
        group.out.clear()
        began = time.monotonic()
        _turns(task, group, self.buffer, self.board, self._unstarted)
        seconds = time.monotonic() - began
        rows = list(self.buffer)
        if rows and rows[-1].status == "timeout" and task.entry.time_limit is not None:
            limit = {TIME_LIMIT: f"{task.entry.time_limit:g}"}
            rows[-1] = msgspec.structs.replace(rows[-1], notes={**rows[-1].notes, **limit})
        self.buffer[:] = rows
        self._flush()
        self.results[place] = rows
        self.ran += 1
        self.left.remove(place)
        if failed(rows):
            # it is gone, or has words left to say that are no answer to what it is asked next
            for index in range(len(group.seats)):
                group.renew(index)
        else:
            self.checkpoints.forget(task)
        self.board.ended(place, rows, seconds)

    def _settled(self, task: Task) -> list[Resolved | None]:
        """What each `auto` of the task's steps became in an earlier round, so that rounds replicate each other."""
        settled = {
            key(r.workload): r.resolved
            for other, rows in zip(self.tasks, self.results, strict=True)
            if rows is not None and (other.keys, other.seed) == (task.keys, task.seed)
            for r in rows
            if r.status == "ok" and isinstance(r.workload, StepTime)
        }
        return [settled.get(name) for name in task.keys]

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
        task, labels = self.tasks[self.left[0]], Labels(session=new_id(), study=self.study)
        self.buffer.append(
            frame(
                self.hello.machine,
                self.hello.software,
                error.seat.workload,
                task.entry.sampling,
                seed=task.seed,
                round=task.round,
                turn=0,
                labels=labels,
                status="error",
                message=message,
            )
        )
        self.board.note(f"{error.seat.workload.model}: error: {message}")

    def _forget_finished(self, to_do: Sequence[int]) -> None:
        """Remove checkpoints of runs that were stopped between their result and this, and all where all begin anew."""
        for place, task in enumerate(self.tasks):
            rows = self.results[place]
            over = rows is not None and not failed(rows)
            if self.wanted.fresh if place in to_do else over:
                self.checkpoints.forget(task)


def _turns(
    task: Task,
    group: Group,
    kept: list[Result],
    watch: Watcher,
    unstarted: Callable[[Unstarted], None] | None = None,
) -> None:
    """All turns of a task; nets that do not fit in the memory together begin again, each turn in a fresh process."""
    sampling = task.entry.sampling
    until = math.inf if task.entry.time_limit is None else time.monotonic() + task.entry.time_limit
    turn = 0
    whole = sampling.rounds * sampling.turns
    several = isinstance(task.workload, Accuracy) and len(task.entry.seeds) > 1
    while turn < sampling.turns and len(group.out) < len(group.seats):
        number = task.round * sampling.turns + turn + 1
        said = f" ({number}/{whole})" if whole > 1 else ""
        if several:
            said = f", seed {task.seed} ({task.entry.seeds.index(task.seed) + 1} of {len(task.entry.seeds)})"
        results = group.turn(
            task.round, turn, sampling, kept.append, watch, said=said, until=until, unstarted=unstarted
        )
        turn += 1
        if turn == 1 and not group.alone and crowded(results):
            watch.note("They do not fit in the device's memory together: each turn gets fresh processes.")
            kept.clear()
            group.run_alone()
            turn = 0


def _group(task: Task, device: str, study: str | None) -> Group:
    labels = Labels(session=new_id(), study=study)
    clips = [w for w in task.entry.workloads if isinstance(w, AgcCost)]
    if clips:
        seats = [Seat(clips[0], beside=tuple(clips[1:]))]
    else:
        seats = [Seat(w, sources=task.entry.sources) for w in task.entry.workloads]
    return Group(seats, device=device, seed=task.seed, labels=labels)


def _batches(tasks: Sequence[Task], places: Sequence[int]) -> Iterator[list[list[int]]]:
    """Places of tasks whose workers start together, at most `TOGETHER` workers; seeds of one net share a process."""
    batch: list[list[int]] = []
    workers = 0
    for place in places:
        task = tasks[place]
        if batch and isinstance(task.workload, Accuracy) and tasks[batch[-1][0]].keys == task.keys:
            batch[-1].append(place)
            continue
        more = len(task.entry.workloads) if task.entry.table == "compare" else 1
        if batch and workers + more > TOGETHER:
            yield batch
            batch, workers = [], 0
        batch.append([place])
        workers += more
    if batch:
        yield batch


def _nobody(result: Result) -> None:
    return None
