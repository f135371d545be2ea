"""The step times of a result: of whole steps, or composed from the passes of shorter ones.

Of several ranks the slowest decides: they wait for each other in every update.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeVar

from nfbench.analysis import stats
from nfbench.analysis.stats import Estimate
from nfbench.records import PHASES, Reading, Result, accumulation_steps

Value = TypeVar("Value")
Parts = tuple[list[float], list[float], list[float], int]

RATED = ("ok", "interrupted")
_KEPT = 64


def kept(function: Callable[[Result], Value]) -> Callable[[Result], Value]:
    """``function``, whose values for the last `_KEPT` results are kept: a row asks a dozen times for those of each."""
    held: dict[int, tuple[Result, Value]] = {}

    @wraps(function)
    def asked(result: Result) -> Value:
        # by identity, which a result that is kept shares with no other: to hash one takes longer than the arithmetic
        found = held.get(id(result))
        if found is None:
            if len(held) >= _KEPT:
                held.clear()
            found = held[id(result)] = result, function(result)
        return found[1]

    return asked


def step_time(result: Result) -> Estimate | None:
    """Seconds of one optimizer update: the median, or the composed step, with its interval within this run."""
    if (parts := composed_parts(result)) is not None:
        return stats.composed(*parts)
    times = step_times(result)
    return stats.median(times) if times else None


@kept
def seconds(result: Result) -> float | None:
    """The value of `step_time`, without the work of its interval."""
    if (parts := composed_parts(result)) is not None:
        return stats.composed_value(*parts)
    times = ordered(result)
    return statistics.median(times) if times else None


@kept
def step_times(result: Result) -> list[float]:
    """Step by step the slowest rank's."""
    ranks = [r.finite for r in result.each("step_time")] if result.status in RATED else []
    times = ranks[0] if len(ranks) == 1 else [max(step) for step in zip(*ranks, strict=False)]
    # no clock has stood still: such a file was not written by nfbench
    return times if all(t > 0 for t in times) else []


@kept
def ordered(result: Result) -> list[float]:
    return sorted(step_times(result))


@kept
def composed_parts(result: Result) -> Parts | None:
    """What `stats.composed` takes, of the slowest rank; None where the result holds whole steps or no rate."""
    passes = round(result.value("passes") or 0)
    if not result.composed or result.status not in RATED or result.resolved is None or passes < 2:
        return None
    found = []
    for rank in sorted({r.rank for r in result.readings if r.name in PHASES}):
        phases = [r for r in result.readings if r.rank == rank and r.name in PHASES]
        if (parts := _parts_of_rank(result, phases, passes)) is None:
            return None
        found.append(parts)
    return max(found, key=lambda parts: stats.composed_value(*parts), default=None)


def _parts_of_rank(result: Result, phases: Sequence[Reading], passes: int) -> Parts | None:
    assert result.resolved is not None
    if any(None in r.values for r in phases) or result.resolved.micro_batch < 1:
        return None
    # phases of unequal length were not written by nfbench
    micro = [sum(t) for t in zip(*(r.finite for r in phases if r.scope == "micro_step"), strict=False)]
    tails = [sum(t) for t in zip(*(r.finite for r in phases if r.scope != "micro_step"), strict=False)]
    updates = [micro[start : start + passes] for start in range(0, len(micro), passes)]
    whole = accumulation_steps(result.step, result.resolved)
    reduced = result.step.world_size > 1
    if not tails or not all(t > 0 for t in micro) or (reduced and (passes < 3 or len(updates) != len(tails))):
        return None
    parts = stats.composed_parts(updates, tails, whole, reduced)
    return parts if parts[0] and parts[1] else None
