"""The figures of `nfbench.nets.dependence`, which defines them, as rows of (about, what, value, note).

The net is in training mode without dropout, and runs on the batch. ``others`` are as many images, which take the place
of the batch's rest. A value is "refused: …" with the net's own words where the net does not take a batch of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nfbench.nets.agc import agc_parameters
from nfbench.nets.modes import train_without_dropout
from nfbench.nets.update_shares import Batch, Shares, distance, gradient_of

IMAGES = 4
"""The largest change is that of so many images at most, so that time grows with the batch and not with its square."""

Row = dict[str, Any]


def row(about: str, what: str, value: float | str | None, note: str) -> Row:
    """One figure: what it is about, which it is, its value (None where it does not apply) and a word on how."""
    """One figure: what it is about, which it is, its value (None where it does not apply) and a word on how."""
    return {"about": about, "what": what, "value": value, "note": note}


@torch.no_grad()
def outputs(module: nn.Module, batch: Batch, others: Batch) -> list[Row]:
    """How far an image's output is from what it is beside the rest of its batch; changes are relative."""
    about, images = "output of an image", batch.images
    probed = range(min(len(batch), IMAGES))
    largest = f"largest of {len(probed)} images"
    before = module(images)
    few = before[: len(probed)]
    changed = torch.stack([module(batch.beside(i, others).images)[i] for i in probed])
    same, other = (_evaluated(module, images, seen) for seen in (images, others.images))
    again = [module(images.flip(0)).flip(0), module(torch.cat([images, images]))[: len(batch)]]

    def alone() -> Tensor:
        return torch.cat([module(images[i : i + 1]) for i in probed])

    def among_copies() -> Tensor:
        return torch.cat([module(images[[i] * len(batch)])[:1] for i in probed])

    return [
        row(about, "rest changed", _change(changed, few), largest),
        row(about, "evaluation, own statistics", _change(same, before), "running statistics of this very batch"),
        row(about, "evaluation, others'", _change(other, before), "running statistics of other images"),
        row(about, "rounding", max(_change(a, before) for a in again), "this batch in reverse order, and twice over"),
        row(about, "batch of one", _unless_refused(lambda: _change(alone(), few)), largest),
        row(
            about,
            "batch of one, rounding",
            _unless_refused(lambda: _change(among_copies(), alone())),
            "an image alone, and beside copies of itself",
        ),
    ]


def shares(module: nn.Module, batch: Batch, others: Batch, clipping: float | None) -> list[Row]:
    """How far an image's share of the update moves with the rest of its batch, without the clip and with it.

    ``clipping`` is its λ, None for no clip. Changes are relative, over the parameters that AGC clips; with a clip a
    last row gives the share of clipped units.
    """
    parameters = agc_parameters(module) or trainable(module)
    probed, last = range(min(len(batch), IMAGES)), len(batch) - 1
    before = Shares(module, batch, parameters, clipping)
    reverse = Shares(module, batch.take(range(last, -1, -1)), parameters, clipping)
    rest = [before.change(i, Shares(module, batch.beside(i, others), parameters, clipping), i) for i in probed]
    rounding = [before.change(i, reverse, last - i) for i in probed]
    clips = ["no AGC"] if clipping is None else ["no AGC", "AGC"]
    about, rows = "share of the update", []
    for clip, changed, rounded in zip(clips, zip(*rest, strict=True), zip(*rounding, strict=True), strict=True):
        rows += [
            row(about, f"rest changed, {clip}", max(changed), f"largest of {len(probed)} images"),
            row(about, f"rounding, {clip}", max(rounded), "this batch in reverse order"),
        ]
    if clipping is None:
        return rows
    return [*rows, row(about, "clipped units", before.clipped(), "share of all units, in this batch")]


def gradients(module: nn.Module, batch: Batch) -> list[Row]:
    """How far the gradient of the mean loss moves, relative to itself, where it is summed over micro-batches."""
    """How far the gradient of the mean loss moves, relative to itself, where it is summed over micro-batches."""
    parameters, size = trainable(module), len(batch)

    def summed(parts: Sequence[Sequence[int]], whole: int = size) -> list[Tensor]:
        found = [torch.zeros_like(p) for p in parameters]
        for part in parts:
            # over the size of the whole, so that parts of unequal size add up to its mean loss too
            for total, g in zip(
                found, gradient_of(batch.take(part).losses(module).sum() / whole, parameters), strict=True
            ):
                total += g
        return found

    everything = range(size)
    before = summed([everything])

    def cut(parts: int) -> Row:
        pieces = [everything[size * k // parts : size * (k + 1) // parts] for k in range(parts)]
        images = "1 image" if parts == size else f"{size / parts:g} images"
        change = _unless_refused(lambda: distance(summed(pieces), before))
        return row("gradient", f"{parts} micro-batches", change, f"of {images}, before the clip")

    again = [summed([everything[::-1]]), summed([[*everything, *everything]], 2 * size)]
    return [
        *(cut(parts) for parts in dict.fromkeys((2, size))),
        row("gradient", "rounding", max(distance(a, before) for a in again), "in reverse order, and twice over"),
    ]


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that a gradient is taken of."""
    """The parameters that a gradient is taken of."""
    return [p for p in module.parameters() if p.requires_grad]


def _change(after: Tensor, before: Tensor) -> float:
    """The largest relative change of an image's output."""
    norm = torch.linalg.vector_norm
    return float((norm(after - before, dim=1) / norm(before, dim=1)).max())


def _unless_refused(figure: Callable[[], float]) -> float | str:
    try:
        return figure()
    except (ValueError, RuntimeError) as error:
        return f"refused: {error}".partition("\n")[0]


def _evaluated(module: nn.Module, images: Tensor, seen: Tensor) -> Tensor:
    """The output in evaluation mode with running statistics of ``seen`` alone; back to training mode afterwards.

    They are what training's moving average tends to on that batch: the mean, and the variance with n − 1.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # the plain mean over all batches since the reset
    try:
        module(seen)
        module.eval()
        output: Tensor = module(images)
        return output
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
        train_without_dropout(module)
