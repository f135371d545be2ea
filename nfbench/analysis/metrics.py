"""Arithmetic on stored results: a new metric works on last month's files, without a GPU.

A metric is a function of one `Result`, absent (None) where what it needs is, or where the result has no rate because
it is not `ok`. All are in SI units.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from nfbench.analysis import stats
from nfbench.analysis.stats import Estimate
from nfbench.catalog import gpus
from nfbench.records import PHASES, Phase, Result

_RATED = ("ok", "interrupted")

VOIDS = frozenset({"hw_slowdown", "hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake"})
"""Throttle reasons under which a timing is no timing of this device."""


def voided(result: Result) -> bool:
    """Whether heat or the board slowed the GPU down meanwhile."""
    return not VOIDS.isdisjoint(result.conditions.throttle)


def step_time(result: Result) -> Estimate | None:
    """Seconds of one optimizer update: the median, or the composed step, with its interval within this run."""
    if (parts := _composed_parts(result)) is not None:
        return stats.composed(*parts)
    times = _step_times(result)
    return stats.median(times) if times else None


def seconds(result: Result) -> float | None:
    """The value of `step_time`, without the work of its interval."""
    if (parts := _composed_parts(result)) is not None:
        return stats.composed_value(*parts)
    times = _step_times(result)
    return statistics.median(times) if times else None


def _step_times(result: Result) -> list[float]:
    times = _values(result, "step_time") if result.status in _RATED else []
    # no clock has stood still: such a file was not written by nfbench
    return times if all(t > 0 for t in times) else []


def _composed_parts(result: Result) -> tuple[list[float], list[float], list[float], int] | None:
    """What `stats.composed` takes; None where the result holds whole steps or no rate."""
    passes = round(result.value("passes") or 0)
    if not result.composed or result.status not in _RATED or result.resolved is None or passes < 2:
        return None
    phases = [r for name in PHASES if (r := result.reading(name)) is not None]
    if any(None in r.values for r in phases) or result.resolved.micro_batch < 1:
        return None
    # phases of unequal length were not written by nfbench
    micro = [sum(t) for t in zip(*(r.finite for r in phases if r.scope == "micro_step"), strict=False)]
    tails = [sum(t) for t in zip(*(r.finite for r in phases if r.scope != "micro_step"), strict=False)]
    later = [t for i, t in enumerate(micro) if i % passes]
    if not later or not tails or not all(t > 0 for t in micro):
        return None
    return micro[::passes], later, tails, result.step.batch // result.resolved.micro_batch


def phase_time(result: Result, phase: Phase) -> float | None:
    """Seconds of ``phase`` in one step: the median over steps, or composed from its passes."""
    found, values = result.reading(phase), _values(result, phase)
    if found is None or not values or result.status not in _RATED:
        return None
    if not result.composed or found.scope != "micro_step":
        return statistics.median(values)
    assert result.resolved is not None
    passes = round(result.value("passes") or 1)
    later = [t for i, t in enumerate(values) if i % passes]
    accumulation_steps = result.step.batch // result.resolved.micro_batch
    return statistics.median(values[::passes]) + (accumulation_steps - 1) * statistics.fmean(later)


def percentile(result: Result, share: float) -> float | None:
    """The step time below which ``share`` (0 to 1) of the steps lie; a composed step has none."""
    values = sorted(_step_times(result))
    if len(values) < 2:
        return None
    place = share * (len(values) - 1)
    low = int(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def throughput(result: Result) -> float | None:
    """Images per second."""
    time = seconds(result)
    return result.step.batch / time if time else None


def achieved_flops(result: Result) -> float | None:
    """FLOP/s that the step needs by count: 2 · train MACs of an image · images/s."""
    macs, rate = result.value("train_macs"), throughput(result)
    return 2 * macs * rate if macs and rate else None


def mfu(result: Result) -> float | None:
    """Model FLOPs utilization, 0 to 1, of the dense peak; absent where the peak is unknown."""
    flops = achieved_flops(result)
    if flops is None or result.resolved is None or result.machine.device != "cuda":
        return None
    peak = gpus.peak(result.machine.name, result.resolved.precision, result.machine.mig_profile)
    return flops / peak.flops if peak else None


def step_energy(result: Result) -> float | None:
    """Joules of one step: the counter's difference over its time, times the step time."""
    energy, elapsed, time = result.value("energy"), result.value("energy_time"), seconds(result)
    return energy / elapsed * time if energy and elapsed and time else None


def image_energy(result: Result) -> float | None:
    """Joules of one image."""
    energy = step_energy(result)
    return energy / result.step.batch if energy else None


def sm_clock(result: Result) -> float | None:
    """The mean clock of the multiprocessors in Hz."""
    values = _values(result, "sm_clock")
    return statistics.fmean(values) if values else None


def once(name: str) -> Callable[[Result], float | None]:
    """The metric that is a reading taken once."""
    return lambda result: result.value(name)


def _phase(phase: Phase) -> Callable[[Result], float | None]:
    return lambda result: phase_time(result, phase)


METRICS: dict[str, Callable[[Result], float | None]] = {
    "throughput": throughput,
    "p5": lambda r: percentile(r, 0.05),
    "p95": lambda r: percentile(r, 0.95),
    **{phase: _phase(phase) for phase in PHASES},
    "first_step": once("first_step"),
    "first_short_step": once("first_short_step"),
    "passes": once("passes"),
    "peak_allocated": once("peak_allocated"),
    "peak_reserved": once("peak_reserved"),
    "peak_rss": once("peak_rss"),
    "operators": once("operators"),
    "macs": once("macs"),
    "params": once("params"),
    "achieved_flops": achieved_flops,
    "mfu": mfu,
    "step_energy": step_energy,
    "image_energy": image_energy,
    "sm_clock": sm_clock,
    "zero_gradients": once("zero_gradients"),
    "clipped_units": once("clipped_units"),
    "nonfinite_units": once("nonfinite_units"),
    "skipped_updates": once("skipped_updates"),
    "inspected_images": once("inspected_images"),
}
"""Every metric but the step time, which has an interval, by the key of its column."""


def across(results: Sequence[Result]) -> Estimate | None:
    """The step time over replicates of one workload.

    One result gives its own interval, within that run; several give the geometric mean of theirs with Student's t
    over them, which holds the spread between them. One that was slowed down counts only where there is no other.
    """
    found = [(r, time) for r in results if (time := seconds(r)) is not None]
    found = [(r, time) for r, time in found if not voided(r)] or found
    if len(found) <= 1:
        return step_time(found[0][0]) if found else None
    return stats.mean_of_logs([time for _, time in found])


def _values(result: Result, name: str) -> list[float]:
    reading = result.reading(name)
    return reading.finite if reading else []
