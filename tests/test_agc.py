"""Adaptive gradient clipping: the guarantee, and every implementation against the one that is written to be read.

`fused` runs in Triton's interpreter here; on a GPU see tests/gpu.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from clip_cases import EPS, Whole, ratio, twin, units_of
from torch import Tensor, nn

from nfbench.catalog.models import Net, find
from nfbench.nets import agc, agc_fused
from nfbench.nets.agc import adaptive_clip_grad_, agc_parameters, unitwise_norm
from nfbench.nets.agc_units import Units, foreach
from nfbench.nets.build import awaken, build, head_names
from nfbench.nets.flops import Operators

OURS = ["reference", "foreach", "fused"] if agc_fused.interpreted() else ["reference", "foreach"]
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
NUMBERS: dict[str, Callable[[list[nn.Parameter]], Units]] = {
    "reference": lambda parameters: agc.reference(parameters, 0.01, EPS),
    "foreach": lambda parameters: foreach(parameters, 0.01, EPS),
    "fused": lambda parameters: agc_fused.Fused(parameters)(0.01, EPS),
}

every_impl = pytest.mark.parametrize("impl", [*OURS, "timm", "auto"])
each_of_ours = pytest.mark.parametrize("impl", OURS)
interpreted = pytest.mark.skipif("fused" not in OURS, reason="Triton's interpreter is off")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def parameter(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, scale: float = 0.02) -> nn.Parameter:
    made = nn.Parameter(torch.randn(shape).to(dtype))
    made.grad = (scale * torch.randn(shape)).to(dtype)
    return made


def gradient(p: Tensor) -> Tensor:
    assert p.grad is not None
    return p.grad


def clip(parameters: Tensor | Iterable[Tensor], impl: Any, clipping: float = 0.01) -> int:
    return int(adaptive_clip_grad_(parameters, clipping, impl=impl))


def same_gradients(ours: list[nn.Parameter], truth: list[nn.Parameter]) -> None:
    for p, q in zip(truth, ours, strict=True):
        eps = {torch.float32: 1e-6, torch.float64: 1e-12}.get(p.dtype, 2 * torch.finfo(p.dtype).eps)
        torch.testing.assert_close(q.grad, p.grad, rtol=eps, atol=0)


def agrees(plan: agc_fused.Fused, parameters: list[nn.Parameter]) -> None:
    """The fused clip of ``parameters`` does what the reference does."""
    truth = twin(parameters)
    assert int(plan(0.01, EPS).clipped) == clip(truth, "reference") > 0
    same_gradients(parameters, truth)


@pytest.mark.parametrize("impl", [*OURS, "timm"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_unit_exceeds_its_limit_afterwards_and_the_others_are_untouched(shape: tuple[int, ...], impl: Any) -> None:
    if impl == "timm" and (0 in shape or sum(d > 1 for d in shape) <= 1 < len(shape)):
        pytest.skip("timm takes each element of such a tensor for a unit")
    p = parameter(shape)
    if units_of(p) > 1 and p.numel():
        gradient(p)[0] *= 1e-3
    before, weight = gradient(p).clone(), p.detach().clone()
    count = adaptive_clip_grad_([p], 0.01, impl=impl)
    assert torch.equal(p.detach(), weight)
    over = ratio(p, before) > 0.01
    assert (count.dtype, count.dim(), int(count)) == (torch.int64, 0, int(over.sum()))
    assert bool((ratio(p, gradient(p)) <= 0.01 * (1 + 1e-6)).all())
    flat, old = (x.reshape(units_of(p), -1) for x in (gradient(p), before))
    assert torch.equal(flat[~over], old[~over])
    # what is clipped keeps its direction
    torch.testing.assert_close(
        nn.functional.normalize(flat[over], dim=1), nn.functional.normalize(old[over], dim=1), rtol=1e-6, atol=1e-9
    )


@each_of_ours
def test_weights_near_zero_are_taken_for_eps_and_tiny_gradients_stay(impl: str) -> None:
    p = parameter((4, 8))
    p.detach().zero_()
    gradient(p)[0], gradient(p)[1] = 0, 1e-20
    before = gradient(p).clone()
    assert clip([p], impl) == 2
    assert torch.equal(gradient(p)[:2], before[:2])
    torch.testing.assert_close(gradient(p)[2:].norm(dim=1), torch.full((2,), 0.01 * EPS), rtol=1e-6, atol=0)


@each_of_ours
@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (4, 8, 1, 1)], ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("-inf"), 1e25], ids=str)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's, in Triton's interpreter
def test_a_unit_that_is_not_finite_stays_and_is_counted(impl: str, bad: float, shape: tuple[int, ...]) -> None:
    p = parameter(shape, scale=1.0)
    p.detach()[0, 0, 0, 0] = float("nan")
    gradient(p)[1, 0, 0, 0] = bad  # the square of 1e25 is beyond float32
    before = gradient(p).clone()
    assert agc.units([p], 0.01) == (4, 2, 1)
    counts = NUMBERS[impl](twin([p]))
    assert (int(counts.clipped), int(counts.nonfinite)) == (2, 1)
    assert clip([p], impl) == 2
    assert torch.equal(gradient(p)[:2].nan_to_num(7), before[:2].nan_to_num(7))
    assert bool((ratio(p, gradient(p))[2:] <= 0.01 * (1 + 1e-6)).all())


def layouts(p: nn.Parameter) -> Iterator[nn.Parameter]:
    """The parameter in every layout that its shape has, weight and gradient alike and apart."""
    formats = {2: [], 4: [torch.channels_last], 5: [torch.channels_last_3d]}.get(p.dim(), [])
    for weight in (torch.contiguous_format, *formats):
        for layout in (torch.contiguous_format, *formats):
            other = nn.Parameter(p.detach().clone(memory_format=weight))
            other.grad = gradient(p).clone(memory_format=layout)
            yield other
    if p.dim() > 1:
        strided = nn.Parameter(p.detach().movedim(0, -1).contiguous().movedim(-1, 0))
        strided.grad = torch.empty_like(strided).copy_(gradient(p))
        yield strided


@pytest.mark.parametrize("impl", OURS[1:])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_every_shape_type_and_layout_agrees_with_the_reference(dtype: torch.dtype, impl: str) -> None:
    for shape in SHAPES:
        for p in layouts(parameter(shape, dtype)):
            truth = twin([p])
            assert clip([p], impl, 0.02) == clip(truth, "reference", 0.02), shape
            same_gradients([p], truth)


@every_impl
def test_a_tensor_a_list_and_a_generator_are_the_same(impl: str) -> None:
    whole = [parameter((4, 8)), parameter((3, 2, 3, 3)), parameter((5,))]
    as_list, as_generator, one_by_one = twin(whole), twin(whole), twin(whole)
    counts = {clip(as_list, impl), clip((p for p in as_generator), impl), sum(clip(p, impl) for p in one_by_one)}
    assert counts == {sum(int((ratio(p, gradient(p)) > 0.01).sum()) for p in whole)} != {0}
    for a, b, c in zip(as_list, as_generator, one_by_one, strict=True):
        assert torch.equal(gradient(a), gradient(b)) and torch.equal(gradient(a), gradient(c))


@every_impl
def test_parameters_without_a_gradient_are_passed_over_and_one_listed_twice_is_clipped_once(impl: str) -> None:
    without, p = parameter((4, 8)), parameter((4, 8))
    without.grad = None
    once = twin([p])
    assert clip([without, p, p], impl) == clip(once, impl) == 4
    assert without.grad is None and torch.equal(gradient(p), gradient(once[0]))
    assert clip([without], impl) == clip([], impl) == 0


@interpreted
def test_the_fused_clip_follows_gradients_that_move_come_and_go() -> None:
    parameters = [parameter((4, 8)), parameter((6, 3, 3, 3)), parameter((5,))]
    plan = agc_fused.Fused(parameters)
    agrees(plan, parameters)
    launches = plan.launches
    held: list[Tensor | None] = []
    for step in range(4):
        for i, p in enumerate(parameters):
            # a tensor that is kept stays where it is, so that each new one has another address
            held.append(p.grad)
            p.grad = None if (step, i) in ((1, 0), (2, 2)) else 0.02 * torch.randn_like(p)
        if step == 3:
            parameters[1].grad = gradient(parameters[1]).to(memory_format=torch.channels_last)
        agrees(plan, parameters)
        assert plan.launches is launches or step == 3
    # weights that move under a gradient that stays
    held.append(parameters[0].data)
    parameters[0].data = parameters[0].data * 100
    for p in parameters:
        gradient(p).normal_()
    gradient(parameters[0]).mul_(1000)
    agrees(plan, parameters)


@interpreted
@pytest.mark.parametrize(("small", "large"), [((4, 6), (8, 6)), ((4, 8), (4, 8, 3, 3))], ids=str)
def test_a_parameter_of_another_shape_is_laid_out_anew(small: tuple[int, ...], large: tuple[int, ...]) -> None:
    p = parameter(small)
    plan = agc_fused.Fused([p])
    agrees(plan, [p])
    for shape in (large, small):
        p.grad = None
        p.data = torch.randn(shape)
        buffer = torch.randn(4096)
        p.grad = buffer[: p.numel()].view(shape)
        rest = buffer[p.numel() :].clone()
        agrees(plan, [p])
        assert torch.equal(buffer[p.numel() :], rest)


@interpreted
def test_another_layout_or_type_at_the_same_address_is_laid_out_anew() -> None:
    p = parameter((8, 8))
    buffer = torch.randn(8, 8)
    plan = agc_fused.Fused([p])
    p.grad = buffer
    agrees(plan, [p])
    buffer.copy_(torch.randn(8, 8))
    p.grad = buffer.t()
    agrees(plan, [p])
    p.grad = None
    p.data = torch.randn(8, 8).bfloat16()
    p.grad = buffer.view(torch.bfloat16).flatten()[:64].view(8, 8).copy_(torch.randn(8, 8))
    agrees(plan, [p])


@interpreted
def test_tensors_that_begin_off_sixteen_bytes_take_no_vector_loads() -> None:
    p = nn.Parameter(torch.randn(4, 16))
    plan = agc_fused.Fused([p])
    for offset in (1, 0):
        p.grad = torch.randn(64 + offset)[offset:].view(4, 16)
        agrees(plan, [p])
        assert [launch.aligned for launch in plan.launches] == [offset == 0]


@interpreted
def test_from_the_fourth_update_on_five_operators_at_most_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in training: `zero_grad` lets go of all gradients, and backward makes new ones elsewhere."""
    monkeypatch.setattr(agc_fused.Fused, "_launch", lambda *_: None)  # the interpreter's kernels call torch's operators
    parameters = [parameter(shape) for shape in SHAPES for _ in range(3)]
    plan = agc_fused.Fused(parameters)
    held = []
    for _ in range(6):
        for p in parameters:
            held.append(p.grad)
            p.grad = torch.randn_like(p)
        called = Operators()
        with called:
            plan(0.01, EPS)
    assert called.count <= 5


@interpreted
def test_types_may_be_mixed() -> None:
    types = (torch.float32, torch.float16, torch.bfloat16)
    mixed = [parameter(shape, t, 0.05) for shape in ((4, 8), (5,)) for t in types]
    plan = agc_fused.Fused(mixed)
    agrees(plan, mixed)
    assert len(plan.launches) == 6


@interpreted
def test_a_plan_is_not_used_for_tensors_that_took_the_place_of_others() -> None:
    for _ in range(8):
        ours = [parameter((4, 8))]
        truth = twin(ours)
        assert clip(ours, "fused") == clip(truth, "reference")
        same_gradients(ours, truth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_distinct_row_of_whole_nets_agrees_with_the_reference(dtype: torch.dtype) -> None:
    nets = [build(name, device="meta") for name in ("nfnet-f0", "nf-resnet50", "efficientnet-b0")]
    shapes = {(min(2, p.shape[0]) if p.dim() else 1, *p.shape[1:]) for net in nets for p in agc_parameters(net)}
    truth = []
    for shape in sorted(shapes):
        p = parameter(tuple(shape), dtype, 0.01 if dtype == torch.float32 else 0.05)
        if p.dim() == 4:
            other = nn.Parameter(p.detach().to(memory_format=torch.channels_last))
            other.grad = gradient(p).to(memory_format=torch.channels_last)
            truth.append(other)
        truth.append(p)
    before = twin(truth)
    expected = clip(truth, "reference")
    assert 0 < expected < sum(units_of(p) for p in truth)
    for impl in OURS[1:]:
        ours = twin(before)
        assert clip(ours, impl) == expected
        same_gradients(ours, truth)


def learned(net: str | Net, px: int) -> Whole:
    """The clipped parameters of a net, gains woken, with the gradients of one backward pass."""
    module = build(net)
    awaken(module)
    nn.functional.cross_entropy(module(torch.randn(2, 3, px, px)), torch.randint(1000, (2,))).backward()
    return Whole(agc_parameters(module))


def without_gains(*sides: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """The parameters of each side but for gains of several dimensions."""
    for side in sides:
        yield [p for p in side if p.dim() == 1 or units_of(p) > 1]


def untouched_below(whole: Whole, factor: float, clipped: list[nn.Parameter], before: list[nn.Parameter]) -> None:
    """Units of ``whole`` that, scaled by ``factor``, are under the limit have the very gradients that they had."""
    for p, q, ratios in zip(clipped, before, whole.ratios, strict=True):
        under = ratios * factor < 0.01 * (1 - 1e-6)
        assert torch.equal(gradient(p).reshape(units_of(p), -1)[under], gradient(q).reshape(units_of(p), -1)[under])


@pytest.mark.parametrize("share", ["none", "half", "all"])
def test_every_implementation_agrees_on_a_tiny_net_whole_and_the_fused_one_in_two_launches(share: str) -> None:
    # the interpreter takes milliseconds a unit, so the net is narrower still
    whole = learned(replace(find("tiny-nfnet-s"), kwargs=(("channels", (8, 8, 16, 16)), ("stem_chs", 16))), px=64)
    truth, factor = whole.scaled(0.01, share)
    before, ours, theirs, fused = (twin(truth) for _ in range(4))
    expected, alive = clip(truth, "reference"), len(whole.alive)
    assert {"none": expected == 0, "half": 0.4 * alive < expected < 0.6 * alive, "all": expected == alive}[share]
    assert abs(clip(ours, "foreach") - expected) <= 1  # one may lie on its limit
    same_gradients(ours, truth)
    agc.clipper(theirs, 0.01, "timm")()
    # timm takes each element of a gain for a unit
    same_gradients(*without_gains(theirs, truth))
    for clipped in (truth, ours):
        untouched_below(whole, factor, clipped, before)
    if "fused" in OURS and share == "half":
        plan = agc_fused.Fused(fused)
        assert abs(int(plan(0.01, EPS).clipped) - expected) <= 1
        same_gradients(fused, truth)
        untouched_below(whole, factor, fused, before)
        assert len(plan.launches) == 2 and not plan.rest


def test_every_parameter_of_an_efficientnet_agrees_with_the_reference() -> None:
    whole = learned("efficientnet-b0", px=32)
    truth, factor = whole.scaled(0.01, "half")
    before, ours, theirs = (twin(truth) for _ in range(3))
    expected, alive = clip(truth, "reference"), len(whole.alive)
    assert 0.4 * alive < expected < 0.6 * alive
    assert abs(clip(ours, "foreach") - expected) <= 1  # one may lie on its limit
    same_gradients(ours, truth)
    agc.clipper(theirs, 0.01, "timm")()
    same_gradients(theirs, truth)
    for clipped in (truth, ours, theirs):
        untouched_below(whole, factor, clipped, before)


def test_norms_have_the_shape_that_broadcasts() -> None:
    for shape, wanted in {(): (), (3,): (1,), (4, 2): (4, 1), (4, 2, 3, 3): (4, 1, 1, 1), (4, 1, 1): (1, 1, 1)}.items():
        assert tuple(unitwise_norm(torch.ones(shape)).shape) == wanted
    assert float(unitwise_norm(torch.full((4, 1, 1, 1), 3.0))) == 6.0


@each_of_ours
@pytest.mark.parametrize("shape", [(4, 64), (64,), (64, 1, 1, 1), ()], ids=str)
def test_a_factor_below_float16_does_not_turn_a_gradient_to_zero(shape: tuple[int, ...], impl: Any) -> None:
    p = nn.Parameter(torch.full(shape, 0.01, dtype=torch.float16))
    p.grad = torch.full_like(p, 60000.0)  # its square is beyond float16
    adaptive_clip_grad_([p], 0.001, eps=0.1, impl=impl)
    limit = 0.001 * unitwise_norm(p.detach()).clamp(min=0.1)
    assert limit.dtype == torch.float32
    torch.testing.assert_close(unitwise_norm(p.grad), limit, rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    "name", ["nfnet-f0", "nf-resnet50", "resnet50", "efficientnet-b0", "timm:vit_tiny_patch16_224"]
)
def test_all_but_the_classifiers_weight_is_clipped(name: str) -> None:
    net = build(name, device="meta")
    (weight,) = [n for n in head_names(net) if n.endswith("weight")]
    clipped = {id(p) for p in agc_parameters(net)}
    assert [n for n, p in net.named_parameters() if id(p) not in clipped] == [weight]


def test_names_to_ignore_take_the_place_of_the_classifier_and_what_is_frozen_is_not_clipped() -> None:
    net = build("resnet50", device="meta")

    def left_out(*names: str) -> list[str]:
        clipped = {id(p) for p in agc_parameters(net, names)}
        return [n for n, p in net.named_parameters() if id(p) not in clipped]

    assert left_out() == []
    assert left_out("fc.weight", "bn1") == ["bn1.weight", "bn1.bias", "fc.weight"]
    assert all(n.startswith("layer1.") for n in left_out("layer1")) and len(left_out("layer1")) == 30
    with pytest.raises(ValueError, match=r"no module or parameter called 'head'.*The nearest is"):
        agc_parameters(net, ["head"])
    net.conv1.requires_grad_(False)
    assert left_out("fc") == ["conv1.weight", "fc.weight", "fc.bias"]


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


@every_impl
def test_sparse_gradients_are_refused_in_words(impl: str) -> None:
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="AGC needs dense gradients; an embedding gives one with sparse=False"):
        clip(table.parameters(), impl)


def test_the_fused_clip_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(agc_fused, "_refusals", {})
    with pytest.raises(ValueError, match="needs a CUDA device; `foreach` runs everywhere"):
        clip([parameter((2, 3))], "fused")
    assert agc_fused.refusal(torch.device("cpu")) == "it needs CUDA, and this is cpu"
    assert agc.default_impl(torch.device("cpu")) == "foreach"


COMPILED = """
import json, re
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from nfbench.nets import agc_kernels

CARDS = (70, 75, 80, 86, 89, 90, 100, 120)
types = {"table": "*i64", "owner": "*i32", "first": "*i64", "length": "*i64", "counts": "*i32", "parameters": "i32",
         "clipping": "fp32", "eps": "fp32"}
constants = {"LEAST_NORM": 1e-6, "SPREAD": 64, "BLOCK": 2048}
for w, g, cards in (("fp32", "fp32", CARDS), ("bf16", "bf16", CARDS), ("fp16", "fp16", (70, 90)),
                    ("fp32", "fp16", (70, 90))):
    whole = 4 if (w, g) == ("fp32", "fp32") else 8
    for kernel, more in ((agc_kernels.clip_aligned, {"WHOLE": whole}), (agc_kernels.clip_looped, {})):
        fixed = {**constants, **more}
        arguments = {**types, "w_like": f"*{w}", "g_like": f"*{g}", **dict.fromkeys(fixed, "constexpr")}
        for card in cards:
            source = ASTSource(kernel, arguments, constexprs=fixed)
            made = compile(source, target=GPUTarget("cuda", card, 32), options={"enable_fp_fusion": True})
            loads, stores = (len(re.findall(how + r"\\.global\\.v4\\.b32", made.asm["ptx"])) for how in ("ld", "st"))
            print(json.dumps([kernel.__name__, w, g, card, len(made.asm["cubin"]), loads, stores]))
"""


def test_the_kernels_compile_for_every_card_and_move_sixteen_bytes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton.backends.nvidia")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(made) == 2 * (8 + 8 + 2 + 2) and all(binary > 0 for *_, binary, _, _ in made)
    # 2048 elements by 128 threads are 16 elements a thread, 4 or 8 of them in 16 bytes
    accesses = {"fp32": 4, "bf16": 2, "fp16": 2}
    for kernel, w, g, card, _, loads, stores in made:
        if kernel == "clip_aligned":
            assert (loads, stores) == (accesses[w] + accesses[g], accesses[g]), (w, g, card)
