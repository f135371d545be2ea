"""normalizer_free takes batch norm out of a user's net, keeps its weights and geometry, and says what it did."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.layers import BatchNormAct2d, Conv2dSame, DropPath, ScaledStdConv2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nfbench.nets.convert import GAMMA, Change, normalizer_free
from nfbench.nets.norm import norm_of
from nfbench.nets.standardized import StandardizedConv2d, StandardizedConv2dSame


def timm_net(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=10)


def torchvision_net(name: str) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=10)


NETS = {
    "torchvision resnet18": (torchvision_net("resnet18"), 8),
    "torchvision mobilenet_v3_small": (torchvision_net("mobilenet_v3_small"), 6),
    "timm resnet18": (timm_net("resnet18"), 8),
    "timm resnetv2_18": (timm_net("resnetv2_18"), 8),
    "timm seresnet50": (timm_net("seresnet50"), 16),
    "timm regnety_002": (timm_net("regnety_002"), 13),
    "timm tf_efficientnet_b0": (timm_net("tf_efficientnet_b0"), 9),
}


@pytest.fixture(scope="module", params=NETS.values(), ids=NETS)
def converted(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module, list[Change], int]:
    make, blocks = request.param
    torch.manual_seed(0)
    before = make()
    after = copy.deepcopy(before)
    return before, after, normalizer_free(after), blocks


def test_no_batch_norm_is_left_and_the_output_for_an_image_does_not_depend_on_its_batch(converted: Any) -> None:
    _, net, _, _ = converted
    assert norm_of(net) == "none"
    for module in net.train().modules():
        if isinstance(module, (nn.Dropout, DropPath)):
            module.eval()
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together, alone = net(images), net(images[:1])
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-4)
    assert float(together.std(0).max()) > 1e-3


def test_every_weight_keeps_its_name_and_value_and_a_checkpoint_of_the_net_that_it_was_loads(converted: Any) -> None:
    before, after, _, _ = converted
    norms = tuple(f"{name}." for name, m in before.named_modules() if isinstance(m, _BatchNorm))
    kept = {name: tensor for name, tensor in before.state_dict().items() if not name.startswith(norms)}
    now = after.state_dict()
    assert all(torch.equal(tensor, now[name]) for name, tensor in kept.items())
    assert all(name.endswith((".gain", ".bias")) or name == "gain" for name in now.keys() - kept.keys())
    missing, unexpected = copy.deepcopy(after).load_state_dict(before.state_dict(), strict=False)
    assert set(missing) == now.keys() - kept.keys()
    assert all(name.startswith(norms) for name in unexpected)


def test_every_plain_convolution_is_standardized_with_its_geometry_or_listed_with_a_reason(converted: Any) -> None:
    before, after, changes, _ = converted
    left = {c.name: c for c in changes if c.became is None}
    for name, old in before.named_modules():
        if not isinstance(old, nn.Conv2d):
            continue
        new = after.get_submodule(name)
        if name in left:
            assert type(new) is type(old)
            assert left[name].why == ("the classifier" if name == "head.fc" else "squeeze-and-excite")
            continue
        assert not any(gate in name for gate in (".se.", ".fc1", ".fc2"))
        assert type(new) is (StandardizedConv2dSame if isinstance(old, Conv2dSame) else StandardizedConv2d)
        for attribute in ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "out_channels"):
            assert getattr(new, attribute) == getattr(old, attribute)
        assert new.bias is not None
        assert new.gain.shape == (new.out_channels, 1, 1, 1)


def test_just_the_end_of_each_residual_branch_starts_at_the_branch_gain(converted: Any) -> None:
    _, net, changes, blocks = converted
    ends = {c.name for c in changes if c.why == "gain 0.2: it ends a residual branch"}
    assert len(ends) == blocks
    for name, module in net.named_modules():
        if isinstance(module, StandardizedConv2d):
            assert torch.equal(module.gain, torch.full_like(module.gain, 0.2 if name in ends else 1.0))


def test_every_change_is_listed_once_and_reads_as_a_line(converted: Any) -> None:
    before, after, changes, _ = converted
    norms = {name for name, m in before.named_modules() if isinstance(m, _BatchNorm)}
    convolutions = {name for name, m in before.named_modules() if isinstance(m, nn.Conv2d)}
    moved = [c for c in changes if c.why != "no longer in place"]
    assert norms | convolutions <= {c.name for c in moved}
    assert len(moved) == len({c.name for c in moved})
    for change in changes:
        assert "\n" not in str(change)
        if change.became is not None:
            assert type(after.get_submodule(change.name)).__name__ == change.became
    assert str(Change("bn1", "BatchNorm2d", "Identity")) == "bn1: BatchNorm2d → Identity"
    assert str(Change("se.fc", "Conv2d", None, "squeeze-and-excite")) == "se.fc: Conv2d left alone (squeeze-and-excite)"


def standardized(conv: nn.Conv2d, **options: Any) -> StandardizedConv2d:
    net = nn.Sequential(conv, nn.ReLU())
    normalizer_free(net, **options)
    assert isinstance(net[0], StandardizedConv2d)
    return net[0]


def test_it_computes_what_timm_s_scaled_weight_standardization_computes() -> None:
    theirs = ScaledStdConv2d(8, 6, 3, stride=2, padding=1, gamma=GAMMA["ReLU"], eps=1e-9)
    ours = standardized(nn.Conv2d(8, 6, 3, stride=2, padding=1))
    nn.init.normal_(theirs.gain)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 8, 9, 9)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-3, atol=1e-4)
    ours(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (ours.weight, ours.gain, ours.bias))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv2d(4, 6, 3, padding="same", dilation=2),
        lambda: nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), bias=False),
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        lambda: nn.Conv2d(4, 4, 3, padding="valid", groups=4),
        lambda: Conv2dSame(4, 6, 3, stride=2),
    ],
    ids=["same", "tuples", "reflect", "depthwise", "timm's SAME"],
)
def test_it_is_the_convolution_that_it_was_with_another_weight(make: Callable[[], nn.Conv2d]) -> None:
    old = make()
    new = standardized(copy.deepcopy(old))
    old.weight.data.copy_(new.standardized().detach())
    images = torch.randn(2, 4, 11, 12)
    assert torch.equal(new(images), old(images))


def gamma_of(*activations: nn.Module) -> float:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), *activations)
    normalizer_free(net)
    return float(net[0].gamma)  # type: ignore[arg-type]


def test_gamma_is_that_of_the_activation_met_most_often_the_first_on_a_tie_and_relu_s_where_there_is_none() -> None:
    assert gamma_of() == GAMMA["ReLU"]
    assert gamma_of(nn.SiLU()) == GAMMA["SiLU"]
    assert gamma_of(nn.ReLU(), nn.SiLU(), nn.SiLU()) == GAMMA["SiLU"]
    assert gamma_of(nn.GELU(), nn.ReLU()) == GAMMA["GELU"]
    assert gamma_of(nn.Sigmoid(), nn.Sigmoid(), nn.ReLU6()) == GAMMA["ReLU6"]


ACTIVATIONS = [nn.ReLU(), nn.ReLU6(), nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.LeakyReLU(0.3), nn.PReLU()]


@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda act: type(act).__name__)
def test_gamma_is_one_over_the_standard_deviation_of_the_activation(act: nn.Module) -> None:
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    assert gamma_of(act) * act(z).std().item() == pytest.approx(1, abs=5e-3)


def test_timm_s_batch_norm_with_an_activation_inside_becomes_the_activation() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        BatchNormAct2d(4, act_layer=nn.SiLU),
        nn.Conv2d(4, 4, 3),
        BatchNormAct2d(4, apply_act=False),
        BatchNormAct2d(4, drop_layer=nn.Dropout),
    )
    normalizer_free(net)
    assert isinstance(net[1], nn.SiLU)
    assert isinstance(net[3], nn.Identity)
    assert [type(part) for part in net[4]] == [nn.Dropout, nn.ReLU]  # type: ignore[arg-type, union-attr]


class PreActivation(nn.Module):
    """A branch that begins with batch norm and an activation in place, on the input of the shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act, self.conv = nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.act(self.norm(x))) + x


def test_an_activation_in_place_does_not_overwrite_the_input_of_a_shortcut() -> None:
    net = PreActivation()
    changes = normalizer_free(net)
    images = torch.randn(2, 4, 5, 5)
    before = images.clone()
    net(images)
    assert torch.equal(images, before)
    assert Change("act", "ReLU", "ReLU", "no longer in place") in changes


def test_other_convolutions_other_norms_and_a_convolutional_classifier_are_left_alone_and_listed() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ConvTranspose2d(4, 4, 3), nn.Conv2d(4, 4, 1, groups=4)
    )
    assert [str(c) for c in normalizer_free(net)[1:]] == [
        "1: GroupNorm left alone (another normalization than batch norm)",
        "2: ConvTranspose2d left alone (not a plain two-dimensional convolution)",
        "3: Conv2d left alone (one input per output: standardized, it would be 0)",
    ]
    assert [type(m).__name__ for m in net] == ["StandardizedConv2d", "GroupNorm", "ConvTranspose2d", "Conv2d"]
    changes = normalizer_free(torchvision_net("squeezenet1_1")())
    assert Change("classifier.1", "Conv2d", None, "the classifier") in changes


def test_a_module_in_two_places_is_changed_in_both_and_what_is_frozen_gets_frozen_gains_and_biases() -> None:
    conv, norm = nn.Conv2d(4, 4, 3, padding=1, bias=False).requires_grad_(False), nn.BatchNorm2d(4)
    net = nn.Sequential(conv, norm, nn.Sequential(conv, norm), norm)
    normalizer_free(net)
    assert net[0] is net[2][0]  # type: ignore[index]
    assert norm_of(net) == "none"
    assert len(list(net.parameters())) == 3 and not any(p.requires_grad for p in net.parameters())


def test_a_branch_gain_of_zero_starts_each_block_as_its_shortcut() -> None:
    net = torchvision.models.resnet18()
    normalizer_free(net, branch_gain=0.0)
    block = net.layer1[0]
    signal = torch.rand(1, 64, 8, 8)
    assert torch.equal(block(signal), signal)


@pytest.mark.parametrize(
    ("net", "options", "said"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), {}, "Sequential has no plain convolution.*nn.Conv2d"),
        (nn.Sequential(nn.Conv2d(4, 4, 1, groups=4)), {}, "no plain convolution with more than one input per output"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), {"gamma": 0.0}, "gamma is 0.0, .*positive"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), {"gamma": math.inf}, "gamma is inf"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), {"branch_gain": -1.0}, "branch_gain is -1.0"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmin(1)), {}, "cannot be computed for the net's Softmin.*gamma=1.7"),
        (nn.DataParallel(nn.Conv2d(3, 4, 3)), {}, "The net is in DataParallel.*wrap it afterwards"),
    ],
    ids=["no convolution", "fan-in 1", "gamma 0", "gamma inf", "branch gain", "activation", "wrapped"],
)
def test_what_cannot_be_converted_is_said_and_stays(net: nn.Module, options: dict[str, Any], said: str) -> None:
    before = repr(net)
    with pytest.raises(ValueError, match=said):
        normalizer_free(net, **options)
    assert repr(net) == before


def test_a_net_that_is_normalizer_free_already_is_answered_in_words() -> None:
    with torch.device("meta"):
        theirs, ours = timm.create_model("dm_nfnet_f0"), torchvision.models.resnet18()
    with pytest.raises(ValueError, match=r"NormFreeNet is normalizer-free already: .*Leave the call"):
        normalizer_free(theirs)
    normalizer_free(ours)
    with pytest.raises(ValueError, match="ResNet is normalizer-free already: 20 of its convolutions"):
        normalizer_free(ours)


@pytest.mark.parametrize("name", ["hgnet_tiny", "ecaresnet26t", "skresnet18"])
def test_a_convolution_that_sees_a_pooled_input_is_left_alone_but_for_the_head(name: str) -> None:
    net = timm_net(name)().eval()
    normalizer_free(net)
    sides: dict[str, torch.Size] = {}
    for name, module in net.named_modules():
        if isinstance(module, StandardizedConv2d) and module.kernel_size == (1, 1):
            module.register_forward_pre_hook(lambda _, inputs, name=name: sides.update({name: inputs[0].shape[-2:]}))
    with torch.no_grad():
        net(torch.randn(1, 3, 128, 128))
    assert sides
    assert [name for name, side in sides.items() if side == (1, 1) and name != "head.last_conv.0"] == []


@pytest.mark.parametrize(
    ("make", "ends"),
    [
        (torchvision_net("mnasnet0_5"), 10),
        (timm_net("resnet32ts"), 10),
        (timm_net("regnetz_b16"), 18),
        (timm_net("repvgg_a0"), 0),
    ],
    ids=["mnasnet0_5", "resnet32ts", "regnetz_b16", "repvgg_a0"],
)
def test_the_ends_of_other_branches_are_told_or_that_there_are_none(make: Callable[[], nn.Module], ends: int) -> None:
    with torch.device("meta"):
        net = make()
    changes = normalizer_free(net)
    assert all(t.is_meta for t in [*net.parameters(), *net.buffers()])
    assert sum("ends a residual branch" in c.why for c in changes) == ends
    assert any("no residual branch's end was told" in str(c) for c in changes if c.name == "") == (ends == 0)


def test_a_layer_scale_without_a_shortcut_becomes_1() -> None:
    torch.manual_seed(0)
    net = timm.create_model("mobilenetv4_hybrid_medium", num_classes=10).eval()
    changes = normalizer_free(net)
    ones = {c.name for c in changes if c.why == "set to 1: its block has no shortcut"}
    assert ones
    for name, module in net.named_modules():
        if hasattr(module, "gamma") and name.endswith("layer_scale"):
            assert bool((module.gamma == 1).all()) == (name in ones)
    with torch.no_grad():
        images = torch.randn(2, 3, 64, 64)
        features = net.forward_features(images)
    assert float(features.std()) > 1e-3
