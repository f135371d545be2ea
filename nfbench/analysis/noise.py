"""Which rows were measured too badly to be drawn or compared; worked out when a row is shown, for old files too."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from nfbench import units
from nfbench.analysis.stats import Estimate
from nfbench.analysis.step_seconds import step_times
from nfbench.records import Result

MOST_OTHERS = 0.20
"""Share of the host's CPU time that other processes may take."""
WIDEST = 0.25
"""Half-width of the step time's 95 % interval as a share of it."""
LEAST_STEPS = 5


def reason(results: Sequence[Result], step_time: Estimate | None) -> str | None:
    """Why the row of these replicates of one timed step is noisy, in a clause; None where it is not.

    ``results`` are those that have a rate and ``step_time`` is the row's, in seconds.
    """
    if not results or step_time is None:
        return None
    others = [share for r in results if (share := r.value("others_cpu")) is not None]
    if others and (share := statistics.median(others)) > MOST_OTHERS:
        return f"other processes took {units.percent(share, 2)} of the CPU"
    if any(r.conditions.other_processes for r in results):
        return "other processes used the GPU"
    half = step_time.half_width
    if half is not None and half > WIDEST * step_time.value:
        return f"its interval is ± {units.percent(half / step_time.value, 2)}"
    steps = sum(r.value("steps") or len(step_times(r)) for r in results)
    if steps < LEAST_STEPS and not any(r.composed for r in results):
        return f"only {steps:.0f} step{'s'[: steps != 1]} {'was' if steps == 1 else 'were'} timed"
    return None
