"""Rows of every kind: a table a kind for people, one of raw values for all, and the columns that were asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nfbench import units
from nfbench.analysis.query import is_number, ordered, values
from nfbench.analysis.relative import KEYS
from nfbench.analysis.rows import Row, family_of
from nfbench.analysis.turn_ratios import Ratio
from nfbench.showing import accuracy, baseline_tables, comparison, cost_tables, results, tables
from nfbench.showing.tables import Column, Format, Laid, keyed, plain
from nfbench.units import LONGEST, shorten

_RAW = keyed(("train_macs", "activations", *KEYS))
_SHOWN = (
    *comparison.COLUMNS,
    *cost_tables.STEPS,
    *cost_tables.CLIPS,
    *accuracy.COLUMNS,
    *results.ALL,
    *baseline_tables.COLUMNS,
)
KNOWN: dict[str, Column] = {c.key: c for c in (*accuracy.RAW, *cost_tables.RAW, *_RAW, *_SHOWN)}
"""What rows are known to have, by key, with its heading and how it is shown."""
_HEADINGS = {
    "best_top1": "best top-1",
    "ema_top1": "EMA top-1",
    "train_step_time": "training step",
    "training_flops": "FLOPs of the training",
    "speedup": "speedup",
    "time_to_bn": "time to bn",
    "diverged_at": "diverged at",
}
"""Where a heading says too little beside columns of all kinds."""
_FORMS: tuple[tuple[str, Callable[[Any], str]], ...] = (
    (r"top1_difference_.*", accuracy.points),
    (r".*top[15].*|.*_share|target", units.share),
    (r".*_ratio_.*|deterministic_cost", lambda value: f"{units.significant(value, 4)} ×"),
    (r".*time.*|trial_.*", units.seconds),
    (r".*_bytes", units.bytes_),
    (r"copy_bandwidth", results.si("B/s")),
    (r"train_macs|activations", results.si("")),
)
"""How numbers are shown that only raw tables hold, by what their key looks like."""
_INSTEAD = {
    "peak_allocated": ("peak_reserved", "peak_rss"),
    "peak_reserved": ("peak_allocated", "peak_rss"),
    "peak_rss": ("peak_allocated",),
    "step_time": ("train_step_time", "time"),
    "train_step_time": ("step_time",),
    "step_energy": ("image_energy",),
    "image_energy": ("step_energy",),
    "top1": ("best_top1",),
    "micro_batch": ("batch",),
}
"""Columns of much the same, the nearest first."""
_SENTENCES, _SENTENCE = ("settings", "reported", "message", "software"), 400


class OfRatio(Row):
    """A row with the ratio that it was made of, which a figure draws."""

    def __init__(self, row: Row, ratio: Ratio) -> None:
        super().__init__(row)
        self.ratio = ratio


def of_ratios(measured: Sequence[Ratio]) -> list[Row]:
    """Give `comparison.rows` a kind, a model and the settings of the net, so that they are chosen like other rows."""
    rows: list[Row] = []
    for ratio, row in zip(measured, comparison.rows(measured), strict=True):
        net, model = ratio.net.resolved, ratio.net.workload.model
        about: Row = {"kind": "ratio", "model": model, "family": family_of(model), "batch": ratio.net.step.batch}
        if net is not None:
            about |= {"px": net.px, "precision": net.precision, "layout": net.layout}
        about |= {"baseline_model": ratio.baseline.workload.model, "status": "ok", "start": ratio.net.start}
        rows.append(OfRatio(about | row, ratio))
    return rows


@dataclass(frozen=True)
class Kinds:
    """The rows of each kind that results hold; ``ratios`` are what `of_ratios` gives."""

    steps: Sequence[Row] = ()
    ratios: Sequence[Row] = ()
    clips: Sequence[Row] = ()
    trained: Sequence[Row] = ()
    counted: Sequence[Row] = ()

    @property
    def each(self) -> dict[str, Sequence[Row]]:
        """The rows of each kind, by what a person calls them."""
        return {
            "timed steps": self.steps,
            "ratios measured in turns": self.ratios,
            "clips": self.clips,
            "training runs": self.trained,
            "counts": self.counted,
        }

    @property
    def rows(self) -> list[Row]:
        """All of them."""
        return [row for rows in self.each.values() for row in rows]


def laid(kinds: Kinds) -> dict[str, list[Laid]]:
    """The tables of each kind for a person, by the name of the file in which they are kept."""
    return {
        name: made
        for name, rows, made in (
            ("steps", kinds.steps, [results.laid(kinds.steps)]),
            ("ratios", kinds.ratios, [comparison.laid(kinds.ratios)]),
            ("clips", kinds.clips, cost_tables.laid(kinds.clips, kinds.steps)),
            ("accuracy", kinds.trained, [accuracy.laid(kinds.trained)]),
            ("counted", kinds.counted, cost_tables.counts_laid(kinds.counted)),
        )
        if rows
    }


def texts(kinds: Kinds, format: Format) -> dict[str, str]:
    """The same as text; as CSV or JSON all that there is of each kind, raw."""
    if format in ("rich", "md"):
        return {name: "\n".join(part.text(format) for part in parts) for name, parts in laid(kinds).items()}
    made = {
        "steps": (results.ALL, kinds.steps),
        "ratios": (comparison.RAW, kinds.ratios),
        "clips": (cost_tables.RAW, [*kinds.clips, *kinds.steps] if kinds.clips else ()),
        "accuracy": (accuracy.RAW, kinds.trained),
        "counted": (cost_tables.columns(kinds.counted), kinds.counted),
    }
    return {name: tables.raw(columns, rows, format) for name, (columns, rows) in made.items() if rows}


def text(kinds: Kinds, format: Format, order: Sequence[str] = (), against: bool = False) -> str:
    """All kinds as text, their rows by ``order``, as `columns.ordered` takes it: a table a kind, or one as CSV or JSON.

    Rows that have ratios ``against`` a baseline's are shown as `baseline_tables.laid` has it.
    """
    if format in ("csv", "json"):
        keys = _keys(kinds)
        rows = kinds.rows
        if against:
            keys = ["kind", "model", *KEYS, *keys]
        elif not kinds.trained and not kinds.ratios and not kinds.counted:
            rows = [*kinds.clips, *kinds.steps]
        return raw(ordered(rows, order), keys, format)
    kinds = Kinds(*(ordered(rows, order) for rows in kinds.each.values()))
    if against:
        return "\n".join(part.text(format) for part in baseline_tables.laid(kinds.rows))
    return "\n".join(texts(kinds, format).values())


def _keys(kinds: Kinds) -> list[str]:
    """The columns of the raw table: those of its one kind, or of each of its kinds after the kind itself."""
    steps, trained, clipped = ([c.key for c in columns] for columns in (results.ALL, accuracy.RAW, cost_tables.RAW))
    held = [name for name, rows in kinds.each.items() if rows]
    if set(held) <= {"timed steps"}:
        return steps
    if held == ["training runs"]:
        return trained
    if set(held) <= {"timed steps", "clips"}:
        return clipped
    keys = ["kind", "model"]
    keys += trained if kinds.trained else []
    keys += clipped if kinds.clips else []
    keys += steps if kinds.steps else []
    return [*keys, *(key for row in (*kinds.ratios, *kinds.counted) for key in row)]


def raw(rows: Sequence[Row], keys: Iterable[str], format: Format) -> str:
    """The rows as CSV or JSON, in SI units."""
    return tables.raw(keyed(keys), rows, format)


def chosen(rows: Sequence[Row], keys: Sequence[str]) -> Laid:
    """The columns ``keys`` in that order, for a person: with units, and a step time or a top-1 with its interval."""
    if len({row.get("kind") for row in rows}) > 1 and "kind" not in keys:
        # images a second of a timed step are not those of a training run with its data
        keys = ["kind", *keys]
    return Laid([_chosen(key, any(is_number(row.get(key)) for row in rows)) for key in keys], rows)


def _chosen(key: str, right: bool) -> Column:
    column = KNOWN.get(key)
    title = shorten(key).replace("_", " ") if column is None or column.title == key else column.title
    return Column(key, _HEADINGS.get(key, title), right=right, cell=partial(_text, key=key))


def _text(row: tables.Row, key: str) -> str:
    value, column = row.get(key), KNOWN.get(key)
    if value is None:
        return units.ABSENT
    if column is not None and column.cell is not None:
        return shorten(column.cell(row), _SENTENCE)
    if is_number(value):
        if column is not None and column.show is not plain:
            return column.show(value)
        forms = [show for pattern, show in _FORMS if re.fullmatch(pattern, key)]
        return forms[0](value) if forms else f"{value:.4g}" if isinstance(value, float) else str(value)
    return shorten(", ".join(str(one) for one in values(value)), _SENTENCE if key in _SENTENCES else LONGEST)


def without(kinds: Kinds, keys: Sequence[str]) -> list[str]:
    """The kinds whose rows hold nothing of what ``keys`` tell beyond what all kinds have, where another does."""
    held = {kind: {name for row in rows for name in row} for kind, rows in kinds.each.items() if rows}
    telling = [key for key in keys if any(key in names for names in held.values())]
    telling = [key for key in telling if not all(key in names for names in held.values())]
    return [kind for kind, names in held.items() if telling and not names & set(telling)]


def instead(kinds: Kinds, keys: Sequence[str]) -> list[str]:
    """Of each kind that has none of a column that was asked for, and one that tells the same in another way: a line."""
    lines = []
    for kind, rows in kinds.each.items():
        held = {name for row in rows for name in row}
        for key in keys:
            near = [other for other in _INSTEAD.get(key, ()) if other in held and other not in keys]
            if near and key not in held:
                lines.append(f"No {key} in {kind} ({len(rows)}); they have {', '.join(near)}.")
    return lines
