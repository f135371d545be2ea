"""How many steps a block has, when warm-up has settled and when a window has seen enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from nfbench.analysis.stats import Estimate
from nfbench.records import Sampling

BLOCK_TIME = 0.5
BLOCK_STEPS = 10
STEADY = 0.02

Reason = Literal["within", "max_time", "turn_time"]


def block_steps(step_time: float, left: float, refills: int = 1) -> int:
    """Steps in the next block: at least 0.5 s and 10 steps, fewer where ``left`` seconds do not hold so many.

    ``refills`` more are run than are counted, since the first step of a block refills the launch queue.
    """
    step_time = max(step_time, 1e-6)
    wanted = max(BLOCK_STEPS, math.ceil(BLOCK_TIME / step_time))
    return max(1, min(wanted, int(left / step_time) - refills))


def steady(times: Sequence[float]) -> bool:
    """Whether a warm-up has settled: the median of its latest third is within 2 % of that of the third before it."""
    third = len(times) // 3
    if third < 3:
        return False
    before, latest = sorted(times[-2 * third : -third])[third // 2], sorted(times[-third:])[third // 2]
    return abs(latest - before) <= STEADY * before


def whole_steps_fit(step_time: float, accumulation_steps: int, max_time: float) -> bool:
    """Whether a step of several passes can be timed whole: the cap holds its warm-up and three more.

    A step of one pass cannot be composed, so it is always timed whole.
    """
    return accumulation_steps == 1 or 5 * step_time <= max_time


def short_passes(one_pass: float, left: float, accumulation_steps: int, least: int = 2) -> int:
    """Passes of each update that a composed step is put together from: ``least`` at least, the whole step's at most.

    The later passes decide the composed step, and each update gives a first one: of n passes that ``left`` seconds
    hold, √(n/2) updates take √(2n) each, and one update takes all where they are fewer than eight.
    """
    held = max(0.0, left / max(one_pass, 1e-6))
    return min(accumulation_steps, max(least, int(held if held < 8 else math.sqrt(2 * held))))


def enough(estimate: Estimate, steps: int, elapsed: float, left: float, sampling: Sampling) -> Reason | None:
    """Why the window may stop, or None: ``steps`` counted so far, ``elapsed`` in the window, ``left`` to the cap."""
    if left <= 0:
        return "max_time"
    if elapsed < sampling.turn_time or steps < sampling.min_steps:
        return None
    if sampling.turn_time:
        return "turn_time"
    half = estimate.half_width
    return "within" if half is not None and half <= sampling.within * estimate.value else None
