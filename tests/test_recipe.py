"""A recipe is the published one, scaled to the run; what timm and torch make of it does what the values say."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nfbench.catalog.datasets import DATASETS
from nfbench.catalog.models import find
from nfbench.catalog.recipes import RECIPES
from nfbench.errors import UnsupportedWorkload
from nfbench.learning import recipe
from nfbench.learning.recipe import build_loss, build_mixing, build_optimizer, build_schedule
from nfbench.nets.optimizer import decayed_names
from nfbench.records import Accuracy, RecipeName

FAMILIES: tuple[RecipeName, ...] = ("nfnet", "bn-resnet", "efficientnet")


def values(
    name: RecipeName = "nfnet", model: str = "tiny-nfnet", data: str = "imagenet", **asked: Any
) -> dict[str, Any]:
    workload = Accuracy(model=model, dataset=data, **asked)
    return recipe.values(workload, find(model), name, DATASETS[data])


# ---- values


@pytest.mark.parametrize(("family", "per_256"), [("nfnet", 0.1), ("bn-resnet", 0.1), ("efficientnet", 0.016)])
def test_the_rate_is_the_published_one_for_256_images_times_the_batch(family: RecipeName, per_256: float) -> None:
    for batch in (32, 256, 4096):
        assert values(family, batch=batch)["lr"] == pytest.approx(per_256 * batch / 256)


def test_at_the_published_batch_and_length_everything_is_as_published() -> None:
    def of(family: RecipeName) -> dict[str, Any]:
        return values(family, batch=RECIPES[family].batch, epochs=RECIPES[family].epochs)

    nfnet, resnet, efficientnet = map(of, FAMILIES)
    common = {"warmup_epochs": 5, "momentum": 0.9, "label_smoothing": 0.1, "deterministic": False}
    sgd = {"optimizer": "sgd", "schedule": "cosine"}
    assert not {"decay_epochs", "decay_rate", "alpha", "eps"} & (nfnet.keys() | resnet.keys())
    assert nfnet == nfnet | common | sgd | {
        "lr": 1.6,
        "weight_decay": 2e-5,
        "ema": 0.99999,
        "augment": "nfnet",
        "randaugment_layers": 4,
        "mixup": 0.2,
        "cutmix": 1.0,
    }
    assert resnet == resnet | common | sgd | {
        "lr": 0.4,
        "weight_decay": 1e-4,
        "ema": None,
        "augment": "flip",
        "mixup": 0.0,
        "cutmix": 0.0,
    }
    assert efficientnet == efficientnet | common | {
        "optimizer": "rmsproptf",
        "lr": 0.256,
        "schedule": "exponential",
        "decay_epochs": 2.4,
        "decay_rate": 0.97,
        "alpha": 0.9,
        "eps": 1e-3,
        "weight_decay": 1e-5,
        "ema": 0.9999,
        "augment": "randaugment",
        "mixup": 0.0,
        "cutmix": 0.0,
    }


def test_the_warm_up_is_a_tenth_of_the_run_and_five_epochs_at_most() -> None:
    for epochs, warmup in ((0, 0), (1, 0.1), (10, 1), (50, 5), (51, 5), (360, 5)):
        assert values(epochs=epochs)["warmup_epochs"] == pytest.approx(warmup)


FLAGS: dict[str, Any] = {
    "optimizer": "momentum",
    "lr": 0.7,
    "schedule": "constant",
    "ema": 0.5,
    "deterministic": True,
    "randaugment_layers": 1,
} | dict.fromkeys(
    (
        *("warmup_epochs", "momentum", "weight_decay", "label_smoothing", "randaugment_magnitude"),
        *("mixup", "cutmix", "drop_rate", "drop_path"),
    ),
    0,
)


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_replaces_its_own_value_and_nothing_else(flag: str) -> None:
    by_recipe, asked = values(model="nfnet-f1"), values(model="nfnet-f1", **{flag: FLAGS[flag]})
    assert {name for name in by_recipe if by_recipe[name] != asked[name]} == {flag}
    assert by_recipe.keys() == asked.keys() and asked[flag] == FLAGS[flag]


@pytest.mark.parametrize(
    ("sets", "augments"),
    [
        ("digits mnist fashion-mnist", ("none",) * 3),
        ("cifar10 cifar100", ("flip",) * 3),
        ("imagenet imagefolder", ("nfnet", "flip", "randaugment")),
    ],
)
def test_each_kind_of_data_is_augmented_as_is_sound(sets: str, augments: tuple[str, ...]) -> None:
    for data in sets.split():
        assert tuple(values(family, data=data)["augment"] for family in FAMILIES) == augments


@pytest.mark.parametrize("augment", ["none", "flip", "randaugment", "nfnet"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_augmentation_that_is_asked_for_is_whole(family: RecipeName, augment: str) -> None:
    asked = values(family, data="digits", augment=augment)
    assert asked["augment"] == augment
    randomized = {"randaugment_layers", "randaugment_magnitude"} if augment in ("randaugment", "nfnet") else set()
    assert {name for name in asked if name in ("randaugment_layers", "randaugment_magnitude")} == randomized
    assert (asked["mixup"], asked["cutmix"]) == ((0.2, 1.0) if augment == "nfnet" else (0.0, 0.0))


def test_the_magnitude_of_randaugment_is_that_of_the_variant() -> None:
    names = [f"nfnet-f{i}" for i in range(8)]
    found = [values(model=name) for name in names]
    assert [v["randaugment_magnitude"] for v in found] == [5, 10, 10, 15, 15, 15, 15, 15]
    assert {v["randaugment_layers"] for v in found} == {4}
    # a pair differs in its normalization alone
    assert [values(model=f"bn-{name}") for name in names[:7]] == found[:7]
    assert values(model="tiny-nfnet")["randaugment_magnitude"] == 5
    assert values("efficientnet", model="nfnet-f3")["randaugment_magnitude"] == 9


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"batch": 27}, "--batch 27 is odd.\nMixUp and CutMix blend images in pairs.\nTry: --batch 28, or --mixup 0"),
        ({"batch": 27, "mixup": 0.0}, "--batch 27 is odd."),
        ({"batch": 27, "cutmix": 0.0}, "--batch 27 is odd."),
        ({"optimizer": "adamww"}, "timm has no optimizer called 'adamww'.\nThe nearest is adamw.\nTry: --optimizer"),
        ({"optimizer": "???"}, "timm has no optimizer called '???'.\nThere are: "),
        ({"alpha": 0.5}, "--alpha is of RMSProp; the run has sgd and a cosine schedule."),
        ({"optimizer": "adamw", "momentum": 0.8}, "--momentum is of an optimizer with momentum; the run has adamw"),
        ({"decay_rate": 0.5}, "--decay-rate is of an exponential schedule; the run has sgd and a cosine schedule."),
    ],
)
def test_what_cannot_be_or_nothing_would_use_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedWorkload) as caught:
        values(**asked)
    assert str(caught.value).startswith(words)


# ---- the optimizer


class Small(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))


def optimizer_of(net: nn.Module, **fields: Any) -> torch.optim.Optimizer:
    given = {"optimizer": "sgd", "lr": 0.5, "momentum": 0.9, "weight_decay": 0.1, "alpha": 0.9, "eps": 1e-3}
    return build_optimizer(net, given | fields)


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsproptf", "adamw", "adam", "lamb"])
def test_weight_decay_falls_on_weights_alone_whatever_the_optimizer(name: str) -> None:
    net = Small()
    groups = optimizer_of(net, optimizer=name, momentum=0.8).param_groups
    names = {id(p): name for name, p in net.named_parameters()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {"0.weight", "3.weight"} == decayed_names(net)
    assert {group["weight_decay"] for group in groups} == {0.1, 0.0}
    assert {group["lr"] for group in groups} == {0.5}
    assert sum(len(group["params"]) for group in groups) == len(names)
    assert name not in ("sgd", "momentum", "rmsproptf") or {group["momentum"] for group in groups} == {0.8}


def test_each_name_is_the_optimizer_it_says_with_the_settings_of_its_source() -> None:
    net = Small()
    assert all(group["nesterov"] and group["fused"] for group in optimizer_of(net).param_groups)
    assert not any(group["nesterov"] for group in optimizer_of(net, optimizer="momentum").param_groups)
    rmsprop = optimizer_of(net, optimizer="rmsproptf")
    assert type(rmsprop).__name__ == "RMSpropTF"
    assert {(g["alpha"], g["eps"], g["momentum"]) for g in rmsprop.param_groups} == {(0.9, 1e-3, 0.9)}
    assert type(optimizer_of(net, optimizer="adamw")) is torch.optim.AdamW
    (group, *_) = build_optimizer(net, values("efficientnet", alpha=0.99, eps=1e-8)).param_groups
    assert (group["alpha"], group["eps"]) == (0.99, 1e-8)


# ---- the schedule


def rate_of(epochs: int, updates: int, **fields: Any) -> Callable[[int], float]:
    """The rate of an update of a run whose peak is 2."""
    asked = values("efficientnet", lr=2.0, epochs=epochs, **({"schedule": "cosine"} | fields))
    optimizer = optimizer_of(Small(), lr=2.0)
    set_rate = build_schedule(optimizer, asked, epochs, updates)

    def at(update: int) -> float:
        set_rate(update)
        (rate,) = {group["lr"] for group in optimizer.param_groups}
        return float(rate)

    return at


def rates(epochs: int, updates: int, **fields: Any) -> list[float]:
    """The rate of each update."""
    return [*map(rate_of(epochs, updates, **fields), range(epochs * updates))]


def test_the_rate_rises_to_its_peak_and_falls_as_a_cosine_to_nearly_nothing_or_stays() -> None:
    cosine, constant = rates(10, 20), rates(10, 20, schedule="constant")
    rise = [2 * (i + 1) / 20 for i in range(20)]
    assert cosine == pytest.approx(rise + [1 + np.cos(np.pi * i / 180) for i in range(180)])
    assert max(cosine) == 2 and 0 < cosine[-1] < 1e-3
    assert constant == pytest.approx(rise + [2.0] * 180)
    assert set(rates(3, 5, schedule="constant", warmup_epochs=0.0)) == {2.0}


def test_the_published_exponential_schedule_is_that_of_the_reference() -> None:
    # tensorflow/tpu, models/official/efficientnet/utils.py: staircase, counted from the first step
    expected = [2 * ((t + 1) / 25 if t < 25 else 0.97 ** (t // 12)) for t in range(1750)]
    assert rates(350, 5, schedule="exponential") == pytest.approx(expected)
    given = rates(3, 1, schedule="exponential", decay_rate=0.5, decay_epochs=1.0, warmup_epochs=0.0)
    assert given == pytest.approx([2, 1, 0.5])


@pytest.mark.parametrize(("epochs", "updates"), [(350, 10), (90, 40), (10, 100), (5, 70), (1, 300)])
def test_an_exponential_schedule_ends_at_the_published_share_of_its_peak(epochs: int, updates: int) -> None:
    each = rates(epochs, updates, schedule="exponential")
    # 0.97 every 2.4 of 350 epochs, in steps; the last update of a short run is a little before the end
    assert each[-1] == pytest.approx(2 * 0.97 ** (350 / 2.4 // 1), rel=0.03 if epochs == 350 else 0.07)
    warmup = round(min(5, epochs / 10) * updates)
    assert each[:warmup] == pytest.approx([2 * (i + 1) / warmup for i in range(warmup)])
    # the published run has fallen twice by the end of its warm-up
    assert each[warmup] == pytest.approx(2 * 0.97**2)
    assert each[warmup:] == sorted(each[warmup:], reverse=True)


@pytest.mark.parametrize("schedule", ["cosine", "exponential", "constant"])
def test_a_rate_depends_on_the_number_of_its_update_alone(schedule: str) -> None:
    at, shuffled = rate_of(6, 10, schedule=schedule), list(range(60))
    random.Random(0).shuffle(shuffled)
    assert {update: at(update) for update in shuffled} == dict(enumerate(rates(6, 10, schedule=schedule)))


# ---- mixing


def mixed(n: int, smoothing: float = 0.0, seed: int = 0, **alphas: float) -> tuple[Tensor, Tensor]:
    """Images and targets after mixing ``n`` images: image i is 2^i in every pixel, its class is i."""
    np.random.seed(seed)
    images = (2.0 ** torch.arange(n)).view(-1, 1, 1, 1).repeat(1, 3, 16, 16)
    given = {"mixup": 0.2, "cutmix": 1.0, "label_smoothing": smoothing}
    kept, targets = build_mixing(given | alphas, classes=n + 1)(images, torch.arange(n))
    assert kept is images
    return images, targets


@pytest.mark.parametrize("n", [2, 6, 8, 10])
def test_half_of_a_batch_is_blended_and_the_other_half_cut_as_the_targets_say(n: int) -> None:
    half = {2: 0, 6: 4, 8: 4, 10: 4}[n]
    own = 2.0 ** torch.arange(n)
    blended = cut = False
    for seed in range(5):
        images, targets = mixed(n, seed=seed)
        torch.testing.assert_close(targets.sum(1), torch.ones(n))
        for i, (image, target) in enumerate(zip(images, targets, strict=True)):
            sources = target.nonzero().flatten().tolist()
            assert set(sources) <= {i, half - 1 - i if i < half else half + n - 1 - i}
            if i < half:
                # all pixels alike: the mean of two images by the shares of their classes
                torch.testing.assert_close(image, (own * target[:n]).sum().expand_as(image))
                blended |= 0.01 < float(target[i]) < 0.99
            else:
                # each pixel is one image's, as many of each as its class has of the target
                assert set(image.unique().tolist()) == {float(own[s]) for s in sources}
                for s in sources:
                    torch.testing.assert_close((image == own[s]).float().mean(), target[s])
                cut |= len(sources) == 2
    assert cut and blended == bool(half)


@pytest.mark.parametrize(("alone", "other"), [("mixup", "cutmix"), ("cutmix", "mixup")])
def test_one_kind_of_mixing_alone_leaves_the_other_half_of_the_batch_as_it_is(alone: str, other: str) -> None:
    images, targets = mixed(8, **{other: 0.0})
    before = (2.0 ** torch.arange(8)).view(-1, 1, 1, 1).expand_as(images)
    first, second = slice(0, 4), slice(4, 8)
    touched, kept = (first, second) if alone == "mixup" else (second, first)
    assert torch.equal(images[kept], before[kept]) and torch.equal(targets[kept], torch.eye(8, 9)[kept])
    assert not torch.equal(images[touched], before[touched]) and float(targets[touched].max()) < 1


def test_without_mixing_images_and_labels_are_handed_on() -> None:
    images, labels = torch.rand(3, 3, 4, 4), torch.arange(3)
    before = images.clone()
    mix = build_mixing({"mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.1}, classes=10)
    kept, targets = mix(images, labels)
    assert kept is images and targets is labels and torch.equal(images, before)


@pytest.mark.parametrize("alphas", [{}, {"mixup": 0.0}, {"cutmix": 0.0}])
def test_smoothed_targets_are_blended_as_sharp_ones_are(alphas: dict[str, float]) -> None:
    (plain, sharp), (same, smooth) = mixed(8, **alphas), mixed(8, smoothing=0.1, **alphas)
    assert torch.equal(plain, same)
    torch.testing.assert_close(smooth, 0.9 * sharp + 0.1 / 9)
    torch.testing.assert_close(smooth.sum(1), torch.ones(8))


# ---- the loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_soft_targets_is_that_of_classes_where_nothing_is_blended(smoothing: float) -> None:
    torch.manual_seed(0)
    outputs, labels = torch.randn(8, 5), torch.arange(8) % 5
    plain = {"mixup": 0.0, "cutmix": 0.0, "label_smoothing": smoothing}
    expected = build_loss(plain)(outputs, labels)
    # a blend of a class with itself is that class
    alike = torch.zeros(8, dtype=torch.int64)
    mixing = plain | {"mixup": 0.2, "cutmix": 1.0}
    _, targets = build_mixing(mixing, classes=5)(torch.zeros(8, 3, 4, 4), alike)
    torch.testing.assert_close(build_loss(mixing)(outputs, targets), build_loss(plain)(outputs, alike))
    shares = (1 - smoothing) * torch.eye(5)[labels] + smoothing / 5
    torch.testing.assert_close(build_loss(mixing)(outputs, shares), expected)
    torch.testing.assert_close(expected, -(shares * outputs.log_softmax(1)).sum(1).mean())
