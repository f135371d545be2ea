"""The rule for the claim on memory."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench.analysis import stats
from nfbench.analysis.claim import Evidence, Figure, failures, scope
from nfbench.analysis.rows import choose
from nfbench.analysis.stats import Estimate
from nfbench.catalog.models import NETS
from nfbench.records import Resolved, Result, StepTime

LEAST_IMAGES = 16
MORE = 1.01
"""Memory that is within 1 % is the same: cuDNN chooses its workspaces by timing."""


def bn_memory(results: Sequence[Result]) -> Evidence:
    """Batch normalization costs memory for what backward needs: a twin takes over 1.01 times its net's.

    Of every normalizer-free net and its ``bn-…`` twin with equal settings, px, precision, layout and micro-batch. What
    decides is CUDA's peak of allocated memory, over several runs by Student's t, or where it is absent the bytes that
    a pass saves for backward, which are counted and have an interval of no width. Decided against 1.01. Open where a
    pass has fewer than 16 images: what an NF net saves of its standardized weights then outweighs the images.
    """
    measured = (r for r in results if isinstance(r.workload, StepTime) and r.status == "ok" and r.resolved is not None)
    steps = [r for group in choose(measured).groups for r in group]
    figures = []
    for twin, own in ((net.name, net.twin_of) for net in NETS if net.twin_of is not None):
        for place in dict.fromkeys(_place(r) for r in steps if r.workload.model == twin):
            sides = [[r for r in steps if r.workload.model == m and _place(r) == place] for m in (twin, own)]
            if all(sides) and (figure := _figure(sides[0], sides[1])) is not None:
                figures.append(figure)
    failed = failures(r for r in results if isinstance(r.workload, StepTime))
    missing = "no net and its batch-normalized twin measured at the same micro-batch on this device"
    return Evidence(figures, missing + (f" ({failed})" if failed else ""))


def _place(result: Result) -> tuple[object, ...]:
    """What must be equal on both sides."""
    resolved, w = result.resolved, result.step
    assert isinstance(resolved, Resolved)
    settings = (w.batch, w.compile, w.optimizer, w.norm, w.sam, w.ema, w.world_size)
    return (resolved.px, resolved.micro_batch, resolved.precision, resolved.layout, *settings)


def _figure(twin: Sequence[Result], own: Sequence[Result]) -> Figure | None:
    for name, word in (("peak_allocated", "peak memory"), ("saved_bytes", "bytes saved for backward")):
        mine, its = ([v for r in side if (v := r.value(name))] for side in (twin, own))
        if not mine or not its:
            continue
        last = twin[-1]
        assert last.resolved is not None
        on = f"{last.resolved.px} px, {last.resolved.micro_batch} images a pass, {last.resolved.precision}"
        return Figure(
            f"{last.workload.model}'s {word} an image over {own[-1].workload.model}'s",
            f"{on}, {last.resolved.layout}",
            _ratio(mine, its),
            "×",
            "above",
            MORE,
            tuple(r.id for r in (*twin, *own)),
            scope=scope(last.workload, own[-1].workload),
            doubt=_few(last.resolved.micro_batch),
        )
    return None


def _few(images: int) -> str:
    if images >= LEAST_IMAGES:
        return ""
    return (
        f"with {images} images a pass the weights weigh more than the images; take --micro-batch {LEAST_IMAGES} or more"
    )


def _ratio(mine: Sequence[float], its: Sequence[float]) -> Estimate:
    """The ratio of the means, with an interval over what was read; what is always the same has no width."""
    if len(set(mine)) == len(set(its)) == 1:
        value = mine[0] / its[0]
        return Estimate(value, value, value)
    pairs = list(zip(mine, its, strict=False))
    return stats.mean_of_logs([a / b for a, b in pairs])
