"""The shape of a series: whether it drifts, comes in two kinds or has stragglers. Numbers only, in the series' unit.

Each rule must stay silent on healthy noise, whatever its distribution, so none leans on a standard deviation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nfbench.records import MOST


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
