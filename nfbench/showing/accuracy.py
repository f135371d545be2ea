"""Training runs as a table, one line a net, and what none beats for as little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nfbench import units
from nfbench.analysis import accuracy
from nfbench.analysis.rows import Row
from nfbench.showing.accuracy_columns import COLUMNS as COLUMNS
from nfbench.showing.accuracy_columns import DIFFERING, WITHIN, share, time
from nfbench.showing.accuracy_columns import RAW as RAW
from nfbench.showing.laid import Laid
from nfbench.showing.results import coded
from nfbench.showing.tables import Format, render

COSTS = {
    "macs": ("macs", "MACs"),
    "params": ("params", "parameters"),
    "step-time": ("train_step_time", "training step time"),
    "energy": ("image_energy", "energy an image"),
}
"""What top-1 can be set against: the key of a row and its name in a sentence."""
_TOLD = ("dataset", "px", "batch", "epochs")
"""Where all rows are equal in one of these, it stands above the table instead of in a column."""
_COSTS = tuple(key for key, _ in COSTS.values())


def wide(rows: Sequence[Row], format: Format) -> str:
    """One line a row. To a person: the columns that matter, below what all rows share; as CSV or JSON all of them, raw.

    A ``front`` in the rows (see `on_front`) brings the costs.
    """
    return render(RAW, coded(rows, format), format) if format in ("csv", "json") else laid(rows).text(format)


def laid(rows: Sequence[Row]) -> Laid:
    """The rows with the columns that matter to a person, below what all of them share."""
    shown = [_shown(row) for row in rows]
    told = [key for key in _TOLD if rows and len({row.get(key) for row in rows}) == 1]
    fronts = any("front" in row for row in rows)
    columns = [
        c
        for c in COLUMNS
        if c.key not in told
        and any(row.get(c.key) is not None for row in shown)
        and (c.key not in _COSTS or fronts)
        and (c.key != "top5" or not all(row["epochs"] for row in rows))
        and (c not in DIFFERING or _telling(rows, c.key))
        and (c.key not in ("machine", "software") or _differ(rows, c.key))
        and (c.key != "status" or any(row["status"] != "ok" for row in rows))
    ]
    target = next((row["target"] for row in rows if "target" in row), None)
    columns = [replace(c, title=f"to {units.percent(target)}") if c.key == "shown_target" else c for c in columns]
    return Laid(columns, shown, _title(rows[0], told) if rows else None)


def legend(rows: Sequence[Row]) -> list[str]:
    """What the columns of `wide` mean that need saying."""
    costs = "MACs are of one image at the px in training, the step is an update with its data, energy the GPU's."
    lines = (
        ("±: 95 %, Student's t over seeds.", _has(rows, "top1_low")),
        ("best: the best epoch's, chosen on the test set, so it flatters.", _has(rows, "best_top1")),
        ("EMA: top-1 of the averaged weights.", _has(rows, "ema_top1")),
        (
            "gap: top-1 with the test batches' own statistics less that with the running ones, in percentage points.",
            _has(rows, "gap"),
        ),
        ("FLOPs: 2 · MACs, forward and backward, over all images of the training.", _has(rows, "training_flops")),
        (
            "to that of: training time until the final top-1 of that net with batch normalization, "
            "its partner or else the nearest in MACs.",
            _has(rows, "bn_model"),
        ),
        ("●: of its machine, data set, px and weights none is as good for less.", _has(rows, "front")),
        (costs, _has(rows, "front")),
    )
    return [line for line, needed in lines if needed]


def on_front(rows: Sequence[Row], cost: str) -> list[Row]:
    """The rows by ``cost``, a name of `COSTS`, each with ``front``: whether it is on that of its machine, data set, px
    and weights. A row that lacks the cost or a top-1 has none and stands last."""
    key = COSTS[cost][0]
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(k) for k in ("machine", "dataset", "px", "test_px", "weights")), []).append(row)
    best = {id(row) for group in groups.values() for row in accuracy.front(group, key)}
    ordered = sorted(rows, key=lambda row: (not _has([row], key, "top1"), row.get(key, 0.0)))
    return [row | ({"front": id(row) in best} if _has([row], key, "top1") else {}) for row in ordered]


def answer(rows: Sequence[Row]) -> str:
    """Rows of `on_front` in a sentence: the nets that none beats for as few MACs; empty where there is one net."""
    best = [row for row in rows if row.get("front")]
    if len({row["model"] for row in rows}) < 2 or not best or _differ(rows, "dataset"):
        return ""
    named = ", ".join(f"{row['model']} ({top1(row)} at {units.si(row['macs'], '').rstrip()} MACs)" for row in best)
    dataset = rows[0]["dataset"]
    beyond = "" if dataset == "imagenet" else " That does not carry over to ImageNet."
    return f"On {dataset} none is as accurate for as few MACs as {named}.{beyond}"


def top1(row: Row) -> str:
    """'99.4 ± 0.3 %' over seeds, '99.42 %' of one."""
    value, low, high = (row.get(f"top1{end}") for end in ("", "_low", "_high"))
    if value is None or low is None or high is None or high <= low:
        return share(value)
    return f"{units.plus_minus(100 * value, 50 * (high - low))} %"


def _shown(row: Row) -> Row:
    found = {**row, "shown_top1": top1(row)}
    if "diverged_at" in row:
        found["shown_updates"] = ", ".join(map(str, row["diverged_at"]))
    for name in ("target", "bn"):
        if (reached := row.get(f"reached_{name}")) is not None:
            cut = any(word in row["status"] for word in ("timeout", "interrupted"))
            some = f"{reached} of {row['runs']} seeds" if reached else "cut off before" if cut else "never"
            found[f"shown_{name}"] = time(row[f"time_to_{name}"]) if f"time_to_{name}" in row else some
    if "bn_model" in row:
        found["shown_bn"] = f"{row['bn_model']}: {found['shown_bn']}"
    return found


def _title(row: Row, told: Sequence[str]) -> str:
    words = {"dataset": "{}", "px": "{} px", "batch": "batch {}", "epochs": "{} epochs"}
    parts = [words[key].format(row[key]) for key in told if key in row]
    parts = ["1 epoch" if part == "1 epochs" else part for part in parts if part != "0 epochs"]
    return ("Evaluation" if "epochs" in told and not row["epochs"] else "Training") + (
        f": {', '.join(parts)}" if parts else " runs"
    )


def _telling(rows: Sequence[Row], key: str) -> bool:
    """Whether a setting tells rows apart that nothing else does."""
    if key == "norm":
        return any(row.get("norm") != accuracy.norm_of(row["model"]) for row in rows)
    if key == "test_px":
        return _differ(rows, key) or any(row.get(key) != row.get("px") for row in rows)
    if key == "agc_impl":
        return _differ([row for row in rows if key in row], key)
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(k) for k in WITHIN.get(key, ())), []).append(row)
    return any(_differ(group, key) for group in groups.values())


def _differ(rows: Sequence[Row], key: str) -> bool:
    return len({row.get(key) for row in rows}) > 1


def _has(rows: Sequence[Row], *keys: str) -> bool:
    return any(all(key in row for key in keys) for row in rows)
