"""Warnings as values: what is doubtful about a result, and what to do about it. Recomputed when shown."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple

from nfbench import units
from nfbench.analysis import metrics
from nfbench.records import Result

MANY_ZEROS = 0.20
LAUNCH_BOUND = 0.05
BUSY_HOST = 0.10


class Finding(NamedTuple):
    """A warning: a code that stays the same, a sentence for this case, and what to do."""

    code: str
    message: str
    do: str

    def __str__(self) -> str:
        return f"{self.message} {self.do}".strip()


def of(result: Result) -> list[Finding]:
    """The findings of one result, in the order of their weight."""
    return [found for check in CHECKS if (found := check(result)) is not None]


def _failed(result: Result) -> Finding | None:
    if result.status in ("ok", "diverged"):
        return None
    words = result.status.replace("_", " ")
    detail = f": {result.message}" if result.message else ""
    do = {
        "out_of_memory": "Take a smaller --micro-batch, or auto.",
        "timeout": "Raise --max-time.",
        "interrupted": "It holds what was measured until then.",
    }.get(result.status, "")
    return Finding(result.status, f"Ended as {words}{detail}.", do)


def _diverged(result: Result) -> Finding | None:
    if result.status != "diverged":
        return None
    do = "Try --agc 0.01 or --precision fp32." if result.step.sam == "none" else "Try a smaller --sam, or --agc 0.01."
    return Finding("diverged", "The loss is not finite, so there is no rate.", do)


def _throttled(result: Result) -> Finding | None:
    reasons = sorted(metrics.VOIDS.intersection(result.conditions.throttle))
    if not reasons:
        return None
    return Finding("throttled", f"The GPU was slowed down ({', '.join(reasons)}).", "Cool it and time again.")


def _power_capped(result: Result) -> Finding | None:
    if "sw_power_cap" not in result.conditions.throttle:
        return None
    return Finding("power_cap", "The GPU ran at its power limit; its clock followed the load.", "")


def _shared(result: Result) -> Finding | None:
    others = result.conditions.other_processes
    if not others:
        return None
    return Finding("shared_device", f"{others} other process(es) held the GPU.", "Time on a card of your own.")


def _busy_host(result: Result) -> Finding | None:
    others = result.value("others_cpu")
    if others is None or others <= BUSY_HOST:
        return None
    text = f"Others had {units.percent(others, 2)} of the host's CPU time during the timing."
    return Finding("busy_host", text, "Compare only what was timed in turns.")


def _wide(result: Result) -> Finding | None:
    estimate = metrics.step_time(result)
    if result.stopped_by != "max_time" or estimate is None:
        return None
    half = estimate.half_width
    if half is not None and half <= result.sampling.within * estimate.value:
        return None
    width = "no interval yet" if half is None else f"± {units.percent(half / estimate.value, 2)}"
    steps = round(result.value("steps") or 0)
    unit = ("short update" if result.composed else "step") + "s"[: steps != 1]
    text = f"The cap of {units.seconds(result.sampling.max_time, 2)} was reached after {steps} {unit}: {width}."
    return Finding("wide_interval", text, "Raise --max-time for a narrower one.")


def _composed(result: Result) -> Finding | None:
    passes = result.value("passes")
    if not result.composed or result.resolved is None or passes is None:
        return None
    whole = result.step.batch // result.resolved.micro_batch
    text = f"The step of {whole} passes is composed from updates of {passes:.0f}."
    return Finding("composed", text, "")


def _batch_statistics(result: Result) -> Finding | None:
    resolved = result.resolved
    if resolved is None or result.notes.get("norm") != "batch" or resolved.micro_batch >= result.step.batch:
        return None
    text = f"Batch normalization saw micro-batches of {resolved.micro_batch}, not the batch."
    return Finding("micro_batch_statistics", text, "An NF net's gradient is the same either way.")


def _asleep(result: Result) -> Finding | None:
    zeros = result.value("zero_gradients")
    if zeros is None or zeros <= MANY_ZEROS:
        return None
    text = f"{units.percent(zeros, 2)} of the gradients are exactly zero: less power is drawn and clipping looks free."
    return Finding("zero_gradients", text, "")


def _launch_bound(result: Result) -> Finding | None:
    tail, time = result.reading("tail"), metrics.seconds(result)
    if tail is None or not tail.finite or time is None or result.composed:
        return None
    share = statistics.median(tail.finite) / time
    if share >= LAUNCH_BOUND:
        return None
    return Finding("launch_bound", "The GPU waited for the host to launch work.", "Try --compile reduce-overhead.")


def _retried(result: Result) -> Finding | None:
    retries = result.value("allocator_retries")
    if not retries:
        return None
    text = f"The allocator had to free and try again {retries:.0f} times."
    return Finding("allocator_retries", text, "Take a smaller --micro-batch.")


def _skipped(result: Result) -> Finding | None:
    skipped = result.value("skipped_updates")
    if not skipped:
        return None
    return Finding("skipped_updates", f"{skipped:.0f} fp16 updates were not finite and were skipped.", "")


def _nonfinite(result: Result) -> Finding | None:
    units = result.value("nonfinite_units")
    if not units:
        return None
    text = f"The gradients of {units:.0f} unit{'s'[: units != 1]} held NaN or inf; AGC leaves such units as they are."
    return Finding("nonfinite_units", text, "Try --precision bf16 or fp32.")


def _noted(note: str, code: str, text: str, do: str = "") -> Callable[[Result], Finding | None]:
    """The check for a note of that name; ``text`` has its place for what the note says."""

    def check(result: Result) -> Finding | None:
        said = result.notes.get(note)
        return Finding(code, text.format(said), do) if said else None

    return check


CHECKS: tuple[Callable[[Result], Finding | None], ...] = (
    _failed,
    _diverged,
    _throttled,
    _shared,
    _retried,
    _wide,
    _composed,
    _batch_statistics,
    _asleep,
    _skipped,
    _nonfinite,
    _noted("optimizer", "synchronizing_optimizer", "{}.", "Try --optimizer sgd or --precision bf16."),
    _noted(
        "agc",
        "no_fused_clip",
        "The fused clip did not run here, so torch's batched operators clipped: {}.",
        "Triton needs a C compiler and a driver that it knows.",
    ),
    _noted("inspect", "not_inspected", "Gradients and loss could not be read: {}."),
    _launch_bound,
    _power_capped,
    _busy_host,
    _noted("layout", "layout", "The layout is {}."),
)
