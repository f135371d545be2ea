"""Training runs as tables: one line a net, or one line an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nfbench import units
from nfbench.analysis import accuracy
from nfbench.analysis.rows import Row
from nfbench.records import Result
from nfbench.showing.laid import Laid
from nfbench.showing.results import coded
from nfbench.showing.tables import Column, Format, plain, render

COSTS = {
    "macs": ("macs", "MACs"),
    "params": ("params", "parameters"),
    "step-time": ("train_step_time", "training step time"),
    "energy": ("image_energy", "energy an image"),
}
"""What top-1 can be set against: the key of a row and its name in a sentence."""


def _share(value: float | None) -> str:
    """With two decimals, as accuracies are told: three digits would make 99.96 % a perfect score."""
    # what is no share at all needs no decimals
    return f"{100 * value:.2f} %" if value is not None and abs(value) < 1e6 else units.percent(value)


def _points(value: float | None) -> str:
    return units.ABSENT if value is None else f"{100 * value:+.2f} pp".replace("-", "−")


def _si(unit: str) -> Any:
    return lambda value: units.si(value, unit).rstrip()


def _number(value: float | None) -> str:
    return units.ABSENT if value is None else units.significant(value, 3)


def _rate(value: Any) -> str:
    return units.ABSENT if value is None else f"{value:.3g}"


def _time(value: float | None) -> str:
    return units.seconds(value, 3)


_TOLD = ("dataset", "px", "batch", "epochs")
"""Where all rows are equal in one of these, it stands above the table instead of in a column."""

_RECIPE = (
    *("optimizer", "schedule", "warmup_epochs", "momentum", "weight_decay", "label_smoothing"),
    *("augment", "mixup", "cutmix", "ema"),
)
"""What a recipe settles, so that it is shown only where runs of one recipe differ in it."""
_MODEL = ["randaugment_layers", "randaugment_magnitude", "drop_rate", "drop_path"]
"""What a recipe settles for each net."""
_WORDS = ("optimizer", "schedule", "augment")
"""Those of a recipe that are no numbers."""
_WITHIN = dict.fromkeys(_RECIPE, ("recipe",)) | dict.fromkeys(_MODEL, ("recipe", "model"))


def _setting(key: str, title: str, right: bool = True, spare: int = 0) -> Column:
    return Column(key, title, plain, right, spare, "setting")


_DIFFERING: tuple[Column, ...] = (
    _setting("test_px", "test px", spare=2),
    *(_setting(key, key, right=False, spare=2) for key in ("weights", "norm", "recipe")),
    *(_setting(key, key.replace("_", " "), right=key not in _WORDS, spare=10) for key in (*_RECIPE, *_MODEL)),
    _setting("sam", "SAM ρ", spare=11),
    _setting("sam_fraction", "SAM fraction", spare=12),
    _setting("sam_scope", "SAM scope", right=False, spare=12),
    _setting("micro_batch", "micro-batch", spare=3),
    *(_setting(key, key, right=False, spare=2) for key in ("precision", "layout", "compile")),
    _setting("agc_impl", "clip by", right=False, spare=3),
    _setting("deterministic", "deterministic", right=False, spare=3),
)

COLUMNS: tuple[Column, ...] = (
    Column("front", "front", lambda on: "●" if on else "", right=False),
    Column("model", "model", right=False),
    _setting("dataset", "dataset", right=False),
    _setting("px", "px"),
    _setting("batch", "batch"),
    _setting("epochs", "epochs"),
    Column("lr", "lr", _rate, spare=4, role="setting"),
    _setting("agc", "agc λ"),
    *_DIFFERING,
    Column("seeds", "seeds", spare=1, role="outcome"),
    Column("shown_top1", "top-1"),
    Column("top5", "top-5", _share),
    Column("best_top1", "best", _share, spare=7),
    Column("ema_top1", "EMA", _share, spare=3),
    Column("gap", "gap", _points, spare=2),
    Column("macs", "MACs", _si("")),
    Column("params", "parameters", _si("")),
    Column("train_step_time", "step", _time),
    Column("image_energy", "energy an image", _si("J")),
    Column("training_flops", "FLOPs", _si("FLOP"), spare=6),
    Column("wall_time", "wall time", _time, spare=5),
    Column("throughput", "images/s", units.number, spare=4),
    Column("shown_target", "to target"),
    Column("shown_bn", "to that of", right=False, spare=9),
    _setting("machine", "machine", right=False),
    _setting("software", "software", right=False, spare=10),
    Column("status", "status", right=False, role="outcome"),
    Column("shown_updates", "at update", spare=8),
)
_COSTS = tuple(key for key, _ in COSTS.values())

_RAW = """
kind model family dataset px test_px batch micro_batch epochs recipe optimizer lr schedule warmup_epochs decay_epochs
decay_rate alpha eps
momentum weight_decay label_smoothing augment randaugment_layers randaugment_magnitude mixup cutmix drop_rate drop_path
agc agc_impl ema sam sam_fraction sam_scope precision layout compile norm weights deterministic classes train_images
test_images interpolation crop_pct crop_mode workers optimizer_impl tf32 cudnn_benchmark allocator threads
world_size broadcast_buffers backend nodes
status runs seeds diverged diverged_at top1 top1_low top1_high best_top1 top5 ema_top1 ema_top5 gap train_loss test_loss
clipped_units training_flops wall_time throughput data_share train_step_time image_energy macs train_macs params updates
images_seen skipped_updates unreadable_images deterministic_cost target time_to_target reached_target bn_model
time_to_bn reached_bn front device machine software study start findings
"""
RAW: tuple[Column, ...] = tuple(Column(key, key) for key in _RAW.split())

EPOCHS: tuple[Column, ...] = (
    Column("epoch", "epoch"),
    Column("runs", "runs"),
    Column("learning_rate", "lr", _rate, spare=1),
    Column("train_loss", "train loss", _number),
    Column("test_loss", "test loss", _number, spare=9),
    Column("top1", "top-1", _share),
    Column("top5", "top-5", _share, spare=7),
    Column("ema_top1", "EMA", _share),
    Column("batch_top1", "batch statistics", _share, spare=8),
    Column("gap", "gap", _points),
    Column("gradient_norm", "gradient norm", _number, spare=3),
    Column("clipped_gradient_norm", "→ clipped", _number, spare=4),
    Column("clipped_units", "units clipped", lambda share: units.percent(share, 2), spare=2),
    Column("throughput", "images/s", units.number, spare=2),
    Column("data_share", "data", lambda share: units.percent(share, 2), spare=5),
    Column("energy", "energy", _si("J"), spare=6),
)
_RAW_EPOCHS = ["epoch", "runs", "throughput", "data_share", "gap"]


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
        and (c not in _DIFFERING or _telling(rows, c.key))
        and (c.key not in ("machine", "software") or _differ(rows, c.key))
        and (c.key != "status" or any(row["status"] != "ok" for row in rows))
    ]
    target = next((row["target"] for row in rows if "target" in row), None)
    columns = [replace(c, title=f"to {units.percent(target)}") if c.key == "shown_target" else c for c in columns]
    return Laid(columns, shown, _title(rows[0], told) if rows else None)


def epochs(results: Sequence[Result], format: Format) -> str:
    """One line an epoch: of one result, or the mean over several, such as seeds. CSV and JSON hold all, raw."""
    rows = accuracy.epochs(results)
    if format in ("csv", "json"):
        return render([Column(key, key) for key in (*_RAW_EPOCHS, *accuracy.EPOCH)], rows, format)
    columns = [
        c
        for c in EPOCHS
        if any(row.get(c.key) is not None for row in rows) and (c.key != "runs" or _differ(rows, "runs"))
    ]
    title = f"Each epoch, means of {len(results)} runs" if len(results) > 1 else None
    return render([replace(c, spare=0) if c.key == "runs" else c for c in columns], rows, format, title=title)


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
        return _share(value)
    return f"{units.plus_minus(100 * value, 50 * (high - low))} %"


def _shown(row: Row) -> Row:
    found = {**row, "shown_top1": top1(row)}
    if "diverged_at" in row:
        found["shown_updates"] = ", ".join(map(str, row["diverged_at"]))
    for name in ("target", "bn"):
        if (reached := row.get(f"reached_{name}")) is not None:
            cut = any(word in row["status"] for word in ("timeout", "interrupted"))
            some = f"{reached} of {row['runs']} seeds" if reached else "cut off before" if cut else "never"
            found[f"shown_{name}"] = _time(row[f"time_to_{name}"]) if f"time_to_{name}" in row else some
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
        groups.setdefault(tuple(row.get(k) for k in _WITHIN.get(key, ())), []).append(row)
    return any(_differ(group, key) for group in groups.values())


def _differ(rows: Sequence[Row], key: str) -> bool:
    return len({row.get(key) for row in rows}) > 1


def _has(rows: Sequence[Row], *keys: str) -> bool:
    return any(all(key in row for key in keys) for row in rows)
