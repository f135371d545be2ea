"""The rule for the claim on memory."""

from __future__ import annotations

from collections.abc import Sequence
from operator import methodcaller

import msgspec

from nfbench.analysis.claim import Evidence, Figure, by_process, failures, scope, unpaired
from nfbench.analysis.rows import choose
from nfbench.catalog.models import NETS
from nfbench.records import Resolved, Result, StepTime

LEAST_IMAGES = 16
"""Images a pass below which what an NF net saves of its standardized weights outweighs the images."""


def bn_memory(results: Sequence[Result]) -> Evidence:
    """Batch normalization costs memory for what backward needs: what a twin takes over what its net takes.

    Of every normalizer-free net and its ``bn-…`` twin with equal settings, which became the same px, precision, layout
    and micro-batch; a twin that is not clipped stands against the net with its default clip. What is compared is CUDA's
    peak of allocated memory, or where it is absent the bytes that a pass saves for backward. Where they took turns in a
    session, only such count. The interval is Welch's on logarithms over processes. Passes of fewer than 16 images count
    where there are no others, and the figure says so.

    Limit: none, since the source does not say how much.
    """
    measured = (r for r in results if isinstance(r.workload, StepTime) and r.status == "ok" and r.resolved is not None)
    steps = [r for group in choose(measured).groups for r in group]
    figures: list[Figure] = []
    few: list[Figure] = []
    for twin, free in ((net.name, net.twin_of) for net in NETS if net.twin_of is not None):
        of_twin, of_free = ([r for r in steps if r.workload.model == model] for model in (twin, free))
        for place in dict.fromkeys(map(_place, of_twin)):
            side, other = ([r for r in rows if _place(r) == place] for rows in (of_twin, of_free))
            if other and (figure := _figure(side, other)) is not None:
                (figures if place[1].micro_batch >= LEAST_IMAGES else few).append(figure)
    failed = failures(r for r in results if isinstance(r.workload, StepTime))
    missing = "no net and its batch-normalized twin measured at the same micro-batch on this device"
    return Evidence(figures or few, missing + (f" ({failed})" if failed else ""))


def _place(result: Result) -> tuple[StepTime, Resolved]:
    """What must be equal on both sides: all that was asked, and what it became, but for the net and what its clip
    became. The clip as asked for stays: it is each net's own where nothing was."""
    assert result.resolved is not None
    became = msgspec.structs.replace(result.resolved, agc=None, agc_impl=None, optimizer_impl=None, threads=None)
    return msgspec.structs.replace(result.step, model=""), became


def _figure(twin: Sequence[Result], free: Sequence[Result]) -> Figure | None:
    together = {r.session for r in twin if r.session} & {r.session for r in free if r.session}
    if together:
        twin, free = ([r for r in side if r.session in together] for side in (twin, free))
    both, last = (*twin, *free), twin[-1]
    assert last.resolved is not None
    images = last.resolved.micro_batch
    on = f"{last.resolved.px} px, {images} images per pass, {last.resolved.precision}, {last.resolved.layout}"
    if images < LEAST_IMAGES:
        on += f"; the weights weigh more than so few images, take {LEAST_IMAGES} or more"
    for name, word in (("peak_allocated", "peak memory"), ("saved_bytes", "bytes saved for backward")):
        sides = [by_process(side, methodcaller("value", name)) for side in (twin, free)]
        if all(sides):
            about = f"{last.workload.model}'s {word} an image over {free[-1].workload.model}'s"
            ids, rounds = tuple(r.id for r in both), min(map(len, sides))
            return Figure(about, on, unpaired(*sides), "×", ids, rounds, scope=scope(*both))
    return None
