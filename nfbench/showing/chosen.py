"""Rows of any kind with the columns that were asked for, and the headings of groups."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nfbench import units
from nfbench.analysis.columns import grouped, is_number, values
from nfbench.analysis.relative import KEYS
from nfbench.analysis.rows import Row
from nfbench.showing import accuracy, clips, ratios, relative, results
from nfbench.showing.laid import Laid
from nfbench.showing.tables import Column, Format, render
from nfbench.units import LONGEST, shorten

KNOWN: dict[str, Column] = {
    **{c.key: c for c in (*accuracy.RAW, *clips.RAW)},
    **{key: Column(key, key.replace("_", " ")) for key in ("macs", "train_macs", "activations", *KEYS)},
    **{c.key: c for columns in (ratios.COLUMNS, clips.STEPS, clips.CLIPS) for c in columns},
    **{c.key: c for c in (*accuracy.COLUMNS, *results.ALL)},
}
"""What rows are known to have, by key, with its heading."""
_HEADINGS = {
    "top1": "top-1",
    "best_top1": "best top-1",
    "ema_top1": "EMA top-1",
    "train_step_time": "training step",
    "training_flops": "FLOPs of the training",
}
"""Where a heading says too little beside columns of all kinds."""
_MARKUP, _ESCAPED = re.compile(r"([][`*_<>|&#~\\])"), r"\\\1"
_SHARES = re.compile(
    r"(reported_)?(best_|ema_)?top[15](_low|_high)?|clipped(_units)?|data_share|share|target|mfu|exposed"
)
_TIMES = re.compile(r"(.*_)?(step_|wall_)?time(_low|_high|_to_.*)?|time_to_.*|trial_.*|floor|first_step|clip|p5|p95")
_FACTORS = re.compile(r"(.*_ratio|speedup|over_floor|deterministic_cost)(_low|_high)?")
_FORMS: tuple[tuple[re.Pattern[str], Callable[[Any], str]], ...] = (
    (_SHARES, lambda value: f"{100 * value:.2f} %"),
    (_FACTORS, lambda value: f"{units.significant(value, 4)} ×"),
    (re.compile(r"gap|top1_difference(_low|_high)?"), lambda value: f"{100 * value:+.2f} pp".replace("-", "−")),
    (_TIMES, units.seconds),
    (re.compile(r"moved_bytes|saved_bytes"), units.bytes_),
    (re.compile(r"bandwidth|copy_bandwidth"), lambda value: units.si(value, "B/s")),
    (re.compile(r"lr|.*_loss"), lambda value: f"{value:.3g}"),
    (re.compile(r"(train_)?macs|activations"), lambda value: units.si(value, "", 4).rstrip()),
)


def laid(rows: Sequence[Row], keys: Sequence[str], title: str | None = None) -> Laid:
    """The columns ``keys`` in that order, for a person: with units, and a step time or a top-1 with its interval."""
    columns = [Column(key, heading(key), right=any(is_number(row.get(key)) for row in rows)) for key in keys]
    return Laid(columns, [{key: _text(row, key) for key in keys if row.get(key) is not None} for row in rows], title)


def table(rows: Sequence[Row], keys: Sequence[str], format: Format, groups: Sequence[str] = ()) -> str:
    """The rows with the columns ``keys``: a table a group for people, else one raw table with groups together.

    ``groups`` are keys; they come first in the raw table, and in the heading of each of the others.
    """
    if format in ("csv", "json"):
        return raw(rows, keys, format, groups)
    shown = [key for key in keys if key not in groups] or list(keys)
    if len({row.get("kind") for row in rows}) > 1 and "kind" not in (*keys, *groups):
        # images a second of a timed step are not those of a training run with its data
        shown = ["kind", *shown]
    parts = [laid(part, shown).text(format) for part in grouped(rows, groups)]
    return "\n".join(
        f"{above(part[0], groups, format)}{text}" for part, text in zip(grouped(rows, groups), parts, strict=True)
    )


def raw(rows: Sequence[Row], keys: Sequence[str], format: Format, groups: Sequence[str] = ()) -> str:
    """The rows as CSV or JSON, in SI units, groups together and their keys first."""
    columns = [Column(key, key) for key in dict.fromkeys((*groups, *keys))]
    together = [row for part in grouped(rows, groups) for row in part]
    return render(columns, results.coded(together, format), format)


def above(row: Row, groups: Sequence[str], format: Format) -> str:
    """The heading of the group of ``row``, with what ends its line; empty where there are no groups."""
    if not groups:
        return ""
    parts = [f"{heading(key)}: {_plain(row[key], key) if row.get(key) is not None else units.ABSENT}" for key in groups]
    text = " · ".join(parts)
    return f"**{_MARKUP.sub(_ESCAPED, text)}**\n\n" if format == "md" else f"{text}\n"


def heading(key: str) -> str:
    """What stands above a column."""
    column = KNOWN.get(key)
    if key in _HEADINGS:
        return _HEADINGS[key]
    return shorten(key).replace("_", " ") if column is None or column.title == key else column.title


def left_out(kinds: Mapping[str, Sequence[Row]], keys: Sequence[str]) -> list[str]:
    """The kinds whose rows hold nothing of what ``keys`` tell beyond what all kinds have, where another does."""
    held = {kind: {name for row in rows for name in row} for kind, rows in kinds.items() if rows}
    telling = [key for key in keys if any(key in names for names in held.values())]
    telling = [key for key in telling if not all(key in names for names in held.values())]
    return [kind for kind, names in held.items() if telling and not names & set(telling)]


def instead(kinds: Mapping[str, Sequence[Row]], keys: Sequence[str]) -> list[str]:
    """Of each kind that has none of a column that was asked for, and one that tells the same in another way: a line."""
    found = []
    for kind, rows in kinds.items():
        held = {name for row in rows for name in row}
        for key in keys:
            near = [other for other in _INSTEAD.get(key, ()) if other in held and other not in keys]
            if near and key not in held:
                found.append(f"No {key} in {kind} ({len(rows)}); they have {', '.join(near)}.")
    return found


def _text(row: Row, key: str) -> str:
    if key == "step_time":
        return results.with_interval(row)
    if key.endswith("_ratio") or key == "top1_difference":
        return relative.with_interval(row, key)
    return accuracy.top1(row) if key == "top1" else _plain(row[key], key)


def _plain(value: Any, key: str) -> str:
    if isinstance(value, float) or (is_number(value) and key not in _WHOLE):
        show = next((show for pattern, show in _FORMS if pattern.fullmatch(key)), None)
        column = KNOWN.get(key)
        if show is None and column is not None and key in _SHOWN:
            show = column.show
        return show(value) if show else _number(value)
    return shorten(", ".join(str(one) for one in values(value)), _SENTENCE if key in _SENTENCES else LONGEST)


def _number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
_SENTENCES, _SENTENCE = ("differs", "settings", "reported", "reported_ratios", "message", "software"), 400
_WHOLE = ("px", "test_px", "batch", "micro_batch", "epochs", "runs", "seeds", "rounds", "turns")
_SHOWN = {c.key for c in (*results.QUANTITIES, *clips.CLIPS, *accuracy.COLUMNS)}
