"""Findings about the times of the steps. A composed result holds no whole steps and has none."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import numpy as np

from nfbench import units
from nfbench.analysis import shape
from nfbench.analysis.finding import Finding
from nfbench.records import Result, StepTime

LEAST_STEPS = 20
"""Fewer steps show neither a drift nor two kinds: chance makes both."""
MANY_STRAGGLERS = 0.02
"""Share of the steps from which stragglers are a habit of this machine, not an accident."""
LEAST_STRAGGLERS = 2
"""One among a few dozen steps is an accident."""
PAUSE = 3.0
"""A single step of so many medians is said even alone: something stopped the whole machine."""
SLOW_FIRST = 10.0
"""First step over the others; the buffers and caches that any first step fills take less."""
SLOW_FIRST_LEAST = 1.0
"""Seconds that the first step takes longer at least: less is noticed by nobody."""
LAUNCH_BOUND = 0.05
"""Tail over step time below which the device was waiting for the host."""


def of(result: Result) -> list[Finding]:
    """What is doubtful about the step times; empty for a result without a rate."""
    found = result.reading("step_time")
    if found is None or result.composed or result.status not in ("ok", "interrupted"):
        return []
    times = shape.finite(found.values)
    if not times.size:
        return []
    ordered = np.sort(times)
    median = shape.middle(ordered)
    # times near the ends of what a float holds are nobody's, and no reason for a warning of numpy's
    with np.errstate(all="ignore"):
        checks = (*_shape(times, ordered), _first_step(result, median), _launch_bound(result, median))
    return [finding for finding in checks if finding is not None]


def _shape(times: shape.Array, ordered: shape.Array) -> Iterator[Finding | None]:
    """A drift or two kinds, never both of the same steps, and then what strays from them."""
    enough = len(times) >= LEAST_STEPS
    kinds = shape.kinds(ordered) if enough else None
    # two kinds in turns make the thirds differ by chance, a change for good makes two kinds of the steps
    drift = shape.drift(times, LEAST_STEPS) if kinds is None else shape.moved(times, kinds)
    if drift is not None:
        yield _drift(drift)
    elif kinds is not None:
        yield _bimodal(kinds, len(times))
    yield _outliers(ordered, shape.straggling(ordered, kinds), enough)


def _drift(drift: shape.Drift) -> Finding:
    way = "slower" if drift.change > 0 else "faster"
    text = (
        f"The steps became {units.percent(abs(drift.change), 2)} {way} during the timing "
        f"({units.seconds(drift.before)} in its first third, {units.seconds(drift.after)} in its last)."
    )
    return Finding("step_drift", text, "Time again, longer, once the machine is warm and quiet.")


def _bimodal(kinds: shape.Kinds, steps: int) -> Finding:
    share = kinds.count_low / steps
    text = (
        f"The steps come in two kinds: {units.percent(share, 2)} near {units.seconds(kinds.low, 3)}, "
        f"{units.percent(1 - share, 2)} near {units.seconds(kinds.high, 3)}."
    )
    do = (
        "The median stands for the larger kind alone: see whether the clock or another process changes, and time again."
    )
    return Finding("bimodal_steps", text, do)


def _outliers(ordered: shape.Array, count: int, enough: bool) -> Finding | None:
    steps, worst = len(ordered), float(ordered[-1]) / shape.middle(ordered)
    many = enough and count >= LEAST_STRAGGLERS and count > MANY_STRAGGLERS * steps
    if worst <= PAUSE and not many:
        return None
    if count <= 1:
        text = f"One of {steps} steps took {units.significant(worst, 2)} times the median."
    else:
        text = (
            f"{count} of {steps} steps ({units.percent(count / steps, 2)}) took far over the median, "
            f"the worst {units.significant(worst, 2)} times as long."
        )
    return Finding(
        "outliers", text, "The median leaves them out, a training run pays them: see what else the host does."
    )


def _first_step(result: Result, median: float) -> Finding | None:
    first = result.value("first_step")
    if first is None or first <= SLOW_FIRST * median or first - median < SLOW_FIRST_LEAST:
        return None
    compiled = isinstance(result.workload, StepTime) and result.workload.compile != "none"
    if compiled:
        why = "torch.compile compiled the net"
        do = "No figure holds it: it pays in long runs, and TORCHINDUCTOR_CACHE_DIR keeps it for the next."
    else:
        search = ", cuDNN searched for algorithms" if result.machine.device == "cuda" else ""
        why = f"memory was allocated and kernels were loaded{search}"
        do = "No figure holds it: add it once a process where you plan short runs."
    times = units.number(first / median, 2)
    text = f"The first step took {units.seconds(first, 3)}, {times} times the others: {why}."
    return Finding("slow_first_step", text, do)


def _launch_bound(result: Result, median: float) -> Finding | None:
    tail = result.reading("tail")
    if tail is None or not tail.finite or statistics.median(tail.finite) / median >= LAUNCH_BOUND:
        return None
    return Finding("launch_bound", "The GPU waited for the host to launch work.", "Try --compile reduce-overhead.")
