"""Another normalization in the place of a net's batch normalization, and what is answered where there is none."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nfbench.catalog.models import Net, find
from nfbench.errors import UnsupportedWorkload
from nfbench.nets.build import awaken, build
from nfbench.nets.norm import FrozenBatchNorm, norm_of, with_norm

TWIN = replace(find("tiny-nfnet"), name="bn-tiny-nfnet", norm="batch", twin_of="tiny-nfnet")
NETS = [find("tiny-resnet"), find("tiny-efficientnet"), TWIN]
KINDS = {"sync_batch": nn.SyncBatchNorm, "group": nn.GroupNorm, "frozen": FrozenBatchNorm}

every_net = pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
every_kind = pytest.mark.parametrize("kind", KINDS)


def built(net: Net, kind: str = "auto") -> nn.Module:
    """The net from a fixed seed."""
    torch.manual_seed(0)
    return build(net, num_classes=10, norm=kind)


def images(count: int = 8) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def lived_in(net: nn.Module) -> nn.Module:
    """The net with running statistics and affine parameters away from their initial values."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, _BatchNorm):
                m.weight.add_(torch.rand(m.weight.shape, generator=generator))
                m.bias.add_(torch.rand(m.bias.shape, generator=generator))
        net.train()(images() * 2 + 1)
    return net


def activations(module: nn.Module) -> list[str]:
    """The kinds of the activations, in the order in which they run."""
    ran: list[str] = []
    for m in module.modules():
        if type(m).__name__ in ("ReLU", "SiLU", "Sigmoid"):
            m.register_forward_hook(lambda m, *_: ran.append(type(m).__name__))
    module(images(2))
    return ran


@every_net
@every_kind
def test_nothing_but_the_normalization_differs_in_a_net_of_another_kind(net: Net, kind: str) -> None:
    module, before = built(net, kind), built(net)
    norms = [m for m in module.modules() if isinstance(m, (_BatchNorm, nn.GroupNorm))]
    assert norm_of(module) == kind
    assert all(isinstance(m, KINDS[kind]) for m in norms)
    assert len(norms) == len([m for m in before.modules() if isinstance(m, _BatchNorm)]) > 0
    was, now = dict(before.named_parameters()), dict(module.named_parameters())
    assert list(was) == list(now)
    assert all(torch.equal(now[name], p) for name, p in was.items())
    assert activations(module) == activations(before) != []
    awake = awaken(module)
    assert awake == awaken(before)
    assert all(bool((p == 1).all()) for name, p in module.named_parameters() if name in awake)
    assert awaken(module) == []


@pytest.mark.parametrize(
    ("net", "kind"), [*((net, "batch") for net in NETS), (find("tiny-nfnet"), "none")], ids=lambda what: str(what)[:20]
)
def test_a_net_that_has_that_kind_already_is_left_as_it_is(net: Net, kind: Any) -> None:
    module = built(net)
    before = list(module.modules())
    assert with_norm(module, kind, name=net.name) is module
    assert all(a is b for a, b in zip(module.modules(), before, strict=True))


@every_net
def test_frozen_gives_in_training_what_batch_norm_gives_in_evaluation_and_a_step_moves_nothing_of_it(net: Net) -> None:
    module = lived_in(built(net))
    expected = module.eval()(images())
    frozen = with_norm(module, "frozen", name=net.name).train()
    assert torch.equal(frozen(images()), expected)
    awaken(frozen)
    norms = [m for m in frozen.modules() if isinstance(m, FrozenBatchNorm)]
    before = [t.clone() for m in norms for t in [*m.parameters(), *m.buffers()]]
    trained = [p for p in frozen.parameters() if p.requires_grad]
    assert len(trained) + sum(len(list(m.parameters())) for m in norms) == len(list(frozen.parameters()))
    frozen(images()).square().mean().backward()
    torch.optim.SGD(frozen.parameters(), lr=0.1).step()
    after = [t for m in norms for t in [*m.parameters(), *m.buffers()]]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert all(p.grad is not None for p in trained)


@every_net
def test_sync_batch_norm_keeps_the_tensors_and_the_outputs_of_batch_norm(net: Net) -> None:
    module = lived_in(built(net))
    tensors = [*module.parameters(), *module.buffers()]
    evaluated = module.eval()(images())
    trained = module.train()(images())
    statistics = [b.clone() for b in module.buffers()]
    synced = with_norm(lived_in(built(net)), "sync_batch", name=net.name)
    assert torch.equal(synced.eval()(images()), evaluated)
    assert torch.equal(synced.train()(images()), trained)
    assert all(torch.equal(a, b) for a, b in zip(synced.buffers(), statistics, strict=True))
    replaced = with_norm(module, "sync_batch", name=net.name)
    assert all(a is b for a, b in zip([*replaced.parameters(), *replaced.buffers()], tensors, strict=True))


@every_net
def test_group_norm_has_32_groups_or_the_most_that_divide_and_an_image_does_not_depend_on_its_batch(net: Net) -> None:
    @torch.no_grad()
    def change(module: nn.Module) -> float:
        one, other = images(), images()
        other[1:] = other[1:] * 3 + 1
        return float((module(one)[0] - module(other)[0]).abs().max())

    grouped = built(net, "group")
    norms = [m for m in grouped.modules() if isinstance(m, nn.GroupNorm)]
    assert all(m.affine and m.num_groups == math.gcd(32, m.num_channels) for m in norms)
    assert change(grouped) < 1e-5
    assert change(built(net)) > 1e-3


@every_kind
def test_a_norm_that_stands_in_two_places_stays_one_keeps_its_mode_and_a_lone_one_is_replaced(kind: Any) -> None:
    norm = BatchNormAct2d(4).eval()
    shared = with_norm(nn.Sequential(norm, nn.BatchNorm2d(4), norm), kind, name="mine:net")
    assert isinstance(shared, nn.Sequential)
    assert shared[0] is shared[2] and shared[0] is not norm
    assert [m.training for m in shared.children()] == [False, True]
    assert norm_of(shared) == norm_of(with_norm(nn.BatchNorm2d(4), kind, name="mine:net")) == kind


NO_BATCH_NORM = "{} has no batch normalization that --norm {} could replace.\nIt has no normalization at all.\nTry: {}"
NEVER_WITHOUT = (
    "There is no {} without normalization.\n"
    "Its normalization is 'batch'; a net without any is another net, with a name of its own.\nTry: {}"
)
ANOTHER = "a net whose norm is none: `nfbench models`"


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("nfnet-f0", "group", NO_BATCH_NORM.format("nfnet-f0", "group", "--model bn-nfnet-f0 --norm group")),
        ("nf-resnet101", "batch", NO_BATCH_NORM.format("nf-resnet101", "batch", "--model resnet101 --norm batch")),
        ("tiny-nfnet", "frozen", NO_BATCH_NORM.format("tiny-nfnet", "frozen", "--model bn-tiny-nfnet --norm frozen")),
        ("timm:test_vit", "sync_batch", "timm:test_vit has no batch normalization that --norm sync_batch could"),
        ("bn-nfnet-f0", "none", NEVER_WITHOUT.format("bn-nfnet-f0", "--model nfnet-f0")),
        (
            "efficientnet-b0",
            "none",
            NEVER_WITHOUT.format("efficientnet-b0", "a net whose norm is none: `nfbench models`"),
        ),
        ("tiny-resnet", "instance", "There is no normalization called 'instance'.\nThe kinds are none, batch,"),
    ],
)
def test_a_kind_that_a_net_cannot_have_is_answered_in_words(name: str, kind: str, answer: str) -> None:
    with pytest.raises(UnsupportedWorkload) as error:
        build(name, device="meta", norm=kind)
    assert str(error.value).startswith(answer)


def test_a_norm_without_running_statistics_cannot_be_frozen() -> None:
    with pytest.raises(UnsupportedWorkload, match="The batch normalization of mine:net cannot be frozen"):
        with_norm(nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)), "frozen", name="mine:net")
