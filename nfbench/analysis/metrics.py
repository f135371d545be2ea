"""Arithmetic on stored results: a new metric works on last month's files, without a GPU, and is a row of `METRICS`.

A metric is a function of one `Result`, absent (None) where what it needs is, or where the result has no rate because
it is not `ok`. All are in SI units. Those of training runs are in `training_metrics`.

Of several ranks the slowest decides: they wait for each other in every update. Phases are rank 0's. Step times are of
whole steps, or composed from the passes of shorter ones. Which steps were measured too badly to be drawn or compared
(`noise_reason`) is worked out when a row is shown, so for old files too.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, wraps
from operator import methodcaller
from typing import NamedTuple, TypeVar

from nfbench import units
from nfbench.analysis import stats, training_metrics
from nfbench.analysis.stats import Estimate
from nfbench.catalog import gpus
from nfbench.records import PHASES, Phase, Reading, Result, accumulation_steps

Value = TypeVar("Value")
Parts = tuple[list[float], list[float], list[float], int]

RATED = ("ok", "interrupted")
_KEPT = 64
LEAST_WITHIN = 10
"""Steps of one window that an interval within the run needs."""
VOIDS = frozenset({"hw_slowdown", "hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake"})
"""Throttle reasons under which a timing is no timing of this device."""
MOST_THROTTLED = 0.10
"""The largest share of a window's samples that may be throttled. The median step is then not slowed down."""
CLOCKS_APART = 0.03
"""By how much the clocks of two that were slowed down alike may differ."""


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


def throttled(result: Result) -> float:
    """The share (0 to 1) of the samples in which heat or the board slowed the GPU down, of the rank where that is most;
    of older files, which hold no samples, all or none."""
    shares = [statistics.fmean(r.finite) for r in result.each("throttled") if r.finite]
    return max(shares, default=float(not VOIDS.isdisjoint(result.conditions.throttle)))


def voided(result: Result) -> bool:
    """Whether heat or the board slowed the GPU down meanwhile, for more than a moment."""
    return throttled(result) > MOST_THROTTLED


def uneven(results: Iterable[Result]) -> bool:
    """Whether heat or the board slowed down, in a turn of these, not all that took part in it alike.

    They were slowed alike where each was `voided`, or none was, and their clocks are about the same: where these are
    not, cycles would tell another ratio than times. One alone, and one whose clock is not known, counts as `voided`.
    """
    turns = units.grouped(results, lambda r: (r.session, r.round, r.turn))
    return any(map(_uneven, turns.values()))


def _uneven(turn: Sequence[Result]) -> bool:
    if not any(map(throttled, turn)):
        return False
    clocks = [clock for r in turn if (clock := sm_clock(r))]
    if len(clocks) < max(2, len(turn)):
        return any(map(voided, turn))
    return len(set(map(voided, turn))) > 1 or max(clocks) > (1 + CLOCKS_APART) * min(clocks)


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
    """The median clock of the multiprocessors in Hz, as steps have theirs, of the rank whose is the lowest."""
    return min((statistics.median(r.finite) for r in result.each("sm_clock") if r.finite), default=None)


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
        return None if found is None else found.at(0)

    return read


def most(name: str) -> Callable[[Result], float | None]:
    """The metric that is the largest of the ranks' readings, each taken once."""
    return lambda result: max((r.finite[0] for r in result.each(name) if r.finite), default=None)


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
MOST_OTHER_LOAD = 0.05
"""Share of the time in which others may keep the GPU busy while nothing is timed."""
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
    if any(r.conditions.other_processes or (r.conditions.other_load or 0.0) > MOST_OTHER_LOAD for r in results):
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


def _times(value: float) -> str:
    return f"{units.significant(value, 3)} ×"


_time = partial(units.seconds, digits=3)
_count, _rate = "{:,.0f}".format, "{:.3g}".format
_joules, _plain_si = partial(units.si, unit="J"), partial(units.si, unit="")


class Metric(NamedTuple):
    """A quantity: its key in a row, its title, how its value reads to a person, and the function that gives it.

    ``of`` takes one result and is None where only several results have the quantity, or several readings. Without a
    ``title`` it is in no table. A table that is too narrow leaves out the highest ``spare`` first, and 0 never. One
    with an ``interval`` has its ends in columns of their own, and ``show`` takes them after the value.
    """

    key: str
    title: str
    show: Callable[..., str] = str
    of: Callable[[Result], float | None] | None = None
    spare: int = 0
    interval: bool = False


METRICS: dict[str, tuple[Metric, ...]] = {
    "step-time": (
        Metric("step_time", "step time", units.seconds_interval, interval=True),
        Metric("p5", "p5", units.seconds, partial(percentile, share=0.05)),
        Metric("p95", "p95", units.seconds, partial(percentile, share=0.95)),
        Metric("throughput", "images/s", units.number, throughput),
        Metric("ascent", "ascent (SAM)", units.seconds, partial(phase_time, phase="ascent")),
        Metric("forward", "forward", units.seconds, partial(phase_time, phase="forward")),
        Metric("backward", "backward", units.seconds, partial(phase_time, phase="backward")),
        Metric("unscale", "unscale (fp16)", units.seconds, partial(phase_time, phase="unscale")),
        Metric("clip", "clip", units.seconds, partial(phase_time, phase="clip"), spare=6),
        Metric("update", "update", units.seconds, partial(phase_time, phase="update")),
        Metric("average", "average (EMA)", units.seconds, partial(phase_time, phase="average")),
        Metric("all_reduce", "all-reduce alone", units.seconds, all_reduce),
        Metric("exposed", "all-reduce not overlapped", units.percent, exposed),
        Metric("rank_spread", "slowest rank / fastest rank", _times, rank_spread),
        Metric("gradient_bytes", "gradients reduced", units.bytes_, once("gradient_bytes")),
        Metric("first_step", "first step", units.seconds, once("first_step")),
        Metric("first_short_step", "first step, cut short", units.seconds, once("first_short_step")),
        Metric("peak_allocated", "peak memory, allocated", units.bytes_, most("peak_allocated"), spare=8),
        Metric("peak_reserved", "peak memory, reserved", units.bytes_, most("peak_reserved")),
        Metric("peak_rss", "peak memory, process", units.bytes_, most("peak_rss"), spare=8),
        Metric("operators", "operators per step", _count, once("operators")),
        Metric("macs", "MACs per image, forward", partial(units.si, unit="MAC"), once("macs")),
        Metric("params", "parameters", _plain_si, once("params")),
        Metric("achieved_flops", "achieved", partial(units.si, unit="FLOP/s"), achieved_flops),
        Metric("mfu", "MFU", units.percent, mfu, spare=7),
        Metric("step_energy", "energy per step", _joules, step_energy),
        Metric("image_energy", "energy per image", _joules, image_energy, spare=7),
        Metric("sm_clock", "SM clock", partial(units.si, unit="Hz"), sm_clock),
        Metric("zero_gradients", "gradients that are zero", units.percent, once("zero_gradients")),
        Metric("clipped_units", "units clipped", units.percent, once("clipped_units")),
        Metric("nonfinite_units", "units not finite", _count, once("nonfinite_units")),
        Metric("skipped_updates", "fp16 updates skipped", _count, once("skipped_updates")),
        Metric("reported_v100_step_time", "reported: V100, fp16", units.seconds),
        Metric("reported_tpuv3_step_time", "reported: TPUv3, bf16", units.seconds),
        Metric("passes", "", units.number, once("passes")),
        Metric("inspected_images", "", units.number, once("inspected_images")),
        Metric("trial_nchw", "", units.seconds),
        Metric("trial_nhwc", "", units.seconds),
    ),
    "accuracy": (
        Metric("runs", "runs"),
        Metric("seeds", "seeds", spare=1),
        Metric("diverged", "diverged"),
        Metric("diverged_at", "at update", spare=8),
        Metric("top1", "top-1", units.share, interval=True),
        Metric("best_top1", "best", units.share, training_metrics.best_top1, spare=7),
        Metric("top5", "top-5", units.share, training_metrics.last("top5")),
        Metric("ema_top1", "EMA", units.share, training_metrics.last("ema_top1"), spare=3),
        Metric("ema_top5", "ema top5", units.share, training_metrics.last("ema_top5")),
        Metric("gap", "gap", units.points, training_metrics.batch_gap, spare=2),
        Metric("train_loss", "train loss", "{:.4g}".format, training_metrics.last("train_loss")),
        Metric("test_loss", "test loss", "{:.4g}".format, training_metrics.last("test_loss")),
        Metric("clipped_units", "units clipped", units.percent, training_metrics.last("clipped_units")),
        Metric("training_flops", "FLOPs", partial(units.si, unit="FLOP"), training_metrics.training_flops, spare=6),
        Metric("wall_time", "wall time", _time, training_metrics.wall_time, spare=5),
        Metric("throughput", "images/s", units.number, training_metrics.throughput, spare=4),
        Metric("data_share", "data share", units.share, training_metrics.data_share),
        Metric("train_step_time", "step", _time, training_metrics.train_step_time),
        Metric("image_energy", "energy per image", _joules, training_metrics.image_energy),
        Metric("macs", "MACs", _plain_si, methodcaller("value", "macs")),
        Metric("train_macs", "train macs", _plain_si, methodcaller("value", "train_macs")),
        Metric("params", "parameters", _plain_si, methodcaller("value", "params")),
        Metric("updates", "updates", "{:.4g}".format, methodcaller("value", "updates")),
        Metric("images_seen", "images seen", "{:.4g}".format, methodcaller("value", "images_seen")),
        Metric("skipped_updates", "skipped updates", _count, methodcaller("value", "skipped_updates")),
        Metric("unreadable_images", "unreadable images", "{:.4g}".format, methodcaller("value", "unreadable_images")),
        Metric("deterministic_cost", "deterministic cost", _times, methodcaller("value", "deterministic_cost")),
        Metric("target", "target", units.share),
        Metric("time_to_target", "to target", units.seconds_interval, interval=True),
        Metric("updates_to_target", "updates to target", units.count_interval, interval=True),
        Metric("images_to_target", "images to target", units.count_interval, interval=True),
        Metric("reached_target", "reached target"),
        Metric("bn_model", "bn model"),
        Metric("time_to_bn", "to that of", units.seconds_interval, spare=9, interval=True),
        Metric("reached_bn", "reached bn"),
        Metric("front", "front", lambda on: "●" if on else ""),
    ),
    "epoch": (
        Metric("learning_rate", "lr", _rate, spare=1),
        Metric("train_loss", "train loss", units.significant),
        Metric("test_loss", "test loss", units.significant, spare=9),
        Metric("top1", "top-1", units.share),
        Metric("top5", "top-5", units.share, spare=7),
        Metric("ema_top1", "EMA", units.share),
        Metric("ema_top5", "EMA top-5"),
        Metric("batch_top1", "batch statistics", units.share, spare=8),
        Metric("gradient_norm", "gradient norm", units.significant, spare=3),
        Metric("clipped_gradient_norm", "→ clipped", units.significant, spare=4),
        Metric("clipped_units", "units clipped", partial(units.percent, digits=2), spare=2),
        Metric("train_time", "training time"),
        Metric("data_time", "time of data"),
        Metric("evaluation_time", "time of evaluation"),
        Metric("energy", "energy", _joules, spare=6),
    ),
    "agc-cost": (
        Metric("time", "per call", units.seconds_interval, interval=True),
        Metric("host_time", "on the host", units.seconds, spare=3),
        Metric("speedup", "timm's takes", _times),
        Metric("operators", "operators", _count, spare=5),
        Metric("launches", "launches", _count, spare=3),
        Metric("moved_bytes", "moved bytes", units.bytes_),
        Metric("bandwidth", "achieved", partial(units.si, unit="B/s"), spare=4),
        Metric("copy_bandwidth", "copy bandwidth", partial(units.si, unit="B/s")),
        Metric("floor", "floor", units.seconds, spare=2),
        Metric("over_floor", "of the floor", _times, spare=1),
    ),
    "counts": (Metric("train_macs", "train macs", _plain_si), Metric("activations", "activations", _plain_si)),
    "baseline": (
        Metric("baseline_model", "baseline model"),
        Metric("how", "how"),
        Metric("interval_over", "interval over"),
        Metric("turns", "turns"),
        Metric("step_time_ratio", "× baseline's", units.interval, interval=True),
        Metric("throughput_ratio", "× images/s", units.interval, spare=4, interval=True),
        Metric("memory_ratio", "× peak memory", units.interval, spare=4),
        Metric("memory_of", "memory of"),
        Metric("image_energy_ratio", "× energy per image", units.interval, spare=5),
        Metric("train_step_time_ratio", "× step", units.interval, spare=3),
        Metric("top1_difference", "to baseline's", units.points, interval=True),
        Metric("reported_ratios", "reported", spare=2),
        Metric("differs", "differs in"),
    ),
}
"""Every quantity of each kind of row, in the order in which CSV and JSON hold them."""
LEGENDS = {
    "top1_low": "±: 95 %, Student's t over seeds.",
    "best_top1": "best: the best epoch's, chosen on the test set, so it flatters.",
    "ema_top1": "EMA: top-1 of the averaged weights.",
    "gap": "gap: top-1 with the statistics of each test batch minus top-1 with the running statistics, in percentage "
    "points.",
    "training_flops": "FLOPs: 2 · MACs, forward and backward, over all images of the training.",
    "reached_target": "to a top-1: training until the end of the first epoch after which no epoch is below it, without "
    "evaluation and without --tune. Geometric mean over seeds; ±: 95 %, Student's t on the logarithms.",
    "bn_model": "to that of: training time until this net holds the final top-1 of that net with batch normalization: "
    "its partner, or else the nearest in MACs.",
    "front": "●: of its machine, data set, px and weights none is as good for less. MACs are of one image at the px in "
    "training, the step is an update with its data, energy the GPU's.",
}
"""What the titles of training runs do not say, by the key of the rows that need it."""


def keys(kind: str) -> tuple[str, ...]:
    """The keys of a kind of row in CSV and JSON, those of the ends of an interval after its value's."""
    ends = {True: ("", "_low", "_high"), False: ("",)}
    return tuple(f"{metric.key}{end}" for metric in METRICS[kind] if metric.title for end in ends[metric.interval])
