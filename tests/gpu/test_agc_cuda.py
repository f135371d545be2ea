"""The fused clip on a GPU: `pytest -m gpu`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from clip_cases import Whole, twin
from torch import Tensor, nn
from waiting import nothing_waits

from nfbench.nets import agc, agc_fused
from nfbench.nets.agc import adaptive_clip_grad_, agc_parameters
from nfbench.nets.build import awaken, build
from nfbench.nets.flops import Operators

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def fused_runs() -> Iterator[None]:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    if (why := agc_fused.refusal(CUDA)) is not None:
        pytest.skip(f"the fused clip does not run here: {why}")
    torch.manual_seed(0)
    yield
    torch.cuda.empty_cache()


def gradients_of(name: str, layout: torch.memory_format = torch.channels_last) -> list[nn.Parameter]:
    net = build(name).to(CUDA, memory_format=layout)  # type: ignore[call-overload]
    awaken(net)
    images = torch.randn(4, 3, 96, 96, device=CUDA)
    nn.functional.cross_entropy(net(images), torch.randint(1000, (4,), device=CUDA)).backward()
    return agc_parameters(net)


@pytest.mark.parametrize("share", ["none", "half", "all"])
@pytest.mark.parametrize("name", ["nfnet-f0", "nf-resnet50", "efficientnet-b0"])
@pytest.mark.parametrize("impl", ["fused", "foreach"])
def test_a_whole_net_agrees_with_the_reference(name: str, share: str, impl: str) -> None:
    truth, _ = Whole(gradients_of(name)).scaled(0.01, share)
    ours = twin(truth)
    expected = int(adaptive_clip_grad_(truth, 0.01, impl="reference"))
    count = adaptive_clip_grad_(ours, 0.01, impl=impl)  # type: ignore[arg-type]
    assert (count.device, count.dtype, count.dim()) == (CUDA, torch.int64, 0)
    assert abs(int(count) - expected) <= 1 and (expected == 0) == (share == "none")
    for p, q in zip(truth, ours, strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_gradients_agree_with_the_reference(dtype: torch.dtype) -> None:
    truth = [nn.Parameter(p.detach().to(dtype)) for p in gradients_of("nf-resnet50")]
    for p in truth:
        p.grad = 0.05 * torch.randn_like(p)
    ours = twin(truth)
    expected = adaptive_clip_grad_(truth, 0.01, impl="reference")
    assert int(adaptive_clip_grad_(ours, 0.01, impl="fused")) == int(expected) > 0
    for p, q in zip(truth, ours, strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=2 * torch.finfo(dtype).eps, atol=0)


def test_it_is_the_default_and_takes_two_launches_of_its_own() -> None:
    assert agc.default_impl(CUDA) == "fused"
    parameters = gradients_of("nfnet-f0")  # a plan refers to them weakly
    plan = agc_fused.Fused(parameters)
    plan(0.01, agc.EPS)
    assert len(plan.launches) == 2 and not plan.rest


def test_nothing_waits_for_the_gpu_even_where_gradients_move() -> None:
    parameters = gradients_of("nf-resnet50")
    clip = agc.clipper(parameters, 0.01, "fused")
    clip()
    torch.cuda.synchronize()
    moved: list[Tensor | None] = []
    with nothing_waits():
        for _ in range(3):
            for p in parameters:
                moved.append(p.grad)
                p.grad = torch.ones_like(p)
            clip()


def test_from_the_fourth_update_on_five_operators_at_most_are_called() -> None:
    parameters = gradients_of("nf-resnet50")
    clip = agc.clipper(parameters, 0.01, "fused")
    held: list[Tensor | None] = []
    for _ in range(6):
        for p in parameters:
            held.append(p.grad)
            p.grad = torch.ones_like(p)
        called = Operators()
        with called:
            clip()
    assert called.count <= 5


def test_gradients_that_moved_are_clipped_where_they_are() -> None:
    parameters = gradients_of("nf-resnet50")
    clip = agc.clipper(parameters, 0.01, "fused")
    clip()
    before = [p.grad for p in parameters]
    for p in parameters:
        p.grad = torch.ones_like(p)
    clip()
    expected = twin(parameters)
    for p in expected:
        p.grad = torch.ones_like(p)
    adaptive_clip_grad_(expected, 0.01, impl="reference")
    for p, q, old in zip(parameters, expected, before, strict=True):
        assert p.grad is not old
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-6, atol=0)


def test_it_is_safe_in_a_cuda_graph_beside_calls_outside_of_it() -> None:
    parameters = [p for p in gradients_of("tiny-nfnet") if p.grad is not None]
    source = [0.02 * torch.randn_like(p) for p in parameters]
    plan = agc_fused.Fused(parameters)
    plan(0.01, agc.EPS)
    torch.cuda.synchronize()
    for p in parameters:
        p.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for p, s in zip(parameters, source, strict=True):
            p.grad = s.clone()
        counted = plan(0.01, agc.EPS).clipped
        again = plan(0.01, agc.EPS).clipped
    captured = [p.grad for p in parameters]
    for layout in (torch.contiguous_format, torch.channels_last):
        # gradients elsewhere and laid out otherwise, clipped outside of the graph: neither may reach the graph's tables
        for p in parameters:
            four = p.dim() == 4
            p.grad = torch.ones_like(p, memory_format=layout) if four else torch.ones_like(p)
        plan(0.01, agc.EPS)
        torch.cuda.empty_cache()
        for s in source:
            s.copy_(0.02 * torch.randn_like(s))
        graph.replay()
        expected = [nn.Parameter(p.detach().clone()) for p in parameters]
        for q, s in zip(expected, source, strict=True):
            q.grad = s.clone()
        count = adaptive_clip_grad_(expected, 0.01, impl="reference")
        assert int(counted) == int(count) > 0
        assert int(again) <= int(count)  # clipped once, units lie on their limit, some a rounding above it
        for got, q in zip(captured, expected, strict=True):
            torch.testing.assert_close(got, q.grad, rtol=1e-6, atol=0)


# what is captured here stays empty
@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
def test_a_capture_without_a_call_before_it_says_what_to_do() -> None:
    p = nn.Parameter(torch.ones(4, 8, device=CUDA))
    p.grad = torch.ones_like(p)
    plan = agc_fused.Fused([p])
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="Clip once outside of the CUDA graph"), torch.cuda.graph(graph):
        plan(0.01, agc.EPS)


def test_a_gradient_on_another_stream_is_clipped_there() -> None:
    p = nn.Parameter(torch.ones(64, 1024, device=CUDA))
    p.grad = torch.ones_like(p)
    plan = agc_fused.Fused([p])
    plan(0.01, agc.EPS)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        p.grad.fill_(1.0)
        clipped = plan(0.01, agc.EPS).clipped
    stream.synchronize()
    assert int(clipped) == 64
    torch.testing.assert_close(p.grad.norm(dim=1), torch.full((64,), 0.01 * 32.0, device=CUDA), rtol=1e-6, atol=0)


def test_the_fused_clip_beside_the_copy_bandwidth() -> None:
    from nfbench.analysis.rows import clip_rows
    from nfbench.devices.cuda import Cuda
    from nfbench.measuring.clips import ClipCosts
    from nfbench.measuring.outcome import Watch
    from nfbench.records import AgcCost, Result, Sampling

    results: list[Result] = []
    costs = ClipCosts(Cuda(0), Sampling(within=0.05, max_time=3), results.append, Watch(), 0)
    costs.run([AgcCost(model="nf-resnet50", impl=impl, clipped=0.5) for impl in ("timm", "foreach", "fused", "copy")])
    rows = {row["impl"]: row for row in clip_rows(results)}
    assert rows["fused"]["launches"] < rows["foreach"]["launches"] < rows["timm"]["launches"]
    assert rows["fused"]["time"] < rows["timm"]["time"]
