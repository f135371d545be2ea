"""A training loop with nothing of nfbench in it: one wall clock around all steps."""

from __future__ import annotations

import time
from collections.abc import Callable

import timm
import torch
from timm.utils.agc import adaptive_clip_grad
from torch import nn


def bare_loop(
    timm_name: str, px: int, batch: int, clipping: float, layout: torch.memory_format
) -> Callable[[int], float]:
    """A function that trains for so many steps and returns the seconds of one of them, their mean."""
    torch.manual_seed(0)
    net: nn.Module = timm.create_model(timm_name, num_classes=1000).train().to(memory_format=layout)
    head = {id(m.weight) for m in net.modules() if isinstance(m, nn.Linear)}
    clipped = [p for p in net.parameters() if id(p) not in head]
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("skipinit_gain"):
                p.fill_(1.0)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    weights = [p for p in net.parameters() if p.squeeze().ndim > 1]
    vectors = [p for p in net.parameters() if p.squeeze().ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 2e-5}, {"params": vectors, "weight_decay": 0.0}],
        lr=1e-6,
        momentum=0.9,
        nesterov=True,
        fused=True,
    )
    images = torch.randn(batch, 3, px, px).contiguous(memory_format=layout)
    targets = torch.randint(1000, (batch,))

    def train(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            loss = criterion(net(images), targets)
            loss.backward()
            adaptive_clip_grad(clipped, clipping)
            optimizer.step()
            optimizer.zero_grad()
        return (time.perf_counter() - began) / steps

    return train
