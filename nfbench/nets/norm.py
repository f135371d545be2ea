"""Kinds of normalization over activations: which one a net has, and another in the place of its batch normalization."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d, GroupNormAct, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torchvision.ops import FrozenBatchNorm2d

from nfbench.catalog.models import batch_normalized, normalizer_free
from nfbench.errors import UnsupportedWorkload
from nfbench.nets.agc_units import is_vector

Kind = Literal["none", "batch", "sync_batch", "group", "frozen"]

GROUPS = 32
"""Groups of a group normalization (Wu & He 2018); their greatest common divisor where channels are no multiple."""

_NORMS = {
    *(f"torch.nn.modules.{file}" for file in ("batchnorm", "instancenorm", "normalization")),
    *(f"timm.layers.{file}" for file in ("evo_norm", "filter_response_norm", "inplace_abn", "norm", "norm_act")),
}
"""Modules of which each class is a normalization, some with dropout and an activation inside."""
_NAMED_NORM = re.compile(r"(?<!un)norm(?!.?free|alizer)", re.IGNORECASE)
_NAMED_NORM_ALONE = re.compile(r"norm\d*d?$", re.IGNORECASE)
"""What the class of a stranger's normalization is called, and of one without parameters: not ``NormFree…``, and no
``Normalize``, which is of images."""


class FrozenBatchNorm(_BatchNorm):
    """Batch normalization that in training, too, uses its running statistics, with nothing in it to be trained.

    It takes over the tensors of ``norm``, and the activation where ``norm`` is timm's ``BatchNormAct2d``. Shapes as
    `torch.nn.functional.batch_norm`: (N, C, …) to the same.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.requires_grad_(False)
        self.drop: nn.Module = getattr(norm, "drop", nn.Identity())
        self.act: nn.Module = getattr(norm, "act", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        activated: Tensor = self.act(self.drop(x))
        return activated


def norm_of(module: nn.Module) -> str:
    """The kind over activations: ``none``, ``batch``, ``sync_batch``, ``group``, ``frozen``, ``instance`` or ``layer``,
    which stands for all others."""
    # what is inside of a parametrization works on weights
    modules = [m for name, m in module.named_modules() if "parametrizations" not in name.split(".")]
    frozen = FrozenBatchNorm, FrozenBatchNorm2d, FrozenBatchNormAct2d
    kinds: tuple[tuple[str, Callable[[nn.Module], bool]], ...] = (
        ("sync_batch", lambda m: isinstance(m, nn.SyncBatchNorm)),
        ("batch", lambda m: isinstance(m, _BatchNorm) and not isinstance(m, frozen)),
        ("frozen", lambda m: isinstance(m, frozen)),
        ("group", lambda m: isinstance(m, nn.GroupNorm)),
        ("instance", lambda m: isinstance(m, _InstanceNorm)),
        ("layer", is_norm),
    )
    return next((kind for kind, is_one in kinds if any(map(is_one, modules))), "none")


def is_norm(module: nn.Module) -> bool:
    """Whether ``module`` normalizes activations: torch's, torchvision's and timm's own do with parameters or without;
    a stranger's is told by its name, and by its parameters if it has any, which are vectors."""
    if isinstance(module, FrozenBatchNorm2d) or any(base.__module__ in _NORMS for base in type(module).__mro__):
        return True
    kind, parameters = type(module), list(module.parameters(recurse=False))
    # those of torch.nn.utils are of weights, and what holds others with parameters is a block
    if kind.__module__.startswith("torch.") or any(True for part in module.children() for _ in part.parameters()):
        return False
    named = _NAMED_NORM if parameters or kind.__module__.startswith("timm.") else _NAMED_NORM_ALONE
    return named.search(kind.__name__) is not None and all(map(is_vector, parameters))


def with_norm(module: nn.Module, kind: Kind, *, name: str) -> nn.Module:
    """The net with normalization of that kind in the place of its batch normalization; changed in place.

    Weights, biases and the activations inside timm's norms are kept, so nothing but the normalization differs. A net
    that has that kind already is returned as it is, ``none`` included. ``name`` is what messages call the net.

    Raises:
        UnsupportedWorkload: the net has no batch normalization to replace, or has one and was asked for without; the
            message names the net of the catalogue that would do. Or ``frozen``, without running statistics.
    """
    have = norm_of(module)
    if have == kind:
        return module
    if kind == "none":
        raise _never_without(name, have)
    if have != "batch" or kind == "batch":
        raise _no_batch_norm(name, have, kind)
    if kind == "frozen" and any(m.running_mean is None for m in module.modules() if isinstance(m, _BatchNorm)):
        raise UnsupportedWorkload(
            f"The batch normalization of {name} cannot be frozen.",
            why="It keeps no running statistics, which a frozen one normalizes with.",
            try_="track_running_stats=True, or another --norm",
        )
    return _replaced(module, {"sync_batch": convert_sync_batchnorm, "group": _group, "frozen": FrozenBatchNorm}[kind])


def _replaced(module: nn.Module, make: Callable[[_BatchNorm], nn.Module]) -> nn.Module:
    """``module`` with ``make(norm)`` for each of its batch norms; one that stands in two places is made once."""
    made: dict[nn.Module, nn.Module] = {
        m: make(m).train(m.training) for m in module.modules() if isinstance(m, _BatchNorm)
    }
    for path, m in list(module.named_modules(remove_duplicate=False)):
        if path and m in made:
            module.set_submodule(path, made[m])
    return made.get(module, module)


def _group(norm: _BatchNorm) -> nn.GroupNorm:
    channels, groups = norm.num_features, math.gcd(GROUPS, norm.num_features)
    made: nn.GroupNorm
    with torch.device("meta"):
        if isinstance(norm, BatchNormAct2d):
            made = GroupNormAct(channels, groups, norm.eps, norm.affine)
            made.drop, made.act = norm.drop, norm.act
        else:
            made = nn.GroupNorm(groups, channels, norm.eps, norm.affine)
    made.weight, made.bias = norm.weight, norm.bias
    return made


def _never_without(name: str, have: str) -> UnsupportedWorkload:
    free = normalizer_free(name)
    return UnsupportedWorkload(
        f"There is no {name} without normalization.",
        why=f"Its normalization is {have!r}; a net without any is another net, with a name of its own.",
        try_=f"--model {free.name}" if free else "a net whose norm is none: `nfbench models`",
    )


def _no_batch_norm(name: str, have: str, kind: Kind) -> UnsupportedWorkload:
    normalized = batch_normalized(name)
    return UnsupportedWorkload(
        f"{name} has no batch normalization that --norm {kind} could replace.",
        why="It has no normalization at all." if have == "none" else f"Its normalization is {have!r}.",
        try_=f"--model {normalized.name} --norm {kind}" if normalized else "without --norm, or --norm auto",
    )
