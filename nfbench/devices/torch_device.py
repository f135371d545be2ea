"""What the CPU and CUDA share: resolving, building and describing a training step in torch."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import nfbench
from nfbench.catalog.models import Net, RecipeName, find
from nfbench.devices.base import Stamp, World
from nfbench.devices.host import software
from nfbench.errors import UnsupportedWorkload
from nfbench.nets.agc import DEFAULT_CLIPPING, default_impl
from nfbench.nets.agc_fused import refusal
from nfbench.nets.agc_trial import ClipTrial
from nfbench.nets.build import awaken, build, px_of, shapes_of
from nfbench.nets.dependence import dependence_of
from nfbench.nets.flops import Count, count_net
from nfbench.nets.norm import norm_of
from nfbench.nets.optimizer import UNFUSED, build_optimizer, fusible, optimizer_name
from nfbench.nets.ranked_step import RankedStep
from nfbench.nets.train_step import TrainStep, skipped_updates
from nfbench.records import (
    AgcCost,
    AgcImpl,
    Dependence,
    Flops,
    Layout,
    Machine,
    Precision,
    Reading,
    Resolved,
    Software,
    StepTime,
    reading,
)

CLASSES = 1000
MOST_ELEMENTS = 2**31 - 1
"""What the 32-bit indices of most CUDA kernels reach."""


class TorchSteps:
    """`nfbench.devices.base.Steps` around a `TrainStep`; no tensor has over `MOST_ELEMENTS` with passes of up to
    ``most_images``."""

    def __init__(
        self, step: TrainStep, counts: list[Reading], notes: dict[str, str], compiled: bool, most_images: int
    ) -> None:
        self.step, self.counts, self.said, self.compiled = step, counts, notes, compiled
        self.most_images = most_images
        # the step's own method, to keep a call out of the timed loop
        self.update: Callable[[Stamp, int], None] = step.update
        self.phases = step.phases
        self.scale = step.scale()

    def arrange(self, layout: Layout, micro_batch: int) -> None:
        self.step.arrange(layout, micro_batch)
        self.scale = self.step.scale()

    def describe(self) -> list[Reading]:
        return self.counts

    def inspect(self) -> list[Reading]:
        found = []
        if self.scale is not None and (scale := self.step.scale()) is not None:
            found.append(reading("skipped_updates", "1", "run", "loss scale", [skipped_updates(self.scale, scale)]))
        # Under compile the dispatcher sees only what surrounds the compiled regions.
        return found + self.step.inspect(count_operators=not self.compiled)

    def finite(self) -> bool:
        return math.isfinite(float(self.step.loss))

    def notes(self) -> dict[str, str]:
        return {**self.said, **self.step.notes}


class RankedSteps(TorchSteps):
    """Implements `nfbench.devices.base.Reduced` too, around a `RankedStep`."""

    def __init__(self, step: RankedStep, *described: Any) -> None:
        super().__init__(step, *described)
        self.alone, self.reduce, self.gradient_bytes = step.alone, step.reduce, step.gradient_bytes


class TorchClips:
    """`nfbench.devices.base.Clips` around a `ClipTrial`."""

    def __init__(self, trial: ClipTrial) -> None:
        self.draw, self.call, self.reset, self.wait = trial.draw, trial.call, trial.reset, trial.wait
        self.queued = trial.device.type == "cuda"
        self.trial = trial

    def describe(self, workload: AgcCost) -> list[Reading]:
        trial, call = self.trial, self.trial.call(workload)
        found = [reading("moved_bytes", "B", "step", "count", [trial.moved(workload)])]
        if workload.impl != "copy":
            units = trial.shares(workload)
            found.append(reading("units", "1", "run", "count", [units.units]))
            found.append(reading("clipped_units", "1", "run", "count", [units.clipped / max(1, units.units)]))
        found.append(reading("operators", "1", "step", "dispatch mode", [trial.operators(call)]))
        if (launches := trial.launches(call)) is not None:
            found.append(reading("launches", "1", "step", "CUPTI", [launches]))
        return found


class TorchDevice:
    """The common part of `Cpu` and `Cuda`, which add stamps, memory and conditions."""

    machine: Machine
    torch_device: torch.device
    least_window = first_warm_up = next_warm_up = 0.0
    world = World()

    def software(self, model: str | None = None) -> Software:
        return _software(_code_under_test(model))

    def resolve(self, workload: StepTime) -> Resolved:
        self._check_ranks(workload)
        net = find(workload.model)
        px = px_of(net)[0] if workload.px == "train" else workload.px
        precision = self._precision() if workload.precision == "auto" else workload.precision
        self._check_precision(precision)
        norm, recipe = norm_and_recipe(net, workload.norm)
        self._check_norm(norm)
        clipping: float | None
        if workload.agc == "auto":
            clipping = DEFAULT_CLIPPING if norm == "none" else None
        else:
            clipping = None if workload.agc == "none" else workload.agc
        return Resolved(
            px=px,
            micro_batch=share_of(workload) if workload.micro_batch == "auto" else workload.micro_batch,
            precision=precision,
            layout="nhwc" if workload.layout == "best" else workload.layout,
            agc=clipping,
            agc_impl=None if clipping is None else self._agc_impl(workload),
            standardize="nfbench" if net.norm == "none" else None,
            optimizer_impl=optimizer_name(workload.optimizer, recipe, self.torch_device.type),
            threads=torch.get_num_threads(),
            **self._flags(precision),
        )

    def build(self, workload: StepTime, resolved: Resolved, seed: int) -> TorchSteps:
        net = find(workload.model)
        # a factory may return another net at each call
        counts, largest, note = (_counts if net.source == "factory" else _known_counts)(net, resolved.px, workload.norm)
        norm, recipe = norm_and_recipe(net, workload.norm)
        torch.manual_seed(seed)
        self.set_flags(resolved)
        kind, px = self.torch_device.type, resolved.px
        module = build(net, num_classes=CLASSES, device=kind, norm=workload.norm, px=px).to(self.torch_device)
        awaken(module)
        optimizer = build_optimizer(module, workload.optimizer, recipe)
        # the weights are the same on every rank; images, and what is dropped of them, are not
        own_seed = (seed + self.world.rank) % 2**63
        several = workload.world_size > 1
        if several:
            torch.manual_seed(own_seed)
        step = (RankedStep if several else TrainStep)(
            module, optimizer, workload, resolved, device=self.torch_device, classes=CLASSES, seed=own_seed
        )
        step.arrange(resolved.layout, self._first_micro_batch(workload, resolved))
        notes = {"norm": norm} | ({"macs": note} if note else {})
        if resolved.agc is not None and workload.agc_impl == "auto" and (refusal := self._no_fused()):
            notes["agc"] = refusal
        if (resolved.optimizer_impl or "").endswith("fused") and not fusible(module):
            notes["fused"] = UNFUSED
        if resolved.precision == "fp16" and resolved.optimizer_impl == "rmsproptf":
            notes["optimizer"] = "RMSpropTF knows no loss scale, so each fp16 update waits for the device"
        if workload.compile != "none":
            notes["layout"] = "a request: inductor may choose its own"
        described = counts, notes, workload.compile != "none", MOST_ELEMENTS // max(1, largest)
        return RankedSteps(step, *described) if isinstance(step, RankedStep) else TorchSteps(step, *described)

    def clips(self, workload: AgcCost, seed: int) -> TorchClips:
        return TorchClips(ClipTrial(find(workload.model), device=self.torch_device, layout=workload.layout, seed=seed))

    def clip_impls(self) -> dict[AgcImpl, str | None]:
        return {"timm": None, "reference": None, "foreach": None, "fused": refusal(self.torch_device)}

    def flops(self, workload: Flops) -> list[Reading]:
        net = find(workload.model)
        sides = dict(zip(("train", "test"), px_of(net), strict=True))
        px = sides[workload.px] if isinstance(workload.px, str) else workload.px
        (counts,) = count_net(net, [px], train=True, classes=CLASSES)
        return _flop_readings(counts, ("activations", "1", counts.activations), ("px", "px", px))

    def dependence(self, workload: Dependence, seed: int) -> list[Reading]:
        px = None if workload.px == "auto" else workload.px
        figures = dependence_of(find(workload.model), batch=workload.batch, px=px, agc=workload.agc, seed=seed)
        return [
            reading(name, "px" if name == "px" else "1", "run", "float32 on the CPU", [value])
            for name, value in figures.items()
        ]

    def now(self) -> float:
        return time.perf_counter()

    def pace(self) -> tuple[float, ...]:
        return ()

    def _first_micro_batch(self, workload: StepTime, resolved: Resolved) -> int:
        """Where the micro-batch is still to be found nothing larger than two images is laid out."""
        return min(2, share_of(workload)) if workload.micro_batch == "auto" else resolved.micro_batch

    def _agc_impl(self, workload: StepTime) -> AgcImpl:
        """What clips: where it is left open, the fused kernel if one has run here."""
        return default_impl(self.torch_device) if workload.agc_impl == "auto" else workload.agc_impl

    def _no_fused(self) -> str | None:
        """Why the fused clip, the default of such a device, does not run here."""
        return None

    def _check_ranks(self, workload: StepTime) -> None:
        if workload.world_size != self.world.size:
            raise UnsupportedWorkload(
                f"The workload is of {workload.world_size} ranks, and this is {self.world.size}.",
                why="torchrun decides how many there are; no study file does.",
                try_=f"torchrun --nproc-per-node {workload.world_size} -m nfbench step-time …",
            )

    def _check_norm(self, norm: str) -> None:
        """Raise `UnsupportedWorkload` where the device has no such normalization."""

    def _precision(self) -> Precision:
        raise AssertionError("each device says what auto becomes")

    def _check_precision(self, precision: Precision) -> None:
        """Raise `UnsupportedWorkload` where the device has no such arithmetic."""

    def _flags(self, precision: Precision) -> dict[str, Any]:
        return {}

    def set_flags(self, resolved: Resolved) -> None:
        """Set what `_flags` recorded."""


def share_of(workload: StepTime) -> int:
    """Images of an update that one of the ranks takes."""
    return workload.batch // workload.world_size


def shares(batch: int) -> list[int]:
    """Micro-batches that divide ``batch``, largest first: its power-of-two shares, then divisors of the odd rest."""
    halves = [batch]
    while halves[-1] % 2 == 0:
        halves.append(halves[-1] // 2)
    odd = halves[-1]
    return halves + [d for d in range(odd // 2, 0, -1) if odd % d == 0]


@functools.cache
def _software(code: Path) -> Software:
    """Read once: what is loaded stays what it was, whatever is committed meanwhile."""
    return software(with_torch=True, code=code)


def _code_under_test(model: str | None) -> Path:
    """The file whose commit is recorded: that of a user's own factory, else nfbench's."""
    net = find(model) if model else None
    if net is not None and net.source == "factory":
        module = sys.modules.get(net.config.partition(":")[0])
        file = getattr(module, "__file__", None)
        if file:
            return Path(file)
    return Path(nfbench.__file__)


def norm_and_recipe(net: Net, asked: str) -> tuple[str, RecipeName]:
    """The kind of normalization, which decides whether `auto` clips, and the recipe: read off nets not of the
    catalogue."""
    norm: str | None = net.norm if asked == "auto" else asked
    if norm is None:
        norm = norm_of(shapes_of(net, num_classes=CLASSES))
    return norm, net.recipe or ("nfnet" if norm == "none" else "bn-resnet")


@functools.cache
def _known_counts(net: Net, px: int, norm: str) -> tuple[list[Reading], int, str]:
    return _counts(net, px, norm)


def _counts(net: Net, px: int, norm: str) -> tuple[list[Reading], int, str]:
    """MACs and parameters, an image's largest tensor, and what is to be said of them; none of a factory's net that
    cannot be counted.

    Raises:
        UnsupportedWorkload: a net of the catalogue or of timm does not run at that px.
    """
    try:
        (counts,) = count_net(net, [px], train=True, norm=norm, classes=CLASSES)
    except UnsupportedWorkload as error:
        if net.source != "factory":
            raise
        return [], 0, f"The MACs were not counted: {error.what} {error.why}"
    return _flop_readings(counts), counts.largest, counts.note


def _flop_readings(counts: Count, *more: tuple[str, str, float]) -> list[Reading]:
    named = [("macs", "MAC", counts.macs), ("train_macs", "MAC", counts.train_macs), ("params", "1", counts.params)]
    return [
        reading(name, unit, "run", "flop counter", [value])
        for name, unit, value in (*named, *more)
        if value is not None
    ]
