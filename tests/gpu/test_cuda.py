"""What only a GPU can show: `pytest -m gpu`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from waiting import nothing_waits

from nfbench.analysis import findings, metrics
from nfbench.measuring.measure import measure
from nfbench.records import Result, Sampling, StepTime

pytestmark = pytest.mark.gpu


@pytest.fixture
def cuda() -> Iterator[Any]:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    from nfbench.devices.cuda import Cuda

    yield Cuda(0)
    torch.cuda.empty_cache()


def timed(device: Any, sampling: Sampling | None = None, **settings: Any) -> Result:
    kept: list[Result] = []
    workload = StepTime(**({"model": "tiny-nfnet", "layout": "nhwc"} | settings))
    return measure(device, workload, sampling or Sampling(max_time=10), kept.append)


def test_a_timing_has_phases_precision_energy_clocks_and_memory(cuda: Any) -> None:
    result = timed(cuda)
    assert result.status == "ok"
    phases = [metrics.phase_time(result, p) for p in ("forward", "backward", "clip", "update")]
    assert math.isclose(sum(p or 0 for p in phases), metrics.seconds(result) or 0, rel_tol=0.1)
    assert result.machine.device == "cuda" and result.resolved is not None
    assert result.resolved.precision == ("bf16" if cuda.capability >= (8, 0) else "fp16")
    assert result.value("peak_allocated") and result.value("peak_reserved")
    if cuda.card is None:
        return
    assert (metrics.sm_clock(result) or 0) > 1e8
    if cuda.card.energy() is not None:
        assert (metrics.image_energy(result) or 0) > 0
    default, limit = result.conditions.default_power_limit, result.machine.power_limit
    if default is not None:
        assert default > 1 and limit is not None
        assert ("power_limit" in [f.code for f in findings.of(result)]) == (limit < default - 1)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_every_precision_runs(cuda: Any, precision: str) -> None:
    if precision in ("tf32", "bf16") and cuda.capability < (8, 0):
        pytest.skip("needs sm_80")
    assert timed(cuda, Sampling(max_time=1), precision=precision).status == "ok"


def test_fp32_is_fp32_in_convolutions_too(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from nfbench.devices.cuda import set_tf32

    # a search for the fastest algorithm may choose another each time; an earlier timing leaves it on
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    x = torch.randn(8, 64, 32, 32, device="cuda")
    w = torch.randn(64, 64, 3, 3, device="cuda")
    exact = torch.nn.functional.conv2d(x.double(), w.double())
    set_tf32(False)
    plain = (torch.nn.functional.conv2d(x, w).double() - exact).abs().max()
    set_tf32(True)
    coarse = (torch.nn.functional.conv2d(x, w).double() - exact).abs().max()
    set_tf32(False)
    assert float(plain) < 1e-3
    if cuda.capability >= (8, 0):
        assert float(coarse) > 5 * float(plain)


def test_the_window_is_not_synchronized_inside(cuda: Any) -> None:
    from nfbench.measuring.window import Window

    workload = StepTime(model="tiny-nfnet", layout="nhwc", micro_batch=32)
    steps = cuda.build(workload, cuda.resolve(workload), seed=0)
    window = Window(cuda, steps, 1, 1)
    window.block(5)
    with nothing_waits():
        recorder = cuda.recorder(100)
        recorder.stamp()
        for _ in range(5):
            steps.update(recorder.stamp, 1)
    cuda.synchronize()
    assert len(recorder.times()) == 5 * 4 + 1


def test_the_search_finds_a_micro_batch_and_leaves_nothing_on_the_card(cuda: Any) -> None:
    workload = StepTime(model="tiny-nfnet", batch=64, layout="nhwc")
    resolved = cuda.resolve(workload)
    steps = cuda.build(workload, resolved, seed=0)
    assert cuda.fit(workload, resolved, steps, 0) == 64
    assert torch.cuda.memory_allocated() < 2**24


def test_a_batch_larger_than_the_card_is_accumulated(cuda: Any) -> None:
    result = timed(cuda, Sampling(max_time=5), model="nf-resnet50", batch=65536)
    assert result.status == "ok" and result.resolved is not None
    assert result.resolved.micro_batch < 65536
    assert (result.value("allocator_retries") or 0) == 0


def test_out_of_memory_is_a_status(cuda: Any) -> None:
    assert timed(cuda, model="nfnet-f0", batch=65536, micro_batch=65536).status == "out_of_memory"


def test_compiled_steps_run(cuda: Any) -> None:
    result = timed(cuda, Sampling(max_time=5), compile="default")
    assert result.status == "ok" and result.notes["layout"].startswith("a request")
