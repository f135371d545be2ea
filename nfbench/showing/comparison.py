"""Nets that are compared: in what they differ, what is doubtful, and the sentence that answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from nfbench import units
from nfbench.analysis import turn_ratios
from nfbench.analysis.findings import Finding
from nfbench.analysis.rows import Row
from nfbench.analysis.turn_ratios import Ratio
from nfbench.catalog import published
from nfbench.records import StepTime
from nfbench.settings import SAM, beside_models
from nfbench.showing.tables import plain
from nfbench.showing.views import SETTINGS
from nfbench.units import shorten

_TRAINED = ("dataset", "epochs", "recipe", "weights", "test_px", "lr", "augment")


def lines(rows: Sequence[Row], ratios: Sequence[Ratio | None]) -> list[Row]:
    """The table of a comparison, a line per net; ``ratios`` are those of the first to each of the others, None
    where there is none."""
    return [
        {**_line(row, rows[0], ratio), "name": name}
        for row, ratio, name in zip(rows, (None, *ratios), labels(rows), strict=True)
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


def differing(rows: Sequence[Row]) -> list[str]:
    """Every setting in which another net differs from the first, a line per net."""
    first, *others = labels(rows)
    pairs = [(label, differences(rows[0], row)) for label, row in zip(others, rows[1:], strict=True)]
    return [f"{first} differs from {label} in: {'; '.join(parts)}" for label, parts in pairs if parts]


def differences(row: Row, base: Row, without: Collection[str] = ()) -> list[str]:
    """Every setting, but for some, in which two rows differ: "px 224 against 600"."""
    if "px" not in row or "px" not in base:  # one that failed before anything was settled
        return []
    if row.get("norm") != base.get("norm"):  # nets with another normalization standardize no weights
        without = {*without, "standardize"}
    return _against({c.title: (row.get(c.key), base.get(c.key)) for c in SETTINGS if c.key not in without})


def against_baseline(base: Row, row: Row) -> list[str]:
    """Every setting in which ``row`` differs from its ``base``: "batch 8 against 32", the row's own first."""
    # whole batches differ by their batch, and what has no SAM has no share of it
    implied = ["micro_batch"] if all(r.get("micro_batch") == r.get("batch") for r in (row, base)) else []
    implied += [] if "sam" in row and "sam" in base else SAM[1:]
    names = (*(_TRAINED if row["kind"] == "accuracy" else ()), "composed")
    pairs: dict[str, tuple[object, object]] = {n.replace("_", " "): (row.get(n), base.get(n)) for n in names}
    versions = [str(r["software"]).split(", ") for r in (row, base)]
    of_row, of_base = (", ".join(p for p in a if p not in b) for a, b in (versions, versions[::-1]))
    return [*differences(row, base, implied), *_against(pairs | {"software": (of_row or None, of_base or None)})]


def _against(pairs: Mapping[str, tuple[object, object]]) -> list[str]:
    texts = {title: [shorten(plain(value)) for value in both] for title, both in pairs.items()}
    return [f"{title} {first} against {second}" for title, (first, second) in texts.items() if first != second]


def sentence(ratios: Sequence[Ratio]) -> str:
    """ "On NVIDIA H200, bf16: nfnet-f1 trains 5.2 ± 0.1 times as fast as efficientnet-b7 (…); reported: 8.7 (…)"."""
    return turn_ratios.sentence(ratios, _reported_too)


def _reported_too(ratio: Ratio) -> str:
    reported = _paper(turn_ratios.reported(ratio.net, ratio.baseline))
    return f", where the paper reports {reported}" if reported else ""


def reported(ratios: Sequence[Ratio]) -> list[str]:
    """Every reported figure of the same pairs, with its source: a line a pair."""
    lines = []
    for ratio in ratios:
        names = [turn_ratios.catalogued(r.workload.model) for r in (ratio.net, ratio.baseline)]
        if found := turn_ratios.reported(ratio.net, ratio.baseline):
            figures = "; ".join(f"{units.significant(r.value, 3)} ({r.source})" for r in found)
            lines.append(f"Reported for {' against '.join(names)} (the paper at batch 32 per device): {figures}")
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
        share = half / ratio.speedup.value
        width = f"± {units.percent(share, 2)}" if share <= 1 else "more than ± 100 %"
        text = f"{names}: {ratio.rounds} rounds gave {width}, wanted were ± {units.percent(within, 2)}."
        found.append(Finding("wide_ratio", text, f"Take --rounds {2 * ratio.rounds}, or a quieter machine."))
    if ratio.voided:
        text = f"{names}: {units.plural(ratio.voided, 'turn')} left out, the GPU was slowed down."
        found.append(Finding("void_turns", text, "Cool it or lock its clocks, and compare again."))
    if ratio.slowed:
        text = f"{names}: in {units.plural(ratio.slowed, 'turn')} the GPU was slowed down on both sides alike."
        found.append(Finding("slowed_alike", text, "It is the ratio of a hot card: cool it, and compare again."))
    return found


def labels(rows: Sequence[Row]) -> list[str]:
    """Each by its model, with the settings that tell those of the same model apart: "nfnet-f1 (192 px)"."""
    each = zip((str(row["model"]) for row in rows), beside_models(rows), strict=True)
    return [f"{model} ({', '.join(words)})" if words else model for model, words in each]


def names(workloads: Sequence[StepTime]) -> list[str]:
    """The `labels` of workloads."""
    return labels([msgspec.structs.asdict(workload) for workload in workloads])
