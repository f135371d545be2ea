"""The rule for the claim on distributed training."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nfbench.analysis import metrics
from nfbench.analysis.claim import Evidence, Figure, scope
from nfbench.analysis.claims_time import missing, pairs, twins
from nfbench.analysis.rows import choose
from nfbench.analysis.stats import Estimate
from nfbench.records import Result, StepTime

_OWN = ("auto", "batch")


def bn_distributed(results: Sequence[Result]) -> Evidence:
    """Batch normalization costs more in distributed training: with ``sync_batch`` a step takes over 1 times that with
    ``batch``, at the same ``world_size`` of 2 or more and otherwise equal settings.

    That ratio is the part of its cost that one device does not have; decided by its interval against 1. Steps that
    took turns are paired. Those of separate runs, which is what torchrun starts, count where none did: their interval
    lies between the ratios of the ends of both step times, each within its run, and the figure says so. The step of a
    twin over that of its NFNet, in turns on as many devices, stands beside it and does not decide.
    """
    figures = []
    paired: set[tuple[StepTime, StepTime]] = set()
    for p in pairs(results):
        note = f"{p.net.world_size} devices"
        if p.net.world_size < 2 or p.net.world_size != p.baseline.world_size:
            continue
        if _synchronized(p.net, p.baseline):
            paired.add((p.net, p.baseline))
            figures.append(p.figure(_about(p.net), p.ratio.estimate, note=note))
        elif twins(p) and p.net.norm in _OWN:
            figure = p.figure(f"{p.net.model}'s step over {p.baseline.model}'s", p.ratio.estimate, note=note)
            figures.append(figure._replace(decides=False))
    figures += _separate(results, paired)
    return Evidence(figures, missing("no step on two or more devices, with sync_batch and with batch", results))


def _separate(results: Sequence[Result], paired: set[tuple[StepTime, StepTime]]) -> list[Figure]:
    several = [r for r in results if isinstance(r.workload, StepTime) and r.step.world_size > 1]
    groups = [(g[-1].step, g) for g in choose(several).groups]
    found = []
    for net, mine in groups:
        for baseline, its in groups:
            if not _synchronized(net, baseline) or (net, baseline) in paired:
                continue
            a, b = metrics.across(mine), metrics.across(its)
            if a is None or b is None:
                continue
            on = f"batch {net.batch}, {net.world_size} devices, in separate runs"
            ids = tuple(r.id for r in (*mine, *its))
            found.append(Figure(_about(net), on, _ratio(a, b), "×", "above", 1.0, ids, scope=scope(net)))
    return found


def _synchronized(net: StepTime, baseline: StepTime) -> bool:
    same = msgspec.structs.replace(net, norm=baseline.norm) == baseline
    return same and net.norm == "sync_batch" and baseline.norm in _OWN


def _about(net: StepTime) -> str:
    return f"{net.model}'s step with sync_batch over that with batch"


def _ratio(a: Estimate, b: Estimate) -> Estimate:
    value = a.value / b.value
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Estimate(value)
    return Estimate(value, a.low / b.high, a.high / b.low)
