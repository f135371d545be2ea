"""The units of adaptive gradient clipping, and how a tensor's units lie in memory."""

from __future__ import annotations

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
    norm: Tensor = torch.linalg.vector_norm(x, dim=dims, keepdim=True, dtype=accumulated(x.dtype))
    return norm


def accumulated(dtype: torch.dtype) -> torch.dtype:
    """The type in which norms of a tensor of ``dtype`` are computed."""
    return torch.float64 if dtype == torch.float64 else torch.float32


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
