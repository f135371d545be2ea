"""A comparison of nets as a table, and as the sentence that answers it."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench import units
from nfbench.analysis import turn_ratios
from nfbench.analysis.findings import Finding
from nfbench.analysis.rows import Row
from nfbench.analysis.turn_ratios import Ratio
from nfbench.catalog import published
from nfbench.showing.names import labels
from nfbench.showing.ratios import times
from nfbench.showing.results import IMPLEMENTATION, SETTINGS, si, step_time
from nfbench.showing.tables import Column, Format, keyed, plain, render, telling

_DIFFERING = tuple(c for c in (*SETTINGS, *IMPLEMENTATION) if c.key != "model")


def table(rows: Sequence[Row], ratios: Sequence[Ratio | None], format: Format) -> str:
    """One line a net; ``ratios`` are those of the first to each of the others, None where there is none."""
    lines = [
        {**_line(row, rows[0], ratio), "name": name}
        for row, ratio, name in zip(rows, (None, *ratios), _labels(rows), strict=True)
    ]
    if format in ("csv", "json"):
        return render(_RAW, lines, format)
    first = lines[0]["name"]
    columns = [
        Column("name", "model", right=False),
        Column("speedup", f"{first} is … times as fast", cell=times),
        Column("reported_text", "reported", right=False, spare=3),
        Column("step_time", "step time", cell=step_time),
        Column("throughput", "images/s", units.number),
        Column("image_energy", "J/image", si("J"), spare=1),
    ]
    if format == "md":
        columns.append(Column("differs", f"differs from {first} in", right=False))
    return render(telling(columns, lines, always=("step_time",)), lines, format)


_RAW = keyed(
    (
        *("model", "speedup", "speedup_low", "speedup_high", "reported"),
        *("step_time", "step_time_low", "step_time_high", "throughput", "image_energy", "turns", "rounds", "noisy"),
        *(c.key for c in _DIFFERING),
        *("differs", "machine", "software", "status"),
    )
)


def _line(row: Row, first: Row, ratio: Ratio | None) -> Row:
    if row is first:
        return row
    line = {**row, "differs": "; ".join(differences(first, row)) or None}
    if ratio is None:
        return line
    if reported := turn_ratios.reported(ratio.net, ratio.baseline):
        line |= {"reported": [r._asdict() for r in reported], "reported_text": _paper(reported) or "see below"}
    speedup = ratio.speedup
    line |= {"speedup": speedup.value, "speedup_low": speedup.low, "speedup_high": speedup.high}
    return line | {"turns": ratio.turns, "rounds": ratio.rounds}


def _labels(rows: Sequence[Row]) -> list[str]:
    """The model of each, with the settings in which rows of that model differ."""
    return labels([(row["model"], {c.title: plain(row.get(c.key)) for c in _DIFFERING}) for row in rows])


def differing(rows: Sequence[Row]) -> list[str]:
    """Every setting in which another net differs from the first, a line a net."""
    first, *others = _labels(rows)
    pairs = [(label, differences(rows[0], row)) for label, row in zip(others, rows[1:], strict=True)]
    return [f"{first} differs from {label} in: {'; '.join(parts)}" for label, parts in pairs if parts]


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
    return turn_ratios.on(first.machine, first.resolved.precision if len(precisions) == 1 else None, "; ".join(clauses))


def _clause(ratio: Ratio, with_precision: bool) -> str:
    names = [r.workload.model for r in (ratio.net, ratio.baseline)]
    few = f"; {ratio.no_interval}" if ratio.no_interval else ""
    text = (
        f"a step of {names[0]} is {units.interval(*ratio.speedup)} times as fast as one of {names[1]} "
        f"({turn_ratios.where(ratio, with_precision)}{few})"
    )
    if ratio.open:
        text += ", which does not tell the faster one"
    if reported := _paper(turn_ratios.reported(ratio.net, ratio.baseline)):
        text += f", where the paper reports {reported}"
    return text


def reported(ratios: Sequence[Ratio]) -> list[str]:
    """Every reported figure of the same pairs, with its source: a line a pair."""
    lines = []
    for ratio in ratios:
        names = [turn_ratios.catalogued(r.workload.model) for r in (ratio.net, ratio.baseline)]
        if found := turn_ratios.reported(ratio.net, ratio.baseline):
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
