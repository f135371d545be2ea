"""An NVIDIA GPU: events on the stream, the caching allocator, NVML for what torch does not know."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import psutil
import torch

from nfbench.devices import host, nvml
from nfbench.devices.base import RUNNER, Steps
from nfbench.devices.torch_device import RankedSteps, TorchDevice, TorchSteps, share_of, shares
from nfbench.errors import UnsupportedWorkload, out_of_memory
from nfbench.nets.agc_fused import refusal
from nfbench.records import (
    CUDA_GRAPHS,
    AgcImpl,
    Conditions,
    Layout,
    Machine,
    Precision,
    Reading,
    Resolved,
    StepTime,
    reading,
)

QUIET = {"TRITON_DEFAULT_FP_FUSION": "1", "KINETO_LOG_LEVEL": "99"}
"""What keeps libraries from writing on the screen, unless it is set already: Triton 3.9 warns, in each of inductor's
processes, where its default is left to it, and Kineto marks the beginning and end of each profile."""
LEFT_FREE = 0.10
MOST_RESERVED = 0.92
PROBES = (2, 64)
"""The first sizes that the search for a micro-batch tries, or the next smaller ones that divide the batch."""
_WITHOUT_MEMORY = re.compile("(FIND|GET) was unable to find an engine|CU(BLAS|DNN)_STATUS_NOT_INITIALIZED")
"""What torch, cuBLAS and cuDNN say where memory ran out, but not then alone."""


class CudaRecorder:
    """Timing events, all made before the first stamp."""

    def __init__(self, stamps: int) -> None:
        self.events = [torch.cuda.Event(enable_timing=True) for _ in range(stamps)]
        for event in self.events:
            # torch makes the driver's event with its first record
            event.record()
        self.used = 0

    def stamp(self) -> None:
        self.events[self.used].record()
        self.used += 1

    def times(self) -> list[float]:
        used, self.used = self.events[: self.used], 0
        used[-1].synchronize()
        # neighbour by neighbour: the driver answers in float32 milliseconds, too coarse across a long block
        spans = (a.elapsed_time(b) / 1000 for a, b in itertools.pairwise(used))
        return list(itertools.accumulate(spans, initial=0.0))


class Cuda(TorchDevice):
    """Implements `nfbench.devices.base.Device` on card ``index`` of those that torch sees."""

    least_window = 3.0
    """What the energy counter needs to be read to a few per cent."""
    first_warm_up, next_warm_up = 2.0, 0.3
    """What clock and power take to follow the load of an idle card, and of one that another net has kept busy."""

    def __init__(self, index: int = 0) -> None:
        self.torch_device = torch.device("cuda", index)
        os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
        before = {card.uuid: card.memory_used() for card in nvml.cards()}
        torch.cuda.set_device(self.torch_device)
        properties = torch.cuda.get_device_properties(index)
        self.uuid = str(properties.uuid)
        self.card = nvml.card_of(self.uuid)
        self.capability = (properties.major, properties.minor)
        self.retries = self.refusals = 0
        self.graphs = False
        card = self.card
        self.held_before = None if card is None else before.get(card.uuid)
        self.context = self.taken()
        self.machine = Machine(
            device="cuda",
            name=card.name if card else properties.name,
            memory=card.memory if card and card.memory else properties.total_memory,
            compute_capability=f"{properties.major}.{properties.minor}",
            mig_profile=card.mig_profile if card else None,
            power_limit=card.power_limit if card else None,
            driver=card.driver if card else None,
            cpu=host.cpu_name(),
            cpu_cores=host.cpu_cores(),
            simulated=host.simulated_gpu(),
        )

    def resolve(self, workload: StepTime) -> Resolved:
        if workload.micro_batch != "auto":
            _check_graphs(workload, workload.micro_batch)
        return super().resolve(workload)

    def conditions(self, idle: bool = False) -> Conditions:
        card = self.card
        if card is None:
            return Conditions(load=host.load())
        return Conditions(
            load=host.load(),
            other_processes=card.other_processes(_ours()),
            other_memory=self._memory_of_others(card),
            other_load=card.load_of_others() if idle else None,
            sm_clock_max=card.max_sm_clock(),
            temperature=card.temperature(),
            default_power_limit=card.default_power_limit,
            throttle=card.throttle() or (),
        )

    def build(self, workload: StepTime, resolved: Resolved, seed: int) -> TorchSteps:
        self.graphs, self.refusals = workload.compile in CUDA_GRAPHS, self._stats()["num_ooms"]
        steps = super().build(workload, resolved, seed)
        if resolved.micro_batch > steps.most_images:
            steps.said["micro_batch"] = (
                f"With more than {steps.most_images} images per pass, one tensor has more than 2³¹ − 1 elements."
                " Kernels that index with 32 bits then fail or run slowly"
            )
        return steps

    def fit(self, workload: StepTime, resolved: Resolved, steps: Steps, seed: int) -> int:
        """The largest share of the batch whose passes have been tried and leave room.

        Raises:
            MemoryError: not even one image a pass does.
        """
        assert isinstance(steps, TorchSteps)
        searched, share = steps, share_of(workload)
        steps.step.park()
        self.rest()
        room = torch.cuda.mem_get_info(self.torch_device)[0] + torch.cuda.memory_reserved(self.torch_device)
        if isinstance(steps, RankedSteps):
            # each rank by itself, since the others would wait for one that ran out; the buckets are then missing
            room -= steps.gradient_bytes()
            norm = "batch" if workload.norm == "sync_batch" else workload.norm
            alone = {"batch": share, "world_size": 1, "broadcast_buffers": True, "norm": norm}
            searched = self.build(msgspec.structs.replace(workload, **alone), resolved, seed)
        sizes = [n for n in shares(share) if n <= steps.most_images] or [1]
        with searched.step.eager():
            size = largest(sizes, room, lambda images: self._peak_of(searched, resolved.layout, images, room))
        searched.step.park()
        self.rest()
        if size is None:
            raise MemoryError(f"{workload.model} at {resolved.px} px does not fit on the card with one image a pass")
        _check_graphs(workload, size)
        return size

    def _peak_of(self, steps: TorchSteps, layout: Layout, images: int, room: int) -> int | None:
        """Bytes in use at the peak of an update of two passes of ``images``, once momentum is there and cuDNN's search
        is done; None where memory ran out, the allocator had to try again, or holds over 92 % of ``room``."""
        self.refusals = self._stats()["num_ooms"]
        try:
            steps.arrange(layout, images)
            passes = min(2, steps.step.accumulation_steps)
            steps.update(_nothing, passes)
            self.synchronize()
            self.reset_peaks()
            steps.update(_nothing, passes)
            self.synchronize()
        except Exception as error:
            if not self.out_of_memory(error):
                raise
        else:
            stats = self._stats()
            tight = stats["reserved_bytes.all.peak"] > MOST_RESERVED * room
            retried = stats["num_alloc_retries"] > self.retries
            return None if tight or retried else int(stats["allocated_bytes.all.peak"])
        # what the frames of the error held is free only now
        gc.collect()
        steps.step.park()
        self.rest()
        return None

    def _stats(self) -> dict[str, Any]:
        return torch.cuda.memory_stats(self.torch_device)

    def taken(self) -> int | None:
        """Bytes by which more of the card is in use than before this process came, its tensors apart: its context and,
        of several ranks, what NCCL holds. None where NVML does not tell."""
        self.synchronize()
        used = None if self.card is None else self.card.memory_used()
        if used is None or self.held_before is None:
            return None
        return max(0, used - self.held_before - torch.cuda.memory_reserved(self.torch_device))

    def _memory_of_others(self, card: nvml.Card) -> int | None:
        """Bytes in use that are neither this process's tensors nor what it has `taken`; None beside other workers of
        the same runner, whose share nothing tells."""
        used = card.memory_used()
        if used is None or self.context is None or _has_siblings():
            return None
        return max(0, used - self.context - torch.cuda.memory_reserved(self.torch_device))

    def recorder(self, stamps: int) -> CudaRecorder:
        return CudaRecorder(stamps)

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.torch_device)

    def pace(self) -> tuple[float, ...]:
        card = self.card
        return () if card is None else tuple(v for v in (card.clocks(), card.power()) if v is not None)

    def reset_peaks(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.torch_device)
        self.retries = self._stats()["num_alloc_retries"]

    def peaks(self) -> list[Reading]:
        stats = self._stats()
        values = {
            "peak_allocated": ("B", stats["allocated_bytes.all.peak"]),
            "peak_reserved": ("B", stats["reserved_bytes.all.peak"]),
            "allocator_retries": ("1", stats["num_alloc_retries"] - self.retries),
        }
        if self.graphs:
            # what graphs use is allocated while they are recorded, and only reserved while they run
            del values["peak_allocated"]
        return [reading(name, unit, "window", "torch allocator", [value]) for name, (unit, value) in values.items()]

    def rest(self) -> None:
        # after an error that stays nothing can be freed
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()

    def out_of_memory(self, error: BaseException) -> bool:
        if not out_of_memory(error) and not (_WITHOUT_MEMORY.search(str(error)) and self._is_full()):
            return False
        self.rest()
        return True

    def _is_full(self) -> bool:
        """Whether memory was refused since the last build or try, or under a tenth of it is free."""
        with contextlib.suppress(RuntimeError):
            free, total = torch.cuda.mem_get_info(self.torch_device)
            return self._stats()["num_ooms"] > self.refusals or free < LEFT_FREE * total
        return False

    def usable(self) -> bool:
        try:
            self.synchronize()
        except RuntimeError:
            return False
        return True

    def lock_name(self) -> str | None:
        return self.uuid

    def _agc_impl(self, workload: StepTime) -> AgcImpl:
        if workload.agc_impl == "fused" and (why := self._no_fused()) is not None:
            raise UnsupportedWorkload(
                f"--agc-impl fused does not run on {self.machine.name}.",
                why=f"Its trial kernel failed: {why}.",
                try_="--agc-impl foreach",
            )
        return super()._agc_impl(workload)

    def _no_fused(self) -> str | None:
        return refusal(self.torch_device)

    def _precision(self) -> Precision:
        return "bf16" if self.capability >= (8, 0) else "fp16" if self.capability >= (7, 0) else "fp32"

    def _check_precision(self, precision: Precision) -> None:
        least = {"bf16": (8, 0), "tf32": (8, 0), "fp16": (5, 3), "fp32": (0, 0)}[precision]
        if self.capability < least:
            raise UnsupportedWorkload(
                f"--precision {precision} needs compute capability {least[0]}.{least[1]}; "
                f"{self.machine.name} has {self.machine.compute_capability}.",
                try_=f"--precision {self._precision()}",
            )

    def _flags(self, precision: Precision) -> dict[str, Any]:
        allocator = os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF")
        return {"tf32": precision == "tf32", "cudnn_benchmark": True, "allocator": allocator}

    def set_flags(self, resolved: Resolved) -> None:
        torch.backends.cudnn.benchmark = True
        set_tf32(bool(resolved.tf32))


def _check_graphs(workload: StepTime, micro_batch: int) -> None:
    """CUDA graphs cannot accumulate: the next pass overwrites the gradients of the last (pytorch issue 169545)."""
    if workload.compile in CUDA_GRAPHS and micro_batch < share_of(workload):
        raise UnsupportedWorkload(
            f"--compile {workload.compile} records CUDA graphs, which cannot accumulate gradients over passes; "
            f"--batch {workload.batch} takes passes of {micro_batch}.",
            try_=f"--compile default, or --batch {micro_batch * workload.world_size}",
        )


def set_tf32(on: bool) -> None:
    """TF32 for matrix products and for convolutions alike; cuDNN's own default is on."""
    # inductor reads these, and torch refuses to have them mixed with their successors (pytorch issue 166387)
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


def _ours() -> set[int]:
    """This process and, in a worker, its runner with its other workers: they hold the card but wait for their turn."""
    runner = _runner()
    family = [] if runner is None else [runner, *runner.children(recursive=True)]
    return {os.getpid(), *(process.pid for process in family)}


def _has_siblings() -> bool:
    runner = _runner()
    return runner is not None and len(runner.children()) > 1


def _runner() -> psutil.Process | None:
    """The runner whose worker this process is."""
    runner = os.environ.get(RUNNER)
    return psutil.Process(int(runner)) if runner and runner.isdigit() and psutil.pid_exists(int(runner)) else None


def largest(sizes: Sequence[int], room: int, tried: Callable[[int], int | None]) -> int | None:
    """The largest of ``sizes``, given largest first, that was tried and did; None where not even the smallest.

    ``tried`` runs updates with passes of that many images: the bytes at their peak, or None where they did not do. The
    line through the two largest that did foretells the next, so that it leaves a tenth of ``room`` free.
    """
    did: list[tuple[int, int]] = []
    failed = sizes[0] + 1
    while (size := _next(sizes, did, failed, (1 - LEFT_FREE) * room)) is not None:
        peak = tried(size)
        if peak is None:
            failed = size
        else:
            did.append((size, peak))
    return did[-1][0] if did else None


def _next(sizes: Sequence[int], did: Sequence[tuple[int, int]], failed: int, limit: float) -> int | None:
    left = [n for n in sizes if n < failed and (not did or n > did[-1][0])]
    if len(did) < len(PROBES):
        # a smaller probe is no better: what cuDNN needs beside the images would bend the line
        return next((n for n in left if n <= PROBES[len(did)]), left[-1] if left else None)
    (few, low), (many, high) = did[-2:]
    slope = max(0.0, (high - low) / (many - few))
    return next((n for n in left if high + slope * (n - many) <= limit), None)


def _nothing() -> None:
    return None
