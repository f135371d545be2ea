"""Stored results as the base of a check: which of them count, and why others cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from nfbench.analysis import metrics, stats
from nfbench.errors import BadResults
from nfbench.records import Machine, Resolved, Result, Software, StepTime, key, of_kind, recency
from nfbench.units import grouped


class Stored(NamedTuple):
    """The rounds of one workload in stored results.

    ``rounds`` are the step times of its rounds and ``sessions`` those of its sessions, in seconds, geometric means of
    turns and rounds. ``problem`` says why it cannot be a base, where it cannot; ``uneven`` are the least and the most
    turns of a round where those differ.
    """

    last: Result
    rounds: tuple[float, ...] = ()
    sessions: tuple[float, ...] = ()
    problem: str | None = None
    uneven: tuple[int, int] | None = None


def stored(results: Sequence[Result], study: str | None) -> dict[str, Stored]:
    """The base of each workload by its key: the newest software's rows, those of a check's base left out.

    Rows of other studies are left out too: a workload of theirs is not missing from this one.

    Raises:
        BadResults: two rows say that they are the same turn of the same run.
    """
    steps = [r for r in of_kind(results, StepTime) if r.side != "base" and r.study in (None, study)]
    _unrepeated(results)
    return {place: _stored(group) for place, group in grouped(steps, lambda r: key(r.workload)).items()}


def _unrepeated(results: Sequence[Result]) -> None:
    seen: dict[tuple[object, ...], Result] = {}
    for r in results:
        place = (r.session or r.id, key(r.workload), r.side, r.round, r.turn)
        if place in seen:
            raise BadResults(
                f"The run {r.session or r.id} is there twice: {r.workload.model}, round {r.round}, turn {r.turn}.",
                why=f"One row began at {seen[place].start}, another at {r.start}; they cannot both be that turn.",
                try_="--against with one of the two files",
            )
        seen[place] = r


def _stored(group: Sequence[Result]) -> Stored:
    last = max(group, key=recency)
    same: tuple[Software, Resolved | None, Machine] = (last.software, last.resolved, last.machine)
    group = [r for r in group if (r.software, r.resolved, r.machine) == same]
    failed = Counter(r.status for r in group if r.status != "ok")
    if failed:
        words = ", ".join(f"{count} {status}" for status, count in failed.items())
        return Stored(last, problem=f"the base's rows hold {words}")
    times = [value for r in group if (reading := r.reading("step_time")) for value in reading.values]
    if any(value is None or value <= 0 for value in times):
        return Stored(last, problem="the base's times hold NaN, infinity or zero")
    sound = [r for r in group if not metrics.voided(r)]
    if not sound:
        return Stored(last, problem="the GPU was slowed down in every round of the base")
    turns, rounds = metrics.turns(sound), metrics.rounds(sound)
    if not rounds:
        return Stored(last, problem="the base has no step times")
    sessions = tuple(stats.mean_of_logs(each).value for each in metrics.by_session(rounds))
    problem = "the base has one round, which tells nothing about its noise" if len(rounds) < 2 else None
    counts = sorted(map(len, turns.values()))
    uneven = (counts[0], counts[-1]) if counts[0] != counts[-1] else None
    return Stored(last, tuple(rounds.values()), sessions, problem, uneven)


def machine_keys(base: Machine, head: Machine, allowed: Sequence[str]) -> list[str]:
    """The fields in which two machines differ, in words, without the ``allowed`` ones: "driver 580.1 → 590.2"."""
    found = []
    for field in msgspec.structs.fields(Machine):
        before, after = getattr(base, field.name), getattr(head, field.name)
        if before != after and field.name not in allowed:
            found.append(f"{field.name} {before} → {after}")
    return found
