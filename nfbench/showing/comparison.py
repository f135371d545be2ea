"""Nets that are compared: in what they differ, what is doubtful, and the sentence that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nfbench import units
from nfbench.analysis import turn_ratios
from nfbench.analysis.findings import Finding
from nfbench.analysis.rows import Row
from nfbench.analysis.turn_ratios import Ratio
from nfbench.catalog import published
from nfbench.records import StepTime
from nfbench.settings import BY_NAME, SAM
from nfbench.showing.tables import plain
from nfbench.showing.views import SETTINGS
from nfbench.units import shorten

_TRAINED = ("dataset", "epochs", "recipe", "weights", "test_px", "lr", "augment")


def lines(rows: Sequence[Row], ratios: Sequence[Ratio | None]) -> list[Row]:
    """What the table of a comparison shows, a line a net; ``ratios`` are those of the first to each of the others, None
    where there is none."""
    return [
        {**_line(row, rows[0], ratio), "name": name}
        for row, ratio, name in zip(rows, (None, *ratios), _labels(rows), strict=True)
    ]


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
    return labels([(row["model"], {c.title: plain(row.get(c.key)) for c in SETTINGS}) for row in rows])


def differing(rows: Sequence[Row]) -> list[str]:
    """Every setting in which another net differs from the first, a line a net."""
    first, *others = _labels(rows)
    pairs = [(label, differences(rows[0], row)) for label, row in zip(others, rows[1:], strict=True)]
    return [f"{first} differs from {label} in: {'; '.join(parts)}" for label, parts in pairs if parts]


def differences(first: Row, other: Row) -> list[str]:
    """Every setting in which two rows differ: "px 224 against 600"."""
    if "px" not in first or "px" not in other:  # one that failed before anything was settled
        return []
    pairs = [(c.title, plain(first.get(c.key)), plain(other.get(c.key))) for c in SETTINGS]
    return [f"{title} {before} against {after}" for title, before, after in pairs if before != after]


def against_baseline(base: Row, row: Row) -> list[str]:
    """Every setting in which ``row`` differs from its ``base``: "batch 8 against 32", the row's own first."""
    parts = differences(row, base)
    # whole batches differ by their batch, and what has no SAM has no share of it
    implied = ["micro-batch "] if all(r.get("micro_batch") == r.get("batch") for r in (row, base)) else []
    implied += [] if "sam" in row and "sam" in base else [f"{BY_NAME[name].heading} " for name in SAM[1:]]
    parts = [part for part in parts if not part.startswith(tuple(implied))]
    keys = (*(_TRAINED if row["kind"] == "accuracy" else ()), "composed")
    pairs = [(key.replace("_", " "), plain(row.get(key)), plain(base.get(key))) for key in keys]
    versions = [str(r["software"]).split(", ") for r in (row, base)]
    only = [", ".join(part for part in one if part not in other) for one, other in (versions, versions[::-1])]
    pairs.append(("software", only[0] or units.ABSENT, only[1] or units.ABSENT))
    return [*parts, *(f"{shorten(key)} {shorten(a)} against {shorten(b)}" for key, a, b in pairs if a != b)]


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
        text = f"{names}: {units.plural(ratio.voided, 'turn')} left out, the GPU was slowed down."
        found.append(Finding("void_turns", text, "Cool it or lock its clocks, and compare again."))
    return found


def labels(nets: Sequence[tuple[str, Mapping[str, object]]]) -> list[str]:
    """Each by its model, with the settings in which those of the same model differ: "nfnet-f1 (px 192)"."""
    texts = []
    for model, settings in nets:
        alike = [other for name, other in nets if name == model]
        telling = [key for key in settings if len({other[key] for other in alike}) > 1]
        text = ", ".join(f"{key} {settings[key]}" for key in telling)
        texts.append(f"{model} ({text})" if text else model)
    return texts


def names(workloads: Sequence[StepTime]) -> list[str]:
    """The `labels` of workloads."""
    return labels([(w.model, {name: getattr(w, name) for name in StepTime.__struct_fields__}) for w in workloads])
