"""The net of the other kind that is nearest to one by accuracy, cost or reported step time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from nfbench.catalog import models, published
from nfbench.catalog.models import NETS, Net, find
from nfbench.errors import UnsupportedWorkload

Measure = Literal["top1", "macs", "params", "step-time"]

_OTHER = {
    "nfnet": "efficientnet",
    "efficientnet": "nfnet",
    "nf-resnet": "resnet",
    "resnet": "nf-resnet",
    "nfnet-light": "efficientnet-timm",
    "efficientnet-timm": "nfnet-light",
    "nf-regnet": "efficientnet",
    "senet": "nfnet",
    "resnetv2": "nf-resnet",
    "nfnet-ladder": "efficientnet",
    "bn-nfnet": "nfnet",
    "bn-nf-resnet": "nf-resnet",
}
"""The family that one is compared with; tiny nets with those of the other kind."""


class Near(NamedTuple):
    """A net, and how near it is: both figures, in words."""

    net: Net
    said: str


def _top1(net: Net) -> float | None:
    found = published.top1(net)
    return found.top1 if found else None


def _macs(net: Net) -> float | None:
    found = models.counted(net.name, net.train_px)
    return found.macs if found else None


def _params(net: Net) -> float | None:
    found = models.counted(net.name, net.train_px)
    return found.params if found else None


def _step_time(net: Net) -> float | None:
    found = published.paper(net.name)
    return found.v100_step_ms or None if found else None


_MEASURES: dict[Measure, tuple[Callable[[Net], float | None], str, str, float]] = {
    "top1": (_top1, "reported ImageNet top-1", "{:.1f} %", 1),
    "macs": (_macs, "counted MACs at the train px", "{:.2f} G", 1e9),
    "params": (_params, "parameters", "{:.1f} M", 1e6),
    "step-time": (_step_time, "reported V100 step time", "{:.1f} ms", 1),
}


def nearest(name: str, by: Measure) -> Near:
    """The net nearest to ``name`` in the family that it is compared with.

    Accuracy by difference, all else by ratio.

    Raises:
        UnknownModel: there is no such net.
        UnsupportedWorkload: it, or all of the other family, lacks that figure.
    """
    net = find(name)
    measure, what, form, unit = _MEASURES[by]
    own = measure(net)
    if own is None:
        raise UnsupportedWorkload(f"No {what} is known of {net.name}, so that none is near it.", try_="a net by name")
    candidates = [(other, value) for other in NETS if _opposite(net, other) and (value := measure(other)) is not None]
    if not candidates:
        raise UnsupportedWorkload(
            f"No net of another family has a {what} to match that of {net.name}.", try_="--match macs, or a net by name"
        )

    def distance(candidate: tuple[Net, float]) -> float:
        return abs(candidate[1] - own) if by == "top1" else abs(math.log(candidate[1] / own))

    other, value = min(candidates, key=distance)
    figures = f"{form.format(value / unit)} against {form.format(own / unit)}"
    return Near(other, f"{other.name} is nearest to {net.name} by {what}: {figures}")


def _opposite(net: Net, other: Net) -> bool:
    if net.family == "tiny":
        return other.family == "tiny" and other.norm != net.norm and other.twin_of is None
    return other.family == _OTHER.get(net.family)
