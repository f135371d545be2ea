"""Rows of `agc-cost` as tables: the clip by itself, and its share of a step."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench import units
from nfbench.analysis.rows import Row, clip_shares
from nfbench.showing import tables
from nfbench.showing.results import count, si
from nfbench.showing.tables import Column, Laid, keyed, telling, with_ends

_rate = si("B/s")


def _times(value: float | None) -> str:
    return units.ABSENT if value is None else f"{units.significant(value, 3)} ×"


def _call(row: tables.Row) -> str:
    return units.seconds_interval(*with_ends(row, "time"))


CLIPS: tuple[Column, ...] = (
    Column("model", "model", right=False),
    Column("clipped", "over the limit", units.percent),
    Column("impl", "clip by", right=False),
    Column("time", "a call", cell=_call),
    Column("speedup", "timm's takes", _times),
    Column("launches", "launches", count, spare=3),
    Column("operators", "operators", count, spare=5),
    Column("bandwidth", "achieved", _rate, spare=4),
    Column("floor", "floor", units.seconds, spare=2),
    Column("over_floor", "of the floor", _times, spare=1),
    Column("machine", "machine", right=False),
    Column("status", "status", right=False),
)
STEPS: tuple[Column, ...] = (
    Column("model", "model", right=False),
    Column("batch", "batch"),
    Column("px", "px", spare=2),
    Column("precision", "precision", right=False, spare=1),
    Column("agc_impl", "clip by", right=False),
    Column("step_time", "step time", units.seconds),
    Column("clip", "clip", units.seconds),
    Column("share", "clip's share", units.percent),
    Column("clipped_units", "units clipped", units.percent, spare=3),
    Column("machine", "machine", right=False),
    Column("status", "status", right=False),
)
_RAW = """
kind model layout clipped clipped_units units impl agc_impl batch px precision time time_low time_high
speedup operators launches moved_bytes bandwidth copy_bandwidth floor over_floor
step_time clip share turns status message machine software
"""
RAW = keyed(_RAW.split())


def laid(rows: Sequence[Row], steps: Sequence[Row]) -> list[Laid]:
    """The tables for a person of clips and of ``steps``, of which each is left out where it has no row."""
    parts = ("The clip by itself", CLIPS, rows), ("The clip in a step", STEPS, clip_shares(steps))
    return [Laid(telling(columns, part), part, title) for title, columns, part in parts if part]


def legend(rows: Sequence[Row]) -> list[str]:
    """What the columns mean that need saying, with the measured bandwidth."""
    rates: dict[str, list[float]] = {}
    for row in rows:
        if "copy_bandwidth" in row:
            rates.setdefault(row["machine"], []).append(row["copy_bandwidth"])
    lines = (
        ["± is half of the 95 % interval over turns, within this run; a ratio of one process has none."] if rows else []
    )
    for machine, measured in rates.items():
        low, high = _rate(min(measured)), _rate(max(measured))
        lines.append(
            f"Floor: W, G and what is clipped of G again, at the {low if low == high else f'{low} to {high}'} "
            f"that a copy reached in the same turns{f' on {machine}' if len(rates) > 1 else ''}."
        )
    return lines
