"""What needs no clock, in torch: a net counted from shapes, and how far its images depend on each other."""

from __future__ import annotations

from nfbench.catalog.models import find
from nfbench.nets.build import build, px_of
from nfbench.nets.dependence import CLASSES, dependence_of
from nfbench.nets.flops import count
from nfbench.records import Dependence, Flops, Reading, reading


def flops(workload: Flops) -> list[Reading]:
    """As `nfbench.devices.base.Device.flops`, with ``px``, the side of the image."""
    net = find(workload.model)
    sides = dict(zip(("train", "test"), px_of(net), strict=True))
    px = sides[workload.px] if isinstance(workload.px, str) else workload.px
    found = count(build(net, num_classes=CLASSES, device="meta"), px, train=True, name=net.name)
    train = [] if found.train_macs is None else [("train_macs", "MAC", found.train_macs)]
    counts = [
        ("macs", "MAC", found.macs),
        *train,
        ("params", "1", found.params),
        ("activations", "1", found.activations),
        ("px", "px", px),
    ]
    return [reading(name, unit, "run", "flop counter", [value]) for name, unit, value in counts]


def dependence(workload: Dependence, seed: int) -> list[Reading]:
    """As `nfbench.devices.base.Device.dependence`."""
    px = None if workload.px == "auto" else workload.px
    figures = dependence_of(find(workload.model), batch=workload.batch, px=px, agc=workload.agc, seed=seed)
    return [
        reading(name, "px" if name == "px" else "1", "run", "float32 on the CPU", [value])
        for name, value in figures.items()
    ]
