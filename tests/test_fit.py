from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from nfbench.catalog.models import find
from nfbench.devices import cuda, host, torch_device
from nfbench.devices.cpu import Cpu
from nfbench.devices.cuda import Cuda
from nfbench.devices.torch_device import TorchSteps, shares
from nfbench.nets.flops import count_net
from nfbench.records import Resolved, StepTime


class Card:
    """Images of ``each`` bytes on top of ``fixed``; an update does not do above ``most`` of them, nor of ``memory``. Up
    to ``few`` images a workspace of cuDNN is ``workspace`` bytes large, which is more than their own."""

    def __init__(
        self, memory: int = 10_000, *, fixed: int, each: int, most: int = 2**20, few: int = 0, workspace: int = 0
    ) -> None:
        self.memory, self.fixed, self.each, self.most = memory, fixed, each, most
        self.few, self.workspace = few, workspace
        self.sizes: list[int] = []

    def __call__(self, images: int) -> int | None:
        self.sizes.append(images)
        peak = self.fixed + images * self.each + (self.workspace if images <= self.few else 0)
        return None if peak > self.memory or images > self.most else peak


@pytest.mark.parametrize(
    ("batch", "card", "size", "tried"),
    [
        # 0.9 · 10,000 = 1,000 + 10 · 800: 512 is the largest power-of-two share of 4096 that leaves a tenth free
        (4096, Card(fixed=1_000, each=10), 512, [2, 64, 512]),
        # what was foretold does not do
        (4096, Card(fixed=1_000, each=10, most=130), 128, [2, 64, 512, 256, 128]),
        # the whole batch is tried, not foretold
        (64, Card(fixed=100, each=3, few=2, workspace=18), 64, [2, 64]),
        (256, Card(fixed=100, each=3, few=2, workspace=6_000), 256, [2, 64, 256]),
        # the second probe fails, so that no line can be drawn
        (4096, Card(fixed=1_000, each=300), 16, [2, 64, 32, 16]),
        # the line is drawn anew through what was tried: after 256 images it foretells 512, which do not do
        (4096, Card(fixed=0, each=20, few=64, workspace=2_560), 256, [2, 64, 256, 512]),
        (32, Card(fixed=1_000, each=10), 32, [2, 32]),
        (32, Card(fixed=8_500, each=1_000), 1, [2, 1]),
        (32, Card(fixed=20_000, each=10), None, [2, 1]),
        (97, Card(fixed=0, each=10), 97, [1, 97]),
        (1, Card(fixed=0, each=10), 1, [1]),
    ],
)
def test_the_largest_share_is_found_in_few_tries(batch: int, card: Card, size: int | None, tried: list[int]) -> None:
    assert cuda.largest(shares(batch), 10_000, card) == size
    assert card.sizes == tried


def card_with(monkeypatch: pytest.MonkeyPatch, free: float, refused: int) -> Cuda:
    """A card of 100 bytes with so many of them free, whose allocator has refused memory so often since the last try."""
    card = Cuda.__new__(Cuda)
    card.torch_device, card.refusals = torch.device("cuda", 0), 1
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 100))
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: {"num_ooms": 1 + refused})
    return card


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB",
        "CUDA error: out of memory",
        "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com",
        "CUDA driver error: out of memory",
        "CUDA ran out of memory outside PyTorch's allocator.",
        "Triton Error [CUDA]: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        "NCCL error\nncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2",
        "backend='inductor' raised:\nOutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":995, please report a bug',
    ],
)
def test_memory_runs_out_in_many_words(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    def after_a_sticky_error() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "empty_cache", after_a_sticky_error)
    card = card_with(monkeypatch, 90, 0)
    assert card.out_of_memory(RuntimeError(words))
    for other in ("an illegal memory access was encountered", "unspecified launch failure 2", "device-side assert"):
        assert not card.out_of_memory(RuntimeError(f"CUDA error: {other}"))


@pytest.mark.parametrize(
    "words",
    [
        "FIND was unable to find an engine to execute this computation",
        "GET was unable to find an engine to execute this computation",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    ],
)
def test_what_is_said_without_memory_too_means_that_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    error = RuntimeError(words)
    assert card_with(monkeypatch, 9, 0).out_of_memory(error)
    assert card_with(monkeypatch, 90, 1).out_of_memory(error)
    assert not card_with(monkeypatch, 90, 0).out_of_memory(error)


class Counted(TorchSteps):
    """Steps that only count the bytes of their images, 10 each, and torch's allocator on a card of 10,000 bytes.

    The first update of a size takes ``search`` bytes more, for cuDNN's search. From ``tight`` images on the allocator
    has to try again in each update, from ``wide`` on it reserves all.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, search: int = 0, tight: int = 2**20, wide: int = 2**20
    ) -> None:
        self.search, self.tight, self.wide = search, tight, wide
        self.step: Any = self
        self.most_images = 2**20
        self.images = self.updates = self.passes = 0
        self.happened: list[str] = []
        self.stats = {"num_ooms": 0, "num_alloc_retries": 0}
        self.forget()
        for name, function in (
            ("memory_stats", lambda device: dict(self.stats)),
            ("mem_get_info", lambda device: (10_000, 10_000)),
            ("memory_reserved", lambda device: 0),
            ("reset_peak_memory_stats", lambda device: self.forget()),
            ("synchronize", lambda device: None),
            ("empty_cache", lambda: self.happened.append("emptied")),
        ):
            monkeypatch.setattr(torch.cuda, name, function)

    @property
    def accumulation_steps(self) -> int:
        return 4096 // self.images

    def eager(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def park(self) -> None:
        self.happened.append("parked")

    def arrange(self, layout: str, micro_batch: int) -> None:
        self.images, self.updates = micro_batch, 0

    def forget(self) -> None:
        self.stats |= {"allocated_bytes.all.peak": 0, "reserved_bytes.all.peak": 0}

    def update(self, stamp: Callable[[], None], passes: int) -> None:  # type: ignore[override]
        self.updates, self.passes = self.updates + 1, passes
        need = 10 * self.images + (self.search if self.updates == 1 else 0)
        self.happened.append(f"{passes} of {self.images}")
        if need > 10_000:
            self.stats["num_ooms"] += 1
            raise RuntimeError("CUDA out of memory.")
        if (self.updates == 1 and self.search) or self.images >= self.tight:
            self.stats["num_alloc_retries"] += 1
        reserved = 10_000 if self.images >= self.wide else need
        for name, size in (("allocated", need), ("reserved", reserved)):
            self.stats[f"{name}_bytes.all.peak"] = max(self.stats[f"{name}_bytes.all.peak"], size)


def sought(steps: Counted) -> int:
    """The micro-batch of 4096 images that a card finds for these steps."""
    card = Cuda.__new__(Cuda)
    card.torch_device, card.retries, card.refusals = torch.device("cuda", 0), 0, 0
    settled = Resolved(px=32, micro_batch=4096, precision="fp32", layout="nhwc")
    return card.fit(StepTime(model="tiny-nfnet", batch=4096), settled, steps, 0)


def test_what_fits_has_run_two_updates_of_which_the_second_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    # cuDNN's search takes more, and the allocator tries again, in the first
    steps = Counted(monkeypatch, search=4_000)
    assert sought(steps) == 512
    updates = [event for event in steps.happened if " of " in event]
    assert updates == ["2 of 2"] * 2 + ["2 of 64"] * 2 + ["2 of 512"] * 2
    # what is found begins anew on an empty card
    assert steps.happened[:2] == steps.happened[-2:] == ["parked", "emptied"]


@pytest.mark.parametrize(
    "more", [{"tight": 512}, {"wide": 512}, {"search": 8_000}], ids=["tried again", "reserved", "out of memory"]
)
def test_a_size_that_is_short_of_memory_is_not_taken(monkeypatch: pytest.MonkeyPatch, more: dict[str, int]) -> None:
    steps = Counted(monkeypatch, **more)
    assert sought(steps) == (256 if "search" not in more else 128)
    if "search" in more:
        # an update that ran out of memory leaves nothing of itself to the next size
        place = steps.happened.index("2 of 512")
        assert steps.happened[place : place + 4] == ["2 of 512", "emptied", "parked", "emptied"]


def test_no_size_is_tried_whose_tensors_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Counted(monkeypatch)
    steps.most_images = 300
    assert sought(steps) == 256 and not {"2 of 512", "1 of 4096"} & set(steps.happened)


@pytest.mark.parametrize(("images", "said"), [(2, False), (3, True)])
def test_passes_that_were_asked_for_are_kept_and_what_is_too_large_in_them_is_said(
    monkeypatch: pytest.MonkeyPatch, images: int, said: bool
) -> None:
    (counts,) = count_net(find("tiny-nfnet"), [32], train=True)
    monkeypatch.setattr(torch_device, "MOST_ELEMENTS", 3 * counts.largest - 1)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: {"num_ooms": 0})
    monkeypatch.setattr(Cuda, "set_flags", lambda self, resolved: None)
    card = Cuda.__new__(Cuda)
    card.torch_device = torch.device("cpu")
    settled = Resolved(px=32, micro_batch=images, precision="fp32", layout="nhwc")
    steps = card.build(StepTime(model="tiny-nfnet", batch=images), settled, 0)
    assert steps.notes().get("micro_batch", "").startswith("With more than 2 images per pass, one tensor has") == said


def test_where_not_one_image_does_memory_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MemoryError, match="tiny-nfnet at 32 px does not fit on the card with one image a pass"):
        sought(Counted(monkeypatch, search=20_000))


@pytest.mark.parametrize("graphs", [False, True])
def test_the_peak_of_what_the_allocator_does_not_count_is_absent(monkeypatch: pytest.MonkeyPatch, graphs: bool) -> None:
    card = card_with(monkeypatch, 90, 0)
    stats = {"allocated_bytes.all.peak": 5, "reserved_bytes.all.peak": 8, "num_alloc_retries": 3}
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: stats)
    card.graphs, card.retries = graphs, 1
    # what CUDA graphs use is only reserved while they run
    allocated = {} if graphs else {"peak_allocated": 5}
    assert {r.name: r.values[0] for r in card.peaks()} == allocated | {"peak_reserved": 8, "allocator_retries": 2}


def fitted(monkeypatch: pytest.MonkeyPatch, free: float, **settings: Any) -> int:
    """What the CPU makes of a micro-batch of `auto` where so many bytes of memory are free."""
    device = Cpu()
    workload = StepTime(**({"model": "tiny-nfnet-s", "batch": 64, "px": 64, "layout": "nchw"} | settings))
    resolved = device.resolve(workload)
    monkeypatch.setattr(host, "memory_available", lambda: int(free))
    return device.fit(workload, resolved, device.build(workload, resolved, seed=0), 0)


def counted(images: int, copies: int = 2, batch: int = 64) -> int:
    """Bytes of an update with passes of so many images: what one keeps for backward, and copies of the weights."""
    device = Cpu()
    workload = StepTime(model="tiny-nfnet-s", batch=batch, px=64, layout="nchw")
    steps = device.build(workload, device.resolve(workload), seed=0)
    steps.arrange("nchw", images)
    with steps.step.eager():
        saved = steps.step.saved_bytes()
    return saved + copies * sum(p.numel() * p.element_size() for p in steps.step.net.parameters())


def test_the_cpu_takes_what_fits_in_sixty_per_cent_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # gradients and momentum are as large as the weights each
    for size in (64, 32, 8):
        assert fitted(monkeypatch, 1.01 * counted(size) / 0.6) == size
        assert fitted(monkeypatch, 0.99 * counted(size) / 0.6) == size // 2
    assert fitted(monkeypatch, 2**60) == 64


@pytest.mark.parametrize(
    ("settings", "copies"), [({}, 2), ({"ema": 0.99}, 3), ({"optimizer": "recipe"}, 3), ({"sam": 0.05}, 4)]
)
def test_all_copies_of_weights_count(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], copies: int) -> None:
    for size in (32, 2):
        need = counted(size, copies, batch=size)
        assert fitted(monkeypatch, 1.01 * need / 0.6, batch=size, **settings) == size
        assert fitted(monkeypatch, 0.99 * need / 0.6, batch=size, **settings) == size // 2


def test_where_not_even_an_image_fits_the_cpu_takes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitted(monkeypatch, 2**10) == fitted(monkeypatch, 2**10, batch=1) == 1


def test_an_odd_batch_is_taken_whole_or_by_a_share_that_divides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitted(monkeypatch, 2**60, batch=27) == 27
    assert fitted(monkeypatch, counted(12, batch=27) / 0.6, batch=27) == 9
