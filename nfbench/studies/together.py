"""What workloads that run together need: the same settings on both sides, and memory for all."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nfbench.records import Resolved, Result, StepTime

FULL = 0.9
"""The share of the device's memory that the peaks of all may take together; beyond it each runs alone."""


def pinned(workload: StepTime, resolved: Resolved) -> StepTime:
    """``workload`` with every `auto` set to what it became in ``resolved``."""
    return msgspec.structs.replace(
        workload,
        px=resolved.px,
        micro_batch=resolved.micro_batch,
        precision=resolved.precision,
        layout=resolved.layout,
        agc="none" if resolved.agc is None else resolved.agc,
        agc_impl=resolved.agc_impl or "auto",
    )


def crowded(results: Sequence[Result | None]) -> bool:
    """Whether the peaks of all together take more than 90 % of the device's memory, or one found none left."""
    kept = [r for r in results if r is not None]
    if any(r.status == "out_of_memory" for r in kept):
        return len(kept) > 1
    peaks = [max((r.value(name) or 0.0) for name in ("peak_reserved", "peak_allocated", "peak_rss")) for r in kept]
    memory = next((r.machine.memory for r in kept if r.machine.memory), None)
    return len(kept) > 1 and memory is not None and sum(peaks) > FULL * memory
