"""The updates of one run in the order in which they were timed, found again from its readings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from nfbench.analysis import stats
from nfbench.analysis.metrics import step_time
from nfbench.analysis.stats import Estimate
from nfbench.records import MAX_KEPT_STEPS, PHASES, Result
from nfbench.showing.style import drawable

_CLOSE = 1e-3
"""The share of a block by which the steps in it may miss its time."""
_WARM_UP = 20
"""Steps of the warm-up that there is always room for."""


class Point(NamedTuple):
    """An update, or a pass, by its number in the window (0 and below: before it), and its seconds."""

    x: float
    seconds: float


class Timeline(NamedTuple):
    """A window: what was timed, what was kept apart (the first of each block), the warm-up before it, the places where
    a block or a composed update begins, the number of the last update, and the middle of what was timed."""

    timed: list[Point]
    apart: list[Point]
    warm_up: list[Point]
    begins: list[float]
    end: float
    middle: Estimate
    notes: list[str]


def timeline(result: Result) -> Timeline | None:
    """The updates of ``result``, or its passes where the step is composed of them; None without one that can be drawn.

    Of several ranks the slowest counts in each update; passes are rank 0's.
    """
    return _passes(result) if result.composed else _steps(result)


def _steps(result: Result) -> Timeline | None:
    middle = step_time(result)
    ranks = [r.values for r in result.each("step_time")]
    if middle is None or not drawable(middle.value) or not ranks:
        return None
    slowest = [None if None in step else max(v for v in step if v is not None) for step in zip(*ranks, strict=False)]
    every = _every(result, len(slowest))
    refills, blocks = (_values(result, name) for name in ("refill", "block_time"))
    counts = None if every > 1 else _counts([v or 0.0 for v in ranks[0]], refills, blocks)
    places, apart, begins, at = [], [], [], 1
    if counts is None:
        places = [1.0 + every * i for i in range(len(slowest))]
        at += every * len(slowest)
    else:
        first = len(refills) // len(counts)
        for number, count in enumerate(counts):
            begins.append(float(at))
            apart += [Point(at + i, t) for i, t in enumerate(refills[number * first : (number + 1) * first])]
            places += [float(at + first + i) for i in range(count)]
            at += first + count
    timed = [Point(x, t) for x, t in zip(places, slowest, strict=True) if t is not None and drawable(t)]
    notes = [f"Of {result.value('steps') or 0:,.0f} steps one in {every} was kept."] if every > 1 else []
    if counts is None and refills:
        notes.append("The first step of each block is not drawn: where the blocks begin is not known.")
    warm_up = _warm_up(result, len(timed), notes)
    apart = [p for p in apart if drawable(p.seconds)]
    return Timeline(timed, apart, warm_up, begins[1:], at - 1, middle, notes) if timed else None


def _passes(result: Result) -> Timeline | None:
    phases = [r for r in result.readings if r.rank == 0 and r.name in PHASES and r.scope == "micro_step"]
    times = [sum(t) for t in zip(*(r.finite for r in phases), strict=False)]
    timed = [Point(i, t) for i, t in enumerate(times, 1) if drawable(t)]
    passes = round(result.value("passes") or 0)
    if step_time(result) is None or not timed or passes < 1:
        return None
    begins = [float(x) for x in range(1 + passes, len(times) + 1, passes)]
    notes = [f"Composed: the step is put together from updates of {passes} passes; each point is a pass."]
    return Timeline(timed, [], [], begins, len(times), stats.median([p.seconds for p in timed]), notes)


def _warm_up(result: Result, window: int, notes: list[str]) -> list[Point]:
    times = _values(result, "warm_up")
    kept = times[-max(_WARM_UP, window // 2) :]
    if len(kept) < len(times):
        notes.append(f"Of {len(times)} steps of the warm-up the last {len(kept)} are drawn.")
    return [Point(i - len(kept) + 1, t) for i, t in enumerate(kept) if drawable(t)]


def _every(result: Result, kept: int) -> int:
    """Every n-th step was kept, so that at most `MAX_KEPT_STEPS` values are."""
    steps = result.value("steps") or 0
    # no window has had so many
    every = math.ceil(steps / MAX_KEPT_STEPS) if steps < 1e12 else 1
    return every if every > 1 and math.ceil(steps / every) == kept else 1


def _values(result: Result, name: str) -> list[float]:
    found = result.reading(name)
    return found.finite if found else []


def _counts(steps: Sequence[float], refills: Sequence[float], blocks: Sequence[float]) -> list[int] | None:
    """How many of ``steps`` are in each block; None where the times of the blocks do not tell it."""
    if not blocks or len(refills) % len(blocks):
        return None
    first = len(refills) // len(blocks)
    counts, at = [], 0
    for number, block in enumerate(blocks):
        left = block - sum(refills[number * first : (number + 1) * first])
        spent, begun = 0.0, at
        while at < len(steps) and spent < left - _CLOSE * block:
            spent += steps[at]
            at += 1
        if not abs(spent - left) <= _CLOSE * block:
            return None
        counts.append(at - begun)
    return counts if at == len(steps) else None
