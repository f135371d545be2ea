"""Hands the tasks of a study to the nodes of a Ray cluster and keeps here, in one folder, what comes back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

import nfbench
from nfbench.catalog.models import find
from nfbench.errors import NfbenchError
from nfbench.learning.learner import Sources
from nfbench.records import Accuracy, Flops, Result, Software
from nfbench.studies.entries import Task
from nfbench.studies.processes import held_back
from nfbench.studies.ray import Asked, Broken, Lost, Need, Node, Nodes, Report, Seen, greeted, reports
from nfbench.studies.run import Done, Session, folder_of, row_of_error, software_of
from nfbench.studies.worker import Hello
from nfbench.units import expanded, plural, resolved

SHARE = 0.5
"""What a training run or a count takes of a GPU, or of a CPU: two go on one. A timing takes a whole one."""

LOSSES = 3
"""So often a task is lost with its node before it is a row with the status `error`."""

PATIENCE = 60.0
"""Seconds that a cluster may be without a node that could go on."""


@dataclass(kw_only=True)
class Distribution(Session):
    """Runs the tasks on the nodes of the Ray cluster at ``address``.

    A timing has a GPU for itself, or all CPUs of a node; training runs share one (`SHARE`). Results are kept here, a
    task at a time. A task whose node is lost is handed out again, to a row with the status `error` after `LOSSES`. All
    nodes must have machines of one name: what was measured on one is done for all of them. Nothing is resumed from
    checkpoints, unless the study names a folder for them, which all nodes must share.
    """

    address: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tasks = [_sent(task) for task in self.tasks]
        self.running: dict[Any, tuple[int, float]] = {}
        self.losses: dict[int, int] = {}
        self.refusal: NfbenchError | None = None
        self.said = 0, 0

    def run(self) -> None:
        """Run them.

        Raises:
            NfbenchError: ray is not installed, no cluster answers, no node could run it, nodes differ in their software
                or machine or lack its data, or all of them are lost. What was measured before is kept.
        """
        if ":" in self.device:
            raise NfbenchError(f"--device {self.device} names a card, and Ray chooses those.", try_="--device cuda")
        device = self.kind or {"auto": "cuda"}.get(self.device, self.device)
        self.board.about("")
        self.board.phase(f"connecting to the Ray cluster{'' if self.address == 'auto' else f' at {self.address}'}")
        with Nodes(self.address) as self.nodes, held_back() as self.nodes.heed:
            self.fleet = Fleet(self.nodes, device, [task.entry.sources for task in self.tasks], self.board.note)
            self.hello = self._hello()
            earlier = self.home(self.hello.machine).earlier
            self.plan(_done([] if self.wanted.fresh else earlier, self.hello, self.tasks))
            try:
                self._all()
            finally:
                self.nodes.cancel(self.running)
        if self.refusal is not None:
            raise self.refusal

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

    def _all(self) -> None:
        """Hand out as many tasks as there is room for, and keep what comes back, until nothing is left."""
        since = time.monotonic()
        while self.running or (self.left and self.refusal is None):
            room = self.fleet.room()
            if room:
                since = time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                raise NfbenchError(
                    f"The Ray cluster has had no node for this study for {PATIENCE:.0f} s.",
                    try_="the same command when it has: it goes on from here",
                )
            free = room - sum(_share(self.tasks[place]) for place, _ in self.running.values())
            while self.left and self.refusal is None and _share(self.tasks[self.left[0]]) <= free:
                place = self.left.pop(0)
                if self._begin(place):
                    free -= _share(self.tasks[place])
            self._say()
            for ref in self.nodes.ended(self.running):
                self._came_back(ref)

    def _begin(self, place: int) -> bool:
        if self.passes_over(place):
            return False
        task = self.tasks[place]
        self.board.begun(place)
        share = _share(task)
        asked = Asked(self._with_checkpoint(task), self.fleet.device, self.study, self.fleet.name, share)
        ref = self.nodes.hand_out("measure", asked, self.fleet.need(share))
        self.running[ref] = place, time.monotonic()
        return True

    def _came_back(self, ref: Any) -> None:
        place, began = self.running.pop(ref)
        task = self.tasks[place]
        try:
            report = reports.decode(self.nodes.result(ref))
        except Lost as lost:
            self.losses[place] = count = self.losses.get(place, 0) + 1
            if count < LOSSES:
                how = "broke on its node" if isinstance(lost, Broken) else "was lost with its node"
                self.board.note(f"{task.name} {how} ({lost}). It is handed out again.")
                self.left.insert(0, place)
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
        rows = list(report.results)
        if not rows:
            message = report.died or "it came back without a result"
            rows = [row_of_error(task, task.workload, message, self.hello, self.study)]
        self.keep(rows)
        self.ended(place, rows, time.monotonic() - began)

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
            self.board.going(f"{plural(count, 'workload')} on {plural(nodes, 'node')}")
            self.said = count, nodes

    def _with_checkpoint(self, task: Task) -> Task:
        """A folder holds the checkpoints of one net on one kind of machine with one software."""
        folder = task.entry.sources.checkpoint
        if folder is None or not task.trains:
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


def _done(earlier: Sequence[Result], hello: Hello, tasks: Sequence[Task]) -> list[list[Result] | None]:
    """What earlier sessions found of each task on a machine of the same name."""
    here = hello.machine
    named = [r for r in earlier if (r.machine.device, r.machine.name) == (here.device, here.name)]
    alike = [(r, msgspec.structs.replace(r, machine=here)) for r in named]
    done = Done([copy for _, copy in alike], here, hello.software)
    # shown under the machine that each was measured on
    own = {id(copy): r for r, copy in alike}
    found = [done.rows(task) for task in tasks]
    return [None if rows is None else [own[id(row)] for row in rows] for rows in found]


def _sent(task: Task) -> Task:
    """The task with the paths that it reads made absolute: a node works in another folder."""
    if not task.trains:
        return task
    given: dict[str, str | None] = {
        name: getattr(task.entry.sources, name) for name in ("data_dir", "folder", "weights", "checkpoint")
    }
    if given["data_dir"] is None and Path("data").is_dir():
        given["data_dir"] = "data"
    paths = {name: str(resolved(expanded(path))) for name, path in given.items() if path is not None}
    return task._replace(entry=task.entry._replace(sources=msgspec.structs.replace(task.entry.sources, **paths)))


LOOKS = 1.0
"""Seconds between two looks at which nodes are alive."""


class Fleet:
    """The nodes whose machines have one ``name``, on ``device``; others that join and are alike are used too.

    Raises:
        NfbenchError: there is none, one has other software or lacks what the study reads, or they are of several kinds
            that Ray cannot tell apart.
    """

    def __init__(self, nodes: Nodes, device: str, sources: Sequence[Sources], note: Callable[[str], None]) -> None:
        self.nodes, self.device = nodes, device
        self.accelerator: str | None = None
        self.cpus = 0.0
        able = self._able()
        if not able:
            gpu = device == "cuda"
            raise NfbenchError(
                f"No node of the Ray cluster has a {'GPU' if gpu else 'CPU'} to give.",
                try_="--device cpu" if gpu else "ray start --num-cpus=N on a node",
            )
        seen = nodes.look(able, device, sources)
        for node, told in seen.items():
            _check(node, told)
        kinds: dict[str, list[Node]] = {}
        for node, told in seen.items():
            kinds.setdefault(told.name, []).append(node)
        self.name = max(kinds, key=lambda name: (sum(map(self._units, kinds[name])), name))
        if len(kinds) > 1:
            self._keep_apart(kinds, note)
        _check_software({node: seen[node].software for node in kinds[self.name]})
        # nodes with more of them are asked for no more, so that all can run all; the lock keeps timings apart there
        self.cpus = min(node.cpus for node in kinds[self.name])
        self.count, self.units, self.looked = len(kinds[self.name]), 0, -math.inf

    def need(self, share: float) -> Need:
        """What a task takes that has this share of a device: of a GPU, or of the CPUs of a node."""
        if self.device == "cuda":
            return Need(share, 0, self.accelerator)
        part = self.cpus * share
        # Ray gives whole CPUs, or a part of one
        return Need(0, part if part < 1 else float(int(part)))

    def room(self) -> int:
        """How many timings all nodes that are alive bear at once."""
        if time.monotonic() - self.looked > LOOKS:
            able = self._able()
            self.count, self.units = len(able), sum(map(self._units, able))
            self.looked = time.monotonic()
        return self.units

    def _able(self) -> list[Node]:
        return [
            node
            for node in self.nodes.alive()
            if self._units(node) and (self.accelerator is None or node.accelerator == self.accelerator)
        ]

    def _units(self, node: Node) -> int:
        if self.device == "cuda":
            return int(node.gpus)
        return int(node.cpus > 0 and node.cpus >= self.cpus)

    def _keep_apart(self, kinds: dict[str, list[Node]], note: Callable[[str], None]) -> None:
        names = ", ".join(f"{len(nodes)} × {name}" for name, nodes in kinds.items())
        mine = {node.accelerator for node in kinds[self.name]}
        others = {node.accelerator for name, nodes in kinds.items() if name != self.name for node in nodes}
        if len(mine) != 1 or None in mine or mine & others:
            raise NfbenchError(
                f"The nodes of the cluster are of several kinds: {names}.",
                why="A study is of one machine.",
                try_="a cluster of one kind, or --shard 1/2 on one kind and 2/2 on the other, without --ray",
            )
        (self.accelerator,) = mine
        note(f"The nodes are of several kinds ({names}); the study runs on those with {self.name}.")


def different(one: Software, other: Software) -> tuple[str, str] | None:
    """What each has that the other has not, as "torch 2.14.0, timm none" and "torch 2.15.0, timm 1.0.31"; None where
    they are the same. Python's last number is no difference."""
    a, b = _versions(one), _versions(other)
    names = [name for name in a if a[name] != b[name]]
    if not names:
        return None
    said = [", ".join(f"{name} {have[name] or 'none'}" for name in names) for have in (a, b)]
    return said[0], said[1]


def _versions(software: Software) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for field in msgspec.structs.fields(software):
        value = getattr(software, field.name)
        found[field.name] = None if value is None else str(value)
    if software.commit is not None:
        found["commit"] = software.commit[:7] + ("+" if software.dirty else "")
    # a tree that differs from its commit is told with the commit
    del found["dirty"]
    if software.python is not None:
        found["python"] = ".".join(software.python.split(".")[:2])
    return found


def _check_software(nodes: Mapping[Node, Software | None]) -> None:
    known = {node: software for node, software in nodes.items() if software is not None}
    first = next(iter(known), None)
    if first is None:
        return
    said = [
        f"the node {node.address} has {found[0]} (the first, {first.address}, has {found[1]})"
        for node, software in known.items()
        if (found := different(software, known[first])) is not None
    ]
    if said:
        raise NfbenchError(
            f"The nodes have different software: {'; '.join(said)}.",
            why="Nothing was handed out: figures of two versions do not belong in one study.",
            try_="the same environment and the same commit on every node",
        )


def _check(node: Node, told: Seen) -> None:
    own = nfbench.__version__
    if told.version != own:
        has = f"nfbench {told.version}" if told.version else f"no nfbench in its Python {told.python}"
        raise NfbenchError(
            f"The node {node.address} has {has}, this is nfbench {own}.",
            why="Nothing was handed out: figures of two versions do not belong in one study.",
            try_="the same nfbench on every node, in the environment in which ray start runs",
        )
    if told.missing is not None:
        raise NfbenchError(f"The node {node.address}: {told.missing}", why="Every node reads it by the same path.")
