"""The rule for the claim on memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from nfbench.analysis import stats
from nfbench.analysis.claim import WITHIN, Evidence, Figure, failures, processes, scope
from nfbench.analysis.rows import choose
from nfbench.analysis.stats import Estimate
from nfbench.catalog.models import NETS
from nfbench.records import Resolved, Result, StepTime

LEAST_IMAGES = 16
MORE = 1.01
"""Memory that is within 1 % is the same: cuDNN chooses its workspaces by timing."""


def bn_memory(results: Sequence[Result]) -> Evidence:
    """Batch normalization costs memory for what backward needs: a twin takes over 1.01 times its net's.

    Of every normalizer-free net and its ``bn-…`` twin with equal settings, which became the same px, precision, layout
    and micro-batch; a twin that is not clipped stands against the net with its default clip. What decides is CUDA's
    peak of allocated memory, or where it is absent the bytes that a pass saves for backward. Where they took turns in a
    session, only such count. The interval is Welch's on logarithms over processes; that of one process on either side
    is over its turns, within this run. What never varies has an interval of no width. Decided against 1.01. Open where
    a pass has fewer than 16 images: what an NF net saves of its standardized weights then outweighs the images.
    """
    measured = (r for r in results if isinstance(r.workload, StepTime) and r.status == "ok" and r.resolved is not None)
    steps = [r for group in choose(measured).groups for r in group]
    figures = []
    for twin, own in ((net.name, net.twin_of) for net in NETS if net.twin_of is not None):
        mine, its = ([r for r in steps if r.workload.model == model] for model in (twin, own))
        for place in dict.fromkeys(map(_place, mine)):
            side = [r for r in mine if _place(r) == place]
            for clip in dict.fromkeys(map(_clip, side)):
                some = [r for r in side if _clip(r) == clip]
                other = [r for r in its if _place(r) == place and _clip(r) == clip]
                if other and (figure := _figure(some, other)) is not None:
                    figures.append(figure)
    failed = failures(r for r in results if isinstance(r.workload, StepTime))
    missing = "no net and its batch-normalized twin measured at the same micro-batch on this device"
    return Evidence(figures, missing + (f" ({failed})" if failed else ""))


def _place(result: Result) -> tuple[StepTime, Resolved]:
    """What must be equal on both sides: all that was asked, and what it became, but for the net and its clip."""
    assert result.resolved is not None
    asked = msgspec.structs.replace(result.step, model="", agc="auto", agc_impl="auto")
    became = msgspec.structs.replace(result.resolved, agc=None, agc_impl=None, optimizer_impl=None, threads=None)
    return asked, became


def _clip(result: Result) -> tuple[object, object]:
    """The clip as it was asked for, which is each net's own where nothing was."""
    return result.step.agc, result.step.agc_impl


def _figure(twin: Sequence[Result], own: Sequence[Result]) -> Figure | None:
    together = {r.session for r in twin if r.session} & {r.session for r in own if r.session}
    if together:
        twin, own = ([r for r in side if r.session in together] for side in (twin, own))
    for name, word in (("peak_allocated", "peak memory"), ("saved_bytes", "bytes saved for backward")):
        mine, its = (_values(side, name) for side in (twin, own))
        if not mine or not its:
            continue
        last = twin[-1]
        assert last.resolved is not None
        estimate, within = _ratio(mine, its)
        on = f"{last.resolved.px} px, {last.resolved.micro_batch} images a pass, {last.resolved.precision}"
        return Figure(
            f"{last.workload.model}'s {word} an image over {own[-1].workload.model}'s",
            f"{on}, {last.resolved.layout}" + (f"; {WITHIN}" if within else ""),
            estimate,
            "×",
            "above",
            MORE,
            tuple(r.id for r in (*twin, *own)),
            scope=scope(last.workload, own[-1].workload),
            doubt=_few(last.resolved.micro_batch),
        )
    return None


def _values(side: Sequence[Result], name: str) -> list[list[float]]:
    """What each process read, turn by turn."""
    found = ([v for r in turns if (v := r.value(name))] for turns in processes(side))
    return [values for values in found if values]


def _few(images: int) -> str:
    if images >= LEAST_IMAGES:
        return ""
    return f"with {images} images a pass the weights weigh more than the images; it takes {LEAST_IMAGES} or more"


def _ratio(mine: Sequence[Sequence[float]], its: Sequence[Sequence[float]]) -> tuple[Estimate, bool]:
    """The ratio of the geometric means, and whether its interval is within one process of each."""
    every = [[value for turns in side for value in turns] for side in (mine, its)]
    if all(len(set(values)) == 1 for values in every):
        value = every[0][0] / every[1][0]
        return Estimate(value, value, value), False
    one = len(mine) == len(its) == 1
    logs = [
        [math.log(v) for v in side[0]] if one else [stats.mean(list(map(math.log, turns))).value for turns in side]
        for side in (mine, its)
    ]
    value, low, high = stats.contrast([(1, logs[0]), (-1, logs[1])])
    estimate = Estimate(math.exp(value), *(None if end is None else math.exp(end) for end in (low, high)))
    return estimate, one and low is not None
