"""Runs workloads: here, or each in a process of its own, one after the other or in turns A B B A. Only it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from nfbench.analysis.store import new_id
from nfbench.devices import open_device
from nfbench.errors import NfbenchError
from nfbench.measuring.measure import measure
from nfbench.measuring.outcome import Keep, Labels
from nfbench.records import Resolved, Result, Sampling, StepTime
from nfbench.studies.group import Group, Seat, Watcher, running
from nfbench.studies.process import Process
from nfbench.studies.study import Part

TOGETHER = 4
"""Workers that may be alive at once; an idle one holds half a GiB, and on a GPU a context."""


def here(
    workloads: Sequence[StepTime], sampling: Sampling, *, device: str, seed: int, keep: Keep, watch: Watcher
) -> None:
    """Measure the workloads in this process, one after the other.

    Raises:
        NfbenchError: the device or a workload cannot be had; what came before it is kept.
    """
    opened = open_device(device)
    for workload in workloads:
        watch.about(workload.model)
        measure(opened, workload, sampling, keep, seed=seed, watch=watch)


def parts(
    parts: Sequence[Part],
    *,
    device: str,
    seed: int,
    keep: Callable[[int, Result], None],
    watch: Watcher,
    study: str | None = None,
    kind: str | None = None,
) -> None:
    """Measure each part, every workload in a process of its own; ``keep`` gets the part's place with each result.

    The workloads of a part take turns A B B A … in processes that live for one round; each round starts fresh ones.
    A workload that fails leaves a row with its status and takes no further turn of that round; the others go on.
    Import is most of a worker's start, so the workers of a few parts start together, before any of them is timed.

    Raises:
        NfbenchError: the device cannot be had, or is not of the ``kind`` for which the parts were chosen.
    """
    labels = [Labels(session=new_id(), study=study) for _ in parts]
    settled: dict[int, list[Resolved | None]] = {}
    rounds = [(place, round) for place, part in enumerate(parts) for round in range(part.sampling.rounds)]
    for batch in _batches(parts, rounds):
        groups = {
            (place, round): Group(
                [Seat(workload) for workload in parts[place].workloads], device=device, seed=seed, labels=labels[place]
            )
            for place, round in batch
        }
        with running(list(groups.values()), lambda result: None) as state:
            start(list(groups.values()), watch, kind)
            for place, round in batch:
                state.current, state.keep = groups[place, round], partial(keep, place)
                # what each auto became in the first round holds for all, so that they replicate each other
                state.current.settled = settled.setdefault(place, state.current.settled)
                _turns(parts[place], state.current, round, state.keep, watch)
                state.current.close()


def start(groups: Sequence[Group], watch: Watcher, kind: str | None = None, until: float = math.inf) -> None:
    """Start the workers of several groups together and wait until all have opened their devices, or failed to.

    It waits no longer than ``until`` on the monotonic clock.

    Raises:
        NfbenchError: one is not of the ``kind`` that is wanted.
    """
    start_all([process for group in groups if not group.alone for process in group.processes], watch, kind, until)


def start_all(processes: Sequence[Process], watch: Watcher, kind: str | None = None, until: float = math.inf) -> None:
    """`start` for workers that are in no group yet."""
    watch.about("")
    watch.phase(f"starting {len(processes)} process{'es'[: 2 * (len(processes) != 1)]}")
    for process in processes:
        process.start()
    for process in processes:
        process.ready(until)
        _check_kind(process, kind)


def _check_kind(process: Process, kind: str | None) -> None:
    if kind is not None and process.hello is not None and process.hello.machine.device != kind:
        found = process.hello.machine.device
        raise NfbenchError(
            f"The study was laid out for {kind}, but torch sees a {found} device that NVML does not.",
            try_=f"--device {found}",
        )


def _batches(parts: Sequence[Part], rounds: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """(Part, round)s whose workers start together: at most `TOGETHER` workers, a part never torn apart."""
    batch: list[tuple[int, int]] = []
    workers = 0
    for place, round in rounds:
        more = len(parts[place].workloads)
        if batch and workers + more > TOGETHER:
            yield batch
            batch, workers = [], 0
        batch.append((place, round))
        workers += more
    if batch:
        yield batch


def _turns(part: Part, group: Group, round: int, keep: Keep, watch: Watcher) -> None:
    sampling = part.sampling
    whole = sampling.rounds * sampling.turns
    for turn in range(sampling.turns):
        done = round * sampling.turns + turn + 1
        group.turn(round, turn, sampling, keep, watch, said=f" ({done}/{whole})" if whole > 1 else "")
