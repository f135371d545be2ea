"""The timed step, fed: it trains on what it is given, and looking at it changes nothing."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from make import asked_and_settled
from torch import Tensor, nn

from nfbench.learning.trainer import LearningStep
from nfbench.nets import agc
from nfbench.nets.optimizer import build_optimizer
from nfbench.nets.train_step import TrainStep

BATCH, PX, CLASSES = 8, 6, 5
WHOLE, PARTS = 8, 2
CLIPPING = 0.5


def nothing() -> None:
    return None


def step_of(kind: type[TrainStep] = LearningStep, micro_batch: int = PARTS, **settings: Any) -> Any:
    """A step of a small net in float64, its weights of several sizes, so that some units are clipped and some not."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.GELU(), nn.Conv2d(6, 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(32, CLASSES)
    )
    with torch.no_grad():
        for p in net.parameters():
            p *= torch.logspace(-2, 0.5, len(p)).view(-1, *(1,) * (p.dim() - 1))
    workload, resolved = asked_and_settled(BATCH, PX, **({"clipping": CLIPPING} | settings))
    optimizer = build_optimizer(net, "sgd", "nfnet", 0.05)
    step = kind(net, optimizer, workload, resolved, device=torch.device("cpu"), classes=CLASSES, seed=0)
    if resolved.precision == "fp32":
        net.double()
    step.arrange("nchw", micro_batch)
    return step


def batch_of(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(BATCH, 3, PX, PX, generator=generator, dtype=torch.float64)
    return images, torch.randint(CLASSES, (BATCH,), generator=generator)


def loss_of(net: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(net(images), targets, label_smoothing=0.1)


def weights(step: TrainStep) -> Tensor:
    return torch.cat([p.detach().flatten() for p in step.net.parameters()])


def updated(step: LearningStep, updates: int = 3, looking: bool = False) -> LearningStep:
    for i in range(updates):
        step.feed(*batch_of(i))
        step.looking = looking
        step.update(nothing, step.accumulation_steps)
    return step


@pytest.mark.parametrize("micro_batch", [8, 4, 1])
def test_the_loss_of_an_update_is_the_mean_over_the_whole_batch_of_classes_or_of_their_shares(micro_batch: int) -> None:
    one, other = step_of(micro_batch=micro_batch), step_of(micro_batch=micro_batch)
    for i in range(2):
        images, targets = batch_of(i)
        expected = loss_of(one.net, images, targets)
        one.feed(images, targets)
        other.feed(images, torch.eye(CLASSES, dtype=torch.float64)[targets])
        for step in (one, other):
            step.update(nothing, step.accumulation_steps)
            torch.testing.assert_close(step.total, expected.detach())
    torch.testing.assert_close(weights(one), weights(other))


@pytest.mark.parametrize("settings", [{}, {"clipping": None}, {"sam": 0.05}, {"ema": 0.9}])
def test_a_step_that_is_fed_is_the_timed_step_on_those_inputs(settings: dict[str, Any]) -> None:
    fed, timed = step_of(**settings), step_of(TrainStep, **settings)
    for i in range(3):
        images, targets = batch_of(i)
        timed.inputs, timed.targets = list(images.split(PARTS)), list(targets.split(PARTS))
        timed.update(nothing, BATCH // PARTS)
    assert torch.equal(weights(updated(fed)), weights(timed))
    assert not torch.equal(weights(fed), weights(step_of()))


@pytest.mark.parametrize("impl", ["foreach", "reference", "timm"])
@pytest.mark.parametrize("micro_batch", [WHOLE, PARTS])
def test_norms_and_clipped_units_are_those_of_the_whole_batchs_gradient(micro_batch: int, impl: str) -> None:
    step = step_of(micro_batch=micro_batch, impl=impl)
    net = copy.deepcopy(step.net)
    loss_of(net, *batch_of()).backward()
    clipped = agc.agc_parameters(net)
    shares = agc.units(clipped, CLIPPING, impl)  # type: ignore[arg-type]
    assert 0 < shares.clipped < shares.units  # or nothing is shown
    before = math.sqrt(sum(float(p.grad.square().sum()) for p in net.parameters()))
    agc.adaptive_clip_grad_(clipped, CLIPPING, impl=impl)  # type: ignore[arg-type]
    after = math.sqrt(sum(float(p.grad.square().sum()) for p in net.parameters()))
    assert after < before

    step.feed(*batch_of())
    step.looking = True
    step.update(nothing, step.accumulation_steps)
    assert not step.looking
    got_before, got_after, got_shares = step.taken()
    assert got_before == [pytest.approx(before)] and got_after == [pytest.approx(after)]
    assert got_shares == [pytest.approx(shares.clipped / shares.units)]


@pytest.mark.parametrize("impl", ["foreach", "reference", "timm"])
@pytest.mark.parametrize("settings", [{}, {"sam": 0.05, "sam_scope": "batch"}])
def test_looking_changes_not_a_bit_of_the_weights(impl: str, settings: dict[str, Any]) -> None:
    blind, seeing = (updated(step_of(impl=impl, **settings), looking=looking) for looking in (False, True))
    assert torch.equal(weights(blind), weights(seeing))
    assert blind.taken()[:2] == ([], []) and [len(found) for found in seeing.taken()] == [3, 3, 3]


def test_in_fp16_norms_are_those_of_the_unscaled_gradient_and_the_scale_rises_again() -> None:
    norms = []
    for scale in (2.0**6, 2.0**10):
        step = step_of(precision="fp16")
        step.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        images, targets = batch_of()
        step.feed(images.float(), targets)
        step.looking = True
        step.update(nothing, step.accumulation_steps)
        norms.append(step.taken()[0][0])
    assert norms[0] == pytest.approx(norms[1], rel=1e-2) and math.isfinite(norms[0])
    assert step_of(precision="fp16").scaler.get_growth_interval() < 10_000
    assert step_of(TrainStep, precision="fp16").scaler.get_growth_interval() > 10**9
