"""The columns of training runs: those that a person sees, and all of the raw formats."""

from __future__ import annotations

from typing import Any

from nfbench import units
from nfbench.showing.tables import Column, plain


def share(value: float | None) -> str:
    """With two decimals, as accuracies are told: three digits would make 99.96 % a perfect score."""
    # what is no share at all needs no decimals
    return f"{100 * value:.2f} %" if value is not None and abs(value) < 1e6 else units.percent(value)


def points(value: float | None) -> str:
    return units.ABSENT if value is None else f"{100 * value:+.2f} pp".replace("-", "−")


def si(unit: str) -> Any:
    return lambda value: units.si(value, unit).rstrip()


def rate(value: Any) -> str:
    return units.ABSENT if value is None else f"{value:.3g}"


def time(value: float | None) -> str:
    return units.seconds(value, 3)


_RECIPE = (
    *("optimizer", "schedule", "warmup_epochs", "momentum", "weight_decay", "label_smoothing"),
    *("augment", "mixup", "cutmix", "ema"),
)
"""What a recipe settles, so that it is shown only where runs of one recipe differ in it."""
_MODEL = ["randaugment_layers", "randaugment_magnitude", "drop_rate", "drop_path"]
"""What a recipe settles for each net."""
_WORDS = ("optimizer", "schedule", "augment")
"""Those of a recipe that are no numbers."""
WITHIN = dict.fromkeys(_RECIPE, ("recipe",)) | dict.fromkeys(_MODEL, ("recipe", "model"))
"""Settings that others settle, and those others: between rows that are equal in these a difference tells."""


def _setting(key: str, title: str, right: bool = True, spare: int = 0) -> Column:
    return Column(key, title, plain, right, spare, "setting")


DIFFERING: tuple[Column, ...] = (
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
"""The settings that are shown only where they tell rows apart."""

COLUMNS: tuple[Column, ...] = (
    Column("front", "front", lambda on: "●" if on else "", right=False),
    Column("model", "model", right=False),
    _setting("dataset", "dataset", right=False),
    _setting("px", "px"),
    _setting("batch", "batch"),
    _setting("epochs", "epochs"),
    Column("lr", "lr", rate, spare=4, role="setting"),
    _setting("agc", "agc λ"),
    *DIFFERING,
    Column("seeds", "seeds", spare=1, role="outcome"),
    Column("shown_top1", "top-1"),
    Column("top5", "top-5", share),
    Column("best_top1", "best", share, spare=7),
    Column("ema_top1", "EMA", share, spare=3),
    Column("gap", "gap", points, spare=2),
    Column("macs", "MACs", si("")),
    Column("params", "parameters", si("")),
    Column("train_step_time", "step", time),
    Column("image_energy", "energy an image", si("J")),
    Column("training_flops", "FLOPs", si("FLOP"), spare=6),
    Column("wall_time", "wall time", time, spare=5),
    Column("throughput", "images/s", units.number, spare=4),
    Column("shown_target", "to target"),
    Column("shown_bn", "to that of", right=False, spare=9),
    _setting("machine", "machine", right=False),
    _setting("software", "software", right=False, spare=10),
    Column("status", "status", right=False, role="outcome"),
    Column("shown_updates", "at update", spare=8),
)

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
