"""Rows of every kind together: a table a kind for people, or one of raw values with the kind in its first column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nfbench.analysis import clips as clip_rows
from nfbench.analysis.columns import grouped, ordered
from nfbench.analysis.compare import Ratio
from nfbench.analysis.relative import KEYS
from nfbench.analysis.rows import Row, family_of
from nfbench.showing import accuracy, chosen, clips, counted, ratios, relative, results
from nfbench.showing.tables import Format

Rows = list[Row]


class OfRatio(Row):
    """A row with the ratio that it was made of, from which the table for people is made."""

    def __init__(self, values: Row, ratio: Ratio) -> None:
        super().__init__(values)
        self.ratio = ratio


@dataclass(frozen=True)
class Kinds:
    """The rows of each kind that results hold; ``ratios`` are what `of_ratios` gives."""

    steps: Rows
    ratios: Rows
    clips: Rows
    trained: Rows
    counted: Rows

    @property
    def each(self) -> dict[str, Rows]:
        """The rows of each kind, by what a person calls them."""
        return {
            "timed steps": self.steps,
            "ratios measured in turns": self.ratios,
            "clips": self.clips,
            "training runs": self.trained,
            "counts": self.counted,
        }

    @property
    def rows(self) -> Rows:
        """All of them."""
        return [row for rows in self.each.values() for row in rows]

    def changed(self, change: Callable[[Rows], Rows]) -> Kinds:
        """Each kind's rows as ``change`` gives them."""
        return Kinds(*map(change, self.each.values()))

    def groups(self, keys: Sequence[str]) -> list[Kinds]:
        """The kinds of each group of rows that are equal in all ``keys``."""
        groups = [{id(row) for row in group} for group in grouped(self.rows, keys)]
        return [self.changed(lambda rows, g=g: [row for row in rows if id(row) in g]) for g in groups]  # type: ignore[misc]


def of_ratios(found: Iterable[Ratio]) -> Rows:
    """`ratios.rows` with the kind, the model and the settings of the net, so that they are chosen like other rows."""
    found = list(found)
    rows: Rows = []
    for ratio, row in zip(found, ratios.rows(found), strict=True):
        net, model = ratio.net.resolved, ratio.net.workload.model
        about: Row = {"kind": "ratio", "model": model, "family": family_of(model), "batch": ratio.net.step.batch}
        if net is not None:
            about |= {"px": net.px, "precision": net.precision, "layout": net.layout}
        about |= {"baseline_model": ratio.baseline.workload.model, "status": "ok", "start": ratio.net.start}
        rows.append(OfRatio({**about, **{name: value for name, value in row.items() if name != "shown"}}, ratio))
    return rows


def text(kinds: Kinds, format: Format, groups: Sequence[str] = (), order: Sequence[str] = ()) -> str:
    """The tables as text, their rows by ``order``, as `columns.ordered` takes it.

    ``groups`` are keys of which each group has tables of its own and a heading, or stands together in the raw table.
    """
    if format in ("csv", "json"):
        alone = not kinds.trained and not kinds.ratios and not kinds.counted
        rows = [*kinds.clips, *kinds.steps] if alone else kinds.rows
        return chosen.raw(ordered(rows, order), _keys(kinds), format, groups)
    kinds = kinds.changed(lambda rows: ordered(rows, order))
    parts = [chosen.above(part.rows[0], groups, format) + _people(part, format) for part in kinds.groups(groups)]
    return "\n".join(parts)


def against(kinds: Kinds, format: Format, groups: Sequence[str] = (), order: Sequence[str] = ()) -> str:
    """The timed steps and the training runs with their ratios to the baseline's, as `relative.laid`; else as `text`."""
    if format in ("csv", "json"):
        keys = list(dict.fromkeys(("kind", "model", *KEYS, *(key for key in _keys(kinds)))))
        return chosen.raw(ordered(kinds.rows, order), keys, format, groups)
    kinds = kinds.changed(lambda rows: ordered(rows, order))
    parts = [
        chosen.above(part.rows[0], groups, format) + "\n".join(table.text(format) for table in relative.laid(part.rows))
        for part in kinds.groups(groups)
    ]
    return "\n".join(parts)


def _people(kinds: Kinds, format: Format) -> str:
    parts = [results.wide(kinds.steps, format)] if kinds.steps else []
    parts += (
        [ratios.table([row.ratio for row in kinds.ratios if isinstance(row, OfRatio)], format)] if kinds.ratios else []
    )
    parts += [clips.tables(kinds.clips, clip_rows.shares(kinds.steps), format)] if kinds.clips else []
    parts += [accuracy.wide(kinds.trained, format)] if kinds.trained else []
    parts += [counted.table(kinds.counted, format)] if kinds.counted else []
    return "\n".join(parts)


def _keys(kinds: Kinds) -> list[str]:
    """The columns of the raw table: those of its one kind, or of each of its kinds after the kind itself."""
    steps, trained, alone = ([c.key for c in columns] for columns in (results.ALL, accuracy.RAW, clips.RAW))
    held = [name for name, rows in kinds.each.items() if rows]
    if set(held) <= {"timed steps"}:
        return steps
    if held == ["training runs"]:
        return trained
    if set(held) <= {"timed steps", "clips"}:
        return alone
    keys = ["kind", "model"]
    keys += trained if kinds.trained else []
    keys += alone if kinds.clips else []
    keys += steps if kinds.steps else []
    for rows in (kinds.ratios, kinds.counted):
        keys += [key for row in rows for key in row]
    return list(dict.fromkeys(keys))
