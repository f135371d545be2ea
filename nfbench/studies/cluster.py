"""Hands the tasks of a study to the nodes of a Ray cluster and keeps here, in one folder, what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nfbench.analysis.store import new_id
from nfbench.catalog.models import find
from nfbench.errors import NfbenchError
from nfbench.measuring.outcome import Labels, frame
from nfbench.records import Accuracy, Flops, Machine, Result
from nfbench.studies.checkpoints import folder_of
from nfbench.studies.done import Done, failed, software_of
from nfbench.studies.entry import Task
from nfbench.studies.execute import Board, Found, Home, Wanted
from nfbench.studies.fleet import Fleet, different
from nfbench.studies.messages import Hello
from nfbench.studies.nodes import Broken, Lost, Nodes
from nfbench.studies.remote import Asked, Report, decoded, greeted
from nfbench.studies.signals import held_back

SHARE = 0.5
"""What a training run or a count takes of a GPU, or of a CPU: two go on one. A timing takes a whole one."""

LOSSES = 3
"""So often a task is lost with its node before it is a row with the status `error`."""

PATIENCE = 60.0
"""Seconds that a cluster may be without a node that could go on."""


def distribute(
    tasks: Sequence[Task],
    *,
    address: str,
    device: str,
    keep: Callable[[Sequence[Result]], None],
    board: Board,
    home: Callable[[Machine], Home],
    study: str | None = None,
    kind: str | None = None,
    wanted: Wanted | None = None,
) -> Found:
    """Run what of ``tasks`` is not done, on the nodes of the Ray cluster at ``address``.

    A timing has a GPU for itself, or all CPUs of a node; training runs share one (`SHARE`). Results are kept here, a
    task at a time. A task whose node is lost is handed out again, to a row with the status `error` after `LOSSES`. All
    nodes must have machines of one name: what was measured on one is done for all of them. Nothing is resumed from
    checkpoints, unless the study names a folder for them, which all nodes must share.

    Raises:
        NfbenchError: ray is not installed, no cluster answers, no node could run it, nodes differ in their software or
            machine or lack its data, or all of them are lost. What was measured before is kept.
    """
    if ":" in device:
        raise NfbenchError(f"--device {device} names a card, and Ray chooses those.", try_="--device cuda")
    device = kind or {"auto": "cuda"}.get(device, device)
    board.about("")
    board.phase(f"connecting to the Ray cluster at {address}" if address != "auto" else "connecting to the Ray cluster")
    sent = [_sent(task) for task in tasks]
    with Nodes(address) as nodes, held_back() as heed:
        nodes.heed = heed
        fleet = Fleet(nodes, device, [task.entry.sources for task in sent], board.note)
        return _Distribution(sent, fleet, keep, board, study).run(home, wanted or Wanted())


class _Distribution:
    def __init__(
        self,
        tasks: Sequence[Task],
        fleet: Fleet,
        keep: Callable[[Sequence[Result]], None],
        board: Board,
        study: str | None,
    ) -> None:
        self.tasks, self.fleet, self.nodes = tasks, fleet, fleet.nodes
        self.keep, self.board, self.study = keep, board, study
        self.results: list[list[Result] | None] = [None] * len(tasks)
        self.passed_over: dict[int, str] = {}
        self.running: dict[Any, tuple[int, float]] = {}
        self.losses: dict[int, int] = {}
        self.refusal: NfbenchError | None = None
        self.said = 0, 0
        self.ran = 0

    def run(self, home: Callable[[Machine], Home], wanted: Wanted) -> Found:
        self.hello = self._hello()
        earlier = home(self.hello.machine).earlier
        self.results = _done([] if wanted.fresh else earlier, self.hello, self.tasks)
        missing = [p for p, rows in enumerate(self.results) if rows is None or (wanted.retry and failed(rows))]
        to_do = missing[: wanted.limit]
        before = sum(rows is not None for place, rows in enumerate(self.results) if place not in to_do)
        self.board.planned(self.tasks, self.results, to_do)
        self.waiting = list(to_do)
        try:
            self._all(wanted)
        finally:
            self.nodes.cancel(self.running)
        if self.refusal is not None:
            raise self.refusal
        return Found(self.results, before, self.ran, self.passed_over)

    def _hello(self) -> Hello:
        """What a node says of its device, which it has opened."""
        self.board.phase("waiting for a free node")
        why = ""
        for _ in range(LOSSES):
            ref = self.nodes.hand_out("hello", self.fleet.device, self.fleet.need(_share(self.tasks[0])))
            try:
                while not self.nodes.ended([ref]):
                    pass
            except BaseException:
                # Ray may crash where what has ended is cancelled
                self.nodes.cancel([ref])
                raise
            try:
                hello = greeted(self.nodes.result(ref))
            except Lost as lost:
                why = str(lost)
                continue
            if hello.machine.device != self.fleet.device:
                raise NfbenchError(
                    f"The study was laid out for {self.fleet.device}, but a node has a {hello.machine.device} device.",
                    try_=f"--device {hello.machine.device}",
                )
            return hello
        raise NfbenchError(f"{LOSSES} nodes were lost while they opened their device ({why}).", try_="ray status")

    def _all(self, wanted: Wanted) -> None:
        """Hand out as many tasks as there is room for, and keep what comes back, until nothing is left."""
        since = time.monotonic()
        while self.running or (self.waiting and self.refusal is None):
            room = self.fleet.room()
            if room:
                since = time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                raise NfbenchError(
                    f"The Ray cluster has had no node for this study for {PATIENCE:.0f} s.",
                    try_="the same command when it has: it goes on from here",
                )
            free = room - sum(_share(self.tasks[place]) for place, _ in self.running.values())
            while self.waiting and self.refusal is None and _share(self.tasks[self.waiting[0]]) <= free:
                place = self.waiting.pop(0)
                if self._begin(place, wanted):
                    free -= _share(self.tasks[place])
            self._say()
            for ref in self.nodes.ended(self.running):
                self._ended(ref)

    def _begin(self, place: int, wanted: Wanted) -> bool:
        task = self.tasks[place]
        found = [r for rows in self.results if rows is not None for r in rows]
        if wanted.skip is not None and (why := wanted.skip(task, found)) is not None:
            self.passed_over[place] = why
            return False
        self.board.begun(place)
        share = _share(task)
        asked = Asked(self._with_checkpoint(task), self.fleet.device, self.study, self.fleet.name, share)
        ref = self.nodes.hand_out("measure", asked, self.fleet.need(share))
        self.running[ref] = place, time.monotonic()
        return True

    def _ended(self, ref: Any) -> None:
        place, began = self.running.pop(ref)
        task = self.tasks[place]
        try:
            report = decoded(self.nodes.result(ref))
        except Lost as lost:
            self.losses[place] = count = self.losses.get(place, 0) + 1
            if count < LOSSES:
                how = "broke on its node" if isinstance(lost, Broken) else "was lost with its node"
                self.board.note(f"{task.name} {how} ({lost}). It is handed out again.")
                self.waiting.insert(0, place)
                return
            report = Report(died=f"its node, or its process there, was lost {count} times: {lost}")
        for note in report.notes:
            self.board.note(note)
        if report.refused is not None:
            what, why, try_ = report.refused
            self.refusal = self.refusal or NfbenchError(f"A node refused {task.name}: {what}", why=why, try_=try_)
            if self.running:
                self.board.note(f"A node refused {task.name}: {what} What runs now is waited for.")
            return
        if (other := self._other_software(task, report.results)) is not None:
            self.refusal = self.refusal or other
            return
        rows = list(report.results) or [self._row(task, report.died or "it came back without a result")]
        self.keep(rows)
        self.results[place] = rows
        self.ran += 1
        self.board.ended(place, rows, time.monotonic() - began)

    def _other_software(self, task: Task, rows: Sequence[Result]) -> NfbenchError | None:
        """Why rows of a node that joined later, or was changed since, are not kept; None where they are."""
        expected = software_of(task, self.hello.software)
        for row in rows:
            theirs, mine = row.software, expected
            if _of_a_factory(task):
                # its file may be known on the nodes only
                theirs, mine = (msgspec.structs.replace(one, commit=None, dirty=None) for one in (theirs, mine))
            if differing := different(theirs, mine):
                return NfbenchError(
                    f"A node measured {task.name} with {differing[0]}, the study began with {differing[1]}.",
                    why="It is not kept: figures of two versions do not belong in one study.",
                    try_="the same software on every node, and the same command: it goes on from here",
                )
        return None

    def _say(self) -> None:
        """How many run, where that is another number than before."""
        count, nodes = len(self.running), self.fleet.count
        if self.said != (count, nodes):
            self.board.going(f"{count} workload{'s'[: count != 1]} on {nodes} node{'s'[: nodes != 1]}")
            self.said = count, nodes

    def _row(self, task: Task, message: str) -> Result:
        """That of a task which no node could end."""
        return frame(
            self.hello.machine,
            software_of(task, self.hello.software),
            task.workload,
            task.entry.sampling,
            seed=task.seed,
            round=task.round,
            turn=0,
            labels=Labels(session=new_id(), study=self.study),
            status="error",
            message=message,
        )

    def _with_checkpoint(self, task: Task) -> Task:
        """A folder holds the checkpoints of one net on one kind of machine with one software."""
        folder = task.entry.sources.checkpoint
        if folder is None or not isinstance(task.workload, Accuracy):
            return task
        own = folder_of(task.workload, (self.fleet.name, self.hello.software))
        sources = msgspec.structs.replace(task.entry.sources, checkpoint=str(Path(folder) / own))
        return task._replace(entry=task.entry._replace(sources=sources))


def _of_a_factory(task: Task) -> bool:
    try:
        return find(task.workload.model).source == "factory"
    except NfbenchError:
        return False


def _share(task: Task) -> float:
    return SHARE if isinstance(task.workload, Accuracy | Flops) else 1.0


def _alike(machine: Machine, other: Machine) -> bool:
    return (machine.device, machine.name) == (other.device, other.name)


def _done(earlier: Sequence[Result], hello: Hello, tasks: Sequence[Task]) -> list[list[Result] | None]:
    """What earlier sessions found of each task on a machine of the same name."""
    here = hello.machine
    alike = [(r, msgspec.structs.replace(r, machine=here)) for r in earlier if _alike(r.machine, here)]
    done = Done([copy for _, copy in alike], here, hello.software)
    # shown under the machine that each was measured on
    own = {id(copy): r for r, copy in alike}
    found = [done.rows(task) for task in tasks]
    return [None if rows is None else [own[id(row)] for row in rows] for rows in found]


def _sent(task: Task) -> Task:
    """The task with the paths that it reads made absolute: a node works in another folder."""
    if not isinstance(task.workload, Accuracy):
        return task
    given: dict[str, str | None] = {
        name: getattr(task.entry.sources, name) for name in ("data_dir", "folder", "weights", "checkpoint")
    }
    if given["data_dir"] is None and Path("data").is_dir():
        given["data_dir"] = "data"
    paths = {name: str(Path(path).expanduser().resolve()) for name, path in given.items() if path is not None}
    return task._replace(entry=task.entry._replace(sources=msgspec.structs.replace(task.entry.sources, **paths)))
