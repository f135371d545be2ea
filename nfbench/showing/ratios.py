"""Ratios of step times that were measured in turns, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench import units
from nfbench.analysis import turn_ratios
from nfbench.analysis.rows import Row, machine_names, software_name
from nfbench.analysis.turn_ratios import FEW_ROUNDS, Ratio, named, where
from nfbench.showing import tables
from nfbench.showing.tables import Column, Laid, keyed, telling, with_ends


def times(row: tables.Row) -> str:
    """How many times as fast, with the interval, or why there is none: a row of `rows` in words."""
    value, low, high = with_ends(row, "speedup")
    if value is None:
        return units.ABSENT
    return units.interval(value, low, high) + ("" if low is not None else f" ({FEW_ROUNDS})")


COLUMNS = (
    Column("net", "net", right=False),
    Column("baseline", "baseline", right=False),
    Column("settings", "settings", right=False),
    Column("speedup", "times as fast", cell=times),
    Column("turns", "turns", spare=3),
    Column("rounds", "rounds", spare=2),
    Column("reported", "reported", right=False),
    Column("machine", "machine", right=False),
)
RAW = keyed(
    (
        *("net", "baseline", "settings", "turns", "rounds", "reported"),
        *("speedup", "speedup_low", "speedup_high", "machine", "software"),
    )
)


def rows(ratios: Sequence[Ratio]) -> list[Row]:
    """A row of raw values for each: how many times as long the baseline's step takes, with its 95 % interval."""
    names = machine_names(ratio.net.machine for ratio in ratios)
    found = []
    for ratio in ratios:
        net, baseline = named(ratio)
        value, low, high = ratio.speedup
        reported = turn_ratios.reported(ratio.net, ratio.baseline)
        row: Row = {
            "net": net,
            "baseline": baseline,
            "settings": where(ratio, True),
            "speedup": value,
            "speedup_low": low,
            "speedup_high": high,
            "turns": f"{ratio.turns} of {ratio.asked}" if ratio.asked > ratio.turns else ratio.turns,
            "rounds": ratio.rounds,
            "reported": "; ".join(f"{r.value:.3g} ({r.source})" for r in reported) or None,
            "machine": names[ratio.net.machine],
            "software": software_name(ratio.net.software),
        }
        found.append({k: v for k, v in row.items() if v is not None})
    return found


def laid(rows: Sequence[Row]) -> Laid:
    """The rows for a person, with the machine where there are several."""
    return Laid(telling(COLUMNS, rows, always=[c.key for c in COLUMNS if c.key != "machine"]), rows)
