"""The charts below the tables of a study or of results, by what those tables are of."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench.analysis import sweeps
from nfbench.analysis.compare import Ratio
from nfbench.analysis.rows import Row
from nfbench.showing import answers, chart_rows, chart_sweeps
from nfbench.showing.chart import Chart, Screen
from nfbench.showing.study import Shown
from nfbench.studies.study import Study


def of_study(found: Study, seen: Shown, screen: Screen) -> Chart:
    """The chart of the tables that `answers.tables` gives a person."""
    swept = [] if found.name == answers.CLAIMS else answers.swept(found, seen)
    return _chart(swept, seen.steps, seen.trained, seen.ratios, screen)


def of_rows(steps: Sequence[Row], trained: Sequence[Row], screen: Screen, ratios: Sequence[Ratio] = ()) -> Chart:
    """The chart of rows of any results: of a sweep where most of them are of one, else of the rows themselves."""
    rows = [*steps, *trained]
    # what has more values is what was swept
    counts = sorted((_swept(some, axis), axis) for axis, some in (("agc", trained), ("batch", rows)))
    swept = [axis for (_, own), axis in reversed(counts) if 2 * own > len(rows)]
    return _chart(swept, steps, trained, ratios, screen)


def _chart(
    swept: Sequence[str], steps: Sequence[Row], trained: Sequence[Row], ratios: Sequence[Ratio], screen: Screen
) -> Chart:
    axis = swept[0] if swept else None
    steps = [row for row in steps if "noisy" not in row]
    if axis == "batch":
        drawn = chart_sweeps.batch_sweep(sweeps.batch_sweep(steps, trained), screen)
    elif axis == "agc":
        drawn = chart_sweeps.agc_sweep(sweeps.agc_sweep(trained), screen)
    else:
        drawn = chart_rows.found(steps, trained, ratios, screen)
    return drawn


def _swept(rows: Sequence[Row], name: str) -> tuple[int, int]:
    """How many values of a setting one net has at most, and how many rows are of nets with several."""
    values: dict[str, set[object]] = {}
    for row in rows:
        values.setdefault(row["model"], set()).add(row.get(name))
    several = sum(len(values[row["model"]]) > 1 for row in rows)
    return max(map(len, values.values()), default=0), several
