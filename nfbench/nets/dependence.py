"""What normalization does to a net: how far an image's output and its share of the update depend on other images.

All figures are relative, and 0 where nothing depends on the batch; beside them stands what rounding alone does,
measured in the same way. In training mode, without dropout and stochastic depth:

- **output** f_i(R) of image i beside the rest R of its batch: max over i of ‖f_i(R') − f_i(R)‖ / ‖f_i(R)‖, where R' are
  other images throughout, or none, or where the net evaluates instead.
- **share of the update** of image i, with ℓ_j the loss of image j over the size of the batch and g = ∇ Σ_j ℓ_j:
  s_i(R) = AGC(g) − AGC(g − ∇ℓ_i), what the update would lack without i's term, all statistics staying as they are;
  ∇ℓ_i itself without the clip. Max over i of ‖s_i(R') − s_i(R)‖ / ‖s_i(R)‖ over the parameters that AGC clips. Without
  the clip it is 0 where f_i is independent of R. With it, the length and direction of g, and so the rest, set what is
  left of ∇ℓ_i in each unit that is clipped: there AGC couples images that normalization does not.
- **gradient** of the mean loss, cut into micro-batches whose gradients add up: ‖g_cut − g‖ / ‖g‖, before the clip.

A batch in another order, or twice over, has the same batch statistics: what changes then is rounding, in any net.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nfbench.catalog.models import Net
from nfbench.errors import UnsupportedWorkload
from nfbench.nets.agc import DEFAULT_CLIPPING, adaptive_clip_grad_, agc_parameters, units
from nfbench.nets.build import awaken, build, px_of
from nfbench.nets.modes import NoDropout, as_found, train_without_dropout
from nfbench.nets.norm import norm_of
from nfbench.nets.train_step import LABEL_SMOOTHING

CLASSES = 1000
DEFAULT_PX = 64
IMAGES = 4
"""The largest change is that of so many images at most, so that time grows with the batch and not with its square."""

_CANNOT_RUN = (RuntimeError, ValueError, AssertionError, TypeError, IndexError, AttributeError)

Row = dict[str, Any]


def dependence_of(
    net: Net, *, batch: int = 8, px: int | None = None, agc: float | str = "auto", seed: int = 0
) -> list[Row]:
    """`dependence` of a net with random weights, awake, in float32 on the CPU; images are normal with unit variance.

    ``px`` is the side of the images, by default 64, or the train px where that is smaller or the only one.
    ``agc`` is λ, ``none`` or ``auto``: 0.01 for nets without normalization, none for others.

    Raises:
        UnknownModel: no such net.
        UnsupportedWorkload: the net cannot be built or run, or a setting makes no sense.
    """
    if batch < 2:
        raise UnsupportedWorkload(f"--batch {batch} has no rest for an image to depend on.", try_="--batch 8")
    if px is not None and px <= 0:
        raise UnsupportedWorkload(f"--px {px} is not positive.", try_=f"--px {DEFAULT_PX}")
    if not isinstance(agc, str) and not 0 < agc < math.inf:
        raise UnsupportedWorkload(f"--agc {agc:g} is not positive.", try_="--agc 0.01, or --agc none not to clip")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(net, num_classes=CLASSES)
    awaken(module)
    px = px or _small_px(module, px_of(net)[0])
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2 * batch, 3, px, px, generator=generator)
    targets = torch.randint(CLASSES, (2 * batch,), generator=generator)
    return dependence(module, images, targets, _clipping(agc, net.norm or norm_of(module)), name=net.name)


def dependence(
    module: nn.Module, images: Tensor, targets: Tensor, clipping: float | None, *, name: str | None = None
) -> list[Row]:
    """The figures of this file as rows of (about, what, value, note); the module is left as it was found.

    ``images`` (2 · batch, 3, px, px) and ``targets`` (2 · batch) hold the batch and, in their second half, the images
    that take the place of its rest. ``clipping`` is λ, None for no clip. A value is None where it does not apply, and
    "refused: …" with the net's own words where the net does not take a batch of one.

    Raises:
        UnsupportedWorkload: the net does not run on the batch or gives it no logits; ``name`` is what messages call it.
    """
    half = len(images) // 2
    batch, others = _Batch(images[:half], targets[:half]), _Batch(images[half:], targets[half:])
    with as_found(module), NoDropout():
        train_without_dropout(module)
        _check(module, batch, name or type(module).__name__)
        return [
            _row("measured with", "batch", half, "images; random weights, float32, no dropout"),
            _row("measured with", "px", images.shape[-1], "side of the images"),
            _row("measured with", "AGC λ", clipping, "" if clipping else "no clip; --agc 0.01 sets one"),
            *_outputs(module, batch, others),
            *_shares(module, batch, others, clipping),
            *_gradients(module, batch),
        ]


@dataclass(frozen=True)
class _Batch:
    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Sequence[int]) -> _Batch:
        return _Batch(self.images[indices], self.targets[indices])

    def beside(self, i: int, others: _Batch) -> _Batch:
        """Image i in its place, with ``others`` around it."""
        images, targets = others.images.clone(), others.targets.clone()
        images[i], targets[i] = self.images[i], self.targets[i]
        return _Batch(images, targets)

    def losses(self, module: nn.Module) -> Tensor:
        return F.cross_entropy(module(self.images), self.targets, reduction="none", label_smoothing=LABEL_SMOOTHING)


def _row(about: str, what: str, value: float | str | None, note: str) -> Row:
    return {"about": about, "what": what, "value": value, "note": note}


@torch.no_grad()
def _outputs(module: nn.Module, batch: _Batch, others: _Batch) -> list[Row]:
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
        _row(about, "rest changed", _change(changed, few), largest),
        _row(about, "evaluation, own statistics", _change(same, before), "running statistics of this very batch"),
        _row(about, "evaluation, others'", _change(other, before), "running statistics of other images"),
        _row(about, "rounding", max(_change(a, before) for a in again), "this batch in reverse order, and twice over"),
        _row(about, "batch of one", _unless_refused(lambda: _change(alone(), few)), largest),
        _row(
            about,
            "batch of one, rounding",
            _unless_refused(lambda: _change(among_copies(), alone())),
            "an image alone, and beside copies of itself",
        ),
    ]


def _shares(module: nn.Module, batch: _Batch, others: _Batch, clipping: float | None) -> list[Row]:
    parameters = agc_parameters(module) or _trainable(module)
    probed, last = range(min(len(batch), IMAGES)), len(batch) - 1
    before = _Shares(module, batch, parameters, clipping)
    reverse = _Shares(module, batch.take(range(last, -1, -1)), parameters, clipping)
    rest = [before.change(i, _Shares(module, batch.beside(i, others), parameters, clipping), i) for i in probed]
    rounding = [before.change(i, reverse, last - i) for i in probed]
    clips = ["no AGC"] if clipping is None else ["no AGC", "AGC"]
    about, rows = "share of the update", []
    for clip, changed, rounded in zip(clips, zip(*rest, strict=True), zip(*rounding, strict=True), strict=True):
        rows += [
            _row(about, f"rest changed, {clip}", max(changed), f"largest of {len(probed)} images"),
            _row(about, f"rounding, {clip}", max(rounded), "this batch in reverse order"),
        ]
    if clipping is None:
        return rows
    return [*rows, _row(about, "clipped units", before.clipped(), "share of all units, in this batch")]


class _Shares:
    """The shares that the images of one batch have in its update, by the formula of this file."""

    def __init__(
        self, module: nn.Module, batch: _Batch, parameters: Sequence[nn.Parameter], clipping: float | None
    ) -> None:
        self.parameters, self.clipping = parameters, clipping
        self.terms = batch.losses(module) / len(batch)
        self.whole = [] if clipping is None else _gradient(self.terms.sum(), parameters, retain_graph=True)

    def change(self, i: int, other: _Shares, j: int) -> list[float]:
        """How far the share of image j of ``other`` is from that of image i: without the clip and, if any, with it."""
        own, others = self._own(i), other._own(j)
        without = _distance(others, own)
        if self.clipping is None:
            return [without]
        return [without, _distance(other._clipped(others), self._clipped(own))]

    def clipped(self) -> float:
        """The share of units, 0 to 1, that the clip shortens in the whole batch's gradient."""
        assert self.clipping is not None
        for p, g in zip(self.parameters, self.whole, strict=True):
            p.grad = g
        found = units(self.parameters, self.clipping)
        for p in self.parameters:
            p.grad = None
        return found.clipped / found.units

    def _own(self, i: int) -> list[Tensor]:
        return _gradient(self.terms[i], self.parameters, retain_graph=True)

    def _clipped(self, own: Sequence[Tensor]) -> Iterator[Tensor]:
        # one tensor at a time: units are clipped each for itself, and a large net's gradients fill the memory
        for p, g, o in zip(self.parameters, self.whole, own, strict=True):
            yield self._clip(p, g) - self._clip(p, g - o)

    def _clip(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        assert self.clipping is not None
        parameter.grad = clipped = gradient.clone()
        adaptive_clip_grad_(parameter, self.clipping)
        parameter.grad = None
        return clipped


def _gradients(module: nn.Module, batch: _Batch) -> list[Row]:
    parameters, size = _trainable(module), len(batch)

    def summed(parts: Sequence[Sequence[int]], whole: int = size) -> list[Tensor]:
        found = [torch.zeros_like(p) for p in parameters]
        for part in parts:
            # over the size of the whole, so that parts of unequal size add up to its mean loss too
            for total, g in zip(
                found, _gradient(batch.take(part).losses(module).sum() / whole, parameters), strict=True
            ):
                total += g
        return found

    everything = range(size)
    before = summed([everything])

    def cut(parts: int) -> Row:
        pieces = [everything[size * k // parts : size * (k + 1) // parts] for k in range(parts)]
        images = "1 image" if parts == size else f"{size / parts:g} images"
        change = _unless_refused(lambda: _distance(summed(pieces), before))
        return _row("gradient", f"{parts} micro-batches", change, f"of {images}, before the clip")

    again = [summed([everything[::-1]]), summed([[*everything, *everything]], 2 * size)]
    return [
        *(cut(parts) for parts in dict.fromkeys((2, size))),
        _row("gradient", "rounding", max(_distance(a, before) for a in again), "in reverse order, and twice over"),
    ]


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def _gradient(loss: Tensor, parameters: Sequence[nn.Parameter], retain_graph: bool = False) -> list[Tensor]:
    return list(torch.autograd.grad(loss, parameters, retain_graph=retain_graph, materialize_grads=True))


def _change(after: Tensor, before: Tensor) -> float:
    """The largest relative change of an image's output."""
    norm = torch.linalg.vector_norm
    return float((norm(after - before, dim=1) / norm(before, dim=1)).max())


def _distance(after: Iterable[Tensor], before: Iterable[Tensor]) -> float:
    """The relative change of all tensors together; 0 where zeros stay zeros."""
    pairs = ((float((a - b).norm()), float(b.norm())) for a, b in zip(after, before, strict=True))
    changes, norms = zip(*pairs, strict=True)
    return math.hypot(*changes) / max(math.hypot(*norms), torch.finfo(torch.float32).tiny)


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


def _clipping(agc: float | str, norm: str) -> float | None:
    if agc == "auto":
        return DEFAULT_CLIPPING if norm == "none" else None
    return None if agc == "none" else float(agc)


def _small_px(module: nn.Module, train_px: int) -> int:
    px = min(train_px, DEFAULT_PX)
    with as_found(module), torch.no_grad():
        module.eval()
        try:
            module(torch.zeros(1, 3, px, px))
        except _CANNOT_RUN:
            return train_px
    return px


def _check(module: nn.Module, batch: _Batch, name: str) -> None:
    on = f"{len(batch)} images of {batch.images.shape[-1]} px"
    try:
        output = module(batch.images)
        _gradient(batch.losses(module).sum(), _trainable(module))
        norms = torch.linalg.vector_norm(output.detach(), dim=1)
    except _CANNOT_RUN as error:
        raise UnsupportedWorkload(
            f"{name} does not run on {on}.",
            why=f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(),
            try_="another --px, or a net that returns one tensor of logits, for 1000 classes",
        ) from error
    if output.dim() != 2 or not bool(((norms > 0) & norms.isfinite()).all()):
        raise UnsupportedWorkload(
            f"{name} gives no logits to compare for {on}.",
            why=f"Of shape {tuple(output.shape)}, their norms run from {norms.min():g} to {norms.max():g}.",
            try_="another --px, or a net whose last layer is not zero throughout",
        )
