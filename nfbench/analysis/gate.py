"""The statistics of the gate: rounds in, a verdict out.

A round is a pair of fresh processes timed in turns A B B A; its effect is the log-ratio of the two step times. Looks
are fixed, after 4, 8 and 16 rounds, each at 1 − 0.05/3, so that all of them together are wrong in 5 % of runs at most.
(Rounds whose clocks differ are judged once, by themselves, where there is nothing else to judge: see `Tally.void`.)
An alarm, *slower*, is at a level divided by the number of rows too: false alarms are counted per run of the gate.
``benchmarks/gate_simulation.py`` shows what this gives.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from nfbench.analysis import metrics, stats
from nfbench.analysis.stats import Estimate
from nfbench.records import Result

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
    """The round of the step times of each side's turns, in seconds, and of their mean clocks in Hz."""
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
