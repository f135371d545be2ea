"""A clip by itself: the parameters of a net that AGC clips, with gradients of which a share is over its limit."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nfbench.catalog.models import Net
from nfbench.nets import agc
from nfbench.nets.agc_units import is_vector, unitwise_norm
from nfbench.nets.build import awaken, build
from nfbench.nets.flops import Operators
from nfbench.nets.train_step import lay_out
from nfbench.records import AgcCost, Layout

OVER, UNDER = 2.0, 0.5
"""How far over or under its limit a unit's gradient is, as a factor."""
SETTLED = 3
"""Calls from which on an implementation prepares nothing any more."""
FASTEST = 2_000_000
"""kHz that a card is taken to run at where an older torch does not tell its highest clock."""


class ClipTrial:
    """The weights of a net and random gradients, for any implementation to clip again and again.

    ``weight_bytes`` and ``gradient_bytes`` are those of all parameters that are clipped.
    """

    def __init__(self, net: Net, *, device: torch.device, layout: Layout, seed: int) -> None:
        torch.manual_seed(seed)
        module = build(net, device=device.type).to(device)
        lay_out(module, layout)
        awaken(module)
        self.device, self.seed = device, seed
        self.parameters = agc.agc_parameters(module)
        for p in self.parameters:
            p.grad = torch.empty_like(p)
        self.kept = [torch.empty_like(p) for p in self.parameters]
        self.gradients = [p.grad for p in self.parameters if p.grad is not None]
        self.weight_bytes = sum(p.numel() * p.element_size() for p in self.parameters)
        self.gradient_bytes = sum(g.numel() * g.element_size() for g in self.gradients)
        self.over_bytes = 0.0
        elements = sum(g.numel() for g in self.gradients)
        self.source, self.target = (torch.ones(elements, device=device) for _ in range(2))
        self.flushing: torch.Tensor | None = None
        self.clock_rate = FASTEST
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            self.flushing = torch.empty(2 * properties.L2_cache_size, dtype=torch.uint8, device=device)
            self.clock_rate = getattr(properties, "clock_rate", FASTEST)

    @torch.no_grad()
    def draw(self, share: float) -> None:
        """New gradients: about ``share`` (0 to 1) of their units are over the limit, the others under it."""
        generator = torch.Generator(self.device).manual_seed(self.seed)
        self.over_bytes = 0.0
        for p, kept in zip(self.parameters, self.kept, strict=True):
            kept.copy_(torch.randn(p.shape, generator=generator, device=self.device))
            limit = agc.DEFAULT_CLIPPING * unitwise_norm(p.detach()).clamp(min=agc.EPS)
            over = torch.rand(limit.shape, generator=generator, device=self.device) < share
            kept.mul_(torch.where(over, OVER, UNDER) * limit / unitwise_norm(kept).clamp(min=1e-30))
            units = 1 if is_vector(p) else p.shape[0]
            self.over_bytes += float(over.sum()) / units * kept.numel() * kept.element_size()
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """The gradients as they were drawn. On CUDA nothing of them is left in the L2 cache, whatever was there."""
        torch._foreach_copy_(self.gradients, self.kept)
        if self.flushing is not None:
            self.flushing.zero_()

    def wait(self, seconds: float) -> None:
        """Keep a CUDA device busy for ``seconds`` at its highest clock, longer at a lower one."""
        if self.device.type == "cuda":
            torch.cuda._sleep(int(seconds * 1000 * self.clock_rate))

    def call(self, workload: AgcCost) -> Callable[[], object]:
        """What is timed: the implementation, or the copy of as many bytes as the gradients have."""
        if workload.impl == "copy":
            return lambda: self.target.copy_(self.source)
        return agc.clipper(self.parameters, agc.DEFAULT_CLIPPING, workload.impl)

    def moved(self, workload: AgcCost) -> float:
        """Bytes that must move: W, G and what is clipped of G again; of a copy what is read and written."""
        if workload.impl == "copy":
            return 2.0 * self.gradient_bytes
        return self.weight_bytes + self.gradient_bytes + self.over_bytes

    def shares(self, workload: AgcCost) -> agc.Shares:
        """The units, and those over their limit, as the implementation takes them. Waits for the device."""
        self.reset()
        return agc.units(self.parameters, agc.DEFAULT_CLIPPING, "timm" if workload.impl == "timm" else "auto")

    def operators(self, call: Callable[[], object]) -> int:
        """Operators that one call dispatches, after those that prepare something."""
        for _ in range(SETTLED):
            self.reset()
            call()
        self.reset()
        counter = Operators()
        with counter:
            call()
        return counter.count

    def launches(self, call: Callable[[], object]) -> int | None:
        """Kernels, copies and fills that one call launches on CUDA; None elsewhere or where CUPTI does not say."""
        if self.device.type != "cuda":
            return None
        from torch.profiler import ProfilerActivity, profile

        self.reset()
        torch.cuda.synchronize(self.device)
        with profile(activities=[ProfilerActivity.CUDA]) as found:
            call()
            torch.cuda.synchronize(self.device)
        return sum("cuda" in str(event.device_type).lower() for event in found.events()) or None
