"""nfbench's nets standardize their weights as timm's do, and copy none of them in channels-last memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nfbench.catalog.models import NETS
from nfbench.devices.cpu import Cpu
from nfbench.nets.build import awaken, build
from nfbench.nets.convert import normalizer_free
from nfbench.nets.standardized import uncopied
from nfbench.records import StepTime

TIMMS = (ScaledStdConv2d, ScaledStdConv2dSame)


class Copies(TorchDispatchMode):
    """While entered, notes the shapes of what is cloned or copied."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes: set[torch.Size] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.clone, torch.ops.aten.copy_):
            self.shapes.add(result.shape)
        return result


def copied(net: nn.Module) -> set[torch.Size]:
    """The shapes of the convolutions' weights that a pass of ``net`` copies in channels-last memory."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(3, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    copies = Copies()
    with copies:
        net(images).square().mean().backward()
    return copies.shapes & {m.weight.shape for m in net.modules() if isinstance(m, nn.Conv2d)}


@pytest.mark.parametrize("net", ["tiny-nfnet", "tiny-nf-resnet-s", "nf-regnet-b0", "made normalizer-free"])
def test_no_weight_is_copied_in_channels_last(net: str) -> None:
    module = build("tiny-resnet" if net == "made normalizer-free" else net)
    if net == "made normalizer-free":
        normalizer_free(module)
    awaken(module)
    assert not copied(module)


def test_timms_own_nets_stay_as_they_are_and_copy_weights() -> None:
    net = build("timm:test_nfnet")
    assert {type(m) for m in net.modules() if isinstance(m, TIMMS)} <= set(TIMMS)
    assert copied(net)


def convolutions() -> Iterator[nn.Module]:
    for kind in TIMMS:
        for kernel, groups, stride in ((3, 1, 1), (3, 2, 2), (1, 1, 1), (7, 1, 2)):
            padding = "SAME" if kind is ScaledStdConv2dSame else None
            conv = kind(8, 12, kernel, stride=stride, groups=groups, padding=padding, gamma=1.7)
            nn.init.uniform_(conv.gain, 0.5, 2)
            yield conv


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_a_convolution_and_its_gradients_are_timms(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    for theirs in convolutions():
        theirs.to(memory_format=layout)  # type: ignore[call-overload]
        ours = copy.deepcopy(theirs)
        uncopied(ours)
        images = torch.randn(2, 8, 15, 15).contiguous(memory_format=layout)
        sides: list[list[Tensor]] = []
        for conv in (ours, theirs):
            assert (type(conv) in TIMMS) == (conv is theirs)
            x = images.clone().requires_grad_()
            y = conv(x)
            y.square().mean().backward()
            sides.append([y.detach(), x.grad, *(p.grad for p in conv.parameters())])  # type: ignore[list-item]
        torch.testing.assert_close(sides[0], sides[1], rtol=1e-6, atol=1e-6)


def test_every_net_of_the_catalogue_without_normalization_is_nfbenchs_and_a_result_says_so() -> None:
    for net in (NETS[0], *(n for n in NETS if n.family in ("tiny", "nf-regnet", "nfnet-light"))):
        kinds = {type(m) for m in build(net, device="meta").modules() if isinstance(m, TIMMS)}
        assert bool(kinds) == (net.norm == "none") and kinds.isdisjoint(TIMMS)
    says = {
        name: Cpu().resolve(StepTime(model=name)).standardize
        for name in ("nfnet-f0", "timm:dm_nfnet_f0", "bn-nfnet-f0", "resnet50")
    }
    assert says == {"nfnet-f0": "nfbench", "timm:dm_nfnet_f0": None, "bn-nfnet-f0": None, "resnet50": None}
