"""How each family was trained by its authors: one recipe for all would be unfair to EfficientNet."""

from __future__ import annotations

from dataclasses import dataclass

from nfbench.catalog.models import Recipe as Name


@dataclass(frozen=True)
class Recipe:
    """One published recipe.

    ``lr`` is per 256 images of the batch, ``warmup_epochs`` are linear, ``agc`` is λ, ``weight_decay`` falls on weights
    and on no gain, bias or norm parameter, ``ema`` at update t is min(``ema``, (1 + t) / (10 + t)).
    """

    optimizer: str
    lr: float
    schedule: str
    warmup_epochs: int
    epochs: int
    batch: int
    weight_decay: float
    label_smoothing: float
    agc: float | None
    ema: float | None
    augmentation: str
    source: str


RECIPES: dict[Name, Recipe] = {
    "nfnet": Recipe(
        optimizer="SGD, Nesterov momentum 0.9",
        lr=0.1,
        schedule="cosine to 0",
        warmup_epochs=5,
        epochs=360,
        batch=4096,
        weight_decay=2e-5,
        label_smoothing=0.1,
        agc=0.01,
        ema=0.99999,
        augmentation="RandAugment 4 layers, MixUp 0.2, CutMix",
        source="arXiv 2102.06171; google-deepmind/deepmind-research, nfnets",
    ),
    "bn-resnet": Recipe(
        optimizer="SGD, Nesterov momentum 0.9",
        lr=0.1,
        schedule="cosine to 0",
        warmup_epochs=5,
        epochs=90,
        batch=1024,
        weight_decay=1e-4,
        label_smoothing=0.1,
        agc=None,
        ema=None,
        augmentation="random crop and flip",
        source="arXiv 2102.06171, section 4.1 and Figure 2",
    ),
    "efficientnet": Recipe(
        optimizer="RMSProp, decay 0.9, momentum 0.9",
        lr=0.016,
        schedule="× 0.97 every 2.4 epochs",
        warmup_epochs=5,
        epochs=350,
        batch=4096,  # the batch at which the reference's rate is the paper's 0.256
        weight_decay=1e-5,
        label_smoothing=0.1,
        agc=None,
        ema=0.9999,
        augmentation="AutoAugment",
        source="Tan & Le 2019, arXiv 1905.11946; tensorflow/tpu, models/official/efficientnet",
    ),
}
