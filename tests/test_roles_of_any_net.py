"""What the parts of a net are for, told by what they are and not by how they are called."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from nfbench import AGC, adaptive_clip_grad_, normalizer_free
from nfbench.nets import agc
from nfbench.nets.build import awaken
from nfbench.nets.norm import norm_of
from nfbench.nets.standardized import StandardizedConv2d


def net(classifier: nn.Module, activation: nn.Module | None = None, norm: nn.Module | None = None) -> nn.Sequential:
    parts = [nn.Conv2d(3, 8, 3), *filter(None, (norm, activation)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier]
    return nn.Sequential(*parts)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


class PixelNorm(nn.Module):
    """Somebody's own, without parameters."""


class AffineNorm(nn.Module):
    """Somebody's own, with a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight[0, 0] * x


class ActNorm(AffineNorm):
    """With an activation inside."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()


class NormFreeGain(AffineNorm):
    """No normalization."""


class NormConv2d(nn.Conv2d):
    """A convolution."""


def parametrized(layer: nn.Linear | nn.Conv2d, by: nn.Module | None = None) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", by or Doubled())
    return layer


def bias_too(layer: nn.Linear) -> nn.Module:
    parametrize.register_parametrization(layer, "bias", Doubled())
    return parametrized(layer)


def pruned(layer: nn.Linear) -> nn.Module:
    pruned_layer: nn.Module = prune.l1_unstructured(layer, "weight", amount=1)
    return pruned_layer


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize(
    "made",
    [
        lambda layer: layer,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        parametrized,
        bias_too,
        pruned,
    ],
    ids=[
        *("plain", "old weight norm", "old spectral norm", "weight norm", "spectral norm"),
        *("orthogonal", "parametrized", "bias too", "pruned"),
    ],
)
def test_the_classifier_s_weight_is_not_clipped_whatever_it_is_made_of(made: Callable[[nn.Module], nn.Module]) -> None:
    model = net(made(nn.Linear(8, 4)))
    clipped = agc.agc_parameters(model)
    names = {name for name, p in model.named_parameters() if any(p is one for one in clipped)}
    assert len(clipped) == 3 and {"0.weight", "0.bias"} < names
    (last,) = names - {"0.weight", "0.bias"}
    assert "bias" in last


def test_only_gains_are_woken() -> None:
    norm = nn.BatchNorm2d(8)
    nn.init.zeros_(norm.weight)
    model = net(nn.Linear(8, 4), nn.PReLU(8, init=0.0), norm)
    assert awaken(model) == ["1.weight"]
    assert model[1].weight.all() and not model[2].weight.any()
    convolution = NormConv2d(8, 8, 1)
    nn.init.zeros_(convolution.weight)
    assert awaken(nn.Sequential(convolution, AffineNorm())) == ["1.weight"]


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        (nn.BatchNorm2d(8, affine=False), "batch"),
        (nn.InstanceNorm2d(8), "instance"),
        (nn.InstanceNorm2d(8, affine=True), "instance"),
        (nn.LayerNorm([8, 6, 6], elementwise_affine=False), "layer"),
        (nn.RMSNorm([8, 6, 6], elementwise_affine=False), "layer"),
        (nn.GroupNorm(2, 8, affine=False), "group"),
        (torchvision.ops.FrozenBatchNorm2d(8), "frozen"),
        (timm.layers.RmsNorm2d(8, affine=False), "layer"),
        (timm.layers.LayerNorm2d(8, affine=False), "layer"),
        # with dropout and an activation inside
        (timm.layers.norm_act.RmsNormAct2d(8), "layer"),
        (timm.layers.filter_response_norm.FilterResponseNormAct2d(8), "layer"),
        (timm.layers.norm_act.FrozenBatchNormAct2d(8), "frozen"),
        (nn.LocalResponseNorm(2), "layer"),
        (nn.CrossMapLRN2d(2), "layer"),
        (PixelNorm(), "layer"),
        (AffineNorm(), "layer"),
        (ActNorm(), "layer"),
        # called so, but they normalize weights, or images, or nothing
        (NormConv2d(8, 8, 1), "none"),
        (NormFreeGain(), "none"),
        (torchvision.transforms.Normalize([0.5], [0.5]), "none"),
        (parametrized(nn.Conv2d(8, 8, 1), AffineNorm()), "none"),
        (nn.Identity(), "none"),
        (parametrizations.weight_norm(nn.Conv2d(8, 8, 1)), "none"),
        (parametrizations.spectral_norm(nn.Conv2d(8, 8, 1)), "none"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_norm_is_one_with_parameters_or_without(norm: nn.Module, kind: str) -> None:
    assert norm_of(net(nn.Linear(8, 4), norm=norm)) == kind


def test_every_norm_counts_and_not_the_last_one_of_a_kind() -> None:
    first, last = nn.LayerNorm(8), nn.LayerNorm(8, elementwise_affine=False)
    assert norm_of(nn.Sequential(first, last)) == norm_of(nn.Sequential(last, first)) == "layer"


def test_torchvision_s_frozen_batch_norm_is_not_clipped_by_default() -> None:
    model = torchvision.models.resnet18(norm_layer=torchvision.ops.FrozenBatchNorm2d)
    assert norm_of(model) == "frozen"


@pytest.mark.parametrize("thawed", [True, False])
def test_gains_train_where_what_the_weight_is_made_of_does(thawed: bool) -> None:
    convolution = nn.utils.spectral_norm(nn.Conv2d(8, 8, 3, bias=False))
    convolution.requires_grad_(thawed)
    model = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    normalizer_free(model)
    assert model[0].gain.requires_grad is thawed and model[0].bias.requires_grad is thawed
    if thawed:
        model(torch.randn(2, 8, 6, 6)).sum().backward()
        assert model[0].gain.grad is not None and model[0].weight_orig.grad is not None


@pytest.mark.parametrize("thawed", [True, False])
@pytest.mark.parametrize(
    "made", [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal]
)
def test_a_parametrized_convolution_is_standardized(made: Callable[[nn.Module], nn.Module], thawed: bool) -> None:
    convolution = made(nn.Conv2d(3, 8, 3, bias=False)).requires_grad_(thawed)
    model = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    normalizer_free(model)
    gain = convolution.get_parameter("gain")
    model(torch.randn(2, 3, 6, 6)).sum().backward()
    assert gain.requires_grad is thawed and (gain.grad is not None) is thawed
    images = torch.randn(2, 3, 6, 6)
    parametrize.remove_parametrizations(convolution, "weight")
    assert type(convolution) is StandardizedConv2d
    assert convolution.standardized().mean((1, 2, 3)).abs().max() < 1e-6
    assert model(images).shape == (2, 4)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("made", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_spectral_norm_s_vectors_move_once_a_forward_and_never_meanwhile(
    made: Callable[[nn.Module], nn.Module],
) -> None:
    model, plain = (net(nn.Linear(8, 4)), net(nn.Linear(8, 4)))
    made(model[0])
    plain.load_state_dict(model.state_dict(), strict=False)
    twin = copy.deepcopy(model)
    normalizer_free(model)
    for _ in range(2):
        assert all(map(torch.equal, model.buffers(), twin.buffers()))
        images = torch.randn(2, 3, 6, 6)
        model(images), twin(images)


def test_a_complex_convolution_is_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, dtype=torch.complex64))
    changes = normalizer_free(model)
    assert type(model[1]) is nn.Conv2d and any(c.name == "1" and c.became is None for c in changes)


def test_a_net_with_lazy_layers_is_not_half_converted() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LazyBatchNorm2d(), nn.LazyConv2d(8, 3))
    with pytest.raises(ValueError, match="lazy layers without sizes: call it on one batch first, then normalizer_free"):
        normalizer_free(model)
    assert type(model[0]) is nn.Conv2d
    model(torch.randn(2, 3, 6, 6))
    normalizer_free(model)
    assert type(model[2]) is StandardizedConv2d


def test_a_prelu_has_the_gamma_of_its_slopes() -> None:
    gammas = []
    for activation in (nn.PReLU(), nn.PReLU(8), nn.LeakyReLU(0.25)):
        model = net(nn.Linear(8, 4), activation)
        normalizer_free(model)
        gammas.append(model[0].gamma)
    assert gammas == pytest.approx([gammas[2]] * 3, rel=1e-4)
    several = nn.PReLU(2)
    several.weight.data = torch.tensor([0.0, 1.0])
    model = net(nn.Linear(8, 4), several)
    normalizer_free(model)
    # E[var] of a ReLU and of the identity
    assert model[0].gamma == pytest.approx(((1.7139588**-2 + 1) / 2) ** -0.5, rel=1e-3)
    with pytest.raises(ValueError, match=r"gamma.*cannot be computed.*Give it"):
        normalizer_free(net(nn.Linear(8, 4), nn.PReLU(device="meta")))


@pytest.mark.parametrize("dim", [1, -1])
def test_a_gated_unit_has_the_gamma_of_a_product(dim: int) -> None:
    model = net(nn.Linear(4, 4), nn.GLU(dim))
    normalizer_free(model)
    assert model[0].gamma == pytest.approx(1.846, abs=1e-3)
    z = torch.randn(2, 10**6, generator=torch.Generator().manual_seed(0))
    assert model[0].gamma == pytest.approx(1 / float((z[0] * z[1].sigmoid()).std()), rel=1e-2)


@pytest.mark.parametrize(
    "activation", [nn.Softmin(1), nn.Softmin(-1), nn.Threshold(10.0, 0.0), nn.MultiheadAttention(4, 1)]
)
def test_an_activation_without_a_gamma_is_refused_in_words(activation: nn.Module) -> None:
    model = net(nn.Linear(8, 4), activation)
    if isinstance(activation, nn.MultiheadAttention):
        normalizer_free(model)
        return
    with pytest.raises(ValueError, match=r"cannot be computed.*Give it: normalizer_free\(model, gamma=1.7\)"):
        normalizer_free(model)
    assert type(model[0]) is nn.Conv2d


def test_an_activation_that_draws_has_one_gamma_and_takes_nothing_of_the_generator() -> None:
    gammas = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        model = net(nn.Linear(8, 4), nn.RReLU()).train(seed == 0)
        torch.set_rng_state(before)
        normalizer_free(model)
        assert torch.equal(before, torch.get_rng_state())
        gammas.append(model[0].gamma)
    assert gammas[0] == gammas[1] and math.isfinite(gammas[0])


def test_a_computed_gamma_seeds_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    normalizer_free(net(nn.Linear(8, 4), nn.SELU()))
    assert not seeds


def with_gradient(p: Tensor, scale: float = 1.0) -> nn.Parameter:
    parameter = nn.Parameter(p)
    parameter.grad = scale * torch.ones_like(p)
    return parameter


@pytest.mark.parametrize("impl", ["reference", "foreach", "timm", "auto"])
def test_complex_parameters_are_clipped_by_their_absolute_values(impl: agc.Impl) -> None:
    w = torch.full((2, 4), 3 + 4j)
    p = nn.Parameter(w.clone())
    p.grad = torch.stack([torch.full((4,), 30 + 40j), torch.full((4,), 0.0001j)])
    # ‖W‖ is 10, ‖G‖ 100 and 0.0002
    assert int(adaptive_clip_grad_([p], clipping=0.5, impl=impl)) == 1
    torch.testing.assert_close(p.grad[0], torch.full((4,), 1.5 + 2j))
    assert torch.equal(p.grad[1], torch.full((4,), 0.0001j))


@pytest.mark.parametrize("impl", ["reference", "foreach", "timm"])
def test_nothing_to_clip_is_no_unit(impl: agc.Impl) -> None:
    empty = with_gradient(torch.zeros(0, 4))
    for parameters in ([], [empty], [nn.Parameter(torch.ones(2))]):
        assert int(adaptive_clip_grad_(parameters, impl=impl)) == 0
        agc.clipper(parameters, 0.01, impl)()  # type: ignore[arg-type]
        assert agc.units(parameters, 0.01) == (0, 0, 0)
    both = [empty, with_gradient(torch.ones(2, 3), 100.0)]
    assert int(adaptive_clip_grad_(both, impl=impl)) == 2


def test_lazy_layers_are_refused_in_a_sentence() -> None:
    model = nn.Sequential(nn.LazyLinear(4))
    with pytest.raises(ValueError, match="lazy layers without sizes: call it on one batch first"):
        AGC(torch.optim.SGD(model.parameters(), lr=0.1), model)


def test_sparse_gradients_are_refused_in_a_sentence() -> None:
    embedding = nn.Embedding(4, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    parameters = list(embedding.parameters())
    for clip in (
        lambda: adaptive_clip_grad_(parameters),
        lambda: agc.units(parameters, 0.01),
        agc.clipper(parameters, 0.01, "reference"),
        agc.clipper(parameters, 0.01, "foreach"),
    ):
        with pytest.raises(ValueError, match="AGC needs dense gradients"):
            clip()
