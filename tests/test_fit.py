from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from nfbench.devices import cuda, host
from nfbench.devices.cpu import Cpu
from nfbench.devices.cuda import Use
from nfbench.errors import UnsupportedWorkload
from nfbench.records import Resolved, StepTime


class Card:
    """Images of ``each`` bytes on top of ``fixed``; above ``memory`` bytes or ``most`` images it runs out, above
    ``tight`` it retries. The allocator ``held`` as many bytes as are in use, unless it is said otherwise."""

    def __init__(
        self,
        memory: int,
        *,
        fixed: int,
        each: int,
        tight: int | None = None,
        most: int = 2**20,
        held: Callable[[int], int] | None = None,
    ) -> None:
        self.memory, self.fixed, self.each, self.tight, self.most, self.held = memory, fixed, each, tight, most, held
        self.sizes: list[int] = []

    def __call__(self, images: int) -> Use | None:
        self.sizes.append(images)
        peak = self.fixed + images * self.each
        if peak > self.memory or images > self.most:
            return None
        return Use(peak, self.held(images) if self.held else peak, int(self.tight is not None and peak > self.tight))


@pytest.mark.parametrize(
    ("batch", "card", "size", "tried"),
    [
        # 0.9 · 10,000 = 1,000 + 10 · 800: 512 is the largest power-of-two share of 4096 that leaves a tenth free
        (4096, Card(10_000, fixed=1_000, each=10), 512, [1, 2, 512]),
        # the allocator retries
        (4096, Card(10_000, fixed=1_000, each=10, tight=5_000), 256, [1, 2, 512, 256]),
        # memory grows faster than was foretold
        (4096, Card(10_000, fixed=1_000, each=10, most=64), 64, [1, 2, 512, 256, 128, 64]),
        # what the allocator holds decides, and not what is in use
        (32, Card(10_000, fixed=0, each=100, held=lambda n: 9_300 if n > 8 else 100 * n), 8, [1, 2, 32, 16, 8]),
        (32, Card(10_000, fixed=1_000, each=10), 32, [1, 2, 32]),
        (32, Card(10_000, fixed=8_500, each=600), 1, [1, 2]),
        (32, Card(10_000, fixed=20_000, each=10), None, [1]),
        (1, Card(10_000, fixed=0, each=10), 1, [1]),
    ],
)
def test_the_largest_share_is_found_in_few_tries(batch: int, card: Card, size: int | None, tried: list[int]) -> None:
    assert cuda.largest(batch, 10_000, card) == size
    assert card.sizes == tried


def probed(monkeypatch: pytest.MonkeyPatch, stdout: bytes, stderr: bytes = b"", code: int = 0) -> int:
    def run(*args: object, **kwargs: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([], code, stdout=stdout, stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
    resolved = Resolved(px=600, micro_batch=32, precision="bf16", layout="nhwc")
    return cuda.in_own_process(StepTime(model="efficientnet-b7"), resolved, 0, 0)


def test_a_probe_answers_with_the_size_that_holds_or_says_why_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probed(monkeypatch, b'a library greets\n{"holds": 16}\n') == 16
    with pytest.raises(UnsupportedWorkload) as caught:
        probed(monkeypatch, b'{"holds": null}\n')
    assert str(caught.value) == (
        "efficientnet-b7 at 600 px does not fit on the card with one image a pass.\nTry: a smaller --px"
    )
    with pytest.raises(RuntimeError, match="ended with exit code 1: RuntimeError: no kernel"):
        probed(monkeypatch, b"", b"Traceback\nRuntimeError: no kernel\n", 1)


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
