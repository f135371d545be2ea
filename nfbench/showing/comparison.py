"""A comparison of nets as a table, and as the sentence that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nfbench import units
from nfbench.analysis import compare
from nfbench.analysis.compare import Ratio
from nfbench.analysis.findings import Finding
from nfbench.analysis.rows import Row
from nfbench.catalog import published
from nfbench.showing.results import IMPLEMENTATION, SETTINGS, with_interval
from nfbench.showing.tables import Column, Format, plain, render

_DIFFERING = tuple(c for c in (*SETTINGS, *IMPLEMENTATION) if c.key != "model")


def table(rows: Sequence[Row], ratios: Sequence[Ratio | None], format: Format) -> str:
    """One line a net; ``ratios`` are those of the first to each of the others, None where there is none."""
    lines = [
        {**_line(row, rows[0], ratio), "name": name}
        for row, ratio, name in zip(rows, (None, *ratios), _labels(rows), strict=True)
    ]
    if format in ("csv", "json"):
        return render(_RAW, lines, format)
    first = _labels(rows)[0]
    columns = [
        Column("name", "model", right=False),
        Column("times", f"{first} is … times as fast"),
        Column("reported_text", "reported", plain, right=False, spare=3),
        Column("interval", "step time"),
        Column("throughput", "images/s", units.number),
        Column("image_energy", "J/image", lambda v: units.si(v, "J"), spare=1),
    ]
    if format == "md":
        columns.append(Column("differs", f"differs from {first} in", plain, right=False))
    kept = [c for c in columns if any(line.get(c.key) is not None for line in lines)]
    return render(kept, lines, format)


_RAW = (
    Column("model", "model"),
    Column("speedup", "speed-up"),
    Column("speedup_low", "speed-up, low"),
    Column("speedup_high", "speed-up, high"),
    Column("reported", "reported"),
    Column("step_time", "step time"),
    Column("step_time_low", "low"),
    Column("step_time_high", "high"),
    Column("throughput", "images/s"),
    Column("image_energy", "J/image"),
    Column("turns", "turns"),
    Column("rounds", "rounds"),
    Column("noisy", "noisy"),
    *_DIFFERING,
    Column("differs", "differs"),
    Column("machine", "machine"),
    Column("software", "software"),
    Column("status", "status"),
)


def _line(row: Row, first: Row, ratio: Ratio | None) -> dict[str, Any]:
    line: dict[str, Any] = {**row, "interval": with_interval(row)}
    if row is first:
        return line
    line["differs"] = "; ".join(differences(first, row)) or None
    reported = [] if ratio is None else compare.reported(ratio.net, ratio.baseline)
    if reported:
        line["reported"] = [r._asdict() for r in reported]
        line["reported_text"] = _paper(reported) or "see below"
    if ratio is not None:
        speedup = ratio.speedup
        line |= {"speedup": speedup.value, "speedup_low": speedup.low, "speedup_high": speedup.high}
        line["turns"], line["times"] = ratio.turns, _with_reason(ratio)
        line["rounds"] = ratio.rounds
    return line


def _times(ratio: Ratio) -> str:
    return units.interval(*ratio.speedup)


def _with_reason(ratio: Ratio) -> str:
    """The ratio in a table, with the reason where it has no interval."""
    return f"{_times(ratio)} ({ratio.no_interval})" if ratio.no_interval else _times(ratio)


def _labels(rows: Sequence[Row]) -> list[str]:
    """The model of each, with the settings in which rows of that model differ."""
    found = []
    for row in rows:
        same = [r for r in rows if r["model"] == row["model"]]
        titles = [c for c in _DIFFERING if len({plain(r.get(c.key)) for r in same}) > 1]
        settings = ", ".join(f"{c.title} {plain(row.get(c.key))}" for c in titles)
        found.append(f"{row['model']} ({settings})" if settings else str(row["model"]))
    return found


def differing(rows: Sequence[Row]) -> list[str]:
    """Every setting in which another net differs from the first, a line a net."""
    labels = _labels(rows)
    pairs = [(label, differences(rows[0], row)) for label, row in zip(labels[1:], rows[1:], strict=True)]
    return [f"{labels[0]} differs from {label} in: {'; '.join(found)}" for label, found in pairs if found]


def differences(first: Row, other: Row) -> list[str]:
    """Every setting in which two rows differ: "px 224 against 600"."""
    if "px" not in first or "px" not in other:  # one that failed before anything was settled
        return []
    pairs = [(c.title, plain(first.get(c.key)), plain(other.get(c.key))) for c in _DIFFERING]
    return [f"{title} {before} against {after}" for title, before, after in pairs if before != after]


def sentence(ratios: Sequence[Ratio]) -> str:
    """ "On NVIDIA H200, bf16: nfnet-f1 trains 5.2 ± 0.1 times as fast as efficientnet-b7 (…); reported: 8.7 (…)"."""
    first = ratios[0].net
    assert first.resolved is not None
    precisions = {r.resolved.precision for ratio in ratios for r in (ratio.net, ratio.baseline) if r.resolved}
    clauses = [_clause(ratio, len(precisions) > 1) for ratio in ratios]
    return compare.on(first.machine, first.resolved.precision if len(precisions) == 1 else None, "; ".join(clauses))


def _clause(ratio: Ratio, with_precision: bool) -> str:
    names = [r.workload.model for r in (ratio.net, ratio.baseline)]
    few = f"; {ratio.no_interval}" if ratio.no_interval else ""
    text = (
        f"a step of {names[0]} is {_times(ratio)} times as fast as one of {names[1]} "
        f"({compare.where(ratio, with_precision)}{few})"
    )
    if ratio.open:
        text += ", which does not tell the faster one"
    if reported := _paper(compare.reported(ratio.net, ratio.baseline)):
        text += f", where the paper reports {reported}"
    return text


def reported(ratios: Sequence[Ratio]) -> list[str]:
    """Every reported figure of the same pairs, with its source: a line a pair."""
    lines = []
    for ratio in ratios:
        names = [compare.catalogued(r.workload.model) for r in (ratio.net, ratio.baseline)]
        if found := compare.reported(ratio.net, ratio.baseline):
            figures = "; ".join(f"{units.significant(r.value, 3)} ({r.source})" for r in found)
            lines.append(f"Reported for {' against '.join(names)} (the paper at batch 32 a device): {figures}")
    return lines


def _paper(found: Sequence[published.ReportedRatio]) -> str:
    """The paper's own: "8.70 text, 8.81 TPUv3, 13.1 V100"."""
    own = [r for r in found if r.source.startswith(("Brock", published.PAPER))]
    return ", ".join(f"{units.significant(r.value, 3)} {r.source.rpartition(' ')[2]}" for r in own)


def findings(ratio: Ratio, within: float) -> list[Finding]:
    """What is doubtful about a ratio."""
    found = []
    names = f"{ratio.net.workload.model} against {ratio.baseline.workload.model}"
    half = ratio.speedup.half_width
    if half is not None and half > within * ratio.speedup.value:
        width = f"± {units.percent(half / ratio.speedup.value, 2)}"
        text = f"{names}: {ratio.rounds} rounds gave {width}, wanted were ± {units.percent(within, 2)}."
        found.append(Finding("wide_ratio", text, f"Take --rounds {2 * ratio.rounds}, or a quieter machine."))
    if ratio.voided:
        text = f"{names}: {ratio.voided} turn{'s'[: ratio.voided != 1]} left out, the GPU was slowed down."
        found.append(Finding("void_turns", text, "Cool it or lock its clocks, and compare again."))
    return found
