"""Training mode without what is random in it, and a module left as it was found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

_DROPOUTS = {F.alpha_dropout, F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.feature_alpha_dropout}


def train_without_dropout(module: nn.Module) -> None:
    """Training mode, but for dropout and stochastic depth, whoever wrote them."""
    module.train()
    for m in module.modules():
        leaf = next(m.children(), None) is None
        if leaf and any(word in type(m).__name__.lower() for word in ("drop", "stochasticdepth")):
            m.training = False


class NoDropout(TorchFunctionMode):
    """Dropout off where a net calls the function instead of a module."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _DROPOUTS:
            kwargs["training"] = False
        elif kwargs.get("dropout_p"):
            kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)


@contextlib.contextmanager
def as_found(module: nn.Module) -> Iterator[None]:
    """Modes, buffers and gradients are put back at the end."""
    modes = [(m, m.training) for m in module.modules()]
    buffers = [(b, b.clone()) for b in module.buffers()]
    gradients = [(p, p.grad) for p in module.parameters()]
    try:
        yield
    finally:
        for m, mode in modes:
            m.training = mode
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for p, gradient in gradients:
            p.grad = gradient
