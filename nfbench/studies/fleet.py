"""Which nodes of a cluster run a study, how many of its tasks they bear at once, and what a task takes of one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

import nfbench
from nfbench.errors import NfbenchError
from nfbench.learning.learner import Sources
from nfbench.records import Software
from nfbench.studies.nodes import Need, Node, Nodes, Seen

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
