"""Workloads against each other on one device, in turns A B B A …, until their ratios are known well enough."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from nfbench.analysis import compare
from nfbench.analysis.store import new_id
from nfbench.measuring.outcome import Keep, Labels
from nfbench.records import Result, Sampling, StepTime
from nfbench.studies.group import Group, Seat, Watcher, running
from nfbench.studies.runner import start
from nfbench.studies.together import crowded

TURN_TIME = 3.0
LEAST_TURNS = 4


def versus(
    workloads: Sequence[StepTime], sampling: Sampling, *, device: str, seed: int, keep: Keep, watch: Watcher
) -> list[Result]:
    """Time the workloads in turns; the results of the turns that count.

    Turns end where the ratio of the first to every other is as narrow as ``sampling.within``, after an even number of
    them and four at least, or with ``sampling.max_time``, which begins with the second turn. Where the peaks of all do
    not fit in 90 % of the memory, each turn has a process of its own.

    Raises:
        NfbenchError: the device cannot be had.
    """
    group = Group([Seat(workload) for workload in workloads], device=device, seed=seed, labels=Labels(session=new_id()))
    cap = max(TURN_TIME, sampling.max_time / (LEAST_TURNS * len(workloads)))
    each = msgspec.structs.replace(sampling, turn_time=TURN_TIME, max_time=cap)
    kept: list[Result] = []
    with running([group], keep) as state:
        state.current = group
        start([group], watch)
        done, first = 0, 0
        spent = longest = 0.0
        while 0 not in group.out and len(group.out) < len(workloads) - 1:
            began = time.monotonic()
            # a process of its own is a round of its own
            round, turn = (done, 0) if group.alone else (0, done)
            said = f" (turn {done - first + 1})"
            results = group.turn(round, turn, each, keep, watch, said=said)
            done += 1
            if done == 1 and crowded(results):
                watch.note("They do not fit in the device's memory together: each turn gets fresh processes.")
                group.run_alone()
                first = done
                continue
            kept += [result for result in results if result is not None]
            took = time.monotonic() - began
            turns = done - first
            # the first turn builds, compiles and tries layouts
            spent += took if turns > 1 else TURN_TIME * len(workloads)
            longest = max(longest, took if turns > 1 else 0.0)
            if turns >= LEAST_TURNS and turns % 2 == 0 and _narrow(kept, workloads, sampling.within):
                break
            # an odd last turn would leave a drift in the ratio
            more = 2 if turns % 2 == 0 else 1
            if turns >= 2 and more == 2 and spent + more * longest > sampling.max_time:
                break
    return kept


def _narrow(results: Sequence[Result], workloads: Sequence[StepTime], within: float) -> bool:
    ratios = [compare.paired(results, workloads[0], other) for other in workloads[1:]]
    halves = [(r.estimate.half_width, r.estimate.value) for r in ratios if r is not None]
    return bool(halves) and all(half is not None and half <= within * value for half, value in halves)
