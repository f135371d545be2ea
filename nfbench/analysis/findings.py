"""Warnings as values: what is doubtful about a result, and what to do about it. Recomputed when shown.

Those about the machine stand in `machine_findings`, those about the step times in `step_findings`, those about
training runs in `accuracy_findings`; here are those about the outcome and the net.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from nfbench import units
from nfbench.analysis import accuracy_findings, metrics, step_findings
from nfbench.analysis import machine_findings as machine
from nfbench.analysis.finding import Finding
from nfbench.analysis.stats import LEAST_ROUNDS
from nfbench.records import Accuracy, Result, StepTime, accumulation_steps

__all__ = ["Finding", "disturbed", "few_rounds", "noisy", "of", "of_all"]

MANY_ZEROS = 0.20
"""Share of exact zeros; an awake net has 1 %, one whose branches start at zero 80 %."""
Check = Callable[[Result], Finding | None]


def of(result: Result) -> list[Finding]:
    """The findings of one result, in the order of their weight. Never raises, whatever the file holds."""
    grave = (check(result) for check in GRAVE)
    own = accuracy_findings.of(result) if isinstance(result.workload, Accuracy) else step_findings.of(result)
    slight = (check(result) for check in SLIGHT)
    return [found for found in (*grave, *own, *slight) if found is not None]


def of_all(results: Iterable[Result]) -> list[Finding]:
    """The findings of replicates, of each code the first: they differ in their figures only."""
    found: dict[str, Finding] = {}
    for result in results:
        for finding in of(result):
            found.setdefault(finding.code, finding)
    return list(found.values())


def few_rounds(rounds: int) -> Finding | None:
    """That so many rounds give no interval. One round has one of its own, "within this run"."""
    if not 1 < rounds < LEAST_ROUNDS:
        return None
    text = f"{rounds} rounds give no interval: {LEAST_ROUNDS} are needed."
    return Finding("few_rounds", text, f"Take --rounds {LEAST_ROUNDS} or more.")


def disturbed(left_out: int, windows: int) -> Finding:
    """That so many of the ``windows`` of a row are in no figure of it, since other work disturbed their session."""
    text = f"{left_out} of {windows} windows are left out: other processes took the CPU or used the GPU meanwhile."
    return Finding("disturbed", text, "Time again on a quiet machine.")


def noisy(reason: str) -> Finding:
    """That a row is noisy, for the ``reason`` of `nfbench.analysis.noise`."""
    text = f"Noisy: {reason}. No figure, ratio or verdict uses it."
    return Finding("noisy", text, "Time again on a quiet machine, or use it all the same with --noisy.")


def _failed(result: Result) -> Finding | None:
    if result.status in ("ok", "diverged"):
        return None
    if isinstance(result.workload, Accuracy) and result.status in ("timeout", "interrupted"):
        return accuracy_findings.cut_short(result)
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
    if isinstance(result.workload, Accuracy):
        return accuracy_findings.diverged(result)
    sharp = isinstance(result.workload, StepTime) and result.workload.sam != "none"
    do = "Try a smaller --sam, or --agc 0.01." if sharp else "Try --agc 0.01 or --precision fp32."
    return Finding("diverged", "The loss is not finite, so there is no rate.", do)


def _wide(result: Result) -> Finding | None:
    if not isinstance(result.workload, StepTime):
        return None
    estimate = None
    # phases of unequal length, as values that are not finite leave them, compose no step
    with suppress(ValueError, ArithmeticError):
        estimate = metrics.step_time(result) if result.stopped_by == "max_time" else None
    if estimate is None or not estimate.value > 0:
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
    passes, parts = result.value("passes"), _passes(result)
    if not result.composed or passes is None or parts is None:
        return None
    return Finding("composed", f"The step of {parts} passes is composed from updates of {passes:.0f}.", "")


def _batch_statistics(result: Result) -> Finding | None:
    resolved, passes = result.resolved, _passes(result)
    if resolved is None or result.notes.get("norm") != "batch" or passes is None:
        return None
    if passes <= 1 and (not isinstance(result.workload, StepTime | Accuracy) or result.workload.world_size == 1):
        return None
    text = f"Batch normalization saw micro-batches of {resolved.micro_batch}, not the batch."
    return Finding("micro_batch_statistics", text, "An NF net's gradient is the same either way.")


def _passes(result: Result) -> int | None:
    """Passes of a whole step; None where none is known or the workload has no step."""
    if result.resolved is None or not isinstance(result.workload, StepTime | Accuracy):
        return None
    if result.resolved.micro_batch < 1 or result.workload.world_size < 1:
        return None
    return accumulation_steps(result.workload, result.resolved)


def _asleep(result: Result) -> Finding | None:
    zeros = result.value("zero_gradients")
    if zeros is None or zeros <= MANY_ZEROS:
        return None
    text = f"{units.percent(zeros, 2)} of the gradients are exactly zero: less power is drawn and clipping looks free."
    do = "Start gains that are zero at 1 (nfbench does in its own nets), or compare only nets with the same share."
    return Finding("zero_gradients", text, do)


def _retried(result: Result) -> Finding | None:
    retries = sum(v for r in result.each("allocator_retries") for v in r.finite)
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


def _noted(note: str, code: str, text: str, do: str = "") -> Check:
    """The check for a note of that name; ``text`` has its place for what the note says."""

    def check(result: Result) -> Finding | None:
        said = result.notes.get(note)
        return Finding(code, text.format(said), do) if said else None

    return check


GRAVE: tuple[Check, ...] = (
    _failed,
    _diverged,
    machine.throttled,
    machine.swapped,
    machine.shared,
    _retried,
    _wide,
    machine.clock_drift,
)
"""Before the findings about the step times."""

SLIGHT: tuple[Check, ...] = (
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
    _noted(
        "machines",
        "machines_differ",
        "The ranks are on different devices, of which the slowest sets the pace: {}.",
        "Take devices of one kind.",
    ),
    _noted("older_session", "older_session", "{}.", "Name the newer one's file to see it."),
    _noted("inspect", "not_inspected", "Gradients and loss could not be read: {}."),
    machine.power_limit,
    machine.power_capped,
    machine.busy_host,
    _noted("layout", "layout", "The layout is {}."),
)
"""After them."""
