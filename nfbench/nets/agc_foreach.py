"""Adaptive gradient clipping with batched torch operators: two norms a parameter, everything between them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nfbench.nets.agc_units import LEAST_NORM, accumulated, is_vector

SPARSE = "A gradient is {}: AGC needs dense gradients; an embedding gives one with sparse=False."


class Units(NamedTuple):
    """How many units were clipped and how many had a norm that is not finite: 0-d int64, on the gradients' device."""

    clipped: Tensor
    nonfinite: Tensor


Clip = Callable[[Sequence[Tensor], float, float], Units]
"""Clips the gradients, of which none is None, of parameters on one device: (parameters, λ, eps)."""


@torch.no_grad()
def foreach(parameters: Sequence[Tensor], clipping: float, eps: float) -> Units:
    """Clip in place; on CUDA without a synchronization.

    W and G are read once for their norms, in whatever layout they have; on a CPU only those of G are read and written
    again that have a clipped unit. Tensors that are one unit each go through one call together.
    """
    several = [p for p in parameters if not is_vector(p)]
    single = [p for p in parameters if is_vector(p)]
    gradients = [_gradient(p) for p in (*several, *single)]
    of_several, of_single = gradients[: len(several)], gradients[len(several) :]
    max_norm = _norms(several, single).clamp_(min=eps).mul_(clipping)
    norm = _norms(of_several, of_single)
    finite = norm.isfinite()
    over = (norm > max_norm).logical_and_(finite)
    factor = torch.where(over, max_norm.div_(norm.clamp_(min=LEAST_NORM)), 1.0)
    sizes = [*(len(p) for p in several), *(1,) * len(single)]
    touched = _touched(over, sizes) if over.device.type == "cpu" else range(len(sizes))
    _scale(of_several, of_single, factor, sizes, touched)
    return Units(over.sum(), finite.logical_not_().sum())


def _gradient(p: Tensor) -> Tensor:
    assert p.grad is not None
    if p.grad.layout != torch.strided:
        raise ValueError(SPARSE.format(p.grad.layout))
    return p.grad


def _norms(several: Sequence[Tensor], single: Sequence[Tensor]) -> Tensor:
    """The norm of every unit of ``several``, then of each tensor of ``single``."""
    found = [torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim())), dtype=accumulated(x.dtype)) for x in several]
    dtypes = {accumulated(x.dtype) for x in single}
    if len(dtypes) == 1:
        found.append(torch.stack(torch._foreach_norm(list(single), 2, dtypes.pop())))
    else:
        found += [torch.linalg.vector_norm(x, dtype=accumulated(x.dtype)).view(1) for x in single]
    return torch.cat(found)


def _touched(over: Tensor, sizes: Sequence[int]) -> list[int]:
    """The places of the tensors that have a clipped unit. Reads values."""
    ends = torch.cumsum(torch.tensor(sizes, device="cpu"), 0)
    until = torch.cat([torch.zeros(1, dtype=torch.int64, device="cpu"), over.cumsum(0)])[ends].tolist()
    return [i for i, (before, after) in enumerate(zip([0, *until], until, strict=False)) if after > before]


def _scale(
    several: Sequence[Tensor], single: Sequence[Tensor], factor: Tensor, sizes: Sequence[int], touched: Sequence[int]
) -> None:
    factors = factor.split(list(sizes))
    for i in touched:
        if i < len(several):
            several[i].mul_(factors[i].view(-1, *(1,) * (several[i].dim() - 1)))
    ones = [(single[i - len(several)], factors[i]) for i in touched if i >= len(several)]
    if ones:
        # as many dimensions as the gradient: a scalar would be rounded to its type, in which small factors are 0
        torch._foreach_mul_([g for g, _ in ones], [f.view((1,) * g.dim()) for g, f in ones])
