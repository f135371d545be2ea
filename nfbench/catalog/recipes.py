"""Training recipes, one per family: one for all is unfair to EfficientNet."""

from __future__ import annotations

from dataclasses import dataclass

from nfbench.catalog.models import RecipeName
from nfbench.records import Augment, Schedule


@dataclass(frozen=True)
class Recipe:
    """One published recipe.

    ``optimizer`` is timm's name for it, with ``momentum``. ``lr`` is per 256 images of the batch, ``warmup_epochs`` are
    linear, ``agc`` is λ, ``weight_decay`` falls on weights and on no gain, bias or norm parameter, ``ema`` at update t
    is min(``ema``, (1 + t) / (10 + t)). An exponential schedule falls by ``decay_rate`` every ``decay_epochs``, RMSProp
    has ``alpha`` and ``eps``: all as the TPU reference has them. ``randaugment`` is (layers, magnitude on timm's
    scale), ``mixup`` and ``cutmix`` are the α of each on half of the batch. ``augmentation`` is what was published
    where that is something else.
    """

    optimizer: str
    momentum: float
    lr: float
    schedule: Schedule
    warmup_epochs: float
    epochs: int
    batch: int
    weight_decay: float
    label_smoothing: float
    agc: float | None
    ema: float | None
    augment: Augment
    source: str
    decay_rate: float = 0.97
    decay_epochs: float = 2.4
    alpha: float = 0.9
    eps: float = 1e-3
    randaugment: tuple[int, int] = (2, 9)
    mixup: float = 0.0
    cutmix: float = 0.0
    augmentation: str = ""


RECIPES: dict[RecipeName, Recipe] = {
    "nfnet": Recipe(
        optimizer="sgd",
        momentum=0.9,
        lr=0.1,
        schedule="cosine",
        warmup_epochs=5,
        epochs=360,
        batch=4096,
        weight_decay=2e-5,
        label_smoothing=0.1,
        agc=0.01,
        ema=0.99999,
        augment="nfnet",
        randaugment=(4, 5),
        mixup=0.2,
        cutmix=1.0,
        source="arXiv 2102.06171; google-deepmind/deepmind-research, nfnets",
    ),
    "bn-resnet": Recipe(
        optimizer="sgd",
        momentum=0.9,
        lr=0.1,
        schedule="cosine",
        warmup_epochs=5,
        epochs=90,
        batch=1024,
        weight_decay=1e-4,
        label_smoothing=0.1,
        agc=None,
        ema=None,
        augment="flip",
        source="arXiv 2102.06171, section 4.1 and Figure 2",
    ),
    "efficientnet": Recipe(
        optimizer="rmsproptf",
        momentum=0.9,
        lr=0.016,
        schedule="exponential",
        warmup_epochs=5,
        epochs=350,
        batch=4096,  # the batch at which the reference's rate is the paper's 0.256
        weight_decay=1e-5,
        label_smoothing=0.1,
        agc=None,
        ema=0.9999,
        augment="randaugment",
        augmentation="AutoAugment",
        source="Tan & Le 2019, arXiv 1905.11946; tensorflow/tpu, models/official/efficientnet",
    ),
}
