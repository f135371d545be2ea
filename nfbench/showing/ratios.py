"""Ratios of step times that were measured in turns, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench import units
from nfbench.analysis import compare
from nfbench.analysis.compare import Ratio, named, where
from nfbench.analysis.rows import Row, machine_names, software_name
from nfbench.showing.laid import Laid
from nfbench.showing.tables import Column, Format, render

COLUMNS = (
    Column("net", "net", right=False),
    Column("baseline", "baseline", right=False, role="setting"),
    Column("settings", "settings", right=False, role="setting"),
    Column("shown", "times as fast"),
    Column("turns", "turns", spare=3, role="outcome"),
    Column("rounds", "rounds", spare=2, role="outcome"),
    Column("reported", "reported", right=False, role="outcome"),
)
_RAW = ("speedup", "speedup_low", "speedup_high")


def rows(ratios: Sequence[Ratio]) -> list[Row]:
    """A row of raw values for each: how many times as long the baseline's step takes, with its 95 % interval."""
    names = machine_names(ratio.net.machine for ratio in ratios)
    found = []
    for ratio in ratios:
        net, baseline = named(ratio)
        value, low, high = ratio.speedup
        reported = compare.reported(ratio.net, ratio.baseline)
        row: Row = {
            "net": net,
            "baseline": baseline,
            "settings": where(ratio, True),
            "speedup": value,
            "speedup_low": low,
            "speedup_high": high,
            "shown": units.interval(value, low, high) + (f" ({ratio.no_interval})" if ratio.no_interval else ""),
            "turns": f"{ratio.turns} of {ratio.asked}" if ratio.asked > ratio.turns else ratio.turns,
            "rounds": ratio.rounds,
            "reported": "; ".join(f"{r.value:.3g} ({r.source})" for r in reported) or None,
            "machine": names[ratio.net.machine],
            "software": software_name(ratio.net.software),
        }
        found.append({k: v for k, v in row.items() if v is not None})
    return found


def table(ratios: Sequence[Ratio], format: Format) -> str:
    """The rows as a table; csv and json hold the ratio and the ends of its interval as numbers."""
    raw = [
        *(c for c in COLUMNS if c.key != "shown"),
        *(Column(name, name) for name in _RAW),
        *(Column(name, name, right=False) for name in ("machine", "software")),
    ]
    return render(raw, rows(ratios), format) if format in ("csv", "json") else laid(ratios).text(format)


def laid(ratios: Sequence[Ratio]) -> Laid:
    """The rows for a person, with the machine where there are several."""
    found = rows(ratios)
    names = {row["machine"] for row in found}
    machine = [Column("machine", "machine", right=False)] if len(names) > 1 else []
    return Laid([*COLUMNS, *machine], found)
