"""The units of adaptive gradient clipping, how they lie in memory, and the clip in batched torch operators.

The clip takes two norms a parameter and does everything between them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LEAST_NORM = 1e-6
"""What a gradient's norm is at least taken for when it divides."""


def is_vector(x: Tensor) -> bool:
    """Whether ``x`` is a scalar, or a vector once its size-1 dimensions are squeezed: it is one unit."""
    return sum(d > 1 for d in x.shape) <= 1


def unitwise_norm(x: Tensor) -> Tensor:
    """The Euclidean norm of each unit of ``x``, in a shape that broadcasts against ``x``.

    (N, …) gives (N, 1, …, 1); a tensor that is a vector once its size-1 dimensions are squeezed, of shape (C,),
    (C, 1, 1, 1) or (), gives a shape of as many dimensions, all 1. Computed in float32, in float64 for float64.
    Source: google-deepmind/deepmind-research, nfnets/agc_optax.py, with torch's dimensions (OIHW, out × in).
    """
    dims = tuple(range(x.dim())) if is_vector(x) else tuple(range(1, x.dim()))
    norm: Tensor = torch.linalg.vector_norm(magnitude(x), dim=dims, keepdim=True, dtype=accumulated(x.dtype))
    return norm


def magnitude(x: Tensor) -> Tensor:
    """The absolute values of a complex tensor; any other as it is."""
    return x.abs() if x.is_complex() else x


def accumulated(dtype: torch.dtype) -> torch.dtype:
    """The type in which norms of a tensor of ``dtype`` are computed."""
    return torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32


def units_of(x: Tensor) -> int:
    """How many units ``x`` has."""
    return 1 if is_vector(x) else x.shape[0]


def rows(x: Tensor) -> Tensor | None:
    """``x`` as (units, elements of a unit), a view in the order of memory; None where a unit is no one block of it.

    Contiguous and channels-last tensors have such a view. The order inside a row is that of memory, so rows of a weight
    and of its gradient need not hold their elements in the same order; for a norm and a factor that does not matter.
    """
    units = units_of(x)
    length = x.numel() // units if units else 0
    if not x.is_contiguous() and not _blocks(x, length):
        return None
    return x.as_strided((units, length), (length, 1))


def _blocks(x: Tensor, length: int) -> bool:
    """Whether each unit is a dense block and the blocks follow each other."""
    first = 0 if is_vector(x) else 1
    if first and x.stride(0) != length:
        return False
    inner = sorted((s, d) for s, d in zip(x.stride()[first:], x.shape[first:], strict=True) if d > 1)
    expected = 1
    for stride, size in inner:
        if stride != expected:
            return False
        expected *= size
    return True


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
    if not parameters:
        return Units(*torch.zeros(2, dtype=torch.int64))
    several = [p for p in parameters if not is_vector(p)]
    single = [p for p in parameters if is_vector(p)]
    gradients = [dense_gradient(p) for p in (*several, *single)]
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


def dense_gradient(p: Tensor) -> Tensor:
    """The gradient of ``p``, which has one.

    Raises:
        ValueError: it is sparse.
    """
    assert p.grad is not None
    if p.grad.layout != torch.strided:
        raise ValueError(SPARSE.format(p.grad.layout))
    return p.grad


def _norms(several: Sequence[Tensor], single: Sequence[Tensor]) -> Tensor:
    """The norm of every unit of ``several``, then of each tensor of ``single``."""
    several, single = list(map(magnitude, several)), list(map(magnitude, single))
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
