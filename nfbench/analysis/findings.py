"""Warnings as values: what is doubtful about a result, and what to do about it. Recomputed when shown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple, get_args

import numpy as np

from nfbench import units
from nfbench.analysis import metrics, stats, training_metrics
from nfbench.analysis.stats import LEAST_ROUNDS
from nfbench.records import CUDA_GRAPHS, STUCK, Accuracy, Result, Status, StepTime, accumulation_steps, in_future

MANY_ZEROS = 0.20
"""Share of exact zeros; an awake net has 1 %, one whose branches start at zero 80 %."""
BUSY_HOST = 0.10
"""Share of the host's CPU time that others may have; a quiet host's own services take a few per cent."""
CAPPED = 1.0
"""W below the default from which a power limit was lowered; NVML rounds both."""
LEAST_CLOCKS = 9
"""Samples of the clock, five a second, of which each third holds three."""
OTHER_MEMORY = 2**30
"""Bytes in use that are not ours from which others hold them: less are libraries that were loaded meanwhile."""
WARMING = 5.0
"""K by which a card that had settled does not become warmer."""
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
MUCH_DATA = 0.05
"""Share of the training time spent making batches from which a time is not the net's alone."""
FEW_SEEDS = 2


class Finding(NamedTuple):
    """A warning: a code that stays the same, a sentence for this case, and what to do."""

    code: str
    message: str
    do: str

    def __str__(self) -> str:
        return f"{self.message} {self.do}".strip()


DECISIVE = frozenset(get_args(Status)) - {"ok"} | {"noisy", "throttled", "shared_device"}
"""Codes of findings that decide whether a row counts at all."""

Check = Callable[[Result], Finding | None]


def of(result: Result) -> list[Finding]:
    """The findings of one result, in the order of their weight. Never raises, whatever the file holds."""
    trained = isinstance(result.workload, Accuracy)
    kind = (check(result) for check in TRAINED) if trained else _of_steps(result)
    checks = (*(check(result) for check in GRAVE), *kind, *(check(result) for check in SLIGHT))
    return [finding for finding in checks if finding is not None]


def of_all(results: Iterable[Result]) -> list[Finding]:
    """The findings of replicates, of each code the first: they differ in their figures only."""
    findings: dict[str, Finding] = {}
    for result in results:
        for finding in of(result):
            findings.setdefault(finding.code, finding)
    return list(findings.values())


def few_rounds(rounds: int) -> Finding | None:
    """That so many rounds give no interval. One round has one of its own, "within this run"."""
    if not 1 < rounds < LEAST_ROUNDS:
        return None
    text = f"{rounds} rounds give no interval: {LEAST_ROUNDS} are needed."
    return Finding("few_rounds", text, f"Type --rounds {LEAST_ROUNDS} or more.")


def few_seeds(seeds: int) -> Finding | None:
    """That a mean over so many training runs says little."""
    if not 0 < seeds <= FEW_SEEDS:
        return None
    text = (
        "One seed says little: the spread between seeds is unknown."
        if seeds == 1
        else "Two seeds say little: Student's t over them is wide, ± 12.7 standard errors."
    )
    return Finding("few_seeds", text, "Type --seeds 3 or more.")


def disturbed(left_out: int, windows: int) -> Finding:
    """That so many of the ``windows`` of a row are in no figure of it, since other work disturbed their session."""
    text = f"{left_out} of {windows} timings are left out: other processes used the CPU or the GPU meanwhile."
    return Finding("disturbed", text, "Time again on a quiet machine.")


def noisy(reason: str) -> Finding:
    """That a row is noisy, for the ``reason`` of `nfbench.analysis.metrics`."""
    text = f"Noisy: {reason}. No figure, ratio or verdict uses this row."
    return Finding("noisy", text, "Time again on a quiet machine, or add --noisy to use the row anyway.")


def _where(values: Callable[[Result], tuple[object, ...] | None], code: str, text: str, do: str = "") -> Check:
    """The check that says ``text`` with the ``values`` in its places, where there are any."""

    def check(result: Result) -> Finding | None:
        shown = values(result)
        return None if shown is None else Finding(code, text.format(*shown), do.format(*shown))

    return check


def _noted(note: str, code: str, text: str, do: str = "") -> Check:
    """The check for a note of that name; ``text`` has its place for what the note says."""
    return _where(lambda r: (r.notes[note].rstrip("."),) if r.notes.get(note) else None, code, text, do)


def _over(name: str, limit: float, show: Callable[[float], str], code: str, text: str, do: str = "") -> Check:
    """The check for a reading, taken once, that is over a limit."""

    def values(result: Result) -> tuple[object, ...] | None:
        value = result.value(name)
        return None if value is None or value <= limit else (show(value),)

    return _where(values, code, text, do)


def _count(value: float) -> str:
    return f"{value:.0f}"


def _share(value: float) -> str:
    return units.percent(value, 2)


def _failed(result: Result) -> Finding | None:
    if result.status in ("ok", "diverged"):
        return None
    if isinstance(result.workload, Accuracy) and result.status in ("timeout", "interrupted"):
        return _cut_short(result)
    detail = f": {result.message}" if result.message else ""
    do = {
        "out_of_memory": "Take a smaller --micro-batch"
        + (" or --px." if getattr(result.workload, "micro_batch", None) == "auto" else ", or auto."),
        "timeout": "Raise --max-time.",
        "interrupted": "The row holds what was measured until then.",
    }.get(result.status, "")
    return Finding(result.status, f"Ended as {result.status.replace('_', ' ')}{detail}.", do)


def _cut_short(result: Result) -> Finding:
    """For a training run that ended at --max-time or was interrupted: how far it came."""
    time, top1 = result.reading("train_time"), result.reading("top1")
    done = f"{len(time.values) if time else 0} of {result.run.epochs} epochs"
    if result.status == "timeout":
        reached = f": top-1 {units.percent(top1.finite[-1])} so far" if top1 and top1.finite else ""
        return Finding("timeout", f"--max-time was reached after {done}{reached}.", "Raise --max-time.")
    return Finding("interrupted", f"Interrupted after {done}.", "Its schedule did not end, so it has no final top-1.")


def _diverged(result: Result) -> Finding | None:
    if result.status != "diverged":
        return None
    if not isinstance(result.workload, Accuracy):
        sharp = isinstance(result.workload, StepTime) and result.workload.sam != "none"
        do = "Try a smaller --sam, or --agc 0.01." if sharp else "Try --agc 0.01 or --precision fp32."
        return Finding("diverged", "The loss is not finite, so there is no step time.", do)
    update, message = result.value("diverged_at"), (result.message or "").rstrip(". ")
    at = "" if update is None else f" at update {update:.0f}"
    at = "" if at.removeprefix(" at") in message else at
    agc = result.run.agc if result.resolved is None else result.resolved.agc
    tries = ["--agc 0.01" if agc in (None, "none") else "a smaller --agc", "a lower --lr"]
    if result.run.sam != "none":
        tries.insert(0, "a smaller --sam")
    return Finding("diverged", f"Diverged{at}{f': {message}' if message else ''}.", f"Try {' or '.join(tries)}.")


def _throttle_reasons(result: Result) -> tuple[str, ...] | None:
    """In what share of the samples, where those were kept, and for which reasons the GPU was slowed down."""
    reasons = sorted(metrics.VOIDS.intersection(result.conditions.throttle))
    share = f" in {_share(metrics.throttled(result))} of the samples" if result.reading("throttled") else ""
    return (share, ", ".join(reasons)) if reasons else None


def _others(result: Result) -> tuple[str] | None:
    """Who else had the GPU: processes where they are known, else what shows them in a container."""
    seen = result.conditions
    if seen.other_processes:
        return (f"{seen.other_processes} other process{'es' if seen.other_processes > 1 else ''} held the GPU",)
    if (seen.other_load or 0.0) > metrics.MOST_OTHER_LOAD:
        return (f"Other processes kept the GPU busy for {_share(seen.other_load or 0.0)} of the time between timings",)
    if (seen.other_memory or 0) > OTHER_MEMORY and STUCK not in result.notes:
        return (f"Other processes held {units.bytes_(seen.other_memory)} of the GPU's memory",)
    return None


def _retries(result: Result) -> tuple[str] | None:
    retries = sum(v for r in result.each("allocator_retries") for v in r.finite)
    return (_count(retries),) if retries else None


def _width(result: Result) -> tuple[str, ...] | None:
    """The cap, the steps until it and the half-width of an interval that stayed wide."""
    if not isinstance(result.workload, StepTime) or result.stopped_by != "max_time":
        return None
    estimate = None
    # phases of unequal length, as values that are not finite leave them, compose no step
    with suppress(ValueError, ArithmeticError):
        estimate = metrics.step_time(result)
    if estimate is None or not estimate.value > 0:
        return None
    half = estimate.half_width
    if half is not None and half <= result.sampling.within * estimate.value:
        return None
    steps = round(result.value("steps") or 0)
    counted = units.plural(steps, "short update" if result.composed else "step")
    width = "no interval yet" if half is None else f"± {_share(half / estimate.value)}"
    return units.seconds(result.sampling.max_time, 2), counted, width


def _clock_drift(result: Result) -> Finding | None:
    """The clock of the multiprocessors changed during the window, and the step time with it."""
    clock = result.reading("sm_clock")
    with np.errstate(all="ignore"):
        drift = None if clock is None else stats.drift(stats.finite(clock.values), LEAST_CLOCKS)
    if drift is None:
        return None
    way, do = (
        ("rose", "Time longer, so that the card is warmed up.")
        if drift.change > 0
        else ("fell", "Cool the card or lock its clock (nvidia-smi -lgc, needs root), and time again.")
    )
    ends = f"({units.si(drift.before, 'Hz')} to {units.si(drift.after, 'Hz')})"
    return Finding("clock_drift", f"The GPU's clock {way} by {_share(abs(drift.change))} during the timing {ends}.", do)


def _warming(result: Result) -> tuple[str, ...] | None:
    """By how many K the card became warmer during the window, and from what to what."""
    for temperature in result.each("temperature"):
        degrees = temperature.finite
        if degrees and degrees[-1] - degrees[0] > WARMING:
            return tuple(f"{value:.0f}" for value in (degrees[-1] - degrees[0], degrees[0], degrees[-1]))
    return None


def _of_steps(result: Result) -> list[Finding]:
    """What is doubtful about the step times; empty for a composed result, which holds no whole steps, or one without a
    rate."""
    reading = result.reading("step_time")
    if reading is None or result.composed or result.status not in ("ok", "interrupted"):
        return []
    times = stats.finite(reading.values)
    if not times.size:
        return []
    ordered = np.sort(times)
    median = stats.middle(ordered)
    # times near the ends of what a float holds are nobody's, and no reason for a warning of numpy's
    with np.errstate(all="ignore"):
        checks = (*_shape(times, ordered), _first_step(result, median), _launch_bound(result, median))
    return [finding for finding in checks if finding is not None]


def _shape(times: stats.Array, ordered: stats.Array) -> Iterator[Finding | None]:
    """A drift or two kinds, never both of the same steps, and then what strays from them."""
    enough = len(times) >= LEAST_STEPS
    kinds = stats.kinds(ordered) if enough else None
    # two kinds in turns make the thirds differ by chance, a change for good makes two kinds of the steps
    drift = stats.drift(times, LEAST_STEPS) if kinds is None else stats.moved(times, kinds)
    if drift is not None:
        text = (
            f"The steps became {_share(abs(drift.change))} {'slower' if drift.change > 0 else 'faster'} during the "
            f"timing ({units.seconds(drift.before)} in its first third, {units.seconds(drift.after)} in its last)."
        )
        yield Finding("step_drift", text, "Time again, longer, once the machine is warm and quiet.")
    elif kinds is not None:
        low = kinds.count_low / len(times)
        text = (
            f"The steps come in two kinds: {_share(low)} near {units.seconds(kinds.low, 3)}, "
            f"{_share(1 - low)} near {units.seconds(kinds.high, 3)}."
        )
        do = "The median describes only the larger kind. Find out whether the clock or another process changes "
        yield Finding("bimodal_steps", text, f"{do}and time again.")
    yield _outliers(ordered, stats.straggling(ordered, kinds), enough)


def _outliers(ordered: stats.Array, count: int, enough: bool) -> Finding | None:
    steps, worst = len(ordered), float(ordered[-1]) / stats.middle(ordered)
    many = enough and count >= LEAST_STRAGGLERS and count > MANY_STRAGGLERS * steps
    if worst <= PAUSE and not many:
        return None
    times = units.significant(worst, 2)
    text = f"One of {steps} steps took {times} times the median."
    if count > 1:
        share = _share(count / steps)
        text = f"{count} of {steps} steps ({share}) took far over the median, the worst {times} times as long."
    do = "The median ignores these steps, but a training run has them too. Find out what else the host does."
    return Finding("outliers", text, do)


def _first_step(result: Result, median: float) -> Finding | None:
    first = result.value("first_step")
    if first is None or first <= SLOW_FIRST * median or first - median < SLOW_FIRST_LEAST:
        return None
    if isinstance(result.workload, StepTime) and result.workload.compile != "none":
        why = "torch.compile compiled the net"
        do = "The step time does not include it. TORCHINDUCTOR_CACHE_DIR keeps it for the next run."
    else:
        search = ", cuDNN searched for algorithms" if result.machine.device == "cuda" else ""
        why = f"memory was allocated and kernels were loaded{search}"
        do = "The step time does not include it. Add it once per process when you plan short runs."
    times = units.number(first / median, 2)
    text = f"The first step took {units.seconds(first, 3)}, {times} times the others: {why}."
    return Finding("slow_first_step", text, do)


def _launch_bound(result: Result, median: float) -> Finding | None:
    tail = result.reading("tail")
    if tail is None or not tail.finite or statistics.median(tail.finite) / median >= LAUNCH_BOUND:
        return None
    return Finding("launch_bound", "The GPU waited for the host to launch work.", _launch_less(result))


def _launch_less(result: Result) -> str:
    """What has the host launch less for each image, of what is not on yet and can be."""
    compiled = getattr(result.workload, "compile", "none")
    if compiled in CUDA_GRAPHS:
        return "CUDA graphs did not change that. Take a larger --batch."
    if (_passes(result) or 1) == 1:
        return "Try --compile reduce-overhead."
    # CUDA graphs cannot accumulate gradients
    return "Try --compile default." if compiled == "none" else "Take a larger --micro-batch."


def _passes(result: Result) -> int | None:
    """Passes of a whole step; None where none is known or the workload has no step."""
    if result.resolved is None or not isinstance(result.workload, StepTime | Accuracy):
        return None
    if result.resolved.micro_batch < 1 or result.workload.world_size < 1:
        return None
    return accumulation_steps(result.workload, result.resolved)


def _composed(result: Result) -> tuple[str, ...] | None:
    passes, parts = result.value("passes"), _passes(result)
    return (f"{parts}", _count(passes)) if result.composed and passes is not None and parts is not None else None


def _batch_statistics(result: Result) -> tuple[int] | None:
    """The micro-batch that batch normalization saw, where that is not the batch."""
    resolved, passes = result.resolved, _passes(result)
    if resolved is None or result.notes.get("norm") != "batch" or passes is None:
        return None
    whole = passes <= 1 and getattr(result.workload, "world_size", 1) == 1
    return None if whole else (resolved.micro_batch,)


def _lowered_limit(result: Result) -> tuple[str, ...] | None:
    limit, default = result.machine.power_limit, result.conditions.default_power_limit
    lowered = limit is not None and default is not None and limit < default - CAPPED
    return (f"{limit:.0f} W", f"{default:.0f}") if lowered else None


def _data(result: Result) -> Finding | None:
    share = training_metrics.data_share(result)
    if share is None or share <= MUCH_DATA:
        return None
    text = f"Making batches took {_share(share)} of the training time, so no time here is of the net alone."
    streams = result.resolved is not None and result.resolved.training is not None and result.resolved.training.workers
    return Finding(
        "data", text, "Try more --workers." if streams else "Take a larger --batch, which makes fewer batches."
    )


def _busy_host(result: Result) -> Finding | None:
    share = result.value("others_cpu")
    if share is None or share <= BUSY_HOST:
        return None
    turns = result.sampling.turns > 1
    do = "Use the ratios of its turns, not its times." if turns else "Compare only nets that were timed in turns."
    return Finding(
        "busy_host", f"Other processes used {_share(share)} of the CPU during this run; timings may be slow.", do
    )


def _unreadable(result: Result) -> tuple[str, ...] | None:
    count, names = result.value("unreadable_images"), result.notes.get("unreadable")
    return (units.plural(count, "image"), f": {names}" if names else "") if count else None


GRAVE: tuple[Check, ...] = (
    _failed,
    _diverged,
    _where(_throttle_reasons, "throttled", "The GPU was slowed down{} ({}).", "Cool it and time again."),
    _over(
        "swapped",
        0,
        units.bytes_,
        "swap",
        "{} of this process were swapped out.",
        "Free memory on the host or take a smaller --micro-batch, and time again.",
    ),
    _where(_others, "shared_device", "{}.", "Time on a card of your own."),
    _where(
        _retries,
        "allocator_retries",
        "The allocator had to free and try again {} times.",
        "Take a smaller --micro-batch.",
    ),
    _where(
        _width,
        "wide_interval",
        "The cap of {} was reached after {}: {}.",
        "Raise --max-time for a narrower one.",
    ),
    _clock_drift,
    _where(
        _warming,
        "warming",
        "The GPU became {} K warmer during the timing ({} to {} °C).",
        "Time again, longer, once the card is warm.",
    ),
)
"""Before the findings about the step times or the training run."""

TRAINED: tuple[Check, ...] = (
    _data,
    _where(
        _unreadable,
        "unreadable_images",
        "{} of the data could not be read{}.",
        "Download or copy the data again.",
    ),
    _noted("share", "shared_device", "It had {}, so no time and no energy of it is of the net alone."),
    _noted(
        "resumed",
        "resumed",
        "Other software than this row's trained {}.",
        "Where that matters, train again in another --checkpoint folder.",
    ),
    _over(
        "deterministic_cost",
        1,
        lambda times: units.significant(times, 3),
        "deterministic_cost",
        "--deterministic made an update take {} times as long.",
        "Compare times without it.",
    ),
    _noted("data", "data_subset", "Data: {}.", "Do not compare it with runs on the whole set."),
    _where(
        lambda r: (r.run.dataset,) if r.run.dataset != "imagenet" and r.status == "ok" else None,
        "small_data",
        "Results on {} do not carry over to ImageNet.",
    ),
)
"""About a training run, beside how it ended."""

SLIGHT: tuple[Check, ...] = (
    _where(_composed, "composed", "The step of {} micro-batches is composed from measured updates of {}."),
    _where(
        _batch_statistics,
        "micro_batch_statistics",
        "Batch normalization saw micro-batches of {}, not the batch.",
        "The gradient of an NF net is the same either way.",
    ),
    _over(
        "zero_gradients",
        MANY_ZEROS,
        _share,
        "zero_gradients",
        "{} of the gradients are exactly zero. The GPU then draws less power, and clipping looks free.",
        "Compare only nets with the same share of zeros. In a net of your own, start gains at 1 instead of 0.",
    ),
    _over("skipped_updates", 0, _count, "skipped_updates", "{} fp16 updates were not finite and were skipped."),
    _over(
        "nonfinite_units",
        0,
        lambda count: units.plural(count, "unit"),
        "nonfinite_units",
        "The gradients of {} held NaN or inf; AGC leaves such units as they are.",
        "Try --precision bf16 or fp32.",
    ),
    _noted("optimizer", "synchronizing_optimizer", "{}.", "Try --optimizer sgd or --precision bf16."),
    _noted(
        "agc",
        "no_fused_clip",
        "The fused clip did not run here, so torch's batched operators clipped: {}.",
    ),
    _noted("micro_batch", "largest_micro_batch", "{}."),
    _where(
        lambda r: (r.start[:16].replace("T", " "),) if in_future(r) else None,
        "future_start",
        "Its start time, {}, is in the future. nfbench shows any other row of the same workload instead.",
        "Set the clock of that machine and measure again.",
    ),
    _noted(
        STUCK,
        "stuck_process",
        "An earlier net's process still held its memory on the GPU: {}.",
        "Measure this net in a command of its own.",
    ),
    _noted(
        "machines",
        "machines_differ",
        "The ranks run on different devices, and the slowest sets the pace: {}.",
        "Take devices of one kind.",
    ),
    _noted("folders", "folders_passed_over", "Folders of the data set were {}.", "Rename or move what should be read."),
    _noted("macs", "macs_left_out", "{}."),
    _noted("failed_layout", "failed_layout", "A layout could not be tried, so the other one was taken: {}."),
    _noted("older_session", "older_session", "{}.", "Name the file of the newer one to see it."),
    _noted("inspect", "not_inspected", "Gradients and loss could not be read: {}."),
    _where(
        _lowered_limit,
        "power_limit",
        "The GPU's power limit is {}, below its default of {} W.",
        "Type sudo nvidia-smi -pl {1} (needs root), or say that these figures are of a capped card.",
    ),
    _where(
        lambda r: () if "sw_power_cap" in r.conditions.throttle else None,
        "power_cap",
        "The GPU ran at its power limit; its clock followed the load.",
        "That is normal under full load. Compare only with cards at the same limit.",
    ),
    _busy_host,
    _noted("layout", "layout", "The layout is {}."),
    _noted("loss", "several_outputs", "The loss is {}."),
    _noted("fused", "unfused_optimizer", "The optimizer is torch's foreach one: {}."),
)
"""After them."""
