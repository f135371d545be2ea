"""Convolutions with scaled weight standardization (arXiv 2101.08692, section 4.1) that never copy a weight.

Batch norm's kernel standardizes the rows of a (C_out, fan-in) matrix in one pass. In channels-last memory such a matrix
is a view of the weight only in the order (C_out, kH, kW, C_in): timm's ``weight.reshape(1, C_out, -1)`` copies weights
there, and their gradients. The order within a row changes neither its mean nor its variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

# the reference's floor under variance · fan-in, here added to it
EPS = 1e-4


def standardized(weight: Tensor, scale: Tensor, eps: float) -> Tensor:
    """``weight``, (C_out, C_in / groups, kH, kW), with mean 0 and variance ``scale``² in each output unit.

    ``scale`` is (C_out,); ``eps`` is added to the variance. The result lies in memory as the weight does.
    """
    last = not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last)
    units = weight.permute(0, 2, 3, 1) if last else weight
    rows = units.reshape(1, len(weight), -1)
    result = F.batch_norm(rows, None, None, scale, training=True, eps=eps).view(units.shape)
    return result.permute(0, 3, 1, 2) if last else result


class StandardizedConv2d(nn.Conv2d):
    """A convolution with scaled weight standardization, made by `normalizer_free`.

    (N, C_in, H, W) → (N, C_out, H', W'). The weight that is convolved with has mean 0 and variance (gamma · gain)² /
    fan-in in each output unit, its fan-in being C_in / groups · kH · kW; ``weight`` is what it is made of. ``gain``,
    (C_out, 1, 1, 1), is learned.
    """

    gain: nn.Parameter
    gamma: float

    def standardized(self) -> Tensor:
        """The weight that is convolved with, (C_out, C_in / groups, kH, kW)."""
        # read once: what computes it, such as spectral norm, may change with each reading
        weight = self.weight
        fan_in = weight[0].numel()
        scale = (self.gain * (self.gamma * fan_in**-0.5)).reshape(-1)
        return standardized(weight, scale, EPS / fan_in)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self._conv_forward(input, self.standardized(), self.bias)
        return output


class StandardizedConv2dSame(StandardizedConv2d):
    """With the padding of timm's ``Conv2dSame``, TensorFlow's SAME, which depends on the size of the input."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(pad_same(input, list(self.kernel_size), list(self.stride), list(self.dilation)))


STANDARDIZED: Mapping[type[nn.Module], type[StandardizedConv2d]] = {
    nn.Conv2d: StandardizedConv2d,
    Conv2dSame: StandardizedConv2dSame,
}
"""The plain convolutions, and what each becomes."""


def standardize(convolution: nn.Conv2d, gamma: float, *, gain: float) -> None:
    """Make ``convolution`` a `StandardizedConv2d`: the same object, and so the same weight, hooks and places in use.

    ``gain`` fills its gains, and a bias of 0 comes where there was none; both are frozen where all is that the weight
    is made of.

    Raises:
        KeyError: it is of no type in `STANDARDIZED`.
    """
    # a reparametrized weight is computed from others, which a mere look at it may change
    like = [*convolution.parameters(), *convolution.buffers()][0]
    of_bias = "bias", "parametrizations.bias"
    trains = any(p.requires_grad for name, p in convolution.named_parameters() if not name.startswith(of_bias))
    kind = STANDARDIZED[parametrize.type_before_parametrizations(convolution)]
    if parametrize.is_parametrized(convolution):
        # such an object has a class to itself, which holds the property that computes its weight
        kind = type(f"Parametrized{kind.__name__}", (kind,), dict(vars(type(convolution))))
    convolution.__class__ = kind
    assert isinstance(convolution, StandardizedConv2d)
    gains = like.new_full((convolution.out_channels, 1, 1, 1), gain)
    convolution.gamma = gamma
    convolution.gain = nn.Parameter(gains, requires_grad=trains)
    if convolution.bias is None:
        convolution.bias = nn.Parameter(like.new_zeros(convolution.out_channels), requires_grad=trains)


class _UncopiedConv2d(ScaledStdConv2d):
    """timm's, which computes the same and copies no weight."""

    def forward(self, x: Tensor) -> Tensor:
        weight = standardized(self.weight, (self.gain * self.scale).view(-1), self.eps)
        output: Tensor = self._conv_forward(x, weight, self.bias)
        return output


class _UncopiedConv2dSame(_UncopiedConv2d):
    same_pad: bool

    def forward(self, x: Tensor) -> Tensor:
        if self.same_pad:
            x = pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation))
        return super().forward(x)


_UNCOPIED: Mapping[type[nn.Module], Any] = {
    ScaledStdConv2d: _UncopiedConv2d,
    ScaledStdConv2dSame: _UncopiedConv2dSame,
}


def uncopied(net: nn.Module) -> None:
    """Have timm's standardized convolutions in ``net`` copy no weight; they stay the same objects."""
    for module in net.modules():
        if type(module) in _UNCOPIED:
            module.__class__ = _UNCOPIED[type(module)]
