"""Training runs as tables: one line a net, and what none beats for as little; one line an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from nfbench import units
from nfbench.analysis import training_runs
from nfbench.analysis.query import grouped
from nfbench.analysis.rows import Row
from nfbench.records import Accuracy, Result
from nfbench.settings import BY_NAME, SAM, settings_of
from nfbench.showing import tables
from nfbench.showing.results import si
from nfbench.showing.tables import Column, Format, Laid, keyed, of_settings, render, telling, with_ends

COSTS = {
    "macs": ("macs", "MACs"),
    "params": ("params", "parameters"),
    "step-time": ("train_step_time", "training step time"),
    "energy": ("image_energy", "energy an image"),
}
"""What top-1 can be set against: the key of a row and its name in a sentence."""
_ABOVE = {"dataset": "{}", "px": "{} px", "batch": "batch {}", "epochs": "{} epochs"}
"""Where all rows are equal in one of these, it stands above the table instead of in a column."""


def points(value: float | None) -> str:
    """A difference of two shares: '+1.20 pp'."""
    return units.ABSENT if value is None else f"{100 * value:+.2f} pp".replace("-", "−")


def top1(row: tables.Row) -> str:
    """'99.4 ± 0.3 %' over seeds, '99.42 %' of one."""
    return units.share(*with_ends(row, "top1"))


def _rate(value: Any) -> str:
    return units.ABSENT if value is None else f"{value:.3g}"


def _number(value: float | None) -> str:
    return units.ABSENT if value is None else units.significant(value, 3)


def _time_to(row: tables.Row, name: str) -> str:
    """The time until a target; how many seeds have reached it where not all have, and whose it is."""
    if (reached := row.get(f"reached_{name}")) is None:
        return units.ABSENT
    cut = any(word in row["status"] for word in ("timeout", "interrupted"))
    otherwise = f"{reached} of {row['runs']} seeds" if reached else "cut off before" if cut else "never"
    text = _time(row[f"time_to_{name}"]) if f"time_to_{name}" in row else otherwise
    return f"{row['bn_model']}: {text}" if name == "bn" else text


def _updates(row: tables.Row) -> str:
    return ", ".join(map(str, row["diverged_at"])) if "diverged_at" in row else units.ABSENT


_time = partial(units.seconds, digits=3)
_COLUMNS = ("dataset", "px", "batch", "epochs", "lr", "agc")
_DIFFERING = of_settings(s for s in settings_of(Accuracy) if s.name not in _COLUMNS)
"""The settings that are shown only where they tell rows apart."""
COLUMNS: tuple[Column, ...] = (
    Column("front", "front", lambda on: "●" if on else "", right=False),
    Column("model", "model", right=False),
    Column("dataset", "dataset", right=False),
    Column("px", "px"),
    Column("batch", "batch"),
    Column("epochs", "epochs"),
    Column("lr", "lr", _rate, spare=4),
    Column("agc", "agc λ"),
    *_DIFFERING,
    Column("seeds", "seeds", spare=1),
    Column("top1", "top-1", cell=top1),
    Column("top5", "top-5", units.share),
    Column("best_top1", "best", units.share, spare=7),
    Column("ema_top1", "EMA", units.share, spare=3),
    Column("gap", "gap", points, spare=2),
    Column("macs", "MACs", si("")),
    Column("params", "parameters", si("")),
    Column("train_step_time", "step", _time),
    Column("image_energy", "energy an image", si("J")),
    Column("training_flops", "FLOPs", si("FLOP"), spare=6),
    Column("wall_time", "wall time", _time, spare=5),
    Column("throughput", "images/s", units.number, spare=4),
    Column("time_to_target", "to target", cell=partial(_time_to, name="target")),
    Column("time_to_bn", "to that of", right=False, spare=9, cell=partial(_time_to, name="bn")),
    Column("machine", "machine", right=False),
    Column("software", "software", right=False, spare=10),
    Column("status", "status", right=False),
    Column("diverged_at", "at update", spare=8, cell=_updates),
)
_RAW = """
kind model family dataset px test_px batch micro_batch epochs recipe optimizer lr schedule warmup_epochs decay_epochs
decay_rate alpha eps
momentum weight_decay label_smoothing augment randaugment_layers randaugment_magnitude mixup cutmix drop_rate drop_path
agc agc_impl ema {sam} precision layout compile norm weights deterministic classes train_images
test_images interpolation crop_pct crop_mode workers optimizer_impl tf32 cudnn_benchmark allocator threads
world_size broadcast_buffers backend nodes
status runs seeds diverged diverged_at top1 top1_low top1_high best_top1 top5 ema_top1 ema_top5 gap train_loss test_loss
clipped_units training_flops wall_time throughput data_share train_step_time image_energy macs train_macs params updates
images_seen skipped_updates unreadable_images deterministic_cost target time_to_target reached_target bn_model
time_to_bn reached_bn front device machine software study start findings
"""
RAW = keyed([*_RAW.format(sam=" ".join(SAM)).split(), *(s.name for s in settings_of(Accuracy))])
_EPOCH: tuple[Column, ...] = (
    Column("epoch", "epoch"),
    Column("runs", "runs"),
    Column("learning_rate", "lr", _rate, spare=1),
    Column("train_loss", "train loss", _number),
    Column("test_loss", "test loss", _number, spare=9),
    Column("top1", "top-1", units.share),
    Column("top5", "top-5", units.share, spare=7),
    Column("ema_top1", "EMA", units.share),
    Column("batch_top1", "batch statistics", units.share, spare=8),
    Column("gap", "gap", points),
    Column("gradient_norm", "gradient norm", _number, spare=3),
    Column("clipped_gradient_norm", "→ clipped", _number, spare=4),
    Column("clipped_units", "units clipped", partial(units.percent, digits=2), spare=2),
    Column("throughput", "images/s", units.number, spare=2),
    Column("data_share", "data", partial(units.percent, digits=2), spare=5),
    Column("energy", "energy", si("J"), spare=6),
)


def laid(rows: Sequence[Row]) -> Laid:
    """The rows with the columns that matter to a person, below what all of them share.

    A ``front`` in the rows (see `on_front`) brings the costs.
    """
    above = [key for key in _ABOVE if rows and not _differ(rows, key)]
    hidden = {*above, *(c.key for c in _DIFFERING if not _tells_apart(rows, c.key))}
    if not any("front" in row for row in rows):
        hidden |= {key for key, _ in COSTS.values()}
    if all(row["epochs"] for row in rows):
        hidden.add("top5")
    columns = telling([c for c in COLUMNS if c.key not in hidden], rows, always=("top1",))
    target = next((row["target"] for row in rows if "target" in row), None)
    columns = [replace(c, title=f"to {units.percent(target)}") if c.key == "time_to_target" else c for c in columns]
    return Laid(columns, rows, _title(rows[0], above) if rows else None)


def epochs(results: Sequence[Result], format: Format) -> str:
    """One line an epoch: of one result, or the mean over several, such as seeds. CSV and JSON hold all, raw."""
    rows = training_runs.epochs(results)
    if format in ("csv", "json"):
        keys = ("epoch", "runs", "throughput", "data_share", "gap", *training_runs.EPOCH)
        return render(keyed(keys), rows, format)
    columns = [c for c in telling(_EPOCH, rows) if c.key != "runs" or _differ(rows, "runs")]
    title = f"Each epoch, means of {len(results)} runs" if len(results) > 1 else None
    return render(columns, rows, format, title=title)


def legend(rows: Sequence[Row]) -> list[str]:
    """What the columns of `laid` mean that need saying."""
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
    places = grouped(rows, ("machine", "dataset", "px", "test_px", "weights"))
    best = {id(row) for place in places for row in training_runs.front(place, key)}
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


def _title(row: Row, above: Sequence[str]) -> str:
    parts = [_ABOVE[key].format(row[key]) for key in above if key in row]
    parts = ["1 epoch" if part == "1 epochs" else part for part in parts if part != "0 epochs"]
    what = "Evaluation" if "epochs" in above and not row["epochs"] else "Training"
    return f"{what}: {', '.join(parts)}" if parts else f"{what} runs"


def _tells_apart(rows: Sequence[Row], key: str) -> bool:
    """Whether a setting tells rows apart that nothing else does."""
    if key == "norm":
        return any(row.get("norm") != training_runs.norm_of(row["model"]) for row in rows)
    if key == "test_px":
        return _differ(rows, key) or any(row.get(key) != row.get("px") for row in rows)
    if key == "agc_impl":
        return _differ([row for row in rows if key in row], key)
    return any(_differ(alike, key) for alike in grouped(rows, BY_NAME[key].settled_by))


def _differ(rows: Sequence[Row], key: str) -> bool:
    return len({row.get(key) for row in rows}) > 1


def _has(rows: Sequence[Row], *keys: str) -> bool:
    return any(all(key in row for key in keys) for row in rows)
