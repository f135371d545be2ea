"""The rule for the claim on distributed training."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nfbench.analysis import metrics
from nfbench.analysis.claim import Evidence, Figure, by_process, scope, unpaired
from nfbench.analysis.claims_time import missing, pairs, twins
from nfbench.analysis.rows import choose
from nfbench.records import Result, StepTime

_OWN = ("auto", "batch")


def bn_distributed(results: Sequence[Result]) -> Evidence:
    """Batch normalization costs more in distributed training: a step with ``sync_batch`` over that with ``batch``, at
    the same ``world_size`` of 2 or more and otherwise equal settings.

    That ratio is the part of its cost that one device does not have. Steps that took turns are paired. Those of
    separate runs, which is what torchrun starts, count where none did, with Welch's interval over processes; the figure
    says so. The step of a twin over that of its NFNet, in turns on as many devices, stands beside it.

    Limit: none, since the source does not say more than what, or by how much.
    """
    figures = []
    in_turns: set[tuple[StepTime, StepTime]] = set()
    for p in pairs(results):
        note = f"{p.net.world_size} devices"
        if p.net.world_size < 2 or p.net.world_size != p.baseline.world_size:
            continue
        if _synchronized(p.net, p.baseline):
            in_turns.add((p.net, p.baseline))
            figures.append(p.figure(_about(p.net), p.ratio.estimate, note=note))
        elif twins(p) and p.net.norm in _OWN:
            figure = p.figure(f"{p.net.model}'s step over {p.baseline.model}'s", p.ratio.estimate, note=note)
            figures.append(figure._replace(decides=False))
    figures += _separate(results, in_turns)
    return Evidence(figures, missing("no step on two or more devices, with sync_batch and with batch", results))


def _separate(results: Sequence[Result], in_turns: set[tuple[StepTime, StepTime]]) -> list[Figure]:
    several = [r for r in results if isinstance(r.workload, StepTime) and r.step.world_size > 1]
    groups = [(g[-1].step, g) for g in choose(r for r in several if not metrics.voided(r)).groups]
    figures = []
    for net, with_sync in groups:
        for baseline, without in groups:
            if not _synchronized(net, baseline) or (net, baseline) in in_turns:
                continue
            sides = by_process(with_sync, metrics.seconds), by_process(without, metrics.seconds)
            if not all(sides):
                continue
            on = f"batch {net.batch}, {net.world_size} devices, in separate runs"
            both, rounds = (*with_sync, *without), min(map(len, sides))
            ids = tuple(r.id for r in both)
            figures.append(Figure(_about(net), on, unpaired(*sides), "×", ids, rounds, scope=scope(*both)))
    return figures


def _synchronized(net: StepTime, baseline: StepTime) -> bool:
    same = msgspec.structs.replace(net, norm=baseline.norm) == baseline
    return same and net.norm == "sync_batch" and baseline.norm in _OWN


def _about(net: StepTime) -> str:
    return f"{net.model}'s step with sync_batch over that with batch"
