"""The epochs of training runs as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nfbench import units
from nfbench.analysis import accuracy
from nfbench.records import Result
from nfbench.showing.accuracy_columns import points, rate, share, si
from nfbench.showing.tables import Column, Format, render


def _number(value: float | None) -> str:
    return units.ABSENT if value is None else units.significant(value, 3)


COLUMNS: tuple[Column, ...] = (
    Column("epoch", "epoch"),
    Column("runs", "runs"),
    Column("learning_rate", "lr", rate, spare=1),
    Column("train_loss", "train loss", _number),
    Column("test_loss", "test loss", _number, spare=9),
    Column("top1", "top-1", share),
    Column("top5", "top-5", share, spare=7),
    Column("ema_top1", "EMA", share),
    Column("batch_top1", "batch statistics", share, spare=8),
    Column("gap", "gap", points),
    Column("gradient_norm", "gradient norm", _number, spare=3),
    Column("clipped_gradient_norm", "→ clipped", _number, spare=4),
    Column("clipped_units", "units clipped", lambda share: units.percent(share, 2), spare=2),
    Column("throughput", "images/s", units.number, spare=2),
    Column("data_share", "data", lambda share: units.percent(share, 2), spare=5),
    Column("energy", "energy", si("J"), spare=6),
)
_RAW = ["epoch", "runs", "throughput", "data_share", "gap"]


def table(results: Sequence[Result], format: Format) -> str:
    """One line an epoch: of one result, or the mean over several, such as seeds. CSV and JSON hold all, raw."""
    rows = accuracy.epochs(results)
    if format in ("csv", "json"):
        return render([Column(key, key) for key in (*_RAW, *accuracy.EPOCH)], rows, format)
    columns = [
        c
        for c in COLUMNS
        if any(row.get(c.key) is not None for row in rows)
        and (c.key != "runs" or len({row["runs"] for row in rows}) > 1)
    ]
    title = f"Each epoch, means of {len(results)} runs" if len(results) > 1 else None
    return render([replace(c, spare=0) if c.key == "runs" else c for c in columns], rows, format, title=title)
