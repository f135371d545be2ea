"""Adaptive gradient clipping (Brock et al. 2021, arXiv 2102.06171, section 4.1).

Follows google-deepmind/deepmind-research, nfnets/optim.py and agc_optax.py. A unit is one slice of a parameter along
its first dimension: an output channel of a convolution, an output of a linear layer. A tensor that is a vector once
its size-1 dimensions are squeezed (a bias, a gain of shape (C, 1, 1, 1), a scalar) is one unit. With
max_norm = λ · max(‖W‖, eps), a unit whose gradient's norm ‖G‖ exceeds max_norm becomes
G · max_norm / max(‖G‖, 1e-6).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal, NamedTuple, get_args

import torch
from timm.utils.agc import adaptive_clip_grad as timm_clip
from timm.utils.agc import unitwise_norm as timm_unitwise_norm
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nfbench.nets import agc_fused
from nfbench.nets.agc_units import LEAST_NORM, SPARSE, Clip, Units, dense_gradient, foreach, unitwise_norm
from nfbench.nets.build import head_weights
from nfbench.units import nearest

__all__ = [
    "DEFAULT_CLIPPING",
    "EPS",
    "Impl",
    "adaptive_clip_grad_",
    "agc_parameters",
    "clipper",
    "reference",
    "units",
    "unitwise_norm",
]

Impl = Literal["auto", "reference", "foreach", "fused", "timm"]
EPS = 1e-3
DEFAULT_CLIPPING = 0.01
"""λ of nets without normalization."""

_KEPT_PLANS = 32
_plans: OrderedDict[tuple[int, ...], agc_fused.Fused] = OrderedDict()


class Shares(NamedTuple):
    """Of all units of the parameters with a gradient: how many there are, how many `adaptive_clip_grad_` would clip,
    and how many have a norm that is not finite (NaN, inf, or squares that overflow float32)."""

    units: int
    clipped: int
    nonfinite: int


def adaptive_clip_grad_(
    parameters: Tensor | Iterable[Tensor], clipping: float = DEFAULT_CLIPPING, eps: float = EPS, impl: Impl = "auto"
) -> Tensor:
    """Clip the gradients of ``parameters`` in place; return the number of clipped units, a 0-d int64 tensor.

    The count lies on the device of the first gradient and nothing waits for that device. A unit that is not clipped is
    left as it is, bit for bit, and so is one whose gradient's norm is not finite (NaN, inf, or elements whose squares
    overflow float32): `units` counts those. Norms are computed in float32 (float64 for float64 parameters) whatever the
    gradient's type; of complex parameters they are those of the absolute values. Parameters without a gradient, and
    those without an element, are passed over, one that comes twice is clipped once. With several
    devices each is clipped on its own.

    Args:
        parameters: a tensor or any iterable of them, of any shape; a generator will do.
        clipping: the threshold λ, the largest ‖G‖ / max(‖W‖, eps).
        eps: what a weight norm is at least taken for.
        impl: ``reference`` (one unit norm after the other, in float64), ``foreach`` (batched operators), ``fused`` (a
            Triton kernel over all parameters, CUDA), ``timm`` (timm's function, which takes each element of a gain of
            shape (C, 1, 1, 1) for a unit, turns a unit with NaN or inf to NaN, and whose clipped units are counted
            beforehand) or ``auto``: ``fused`` on CUDA where its kernel runs, else ``foreach``.

    Raises:
        ValueError: clipping or eps is negative or not finite, a gradient is sparse, impl is unknown, or ``fused`` was
            asked for where it cannot run.
    """
    _check(clipping, eps, impl)
    several = [parameters] if isinstance(parameters, Tensor) else parameters
    by_device: dict[torch.device, list[Tensor]] = {}
    for p in {id(p): p for p in several}.values():
        if (gradient := p.grad) is not None:
            if gradient.layout != torch.strided:
                raise ValueError(SPARSE.format(gradient.layout))
            if gradient.numel():
                by_device.setdefault(p.device, []).append(p)
    if not by_device:
        return torch.zeros((), dtype=torch.int64)
    counts = []
    for device, group in by_device.items():
        chosen = default_impl(device) if impl == "auto" else impl
        if impl == "auto" and any(p.is_complex() for p in group):
            chosen = "foreach"
        if chosen == "timm":
            counts.append(_count(group, clipping, eps, timm_unitwise_norm).clipped)
            timm_clip(group, clip_factor=clipping, eps=eps)
        elif chosen == "fused":
            counts.append(_plan(group)(clipping, eps).clipped)
        else:
            counts.append(_batched(chosen)(group, clipping, eps).clipped)
    total = counts[0]
    for count in counts[1:]:
        total = total + count.to(total.device, non_blocking=True)
    return total


def clipper(
    parameters: Sequence[Tensor], clipping: float, impl: Literal["reference", "foreach", "fused", "timm"]
) -> Callable[[], object]:
    """What clips ``parameters``, which are all on one device, at each call: for a loop that is timed.

    Unlike `adaptive_clip_grad_` it prepares once, and ``timm`` counts nothing.

    Raises:
        ValueError: as `adaptive_clip_grad_`.
    """
    _check(clipping, EPS, impl)
    parameters = list({id(p): p for p in parameters if p.numel()}.values())
    if not parameters:
        return lambda: None
    if impl == "timm":
        return partial(timm_clip, parameters, clip_factor=clipping, eps=EPS)
    if impl == "fused":
        return partial(agc_fused.Fused(parameters), clipping, EPS)
    clip = _batched(impl)
    return lambda: clip([p for p in parameters if p.grad is not None], clipping, EPS)


def reference(parameters: Sequence[Tensor], clipping: float, eps: float) -> Units:
    """The formula as it is written, one parameter after the other, in float64: what the others are tested against."""
    clipped = nonfinite = torch.zeros((), dtype=torch.int64, device=parameters[0].device if parameters else "cpu")
    for p in parameters:
        exact = torch.complex128 if p.is_complex() else torch.float64
        rounded = dense_gradient(p).detach()
        gradient = rounded.to(exact)
        norm = unitwise_norm(gradient)
        finite = unitwise_norm(rounded).isfinite()
        max_norm = clipping * unitwise_norm(p.detach().to(exact)).clamp(min=eps)
        over = (norm > max_norm) & finite
        shortened = (gradient * (max_norm / norm.clamp(min=LEAST_NORM))).to(rounded.dtype)
        rounded.copy_(torch.where(over, shortened, rounded))
        clipped = clipped + over.sum()
        nonfinite = nonfinite + finite.logical_not().sum()
    return Units(clipped, nonfinite)


def default_impl(device: torch.device) -> Literal["foreach", "fused"]:
    """What ``auto`` becomes on ``device``. On CUDA the first call compiles and runs a small kernel."""
    return "fused" if device.type == "cuda" and agc_fused.refusal(device) is None else "foreach"


def agc_parameters(model: nn.Module, ignore: Iterable[str] | None = None) -> list[nn.Parameter]:
    """The parameters of ``model`` that are clipped, in order: all that train but the classifier's weight.

    The classifier is found by its name (its bias is clipped, as in the reference code); the wrapper of
    DistributedDataParallel or torch.compile makes no difference.

    Args:
        model: the net, wrapped or not.
        ignore: names of modules or parameters; where given, these and all below them are left out instead of the
            classifier's weight.

    Raises:
        ValueError: the model has no module or parameter of such a name, or lazy layers that have no sizes yet.
    """
    model = unwrapped(model)
    if any(map(is_lazy, model.parameters())):
        raise ValueError("The model has lazy layers without sizes: call it on one batch first, then make AGC.")
    if ignore is None:
        left_out = head_weights(model)
        return [p for name, p in model.named_parameters() if p.requires_grad and name not in left_out]
    names = [ignore] if isinstance(ignore, str) else list(ignore)
    known = [*(n for n, _ in model.named_modules() if n), *(n for n, _ in model.named_parameters())]
    for name in names:
        if name not in known:
            near = nearest(name, known, cutoff=0.3) or known[-1:]
            raise ValueError(
                f"The model has no module or parameter called {name!r}. The nearest is {', '.join(near)}; "
                "`[name for name, _ in model.named_modules()]` lists them all."
            )
    return [
        p
        for own, p in model.named_parameters()
        if p.requires_grad and not any(own == name or own.startswith(f"{name}.") for name in names)
    ]


def unwrapped(model: nn.Module) -> nn.Module:
    """The net inside the wrappers of DistributedDataParallel, DataParallel and torch.compile."""
    while True:
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def units(parameters: Iterable[Tensor], clipping: float, impl: Impl = "auto") -> Shares:
    """Count the units and those that would be clipped at ``clipping``. Changes nothing, waits for the device."""
    _check(clipping, EPS, impl)
    group = [p for p in parameters if p.grad is not None and p.grad.numel()]
    if not group:
        return Shares(0, 0, 0)
    norm_of = timm_unitwise_norm if impl == "timm" else unitwise_norm
    found = _count(group, clipping, EPS, norm_of)
    total = sum(norm_of(p.detach()).numel() for p in group)
    return Shares(total, int(found.clipped), int(found.nonfinite))


def _count(parameters: Sequence[Tensor], clipping: float, eps: float, norm_of: Callable[[Tensor], Tensor]) -> Units:
    clipped = nonfinite = torch.zeros((), dtype=torch.int64, device=parameters[0].device)
    for p in parameters:
        norm = norm_of(dense_gradient(p).detach())
        finite = norm.isfinite()
        clipped = clipped + (norm > norm_of(p.detach()).clamp(min=eps).mul(clipping)).logical_and(finite).sum()
        nonfinite = nonfinite + finite.logical_not().sum()
    return Units(clipped, nonfinite)


def _batched(impl: str) -> Clip:
    return reference if impl == "reference" else foreach


def _plan(parameters: list[Tensor]) -> agc_fused.Fused:
    """The fused clip of just these tensors, kept from the last calls."""
    key = tuple(map(id, parameters))
    plan = _plans.get(key)
    if plan is None or not plan.holds(parameters):
        plan = _plans[key] = agc_fused.Fused(parameters)
        while len(_plans) > _KEPT_PLANS:
            _plans.popitem(last=False)
    _plans.move_to_end(key)
    return plan


def _check(clipping: float, eps: float, impl: str) -> None:
    if impl not in get_args(Impl):
        raise ValueError(f"There is no implementation {impl!r}: it is one of {', '.join(get_args(Impl))}.")
    for name, value in (("clipping", clipping), ("eps", eps)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {value}: it must be a finite number that is not negative, such as 0.01.")
