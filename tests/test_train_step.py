"""The timed step trains: its weights are those of a loop written by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from nfbench.analysis import metrics
from nfbench.devices import cpu
from nfbench.devices.cpu import Cpu
from nfbench.devices.torch_device import TorchSteps
from nfbench.measuring.measure import Measurement
from nfbench.measuring.window import Window
from nfbench.nets.build import awaken, build
from nfbench.records import Resolved, Result, Sampling, StepTime

FAST = Sampling(max_time=0.5, min_steps=3)


def nothing() -> None:
    return None


class Opened(Cpu):
    """A CPU whose steps the test may look into and change before they are timed."""

    def __init__(self, change: Callable[[TorchSteps], None] = lambda steps: None) -> None:
        super().__init__()
        self.change = change
        self.built: TorchSteps | None = None

    def build(self, workload: StepTime, resolved: Resolved, seed: int) -> TorchSteps:
        self.built = super().build(workload, resolved, seed)
        self.change(self.built)
        return self.built

    def lock_name(self) -> str | None:
        return None


def measured(workload: StepTime, device: Opened, sampling: Sampling = FAST) -> Result:
    return Measurement(device, workload, sampling, lambda result: None).turn()


def built(device: Opened | None = None, **settings: Any) -> TorchSteps:
    """The steps of a tiny net in passes of two images, on a CPU."""
    device = device or Opened()
    workload = StepTime(**{"model": "tiny-resnet-s", "batch": 2, "micro_batch": 2, "layout": "nchw", **settings})
    return device.build(workload, device.resolve(workload), seed=0)


def inspected(steps: TorchSteps, name: str) -> float:
    return next(r.values[0] for r in steps.inspect() if r.name == name and r.values[0] is not None)


def rate(value: float) -> Callable[[TorchSteps], None]:
    def change(steps: TorchSteps) -> None:
        for group in steps.step.optimizer.param_groups:
            group["lr"] = value

    return change


def by_hand(step: Any, updates: int, micro_batch: int, clipping: float | None, lr: float) -> list[torch.Tensor]:
    """The plain loop on the same inputs, from a net built with the same seed."""
    torch.manual_seed(0)
    net = build("tiny-nf-resnet", num_classes=1000).train()
    awaken(net)
    net.to(memory_format=torch.channels_last)
    vectors = [p for p in net.parameters() if p.squeeze().ndim <= 1]
    weights = [p for p in net.parameters() if p.squeeze().ndim > 1]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 2e-5}, {"params": vectors, "weight_decay": 0.0}],
        lr=lr,
        momentum=0.9,
        nesterov=True,
    )
    head = net.get_parameter("head.fc.weight")
    images, targets = torch.cat(step.inputs), torch.cat(step.targets)
    for _ in range(updates):
        for x, y in zip(images.split(micro_batch), targets.split(micro_batch), strict=True):
            logits = net(x.contiguous(memory_format=torch.channels_last))
            soft = torch.full_like(logits, 0.1 / 1000).scatter_(1, y[:, None], 0.9 + 0.1 / 1000)
            loss = -(soft * torch.log_softmax(logits, 1)).sum(1).mean()
            (loss * micro_batch / len(images)).backward()
        if clipping is not None:
            for p in net.parameters():
                if p is head or p.grad is None:
                    continue
                vector = sum(side > 1 for side in p.shape) <= 1
                dims = None if vector else tuple(range(1, p.ndim))
                norm = torch.linalg.vector_norm(p.detach(), dim=dims, keepdim=True)
                limit = clipping * norm.clamp(min=1e-3)
                grad = torch.linalg.vector_norm(p.grad, dim=dims, keepdim=True).clamp(min=1e-6)
                p.grad.mul_((limit / grad).clamp(max=1.0))
        optimizer.step()
        optimizer.zero_grad()
    return [p.detach() for p in net.parameters()]


def same_weights(step: Any, micro_batch: int, clipping: float | None, lr: float) -> None:
    wanted = by_hand(step, step.updates, micro_batch, clipping, lr)
    torch.manual_seed(0)
    start = build("tiny-nf-resnet", num_classes=1000)
    awaken(start)
    trained = 0.0
    for before, got, want in zip(start.parameters(), step.net.parameters(), wanted, strict=True):
        torch.testing.assert_close(got.detach(), want, rtol=1e-6, atol=1e-6)
        trained = max(trained, float((want - before.detach()).abs().max()))
    # the tolerance is small beside what training did to the weights
    assert trained > 1e-4


@pytest.mark.parametrize("micro_batch", [8, 4, 2])
@pytest.mark.parametrize(("clipping", "lr"), [(0.02, 0.1), (None, 1e-3)])
def test_weights_after_timed_steps_equal_a_loop_by_hand(micro_batch: int, clipping: float | None, lr: float) -> None:
    device, agc = Opened(rate(lr)), "none" if clipping is None else clipping
    steps = built(device, model="tiny-nf-resnet", batch=8, micro_batch=micro_batch, layout="nhwc", agc=agc)
    window = Window(device, steps, 8 // micro_batch, 8 // micro_batch)
    window.block(5)
    assert len(window.step) == 5 and steps.step.updates == 6
    same_weights(steps.step, micro_batch, clipping, lr)


def test_weights_after_a_whole_measurement_equal_a_loop_by_hand() -> None:
    device = Opened(rate(0.1))
    workload = StepTime(model="tiny-nf-resnet", batch=8, micro_batch=8, layout="nhwc", agc=0.02)
    result = measured(workload, device, Sampling(max_time=0.2, min_steps=2))
    assert result.status == "ok" and device.built is not None
    # first step, warm-up, window and the update that is looked into
    assert device.built.step.updates >= 4
    same_weights(device.built.step, 8, 0.02, 0.1)


def test_timed_steps_leave_the_weights_where_they_were_with_gains_awake() -> None:
    device = Opened()
    measured(StepTime(model="tiny-nfnet", batch=4, layout="nhwc"), device)
    torch.manual_seed(0)
    start = build("tiny-nfnet", num_classes=1000)
    assert awaken(start)
    for before, after in zip(start.parameters(), device.built.step.net.parameters(), strict=True):  # type: ignore[union-attr]
        torch.testing.assert_close(before, after, rtol=1e-2, atol=1e-4)


class Slow(nn.Module):
    """Passes its input on; ``act`` is called in its forward or in its backward."""

    def __init__(self, act: Callable[[], None], backward: bool) -> None:
        super().__init__()
        self.act, self.backward = act, backward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.backward:
            self.act()
        elif x.requires_grad:
            x.register_hook(lambda grad: self.act())
        return x


@pytest.mark.parametrize("slow", ["forward", "backward", "unscale", "clip", "update"])
def test_what_takes_long_raises_its_own_phase_and_no_other(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [0.0]  # of a clock that stands still but where something is slow

    def act() -> None:
        seconds[0] += 1.0

    monkeypatch.setattr(cpu, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    device = Opened()
    steps = built(device, px=32, agc=0.01, precision="fp16" if slow == "unscale" else "fp32")
    step, model, clip = steps.step, steps.step.model, steps.step.clip
    if step.scaler is not None:
        unscale = step.scaler.unscale_
        monkeypatch.setattr(step.scaler, "unscale_", lambda optimizer: (act(), unscale(optimizer)))
    elif slow == "clip":
        step.clip = lambda: (act(), clip())
    elif slow == "update":
        step.optimizer.register_step_post_hook(lambda *_: act())
    else:
        slowed = Slow(act, slow == "backward")
        step.model = lambda x: slowed(model(x))
    window = Window(device, steps, 1, 1)
    window.block(3)
    phases = {**{phase: [t for (t,) in times] for phase, times in window.each.items()}, **window.once}
    expected = ("forward", "backward", *(["unscale"] if slow == "unscale" else []), "clip", "update")
    assert phases == {phase: [float(phase == slow)] * 3 for phase in expected}


def test_fp16_gradients_are_unscaled_before_they_are_clipped() -> None:
    clipped = [inspected(built(model="tiny-nfnet-s", agc=0.05, precision=p), "clipped_units") for p in ("fp32", "fp16")]
    # 65,536 times as large, nearly every unit would be clipped
    assert 0 < clipped[0] < 0.5
    assert clipped[1] == pytest.approx(clipped[0], abs=0.05)


def test_an_fp16_update_that_failed_after_its_unscaling_is_forgotten_with_its_layout() -> None:
    steps = built(model="tiny-nfnet-s", precision="fp16")
    clip, steps.step.clip = steps.step.clip, lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        steps.update(nothing, 1)
    steps.step.clip = clip
    steps.arrange("nhwc", 2)
    steps.update(nothing, 1)
    assert steps.finite()


def test_an_fp16_run_whose_first_update_is_skipped_trains_on_clean_momentum() -> None:
    steps = built(model="tiny-efficientnet-s", precision="fp16")
    step = steps.step
    before = [p.detach().clone() for p in step.net.parameters()]
    sound, step.inputs[0] = step.inputs[0], torch.full_like(step.inputs[0], float("inf"))
    steps.update(nothing, 1)
    assert all(torch.equal(a, b.detach()) for a, b in zip(before, step.net.parameters(), strict=True))
    momenta = [state["momentum_buffer"] for state in step.optimizer.state.values()]
    assert momenta and not any(bool(m.any()) for m in momenta)
    step.inputs[0] = sound
    for norm in step.net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
    steps.update(nothing, 1)
    assert all(bool(p.isfinite().all()) for p in step.net.parameters())
    assert inspected(steps, "skipped_updates") == 1


def test_an_fp16_update_that_failed_half_way_can_be_tried_again() -> None:
    steps = built(model="tiny-efficientnet-s", precision="fp16")

    def full(*_: object) -> None:
        raise MemoryError

    clip, steps.step.clip = steps.step.clip, full
    with pytest.raises(MemoryError):
        steps.update(nothing, 1)
    steps.step.clip = clip
    steps.arrange("nchw", 2)
    steps.update(nothing, 1)
    assert inspected(steps, "skipped_updates") == 0


SMALL = """
from torch import nn

def net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, num_classes))
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_a_net_is_really_compiled_for_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("small.py").write_text(SMALL, encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    device = Opened()
    # each layer of a net is some seconds of the C++ compiler
    workload = StepTime(model="small:net", px=16, batch=2, micro_batch=2, layout="nchw", compile="default")
    result = measured(workload, device, Sampling(max_time=1, min_steps=2))
    assert result.status == "ok", result.message
    assert result.value("first_step") > 10 * (metrics.seconds(result) or 1)  # type: ignore[operator]


def test_a_net_that_explodes_is_diverged() -> None:
    def explode(steps: TorchSteps) -> None:
        with torch.no_grad():
            steps.step.net.fc.weight.fill_(float("inf"))  # type: ignore[union-attr,operator]

    result = measured(StepTime(model="tiny-resnet-s", batch=2, micro_batch=2, layout="nchw"), Opened(explode))
    assert result.status == "diverged"
    assert metrics.throughput(result) is None
