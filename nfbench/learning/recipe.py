"""A recipe with its blanks filled in, and what timm and torch make of it: optimizer, schedule, loss, mixing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from timm.data.mixup import Mixup, mixup_target
from timm.loss.cross_entropy import SoftTargetCrossEntropy
from timm.optim._optim_factory import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import Tensor, nn

from nfbench.catalog import published
from nfbench.catalog.datasets import Dataset
from nfbench.catalog.models import Net
from nfbench.catalog.recipes import RECIPES
from nfbench.errors import UnsupportedWorkload
from nfbench.nets.optimizer import fusible, parameter_groups
from nfbench.records import Accuracy, Augment, RecipeName, Schedule
from nfbench.units import known

WARMUP_SHARE = 0.1
LR_BATCH = 256
_RMSPROP = ("rmsprop", "rmsproptf")
_FUSED = ("sgd", "adam", "adamw")


def values(workload: Accuracy, net: Net, name: RecipeName, dataset: Dataset) -> dict[str, Any]:
    """The fields of `nfbench.records.Training` that the recipe ``name`` and the workload's own values decide.

    The rate is the recipe's times batch / 256, the warm-up min(its epochs, 10 % of the run). An exponential schedule
    falls as often after the warm-up as in the published run, so that it ends at the same share of its peak.

    Raises:
        UnsupportedWorkload: no such optimizer, or mixing with an odd batch.
    """
    recipe = RECIPES[name]
    by_default: Augment = recipe.augment if dataset.augment == "recipe" else dataset.augment
    augment: Augment = _or(workload.augment, by_default)
    schedule: Schedule = _or(workload.schedule, recipe.schedule)
    layers, magnitude = recipe.randaugment
    if augment == "nfnet":
        layers = RECIPES["nfnet"].randaugment[0]
        # a twin is trained as its NF net
        of_variant = published.randaugment_magnitude(net.twin_of or net.name)
        magnitude = of_variant or RECIPES["nfnet"].randaugment[1]
    mixed = augment == "nfnet"
    warmup = _or(workload.warmup_epochs, min(recipe.warmup_epochs, WARMUP_SHARE * workload.epochs))
    optimizer = _or(workload.optimizer, recipe.optimizer)
    what = f"timm has no optimizer called {optimizer!r}."
    known(optimizer, [*map(str, list_optimizers())], UnsupportedWorkload, what, "--optimizer {}", "sgd")
    _check_used(workload, optimizer, schedule)
    chosen = {
        "recipe": name,
        "optimizer": optimizer,
        "lr": _or(workload.lr, recipe.lr * workload.batch / LR_BATCH),
        "schedule": schedule,
        "warmup_epochs": warmup,
        "momentum": _or(workload.momentum, recipe.momentum) if get_optimizer_info(optimizer).has_momentum else None,
        "weight_decay": _or(workload.weight_decay, recipe.weight_decay),
        "label_smoothing": _or(workload.label_smoothing, recipe.label_smoothing),
        "augment": augment,
        "mixup": _or(workload.mixup, RECIPES["nfnet"].mixup if mixed else 0.0),
        "cutmix": _or(workload.cutmix, RECIPES["nfnet"].cutmix if mixed else 0.0),
        "drop_rate": _or(workload.drop_rate, net.drop_rate),
        "drop_path": _or(workload.drop_path, net.drop_path_rate),
        "ema": None if workload.ema == "none" else _or(workload.ema, recipe.ema),
        "deterministic": workload.deterministic,
    }
    if schedule == "exponential":
        chosen["decay_epochs"] = _or(workload.decay_epochs, _decay_epochs(workload.epochs, warmup))
        chosen["decay_rate"] = _or(workload.decay_rate, recipe.decay_rate)
    if chosen["optimizer"] in _RMSPROP:
        chosen["alpha"], chosen["eps"] = _or(workload.alpha, recipe.alpha), _or(workload.eps, recipe.eps)
    if augment in ("randaugment", "nfnet"):
        chosen["randaugment_layers"] = _or(workload.randaugment_layers, layers)
        chosen["randaugment_magnitude"] = _or(workload.randaugment_magnitude, magnitude)
        chosen["randaugment_place"] = "before mixing" if chosen["mixup"] or chosen["cutmix"] else None
    if (chosen["mixup"] or chosen["cutmix"]) and workload.batch % 2:
        raise UnsupportedWorkload(
            f"--batch {workload.batch} is odd.",
            why="MixUp and CutMix blend images in pairs.",
            try_=f"--batch {workload.batch + 1}, or --mixup 0 --cutmix 0",
        )
    return chosen


def build_optimizer(net: nn.Module, training: Mapping[str, Any]) -> torch.optim.Optimizer:
    """timm's optimizer of that name; weight decay falls on weights alone (`nfbench.nets.optimizer.decayed_names`)."""
    groups = parameter_groups(net, training["weight_decay"])
    device = groups[0]["params"][0].device.type
    more: dict[str, Any] = {} if training["momentum"] is None else {"momentum": training["momentum"]}
    if training["optimizer"] in _RMSPROP:
        more |= {"alpha": training["alpha"], "eps": training["eps"]}
    if fused(training["optimizer"], device) and fusible(net):
        more["fused"] = True
    made: torch.optim.Optimizer = create_optimizer_v2(
        groups, opt=training["optimizer"], lr=training["lr"], weight_decay=training["weight_decay"], **more
    )
    return made


def fused(name: str, device: str) -> bool:
    """Whether the optimizer of that name is torch's fused one on a kind of device."""
    return name in _FUSED and device in ("cpu", "cuda")


def build_schedule(
    optimizer: torch.optim.Optimizer, training: Mapping[str, Any], epochs: int, updates: int
) -> Callable[[int], None]:
    """What sets the rate for an update, counted from 0, of a run of ``epochs`` epochs of ``updates`` updates each."""
    peaks = [group["lr"] for group in optimizer.param_groups]

    def set_rate(update: int) -> None:
        share = share_of_peak(training, epochs, updates, update)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = share * peak

    return set_rate


def share_of_peak(training: Mapping[str, Any], epochs: int, updates: int, update: int) -> float:
    """The rate of an update, counted from 0, over the peak rate: linear warm-up, then the schedule.

    An exponential one is the staircase of the TPU reference (tensorflow/tpu, models/official/efficientnet/utils.py),
    counted from the first update of its 350 epochs of which 5 warm up; what follows the warm-up is compressed to fit.
    With an interval or a factor of one's own it falls from the peak, counted from the end of the warm-up.
    """
    warmup = float(training["warmup_epochs"] * updates)
    if update + 1 <= warmup:
        return (update + 1) / warmup
    after = max(0.0, update - warmup)
    if training["schedule"] == "cosine":
        return (1 + math.cos(math.pi * after / max(1.0, epochs * updates - warmup))) / 2
    if training["schedule"] == "exponential":
        recipe, compressed = RECIPES["efficientnet"], _decay_epochs(epochs, training["warmup_epochs"])
        falls = after / (training["decay_epochs"] * updates)
        if (training["decay_epochs"], training["decay_rate"]) == (compressed, recipe.decay_rate):
            falls += recipe.warmup_epochs / recipe.decay_epochs
        # 12 · 0.2 is a little below 2.4 in floating point
        return float(training["decay_rate"] ** math.floor(round(falls, 9)))
    return 1.0


def build_loss(training: Mapping[str, Any]) -> nn.Module:
    """Cross-entropy, of soft targets where images are mixed."""
    if training["mixup"] or training["cutmix"]:
        soft: nn.Module = SoftTargetCrossEntropy()
        return soft
    return nn.CrossEntropyLoss(label_smoothing=training["label_smoothing"])


def build_mixing(training: Mapping[str, Any], classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """MixUp on half of a batch and CutMix on the other half, by timm; without either, images and labels as they are.

    Images of shape (n, 3, px, px) are overwritten; targets become shares of shape (n, classes).
    """
    if not training["mixup"] and not training["cutmix"]:
        return lambda images, labels: (images, labels)
    smoothing = training["label_smoothing"]
    common = {"label_smoothing": smoothing, "num_classes": classes}
    alphas = {"mixup_alpha": training["mixup"], "cutmix_alpha": training["cutmix"]}
    halves = [
        # timm's default for the other α is not 0
        Mixup(**{"mixup_alpha": 0.0, "cutmix_alpha": 0.0, name: alpha}, **common)
        if alpha
        else partial(_unmixed, classes=classes, smoothing=smoothing)
        for name, alpha in alphas.items()
    ]

    def mix(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        half = 2 * round(len(images) / 4)
        parts = [
            mixer(images[part], labels[part])
            for mixer, part in zip(halves, (slice(0, half), slice(half, None)), strict=True)
            if len(labels[part])
        ]
        # each half was overwritten where it lies
        return images, torch.cat([targets for _, targets in parts])

    return mix


def _unmixed(images: Tensor, labels: Tensor, classes: int, smoothing: float) -> tuple[Tensor, Tensor]:
    return images, mixup_target(labels, classes, 1.0, smoothing)


def _or(asked: Any, default: Any) -> Any:
    return default if asked == "auto" else asked


def _decay_epochs(epochs: int, warmup: float) -> float:
    """The interval of the published run, with what follows its warm-up compressed to what follows this one's."""
    recipe = RECIPES["efficientnet"]
    return recipe.decay_epochs * max(1e-9, epochs - warmup) / (recipe.epochs - recipe.warmup_epochs)


def _check_used(workload: Accuracy, optimizer: str, schedule: Schedule) -> None:
    """Raise `UnsupportedWorkload` for a value that the optimizer or the schedule would pass over."""
    momentum = get_optimizer_info(optimizer).has_momentum
    for flag, value, used, of in (
        ("alpha", workload.alpha, optimizer in _RMSPROP, "RMSProp"),
        ("eps", workload.eps, optimizer in _RMSPROP, "RMSProp"),
        ("momentum", workload.momentum, momentum, "an optimizer with momentum"),
        ("decay-epochs", workload.decay_epochs, schedule == "exponential", "an exponential schedule"),
        ("decay-rate", workload.decay_rate, schedule == "exponential", "an exponential schedule"),
    ):
        if value != "auto" and not used:
            raise UnsupportedWorkload(
                f"--{flag} is of {of}; the run has {optimizer} and a {schedule} schedule.",
                try_=f"--{flag} auto, or --{'schedule exponential' if 'decay' in flag else 'optimizer rmsproptf'}",
            )
