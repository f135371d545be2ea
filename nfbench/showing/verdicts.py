"""The verdicts of a check as lines of a table, and in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from nfbench import units
from nfbench.analysis import gate
from nfbench.analysis.gate import COUNTS, Row
from nfbench.analysis.stats import Estimate
from nfbench.records import key
from nfbench.showing.comparison import names
from nfbench.showing.tables import about_each

_USELESS = 4.0
"""Ends of an interval that are so many times apart say nothing."""


def label(row: Row, rows: Sequence[Row]) -> str:
    """The model, with the settings in which rows of that model differ."""
    return names([row.workload, *(r.workload for r in rows)])[0]


def change(ratio: Estimate | None) -> str:
    """ "+5.1 % (+4.2 % to +6.0 %)", the step time's; a dash where there is none."""
    if ratio is None:
        return units.ABSENT
    text = units.signed_percent(_rounded(ratio.value - 1))
    if ratio.low is None or ratio.high is None:
        return text
    if ratio.high > _USELESS * ratio.low:
        return f"{text} (no useful interval)"
    low, high = (units.signed_percent(_rounded(end - 1)) for end in (ratio.low, ratio.high))
    return f"{text} ({low} to {high})"


def _rounded(share: float) -> float:
    return share if abs(share) >= 5e-5 else 0.0


def counted(row: Row) -> str:
    """ "same", or each count that is not."""
    if not row.counts:
        return units.ABSENT
    changed = [count.said() for count in row.counts if count.verdict != "same"]
    return "; ".join(changed) or "same"


def why(row: Row) -> str:
    """What decided it, and what is accepted."""
    accept = row.accept
    parts = list(row.why)
    if accept is not None and accept.counts and any(c.verdict == "more" for c in row.counts):
        said = f"no longer accepted: {accept.said()}" if row.expired else accept.said()
        parts += [said] if said not in parts else []
        parts += [f"more than that: {COUNTS[count.name][0]}" for count in row.worse_counts if not row.expired]
    if row.verdict == "inconclusive" and row.not_slower:
        parts.append("not slower; whether the same or faster cannot be said")
    return "; ".join(parts)


def lines(
    rows: Sequence[Row], timed: bool = True, inconclusive: Literal["fail", "pass"] = "fail"
) -> list[dict[str, Any]]:
    """What the table of a check shows, a line per workload, in SI units."""
    return [_line(row, rows, timed, inconclusive) for row in rows]


def _line(row: Row, rows: Sequence[Row], timed: bool, inconclusive: Literal["fail", "pass"]) -> dict[str, Any]:
    line: dict[str, Any] = {
        "model": row.workload.model,
        "label": label(row, rows),
        "counts": counted(row),
        "change": change(row.ratio) if timed else None,
        "workload": key(row.workload),
        "verdict": row.verdict,
        "exit_code": row.exit_code(inconclusive),
        "limit": row.limit,
        "base_step_time": row.base_time,
        "head_step_time": row.head_time,
        "rounds": row.rounds or None,
        "void_rounds": row.void or None,
        "noise": row.noise,
        "accepted": row.accept.said() if row.accept and row.accepted else None,
        "why": why(row) or None,
        "findings": " ".join(f.code for f in row.findings) or None,
    }
    if row.ratio is not None:
        line |= {"ratio": row.ratio.value, "ratio_low": row.ratio.low, "ratio_high": row.ratio.high}
        line["confidence"] = gate.confidence() if row.ratio.low is not None else None
    for count in row.counts:
        line |= {f"base_{count.name}": count.base, f"head_{count.name}": count.head}
    return {name: value for name, value in line.items() if value is not None}


def reasons(rows: Sequence[Row]) -> list[str]:
    """Why each verdict is what it is, equal reasons once."""
    return about_each((text, label(row, rows)) for row in rows if (text := why(row)))


def findings(rows: Sequence[Row]) -> list[str]:
    """Every finding once, with the workloads that it is about."""
    return about_each((str(finding), label(row, rows)) for row in rows for finding in row.findings)


def sentence(rows: Sequence[Row]) -> str:
    """ "3 workloads: 2 same, 1 slower." with what is worse among the counts."""
    words = Counter(f"{row.verdict}, as accepted" if row.accepted else row.verdict for row in rows)
    text = ", ".join(f"{number} {verdict}" for verdict, number in words.items())
    worse = sum(bool(row.worse_counts) for row in rows)
    more = f"; {worse} with counts that rose" if worse else ""
    return f"{units.plural(len(rows), 'workload')}: {text}{more}."


def ending(rows: Sequence[Row], inconclusive: Literal["fail", "pass"]) -> list[str]:
    """What fails, by its kind: "Slower: nfnet-f0.", "Does not run: resnet50."."""
    kinds = units.grouped((row for row in rows if row.exit_code(inconclusive)), _kind)
    return [f"{kind}: {', '.join(label(row, rows) for row in alike)}." for kind, alike in kinds.items()]


def _kind(row: Row) -> str:
    if row.verdict == "failed":
        return "Does not run"
    if row.verdict == "slower" and not row.accepted:
        return "Slower"
    if row.worse_counts:
        return f"More {', '.join(COUNTS[count.name][0] for count in row.worse_counts)}"
    return {"missing": "Missing", "incomparable": "Cannot be compared"}.get(row.verdict, "Cannot be said")


def noise(rows: Sequence[Row], slower_than: float, rounds: int) -> list[str]:
    """A check of an environment against itself: its noise, and the smallest slowdown that it shows."""
    said = []
    for row in rows:
        if row.noise is None:
            continue
        smallest = gate.smallest_slowdown(row.noise, rounds, slower_than, len(rows))
        head = (
            f"{label(row, rows)}: rounds of the same code differ by {units.percent(row.noise, 2)} (standard deviation)"
        )
        if smallest is None:
            said.append(f"{head}; fewer than {gate.LOOKS[0]} rounds fit, so that no slowdown can be shown.")
        else:
            reached = max(n for n in gate.LOOKS if n <= rounds)
            said.append(
                f"{head}; in {reached} rounds a slowdown of {units.percent(smallest, 2)} or more is called slower than "
                f"{units.percent(slower_than, 2)}, 19 times of 20."
            )
    return said


def said(row: Row) -> str:
    """A row in a sentence: the change of the step time, the counts that changed, and why."""
    parts = []
    if row.ratio is not None:
        parts.append(f"step time {change(row.ratio)}, threshold {units.signed_percent(row.limit)}, {row.rounds} rounds")
    changed = counted(row)
    if changed not in ("same", units.ABSENT):
        parts.append(changed)
    return "; ".join([*parts, *filter(None, [why(row)])]) or row.verdict
