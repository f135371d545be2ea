from __future__ import annotations

import subprocess
from typing import Any

import pytest

from nfbench.devices import about, fit, probe
from nfbench.devices.cpu import Cpu
from nfbench.devices.fit import Use
from nfbench.errors import UnsupportedWorkload
from nfbench.records import Resolved, StepTime


def test_shares_are_halves_and_then_divisors_of_the_odd_rest() -> None:
    assert fit.shares(48) == [48, 24, 12, 6, 3, 1]
    assert fit.shares(4096)[:3] == [4096, 2048, 1024]
    assert fit.shares(97) == [97, 1]


class Card:
    """Images of ``each`` bytes on top of ``fixed``; above ``memory`` it runs out, above ``tight`` it retries."""

    def __init__(self, memory: int, fixed: int, each: int, tight: int | None = None) -> None:
        self.memory, self.fixed, self.each, self.tight = memory, fixed, each, tight
        self.sizes: list[int] = []

    def __call__(self, images: int) -> Use | None:
        self.sizes.append(images)
        peak = self.fixed + images * self.each
        if peak > self.memory:
            return None
        return Use(peak, peak, int(self.tight is not None and peak > self.tight))


def test_the_largest_share_that_leaves_a_tenth_free_is_found_in_three_tries() -> None:
    card = Card(memory=10_000, fixed=1_000, each=10)
    # 0.9 · 10,000 = 1,000 + 10 · 800: 512 is the largest power-of-two share of 4096
    assert fit.largest(4096, 10_000, card) == 512
    assert card.sizes == [1, 2, 512]


def test_a_size_at_which_the_allocator_retries_is_halved() -> None:
    card = Card(memory=10_000, fixed=1_000, each=10, tight=5_000)
    assert fit.largest(4096, 10_000, card) == 256
    assert card.sizes == [1, 2, 512, 256]


def test_memory_that_grows_faster_than_foretold_is_halved() -> None:
    class Growing(Card):
        def __call__(self, images: int) -> Use | None:
            self.sizes.append(images)
            return None if images > 64 else Use(1_000 + images * 10, 1_000 + images * 10)

    assert fit.largest(4096, 10_000, Growing(0, 0, 0)) == 64


def test_the_whole_batch_is_one_pass_where_it_fits() -> None:
    assert fit.largest(32, 10_000, Card(10_000, 1_000, 10)) == 32


def test_nothing_fits_is_none() -> None:
    assert fit.largest(32, 10_000, Card(10_000, 20_000, 10)) is None
    assert fit.largest(32, 10_000, Card(10_000, 8_500, 600)) == 1


def test_a_batch_of_one_is_tried_once() -> None:
    assert fit.largest(1, 10_000, Card(10_000, 0, 10)) == 1


def test_what_the_allocator_holds_decides_and_not_what_is_in_use() -> None:
    def wasteful(images: int) -> Use:
        return Use(100 * images, 9_300 if images > 8 else 100 * images)

    assert fit.largest(32, 10_000, wasteful) == 8


def probed(monkeypatch: pytest.MonkeyPatch, stdout: bytes, stderr: bytes = b"", code: int = 0) -> int:
    def run(*args: object, **kwargs: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([], code, stdout=stdout, stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
    resolved = Resolved(px=600, micro_batch=32, precision="bf16", layout="nhwc")
    return probe.in_own_process(StepTime(model="efficientnet-b7"), resolved, 0, 0)


def test_a_probe_answers_with_the_size_that_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probed(monkeypatch, b'a library greets\n{"holds": 16}\n') == 16


def test_a_net_of_which_no_image_fits_is_worded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedWorkload) as caught:
        probed(monkeypatch, b'{"holds": null}\n')
    assert str(caught.value) == (
        "efficientnet-b7 at 600 px does not fit on the card with one image a pass.\nTry: a smaller --px"
    )


def test_a_probe_that_fails_for_another_reason_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="ended with exit code 1: RuntimeError: no kernel"):
        probed(monkeypatch, b"", b"Traceback\nRuntimeError: no kernel\n", 1)


def fitted(monkeypatch: pytest.MonkeyPatch, free: float, **settings: Any) -> int:
    """What the CPU makes of a micro-batch of `auto` where so many bytes of memory are free."""
    device = Cpu()
    workload = StepTime(**({"model": "tiny-nfnet-s", "batch": 64, "px": 64, "layout": "nchw"} | settings))
    resolved = device.resolve(workload)
    monkeypatch.setattr(about, "memory_available", lambda: int(free))
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


def test_the_cpu_takes_the_whole_batch_where_it_fits_in_sixty_per_cent_of_the_free_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # gradients and momentum are as large as the weights each
    for size in (64, 32, 8):
        assert fitted(monkeypatch, 1.01 * counted(size) / 0.6) == size
        assert fitted(monkeypatch, 0.99 * counted(size) / 0.6) == size // 2
    assert fitted(monkeypatch, 2**60) == 64


@pytest.mark.parametrize(
    ("settings", "copies"), [({}, 2), ({"ema": 0.99}, 3), ({"optimizer": "recipe"}, 3), ({"sam": 0.05}, 4)]
)
def test_all_copies_of_the_weights_are_counted(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], copies: int
) -> None:
    for size in (32, 2):
        need = counted(size, copies, batch=size)
        assert fitted(monkeypatch, 1.01 * need / 0.6, batch=size, **settings) == size
        assert fitted(monkeypatch, 0.99 * need / 0.6, batch=size, **settings) == size // 2


def test_where_not_even_an_image_fits_the_cpu_takes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitted(monkeypatch, 2**10) == fitted(monkeypatch, 2**10, batch=1) == 1


def test_a_batch_with_no_even_share_is_taken_whole_or_by_a_share_that_divides_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fitted(monkeypatch, 2**60, batch=27) == 27
    assert fitted(monkeypatch, counted(12, batch=27) / 0.6, batch=27) == 9
