"""What a check found: a row for each workload, the counts that changed, and the exit code that follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from nfbench import units
from nfbench.analysis.acceptance import Accept
from nfbench.analysis.findings import Finding
from nfbench.analysis.gate import Verdict
from nfbench.analysis.stats import Estimate
from nfbench.records import Record, Resolved, Result, StepTime

EXACT, NEARLY = 0.0, 0.01
COUNTS: dict[str, tuple[str, float]] = {
    "macs": ("MACs", EXACT),
    "params": ("parameters", EXACT),
    "operators": ("operators a step", EXACT),
    "saved_bytes": ("bytes saved for backward", EXACT),
    "peak_allocated": ("peak allocated memory", NEARLY),
}
"""What is counted, its name, and how much more of it is no change: cuDNN chooses its workspaces by timing."""

SLOWER, UNDECIDED = 3, 4
Outcome = Verdict | Literal["failed", "more", "fewer"]
"""A verdict on the step time; ``failed`` where the head cannot run, ``more`` and ``fewer`` where it is only counted."""


class Count(NamedTuple):
    """A counted quantity on both sides; one that a side lacks is None there."""

    name: str
    base: float | None
    head: float | None
    verdict: Literal["same", "more", "fewer", "missing", "new"]

    @property
    def change(self) -> float | None:
        """The share by which the head has more; None where a side lacks it or the base has none."""
        return self.head / self.base - 1 if self.base and self.head is not None else None

    def said(self) -> str:
        """ "operators a step 100 → 108 (+8 %)"."""
        title = COUNTS[self.name][0]
        if self.head is None or self.base is None:
            return f"{title}: not counted on the {'head' if self.head is None else 'base'}"
        change = f" ({units.signed_percent(self.change)})" if self.change is not None else ""
        return f"{title} {self.base:,.0f} → {self.head:,.0f}{change}"


class Row(Record, frozen=True, kw_only=True):
    """The verdict on one workload.

    ``ratio`` is head over base with its interval at one look's confidence, ``noise`` the standard deviation of the
    rounds' log-ratios, times are in seconds. ``not_slower`` where an inconclusive one has at least ruled that out.
    ``accept`` is what the study accepts; ``limit`` the slowdown that is not called one here.
    """

    workload: StepTime
    verdict: Outcome
    limit: float
    why: tuple[str, ...] = ()
    ratio: Estimate | None = None
    base_time: float | None = None
    head_time: float | None = None
    rounds: int = 0
    void: int = 0
    noise: float | None = None
    not_slower: bool = False
    counts: tuple[Count, ...] = ()
    accept: Accept | None = None
    accepted: bool = False
    expired: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def worse_counts(self) -> list[Count]:
        """The counts of which the head has more than is accepted."""
        allowed = self.accept.counts if self.accept is not None and not self.expired else {}
        more = [c for c in self.counts if c.verdict == "more"]
        return [c for c in more if c.change is None or c.change > allowed.get(c.name, 0.0)]

    def exit_code(self, inconclusive: Literal["fail", "pass"]) -> int:
        """0, 3 (slower, more, or the head cannot run) or 4 (nothing can be said)."""
        if self.verdict == "failed" or (self.verdict == "slower" and not self.accepted) or self.worse_counts:
            return SLOWER
        if self.verdict in ("missing", "incomparable") or any(c.verdict == "missing" for c in self.counts):
            return UNDECIDED
        undecided = self.verdict == "inconclusive" and not self.not_slower
        return UNDECIDED if undecided and inconclusive == "fail" else 0


def counts(base: Result | None, head: Result | None) -> tuple[Count, ...]:
    """The counted quantities of both sides, those that neither has left out."""
    found = []
    for name, (_, tolerance) in COUNTS.items():
        before, after = (None if r is None else r.value(name) for r in (base, head))
        if before is None and after is None:
            continue
        found.append(Count(name, before, after, _count_verdict(before, after, tolerance)))
    return tuple(found)


def _count_verdict(
    base: float | None, head: float | None, tolerance: float
) -> Literal["same", "more", "fewer", "missing", "new"]:
    if base is None:
        return "new"
    if head is None:
        return "missing"
    if head > base * (1 + tolerance):
        return "more"
    return "fewer" if head < base * (1 - tolerance) else "same"


def counted(counts: Sequence[Count]) -> Outcome:
    """The verdict of counts by themselves."""
    found = {count.verdict for count in counts}
    if not found & {"same", "more", "fewer"}:
        return "incomparable"
    return "more" if "more" in found else "missing" if "missing" in found else "fewer" if "fewer" in found else "same"


def differences(base: Resolved | None, head: Resolved | None) -> list[str]:
    """The fields in which what was resolved differs, in words: "optimizer_impl foreach → fused"."""
    if base is None or head is None:
        return []
    pairs = [(f.name, getattr(base, f.name), getattr(head, f.name)) for f in msgspec.structs.fields(Resolved)]
    return [f"{name} {before} → {after}" for name, before, after in pairs if before != after]


def exit_code(rows: Sequence[Row], inconclusive: Literal["fail", "pass"]) -> int:
    """The exit code of all rows together: 3 goes before 4 before 0."""
    codes = {row.exit_code(inconclusive) for row in rows}
    return SLOWER if SLOWER in codes else UNDECIDED if UNDECIDED in codes else 0
