"""Counts of nets as people write them: what they call their layers with, where they put them, what they compute."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import Cli
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from nfbench.analysis.store import load
from nfbench.catalog.models import find
from nfbench.errors import UnsupportedWorkload
from nfbench.nets.build import build, px_of
from nfbench.nets.convert import normalizer_free
from nfbench.nets.flops import Count, count, count_net
from nfbench.nets.norm import norm_of

CLASSES = 8


class Body(nn.Module):
    """A convolution to 16 features an image, then what a test brings, then the classifier."""

    def __init__(self, part: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], features: int = 16) -> None:
        super().__init__()
        self.stem, self.part, self.fc = nn.Conv2d(3, 16, 4, 4), part, nn.Linear(features, CLASSES)
        self.call = call

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.call(self.part, self.stem(image).mean((2, 3))))  # type: ignore[no-any-return]


STEM = 2 * 2 * 16 * 3 * 16  # at 8 px


def part_of(part: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], features: int = 16, **given: bool) -> Count:
    """The counts without those of the stem and the classifier."""
    counts = count(Body(part, call, features), 8, **given)
    ends = STEM + features * CLASSES
    assert counts.macs >= ends
    return (
        counts if given else Count(counts.macs - ends, counts.activations, counts.params, None, 0, 0, counts.uncounted)
    )


class Scaled(nn.Module):
    """Is called with a parameter, and with a view of one."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.inner = nn.Parameter(torch.ones(1, 16)), nn.Linear(16, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.inner(self.scale) + self.inner(self.scale[:1].view(1, 16))  # type: ignore[no-any-return]


class Slope(nn.Module):
    """Takes a gradient in forward."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return x
        (slope,) = torch.autograd.grad((x @ x.T).sum(), x, create_graph=True)
        return slope


class Again(nn.Module):
    """Is computed again in backward."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(16, 16, bias=False), nn.Tanh(), nn.Linear(16, 16, bias=False))
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self.inner(x)  # type: ignore[no-any-return]
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("part", "call", "macs"),
    [
        (nn.Bilinear(16, 16, 16, bias=False), lambda part, x: part(x, x), 16**3),
        (nn.Identity(), lambda _, x: torch.addbmm(x[0], x[:, :, None], x[:, None]).mean(0, keepdim=True), 16 * 16),
        (nn.Identity(), lambda _, x: x * torch.mv(x, x[0]), 16),
        (nn.Identity(), lambda _, x: x * torch.dot(x[0], x[0]), 16),
        (nn.Identity(), lambda _, x: x * torch.addmv(x[0, :1], x, x[0]), 16),
        (nn.Identity(), lambda _, x: torch.zeros_like(x).addmm_(x.T.mean(1)[None], x.T @ x), 2 * 16 * 16),
        (nn.Identity(), lambda _, x: torch.addr(x[0], x[0], x[0]).mean(0, keepdim=True), 16 * 16),
        (nn.Linear(16, 16, bias=False), lambda part, x: torch.einsum("bi,ij->bj", x, part.weight), 16 * 16),
        (nn.ConvTranspose1d(16, 16, 3, bias=False), lambda part, x: part(x[:, :, None]).mean(2), 16 * 16 * 3),
        (Scaled(), lambda part, x: part(x), 2 * 16 * 16),
    ],
    ids=[
        "bilinear",
        "addbmm",
        "mv",
        "dot",
        "addmv",
        "in place",
        "addr",
        "einsum",
        "transposed",
        "a parameter is what a layer is called with",
    ],
)
def test_every_product_counts_on_the_cpu_as_on_meta(
    part: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], macs: int
) -> None:
    counts = part_of(part, call)
    assert counts.macs == macs and counts.uncounted == ()
    on_meta = count(Body(copy.deepcopy(part), call).to("meta"), 8)
    assert on_meta.macs == counts.macs + STEM + 16 * CLASSES


@pytest.mark.parametrize(
    ("part", "call"),
    [
        (nn.LSTM(16, 16, batch_first=True), lambda part, x: part(x[:, None])[0][:, 0]),
        (nn.GRU(16, 16, batch_first=True), lambda part, x: part(x[:, None])[0][:, 0]),
        (nn.RNN(16, 16, batch_first=True), lambda part, x: part(x[:, None])[0][:, 0]),
        (
            nn.MultiheadAttention(16, 2, batch_first=True),
            lambda part, x: part(x[:, None], x[:, None], x[:, None])[0][:, 0],
        ),
        (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), lambda part, x: part(x[:, None])[:, 0]),
        (nn.Identity(), lambda _, x: F.scaled_dot_product_attention(*3 * (x.view(-1, 1, 4, 4),)).flatten(1)),
    ],
    ids=["lstm", "gru", "rnn", "attention", "transformer", "sdpa"],
)
@pytest.mark.parametrize("train", [False, True])
def test_operators_that_the_cpu_fuses_count_as_on_meta(
    part: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], train: bool
) -> None:
    net = Body(copy.deepcopy(part), call)
    counts = count(net, 8, train=train)
    assert counts == count(net.to("meta"), 8, train=train)
    assert counts.macs > STEM + 16 * CLASSES and counts.uncounted == ()


@pytest.mark.parametrize(
    ("call", "operator"),
    [
        (lambda _, x: torch.fft.fft(x).real, "aten._fft_r2c"),
        (lambda _, x: x + torch.cdist(x, x), "aten._cdist_forward"),
        (lambda _, x: x + torch.cdist(x.expand(30, 16), x)[0], "aten._euclidean_dist"),
        (lambda _, x: torch._addmm_activation(x[0], x, x.T @ x), "aten._addmm_activation"),
        (lambda _, x: x + torch.cholesky_solve(x[:, :1], x[:, :1]), "aten.cholesky_solve"),
    ],
)
def test_an_operator_without_a_formula_is_named(call: Callable[[nn.Module, Tensor], Tensor], operator: str) -> None:
    counts = part_of(nn.Identity(), call)
    assert counts.uncounted == (operator,) and counts.macs in (0, 16 * 16)
    assert counts.note == f"The MACs leave out {operator}, which nfbench has no formula for"


@pytest.mark.parametrize(
    "call",
    [
        lambda _, x: F.gelu(F.layer_norm(x, (16,))).lgamma().rsqrt(),
        lambda _, x: F.interpolate(x.view(-1, 1, 16), scale_factor=2, mode="linear")[:, 0, :16],
        lambda _, x: x.to_sparse().to_dense(),
    ],
)
def test_what_multiplies_no_matrices_is_not_named(call: Callable[[nn.Module, Tensor], Tensor]) -> None:
    counts = part_of(nn.Identity(), call)
    assert (counts.macs, counts.uncounted) == (0, ())


def test_the_branch_that_is_taken_counts() -> None:
    def halved(x: Tensor) -> Tensor:
        return x @ x.T @ x / 2

    def taken(_: nn.Module, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 1e9, torch.sin, halved, (x,))  # type: ignore[no-any-return]

    assert part_of(nn.Identity(), taken).macs == 2 * 16


def test_flash_attention_counts_in_training_what_the_plain_one_does() -> None:
    def attention(_: nn.Module, x: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(*3 * (x.view(-1, 1, 4, 4),)).flatten(1)

    counts = part_of(nn.Identity(), attention, train=True)
    assert counts.macs == STEM + 2 * 4 * 4 * 4 + 16 * CLASSES
    assert counts.train_macs == 3 * counts.macs - STEM


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_checkpointing_computes_again_is_no_part_of_the_training_macs(reentrant: bool) -> None:
    counts = part_of(Again(reentrant), lambda part, x: part(x), train=True)
    assert counts.train_macs == 3 * counts.macs - STEM and counts.recomputed >= 16 * 16
    assert "that checkpointing computes again in backward" in counts.note
    assert count(Body(nn.Linear(16, 16, bias=False), lambda part, x: part(x)), 8, train=True).note == ""


class Product(torch.autograd.Function):
    """A product with a backward of its own; torch runs its forward without gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        return grad @ weight.T, x.T @ grad


class Multiplied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(16))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(Product.apply(torch.tanh(x), self.weight))  # type: ignore[no-untyped-call]


class Nested(nn.Module):
    """Computes a layer again while it computes another again."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.outer, self.inner, self.reentrant = nn.Linear(16, 16, bias=False), Again(reentrant), reentrant

    def body(self, x: Tensor) -> Tensor:
        return self.inner(self.outer(x))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.body, x, use_reentrant=self.reentrant)  # type: ignore[no-any-return]


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_what_is_computed_again_without_gradients_is_no_part_of_the_training_macs(
    reentrant: bool, nested: bool
) -> None:
    part = Nested(reentrant) if nested else Multiplied()
    counts = part_of(part, lambda part, x: checkpoint(part, x, use_reentrant=reentrant), train=True)
    assert counts.train_macs == 3 * counts.macs - STEM and counts.recomputed >= 16 * 16


def test_timm_s_checkpointing_changes_no_count() -> None:
    import timm

    net = timm.create_model("resnet10t", num_classes=CLASSES).to("meta")
    before = count(net, 64, train=True)
    net.set_grad_checkpointing()
    after = count(net, 64, train=True)
    assert (before.macs, before.train_macs) == (after.macs, after.train_macs) and after.recomputed > 0


def test_a_net_that_takes_gradients_in_forward_is_counted_and_no_gradient_is_left_behind() -> None:
    net = Body(Slope(), lambda part, x: part(x))
    net.fc.weight.grad = kept = torch.ones_like(net.fc.weight)
    counts = count(net, 8, train=True)
    assert counts.train_macs and counts.recomputed == 0
    assert net.fc.weight.grad is kept and net.stem.weight.grad is None


def test_forward_counts_alike_where_it_needs_gradients_for_itself() -> None:
    def slope(part: nn.Module, x: Tensor) -> Tensor:
        x = x if x.requires_grad else x.requires_grad_()
        return torch.autograd.grad(part(x).tanh().sum(), x, create_graph=True)[0]

    net = Body(nn.Linear(16, 16, bias=False), slope)
    plain, trained = count(net, 8), count(net, 8, train=True)
    # the layer, and the gradient of its input
    assert plain.macs == trained.macs == STEM + 2 * 16 * 16 + 16 * CLASSES
    assert plain.train_macs is None


@pytest.mark.parametrize("output", [None, "a text", (n for n in "ab")], ids=["none", "text", "generator"])
def test_a_net_that_returns_no_tensor_is_refused_and_not_counted(output: object) -> None:
    class Silent(Body):
        def forward(self, image: Tensor) -> Any:
            return output

    with pytest.raises(UnsupportedWorkload, match=f"returns no tensor, but {type(output).__name__}"):
        count(Silent(nn.Identity(), lambda _, x: x), 8)


def test_the_training_of_an_output_in_any_object_counts() -> None:
    class Wrapped(Body):
        def forward(self, image: Tensor) -> Any:
            return SimpleNamespace(loss=None, logits=super().forward(image))

    counts = count(Wrapped(nn.Identity(), lambda _, x: x), 8, train=True)
    assert counts.train_macs == 3 * counts.macs - STEM


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.weight_norm])
def test_a_reparametrized_net_counts_in_training(norm: Callable[[nn.Module], nn.Module]) -> None:
    counts = part_of(norm(nn.Linear(16, 16, bias=False)), lambda part, x: part(x), train=True)
    assert counts.train_macs and counts.train_macs > counts.macs >= 16 * 16


NETS = """
import numpy
import torch
from torch import nn


def item(num_classes):
    width = torch.tensor([8]).tolist()[0]
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


def from_numpy(num_classes):
    net = item(num_classes)
    net[0].weight.data = torch.from_numpy(numpy.random.randn(8, 3, 3, 3).astype("f"))
    return net


class Depends(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))

    def forward(self, image):
        return self.net(image * 2 if image.mean() > 10 else image)


def depends(num_classes):
    return Depends(num_classes)


class Partly(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.first = nn.Parameter(torch.from_numpy(numpy.ones((1, 3, 1, 1), "f")))
        self.net = item(num_classes)

    def forward(self, image):
        return self.net(image * self.first)


def partly(num_classes):
    return Partly(num_classes)


class Raises(Depends):
    def forward(self, image):
        return self.net(image / {False: 1}[image.is_meta])


def raises(num_classes):
    return Raises(num_classes)


def gray(num_classes):
    return nn.Conv2d(1, num_classes, 3)


def fixed(num_classes):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 62 * 62, num_classes))


def missing(num_classes):
    net = fixed(num_classes)
    net.forward = lambda image: {}["key"]
    return net
"""


@pytest.mark.parametrize("name", ["partly", "raises"])
def test_what_is_partly_on_the_cpu_or_raises_on_meta_is_counted_on_the_cpu(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("counted_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.delitem(sys.modules, "counted_nets", raising=False)
    (counts,) = count_net(find(f"counted_nets:{name}"), [8], classes=CLASSES)
    assert counts.macs == 6 * 6 * 8 * 3 * 9 + 8 * CLASSES


@pytest.mark.parametrize(
    ("name", "why", "advice"),
    [
        ("gray", "to have 1 channels", "a net that runs on images of shape"),
        ("missing", "KeyError: 'key'", "a net that runs on images of shape"),
        ("fixed", "RuntimeError", "--px 64, at which it runs"),
    ],
)
def test_another_px_is_advised_only_where_it_helps(
    name: str, why: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("counted_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.delitem(sys.modules, "counted_nets", raising=False)
    with pytest.raises(UnsupportedWorkload) as refusal:
        count_net(find(f"counted_nets:{name}"), [8], train=True, classes=CLASSES)
    assert why in str(refusal.value.why) and str(refusal.value.try_).startswith(advice)


@dataclass
class Output:
    logits: Tensor


def test_the_training_of_an_output_in_a_dataclass_counts() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Body(nn.Identity(), lambda _, x: x)

        def forward(self, image: Tensor) -> Output:
            return Output(self.net(image))

    counts = count(Wrapped(), 8, train=True)
    assert counts.train_macs == 3 * counts.macs - STEM


@pytest.mark.parametrize("name", ["item", "from_numpy", "depends"])
def test_what_reads_values_is_built_and_counted_on_the_cpu_and_timed_with_its_macs(
    cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("counted_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(Path.cwd())
    net = find(f"counted_nets:{name}")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    (counts,) = count_net(net, [8], classes=CLASSES)
    assert counts.macs == 6 * 6 * 8 * 3 * 9 + 8 * CLASSES
    assert name == "from_numpy" or torch.equal(before, torch.get_rng_state())
    done = cli(
        "step-time", "--model", f"counted_nets:{name}", "--px", 8, "--batch", 2, "--device", "cpu", "--max-time", 1
    )
    assert done.exit_code == 0, done.output
    (row,) = load([Path("results")]).results
    assert row.value("macs") == 6 * 6 * 8 * 3 * 9 + 8 * 1000


@pytest.mark.parametrize(
    ("name", "px", "macs"),
    [
        ("timm:pit_s_224", 224, 2_870_796_096),
        ("timm:cait_xxs24_224", 224, 2_523_475_200),
        ("torchvision.models:regnet_y_400mf", 224, 401_842_848),
    ],
)
def test_nets_of_timm_and_torchvision(name: str, px: int, macs: int) -> None:
    (counts,) = count_net(find(name), [px])
    assert counts.macs == macs and counts.note == ""


@pytest.mark.parametrize(
    "name",
    [
        *("squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5"),
        *("regnet_y_400mf", "regnet_x_400mf", "efficientnet_b0", "resnet18", "densenet121"),
    ],
)
def test_torchvision_s_nets_count_what_it_publishes_and_take_other_norms(name: str) -> None:
    """A tenth of what `benchmarks/many_nets.py` tries."""
    import torchvision

    weights = torchvision.models.get_model_weights(name).DEFAULT
    net = find(f"torchvision.models:{name}")
    (counts,) = count_net(net, list(weights.transforms().crop_size))
    assert counts.macs == pytest.approx(1e9 * weights.meta["_ops"], rel=0.02) and counts.note == ""
    assert counts.params == weights.meta["num_params"]
    if name != "squeezenet1_1":
        assert norm_of(build(net, norm="group")) == "group"
    assert any(change.became == "StandardizedConv2d" for change in normalizer_free(build(net)))


def test_a_net_that_timm_has_renamed_has_its_px() -> None:
    assert px_of("timm:vit_base_resnet50_384") == (384, 384)
