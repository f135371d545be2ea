"""A user's own net without normalization: scaled weight standardization in place of batch norm.

What the modules of a net are for is told by their types and by the names that torchvision and timm give them: which
convolutions are gates or the classifier, which of them ends a residual branch, and which activation feeds the others.

Sources: Brock, De and Smith 2021, "Characterizing signal propagation to close the performance gap in unnormalized
ResNets" (arXiv 2101.08692: the convolution and gamma) and Brock, De, Smith and Simonyan 2021, "High-performance
large-scale image recognition without normalization" (arXiv 2102.06171: gains, biases and what is left alone).
"""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import type_before_parametrizations

from nfbench.nets.agc import unwrapped
from nfbench.nets.build import head_names
from nfbench.nets.norm import is_norm
from nfbench.nets.standardized import STANDARDIZED, StandardizedConv2d, standardize


class Change(NamedTuple):
    """What a module was, by the name of its class, and what it became; None where it was left alone."""

    name: str
    was: str
    became: str | None
    why: str = ""

    def __str__(self) -> str:
        outcome = "left alone" if self.became is None else f"→ {self.became}"
        return f"{self.name}: {self.was} {outcome}" + (f" ({self.why})" if self.why else "")


def normalizer_free(model: nn.Module, *, gamma: float | None = None, branch_gain: float = 0.2) -> list[Change]:
    """Take batch normalization out of a torchvision or timm net, in place, and list what was changed.

    - Each plain convolution (``nn.Conv2d``, timm's ``Conv2dSame``), parametrized or not, becomes a
      `StandardizedConv2d` of the same name, weight and geometry, with a gain of 1 and, if it had none, a bias of 0.
    - Each batch norm becomes ``nn.Identity``, or its activation where it has one inside (timm's ``BatchNormAct2d``).
      Activations then no longer work in place: what they would overwrite may now be the input of a shortcut.
    - The convolution that ends a residual branch gets ``branch_gain`` for its gain instead: 0.2 is the alpha that an
      NF-ResNet multiplies its branches by, so that the variance grows by 4 % a block instead of doubling. Such ends are
      told by attribute names, in the ResNets, RegNets, ByobNets and inverted residuals of torchvision and timm. Where
      none is found the list says so: in a residual net, fill the ``gain`` of the last convolution of each branch.
    - A layer scale that multiplies a branch without a shortcut, and that batch norm used to undo, becomes 1.
    - Left alone, and listed with the reason: squeeze-and-excite convolutions, the classifier, convolutions with one
      input per output (standardized they would be 0), other kinds of convolution, other normalization.

    The forward of each block stays the model's own, so there is no beta as in an NF-ResNet. The net computes something
    else than before: train or fine-tune it, with AGC. Weights keep their names, and a checkpoint of the net that it was
    loads with ``strict=False``. Call this before the optimizer is built, which has to know gains and biases.

    Args:
        model: the net, on any device; on meta nothing is allocated.
        gamma: 1 / std(act(z)) for z ~ N(0, 1), in every convolution. None takes the activation that most of the net's
            activation modules are (the first met, on a tie; those of gates don't count), and ReLU where there are none.
        branch_gain: the first gain of a convolution that ends a branch. 0 starts each block as its shortcut, as in
            timm's NF-ResNets; AGC lets a gain of 0 grow by no more than lr · clipping · 1e-3 a step, so `ignore` the
            gains then, or train for long.

    Raises:
        ValueError: nothing can be standardized, the net is normalizer-free already or wrapped (DistributedDataParallel,
            torch.compile), has lazy layers without sizes, gamma is not positive or cannot be computed, or branch_gain
            is negative. The model is unchanged then.
    """
    modules = dict(model.named_modules())
    kept = left_alone(model)
    plain = [name for name, module in modules.items() if _is_plain(module) and name not in kept]
    _check(model, plain, gamma, branch_gain)
    gamma = gamma_of(modules) if gamma is None else gamma
    ends = branch_ends(modules, plain)
    changes: list[Change] = []
    instead: dict[nn.Module, nn.Module] = {}
    for name, module in modules.items():
        was = type(module).__name__
        if name in kept:
            changes.append(Change(name, was, None, kept[name]))
        elif isinstance(module, nn.Conv2d) and name in plain:
            standardize(module, gamma, gain=branch_gain if name in ends else 1.0)
            why = f"gain {branch_gain:g}: it ends a residual branch" if name in ends else ""
            changes.append(Change(name, was, type(module).__name__, why))
        elif isinstance(module, _BatchNorm):
            instead[module] = _without_norm(module)
            changes.append(Change(name, was, type(instead[module]).__name__))
    _replace(model, instead)
    if instead and not ends:
        why = "no residual branch's end was told: where there are branches, set the gain of their last convolution"
        changes.append(Change("", type(model).__name__, None, why))
    return changes + ([*_unscaled(modules), *_out_of_place(model)] if instead else [])


def _check(model: nn.Module, plain: Collection[str], gamma: float | None, branch_gain: float) -> None:
    if unwrapped(model) is not model:
        raise ValueError(
            f"The net is in {type(model).__name__}, which would not know its new parameters. "
            "Call normalizer_free on the bare net and wrap it afterwards."
        )
    if any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        raise ValueError("The net has lazy layers without sizes: call it on one batch first, then normalizer_free.")
    if gamma is not None and not (gamma > 0 and math.isfinite(gamma)):
        raise ValueError(f"gamma is {gamma}, and every weight is multiplied by it. Give a positive number or None.")
    if not (branch_gain >= 0 and math.isfinite(branch_gain)):
        raise ValueError(f"branch_gain is {branch_gain}. Give a number from 0 to 1, such as 0.2.")
    if plain:
        return
    done = [m for m in model.modules() if isinstance(m, (StandardizedConv2d, ScaledStdConv2d, ScaledStdConv2dSame))]
    if done:
        raise ValueError(
            f"{type(model).__name__} is normalizer-free already: {len(done)} of its convolutions have scaled weight "
            "standardization, and it has no plain one. Leave the call of normalizer_free out."
        )
    raise ValueError(
        f"{type(model).__name__} has no plain convolution with more than one input per output, so there is nothing to "
        "standardize. Give normalizer_free a net of nn.Conv2d, such as torchvision.models.resnet18()."
    )


def _without_norm(norm: nn.Module) -> nn.Module:
    """What timm's norms hold inside, which is dropout and an activation; ``nn.Identity`` for all others."""
    held = [part for part in norm.children() if not isinstance(part, nn.Identity)]
    if len(held) > 1:
        return nn.Sequential(*held).train(norm.training)
    return held[0] if held else nn.Identity().train(norm.training)


def _replace(model: nn.Module, instead: Mapping[nn.Module, nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and child in instead:
                parent._modules[name] = instead[child]


def _unscaled(modules: Mapping[str, nn.Module]) -> list[Change]:
    """Layer scales of blocks without a shortcut set to 1: nothing would undo their tiny factor any more."""
    changes = []
    for name, block in modules.items():
        gamma = getattr(getattr(block, "layer_scale", None), "gamma", None)
        if getattr(block, "has_skip", True) is False and isinstance(gamma, nn.Parameter):
            nn.init.ones_(gamma)
            kind = type(block.layer_scale).__name__
            changes.append(Change(f"{name}.layer_scale", kind, kind, "set to 1: its block has no shortcut"))
    return changes


def _out_of_place(model: nn.Module) -> list[Change]:
    changes = []
    for name, module in model.named_modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False
            kind = type(module).__name__
            changes.append(Change(name, kind, kind, "no longer in place"))
    return changes


# 1 / std(act(z)) for z ~ N(0, 1), as the reference and timm's nfnet.py give it; for any other activation it is computed
GAMMA = {
    "ReLU": 1.7139588594436646,
    "ReLU6": 1.7131484746932983,
    "GELU": 1.7015043497085571,
    "SiLU": 1.7881293296813965,
}
# what gates and outputs end in; no convolution is fed by it
_NOT_FEEDING = {"Sigmoid", "HardSigmoid", "Hardsigmoid", "Softmax", "Softmax2d", "LogSoftmax", "MultiheadAttention"}
# modules whose 1×1 convolutions see a pooled input, by the names that libraries give them
_GATE = re.compile(
    r"Excit|^(Effective)?SE(Module|Layer|Block)?$|Ese|C?[Ee]ca(Module)?$|Cbam|GlobalContext|NonLocalAttn"
    r"|(Channel|Kernel|Split|Coord|Strip)Attn"
)
# the mark of a residual block, and where its branch may end, the likelier first: ResNets of torchvision and timm and
# timm's RegNets; timm's inverted residuals; torchvision's, three kinds; torchvision's RegNets; timm's ByobNets
_BRANCHES = (
    ("downsample", ("conv3", "conv2")),
    ("has_skip", ("conv_pwl", "pw_proj", "conv_pw", "conv")),
    ("use_res_connect", ("block", "conv")),
    ("apply_residual", ("layers",)),
    ("proj", ("f",)),
    ("shortcut", ("conv3_1x1", "conv2_1x1", "conv2_kxk")),
)


def left_alone(model: nn.Module) -> dict[str, str]:
    """Convolutions and normalization that `normalizer_free` leaves as they are: name → why."""
    gates = _gates(dict(model.named_modules()))
    head = head_names(model)
    kept = {}
    for name, module in model.named_modules():
        if isinstance(module, _ConvNd):
            pointwise = set(module.kernel_size) == {1}
            if name.startswith(gates) and (pointwise or not _is_plain(module)):
                kept[name] = "squeeze-and-excite"
            elif any(f"{name}.{leaf}" in head for leaf, _ in module.named_parameters()):
                kept[name] = "the classifier"
            elif not _is_plain(module):
                kept[name] = "not a plain two-dimensional convolution"
            elif any(p.is_complex() for p in module.parameters()):
                kept[name] = "complex: its weights have no variance to standardize"
            elif module.in_channels == module.groups and pointwise:
                kept[name] = "one input per output: standardized, it would be 0"
        elif _other_norm(module):
            kept[name] = "another normalization than batch norm"
    return kept


def _is_plain(module: nn.Module) -> bool:
    return type_before_parametrizations(module) in STANDARDIZED


def branch_ends(modules: Mapping[str, nn.Module], plain: Collection[str]) -> set[str]:
    """The names of the convolutions that end a residual branch, among ``plain``, those that are standardized."""
    ends = set()
    for prefix, block in modules.items():
        for mark, attributes in _BRANCHES:
            found = getattr(block, mark, False)
            # False is no shortcut at all, and so is a ByobNet's None; that of others is one without a convolution
            if found is False or (found is None and mark == "shortcut"):
                continue
            for attribute in attributes:
                path = f"{prefix}.{attribute}".removeprefix(".")
                inside = [name for name in plain if name == path or name.startswith(f"{path}.")]
                if inside:
                    ends.add(inside[-1])
                    break
    return ends


def gamma_of(modules: Mapping[str, nn.Module]) -> float:
    """1 / std(act(z)) for z ~ N(0, 1), act being the net's most frequent activation, the first met on a tie.

    Those of gates and outputs do not count. It is ReLU's where there is none.

    Raises:
        ValueError: it cannot be computed for that activation.
    """
    gates = _gates(modules)
    feeding: dict[str, nn.Module] = {}
    met: Counter[str] = Counter()
    for name, module in modules.items():
        kind, home = type(module).__name__, type(module).__module__
        activation = home == "torch.nn.modules.activation" or home.startswith("timm.layers.activations")
        if activation and kind not in _NOT_FEEDING and not name.startswith(gates):
            feeding.setdefault(kind, module)
            met[kind] += 1
    kind = met.most_common(1)[0][0] if met else "ReLU"
    return GAMMA[kind] if kind in GAMMA else _computed_gamma(feeding[kind])


def _computed_gamma(activation: nn.Module) -> float:
    """1 / std(act(z)) over the midpoints of 10⁵ equally likely slices of N(0, 1).

    That of a gated unit, a · sigmoid(b), is 1 / sqrt(E[sigmoid(z)²]), since a and b are independent; that of a PReLU
    with a slope for each channel is of their mean variance.
    """
    n = 100_000
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64, device="cpu") + 0.5) / n)
    if isinstance(activation, nn.GLU):
        return float(z.sigmoid().square().mean().rsqrt())
    try:
        act = copy.deepcopy(activation).to("cpu", torch.float64).train()
        if isinstance(act, nn.PReLU):
            # with E[max(z, 0)] = 1 / sqrt(2π)
            slopes = act.weight.detach()
            variances = (1 + slopes**2) / 2 - (1 - slopes) ** 2 / (2 * math.pi)
            return float(variances.mean().rsqrt())
        # one that draws takes nothing of the caller's generator and hangs on no seed
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            # torch.manual_seed would seed the generators of GPUs too, which fork_rng leaves alone here
            torch.default_generator.manual_seed(0)
            std = float(act(z).std())
            mixes = not torch.allclose(act.eval()(z[::2]), act(z)[::2])
        if mixes:
            raise ValueError("each of its outputs depends on several inputs")
        if not (math.isfinite(std) and std > 0):
            raise ValueError(f"its standard deviation is {std:g}")
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"gamma, 1 / std(act(z)) for z ~ N(0, 1), cannot be computed for the net's {type(activation).__name__}: "
            f"{error}. Give it: normalizer_free(model, gamma=1.7)."
        ) from error
    return 1 / std


def _gates(modules: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """The prefixes of names inside squeeze-and-excite modules and their kin."""
    return tuple(f"{name}." for name, module in modules.items() if name and _GATE.search(type(module).__name__))


def _other_norm(module: nn.Module) -> bool:
    return is_norm(module) and not isinstance(module, _BatchNorm)
