"""Intervals of medians and ratios. Identical samples give an interval of zero width."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

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
