"""Rows of training runs as what figures show of them: a top-1 with its interval, what failed, and of how many seeds."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench.analysis.rows import Row
from nfbench.showing.left_out import subject
from nfbench.showing.sweep_lines import Failed, Point


def top1_point(row: Row, x: float) -> Point | None:
    """The top-1 of a row in per cent with its interval, cut where no accuracy can be."""
    value = row.get("top1")
    if value is None or not 0 <= value <= 1:
        return None
    low, high = row.get("top1_low"), row.get("top1_high")
    if low is None or high is None:
        return Point(x, 100 * value)
    return Point(x, 100 * value, 100 * max(low, 0.0), 100 * min(high, 1.0))


def top1_failure(row: Row, x: float) -> Failed | None:
    """What of a row's seeds diverged or failed."""
    runs, diverged = row["runs"], row.get("diverged", 0)
    if diverged:
        text = f"{row.get('diverged_at', '')}" if diverged == runs else f"{diverged} of {runs}"
        return Failed(x, "diverged", text)
    status = str(row.get("trained_status", row.get("status"))).replace("_", " ")
    return None if status == "ok" else Failed(x, status)


def lost(row: Row) -> str:
    """How many of a row's seeds are in no mean, and why."""
    first = row.get("diverged_at")
    at = f", the first at update {min(first) if isinstance(first, tuple) else first}" if first else ""
    status = str(row.get("trained_status", row.get("status"))).replace("_", " ")
    return f"{subject(row)}: {row['runs'] - row['seeds']} of {row['runs']} seeds not in the mean ({status}{at})"


def runs_note(rows: Sequence[Row], means: str, rest: str) -> str:
    """Seeds, epochs and px of training runs, ``means`` where there are several seeds, ``rest`` where some failed, and
    how far it goes."""
    seeds = sorted({row["runs"] for row in rows})
    parts = [_counted(seeds, "seed")]
    if epochs := sorted({row["epochs"] for row in rows if "epochs" in row}):
        parts.append(_counted(epochs, "epoch"))
    if px := sorted({row["px"] for row in rows if "px" in row}):
        parts.append(f"{_ends(px)} px")
    several = any(row.get("top1_low") is not None for row in rows)
    carries = all(row["dataset"] == "imagenet" for row in rows)
    tiny = "tiny nets" if any(row["model"].startswith("tiny-") for row in rows) else ""
    small = "" if carries else " and ".join(filter(None, ["Small data", tiny])) + " do not carry over to ImageNet."
    failed = any(top1_failure(row, 0.0) is not None for row in rows)
    said = f"{', '.join(parts)}{f'. {means}' if several else '; no interval.'}"
    return " ".join(filter(None, [said, rest if failed else "", small]))


def _counted(values: Sequence[int], word: str) -> str:
    return f"{_ends(values)} {word}{'s'[: values[-1] != 1]}"


def _ends(values: Sequence[int]) -> str:
    return f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"
