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
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nfbench.catalog.models import Net
from nfbench.errors import UnsupportedWorkload
from nfbench.nets.agc import DEFAULT_CLIPPING
from nfbench.nets.build import awaken, build, px_of
from nfbench.nets.dependence_figures import Row, gradients, outputs, row, shares, trainable
from nfbench.nets.modes import NoDropout, as_found, train_without_dropout
from nfbench.nets.norm import norm_of
from nfbench.nets.update_shares import Batch, gradient_of

CLASSES = 1000
DEFAULT_PX = 64
BEYOND_ROUNDING = 10.0
"""Times what rounding does, from which a change is a dependence."""
FLOAT32 = 2.0**-23
"""The least that rounding does."""

_CANNOT_RUN = (RuntimeError, ValueError, AssertionError, TypeError, IndexError, AttributeError)


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
    batch, others = Batch(images[:half], targets[:half]), Batch(images[half:], targets[half:])
    with as_found(module), NoDropout():
        train_without_dropout(module)
        _check(module, batch, name or type(module).__name__)
        return [
            row("measured with", "batch", half, "images; random weights, float32, no dropout"),
            row("measured with", "px", images.shape[-1], "side of the images"),
            row("measured with", "AGC λ", clipping, "" if clipping else "no clip; --agc 0.01 sets one"),
            *outputs(module, batch, others),
            *shares(module, batch, others, clipping),
            *gradients(module, batch),
        ]


def sentences(rows: Sequence[Row]) -> list[str]:
    """What the rows of `dependence` say of the net, in a sentence each: what depends on an image's batch, and how far.

    A change over `BEYOND_ROUNDING` times that of rounding is a dependence; a smaller one is rounding.
    """
    values = {(r["about"], r["what"]): r["value"] for r in rows}

    def sentence(about: str, change: str, rounding: str, depends: str, does_not: str) -> str:
        changed = values[about, change]
        if changed > BEYOND_ROUNDING * max(FLOAT32, values[about, rounding]):
            return f"{depends}: it changes by {changed:.2g}."
        return f"{does_not}: it changes by {changed:.2g}, which is rounding."

    output, share, rest = "output of an image", "share of the update", "on the rest of its batch"
    image = "In training an image's output"
    said = [
        sentence(output, "rest changed", "rounding", f"{image} depends {rest}", f"{image} does not depend {rest}"),
        sentence(
            output,
            "evaluation, others'",
            "rounding",
            "Evaluation gives an image another output than training",
            "Evaluation gives an image the same output as training",
        ),
    ]
    for clip, image in (("no AGC", "Without AGC"), ("AGC", "With AGC")):
        image += " an image's share of the update"
        if (share, f"rest changed, {clip}") in values:
            change, rounding = f"rest changed, {clip}", f"rounding, {clip}"
            said.append(sentence(share, change, rounding, f"{image} depends {rest}", f"{image} does not depend {rest}"))
    return said


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


def _check(module: nn.Module, batch: Batch, name: str) -> None:
    on = f"{len(batch)} images of {batch.images.shape[-1]} px"
    try:
        output = module(batch.images)
        gradient_of(batch.losses(module).sum(), trainable(module))
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
