"""The batch-normalized twin: the NF net's graph, with batch normalization before every activation and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.drop import DropPath
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame
from timm.models.nfnet import GammaAct, NormFreeBlock
from torch import Tensor, nn

from nfbench.catalog.models import NETS, Net, counted, find
from nfbench.nets.build import build
from nfbench.nets.describe import describe
from nfbench.nets.flops import count
from nfbench.nets.twin import batchnorm_twin


def small(name: str, **kwargs: object) -> Net:
    return replace(find(name), kwargs=(*find(name).kwargs, *kwargs.items()))


NF = {
    "nfnet": small(
        "nfnet-f0", depths=(1, 2, 1, 1), channels=(32, 64, 96, 96), stem_chs=32, group_size=8, num_features=128
    ),
    "nf-resnet": find("tiny-nf-resnet"),
    "nfnet-light": find("tiny-nfnet"),
    "nf-regnet": small("nf-regnet-b0", depths=(1, 1, 2, 1), channels=(16, 32, 48, 64)),
}


def pair(kind: str) -> tuple[nn.Module, nn.Module]:
    """An NF net and its twin, built from the same seed."""
    net = NF[kind]
    torch.manual_seed(0)
    free = build(net, num_classes=10)
    torch.manual_seed(0)
    return free, build(replace(net, norm="batch", twin_of=net.name), num_classes=10)


def ran(net: nn.Module, note: Callable[[str, nn.Module, Tensor], Any], only: type[nn.Module] = nn.Module) -> list[Any]:
    """What ``note`` makes of each leaf's name, module and output, in the order in which the leaves run."""
    found: list[Any] = []
    for name, module in net.named_modules():
        if isinstance(module, only) and next(module.children(), None) is None:
            module.register_forward_hook(lambda m, _, out, name=name: found.append(note(name, m, out)))
    net(torch.randn(2, 3, 64, 64))
    return found


def convolutions(net: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions by name, but those of squeeze-and-excite."""
    return {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and ".attn" not in n}


@pytest.mark.parametrize("kind", NF)
def test_nothing_is_left_of_what_replaces_batch_normalization(kind: str) -> None:
    _, twin = pair(kind)
    replaced = (ScaledStdConv2d, ScaledStdConv2dSame, GammaAct, NormFreeBlock)
    assert not [name for name, m in twin.named_modules() if isinstance(m, replaced)]
    assert not [name for name, _ in twin.named_parameters() if "gain" in name]
    assert not [name for name, m in convolutions(twin).items() if m.bias is not None]
    for block in (block for stage in twin.stages for block in stage):
        assert not {"alpha", "beta", "attn_gain", "skipinit_gain"} & set(dir(block))


@pytest.mark.parametrize("kind", NF)
def test_the_same_layers_run_in_the_same_order_with_one_batch_norm_before_each_activation(
    kind: str,
) -> None:
    free, twin = pair(kind)
    expected: list[str] = []
    activations = 0
    for name in ran(free, lambda name, *_: name):
        acts = name.rpartition(".")[2].startswith(("act", "final_act")) and ".attn" not in name
        activations += acts
        expected += [f"{name}.bn", f"{name}.act"] if acts else [name]
    assert ran(twin, lambda name, *_: name) == expected
    norms = [m for m in twin.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    assert [type(m) for m in norms] == [nn.BatchNorm2d] * activations

    def shape(name: str, conv: nn.Module, out: Tensor) -> object:
        assert isinstance(conv, nn.Conv2d)
        same = getattr(conv, "same_pad", False) or isinstance(conv, Conv2dSame)
        return name, out.shape, conv.weight.shape, conv.stride, conv.dilation, conv.groups, same or conv.padding

    assert ran(twin, shape, nn.Conv2d) == ran(free, shape, nn.Conv2d)


@pytest.mark.parametrize("kind", NF)
def test_from_a_seed_the_twin_has_the_nf_net_s_weights_and_macs_and_every_parameter_trains(kind: str) -> None:
    free, twin = pair(kind)
    weights, of_twin = dict(free.named_parameters()), dict(twin.named_parameters())
    shared = [name for name in weights if name in of_twin]
    assert set(convolutions(twin)) <= {name.removesuffix(".weight") for name in shared}
    assert all(torch.equal(weights[name], of_twin[name]) for name in shared)
    assert all(".bn." in name for name in of_twin if name not in weights)
    counts = count(twin, 64), count(free, 64)
    assert counts[0].macs == counts[1].macs and counts[0].activations == counts[1].activations
    for drop in (m for m in twin.modules() if isinstance(m, DropPath)):
        drop.drop_prob = 0.0
    twin(torch.randn(4, 3, 64, 64)).square().mean().backward()
    assert not [name for name, p in of_twin.items() if p.grad is None or not p.grad.isfinite().all()]


@pytest.mark.parametrize("twin", [net for net in NETS if net.twin_of], ids=lambda net: net.name)
def test_a_twin_of_the_catalogue_has_the_sizes_rates_and_counts_of_its_nf_net(twin: Net) -> None:
    free = find(twin.twin_of or "")
    assert (twin.train_px, twin.test_px) == (free.train_px, free.test_px)
    assert (twin.config, twin.kwargs, twin.norm) == (free.config, free.kwargs, "batch")
    for px in (twin.train_px, twin.test_px):
        of_twin, of_free = counted(twin.name, px), counted(free.name, px)
        assert of_twin and of_free and of_twin[::2] == of_free[::2]
        assert abs(of_twin.params / of_free.params - 1) < (0.003 if free.family == "tiny" else 0.001)


def test_dropout_and_stochastic_depth_are_those_of_the_nf_net() -> None:
    def rates(name: str) -> list[object]:
        net = build(name, device="meta")
        paths = [block.drop_path for stage in net.stages for block in stage]
        drops = [(d.drop_prob, d.scale_by_keep) if isinstance(d, DropPath) else type(d) for d in paths]
        return [net.head.drop.p, *drops]

    assert rates("bn-nfnet-f1") == rates("nfnet-f1")
    assert rates("bn-nfnet-f1")[-1] == (0.25 * 23 / 24, False)
    twin = build("bn-nfnet-f1", device="meta")
    assert all(t.is_meta for t in [*twin.parameters(), *twin.buffers()])


def test_the_branch_reaches_the_shortcut_without_being_multiplied() -> None:
    _, twin = pair("nfnet")
    block = twin.stages[1][0]
    seen: dict[str, Tensor] = {}
    block.attn_last.register_forward_hook(lambda m, _, out: seen.update(attended=out))
    block.downsample.register_forward_hook(lambda m, _, out: seen.update(shortcut=out))
    block.drop_path.register_forward_hook(lambda m, inputs, out: seen.update(dropped=inputs[0], kept=out))
    out = block(torch.randn(2, 32, 16, 16))
    assert seen["dropped"] is seen["attended"]
    assert torch.equal(out, seen["kept"] + seen["shortcut"])


def test_squeeze_and_excite_in_the_middle_is_not_doubled_either() -> None:
    twin = batchnorm_twin(build("timm:nf_regnet_b0", num_classes=10))
    block = twin.stages[1][1]
    seen: dict[str, Tensor] = {}
    block.attn.register_forward_hook(lambda m, _, out: seen.update(attended=out))
    block.act3.register_forward_pre_hook(lambda m, inputs: seen.update(activated=inputs[0]))
    block(torch.randn(2, block.conv1.in_channels, 8, 8))
    assert seen["activated"] is seen["attended"]


def test_a_twins_recipe_is_its_nf_nets_without_the_clip() -> None:
    def recipe(name: str) -> dict[str, object]:
        return {row["what"]: row["value"] for row in describe(find(name)) if row["about"] == "recipe"}

    free, twin = recipe("nfnet-f0"), recipe("bn-nfnet-f0")
    assert free.pop("agc") == 0.01
    assert twin == free
