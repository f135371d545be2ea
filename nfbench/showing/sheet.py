"""A few nets side by side: a column each and a line a quantity, and what is reported of them apart from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from nfbench.analysis.rows import Row
from nfbench.catalog.published import PAPER
from nfbench.records import PHASES
from nfbench.showing import results
from nfbench.showing.tables import Column, Format, render
from nfbench.showing.tables import plain as _plain

_ASKED = ("sam", "sam_fraction", "sam_scope", "ema", "world_size", "broadcast_buffers")
"""Settings that a sheet shows only where they were asked for."""
_REPORTED = tuple(c for c in results.QUANTITIES if c.key.startswith("reported_"))
_TITLE = f"Reported, not measured here: a step of batch 32 a device ({PAPER})"
_SUMMED_UP = ("step_time", "step_time_low", "step_time_high")
"""What stands in the sheet as one line."""


def sheet(rows: Sequence[Row], format: Format) -> str:
    """One column a row and one line a quantity, for a few models side by side, and what is reported of them in a table
    of its own; CSV and JSON as `results.wide`."""
    if format in ("csv", "json"):
        return results.wide(rows, format)
    lines: list[dict[str, Any]] = [
        {"quantity": "precision", **_each(rows, _precision)},
        {"quantity": "layout", **_each(rows, _layout)},
        {"quantity": "batch", **_each(rows, _batch)},
        *(
            {"quantity": c.title, **_each(rows, lambda row, c=c: _plain(row.get(c.key)))}  # type: ignore[misc]
            for c in results.SETTINGS
            if c.key in ("px", "norm", "agc", "optimizer", "compile")
            or (c.key in _ASKED and any(c.key in row for row in rows))
        ),
        *(
            {"quantity": c.title, **_each(rows, lambda row, c=c: _plain(row.get(c.key)))}  # type: ignore[misc]
            for c in results.IMPLEMENTATION
            if any(c.key in row for row in rows)
        ),
        {"quantity": "step time", **_each(rows, results.with_interval)},
    ]
    for c in results.QUANTITIES:
        if c in _REPORTED or c.key in _SUMMED_UP or not any(c.key in row for row in rows):
            continue
        lines.append({"quantity": c.title, **_each(rows, lambda row, c=c: _cell(row, c))})  # type: ignore[misc]
    lines.append({"quantity": "steps timed", **_each(rows, _steps)})
    columns = [Column("quantity", "", right=False)]
    columns += [Column(str(i), _plain(row.get("model"))) for i, row in enumerate(rows)]
    return "\n".join([render(columns, lines, format), *_reported(rows, format)])


def _reported(rows: Sequence[Row], format: Format) -> list[str]:
    """What the paper reports of the nets, a column a source, where it does."""
    found = [{"model": row["model"], **{c.key: row.get(c.key) for c in _REPORTED}} for row in rows]
    found = [line for line in found if any(line[c.key] is not None for c in _REPORTED)]
    found = list({line["model"]: line for line in found}.values())
    if not found:
        return []
    kept = [
        replace(c, title=c.title.removeprefix("reported: "))
        for c in _REPORTED
        if any(line[c.key] is not None for line in found)
    ]
    return [render([Column("model", "model", _plain, right=False), *kept], found, format, _TITLE)]


def _each(rows: Sequence[Row], show: Callable[[Row], str]) -> dict[str, str]:
    return {str(i): show(row) for i, row in enumerate(rows)}


def _precision(row: Row) -> str:
    precision = _plain(row.get("precision"))
    return f"auto → {precision}" if row.get("asked_precision") == "auto" else precision


def _layout(row: Row) -> str:
    """'nhwc (nchw 1.4× the time)' where both were tried and one is quicker beyond doubt."""
    layout = row.get("layout")
    trials = {name: row.get(f"trial_{name}") for name in ("nchw", "nhwc")}
    if layout is None or row.get("asked_layout") != "best":
        return _plain(layout)
    if "layout_trial" in row:
        return f"{layout} (trial {row['layout_trial']})"
    other = "nchw" if layout == "nhwc" else "nhwc"
    mine, its = trials[layout], trials[other]
    if mine and its:
        return f"{layout} ({other} {its / mine:.2f}× the time)"
    return f"{layout} ({other} does not fit)" if mine else str(layout)


def _batch(row: Row) -> str:
    parts = [f"{row['world_size']} ranks"] if "world_size" in row else []
    parts += [str(row["accumulation_steps"])] if results.accumulates(row) else []
    text = _plain(row.get("batch"))
    return f"{text} ({' × '.join(parts)} × {row['micro_batch']})" if parts and "micro_batch" in row else text


def _cell(row: Row, column: Column) -> str:
    text = column.show(row.get(column.key))
    share = row.get("step_time")
    if column.key == "clipped_units" and row.get("inspected_images", row["batch"]) < row["batch"]:
        text += f" (over {row['inspected_images']:.0f} images)"
    if column.key in PHASES and share and column.key in row:
        text += f" ({100 * row[column.key] / share:.0f} %)"
    return text


def _steps(row: Row) -> str:
    why = {"within": "narrow enough", "max_time": "at the cap", "turn_time": "end of turn"}.get(
        row.get("stopped_by", "")
    )
    steps = row.get("steps")
    unit = f" of {row['passes']:.0f} passes" if row.get("composed") and "passes" in row else ""
    return results.count(steps) + unit + (f" ({why})" if why else "")
