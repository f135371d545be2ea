"""Results that were counted or looked into, not timed, as rows: one row a workload and machine, the newest."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nfbench.analysis.rows import Row, family_of, machine_names, software_name
from nfbench.records import Dependence, Flops, Result, key
from nfbench.units import grouped


def count_rows(results: Iterable[Result]) -> list[Row]:
    """One row each of raw values: the settings, the status, and every reading under its name, the mean over seeds."""
    counts = [r for r in results if isinstance(r.workload, Flops | Dependence)]
    groups = grouped(counts, lambda r: (key(r.workload), r.machine))
    names = machine_names(machine for _, machine in groups)
    found = []
    for (_, machine), group in groups.items():
        latest = max(group, key=lambda r: r.start)
        sound = [r for r in group if r.software == latest.software]
        row: Row = {
            "kind": latest.workload.__struct_config__.tag,
            "model": latest.workload.model,
            "family": family_of(latest.workload.model),
            "status": latest.status,
            "machine": names[machine],
            "software": software_name(latest.software),
            **{k: v for k, v in msgspec.structs.asdict(latest.workload).items() if k != "model"},
        }
        for reading in latest.readings:
            if reading.unit == "s":
                continue
            values = [v for r in sound if (v := r.value(reading.name)) is not None]
            if values:
                mean = sum(values) / len(values)
                row[reading.name] = int(mean) if mean == int(mean) and reading.name in ("px", "batch") else mean
        found.append({k: v for k, v in row.items() if v is not None})
    return found
