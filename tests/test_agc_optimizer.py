"""AGC is an optimizer like any other: it clips, then updates, and all else is the wrapped optimizer's."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, SequentialLR, StepLR

from nfbench.nets.agc import adaptive_clip_grad_, agc_parameters, unitwise_norm
from nfbench.nets.agc_optimizer import AGC

LAMBDA = 0.01


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 5))


def loss_of(model: nn.Module, step: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    images = 10 * torch.randn(8, 3, 4, 4, generator=generator)
    return nn.functional.cross_entropy(model(images), torch.randint(5, (8,), generator=generator))


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(ones: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ones, others, strict=True))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range = range(4)) -> list[Tensor]:
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
    return weights(model)


def sgd(model: nn.Module, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, **options})


def ratios(p: nn.Parameter) -> Tensor:
    """‖G‖ / max(‖W‖, eps) of each unit."""
    assert p.grad is not None
    return unitwise_norm(p.grad) / unitwise_norm(p.detach()).clamp(min=1e-3)


def test_a_step_is_a_clip_and_then_the_step_of_the_wrapped_optimizer() -> None:
    wrapped, by_hand = net(), net()
    optimizer, bare = AGC(sgd(wrapped), wrapped), sgd(by_hand)
    for step in range(4):
        for model in (wrapped, by_hand):
            model.zero_grad()
            loss_of(model, step).backward()
        optimizer.step()
        clipped = adaptive_clip_grad_(agc_parameters(by_hand))
        bare.step()
        assert optimizer.last_clipped is not None
        assert optimizer.last_clipped.shape == ()
        assert int(optimizer.last_clipped) == int(clipped) > 0
    assert same(weights(wrapped), weights(by_hand))


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        (None, {"5.weight"}),
        ([], set()),
        (["0", "5.bias"], {"0.weight", "0.bias", "5.bias"}),
        (iter(["3"]), {"3.weight", "3.bias"}),
    ],
    ids=["head", "none", "names", "generator"],
)
def test_what_is_ignored_keeps_its_gradient_and_all_else_is_clipped(ignore: Any, left: set[str]) -> None:
    model = net()
    optimizer = AGC(sgd(model, lr=0.0), model, ignore=ignore)
    loss_of(model).mul(1e3).backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    optimizer.step()
    for name, p in model.named_parameters():
        assert torch.equal(p.grad, before[name]) == (name in left)  # type: ignore[arg-type]
        assert name in left or (ratios(p) <= 1.001 * LAMBDA).all()


def test_only_what_the_optimizer_has_is_clipped_a_group_added_later_and_a_parameter_thawed_later_too() -> None:
    model = net()
    first, second, third = model[0].weight, model[3].weight, model[5].bias
    first.requires_grad_(False)
    optimizer = AGC(torch.optim.SGD(model[0].parameters(), lr=0.0), model)
    assert not first.requires_grad
    first.requires_grad_(True)
    optimizer.add_param_group({"params": list(model[3].parameters()), "lr": 0.0})
    assert len(optimizer.param_groups) == len(optimizer.optimizer.param_groups) == 2
    loss_of(model).mul(1e3).backward()
    before = third.grad.clone()
    optimizer.step()
    assert all((ratios(p) <= 1.001 * LAMBDA).all() for p in (first, second))
    assert torch.equal(third.grad, before)


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], LRScheduler]] = {
    "step": lambda o: StepLR(o, 2),
    "one cycle": lambda o: OneCycleLR(o, 0.3, total_steps=8),
    "sequential": lambda o: SequentialLR(o, [StepLR(o, 1), CosineAnnealingLR(o, 4)], [2]),
}


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
def test_a_scheduler_on_the_wrapper_drives_the_wrapped_one(
    make: Callable[[torch.optim.Optimizer], LRScheduler],
) -> None:
    wrapped, bare = net(), net()
    optimizer = AGC(sgd(wrapped), wrapped, clipping=1e9)
    reference = sgd(bare)
    ours, theirs = make(optimizer), make(reference)
    for step in range(6):
        train(wrapped, optimizer, range(step, step + 1))
        train(bare, reference, range(step, step + 1))
        ours.step()
        theirs.step()
        assert [g["lr"] for g in optimizer.optimizer.param_groups] == [g["lr"] for g in reference.param_groups]
    assert same(weights(wrapped), weights(bare))


def test_a_scheduler_still_reaches_the_wrapped_optimizer_after_loading_and_adding_a_group() -> None:
    model = net()
    optimizer = AGC(torch.optim.SGD(model[0].parameters(), lr=0.1), model)
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    optimizer.load_state_dict(optimizer.state_dict())
    train(model, optimizer)
    for loss in (1.0, 2.0):
        scheduler.step(loss)
    assert optimizer.optimizer.param_groups[0]["lr"] == 0.05
    optimizer.add_param_group({"params": list(model[3].parameters()), "lr": 1.0})
    optimizer.param_groups[1]["lr"] = 0.25
    assert optimizer.optimizer.param_groups[1]["lr"] == 0.25
    assert optimizer.state is optimizer.optimizer.state
    assert optimizer.defaults is optimizer.optimizer.defaults


def test_checkpoints_go_from_the_bare_optimizer_to_the_wrapped_one_and_back() -> None:
    model = net()
    bare = sgd(model)
    train(model, bare)
    checkpoint = reloaded({"net": model.state_dict(), "optimizer": bare.state_dict()}, weights_only=True)
    other = net(1)
    other.load_state_dict(checkpoint["net"])
    optimizer = AGC(sgd(other, lr=5.0), other, clipping=1e9)
    optimizer.load_state_dict(checkpoint["optimizer"])
    assert same(train(model, bare, range(4, 8)), train(other, optimizer, range(4, 8)))
    again = sgd(net(2))
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["lr"] == 0.1


def reloaded(what: Any, weights_only: bool = False) -> Any:
    file = io.BytesIO()
    torch.save(what, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


@pytest.mark.parametrize("through", [copy.deepcopy, reloaded], ids=["copy", "pickle"])
def test_a_copy_trains_on_like_the_original(through: Callable[[Any], Any]) -> None:
    model = net()
    optimizer = AGC(sgd(model), model, ignore=["0"])
    scheduler = StepLR(optimizer, 1)
    train(model, optimizer)
    scheduler.step()
    twin, twins = through((model, optimizer))
    assert same(train(model, optimizer, range(4, 8)), train(twin, twins, range(4, 8)))
    assert int(twins.last_clipped) == int(optimizer.last_clipped or 0) > 0
    assert twins.param_groups[0]["lr"] == pytest.approx(0.01)


class Thrice(torch.optim.SGD):
    """Evaluates its closure three times a step; keeps the largest ratio of gradient to weight in the first layer."""

    def step(self, closure: Any = None) -> Any:
        self.ratios = []
        for _ in range(3):
            closure()
            self.ratios.append(float(ratios(self.param_groups[0]["params"][0]).max()))
        return super().step()


def closure_of(model: nn.Module, optimizer: AGC, losses: list[float]) -> Callable[[], float]:
    """A closure that appends each loss to ``losses``."""

    def closure() -> float:
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        losses.append(loss.item())
        return loss.item()

    return closure


def test_a_closure_is_called_once_with_gradients_on_and_clipped_before_the_update() -> None:
    wrapped, by_hand = net(), net()
    optimizer, reference = AGC(sgd(wrapped), wrapped), AGC(sgd(by_hand), by_hand)
    losses: list[float] = []
    with torch.no_grad():
        loss = optimizer.step(closure_of(wrapped, optimizer, losses))
    assert losses == [loss] == [loss_of(by_hand).item()]
    train(by_hand, reference, range(1))
    assert same(weights(wrapped), weights(by_hand))


def test_an_optimizer_that_evaluates_several_times_sees_clipped_gradients_each_time() -> None:
    model = net()
    inner = Thrice(model.parameters(), lr=0.1)
    optimizer = AGC(inner, model)
    losses: list[float] = []
    optimizer.step(closure_of(model, optimizer, losses))
    assert len(losses) == 3
    assert inner.ratios == pytest.approx([LAMBDA] * 3)


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_a_grad_scaler_unscales_before_the_clip_and_skips_the_step_where_a_gradient_is_infinite(fused: bool) -> None:
    plain, scaled = net(), net()
    reference, optimizer = (AGC(sgd(model, fused=fused), model) for model in (plain, scaled))
    scaler = torch.amp.GradScaler(device="cpu", init_scale=2.0**10)
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale(loss_of(scaled, step)).backward()
        scaler.step(optimizer)
        scaler.update()
        train(plain, reference, range(step, step + 1))
        assert int(optimizer.last_clipped or 0) == int(reference.last_clipped or 0) > 0
    assert same(weights(scaled), weights(plain))
    optimizer.last_clipped = None
    scaler.scale(loss_of(scaled)).backward()
    scaled[0].weight.grad[0, 0, 0, 0] = float("inf")
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert same(weights(scaled), weights(plain))
    assert scaler.get_scale() == 2.0**9
    assert optimizer.last_clipped is None


def test_hooks_run_before_the_clip_and_after_the_update() -> None:
    model = net()
    optimizer = AGC(sgd(model), model)
    seen: list[tuple[str, float, float]] = []

    def look(when: str) -> None:
        seen.append((when, float(model[0].weight.grad.norm()), float(model[0].weight.detach().norm())))

    handles = [
        optimizer.register_step_pre_hook(lambda o, *_: look("before" if o is optimizer else "stranger")),
        optimizer.optimizer.register_step_pre_hook(lambda *_: look("between")),
        optimizer.register_step_post_hook(lambda *_: look("after")),
    ]
    train(model, optimizer, range(1))
    moments, gradient, weight = zip(*seen, strict=True)
    assert moments == ("before", "between", "after")
    assert gradient[0] > gradient[1] == gradient[2]
    assert weight[0] == weight[1] != weight[2]
    for handle in handles:
        handle.remove()
    train(model, optimizer, range(1))
    assert len(seen) == 3


def test_hooks_of_the_state_dict_run_on_the_wrapper() -> None:
    model = net()
    optimizer = AGC(sgd(model), model)
    seen: list[str] = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("saving"))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "epoch": 3})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: {k: v for k, v in state.items() if k != "epoch"})
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    assert saved["epoch"] == 3
    assert seen == ["saving", "loaded"]


def test_it_shows_itself_clears_gradients_and_is_named_by_the_profiler() -> None:
    model = net()
    optimizer = AGC(sgd(model), model, clipping=0.02)
    assert repr(optimizer).startswith("AGC (\nclipping: 0.02\n")
    assert "optimizer: SGD (" in repr(optimizer)
    train(model, optimizer, range(1))
    with torch.autograd.profiler.profile() as profile:
        optimizer.step()
    names = {event.key for event in profile.key_averages()}
    assert {"Optimizer.step#AGC.step", "Optimizer.step#SGD.step"} <= names
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


@pytest.fixture
def process_group() -> Iterator[None]:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_net_in_distributed_data_parallel_trains_like_the_bare_one(process_group: None) -> None:
    bare, inner = net(), net()
    wrapped = nn.parallel.DistributedDataParallel(inner)
    ours = train(wrapped, AGC(sgd(wrapped), wrapped, ignore=["0"]))
    assert same(ours, train(bare, AGC(sgd(bare), bare, ignore=["0"])))


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"clipping": 0.0}, "clipping is 0.0: it is λ, .*leave AGC out"),
        ({"clipping": float("nan")}, "clipping is nan"),
        ({"clipping": float("inf")}, "clipping is inf"),
        ({"eps": -1.0}, "eps is -1.0"),
        ({"impl": "quick"}, "There is no implementation 'quick': it is one of auto, "),
        ({"ignore": ["3.weigth"]}, "no module or parameter called '3.weigth'.*3.weight"),
    ],
    ids=str,
)
def test_what_cannot_be_is_told_when_agc_is_made(options: dict[str, Any], answer: str) -> None:
    model = net()
    with pytest.raises(ValueError, match=answer):
        AGC(sgd(model), model, **options)


def test_parameters_in_place_of_an_optimizer_and_another_model_are_answered_in_words() -> None:
    model = net()
    with pytest.raises(TypeError, match=r"AGC wraps an optimizer, and this is a Sequential\. Give it one: AGC"):
        AGC(model, sgd(model))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"none of the model's parameters.*that the optimizer was built from"):
        AGC(sgd(model), net())
