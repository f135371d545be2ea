"""Which rows were measured too badly to be drawn or compared; worked out when a row is shown, for old files too."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from nfbench import units
from nfbench.analysis import metrics
from nfbench.analysis.stats import Estimate
from nfbench.records import Result

MOST_OTHERS = 0.20
"""Share of the host's CPU time that other processes may take."""
WIDEST = 0.25
"""Half-width of the step time's 95 % interval as a share of it."""
LEAST_STEPS = 5


def undisturbed(results: Sequence[Result]) -> list[Result]:
    """The results of one timed step without those of sessions that other work disturbed, where others are left."""
    sessions = units.grouped(results, lambda r: r.session or r.id)
    calm = {name for name, rows in sessions.items() if _disturbance(rows) is None}
    return [r for r in results if (r.session or r.id) in calm] or list(results)


def noise_reason(results: Sequence[Result], step_time: Estimate | None) -> str | None:
    """Why the row of these replicates of one timed step is noisy, in a clause; None where it is not.

    ``results`` are those that have a rate and ``step_time`` is the row's, in seconds. Where the row has no interval,
    that within the run, or the spread of two or three rounds, is as good a sign.
    """
    if not results or step_time is None:
        return None
    if (disturbance := _disturbance(results)) is not None:
        return disturbance
    width = _half_width(results, step_time)
    if width > WIDEST:
        return f"its steps are known to ± {units.percent(width, 2)} only"
    steps = sum(r.value("steps") or len(metrics.step_times(r)) for r in results)
    if steps < LEAST_STEPS and not any(r.composed for r in results):
        return f"only {units.plural(steps, 'step')} {'was' if steps == 1 else 'were'} timed"
    return None


def _disturbance(results: Sequence[Result]) -> str | None:
    """What other work did meanwhile, where that is too much."""
    others = [share for r in results if (share := r.value("others_cpu")) is not None]
    if others and (share := statistics.median(others)) > MOST_OTHERS:
        return f"other processes took {units.percent(share, 2)} of the CPU"
    if any(r.conditions.other_processes for r in results):
        return "other processes used the GPU"
    return None


def _half_width(results: Sequence[Result], step_time: Estimate) -> float:
    """Half of the width of what is known of the step time, as a share of it; 0 where nothing tells it."""
    half = step_time.half_width
    if half is None and len(results) == 1:
        within = metrics.step_time(results[0])
        half = None if within is None else within.half_width
    elif half is None:
        times = [time for r in results if (time := metrics.seconds(r)) is not None]
        half = (max(times) - min(times)) / 2
    return 0.0 if half is None else half / step_time.value
