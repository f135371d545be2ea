"""Which session is shown where the same workloads were measured in several: one place, for every command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from nfbench.analysis import metrics, turn_ratios
from nfbench.analysis.stats import Estimate
from nfbench.records import Result, StepTime, key, of_kind, recency
from nfbench.units import grouped, plural

CUT_OFF = "cut_off"
"""The note of results that are a part of what should have been measured together: a signal ended it."""
OLDER = "older_session"
"""The note of results that are shown though newer ones are there: why. It is made anew each time, and never stored."""
FAILED = ("out_of_memory", "unsupported", "error", "timeout")
"""What ends a task without an answer. `diverged` is an answer; what was `interrupted` is not done."""
WIDER = 2.0
"""How many times as wide the interval of a newer measurement may be for it to replace an older one."""
_FAILED, _NO_INTERVAL, _ONE_ROUND, _ROUNDS, _RATIO = range(5)
"""How well the step times of a measurement are known; the last: also their ratio, over rounds."""
_LACKS = {
    _FAILED: "a newer one has no step time",
    _NO_INTERVAL: "a newer one has too few steps for an interval",
    _ONE_ROUND: "a newer one has one round only",
    _ROUNDS: "a newer one has too few rounds for an interval of the ratio",
}


class _Round(NamedTuple):
    """What one session measured in one round of fresh processes."""

    session: str
    number: int
    rows: list[Result]

    @property
    def time(self) -> tuple[str, str]:
        return max(recency(r) for r in self.rows), self.session

    @property
    def cut(self) -> bool:
        return any(map(cut_short, self.rows))


def current(results: Sequence[Result]) -> list[Result]:
    """The results that are shown, in their order: of the measurements of the same workloads one each.

    Measurements are of the same where they hold the same workloads together, on one machine, by one software, of one
    study and seed. A measurement is a run of rounds; a session may hold one of them or all. The first session that
    measures a round again begins a newer measurement, so that rounds which a run was stopped before, or which were
    added later, join those that were there. A round that failed, or in which the GPU was slowed down, is replaced by
    the next of its number.

    Of timed steps a quiet measurement goes before a noisy one (`metrics.noise_reason`). Of those the newest is shown
    whose interval is at most `WIDER` times as wide as the narrowest one's: the interval of the ratio where a pair took
    turns over enough rounds, else the widest of the step times', each as a share of its value. An interval over rounds
    and one within a run are not the same thing: a measurement without the former replaces none that has it. Results
    that are shown in the place of newer ones have the note
    `OLDER`, which becomes a finding of their row. Of everything else, such as training runs, the newest session of
    each round and seed is shown. One that was cut off replaces no other, and goes once there is one that was not.
    """
    together = of_sessions(results)
    shown: dict[int, str] = {}
    for alike in grouped(results, lambda r: (r.machine, r.software, r.study, r.seed)).values():
        rounds = grouped(alike, lambda r: (r.session or r.id, r.round))
        whole: dict[frozenset[str], list[_Round]] = {}
        cut: dict[tuple[frozenset[str], int], _Round] = {}
        for (session, number), rows in rounds.items():
            one, workloads = _Round(session, number, rows), together[session]
            if not one.cut:
                whole.setdefault(workloads, []).append(one)
            elif (workloads, number) not in cut or one.time > cut[workloads, number].time:
                cut[workloads, number] = one
        for several in whole.values():
            chosen, why = _chosen(several)
            shown |= {id(r): why for one in chosen for r in one.rows}
        for (workloads, number), one in cut.items():
            over = (w for w, several in whole.items() if any(other.number == number for other in several))
            if not any(workloads <= w for w in over):
                shown |= {id(r): "" for r in one.rows}
    return [_noted(r, shown[id(r)]) for r in results if id(r) in shown]


def aside(results: Sequence[Result], shown: Sequence[Result]) -> str:
    """How many of ``results`` `current` leaves out, in a sentence; empty where none."""
    count = len(results) - len(shown)
    return f"Not shown: {plural(count, 'result')} of older sessions; newer ones measured the same." if count else ""


def cut_short(result: Result) -> bool:
    """Whether a signal ended the result, or what should have been measured together with it."""
    return result.status == "interrupted" or CUT_OFF in result.notes


def failed(rows: Iterable[Result]) -> bool:
    """Whether what ``rows`` hold ended without an answer."""
    return any(r.status in FAILED for r in rows)


def of_sessions(results: Iterable[Result]) -> dict[str, frozenset[str]]:
    """The keys of the workloads of each session: a net that takes turns with one net is not measured with another."""
    found: dict[str, set[str]] = {}
    for r in results:
        found.setdefault(r.session or r.id, set()).add(key(r.workload))
    return {session: frozenset(keys) for session, keys in found.items()}


def _chosen(rounds: Sequence[_Round]) -> tuple[list[_Round], str]:
    """The rounds that are shown of those with the same workloads, and why where newer ones are there."""
    ordered = sorted(rounds, key=lambda one: one.time)
    if not all(isinstance(r.workload, StepTime) for one in ordered for r in one.rows):
        return list({one.number: one for one in ordered}.values()), ""
    measurements = _measurements(ordered)
    if len(measurements) == 1:
        return measurements[0], ""
    results = [[r for one in rounds for r in one.rows] for rounds in measurements]
    noisy, widths = [_noisy(rows) for rows in results], [_width(rows) for rows in results]
    ranks = [(not why and known > _FAILED, known) for why, (known, _) in zip(noisy, widths, strict=True)]
    best = max(ranks)
    narrowest = min(width for rank, (_, width) in zip(ranks, widths, strict=True) if rank == best)
    place = max(i for i, rank in enumerate(ranks) if rank == best and widths[i][1] <= WIDER * narrowest)
    if place == len(measurements) - 1:
        return measurements[place], ""
    known, width = widths[-1]
    wider = f"{width / narrowest:.1f} times as wide as the narrowest" if narrowest else "wider"
    lacks = _LACKS[known] if known < best[1] else f"a newer one's interval is {wider}"
    if noisy[-1] and best[0]:
        lacks = f"a newer one is noisy ({noisy[-1]})"
    start = min(r.start for one in measurements[place] for r in one.rows)
    return measurements[place], f"The session of {start[:16].replace('T', ' ')} is shown: {lacks}"


def _measurements(ordered: Sequence[_Round]) -> list[list[_Round]]:
    """Rounds in the order of their time, split where one comes again."""
    found: list[list[_Round]] = []
    last = {one.number: one for one in ordered}
    for one in ordered:
        if last[one.number] is not one and (
            any(metrics.seconds(r) is None for r in one.rows) or metrics.uneven(one.rows)
        ):
            continue
        if not found or any(other.number == one.number for other in found[-1]):
            found.append([])
        found[-1].append(one)
    return found


def measurements(results: Iterable[Result]) -> list[list[Result]]:
    """The timed steps that took turns, a list for each measurement as `current` has them, the oldest first.

    A round that a signal cut short is in it only where no other has its number.
    """
    steps = [r for r in of_kind(results, StepTime) if r.session is not None]
    together = of_sessions(steps)
    places = grouped(steps, lambda r: (r.machine, r.software, r.study, r.seed, together[str(r.session)]))
    lists = []
    for alike in places.values():
        each = grouped(alike, lambda r: (str(r.session), r.round))
        rounds = sorted((_Round(*where, rows) for where, rows in each.items()), key=lambda one: one.time)
        whole = {one.number for one in rounds if not one.cut}
        rounds = [one for one in rounds if not one.cut or one.number not in whole]
        lists += [[r for one in several for r in one.rows] for several in _measurements(rounds)]
    return sorted(lists, key=lambda rows: max(recency(r) for r in rows))


def _noisy(rows: Sequence[Result]) -> str:
    """Why a measurement is noisy; empty where it is not."""
    for name in dict.fromkeys(key(r.workload) for r in rows):
        rated = [r for r in rows if key(r.workload) == name and metrics.seconds(r) is not None]
        if why := metrics.noise_reason(rated, metrics.across(rated)):
            return why
    return ""


def _width(rows: Sequence[Result]) -> tuple[int, float]:
    """How well the step times of a measurement are known, and the width of the interval as a share of the value."""
    steps = {key(r.workload): r.step for r in rows}
    if len(steps) == 2:
        ratio = turn_ratios.paired(rows, *steps.values())
        if ratio is not None and ratio.rounds > 1 and (width := _relative(ratio.estimate)) is not None:
            return _RATIO, width
    each = [_of_one([r for r in rows if key(r.workload) == name]) for name in steps]
    return min(known for known, _ in each), max(width for _, width in each)


def _of_one(rows: Sequence[Result]) -> tuple[int, float]:
    rated = [r for r in rows if metrics.seconds(r) is not None]
    if not rated:
        return _FAILED, 0.0
    width = _relative(metrics.across(rated))
    if width is None:
        return _NO_INTERVAL, 0.0
    return _ROUNDS if len({(r.session, r.round) for r in rated}) > 1 else _ONE_ROUND, width


def _relative(estimate: Estimate | None) -> float | None:
    if estimate is None or estimate.half_width is None or not estimate.value > 0:
        return None
    return 2 * estimate.half_width / estimate.value


def _noted(result: Result, why: str) -> Result:
    return msgspec.structs.replace(result, notes={**result.notes, OLDER: why}) if why else result
