"""The batch-normalized twin of a normalizer-free net: the same graph and the same weights, with batch normalization.

Brock et al. 2021, Table 6 ("- NF + BN"), compares an NFNet with such a twin. What the twin lacks is all that replaces
batch normalization: Scaled Weight Standardization with its gain, the convolutions' biases, the scalars α, β and γ, the
factor of 2 on squeeze-and-excite, and SkipInit's gain.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame
from timm.models.nfnet import GammaAct, NormFreeBlock, NormFreeNet
from torch import Tensor, nn


class Activation(nn.Module):
    """A `GammaAct` without γ, so that nothing is multiplied by 1."""

    def __init__(self, act: GammaAct) -> None:
        super().__init__()
        self.act_fn, self.inplace = act.act_fn, act.inplace

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act_fn(x, inplace=self.inplace)
        return activated


class BatchNormBlock(nn.Module):
    """The pre-activation block of `NormFreeBlock` with a batch normalization before each of its activations.

    It takes over the parts of ``block`` under their names, whose convolutions `batchnorm_twin` has made plain::

        x ── act1 ─┬─ conv1 ─ act2 ─ conv2 ─(act2b ─ conv2b)─(attn)─ act3 ─ conv3 ─(attn_last)─ drop_path ─ + ──
                   └─ downsample, or x itself ──────────────────────────────────────────────────────────────┘

    Shapes: (N, C, H, W) to (N, C', H', W'). ``attn`` stands in the middle in RegNets and last in all others.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.downsample = block.downsample
        self.act1 = _normalized(block.act1, block.conv1.weight, block.conv1.in_channels)
        self.conv1 = block.conv1
        self.act2 = _normalized(block.act2, block.conv1.weight)
        self.conv2 = block.conv2
        self.act2b = _normalized(block.act2b, block.conv2.weight) if block.act2b is not None else None
        self.conv2b = block.conv2b
        self.attn = block.attn
        self.act3 = _normalized(block.act3, block.conv3.weight, block.conv3.in_channels)
        self.conv3 = block.conv3
        self.attn_last = block.attn_last
        self.drop_path = block.drop_path

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(x)
        shortcut = x if self.downsample is None else self.downsample(out)
        out = self.conv2(self.act2(self.conv1(out)))
        if self.conv2b is not None and self.act2b is not None:
            out = self.conv2b(self.act2b(out))
        if self.attn is not None:
            out = self.attn(out)
        out = self.conv3(self.act3(out))
        if self.attn_last is not None:
            out = self.attn_last(out)
        joined: Tensor = self.drop_path(out) + shortcut
        return joined


def batchnorm_twin(net: NormFreeNet) -> NormFreeNet:
    """Turn ``net`` into its batch-normalized twin, in place, and return it; on the meta device as on any other.

    Batch normalization stands before every activation of the stem, of the blocks and at the end, and nowhere else: the
    shortcut's convolution has none, nor has the ReLU inside squeeze-and-excite. Convolutions keep their weight tensors,
    strides and (SAME) padding and lose their biases; dropout and stochastic depth stay.
    """
    for name, module in list(net.named_modules()):
        if isinstance(module, (ScaledStdConv2d, ScaledStdConv2dSame)):
            net.set_submodule(name, _plain(module))
    for name, module in list(net.stem.named_children()):
        if isinstance(module, nn.Conv2d):
            weight = module.weight
        elif name.startswith("act"):
            setattr(net.stem, name, _normalized(module, weight))
    for name, module in list(net.stages.named_modules()):
        if isinstance(module, NormFreeBlock):
            net.stages.set_submodule(name, BatchNormBlock(module))
    net.final_act = _normalized(net.final_act, weight, net.num_features)
    return net.train(net.training)


def _plain(conv: Any) -> nn.Conv2d:
    """The convolution with the same weight tensor, without its standardization, gain and bias."""
    kind = Conv2dSame if getattr(conv, "same_pad", False) else nn.Conv2d
    plain: nn.Conv2d = kind(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=False,
        device="meta",  # its weight is replaced: neither memory nor a random number is spent on it
    )
    plain.weight = conv.weight
    return plain


def _normalized(act: nn.Module, weight: Tensor, channels: int | None = None) -> nn.Sequential:
    """Batch normalization, then ``act``; on the device of ``weight`` and over its output channels unless told."""
    bn = nn.BatchNorm2d(channels or weight.shape[0], device=weight.device, dtype=weight.dtype)
    return nn.Sequential(OrderedDict(bn=bn, act=Activation(act) if isinstance(act, GammaAct) else act))
