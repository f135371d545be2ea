"""An NVIDIA GPU: events on the stream, the caching allocator, NVML for what torch does not know.

Run as a program it finds the micro-batch in a process of its own, so that a failed try leaves nothing behind.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import psutil
import torch

from nfbench.devices import host, nvml
from nfbench.devices.base import RUNNER, Steps, child_environment
from nfbench.devices.torch_device import TorchDevice, TorchSteps, share_of, shares
from nfbench.errors import UnsupportedWorkload
from nfbench.nets.agc_fused import refusal
from nfbench.records import AgcImpl, Conditions, Machine, Precision, Reading, Record, Resolved, StepTime, reading

SAFE_WITHOUT_PROBE = 0.5
LEFT_FREE = 0.10
MOST_RESERVED = 0.92
_NO_MEMORY = re.compile(r"CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation")


class Use(NamedTuple):
    """What passes of some size took at their peak: bytes in use, bytes that the allocator held for them, and how often
    it had to try again."""

    peak: int
    reserved: int
    retries: int = 0


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
        before = {card.uuid: card.memory_used() for card in nvml.cards()}
        torch.cuda.set_device(self.torch_device)
        properties = torch.cuda.get_device_properties(index)
        self.uuid = str(properties.uuid)
        self.card = nvml.card_of(self.uuid)
        self.capability = (properties.major, properties.minor)
        self.retries = 0
        card = self.card
        self.context = _context(card, None if card is None else before.get(card.uuid))
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

    def fit(self, workload: StepTime, resolved: Resolved, steps: Steps, seed: int) -> int:
        """The whole batch where two small passes foretell that it takes less than half of the free memory; else a
        process of its own probes upwards, so that nothing of what fails is left behind."""
        assert isinstance(steps, TorchSteps)
        room = torch.cuda.mem_get_info(self.torch_device)[0] + torch.cuda.memory_reserved(self.torch_device)
        share = share_of(workload)
        with steps.step.eager():
            whole = share <= 2 or _foretold(share, resolved, steps) <= SAFE_WITHOUT_PROBE * room
        if whole:
            return share
        steps.step.park()
        torch.cuda.empty_cache()
        # what a rank's own share takes is found without the others
        own = msgspec.structs.replace(workload, batch=share, world_size=1, broadcast_buffers=True)
        found = in_own_process(own, resolved, seed, self.torch_device.index or 0)
        _check_graphs(workload, found)
        return found

    def _memory_of_others(self, card: nvml.Card) -> int | None:
        """Bytes in use that are neither this process's tensors nor its context; None beside other workers of the same
        runner, whose share nothing tells."""
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
        self.retries = torch.cuda.memory_stats(self.torch_device)["num_alloc_retries"]

    def peaks(self) -> list[Reading]:
        stats = torch.cuda.memory_stats(self.torch_device)
        retries = stats["num_alloc_retries"] - self.retries
        return [
            reading("peak_allocated", "B", "window", "torch allocator", [stats["allocated_bytes.all.peak"]]),
            reading("peak_reserved", "B", "window", "torch allocator", [stats["reserved_bytes.all.peak"]]),
            reading("allocator_retries", "1", "window", "torch allocator", [retries]),
        ]

    def rest(self) -> None:
        torch.cuda.empty_cache()

    def out_of_memory(self, error: BaseException) -> bool:
        if not isinstance(error, torch.OutOfMemoryError) and not _NO_MEMORY.search(str(error)):
            return False
        torch.cuda.empty_cache()
        return True

    def lock_name(self) -> str | None:
        return self.uuid

    def _agc_impl(self, workload: StepTime) -> AgcImpl:
        if workload.agc_impl == "fused" and (why := self._no_fused()) is not None:
            raise UnsupportedWorkload(
                f"--agc-impl fused does not run on {self.machine.name}.",
                why=f"Its trial kernel failed: {why}.",
                try_="--agc-impl foreach, or install a C compiler (Triton needs one)",
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
    if workload.compile in ("reduce-overhead", "max-autotune") and micro_batch < share_of(workload):
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


def _context(card: nvml.Card | None, before: int | None) -> int | None:
    """Bytes that this process took of the card before its first tensor."""
    torch.cuda.synchronize()
    after = None if card is None else card.memory_used()
    return None if after is None or before is None else max(0, after - before)


def use_of(steps: TorchSteps, resolved: Resolved, images: int, device: torch.device) -> Use:
    """What an update of two passes of ``images`` takes, cuDNN's search for algorithms done."""
    torch.cuda.empty_cache()
    retries = torch.cuda.memory_stats(device)["num_alloc_retries"]
    steps.arrange(resolved.layout, images)
    passes = min(2, steps.step.accumulation_steps)
    steps.update(_nothing, passes)
    torch.cuda.reset_peak_memory_stats(device)
    steps.update(_nothing, passes)
    torch.cuda.synchronize(device)
    stats = torch.cuda.memory_stats(device)
    peak, reserved = stats["allocated_bytes.all.peak"], stats["reserved_bytes.all.peak"]
    return Use(peak, reserved, stats["num_alloc_retries"] - retries)


def _foretold(batch: int, resolved: Resolved, steps: TorchSteps) -> float:
    """Bytes that passes of the whole batch would take, on the line through passes of two sizes."""
    device = steps.step.device
    sizes = (2, min(8, batch))
    small, large = ((n, use_of(steps, resolved, n, device)) for n in sizes)
    return predicted(batch, small, large) * (1 + LEFT_FREE)


def _nothing() -> None:
    return None


def predicted(images: int, small: tuple[int, Use], large: tuple[int, Use]) -> float:
    """Bytes for ``images``, on the line through two sizes that were tried."""
    (a, use_a), (b, use_b) = small, large
    slope = max(0.0, (use_b.peak - use_a.peak) / (b - a))
    return use_b.peak + slope * (images - b)


def largest(batch: int, room: int, tried: Callable[[int], Use | None]) -> int | None:
    """The largest share of ``batch`` that was tried and held, or None where not even the smallest did.

    ``room`` is what the device has for it, in bytes; ``tried`` runs a whole update with passes of that size and is
    None where memory ran out. Two small sizes foretell the others, the foretold size is then tried, and halved while
    it takes more than 92 % of the room or makes the allocator retry.
    """
    candidates = shares(batch)
    upward = candidates[::-1]
    known: list[tuple[int, Use]] = []
    for size in upward:
        use = tried(size)
        if use is None or not _holds(use, room):
            return known[-1][0] if known else None
        known.append((size, use))
        if len(known) == 2:
            break
    if len(known) < 2:
        return known[-1][0]
    limit = (1 - LEFT_FREE) * room
    for size in candidates:
        if size <= known[-1][0]:
            break
        if predicted(size, known[0], known[-1]) <= limit:
            use = tried(size)
            if use is not None and _holds(use, room):
                return size
    return known[-1][0]


def _holds(use: Use, room: int) -> bool:
    return use.retries == 0 and use.reserved <= MOST_RESERVED * room


class Request(Record, frozen=True, kw_only=True):
    """What to probe, and on which of the cards that torch sees."""

    workload: StepTime
    resolved: Resolved
    seed: int
    index: int


def in_own_process(workload: StepTime, resolved: Resolved, seed: int, index: int) -> int:
    """The largest micro-batch that a fresh process could run.

    Raises:
        UnsupportedWorkload: not even the smallest pass fits.
        RuntimeError: the search itself failed.
    """
    request = Request(workload=workload, resolved=resolved, seed=seed, index=index)
    done = subprocess.run(
        [sys.executable, "-m", "nfbench.devices.cuda"],
        input=msgspec.json.encode(request),
        env=child_environment(),
        capture_output=True,
        check=False,
    )
    held = [json.loads(line)["holds"] for line in done.stdout.splitlines() if line.startswith(b'{"holds"')]
    if not held:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise RuntimeError(f"the search for a micro-batch ended with exit code {done.returncode}: {last[0]}")
    if held[-1] is None:
        raise UnsupportedWorkload(
            f"{workload.model} at {resolved.px} px does not fit on the card with one image a pass.",
            try_="a smaller --px",
        )
    return int(held[-1])


def probe() -> None:
    """Read a `Request` on standard input; write the largest size that holds, or null."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    device = Cuda(request.index)
    room = torch.cuda.mem_get_info(device.torch_device)[0]
    steps = device.build(request.workload, request.resolved, request.seed)

    def tried(images: int) -> Use | None:
        try:
            return use_of(steps, request.resolved, images, device.torch_device)
        except Exception as error:
            if not device.out_of_memory(error):
                raise
            return None

    with steps.step.eager():
        found = largest(request.workload.batch, room, tried)
    sys.stdout.write(json.dumps({"holds": found}) + "\n")


if __name__ == "__main__":
    probe()
