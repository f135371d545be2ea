"""What the modules of a net are for, told by their types and by the names that torchvision and timm give them.

`normalizer_free` has to know which convolutions are gates or the classifier, which of them ends a residual branch, and
which activation feeds the others.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Collection, Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from nfbench.nets.build import head_names
from nfbench.nets.standardized import STANDARDIZED

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
            pointwise = type(module) not in STANDARDIZED or set(module.kernel_size) == {1}
            if name.startswith(gates) and pointwise:
                kept[name] = "squeeze-and-excite"
            elif f"{name}.weight" in head:
                kept[name] = "the classifier"
            elif type(module) not in STANDARDIZED:
                kept[name] = "not a plain two-dimensional convolution"
            elif module.weight[0].numel() == 1:
                kept[name] = "one input per output: standardized, it would be 0"
        elif _other_norm(module):
            kept[name] = "another normalization than batch norm"
    return kept


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
    """1 / std(act(z)) over the midpoints of 10⁵ equally likely slices of N(0, 1)."""
    n = 100_000
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64, device="cpu") + 0.5) / n)
    try:
        with torch.no_grad():
            std = float(copy.deepcopy(activation).to("cpu", torch.float64)(z).std())
    except RuntimeError as error:
        raise ValueError(
            f"gamma, 1 / std(act(z)) for z ~ N(0, 1), cannot be computed for the net's {type(activation).__name__}: "
            f"{error}. Give it: normalizer_free(model, gamma=1.7)."
        ) from error
    return 1 / std


def _gates(modules: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """The prefixes of names inside squeeze-and-excite modules and their kin."""
    return tuple(f"{name}." for name, module in modules.items() if name and _GATE.search(type(module).__name__))


def _other_norm(module: nn.Module) -> bool:
    leaf = next(module.children(), None) is None
    return leaf and "norm" in type(module).__name__.lower() and not isinstance(module, _BatchNorm)
