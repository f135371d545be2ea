"""Tables of what the clip takes, of counted MACs and parameters, and of how far images depend on each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from nfbench import units
from nfbench.analysis.query import grouped
from nfbench.analysis.rows import Row, clip_shares
from nfbench.showing import tables
from nfbench.showing.results import count, si
from nfbench.showing.tables import Column, Laid, keyed, telling, upright, with_ends
from nfbench.units import ABSENT, significant

_rate = si("B/s")


def _times(value: float | None) -> str:
    return units.ABSENT if value is None else f"{units.significant(value, 3)} ×"


CLIPS: tuple[Column, ...] = (
    Column("model", "model", right=False),
    Column("clipped", "over the limit", units.percent),
    Column("impl", "clip by", right=False),
    Column("time", "a call", cell=lambda row: units.seconds_interval(*with_ends(row, "time"))),
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
    copied = units.grouped((row for row in rows if "copy_bandwidth" in row), lambda row: str(row["machine"]))
    rates = {machine: [row["copy_bandwidth"] for row in alike] for machine, alike in copied.items()}
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


_COUNTS = ("macs", "train_macs", "params", "activations")
_SETTINGS = ("kind", "model", "px", "batch", "agc", "status")
_WORDS = {
    "batch": "images of the batch",
    "agc": "λ asked for",
    "clipping": "λ of the clip",
    "output_rest_changed": "output of an image: the rest of its batch changed",
    "output_evaluation_others": "output of an image: in evaluation, statistics of others",
    "output_rounding": "output of an image: rounding",
    "share_rest_changed_no_agc": "its share of the update without AGC: the rest changed",
    "share_rounding_no_agc": "its share of the update without AGC: rounding",
    "share_rest_changed_agc": "its share of the update with AGC: the rest changed",
    "share_rounding_agc": "its share of the update with AGC: rounding",
    "clipped_units": "share of units that AGC shortens",
}
"""What a setting or a reading of dependence is, to a person."""
CHANGES = "Changes are relative to what changes: 0.01 is 1 %. Rounding is what 0 looks like here."
_ABOUT = ("family", "machine", "software")


def counts_laid(rows: Sequence[Row]) -> list[Laid]:
    """A table for a person of each kind."""
    return [
        _upright(part)
        if part[0]["kind"] == "dependence"
        else Laid([c for c in columns(part) if c.key not in _ABOUT], part)
        for part in grouped(rows, ["kind"])
    ]


def columns(rows: Sequence[Row]) -> list[Column]:
    """A column for each key that a row has: the settings first, where it was counted last."""
    names = dict.fromkeys(name for row in rows for name in row)
    order = [*(name for name in _SETTINGS if name in names), *(n for n in names if n not in (*_SETTINGS, *_ABOUT))]
    return [_column(name) for name in (*order, *(name for name in _ABOUT[1:] if name in names))]


def _column(name: str) -> Column:
    if name in _COUNTS:
        return Column(name, {"macs": "MACs", "train_macs": "MACs, training"}.get(name, name), _count)
    if name in _SETTINGS:
        return Column(name, name, right=name not in ("kind", "model", "status"))
    return Column(name, name.replace("_", " "), _number)


def _upright(rows: Sequence[Row]) -> Laid:
    """A net across, a quantity down: there are more of these than a screen is wide."""
    names = dict.fromkeys(name for row in rows for name in row)
    failed = any(row["status"] != "ok" for row in rows)
    settings = [name for name in ("px", "batch", "agc", "status") if name in names and (name != "status" or failed)]
    quantities = [name for name in names if name not in (*_SETTINGS, *_ABOUT)]
    lines = [(_WORDS.get(name, name.replace("_", " ")), partial(_cell, name=name)) for name in (*settings, *quantities)]
    return upright("dependence", [row["model"] for row in rows], lines, rows)


def _cell(row: tables.Row, name: str) -> str:
    return _number(row.get(name)) if isinstance(row.get(name), float) else str(row.get(name, ABSENT))


def _count(value: float | None) -> str:
    return units.si(value, "", 4).rstrip()


def _number(value: float | None) -> str:
    return ABSENT if value is None else significant(value, 3) if abs(value) >= 1e-3 or not value else f"{value:.1e}"
