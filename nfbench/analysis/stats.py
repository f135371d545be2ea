"""Intervals of medians and ratios, and the shape of a series: whether it drifts, comes in two kinds or has stragglers.

Identical samples give an interval of zero width. Each rule on a shape must stay silent on healthy noise, whatever its
distribution, so none leans on a standard deviation.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nfbench.records import MOST

Array = npt.NDArray[np.float64]
CONFIDENCE = 0.95
LEAST_ROUNDS = 4
"""Rounds of fresh processes that an interval over rounds needs."""
_WIDEST = 700.0
"""The logarithm of what a float just holds."""


class Estimate(NamedTuple):
    """A value and its interval (both ends absent where the samples are too few for one)."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width, or None where there is no interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def autocorrelation_time(values: Array) -> float:
    """How many samples count as one, at least 1: the integrated autocorrelation time of "is above the median".

    That indicator is what the variance of a median depends on; the sum over its lags ends before the first pair (0, 1),
    (2, 3) … that is not positive (Geyer 1992, initial positive sequence).
    """
    above = (values > np.median(values)) * 1.0 + (values == np.median(values)) * 0.5
    centred = above - above.mean()
    n = len(centred)
    variance = float(centred @ centred) / n
    if variance == 0:
        return 1.0
    spectrum = np.fft.rfft(centred, 2 * n)
    rho = np.fft.irfft(np.abs(spectrum) ** 2, 2 * n)[: n // 2] / (n * variance)
    total = -1.0
    for lag in range(0, len(rho) - 1, 2):
        pair = float(rho[lag] + rho[lag + 1])
        if pair <= 0:
            break
        total += 2 * pair
    return max(1.0, total)


@functools.cache
def _sign_rank(n: int, tail: float) -> int:
    """The rank whose order statistic the median is below with probability ``tail`` at most: Σ C(n, i) / 2ⁿ, exactly.

    In whole numbers, since a worker that imports scipy for this starts 0.4 s later.
    """
    rank, total, term, whole = 0, 0, 1, 1 << n
    while (total := total + term) / whole <= tail:
        rank += 1
        term = term * (n - rank + 1) // rank
    return rank


def median(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The median and its distribution-free interval from order statistics.

    The ranks are those of the sign test (binomial, n, ½) with n shrunk by the autocorrelation time, since the steps of
    one run are not independent. With fewer than six effective samples there is no 95 % interval.
    """
    data = np.sort(np.asarray(values, dtype=np.float64))
    n = len(data)
    if n == 0:
        raise ValueError("the median of no values")
    effective = max(1, math.floor(n / autocorrelation_time(np.asarray(values, dtype=np.float64))))
    rank = _sign_rank(effective, (1 - confidence) / 2)
    centre = float(np.median(data))
    if rank < 1:
        return Estimate(centre)
    low = max(1, math.floor(rank * n / effective))
    return Estimate(centre, float(data[low - 1]), float(data[n - low]))


def apart(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two lists of times, each of two turns that were taken A B B A, differ beyond doubt.

    The intervals of their medians are disjoint, and the halves of both lists differ in the same direction: a burst of
    other work makes one turn slow, not both.
    """
    if min(len(first), len(second)) < 2:
        return False
    one, other = median(first), median(second)
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    halves = [
        float(np.median(first[part])) < float(np.median(second[part2]))
        for part, part2 in (
            (slice(None, len(first) // 2), slice(None, len(second) // 2)),
            (slice(len(first) // 2, None), slice(len(second) // 2, None)),
        )
    ]
    return (one.high < other.low and all(halves)) or (other.high < one.low and not any(halves))


def mean_of_logs(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The geometric mean of positive ``values`` with Student's t interval on their logarithms.

    For rounds: medians of several rounds, or paired ratios of two nets.
    """
    if len(values) == 1:
        # the exponential of a logarithm is not always the value itself
        return Estimate(float(values[0]))
    logs = mean(np.log(np.asarray(values, dtype=np.float64)).tolist(), confidence)
    if logs.low is None or logs.high is None:
        return Estimate(math.exp(logs.value))
    if logs.low == logs.high:
        return Estimate(float(values[0]), float(values[0]), float(values[0]))
    # few values that are far apart have ends that no float holds
    return Estimate(math.exp(logs.value), math.exp(max(logs.low, -_WIDEST)), math.exp(min(logs.high, _WIDEST)))


def mean(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The arithmetic mean with Student's t interval, for accuracies over seeds: they may be 0 and do not scale."""
    data = np.asarray(values, dtype=np.float64)
    centre, n = float(data.mean()), len(data)
    if n < 2:
        return Estimate(centre)
    if np.ptp(data) == 0:
        return Estimate(float(values[0]), float(values[0]), float(values[0]))
    from scipy.special import stdtrit

    width = float(stdtrit(n - 1, 0.5 + confidence / 2)) * float(data.std(ddof=1)) / math.sqrt(n)
    return Estimate(centre, centre - width, centre + width)


def contrast(
    groups: Sequence[tuple[float, Sequence[float]]],
    confidence: float = CONFIDENCE,
    more: Sequence[tuple[float, int]] = (),
) -> Estimate:
    """The sum of weight · mean over ``groups`` of (weight, values), with Welch's t interval.

    A difference of two means has the weights 1 and −1. The groups are independent and need not spread alike: the
    degrees of freedom are Satterthwaite's. ``more`` are further variances of the sum, each with its degrees of freedom.
    There is no interval where a group has fewer than two values.
    """
    centre = math.fsum(weight * statistics.fmean(values) for weight, values in groups)
    if any(len(values) < 2 for _, values in groups):
        return Estimate(centre)
    variances = [(weight**2 * variance(values) / len(values), len(values) - 1) for weight, values in groups]
    variances += more
    total = sum(variance for variance, _ in variances)
    if total == 0:
        return Estimate(centre, centre, centre)
    from scipy.special import stdtrit

    freedom = total**2 / sum(variance**2 / n for variance, n in variances)
    width = float(stdtrit(freedom, 0.5 + confidence / 2)) * math.sqrt(total)
    return Estimate(centre, centre - width, centre + width)


def variance(values: Sequence[float]) -> float:
    """The variance of at least two values, exactly 0 where all are equal."""
    return 0.0 if min(values) == max(values) else statistics.variance(values)


def composed_parts(
    passes: Sequence[Sequence[float]], ends: Sequence[float], accumulation_steps: int, reduced: bool
) -> tuple[list[float], list[float], list[float], int]:
    """What `composed` takes, of updates whose passes, and what they do once after them, took these seconds.

    Where the gradients are ``reduced`` over ranks the last pass holds that: it comes once an update, like what follows,
    and none of the passes between stands for it.
    """
    first = [p[0] for p in passes]
    if not reduced:
        return first, [t for p in passes for t in p[1:]], list(ends), accumulation_steps
    tails = [p[-1] + end for p, end in zip(passes, ends, strict=True)]
    return first, [t for p in passes for t in p[1:-1]], tails, accumulation_steps - 1


def composed_value(
    first: Sequence[float], later: Sequence[float], tails: Sequence[float], accumulation_steps: int
) -> float:
    """The time of a step of k passes from shorter updates: first + (k − 1) · mean(later) + tail.

    ``first`` and ``later`` are seconds of the first and of the later passes, ``tails`` of clip and update together.
    """
    return float(np.median(first) + (accumulation_steps - 1) * np.mean(later) + np.median(tails))


def composed(
    first: Sequence[float],
    later: Sequence[float],
    tails: Sequence[float],
    accumulation_steps: int,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """`composed_value` with its interval.

    That is a moving-block bootstrap over ``later`` (2,000 draws, fixed seed) and draws of the other two; it is absent
    with fewer than four later passes.
    """
    a, b, c = (np.asarray(v, dtype=np.float64) for v in (first, later, tails))
    value = composed_value(first, later, tails, accumulation_steps)
    if len(b) < 4:
        return Estimate(value)
    rng = np.random.default_rng(0)
    draws, length = 2000, max(1, round(len(b) ** (1 / 3)))
    blocks = -(-len(b) // length)
    starts = rng.integers(0, len(b) - length + 1, size=(draws, blocks))
    index = (starts[:, :, None] + np.arange(length)).reshape(draws, -1)[:, : len(b)]
    totals = (accumulation_steps - 1) * b[index].mean(axis=1)
    for part in (a, c):
        totals += np.median(part[rng.integers(0, len(part), size=(draws, len(part)))], axis=1)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(totals, [tail, 100 - tail])
    return Estimate(value, min(float(low), value), max(float(high), value))


CHANGE = 0.02
"""A drift below this share is no reason to doubt a comparison: it is what runs differ by anyway."""
BLOCKS = 6
"""Blocks of each third. All of one beyond all of the other is chance in 2 of 924 cases, however wide the noise."""
LEAST_KIND = 0.20
"""Share of the values that a kind has at least; fewer are stragglers, which the median does not see."""
APART = 0.03
"""Distance of two kinds as a share of the median; nearer ones move the median too little to be said."""
ASHMAN = 5.0
"""Least Ashman's D of two kinds: a Gaussian split at its mean has 2.7, a uniform distribution 3.5."""
TOP = 20
"""Of so many values the highest counts as the next: a few pauses would widen the slow kind until it is none."""
MOVED = 0.5
"""Change in the share of the slow kind, first to last third, from which the kinds are a before and an after."""
STRAGGLER_MADS = 8.0
"""MADs over the median: 5.4 standard deviations of a Gaussian, so that skewed noise has no stragglers either."""
STRAGGLER = 0.10
"""Share over the median that a straggler has at least: a series without noise has a MAD of 0."""


class Drift(NamedTuple):
    """The medians of the first and of the last third."""

    before: float
    after: float

    @property
    def change(self) -> float:
        """As a share of ``before``; negative where it fell."""
        return self.after / self.before - 1


class Kinds(NamedTuple):
    """Two kinds of values: the means of each, how many are low, and the highest value of the low kind."""

    low: float
    high: float
    count_low: int
    cut: float


def finite(values: tuple[float | None, ...]) -> Array:
    """The values that are there, in order; none at all where one is not positive, which no clock tells."""
    found = np.asarray(values, dtype=np.float64)
    found = found[np.abs(found) < MOST]
    return found if found.size and found.min() > 0 else found[:0]


def middle(ordered: Array) -> float:
    """The median of values in ascending order; several times quicker than ``np.median``."""
    n = len(ordered)
    return float(ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def thirds(values: Array) -> Drift:
    """The medians of the first and of the last third of at least three values."""
    third = len(values) // 3
    return Drift(middle(np.sort(values[:third])), middle(np.sort(values[-third:])))


def drift(values: Array, least: int) -> Drift | None:
    """The drift of at least ``least`` values; None where it is small or no more than noise.

    That is told by the medians of blocks: those of the last third must all lie beyond those of the first. No
    distribution is assumed, and noise that lasts several steps widens the spread of the blocks too.
    """
    if len(values) < max(least, 3):
        return None
    found, third = thirds(values), len(values) // 3
    if abs(found.change) <= CHANGE:
        return None
    before, after = _blocks(values[:third]), _blocks(values[-third:])
    return found if max(before) < min(after) or max(after) < min(before) else None


def kinds(ordered: Array) -> Kinds | None:
    """The best split of ascending values into two kinds; None where they are one.

    Best is the split with the least variance inside its two sides, found from sums over all of them at once.
    """
    n = len(ordered)
    least = math.ceil(LEAST_KIND * n)
    centre = middle(ordered)
    if least < 2 or n < 2 * least or ordered[-1] - ordered[0] <= APART * centre:
        return None
    # around the median, so that the sums of squares do not cancel
    held = np.minimum(ordered, ordered[n - 1 - n // TOP]) / centre - 1
    sums, squares = np.cumsum(held), np.cumsum(held * held)
    low = np.arange(least, n - least + 1)
    means = sums[low - 1] / low, (sums[-1] - sums[low - 1]) / (n - low)
    best = int(np.argmax((means[1] - means[0]) ** 2 * low * (n - low)))
    count, left, right = int(low[best]), float(means[0][best]), float(means[1][best])
    within = (
        float(squares[count - 1]) - count * left**2,
        float(squares[-1] - squares[count - 1]) - (n - count) * right**2,
    )
    # over n - 1: of 20 values a kind may hold four, and theirs over n would often make two kinds of one
    spread = within[0] / (count - 1) + within[1] / (n - count - 1)
    # D squared is 2 (a - b)² / (s² + t²), without a division: the variances of exact repeats are 0
    if right - left <= APART or 2 * (right - left) ** 2 <= ASHMAN**2 * max(0.0, spread):
        return None
    return Kinds(centre * (1 + left), centre * (1 + right), count, float(ordered[count - 1]))


def moved(values: Array, found: Kinds) -> Drift | None:
    """The kinds as a drift, where one came after the other; None where they came in turns."""
    third, slow = len(values) // 3, values > found.cut
    if abs(float(slow[-third:].mean() - slow[:third].mean())) < MOVED:
        return None
    drift = thirds(values)
    return drift if abs(drift.change) > CHANGE else None


def straggling(ordered: Array, found: Kinds | None) -> int:
    """How many of ascending values stray far above the rest; of two kinds, above the slow one."""
    rest = ordered if found is None else ordered[found.count_low :]
    centre = middle(rest)
    mad = middle(np.sort(np.abs(rest - centre)))
    limit = centre + max(STRAGGLER_MADS * mad, STRAGGLER * centre)
    return len(ordered) - int(np.searchsorted(ordered, limit, side="right"))


def _blocks(third: Array) -> list[float]:
    return [middle(np.sort(block)) for block in np.array_split(third, min(BLOCKS, len(third)))]
