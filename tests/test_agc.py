"""Adaptive gradient clipping: the guarantee, and every implementation against the one that is written to be read.

`fused` runs in Triton's interpreter here; on a GPU see tests/gpu.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from clip_cases import EPS, Whole, ratio, twin, units_of
from torch import Tensor, nn

from nfbench.catalog.models import Net, find
from nfbench.nets import agc, agc_triton
from nfbench.nets.agc import adaptive_clip_grad_, agc_parameters, unitwise_norm
from nfbench.nets.agc_foreach import Units, foreach
from nfbench.nets.build import awaken, build, head_names

OURS = ["reference", "foreach", "fused"]
SHAPES = [
    (),
    (5,),
    (1, 7),
    (6, 1),
    (8, 1, 1, 1),
    (3, 17),
    (4, 3, 5),
    (8, 16, 1, 1),
    (7, 3, 3, 3),
    (6, 32, 3, 3),
    (5, 1, 3, 3),
    (1, 16, 3, 3),
    (3, 4, 2, 3, 2),
    (2, 5000),
    (0, 3),
    (4, 0),
]

if not agc_triton.interpreted():
    OURS.remove("fused")


def parameter(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, scale: float = 0.02) -> nn.Parameter:
    made = nn.Parameter(torch.randn(shape).to(dtype))
    made.grad = (scale * torch.randn(shape)).to(dtype)
    return made


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("impl", [*OURS, "timm"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_unit_exceeds_its_limit_afterwards_and_the_others_are_untouched(shape: tuple[int, ...], impl: str) -> None:
    if impl == "timm" and (0 in shape or sum(d > 1 for d in shape) <= 1 < len(shape)):
        pytest.skip("timm takes each element of such a tensor for a unit")
    p = parameter(shape)
    assert p.grad is not None
    with torch.no_grad():
        if units_of(p) > 1 and p.numel():
            p.grad[0] *= 1e-3
    before, weight = p.grad.clone(), p.detach().clone()
    count = adaptive_clip_grad_([p], 0.01, impl=impl)  # type: ignore[arg-type]
    assert torch.equal(p.detach(), weight)
    over = ratio(p, before) > 0.01
    assert (count.dtype, count.dim(), int(count)) == (torch.int64, 0, int(over.sum()))
    assert bool((ratio(p, p.grad) <= 0.01 * (1 + 1e-6)).all())
    flat, old = (x.reshape(units_of(p), -1) for x in (p.grad, before))
    assert torch.equal(flat[~over], old[~over])
    # what is clipped keeps its direction
    torch.testing.assert_close(
        nn.functional.normalize(flat[over], dim=1), nn.functional.normalize(old[over], dim=1), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("impl", OURS)
def test_weights_near_zero_are_taken_for_eps(impl: str) -> None:
    p = parameter((4, 8))
    with torch.no_grad():
        p.zero_()
    adaptive_clip_grad_(p, 0.01, eps=EPS, impl=impl)  # type: ignore[arg-type]
    assert p.grad is not None
    torch.testing.assert_close(p.grad.norm(dim=1), torch.full((4,), 0.01 * EPS), rtol=1e-6, atol=0)


@pytest.mark.parametrize("impl", OURS)
def test_zero_gradients_and_tiny_ones_stay(impl: str) -> None:
    p = parameter((4, 8))
    assert p.grad is not None
    with torch.no_grad():
        p.grad[:2] = 0
        p.grad[2:] = 1e-20
    before = p.grad.clone()
    assert int(adaptive_clip_grad_([p], 0.01, impl=impl)) == 0  # type: ignore[arg-type]
    assert torch.equal(p.grad, before)


NUMBERS: dict[str, Callable[[list[nn.Parameter]], Units]] = {
    "reference": lambda parameters: agc.reference(parameters, 0.01, EPS),
    "foreach": lambda parameters: foreach(parameters, 0.01, EPS),
    "fused": lambda parameters: agc_triton.Fused(parameters)(0.01, EPS),
}


@pytest.mark.parametrize("impl", OURS)
@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (4, 8, 1, 1)], ids=str)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's, in Triton's interpreter
def test_nan_weights_and_norms_beyond_float32_are_left_alone(impl: str, shape: tuple[int, ...]) -> None:
    p = parameter(shape, scale=1.0)
    assert p.grad is not None
    with torch.no_grad():
        p[0, 0, 0, 0] = float("nan")
        p.grad[1] = 1e25
    before = p.grad.clone()
    found = NUMBERS[impl]([p])
    assert (int(found.clipped), int(found.nonfinite)) == (2, 1)
    assert torch.equal(p.grad[:2], before[:2])


@pytest.mark.parametrize("impl", OURS)
@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (4, 8, 1, 1)], ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_unit_that_is_not_finite_is_left_as_it_is_and_counted(impl: str, bad: float, shape: tuple[int, ...]) -> None:
    p = parameter(shape, scale=1.0)
    assert p.grad is not None
    with torch.no_grad():
        p.grad[1, 0, 0, 0] = bad
    before = p.grad.clone()
    found = agc.units([p], 0.01)
    assert found == (4, 3, 1)
    (other,) = twin([p])
    counted = NUMBERS[impl]([other])
    assert (int(counted.clipped), int(counted.nonfinite)) == (3, 1)
    assert int(adaptive_clip_grad_([p], 0.01, impl=impl)) == 3  # type: ignore[arg-type]
    assert torch.equal(p.grad[1].nan_to_num(7), before[1].nan_to_num(7))
    assert bool((ratio(p, p.grad)[[0, 2, 3]] <= 0.01 * (1 + 1e-6)).all())


def layouts(p: nn.Parameter) -> Iterator[nn.Parameter]:
    """The parameter in every layout that its shape has, weight and gradient alike and apart."""
    formats = {2: [], 4: [torch.channels_last], 5: [torch.channels_last_3d]}.get(p.dim(), [])
    for weight in (torch.contiguous_format, *formats):
        for gradient in (torch.contiguous_format, *formats):
            other = nn.Parameter(p.detach().clone(memory_format=weight))
            assert p.grad is not None
            other.grad = p.grad.clone(memory_format=gradient)
            yield other
    if p.dim() > 1:
        strided = nn.Parameter(p.detach().movedim(0, -1).contiguous().movedim(-1, 0))
        assert p.grad is not None
        strided.grad = torch.empty_like(strided).copy_(p.grad)
        yield strided


@pytest.mark.parametrize("impl", ["foreach", "fused"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_every_shape_type_and_layout_agrees_with_the_reference(dtype: torch.dtype, impl: str) -> None:
    if impl not in OURS:
        pytest.skip("Triton's interpreter is off")
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-12}.get(dtype, 2 * torch.finfo(dtype).eps)
    for shape in SHAPES:
        for p in layouts(parameter(shape, dtype)):
            (q,) = twin([p])
            expected = adaptive_clip_grad_([p], 0.02, impl="reference")
            assert int(adaptive_clip_grad_([q], 0.02, impl=impl)) == int(expected), shape  # type: ignore[arg-type]
            torch.testing.assert_close(q.grad, p.grad, rtol=tolerance, atol=0)


@pytest.mark.parametrize("impl", [*OURS, "timm", "auto"])
def test_a_tensor_a_list_and_a_generator_are_the_same(impl: str) -> None:
    whole = [parameter((4, 8)), parameter((3, 2, 3, 3)), parameter((5,))]
    as_list, as_generator, one_by_one = twin(whole), twin(whole), twin(whole)
    counts = {
        int(adaptive_clip_grad_(as_list, 0.01, impl=impl)),  # type: ignore[arg-type]
        int(adaptive_clip_grad_((p for p in as_generator), 0.01, impl=impl)),  # type: ignore[arg-type]
        sum(int(adaptive_clip_grad_(p, 0.01, impl=impl)) for p in one_by_one),  # type: ignore[arg-type]
    }
    assert counts == {sum(int((ratio(p, p.grad) > 0.01).sum()) for p in whole if p.grad is not None)} != {0}
    for a, b, c in zip(as_list, as_generator, one_by_one, strict=True):
        assert a.grad is not None and b.grad is not None and c.grad is not None
        assert torch.equal(a.grad, b.grad) and torch.equal(a.grad, c.grad)


@pytest.mark.parametrize("impl", [*OURS, "timm", "auto"])
def test_parameters_without_a_gradient_are_passed_over(impl: str) -> None:
    given = [parameter((4, 8)), parameter((4, 8))]
    given[0].grad = None
    assert int(adaptive_clip_grad_(given, 0.01, impl=impl)) == 4  # type: ignore[arg-type]
    assert given[0].grad is None
    assert int(adaptive_clip_grad_([given[0]], 0.01, impl=impl)) == 0  # type: ignore[arg-type]
    assert int(adaptive_clip_grad_([], 0.01, impl=impl)) == 0  # type: ignore[arg-type]


@pytest.mark.skipif("fused" not in OURS, reason="Triton's interpreter is off")
def test_the_fused_clip_follows_gradients_that_move_come_and_go() -> None:
    parameters = [parameter((4, 8)), parameter((6, 3, 3, 3)), parameter((5,))]
    clip = agc.clipper(parameters, 0.01, "fused")
    kept: list[Tensor | None] = []
    for step in range(4):
        for i, p in enumerate(parameters):
            # a tensor that is kept stays where it is, so that each new one has another address
            kept.append(p.grad)
            p.grad = None if (step, i) in ((1, 0), (2, 2)) else 0.02 * torch.randn_like(p)
        if step == 3 and parameters[1].grad is not None:
            parameters[1].grad = parameters[1].grad.to(memory_format=torch.channels_last)
        expected = twin(parameters)
        count = adaptive_clip_grad_(expected, 0.01, impl="reference")
        found = clip()
        assert int(found.clipped) == int(count)  # type: ignore[attr-defined]
        for p, q in zip(parameters, expected, strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-6, atol=0)


interpreted = pytest.mark.skipif("fused" not in OURS, reason="Triton's interpreter is off")


def agrees(clip: Callable[[], object], parameters: list[nn.Parameter]) -> None:
    """The fused clip of ``parameters`` does what the reference does."""
    expected = twin(parameters)
    count = adaptive_clip_grad_(expected, 0.01, impl="reference")
    found = clip()
    assert int(found.clipped) == int(count) > 0  # type: ignore[attr-defined]
    for p, q in zip(parameters, expected, strict=True):
        tolerance = 1e-6 if p.dtype == torch.float32 else 2 * torch.finfo(p.dtype).eps
        torch.testing.assert_close(p.grad, q.grad, rtol=tolerance, atol=0)


@interpreted
def test_weights_that_move_under_a_gradient_that_stays_are_followed() -> None:
    p = parameter((4, 8))
    clip = agc.clipper([p], 0.01, "fused")
    clip()
    assert p.grad is not None
    before = p.data
    p.data = before * 100
    p.grad.mul_(1000)
    agrees(clip, [p])


@interpreted
@pytest.mark.parametrize(("small", "large"), [((4, 6), (8, 6)), ((4, 8), (4, 8, 3, 3))], ids=str)
def test_a_parameter_of_another_shape_is_laid_out_anew(small: tuple[int, ...], large: tuple[int, ...]) -> None:
    p = parameter(small)
    clip = agc.clipper([p], 0.01, "fused")
    agrees(clip, [p])
    for shape in (large, small):
        p.grad = None
        p.data = torch.randn(shape)
        buffer = torch.randn(4096)
        p.grad = buffer[: p.numel()].view(shape)
        rest = buffer[p.numel() :].clone()
        agrees(clip, [p])
        assert torch.equal(buffer[p.numel() :], rest)


@interpreted
def test_another_layout_or_type_at_the_same_address_is_laid_out_anew() -> None:
    p = parameter((8, 8))
    buffer = torch.randn(8, 8)
    clip = agc.clipper([p], 0.01, "fused")
    p.grad = buffer
    agrees(clip, [p])
    buffer.copy_(torch.randn(8, 8))
    p.grad = buffer.t()
    agrees(clip, [p])
    p.grad = None
    p.data = torch.randn(8, 8).bfloat16()
    p.grad = buffer.view(torch.bfloat16)[:, :8].contiguous()
    p.grad = torch.randn(8, 8).bfloat16()
    agrees(clip, [p])


@interpreted
def test_tensors_that_begin_off_sixteen_bytes_take_no_vector_loads() -> None:
    p = nn.Parameter(torch.randn(4, 16))
    p.grad = torch.randn(65)[1:].view(4, 16)
    clip = agc_triton.Fused([p])
    agrees(lambda: clip(0.01, EPS), [p])
    assert [launch.aligned for launch in clip.launches] == [False]
    p.grad = torch.randn(64).view(4, 16)
    agrees(lambda: clip(0.01, EPS), [p])
    assert [launch.aligned for launch in clip.launches] == [True]


@interpreted
def test_types_may_be_mixed() -> None:
    types = (torch.float32, torch.float16, torch.bfloat16)
    mixed = [parameter((4, 8), t, 0.05) for t in types] + [parameter((5,), t, 0.05) for t in types]
    clip = agc_triton.Fused(mixed)
    agrees(lambda: clip(0.01, EPS), mixed)
    assert len(clip.launches) == 6


@interpreted
def test_a_gradient_that_goes_and_comes_keeps_its_place_in_the_tables() -> None:
    parameters = [parameter((4, 8)), parameter((6, 8))]
    clip = agc_triton.Fused(parameters)
    agrees(lambda: clip(0.01, EPS), parameters)
    launches = clip.launches
    for gone in (0, 1):
        for i, p in enumerate(parameters):
            p.grad = None if i == gone else torch.randn_like(p)
        agrees(lambda: clip(0.01, EPS), parameters)
    assert clip.launches is launches


@pytest.mark.parametrize("impl", [*OURS, "timm"])
def test_a_parameter_listed_twice_is_clipped_once(impl: str) -> None:
    p = parameter((4, 8))
    (once,) = twin([p])
    expected = adaptive_clip_grad_([once], 0.01, impl=impl)  # type: ignore[arg-type]
    assert int(adaptive_clip_grad_([p, p], 0.01, impl=impl)) == int(expected)  # type: ignore[arg-type]
    assert p.grad is not None and once.grad is not None and torch.equal(p.grad, once.grad)


@interpreted
def test_a_plan_is_not_used_for_tensors_that_took_the_place_of_others() -> None:
    for _ in range(20):
        p = parameter((4, 8))
        (q,) = twin([p])
        adaptive_clip_grad_([p], 0.01, impl="reference")
        adaptive_clip_grad_([q], 0.01, impl="fused")
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-6, atol=0)


def gradients_of(net: str | Net) -> list[nn.Parameter]:
    """All clipped parameters with the gradients of one real backward pass, gains woken."""
    module = build(net)
    awaken(module)
    nn.functional.cross_entropy(module(torch.randn(2, 3, 64, 64)), torch.randint(1000, (2,))).backward()
    return agc_parameters(module)


# as deep as an nfnet-f0 and with every kind of parameter that it has, at a fourteenth of their number
F0_NARROW = replace(find("nfnet-f0"), kwargs=(("channels", (64, 128, 384, 384)), ("group_size", 32), ("stem_chs", 32)))


WHOLE = {"narrow-nfnet-f0": F0_NARROW, "nf-resnet50": "nf-resnet50", "efficientnet-b0": "efficientnet-b0"}


@pytest.fixture(scope="module", params=WHOLE.values(), ids=WHOLE)
def whole(request: pytest.FixtureRequest) -> Whole:
    torch.manual_seed(0)
    return Whole(gradients_of(request.param))


@pytest.mark.parametrize("share", ["none", "half", "all"])
def test_every_parameter_of_a_whole_net_agrees_with_the_reference(whole: Whole, share: str) -> None:
    truth, factor = whole.scaled(0.01, share)
    before = [p.grad.clone() for p in truth if p.grad is not None]
    ours, theirs = twin(truth), twin(truth)
    expected, alive = int(adaptive_clip_grad_(truth, 0.01, impl="reference")), len(whole.alive)
    assert {"none": expected == 0, "half": 0.4 * alive < expected < 0.6 * alive, "all": expected == alive}[share]
    assert abs(int(adaptive_clip_grad_(ours, 0.01, impl="foreach")) - expected) <= 1  # one may lie on its limit
    agc.clipper(theirs, 0.01, "timm")()
    for p, q, r, g, was in zip(truth, ours, theirs, before, whole.ratios, strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-6, atol=0)
        gain = p.dim() > 1 and units_of(p) == 1
        if not gain:  # timm takes each of its elements for a unit
            torch.testing.assert_close(r.grad, p.grad, rtol=1e-6, atol=0)
        assert q.grad is not None
        untouched = was * factor < 0.01 * (1 - 1e-6)
        assert torch.equal(q.grad.reshape(units_of(p), -1)[untouched], g.reshape(units_of(p), -1)[untouched])


@pytest.mark.skipif("fused" not in OURS, reason="Triton's interpreter is off")
@pytest.mark.parametrize("name", ["nfnet-f0", "nf-resnet50", "efficientnet-b0"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_fused_clip_agrees_on_every_distinct_row_of_a_net(name: str, dtype: torch.dtype) -> None:
    net = build(name, device="meta")
    shapes = dict.fromkeys((min(2, p.shape[0]) if p.dim() else 1, *p.shape[1:]) for p in agc_parameters(net))
    truth = []
    for shape in shapes:
        p = parameter(tuple(shape), dtype, 0.01 if dtype == torch.float32 else 0.05)
        if p.dim() == 4:
            other = nn.Parameter(p.detach().to(memory_format=torch.channels_last))
            assert p.grad is not None
            other.grad = p.grad.to(memory_format=torch.channels_last)
            truth.append(other)
        truth.append(p)
    ours = twin(truth)
    expected = adaptive_clip_grad_(truth, 0.01, impl="reference")
    assert int(expected) > 0
    assert int(adaptive_clip_grad_(ours, 0.01, impl="fused")) == int(expected)
    tolerance = 1e-6 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    for p, q in zip(truth, ours, strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=tolerance, atol=0)


@pytest.mark.skipif("fused" not in OURS, reason="Triton's interpreter is off")
def test_the_fused_clip_agrees_on_a_tiny_net_whole_in_two_launches() -> None:
    # the interpreter takes milliseconds a unit, so the net is narrower still
    narrow = replace(find("tiny-nfnet-s"), kwargs=(("channels", (8, 8, 16, 16)), ("stem_chs", 16)))
    truth, _ = Whole(gradients_of(narrow)).scaled(0.01, "half")
    ours = twin(truth)
    expected = adaptive_clip_grad_(truth, 0.01, impl="reference")
    clip = agc_triton.Fused(ours)
    assert abs(int(clip(0.01, EPS).clipped) - int(expected)) <= 1 < int(expected)  # one may lie on its limit
    for p, q in zip(truth, ours, strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-6, atol=0)
    assert len(clip.launches) == 2 and not clip.rest


def test_norms_have_the_shape_that_broadcasts() -> None:
    assert {shape: tuple(unitwise_norm(torch.ones(shape)).shape) for shape in [(), (3,), (4, 2), (4, 2, 3, 3)]} == {
        (): (),
        (3,): (1,),
        (4, 2): (4, 1),
        (4, 2, 3, 3): (4, 1, 1, 1),
    }
    assert tuple(unitwise_norm(torch.ones(4, 1, 1, 1)).shape) == (1, 1, 1, 1)
    assert float(unitwise_norm(torch.full((4, 1, 1, 1), 3.0))) == 6.0
    assert unitwise_norm(torch.ones(2, 3, dtype=torch.float16)).dtype == torch.float32


@pytest.mark.parametrize("impl", OURS)
@pytest.mark.parametrize("shape", [(4, 64), (64,), (64, 1, 1, 1), ()], ids=str)
def test_a_factor_below_float16_does_not_turn_a_gradient_to_zero(shape: tuple[int, ...], impl: str) -> None:
    p = nn.Parameter(torch.full(shape, 0.01, dtype=torch.float16))
    p.grad = torch.full_like(p, 60000.0)
    adaptive_clip_grad_([p], 0.001, eps=0.1, impl=impl)  # type: ignore[arg-type]
    limit = 0.001 * unitwise_norm(p.detach()).clamp(min=0.1)
    torch.testing.assert_close(unitwise_norm(p.grad), limit, rtol=1e-2, atol=0)


def test_half_precision_norms_do_not_overflow() -> None:
    p = nn.Parameter(torch.ones(2, 4096, dtype=torch.float16))
    p.grad = torch.full_like(p, 1000.0)  # its squares are beyond float16
    assert int(adaptive_clip_grad_([p], 0.01)) == 2
    assert p.grad is not None and bool(p.grad.isfinite().all())


@pytest.mark.parametrize(
    "name", ["nfnet-f0", "nf-resnet50", "resnet50", "efficientnet-b0", "timm:vit_tiny_patch16_224"]
)
def test_all_but_the_classifiers_weight_is_clipped(name: str) -> None:
    net = build(name, device="meta")
    (weight,) = [n for n in head_names(net) if n.endswith("weight")]
    clipped = {id(p) for p in agc_parameters(net)}
    assert [n for n, p in net.named_parameters() if id(p) not in clipped] == [weight]


def test_names_to_ignore_take_the_place_of_the_classifier() -> None:
    net = build("resnet50", device="meta")

    def left_out(*names: str) -> list[str]:
        clipped = {id(p) for p in agc_parameters(net, names)}
        return [n for n, p in net.named_parameters() if id(p) not in clipped]

    assert left_out() == []
    assert left_out("fc") == ["fc.weight", "fc.bias"]
    assert left_out("fc.weight", "bn1") == ["bn1.weight", "bn1.bias", "fc.weight"]
    assert all(n.startswith("layer1.") for n in left_out("layer1")) and len(left_out("layer1")) == 30
    with pytest.raises(ValueError, match=r"no module or parameter called 'head'.*The nearest is"):
        agc_parameters(net, ["head"])


def test_frozen_parameters_are_not_clipped() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[0].requires_grad_(False)
    assert [tuple(p.shape) for p in agc_parameters(net)] == [(2,)]


def test_a_wrapped_net_has_the_same_parameters(tmp_path: Path) -> None:
    net = build("tiny-nfnet-s")
    expected = [id(p) for p in agc_parameters(net)]
    assert [id(p) for p in agc_parameters(nn.DataParallel(net))] == expected
    assert [id(p) for p in agc_parameters(torch.compile(net))] == expected  # type: ignore[arg-type]
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(net)
        assert [id(p) for p in agc_parameters(wrapped)] == expected
        wrapped(torch.randn(2, 3, 32, 32)).sum().backward()
        assert int(adaptive_clip_grad_(agc_parameters(wrapped), 1e-6)) > 0
    finally:
        torch.distributed.destroy_process_group()


def _sparse() -> list[nn.Parameter]:
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    return list(table.parameters())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: adaptive_clip_grad_([], -1.0), r"clipping is -1.0: it must be a finite number"),
        (lambda: adaptive_clip_grad_([], float("nan")), r"clipping is nan"),
        (lambda: adaptive_clip_grad_([], 0.01, eps=-1), r"eps is -1"),
        (lambda: adaptive_clip_grad_([parameter((2, 2))], impl="best"), r"no implementation 'best': it is one of auto"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_refused_in_words(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("impl", [*OURS, "timm", "auto"])
def test_sparse_gradients_are_refused_in_words(impl: str) -> None:
    with pytest.raises(ValueError, match="AGC needs dense gradients; an embedding gives one with sparse=False"):
        adaptive_clip_grad_(_sparse(), impl=impl)  # type: ignore[arg-type]


def test_the_fused_clip_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="needs a CUDA device; `foreach` runs everywhere"):
        adaptive_clip_grad_([parameter((2, 3))], impl="fused")
    agc_triton._refusals.clear()
    assert agc_triton.refusal(torch.device("cpu")) == "it needs CUDA, and this is cpu"
    agc_triton._refusals.clear()
    assert agc.default_impl(torch.device("cpu")) == "foreach"


COMPILED = """
import re, sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from nfbench.nets import agc_kernels

types = {"table": "*i64", "owner": "*i32", "first": "*i64", "length": "*i64", "w_like": "*fp32", "g_like": "*fp32",
         "counts": "*i32", "parameters": "i32", "clipping": "fp32", "eps": "fp32"}
constants = {"LEAST_NORM": 1e-6, "SPREAD": 64, "BLOCK": 2048}
for kernel, more in ((agc_kernels.clip_aligned, {"WHOLE": 4}), (agc_kernels.clip_looped, {})):
    fixed = {**constants, **more}
    source = ASTSource(kernel, {**types, **dict.fromkeys(fixed, "constexpr")}, constexprs=fixed)
    for capability in (80, 90):
        made = compile(source, target=GPUTarget("cuda", capability, 32), options={"enable_fp_fusion": True})
        print(len(re.findall(r"ld\\.global\\.v4", made.asm["ptx"])), len(made.asm["cubin"]))
"""


def test_the_kernels_compile_for_a_gpu_and_load_sixteen_bytes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton.backends.nvidia")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    aligned, looped = (done.stdout.splitlines()[i : i + 2] for i in (0, 2))
    # 2048 elements of W and of G by 128 threads: 4 + 4 loads of four elements
    assert all(int(line.split()[0]) == 8 and int(line.split()[1]) > 0 for line in aligned)
    assert all(int(line.split()[1]) > 0 for line in looped)
