"""The CPU: host clock, resident memory."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from nfbench.devices import host
from nfbench.devices.base import HostRecorder, Steps
from nfbench.devices.torch_device import TorchDevice, TorchSteps, share_of, shares
from nfbench.errors import UnsupportedWorkload, out_of_memory
from nfbench.nets.agc_fused import refusal
from nfbench.records import AgcImpl, Conditions, Machine, Precision, Reading, Resolved, StepTime, reading

FILLED = 0.60
"""Share of the free memory that an update may fill: torch's workspaces come on top of what is counted."""


class Cpu(TorchDevice):
    """Implements `nfbench.devices.base.Device` on the CPU."""

    torch_device = torch.device("cpu")

    def __init__(self) -> None:
        name = host.cpu_name()
        self.machine = Machine(
            device="cpu", name=name, memory=host.memory_total(), cpu=name, cpu_cores=host.cpu_cores()
        )
        self.peak_is_fresh = False

    def conditions(self, idle: bool = False) -> Conditions:
        return Conditions(load=host.load())

    def fit(self, workload: StepTime, resolved: Resolved, steps: Steps, seed: int) -> int:
        """The whole batch where what an update needs fits in `FILLED` of the free memory, else the largest share of
        it that does: a smaller pass changes what batch normalization sees.

        Counted are what a pass keeps for backward, on the line through two small passes, and what is as large as the
        weights: gradients, optimizer state, their average, and what SAM keeps. The weights are there already.
        """
        assert isinstance(steps, TorchSteps)
        candidates = shares(share_of(workload))
        sizes = [n for n in (2, 4) if n <= candidates[0]] or [1]
        saved = []
        with steps.step.eager():
            for size in sizes:
                steps.arrange(resolved.layout, size)
                saved.append(steps.step.saved_bytes() or 0)
        # standardized weights are kept once, however many images there are
        an_image = (saved[-1] - saved[0]) / (sizes[-1] - sizes[0]) if len(sizes) > 1 else saved[0] / sizes[0]
        weights = sum(p.numel() * p.element_size() for p in steps.step.net.parameters())
        copies = 2 + (workload.optimizer == "recipe") + (workload.ema != "none") + 2 * (workload.sam != "none")
        fixed = copies * weights + saved[0] - sizes[0] * an_image
        room = FILLED * host.memory_available() / workload.world_size
        return next((n for n in candidates if fixed + n * an_image <= room), candidates[-1])

    def recorder(self, stamps: int) -> HostRecorder:
        return HostRecorder(time.perf_counter)

    def synchronize(self) -> None:
        return None

    def reset_peaks(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self.peak_is_fresh = True
        except OSError:
            self.peak_is_fresh = False

    def peaks(self) -> list[Reading]:
        peak = host.peak_resident()
        source = "peak since the window began" if self.peak_is_fresh else "peak since the process began"
        return [] if peak is None else [reading("peak_rss", "B", "window", source, [peak])]

    def rest(self) -> None:
        return None

    def out_of_memory(self, error: BaseException) -> bool:
        return out_of_memory(error)

    def usable(self) -> bool:
        return True

    def lock_name(self) -> str | None:
        # the ranks of one machine share its cores, so that one of them takes the lock for all
        return "cpu" if self.world.local_rank == 0 else None

    def _precision(self) -> Precision:
        return "fp32"

    def _agc_impl(self, workload: StepTime) -> AgcImpl:
        if workload.agc_impl == "fused" and (why := refusal(self.torch_device)) is not None:
            raise UnsupportedWorkload(
                "--agc-impl fused does not run on a CPU.", why=f"{why[0].upper()}{why[1:]}.", try_="--agc-impl foreach"
            )
        return super()._agc_impl(workload)

    def _check_norm(self, norm: str) -> None:
        if norm == "sync_batch":
            raise UnsupportedWorkload(
                "--norm sync_batch does not run on a CPU.",
                why="torch's SyncBatchNorm is for CUDA only.",
                try_="--norm batch",
            )

    def _check_precision(self, precision: Precision) -> None:
        if precision == "tf32":
            raise UnsupportedWorkload(
                "--precision tf32 is an arithmetic of NVIDIA GPUs; this is a CPU.", try_="--precision fp32"
            )
