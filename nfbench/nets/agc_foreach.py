"""Adaptive gradient clipping with batched torch operators: two norms a parameter, everything between them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nfbench.nets.agc_units import LEAST_NORM, accumulated, is_vector, rows


class Units(NamedTuple):
    """How many units were clipped and how many held NaN or inf: two 0-d int64 tensors on the gradients' device."""

    clipped: Tensor
    nonfinite: Tensor


Clip = Callable[[Sequence[Tensor], float, float], Units]
"""Clips the gradients, of which none is None, of parameters on one device: (parameters, λ, eps)."""


def foreach(parameters: Sequence[Tensor], clipping: float, eps: float) -> Units:
    """Clip in place; on CUDA without a synchronization. Fewer passes over memory than one operator after the other: W
    and G are read once for their norms, and on a CPU only the tensors with a clipped unit are written."""
    gradients = [_gradient(p) for p in parameters]
    weights, shown = [_rows(p.detach()) for p in parameters], [_rows(g) for g in gradients]
    max_norm = _norms(weights).clamp_(min=eps).mul_(clipping)
    norm = _norms(shown)
    finite = norm.isfinite()
    over = (norm > max_norm).logical_and_(finite)
    factor = torch.where(over, max_norm.div_(norm.clamp_(min=LEAST_NORM)), 1.0)
    clipped = over.sum()
    sizes = [len(w) for w in weights]
    factors = factor.split(sizes)
    touched = range(len(sizes)) if over.device.type != "cpu" else _touched(over, sizes)
    for i in touched:
        _scale(gradients[i], shown[i], factors[i])
    return Units(clipped, finite.logical_not_().sum())


def _gradient(p: Tensor) -> Tensor:
    assert p.grad is not None
    if p.grad.layout != torch.strided:
        raise ValueError(
            f"A gradient is {p.grad.layout}: AGC needs dense gradients; an embedding gives one with sparse=False."
        )
    return p.grad.detach()


def _rows(x: Tensor) -> Tensor:
    """As `nfbench.nets.agc_units.rows`, a copy where there is no such view."""
    view = rows(x)
    return view if view is not None else x.reshape(1, -1) if is_vector(x) else x.flatten(1)


def _norms(tensors: Sequence[Tensor]) -> Tensor:
    """The norm of every row of every tensor, one after the other."""
    return torch.cat([torch.linalg.vector_norm(x, dim=1, dtype=accumulated(x.dtype)) for x in tensors])


def _touched(over: Tensor, sizes: Sequence[int]) -> list[int]:
    """The places of the tensors that have a clipped unit. Reads values."""
    ends = torch.cumsum(torch.tensor(sizes), 0)
    until = torch.cat([torch.zeros(1, dtype=torch.int64), over.cumsum(0)])[ends].tolist()
    return [i for i, (before, after) in enumerate(zip([0, *until], until, strict=False)) if after > before]


def _scale(gradient: Tensor, shown: Tensor, factor: Tensor) -> None:
    if shown.data_ptr() == gradient.data_ptr():
        shown.mul_(factor.unsqueeze(1))
    else:
        gradient.mul_(factor if is_vector(gradient) else factor.view(-1, *(1,) * (gradient.dim() - 1)))
