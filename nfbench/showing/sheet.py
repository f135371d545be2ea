"""A few timed steps side by side: a column a row, a line a quantity, and what is reported of the nets below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from nfbench.analysis import rows as of_steps
from nfbench.analysis.metrics import METRICS
from nfbench.catalog.published import PAPER
from nfbench.records import PHASES, SIMULATED
from nfbench.showing import views
from nfbench.showing.tables import Column, Format, Line, Row, plain, render, telling, upright
from nfbench.showing.views import SETTINGS, accumulates, step_time
from nfbench.units import ABSENT

_REPORTED = tuple(Column(m.key, m.title, m.show) for m in METRICS["step-time"] if m.key.startswith("reported_"))
_QUANTITIES = tuple(Column(m.key, m.title, m.show) for m in METRICS["step-time"] if m.title and not m.interval)
_TITLE = f"Reported, not measured here: a step of batch 32 per device ({PAPER})"
_NAMED, _AT_THE_TOP = ("px", "norm", "agc", "optimizer", "compile"), ("batch", "micro_batch", "precision", "layout")


def sheet(rows: Sequence[of_steps.Row], format: Format) -> str:
    """One column a row and one line a quantity, for a few models side by side, and what is reported of them in a table
    of its own; CSV and JSON as in `views`."""
    if format in ("csv", "json"):
        return views.view(rows, "steps", format)
    measured = upright("", [plain(row.get("model")) for row in rows], _lines(rows), rows).text(format)
    return "\n".join([measured, *_reported(rows, format)])


def _lines(rows: Sequence[Row]) -> Iterator[Line]:
    if any(SIMULATED in str(row.get("machine")) for row in rows):
        yield "machine", lambda row: plain(row.get("machine"))
    yield from (("precision", _precision), ("layout", _layout), ("batch", _batch))
    for column in SETTINGS:
        held = column.key not in _AT_THE_TOP and any(column.key in row for row in rows)
        if column.key in _NAMED or held:
            yield column.title, column.text
    yield "step time", step_time
    for column in _QUANTITIES:
        if column not in _REPORTED and any(column.key in row for row in rows):
            yield column.title, partial(_cell, column=column)
    yield "steps timed", _steps


def _reported(rows: Sequence[Row], format: Format) -> list[str]:
    """What the paper reports of the nets, a column a source, where it does."""
    reported = {row["model"]: row for row in rows if any(c.holds(row) for c in _REPORTED)}
    if not reported:
        return []
    columns = [replace(c, title=c.title.removeprefix("reported: ")) for c in _REPORTED]
    columns = [Column("model", "model", right=False), *columns]
    return [render(telling(columns, [*reported.values()]), [*reported.values()], format, _TITLE)]


def _precision(row: Row) -> str:
    precision = plain(row.get("precision"))
    return f"auto → {precision}" if row.get("asked_precision") == "auto" else precision


def _layout(row: Row) -> str:
    """'nhwc (nchw 1.4× the time)' where both were tried and one is quicker beyond doubt."""
    layout = row.get("layout")
    trials = {name: row.get(f"trial_{name}") for name in ("nchw", "nhwc")}
    if layout is None or row.get("asked_layout") != "best":
        return plain(layout)
    if "layout_trial" in row:
        return f"{layout} (trial {row['layout_trial']})"
    other = "nchw" if layout == "nhwc" else "nhwc"
    time, other_time = trials[layout], trials[other]
    if time and other_time:
        return f"{layout} ({other} {other_time / time:.2f}× the time)"
    return f"{layout} ({other} does not fit)" if time else str(layout)


def _batch(row: Row) -> str:
    parts = [f"{row['world_size']} ranks"] if "world_size" in row else []
    parts += [str(row["accumulation_steps"])] if accumulates(row) else []
    text = plain(row.get("batch"))
    return f"{text} ({' × '.join(parts)} × {row['micro_batch']})" if parts and "micro_batch" in row else text


def _cell(row: Row, column: Column) -> str:
    text = column.text(row)
    step_time = row.get("step_time")
    if column.key == "clipped_units" and row.get("inspected_images", row["batch"]) < row["batch"]:
        text += f" (over {row['inspected_images']:.0f} images)"
    if column.key in PHASES and step_time and column.key in row:
        text += f" ({100 * row[column.key] / step_time:.0f} %)"
    return text


def _steps(row: Row) -> str:
    why = {"within": "narrow enough", "max_time": "at the cap", "turn_time": "end of turn"}.get(
        row.get("stopped_by", "")
    )
    steps = row.get("steps")
    unit = f" of {row['passes']:.0f} passes" if row.get("composed") and "passes" in row else ""
    return (ABSENT if steps is None else f"{steps:,.0f}") + unit + (f" ({why})" if why else "")
