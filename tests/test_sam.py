"""Sharpness-aware minimization and the moving average of weights, against loops written by hand in float64."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from make import asked_and_settled
from torch import Tensor, nn

from nfbench.catalog.models import RecipeName
from nfbench.nets.agc import adaptive_clip_grad_, agc_parameters
from nfbench.nets.build import awaken, build
from nfbench.nets.flops import Operators
from nfbench.nets.optimizer import build_optimizer
from nfbench.nets.sam import Sam, ascent_images
from nfbench.nets.train_step import TrainStep
from nfbench.records import SamScope

RATE, RADIUS, FRACTION = 0.05, 0.3, 0.3


def nothing() -> None:
    return None


def step_of(model: str, recipe: RecipeName, batch: int, px: int, **settings: Any) -> TrainStep:
    """A step of a net that is awake, its images not yet cut into micro-batches."""
    torch.manual_seed(0)
    net = build(model, num_classes=10)
    awaken(net)
    workload, resolved = asked_and_settled(batch, px, **settings)
    optimizer = build_optimizer(net, "sgd", recipe, RATE)
    return TrainStep(net, optimizer, workload, resolved, device=torch.device("cpu"), classes=10, seed=0)


def double_step(model: str, micro_batch: int, **settings: Any) -> TrainStep:
    """A step of eight images whose net and inputs are float64."""
    step = step_of(model, "nfnet", batch=8, px=32, **settings)
    step.net.double()
    step.arrange("nchw", micro_batch)
    step.inputs = [x.double() for x in step.inputs]
    return step


def by_hand(step: TrainStep, net: nn.Module, scope: str, micro_batch: int, clipping: float | None) -> None:
    """Two updates of ``net`` as the paper has them, on the inputs of ``step``."""
    images, targets = torch.cat(step.inputs), torch.cat(step.targets)
    optimizer = build_optimizer(net, "sgd", "nfnet", RATE)
    weights = list(net.parameters())

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(net(x), y, label_smoothing=0.1)

    def ascent(x: Tensor, y: Tensor) -> list[Tensor]:
        taken = math.ceil(FRACTION * len(x))
        gradient = torch.autograd.grad(loss(x[:taken], y[:taken]), weights)
        length = torch.cat([g.flatten() for g in gradient]).norm()
        return [RADIUS * g / length for g in gradient]

    def move(by: list[Tensor], sign: int) -> None:
        with torch.no_grad():
            for p, e in zip(weights, by, strict=True):
                p += sign * e

    for _ in range(2):
        away = ascent(images, targets) if scope == "batch" else []
        for x, y in zip(images.split(micro_batch), targets.split(micro_batch), strict=True):
            away = ascent(x, y) if scope == "micro-batch" else away
            move(away, 1)
            (loss(x, y) * len(x) / len(images)).backward()
            move(away, -1)
        if clipping is not None:
            adaptive_clip_grad_(agc_parameters(net), clipping, impl="reference")
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("clipping", [None, 0.02])
@pytest.mark.parametrize("micro_batch", [8, 2])
@pytest.mark.parametrize("scope", ["micro-batch", "batch"])
def test_sam_is_the_two_passes_written_by_hand(scope: str, micro_batch: int, clipping: float | None) -> None:
    step = double_step(
        "tiny-nfnet-s", micro_batch, clipping=clipping, sam=RADIUS, sam_fraction=FRACTION, sam_scope=scope
    )
    expected, plain = copy.deepcopy(step.net), copy.deepcopy(step.net)
    by_hand(step, expected, scope, micro_batch, clipping)
    for _ in range(2):
        step.update(nothing, 8 // micro_batch)
    for got, want in zip(step.net.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    # and the ascent matters: without it the weights end elsewhere by far more than that
    without = double_step("tiny-nfnet-s", micro_batch, clipping=clipping)
    without.net.load_state_dict(plain.state_dict())
    for _ in range(2):
        without.update(nothing, 8 // micro_batch)
    pairs = zip(step.net.parameters(), without.net.parameters(), strict=True)
    assert max(float((a - b).detach().abs().max()) for a, b in pairs) > 1e-5


def test_weights_come_back_bit_for_bit_and_the_ascent_leaves_no_gradient() -> None:
    net = build("tiny-nfnet-s")
    awaken(net)
    before = [p.detach().clone() for p in net.parameters()]
    sam = Sam(net, 0.05)
    for _ in range(2):
        gradient = torch.autograd.grad(net(torch.randn(2, 3, 32, 32)).square().mean(), sam.parameters)
        sam.ascend(list(gradient))
        moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(net.parameters(), before, strict=True)])
        assert float(moved.norm()) == pytest.approx(0.05, rel=1e-4)
        sam.restore()
        assert all(torch.equal(p.detach(), b) for p, b in zip(net.parameters(), before, strict=True))
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("model", ["tiny-resnet-s", "tiny-efficientnet-s"])
def test_running_statistics_are_those_of_the_descent_alone(model: str) -> None:
    step = double_step(model, 8, clipping=None, sam=RADIUS)
    before = {name: b.clone() for name, b in step.net.named_buffers()}
    step._ascent_gradient(0, 4)
    assert all(torch.equal(b, before[name]) for name, b in step.net.named_buffers())
    step.update(nothing, 1)
    counts = [b for name, b in step.net.named_buffers() if name.endswith("num_batches_tracked")]
    assert counts and all(int(count) == 1 for count in counts)
    means = [name for name, _ in step.net.named_buffers() if name.endswith("running_mean")]
    assert all(not torch.equal(step.net.get_buffer(name), before[name]) for name in means)


def test_an_ascent_that_overflows_fp16_spoils_no_running_statistics() -> None:
    step = step_of(
        "tiny-resnet-s", "bn-resnet", batch=4, px=64, precision="fp16", clipping=None, sam=0.05, sam_fraction=1.0
    )
    net = step.net
    step.arrange("nchw", 4)
    step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    before = [p.detach().clone() for p in net.parameters()]
    with step._autocast():
        gradients = step._ascent_gradient(0, 4)
    assert not all(bool(g.isfinite().all()) for g in gradients)  # or nothing is shown
    step.update(nothing, 1)
    assert all(bool(b.isfinite().all()) for b in net.buffers())
    assert all(torch.equal(p.detach(), b) for p, b in zip(net.parameters(), before, strict=True))
    step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    step.update(nothing, 1)
    assert any(not torch.equal(p.detach(), b) for p, b in zip(net.parameters(), before, strict=True))


@pytest.mark.parametrize(("scope", "micro_batch"), [("micro-batch", 2), ("batch", 2), ("batch", 1)])
def test_operators_are_those_of_a_whole_update(scope: str, micro_batch: int) -> None:
    # so low that every unit is clipped, as is counted
    step = double_step("tiny-nfnet-s", micro_batch, clipping=1e-7, sam=RADIUS, sam_fraction=0.5, sam_scope=scope)
    step.update(nothing, 8 // micro_batch)
    (counted,) = (r.values[0] for r in step.inspect(count_operators=True) if r.name == "operators")
    with Operators() as operators:
        step.update(nothing, 8 // micro_batch)
    assert counted == pytest.approx(operators.count, rel=0.01)


def test_the_ascent_sees_a_fifth_of_the_images_rounded_up_and_a_net_that_does_not_train_is_refused() -> None:
    assert [ascent_images(n, 0.2) for n in (1, 4, 5, 6, 15, 32, 64)] == [1, 1, 1, 2, 3, 7, 13]
    assert ascent_images(8, 1.0) == 8
    # their products are a little above 7 in floating point
    assert ascent_images(100, 0.07) == ascent_images(25, 0.28) == 7
    with pytest.raises(ValueError, match="of this net none does"):
        Sam(nn.Linear(2, 2).requires_grad_(False), 0.05)


@pytest.mark.parametrize("decay", [0.15, 0.99999])
def test_the_moving_average_warms_up_as_the_recipe_says(decay: float) -> None:
    step = double_step("tiny-nfnet-s", 8, clipping=0.02, ema=decay)
    average = [p.detach().clone() for p in step.net.parameters()]
    for t in range(4):
        step.update(nothing, 1)
        keep = min(decay, (1 + t) / (10 + t))
        average = [keep * a + (1 - keep) * p.detach() for a, p in zip(average, step.net.parameters(), strict=True)]
    for got, want in zip(step.ema.module.parameters(), average, strict=True):
        torch.testing.assert_close(got.detach(), want, rtol=1e-10, atol=1e-12)
    assert any(not torch.equal(a, p) for a, p in zip(step.ema.module.parameters(), step.net.parameters(), strict=True))
    # arranged anew, it begins anew
    step.arrange("nhwc", 8)
    start = [p.detach().clone() for p in step.net.parameters()]
    step.inputs = [x.double() for x in step.inputs]
    step.update(nothing, 1)
    for got, a, p in zip(step.ema.module.parameters(), start, step.net.parameters(), strict=True):
        torch.testing.assert_close(got.detach(), 0.1 * a + 0.9 * p.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scope", ["micro-batch", "batch"])
def test_in_fp16_gradients_are_unscaled_in_a_phase_between_the_ascent_and_the_clip(scope: SamScope) -> None:
    step = step_of("tiny-nfnet-s", "nfnet", batch=4, px=32, precision="fp16", clipping=0.01, sam=0.05, sam_scope=scope)
    step.arrange("nchw", 2)
    assert step.phases.tail[-3:] == ("unscale", "clip", "update")
    stamps: list[int] = []
    step.update(lambda: stamps.append(1), 2)
    assert len(stamps) == len(step.phases.head) + 2 * len(step.phases.each) + len(step.phases.tail)
