"""The tables of a study as a report shows them: each text with the raw value that it sorts by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nfbench.analysis import sweeps
from nfbench.showing import accuracy, answers, counted, ratios, results
from nfbench.showing import clips as show_clips
from nfbench.showing import sweeps as show_sweeps
from nfbench.showing.report import CELL, Cell, Head, Table, clean
from nfbench.showing.study import Shown
from nfbench.showing.tables import Laid
from nfbench.units import ABSENT

if TYPE_CHECKING:
    import pandas as pd


class Swept(NamedTuple):
    """What was seen over batches and over thresholds; None where no net was at several."""

    batches: pd.DataFrame | None
    clips: pd.DataFrame | None


def swept(seen: Shown) -> Swept:
    """The sweeps in what was seen."""
    return Swept(
        sweeps.batch_sweep(seen.steps, seen.trained) if answers.several(seen, "batch") else None,
        sweeps.agc_sweep(seen.trained) if answers.several(seen, "agc", steps=False) else None,
    )


def tables(seen: Shown, over: Swept) -> list[Table]:
    """The tables that are kept beside results, in the same order and with the same columns as their Markdown.

    What two of them hold stands in one.
    """
    found: list[tuple[str, Laid]] = []
    if seen.steps:
        found.append(("steps", results.laid(seen.steps)))
    if seen.ratios:
        found.append(("ratios", ratios.laid(ratios.rows(seen.ratios))))
    if seen.trained:
        found.append(("accuracy", accuracy.laid(seen.trained)))
    if seen.clips:
        found += (("clips", laid) for laid in show_clips.laid(seen.clips, seen.steps))
    if seen.counted:
        found += (("counted", laid) for laid in counted.laid(seen.counted))
    clipped = show_sweeps.agc_grids(over.clips) if over.clips is not None else []
    # at one batch the table of training says the same
    clipped = [grid for grid in clipped if len(grid.frame.columns) > 1]
    # a clip in steps of several batches is no sweep of batches
    if over.batches is not None and not seen.clips:
        grids = show_sweeps.batch_grids(over.batches)
        grids = [grid for grid in grids if grid.value != "top1" or not _held([grid]) <= _held(clipped)]
        found += (("batch-sweep", show_sweeps.laid(grid)) for grid in grids)
    found += (("agc-sweep", show_sweeps.laid(grid)) for grid in clipped)
    return [_table(name, laid) for name, laid in found]


def _held(grids: Sequence[show_sweeps.Grid]) -> Counter[tuple[str, str]]:
    """What stands in tables, each with its batch."""
    cells = ((str(batch), text) for grid in grids for batch in grid.frame.columns for text in grid.frame[batch])
    return Counter(cell for cell in cells if cell[1] != ABSENT)


_TITLES = {"steps": "Step times", "ratios": "Ratios measured in turns", "accuracy": "Training", "counted": "Counted"}


def _table(name: str, laid: Laid) -> Table:
    heads = tuple(Head(clean(c.title, 80), c.right, c.key.startswith("reported")) for c in laid.columns)
    rows = tuple(tuple(_cell(row.get(c.key), c.text(row)) for c in laid.columns) for row in laid.rows)
    return Table(name, clean(laid.title or _TITLES.get(name, name), CELL), heads, rows)


def _cell(raw: Any, text: str) -> Cell:
    number = isinstance(raw, int | float) and not isinstance(raw, bool) and abs(raw) < 2**1000 and math.isfinite(raw)
    return Cell(clean(text, CELL), float(raw) if number else None)
