"""What figures left out, so that nothing is missing in silence: in lines for a person, and whole as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from nfbench.analysis.rows import Row
from nfbench.showing.kinds import KINDS, Drawing, Missing
from nfbench.showing.style import plain
from nfbench.showing.tables import printable

FILE = "left-out.csv"
_NAMED = 3
"""Rows of one reason that a line names."""
_SOURCE = {"steps": "step-time", "trained": "accuracy-vs-flops", "ratios": "speedup"}
"""The kind that draws whatever can be drawn of such rows."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", " ")
_COLUMNS = ("net", "model", "dataset", "epochs", "px", "batch", "agc", "status", "machine", "software")


def heeded(drawings: Mapping[str, Drawing], asked: Iterable[str]) -> dict[str, Drawing]:
    """The drawings whose missing rows are worth a word: those asked for; else those that have a figure, and those that
    draw whatever can be drawn."""
    wanted = set(asked) or {k for k, d in drawings.items() if d.figures or k == _SOURCE.get(KINDS[k].reads)}
    return {kind: drawing for kind, drawing in drawings.items() if kind in wanted}


def lines(drawings: Mapping[str, Drawing]) -> tuple[list[str], bool]:
    """A line for each kind and reason, with the rows that it is about, and whether all of them are named."""
    found, whole = [], True
    machines = {m.row.get("machine") for d in drawings.values() for m in d.missing}
    machines |= {row.get("machine") for d in drawings.values() for row in d.drawn}
    epochs = {m.row["epochs"] for d in drawings.values() for m in d.missing if "epochs" in m.row}
    for kind, drawing in drawings.items():
        reasons: dict[str, list[Missing]] = {}
        for missing in drawing.missing:
            reasons.setdefault(missing.why, []).append(missing)
        for why, some in reasons.items():
            names = dict.fromkeys(subject(m.row, len(machines) > 1, len(epochs) > 1) for m in some[: 4 * _NAMED])
            named = "; ".join(list(names)[:_NAMED])
            if len(some) > _NAMED:
                whole = False
                named = f"{len(some)} rows ({named}; …)"
            found.append(f"{kind}: {named}: {plain(why, 200)}")
        found += [f"{kind}: {note}" for note in drawing.notes]
    return list(dict.fromkeys(found)), whole


def subject(row: Row, machine: bool = True, epochs: bool = False) -> str:
    """The net of a row with what it was measured on: "nfnet-f0, batch 32, digits on NVIDIA H200"; with its epochs where
    rows differ in them."""
    parts = [plain(str(row.get("net", row.get("model", "?"))))]
    if "baseline" in row:
        parts = [f"{parts[0]} against {plain(str(row['baseline']))}"]
    told = [f"batch {row['batch']}"] if "batch" in row else []
    told += [f"λ {row['agc']}"] if "agc" in row and "dataset" in row else []
    told += [f"{row['epochs']} epoch{'s'[: row['epochs'] != 1]}"] if epochs and row.get("epochs") else []
    parts += [part for part in told if part not in parts[0].split(", ")]
    parts += [plain(str(row["dataset"]), 40)] if "dataset" in row else []
    return ", ".join(parts) + (f" on {plain(str(row.get('machine', '?')))}" if machine else "")


def table(drawings: Mapping[str, Drawing]) -> str:
    """Every row that is missing from a figure, as CSV for a spreadsheet: a text that one would take for a formula has
    a ' before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["figure", "why", *_COLUMNS])
    for kind, drawing in drawings.items():
        for m in drawing.missing:
            writer.writerow([kind, _text(m.why), *(_text(m.row.get(key)) for key in _COLUMNS)])
    return out.getvalue()


def _text(value: object) -> object:
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.startswith(_FORMULA) else printable(value)
