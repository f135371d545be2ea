"""The statistics of the gate: rounds in, a verdict out.

A round is a pair of fresh processes timed in turns A B B A; its effect is the log-ratio of the two step times. Looks
are fixed, after 4, 8 and 16 rounds, each at 1 − 0.05/3, so that all of them together are wrong in 5 % of runs at most.
(Rounds whose clocks differ are judged once, by themselves, where there is nothing else to judge: see `Tally.void`.)
An alarm, *slower*, is at a level divided by the number of rows too: false alarms are counted per run of the gate.
``benchmarks/gate_simulation.py`` shows what this gives. Slowdowns that a study accepts stand as ``[[accept]]`` in its
file, so in the pull request's own diff.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Literal, NamedTuple

import msgspec

from nfbench import units
from nfbench.analysis import metrics, stats
from nfbench.analysis.findings import Finding
from nfbench.analysis.stats import Estimate
from nfbench.records import Record, Resolved, Result, StepTime

Verdict = Literal["faster", "slower", "same", "inconclusive", "new", "missing", "incomparable"]

LOOKS = (4, 8, 16)
ERROR = 0.05
MOST_VOID = 8
"""Rounds of one row that may be run again before the row is given up as inconclusive."""


def confidence(rows: int = 1) -> float:
    """The confidence of one look's interval so that ``rows`` rows together are wrong in 5 % of runs at most."""
    return 1 - ERROR / len(LOOKS) / rows


class Round(NamedTuple):
    """One round of a row: head's step time over the base's, and the same in clock cycles where clocks were read."""

    ratio: float
    cycles: float | None = None

    def clocks_differ(self, slower_than: float) -> bool:
        """Whether the clocks of the two sides differ by more than half of the threshold.

        A smaller difference is in the noise: at the threshold it would choose the rounds that count.
        """
        return self.cycles is not None and abs(math.log(self.ratio / self.cycles)) > math.log1p(slower_than) / 2


def judge(estimate: Estimate, alarm: Estimate, slower_than: float) -> Verdict:
    """The verdict at one look.

    ``estimate`` is the ratio with its interval at one look's confidence and ``alarm`` the same at that of all rows
    together. Slower or faster only where the interval's near end passes the threshold.
    """
    high_limit, low_limit = 1 + slower_than, 1 / (1 + slower_than)
    if estimate.low is None or estimate.high is None or alarm.low is None:
        return "inconclusive"
    if alarm.low > high_limit:
        return "slower"
    if estimate.high < low_limit:
        return "faster"
    return "same" if low_limit <= estimate.low and estimate.high <= high_limit else "inconclusive"


def look(ratios: Sequence[float], slower_than: float, rows: int) -> tuple[Verdict, Estimate]:
    """The verdict over paired rounds, and the ratio with its interval at one look's confidence."""
    estimate = stats.mean_of_logs(ratios, confidence())
    return judge(estimate, stats.mean_of_logs(ratios, confidence(rows)), slower_than), estimate


class Tally:
    """The rounds of one row, and its verdict once a look has one.

    ``values`` are what counts of each sound round, ``look`` judges them: for paired rounds their ratios.
    """

    def __init__(self, look: Callable[[Sequence[float]], tuple[Verdict, Estimate]]) -> None:
        self.look = look
        self.values: list[float] = []
        self.voids: list[str] = []
        self.held: list[Round] = []
        self.verdict: Verdict | None = None
        self.estimate: Estimate | None = None

    def void(self, why: str, held: Round | None = None) -> None:
        """A round that does not count and is run again, up to a limit.

        One whose clocks differ is ``held``: where that goes on, it is the code that changes the clock, and what is true
        of times and cycles alike is said.
        """
        self.voids.append(why)
        if held is not None and held.cycles is not None:
            self.held.append(held)
        if len(self.voids) > MOST_VOID:
            self.verdict = "inconclusive"
            if len(self.held) > MOST_VOID / 2:
                times, self.estimate = self.look([r.ratio for r in self.held])
                cycles, _ = self.look([r.cycles for r in self.held if r.cycles is not None])
                self.verdict = times if times == cycles else "inconclusive"

    def add(self, value: float) -> None:
        """A sound round; a look where there is one after so many."""
        self.values.append(value)
        if len(self.values) in LOOKS:
            verdict, self.estimate = self.look(self.values)
            if verdict != "inconclusive" or len(self.values) == LOOKS[-1]:
                self.verdict = verdict


def tally(slower_than: float, rows: int) -> Tally:
    """The tally of one of ``rows`` rows whose sides are timed together."""
    return Tally(lambda ratios: look(ratios, slower_than, rows))


def ratio(base: Sequence[Result], head: Sequence[Result]) -> Round | None:
    """The round of the turns of both sides; None where a side has no rate.

    Each side is the geometric mean over its turns, in which a steady drift cancels over A B B A.
    """
    times = [_known([metrics.seconds(r) for r in side]) for side in (base, head)]
    if not times[0] or not times[1]:
        return None
    clocks = [_known([metrics.sm_clock(r) for r in side]) for side in (base, head)]
    return of_turns(times[0], times[1], (clocks[0], clocks[1]) if clocks[0] and clocks[1] else None)


def of_turns(
    base: Sequence[float], head: Sequence[float], clocks: tuple[Sequence[float], Sequence[float]] | None = None
) -> Round:
    """The round of the step times of each side's turns, in seconds, and of their clocks in Hz."""
    ratio = _average_of_logs(head) - _average_of_logs(base)
    if clocks is None:
        return Round(math.exp(ratio))
    return Round(math.exp(ratio), math.exp(ratio + _average_of_logs(clocks[1]) - _average_of_logs(clocks[0])))


def _known(values: Sequence[float | None]) -> list[float]:
    """The values, or none of them where one is missing."""
    found = [value for value in values if value is not None and value > 0]
    return found if len(found) == len(values) else []


def _average_of_logs(values: Sequence[float]) -> float:
    return statistics.fmean(map(math.log, values))


def unpaired(base: Sequence[float], head: Sequence[float], sessions: Sequence[float], level: float) -> Estimate:
    """The ratio of the step times of rounds that were not interleaved, head over base, with Welch's interval.

    It is widened by the noise between sessions: ``sessions`` are the base's step times in sessions of its own, and
    their variance counts once for the head's session and a share for the base's. The degrees of freedom are those of
    Welch and Satterthwaite. With fewer than two rounds on a side there is no interval.
    """
    logs = [[math.log(v) for v in values] for values in (base, head, sessions)]
    between = [(stats.variance(logs[2]) * (1 + 1 / len(sessions)), len(sessions) - 1)] if len(sessions) > 1 else []
    value, low, high = stats.contrast([(1, logs[1]), (-1, logs[0])], level, between)
    return Estimate(math.exp(value), None if low is None else math.exp(low), None if high is None else math.exp(high))


def noise(ratios: Sequence[float]) -> float | None:
    """The standard deviation of the rounds' log-ratios; None of fewer than two."""
    return math.sqrt(stats.variance([math.log(r) for r in ratios])) if len(ratios) > 1 else None


def smallest_slowdown(noise: float, rounds: int, slower_than: float, rows: int, power: float = 0.95) -> float | None:
    """The true slowdown that is called slower in ``power`` of runs at the last look that ``rounds`` reach.

    ``noise`` is that of `noise`. Of the threshold, t quantiles of the alarm and of the power, each times the standard
    error; None before the first look.
    """
    from scipy.special import stdtrit

    reached = [n for n in LOOKS if n <= rounds]
    if not reached:
        return None
    n = reached[-1]
    alarm, found = (float(stdtrit(n - 1, level)) for level in ((1 + confidence(rows)) / 2, power))
    return math.expm1(math.log1p(slower_than) + (alarm + found) * noise / math.sqrt(n))


class Accept(Record, frozen=True, kw_only=True):
    """A change for the worse that is wanted, up to a size and a day.

    ``slower`` is the share of the step time that is accepted, ``counts`` the same of counted quantities; ``where`` are
    the settings of the workloads that it is about, the model among them. ``until`` is the last day.
    """

    where: dict[str, Any]
    until: date
    reason: str
    slower: float = 0.0
    counts: dict[str, float] = msgspec.field(default_factory=dict)

    def matches(self, workload: StepTime) -> bool:
        """Whether it is about that workload."""
        return all(getattr(workload, name) == value for name, value in self.where.items())

    def expired(self, today: date) -> bool:
        """Whether its last day is over."""
        return today > self.until

    def said(self) -> str:
        """ "accepted up to 6 % until 2027-01-31: exact softmax"."""
        parts = [f"{100 * self.slower:g} %"] if self.slower else []
        parts += [f"{100 * share:g} % more {name.replace('_', ' ')}" for name, share in self.counts.items()]
        return f"accepted up to {', '.join(parts)} until {self.until}: {self.reason}"


def of(workload: StepTime, accepts: tuple[Accept, ...], today: date) -> Accept | None:
    """What is accepted of that workload today, all that still holds taken together; else what held last, or None."""
    found = [accept for accept in accepts if accept.matches(workload)]
    holding = [accept for accept in found if not accept.expired(today)]
    if not holding:
        return max(found, key=lambda accept: accept.until, default=None)
    names = dict.fromkeys(name for accept in holding for name in accept.counts)
    return Accept(
        where=holding[0].where,
        until=min(accept.until for accept in holding),
        reason="; ".join(dict.fromkeys(accept.reason for accept in holding)),
        slower=max(accept.slower for accept in holding),
        counts={name: max(accept.counts.get(name, 0.0) for accept in holding) for name in names},
    )


EXACT, NEARLY = 0.0, 0.01
COUNTS: dict[str, tuple[str, float]] = {
    "macs": ("MACs", EXACT),
    "params": ("parameters", EXACT),
    "operators": ("operators per step", EXACT),
    "saved_bytes": ("bytes saved for backward", EXACT),
    "peak_allocated": ("peak allocated memory", NEARLY),
}
"""What is counted, its name, and how much more of it is no change: cuDNN chooses its workspaces by timing."""

SLOWER, UNDECIDED = 3, 4
Outcome = Verdict | Literal["failed", "more", "fewer"]
"""A verdict on the step time; ``failed`` where the head cannot run, ``more`` and ``fewer`` where it is only counted."""


class Count(NamedTuple):
    """A counted quantity on both sides; one that a side lacks is None there."""

    name: str
    base: float | None
    head: float | None
    verdict: Literal["same", "more", "fewer", "missing", "new"]

    @property
    def change(self) -> float | None:
        """The share by which the head has more; None where a side lacks it or the base has none."""
        return self.head / self.base - 1 if self.base and self.head is not None else None

    def said(self) -> str:
        """ "operators per step 100 → 108 (+8 %)"."""
        title = COUNTS[self.name][0]
        if self.head is None or self.base is None:
            return f"{title}: not counted on the {'head' if self.head is None else 'base'}"
        change = f" ({units.signed_percent(self.change)})" if self.change is not None else ""
        return f"{title} {self.base:,.0f} → {self.head:,.0f}{change}"


class Row(Record, frozen=True, kw_only=True):
    """The verdict on one workload.

    ``ratio`` is head over base with its interval at one look's confidence, ``noise`` the standard deviation of the
    rounds' log-ratios, times are in seconds. ``not_slower`` where an inconclusive one has at least ruled that out.
    ``accept`` is what the study accepts; ``limit`` the slowdown that is not called one here.
    """

    workload: StepTime
    verdict: Outcome
    limit: float
    why: tuple[str, ...] = ()
    ratio: Estimate | None = None
    base_time: float | None = None
    head_time: float | None = None
    rounds: int = 0
    void: int = 0
    noise: float | None = None
    not_slower: bool = False
    counts: tuple[Count, ...] = ()
    accept: Accept | None = None
    accepted: bool = False
    expired: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def worse_counts(self) -> list[Count]:
        """The counts of which the head has more than is accepted."""
        allowed = self.accept.counts if self.accept is not None and not self.expired else {}
        more = [c for c in self.counts if c.verdict == "more"]
        return [c for c in more if c.change is None or c.change > allowed.get(c.name, 0.0)]

    def exit_code(self, inconclusive: Literal["fail", "pass"]) -> int:
        """0, 3 (slower, more, or the head cannot run) or 4 (nothing can be said)."""
        if self.verdict == "failed" or (self.verdict == "slower" and not self.accepted) or self.worse_counts:
            return SLOWER
        if self.verdict in ("missing", "incomparable") or any(c.verdict == "missing" for c in self.counts):
            return UNDECIDED
        undecided = self.verdict == "inconclusive" and not self.not_slower
        return UNDECIDED if undecided and inconclusive == "fail" else 0


def counts(base: Result | None, head: Result | None) -> tuple[Count, ...]:
    """The counted quantities of both sides, those that neither has left out."""
    found = []
    for name, (_, tolerance) in COUNTS.items():
        before, after = (None if r is None else r.value(name) for r in (base, head))
        if before is None and after is None:
            continue
        found.append(Count(name, before, after, _count_verdict(before, after, tolerance)))
    return tuple(found)


def _count_verdict(
    base: float | None, head: float | None, tolerance: float
) -> Literal["same", "more", "fewer", "missing", "new"]:
    if base is None:
        return "new"
    if head is None:
        return "missing"
    if head > base * (1 + tolerance):
        return "more"
    return "fewer" if head < base * (1 - tolerance) else "same"


def counted(counts: Sequence[Count]) -> Outcome:
    """The verdict of counts by themselves."""
    found = {count.verdict for count in counts}
    if not found & {"same", "more", "fewer"}:
        return "incomparable"
    return "more" if "more" in found else "missing" if "missing" in found else "fewer" if "fewer" in found else "same"


def differences(base: Resolved | None, head: Resolved | None) -> list[str]:
    """The fields in which what was resolved differs, in words: "optimizer_impl foreach → fused"."""
    if base is None or head is None:
        return []
    # who standardizes weights is timm where nothing says otherwise
    absent = {"standardize": "timm"}
    found = []
    for name in (field.name for field in msgspec.structs.fields(Resolved)):
        before, after = getattr(base, name), getattr(head, name)
        if before != after:
            words = [absent.get(name, "none") if value is None else value for value in (before, after)]
            found.append(f"{name} {words[0]} → {words[1]}")
    return found


def exit_code(rows: Sequence[Row], inconclusive: Literal["fail", "pass"]) -> int:
    """The exit code of all rows together: 3 goes before 4 before 0."""
    codes = {row.exit_code(inconclusive) for row in rows}
    return SLOWER if SLOWER in codes else UNDECIDED if UNDECIDED in codes else 0
