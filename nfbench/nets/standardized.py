"""Convolutions with scaled weight standardization, the weight that a net without normalization is convolved with.

Source: Brock, De and Smith 2021, "Characterizing signal propagation to close the performance gap in unnormalized
ResNets" (arXiv 2101.08692, section 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn import functional as F

# the reference's floor under variance · fan-in, here added to it
EPS = 1e-4


class StandardizedConv2d(nn.Conv2d):
    """A convolution with scaled weight standardization (arXiv 2101.08692, section 4.1), made by `normalizer_free`.

    (N, C_in, H, W) → (N, C_out, H', W'). The weight that is convolved with has mean 0 and variance (gamma · gain)² /
    fan-in in each output unit, its fan-in being C_in / groups · kH · kW; ``weight`` is what it is made of. ``gain``,
    (C_out, 1, 1, 1), is learned.
    """

    gain: nn.Parameter
    gamma: float

    def standardized(self) -> Tensor:
        """The weight that is convolved with, (C_out, C_in / groups, kH, kW)."""
        fan_in = self.weight[0].numel()
        # batch norm's kernel, over the rows of a (C_out, fan-in) matrix, does it in one pass
        rows = self.weight.reshape(1, self.out_channels, fan_in)
        scale = (self.gain * (self.gamma * fan_in**-0.5)).reshape(-1)
        standardized = F.batch_norm(rows, None, None, scale, training=True, eps=EPS / fan_in)
        return standardized.reshape(self.weight.shape)

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

    ``gain`` fills its gains, and a bias of 0 comes where there was none; both are frozen where the weight is.

    Raises:
        KeyError: it is of no type in `STANDARDIZED`.
    """
    weight = convolution.weight
    convolution.__class__ = STANDARDIZED[type(convolution)]
    assert isinstance(convolution, StandardizedConv2d)
    gains = weight.new_full((convolution.out_channels, 1, 1, 1), gain)
    convolution.gamma = gamma
    convolution.gain = nn.Parameter(gains, requires_grad=weight.requires_grad)
    if convolution.bias is None:
        convolution.bias = nn.Parameter(weight.new_zeros(convolution.out_channels), requires_grad=weight.requires_grad)
