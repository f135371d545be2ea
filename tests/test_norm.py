"""Another normalization in the place of a net's batch normalization, and what is answered where there is none."""

from __future__ import annotations

import math
from dataclasses import replace

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
OTHERS = ["sync_batch", "group", "frozen"]

every_net = pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
every_other = pytest.mark.parametrize("kind", OTHERS)


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


@every_net
@every_other
def test_a_net_tells_its_kind_and_keeps_no_batch_norm_of_another(net: Net, kind: str) -> None:
    module = built(net, kind)
    wanted = {"sync_batch": nn.SyncBatchNorm, "group": nn.GroupNorm, "frozen": FrozenBatchNorm}[kind]
    before = [m for m in built(net).modules() if isinstance(m, _BatchNorm)]
    norms = [m for m in module.modules() if isinstance(m, (_BatchNorm, nn.GroupNorm))]
    assert norm_of(module) == kind
    assert all(isinstance(m, wanted) for m in norms)
    assert len(norms) == len(before) > 0


@every_net
@every_other
def test_weights_keep_their_names_order_and_values(net: Net, kind: str) -> None:
    before, after = dict(built(net).named_parameters()), dict(built(net, kind).named_parameters())
    assert list(before) == list(after)
    assert all(torch.equal(after[name], p) for name, p in before.items())


@every_net
@every_other
def test_the_activations_that_run_are_the_same(net: Net, kind: str) -> None:
    def acts(module: nn.Module) -> list[str]:
        found: list[str] = []
        for m in module.modules():
            if type(m).__name__ in ("ReLU", "SiLU", "Sigmoid"):
                m.register_forward_hook(lambda m, *_: found.append(type(m).__name__))
        module(images(2))
        return found

    expected = acts(built(net))
    assert acts(built(net, kind)) == expected
    assert expected


@every_net
def test_batch_changes_nothing_in_a_net_with_batch_norm(net: Net) -> None:
    module = built(net)
    before = list(module.modules())
    assert with_norm(module, "batch", name=net.name) is module
    assert all(a is b for a, b in zip(module.modules(), before, strict=True))


def test_none_changes_nothing_in_a_net_without_normalization() -> None:
    module = built(find("tiny-nfnet"))
    before = list(module.modules())
    assert with_norm(module, "none", name="tiny-nfnet") is module
    assert all(a is b for a, b in zip(module.modules(), before, strict=True))


@every_net
def test_frozen_gives_in_training_mode_what_batch_norm_gives_in_evaluation(net: Net) -> None:
    module = lived_in(built(net))
    expected = module.eval()(images())
    frozen = with_norm(module, "frozen", name=net.name).train()
    assert frozen.training
    assert torch.equal(frozen(images()), expected)


@every_net
def test_a_training_step_moves_nothing_of_a_frozen_norm_and_all_else(net: Net) -> None:
    module = with_norm(lived_in(built(net)), "frozen", name=net.name).train()
    awaken(module)
    norms = [m for m in module.modules() if isinstance(m, FrozenBatchNorm)]
    before = [t.clone() for m in norms for t in [*m.parameters(), *m.buffers()]]
    assert not [p for m in norms for p in m.parameters() if p.requires_grad]
    trained = [p for p in module.parameters() if p.requires_grad]
    module(images()).square().mean().backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    after = [t for m in norms for t in [*m.parameters(), *m.buffers()]]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert len(trained) + sum(len(list(m.parameters())) for m in norms) == len(list(module.parameters()))
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
    kept = with_norm(module, "sync_batch", name=net.name)
    assert all(a is b for a, b in zip([*kept.parameters(), *kept.buffers()], tensors, strict=True))


@every_net
def test_with_group_norm_an_image_s_output_does_not_depend_on_the_rest_of_its_batch(net: Net) -> None:
    @torch.no_grad()
    def change(module: nn.Module) -> float:
        one, other = images(), images()
        other[1:] = other[1:] * 3 + 1
        return float((module(one)[0] - module(other)[0]).abs().max())

    assert change(built(net, "group")) < 1e-5
    assert change(built(net)) > 1e-3


@every_net
def test_group_norm_has_32_groups_or_the_most_that_divide_both_32_and_the_channels(net: Net) -> None:
    norms = [m for m in built(net, "group").modules() if isinstance(m, nn.GroupNorm)]
    assert all(m.affine and m.num_groups == math.gcd(32, m.num_channels) for m in norms)


@every_net
@pytest.mark.parametrize("kind", ["auto", *OTHERS])
def test_awaking_sets_the_same_gains_to_1_whatever_the_kind(net: Net, kind: str) -> None:
    module = built(net, kind)
    awake = awaken(module)
    assert awake == awaken(built(net))
    assert all(bool((p == 1).all()) for name, p in module.named_parameters() if name in awake)
    assert awaken(module) == []


@every_other
def test_on_the_meta_device_nothing_is_allocated(kind: str) -> None:
    module = build("bn-nfnet-f0", device="meta", norm=kind)
    assert all(t.is_meta for t in [*module.parameters(), *module.buffers()])


@every_other
def test_a_norm_that_stands_in_two_places_stays_one_and_a_lone_one_is_replaced(kind: str) -> None:
    norm = BatchNormAct2d(4)
    shared = with_norm(nn.Sequential(norm, nn.Conv2d(4, 4, 1), norm), kind, name="mine:net")  # type: ignore[arg-type]
    assert isinstance(shared, nn.Sequential)
    assert shared[0] is shared[2] and shared[0] is not norm
    assert norm_of(shared) == norm_of(with_norm(nn.BatchNorm2d(4), kind, name="mine:net")) == kind  # type: ignore[arg-type]


def test_a_norm_keeps_its_mode() -> None:
    module = nn.Sequential(nn.BatchNorm2d(4).eval(), nn.BatchNorm2d(4))
    assert [m.training for m in with_norm(module, "group", name="mine:net").children()] == [False, True]


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        (
            "nfnet-f0",
            "group",
            "nfnet-f0 has no batch normalization that --norm group could replace.\n"
            "It has no normalization at all.\nTry: --model bn-nfnet-f0 --norm group",
        ),
        (
            "nf-resnet101",
            "batch",
            "nf-resnet101 has no batch normalization that --norm batch could replace.\n"
            "It has no normalization at all.\nTry: --model resnet101 --norm batch",
        ),
        (
            "tiny-nfnet",
            "frozen",
            "tiny-nfnet has no batch normalization that --norm frozen could replace.\n"
            "It has no normalization at all.\nTry: without --norm, or --norm auto",
        ),
        (
            "timm:test_vit",
            "sync_batch",
            "timm:test_vit has no batch normalization that --norm sync_batch could replace.\n"
            "Its normalization is 'layer'.\nTry: without --norm, or --norm auto",
        ),
        (
            "bn-nfnet-f0",
            "none",
            "There is no bn-nfnet-f0 without normalization.\n"
            "Its normalization is 'batch'; a net without any is another net, with a name of its own.\n"
            "Try: --model nfnet-f0",
        ),
        (
            "resnet50",
            "none",
            "There is no resnet50 without normalization.\n"
            "Its normalization is 'batch'; a net without any is another net, with a name of its own.\n"
            "Try: --model nf-resnet50",
        ),
        (
            "efficientnet-b0",
            "none",
            "There is no efficientnet-b0 without normalization.\n"
            "Its normalization is 'batch'; a net without any is another net, with a name of its own.\n"
            "Try: a net whose norm is none: `nfbench models`",
        ),
        (
            "tiny-resnet",
            "instance",
            "There is no normalization called 'instance'.\nThe kinds are none, batch, sync_batch, group, frozen.\n"
            "Try: --norm auto for the net's own",
        ),
    ],
)
def test_a_kind_that_a_net_cannot_have_is_answered_in_words(name: str, kind: str, said: str) -> None:
    with pytest.raises(UnsupportedWorkload) as error:
        build(name, device="meta", norm=kind)
    assert str(error.value) == said


def test_a_norm_without_running_statistics_cannot_be_frozen() -> None:
    with pytest.raises(UnsupportedWorkload, match="The batch normalization of mine:net cannot be frozen"):
        with_norm(nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)), "frozen", name="mine:net")
