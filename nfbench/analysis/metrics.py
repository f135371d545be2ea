"""Arithmetic on stored results: a new metric works on last month's files, without a GPU.

A metric is a function of one `Result`, absent (None) where what it needs is, or where the result has no rate because
it is not `ok`. All are in SI units.

Of several ranks the slowest decides: they wait for each other in every update. Phases are rank 0's. Step times are of
whole steps, or composed from the passes of shorter ones. Which steps were measured too badly to be drawn or compared
(`noise_reason`) is worked out when a row is shown, so for old files too.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, wraps
from typing import TypeVar

from nfbench import units
from nfbench.analysis import stats
from nfbench.analysis.stats import Estimate
from nfbench.catalog import gpus
from nfbench.records import MOST, PHASES, Phase, Reading, Result, accumulation_steps

Value = TypeVar("Value")
Parts = tuple[list[float], list[float], list[float], int]

RATED = ("ok", "interrupted")
_KEPT = 64
LEAST_WITHIN = 10
"""Steps of one window that an interval within the run needs."""
VOIDS = frozenset({"hw_slowdown", "hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake"})
"""Throttle reasons under which a timing is no timing of this device."""


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


def voided(result: Result) -> bool:
    """Whether heat or the board slowed the GPU down meanwhile."""
    return not VOIDS.isdisjoint(result.conditions.throttle)


def phase_time(result: Result, phase: Phase) -> float | None:
    """Seconds of ``phase`` in one step: the median over steps, or composed from its passes."""
    found = _by_name(result).get(phase)
    if found is None or result.status not in RATED or not (values := found.finite):
        return None
    if not result.composed or found.scope != "micro_step":
        return statistics.median(values)
    assert result.resolved is not None
    passes = round(result.value("passes") or 1)
    updates = [values[start : start + passes] for start in range(0, len(values), passes)]
    whole = accumulation_steps(result.step, result.resolved)
    parts = stats.composed_parts(updates, [0.0] * len(updates), whole, result.step.world_size > 1)
    return stats.composed_value(*parts)


def percentile(result: Result, share: float) -> float | None:
    """The step time below which ``share`` (0 to 1) of the steps lie; a composed step has none."""
    values = ordered(result)
    if len(values) < 2:
        return None
    place = share * (len(values) - 1)
    low = int(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def throughput(result: Result) -> float | None:
    """Images per second."""
    time = seconds(result)
    return result.step.batch / time if time and result.step.batch > 0 else None


def achieved_flops(result: Result) -> float | None:
    """FLOP/s that the step needs by count: 2 · train MACs of an image · images/s."""
    macs, rate = result.value("train_macs"), throughput(result)
    return 2 * macs * rate if macs and rate else None


def mfu(result: Result) -> float | None:
    """Model FLOPs utilization, 0 to 1, of all ranks' dense peak; absent where the peak is unknown."""
    flops = achieved_flops(result)
    if flops is None or result.resolved is None or not result.machine.is_real_gpu:
        return None
    peak = gpus.peak(result.machine.name, result.resolved.precision, result.machine.mig_profile)
    return flops / (peak.flops * result.step.world_size) if peak else None


def step_energy(result: Result) -> float | None:
    """Joules of one step on all ranks: each counter's difference over its time, times the step time."""
    time = seconds(result)
    energies, times = ([v for r in result.each(n) for v in r.finite[:1] if v] for n in ("energy", "energy_time"))
    if not time or not len(energies) == len(times) == result.step.world_size:
        return None
    return sum(energy / elapsed for energy, elapsed in zip(energies, times, strict=True)) * time


def image_energy(result: Result) -> float | None:
    """Joules of one image."""
    energy = step_energy(result)
    return energy / result.step.batch if energy and result.step.batch > 0 else None


def sm_clock(result: Result) -> float | None:
    """The mean clock of the multiprocessors in Hz, of the rank whose is the lowest."""
    means = [statistics.fmean(r.finite) for r in result.each("sm_clock") if r.finite]
    return min(means, default=None)


def all_reduce(result: Result) -> float | None:
    """Seconds in which as many bytes as the gradients have are reduced by themselves, on the slowest rank."""
    return _slowest(result, "all_reduce")


def exposed(result: Result) -> float | None:
    """The share of a step, 0 to 1, that reducing the gradients adds to it: what no computation hides.

    It is the timed update less one whose gradients stay on their rank, over the step; 0 where noise turns it round.
    """
    without, step = _slowest(result, "unsynchronized_step"), seconds(result)
    updates = _updates(result)
    if without is None or not step or not updates:
        return None
    return max(0.0, statistics.median(updates) - without) / step


def rank_spread(result: Result) -> float | None:
    """How many times as long the slowest rank takes as the quickest, for an update in which none waits for another."""
    found = [statistics.median(r.finite) for r in result.each("unsynchronized_step") if r.finite]
    return max(found) / min(found) if len(found) > 1 and min(found) > 0 else None


def _updates(result: Result) -> list[float]:
    """Seconds of the updates as they were timed, which are no whole steps where those are composed."""
    if not result.composed:
        return step_times(result)
    if (parts := composed_parts(result)) is None:
        return []
    passes = round(result.value("passes") or 0)
    first, later, tails, _ = parts
    between = len(later) // len(first)
    if passes != between + 2:
        return []
    return [
        a + sum(later[i * between : (i + 1) * between]) + c for i, (a, c) in enumerate(zip(first, tails, strict=False))
    ]


def _slowest(result: Result, name: str) -> float | None:
    """The largest of the ranks' medians."""
    return max((statistics.median(r.finite) for r in result.each(name) if r.finite), default=None)


def once(name: str) -> Callable[[Result], float | None]:
    """The metric that is a reading taken once."""

    def read(result: Result) -> float | None:
        found = _by_name(result).get(name)
        value = found.values[0] if found is not None and found.values else None
        return value if value is not None and -MOST < value < MOST else None

    return read


def most(name: str) -> Callable[[Result], float | None]:
    """The metric that is the largest of the ranks' readings, each taken once."""
    return lambda result: max((r.finite[0] for r in result.each(name) if r.finite), default=None)


METRICS: dict[str, Callable[[Result], float | None]] = {
    "throughput": throughput,
    "p5": lambda r: percentile(r, 0.05),
    "p95": lambda r: percentile(r, 0.95),
    **{phase: partial(phase_time, phase=phase) for phase in PHASES},
    **{name: once(name) for name in ("first_step", "first_short_step", "passes")},
    "all_reduce": all_reduce,
    "exposed": exposed,
    "rank_spread": rank_spread,
    "gradient_bytes": once("gradient_bytes"),
    **{name: most(name) for name in ("peak_allocated", "peak_reserved", "peak_rss")},
    **{name: once(name) for name in ("operators", "macs", "params")},
    "achieved_flops": achieved_flops,
    "mfu": mfu,
    "step_energy": step_energy,
    "image_energy": image_energy,
    "sm_clock": sm_clock,
    **{
        name: once(name)
        for name in ("zero_gradients", "clipped_units", "nonfinite_units", "skipped_updates", "inspected_images")
    },
}
"""Every metric but the step time, which has an interval, by the key of its column."""


def across(results: Sequence[Result]) -> Estimate | None:
    """The step time over replicates of one workload, in seconds; None where none has a rate.

    One result gives the interval within its run, which fewer than `LEAST_WITHIN` whole steps do not have. Several give
    the geometric mean over rounds of fresh processes, each that of its turns, with Student's t interval from
    `stats.LEAST_ROUNDS` rounds on. One that was slowed down counts only where there is no other.
    """
    timed = [r for r in results if seconds(r) is not None]
    timed = [r for r in timed if not voided(r)] or timed
    if not timed:
        return None
    if len(timed) == 1:
        result = timed[0]
        estimate = step_time(result)
        few = not result.composed and (result.value("steps") or len(step_times(result))) < LEAST_WITHIN
        return Estimate(estimate.value) if estimate is not None and few else estimate
    times = list(rounds(timed).values())
    estimate = stats.mean_of_logs(times)
    return estimate if len(times) >= stats.LEAST_ROUNDS else Estimate(estimate.value)


def turns(
    results: Iterable[Result], quantity: Callable[[Result], float | None] = seconds
) -> dict[tuple[str, int], list[float]]:
    """A positive ``quantity``, the step time where none is named, of the turns of each round of fresh processes, by
    session and round; results without it are left out."""
    rounds: dict[tuple[str, int], list[float]] = {}
    for result in results:
        if value := quantity(result):
            rounds.setdefault((result.session or result.id, result.round), []).append(value)
    return rounds


def rounds(
    results: Iterable[Result], quantity: Callable[[Result], float | None] = seconds
) -> dict[tuple[str, int], float]:
    """The geometric mean of `turns` in each round: they share a process's luck, so that they replicate nothing."""
    return {place: stats.mean_of_logs(values).value for place, values in turns(results, quantity).items()}


def by_session(rounds: Mapping[tuple[str, int], float]) -> list[list[float]]:
    """The values of `rounds`, those of each session together."""
    return [[rounds[place] for place in places] for places in units.grouped(rounds, lambda place: place[0]).values()]


@kept
def _by_name(result: Result) -> dict[str, Reading]:
    """The first reading of each name, as `Result.reading` finds it."""
    return {r.name: r for r in reversed(result.readings)}


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


def noise_reason(results: Sequence[Result], known: Estimate | None) -> str | None:
    """Why the row of these replicates of one timed step is noisy, in a clause; None where it is not.

    ``results`` are those that have a rate and ``known`` is the row's step time, in seconds. Where the row has no
    interval, that within the run, or the spread of two or three rounds, is as good a sign.
    """
    if not results or known is None:
        return None
    if (disturbance := _disturbance(results)) is not None:
        return disturbance
    width = _half_width(results, known)
    if width > WIDEST:
        return f"its steps are known to ± {units.percent(width, 2)} only"
    steps = sum(r.value("steps") or len(step_times(r)) for r in results)
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


def _half_width(results: Sequence[Result], known: Estimate) -> float:
    """Half of the width of what is known of the step time, as a share of it; 0 where nothing tells it."""
    half = known.half_width
    if half is None and len(results) == 1:
        within = step_time(results[0])
        half = None if within is None else within.half_width
    elif half is None:
        times = [time for r in results if (time := seconds(r)) is not None]
        half = (max(times) - min(times)) / 2
    return 0.0 if half is None else half / known.value
