"""Top-1, top-5 and loss on a test set, also with a batch's own statistics in the place of the running ones."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nfbench.nets.outputs import heads
from nfbench.nets.train_step import AUTOCAST
from nfbench.records import Precision


class Scores(NamedTuple):
    """Shares, 0 to 1, of the images whose class is the first or among the first five; the mean cross-entropy.

    ``top5`` is None where there are five classes or fewer. An output that is not finite is wrong.
    """

    top1: float
    top5: float | None
    loss: float
    images: int


@torch.no_grad()
def evaluate(
    net: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    precision: Precision,
    total: Callable[[Sequence[float]], Sequence[float]] = list,
    *,
    classes: int = 1,
    name: str = "The net",
) -> Scores:
    """The scores of ``net`` in the mode in which it is; labels below 0 are left out.

    Of several outputs the main one counts, which has ``classes`` columns; ``name`` is what messages call the net.

    Where ranks take some of the batches each, ``total`` gives the sum of their counts.

    Raises:
        ValueError: no batch holds a label.
        UnsupportedWorkload: the net returns no logits.
    """
    sums: Tensor | None = None
    columns = images_seen = 0
    for images, labels in batches:
        dtype = AUTOCAST.get(precision)
        with contextlib.nullcontext() if dtype is None else torch.autocast(images.device.type, dtype):
            outputs = heads(net(images), images=len(images), classes=classes, name=name).main
        # on the host, where their number is needed
        labelled = (labels.cpu() >= 0).nonzero().flatten()
        images_seen += len(labelled)
        outputs, labels = outputs.float()[labelled.to(outputs.device)], labels[labelled.to(labels.device)]
        columns = outputs.shape[1]
        finite = outputs.isfinite().all(dim=1, keepdim=True)
        first = outputs.topk(min(5, columns), dim=1).indices == labels[:, None]
        right = first & finite
        loss = F.cross_entropy(outputs, labels, reduction="sum").double()
        counted = torch.stack([right[:, 0].sum(), right.any(dim=1).sum(), loss])
        sums = counted if sums is None else sums + counted
    counts = [0.0] * 3 if sums is None else sums.tolist()
    # a rank may have had no batch, and so know no classes
    one, five, losses, images_of_all, columns_of_all, ranks = total([*counts, images_seen, columns, float(columns > 0)])
    if not images_of_all:
        raise ValueError("there is no image to evaluate")
    top5 = five / images_of_all if columns_of_all / ranks > 5 else None
    return Scores(one / images_of_all, top5, losses / images_of_all, int(images_of_all))


def norms(net: nn.Module) -> list[_BatchNorm]:
    """The layers that keep running statistics."""
    return [m for m in net.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@contextlib.contextmanager
def evaluating(net: nn.Module, *, batch_statistics: bool = False) -> Iterator[None]:
    """Inside, ``net`` is in evaluation mode; its batch norms take a batch's own statistics where asked to.

    Running statistics stay as they are.
    """
    modes = [(m, m.training) for m in net.modules()]
    layers = norms(net) if batch_statistics else []
    tracked = [m.track_running_stats for m in layers]
    net.eval()
    for m in layers:
        m.training, m.track_running_stats = True, False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for m, track in zip(layers, tracked, strict=True):
            m.track_running_stats = track
