"""Tables of what was counted: MACs, parameters and activations, and how far images depend on each other."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench.analysis.rows import Row
from nfbench.showing.laid import Laid
from nfbench.showing.tables import Column, Format, render
from nfbench.units import ABSENT, si, significant

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
_ABOUT = (*_SETTINGS, "family", "machine", "software")


def table(rows: Sequence[Row], format: Format) -> str:
    """The rows, each kind with the readings that it has; csv and json in one table, raw."""
    if format in ("csv", "json"):
        return render(_columns(rows, raw=True), rows, format)
    return "\n".join(part.text(format) for part in laid(rows))


def laid(rows: Sequence[Row]) -> list[Laid]:
    """A table for a person of each kind."""
    kinds = dict.fromkeys(row["kind"] for row in rows)
    parts = [[row for row in rows if row["kind"] == kind] for kind in kinds]
    return [
        _upright(part) if part[0]["kind"] == "dependence" else Laid(_columns(part, raw=False), part) for part in parts
    ]


def _upright(rows: Sequence[Row]) -> Laid:
    """A net across, a quantity down: there are more of these than a screen is wide."""
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in (*_ABOUT, "kind")]
    settings = [name for name in ("px", "batch", "agc") if any(name in row for row in rows)]
    settings += ["status"] if any(row["status"] != "ok" for row in rows) else []
    nets = [Column(f"net {place}", row["model"]) for place, row in enumerate(rows)]
    lines = [
        {"what": _WORDS.get(name, name.replace("_", " "))}
        | {
            f"net {place}": _number(row.get(name)) if isinstance(row.get(name), float) else str(row.get(name, ABSENT))
            for place, row in enumerate(rows)
        }
        for name in (*settings, *names)
    ]
    return Laid([Column("what", "dependence", right=False), *nets], lines)


def _columns(rows: Sequence[Row], raw: bool) -> list[Column]:
    names = dict.fromkeys(name for row in rows for name in row)
    found = [Column(name, name, right=name not in ("kind", "model", "status")) for name in _SETTINGS if name in names]
    for name in names:
        if name in _COUNTS:
            found.append(Column(name, {"macs": "MACs", "train_macs": "MACs, training"}.get(name, name), _count))
        elif name not in _ABOUT:
            found.append(Column(name, name.replace("_", " "), _number))
    more = [Column(name, name, right=False, spare=3) for name in ("machine", "software") if name in names]
    return [*found, *(more if raw else [])]


def _count(value: float | None) -> str:
    return si(value, "", 4).rstrip()


def _number(value: float | None) -> str:
    return ABSENT if value is None else significant(value, 3) if abs(value) >= 1e-3 or not value else f"{value:.1e}"
