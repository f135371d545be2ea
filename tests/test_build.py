"""Nets are built as their papers train them, and bad names are answered in words."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from timm.layers.drop import DropPath
from torch import nn

from nfbench.catalog.models import NETS, find
from nfbench.errors import UnknownModel, UnsupportedWorkload
from nfbench.nets.build import awaken, build, head_names, px_of
from nfbench.nets.norm import norm_of


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "users_nets.py").write_text(
        "import torch\n"
        "def small(num_classes): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, num_classes))\n"
        "def normalized(num_classes): return torch.nn.Sequential(torch.nn.BatchNorm2d(3), small(num_classes))\n"
        "def raising(num_classes): raise ValueError('no luck')\n"
        "def empty(num_classes): return None\n"
        "number = 3\n"
    )
    (tmp_path / "users_broken.py").write_text("import a_module_that_is_missing\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("users_nets", "users_broken"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("net", ["resnet50", "users_nets:raising"])
def test_an_error_of_the_device_is_none_of_the_net(factories: Path, monkeypatch: pytest.MonkeyPatch, net: str) -> None:
    for words in (
        "CUDA error: out of memory",
        "CUDA error: an illegal memory access was encountered",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    ):

        def failing(*_: object, words: str = words, **__: object) -> nn.Module:
            raise RuntimeError(words)

        monkeypatch.setattr("timm.create_model", failing)
        (factories / "users_nets.py").write_text(f"def raising(num_classes): raise RuntimeError({words!r})\n")
        sys.modules.pop("users_nets", None)
        with pytest.raises(RuntimeError, match=words):
            build(net)


def test_nfnet_has_the_variant_s_dropout_and_drop_path_of_a_quarter_i_over_n_unscaled() -> None:
    net = build("nfnet-f1", device="meta")
    blocks = [block.drop_path for stage in net.stages for block in stage]
    assert net.head.drop.p == 0.3
    assert isinstance(blocks[0], nn.Identity)
    assert all(isinstance(drop, DropPath) and not drop.scale_by_keep for drop in blocks[1:])
    assert [drop.drop_prob for drop in blocks[1:]] == [0.25 * i / 24 for i in range(1, 24)]


def test_efficientnet_has_its_published_dropout_and_drop_connect_and_a_resnet_drops_nothing() -> None:
    net = build("efficientnet-b7", device="meta")
    drops = [m.drop_prob for m in net.modules() if isinstance(m, DropPath)]
    assert net.drop_rate == 0.5
    assert max(drops) == pytest.approx(0.2 * 54 / 55)
    assert not [m for m in build("resnet50", device="meta").modules() if isinstance(m, DropPath)]


def test_nfnet_f7_is_f6_with_the_depths_of_the_reference_and_on_meta_nothing_is_allocated() -> None:
    net = build("nfnet-f7", device="meta")
    assert [len(stage) for stage in net.stages] == [8, 16, 48, 24]
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == 499.50
    assert all(t.is_meta for t in [*net.parameters(), *net.buffers()])


def test_the_paper_s_baseline_has_resnet_widths_and_no_second_3x3_convolution() -> None:
    baseline, width = build("nfnet-f0-baseline", device="meta"), build("nfnet-f0-width", device="meta")
    assert [stage[-1].conv3.out_channels for stage in baseline.stages] == [256, 512, 1024, 2048]
    assert [stage[-1].conv3.out_channels for stage in width.stages] == [256, 512, 1536, 1536]
    assert (baseline.num_features, width.num_features) == (4096, 3072)
    assert all(block.conv2b is None for net in (baseline, width) for stage in net.stages for block in stage)


def test_a_factory_in_the_working_directory_is_built_and_takes_another_norm_too(factories: Path) -> None:
    assert build("users_nets:small", num_classes=5)(torch.zeros(1, 3, 2, 2)).shape == (1, 5)
    net = build("users_nets:normalized", num_classes=5, norm="group")
    assert norm_of(net) == "group" and net.training
    with pytest.raises(UnsupportedWorkload, match="users_nets:small has no batch normalization"):
        build("users_nets:small", norm="group")


@pytest.mark.parametrize(
    "net", [n for n in NETS if n.family in ("tiny", "bn-nf-resnet")] + [find("bn-nfnet-f0")], ids=lambda n: n.name
)
def test_the_norm_in_the_catalogue_is_that_of_the_built_net(net: object) -> None:
    assert norm_of(build(net, device="meta")) == net.norm  # type: ignore[arg-type, attr-defined]


def test_the_classifier_of_any_other_net_is_its_last_linear_layer() -> None:
    assert head_names(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))) == {"2.weight", "2.bias"}
    assert head_names(nn.Conv2d(3, 3, 1)) == frozenset()
    assert head_names(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Bilinear(4, 4, 2))) == {"1.weight", "1.bias"}
    # the one that attention ends in is none
    assert head_names(nn.Sequential(nn.Linear(4, 2), nn.MultiheadAttention(4, 1))) == {"0.weight", "0.bias"}


class HeadFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.squeeze = nn.Linear(4, 2), nn.Linear(4, 4)


class OfAnotherSignature(HeadFirst):
    def get_classifier(self, which: str) -> nn.Module:
        return self.fc


class OfAnotherResult(HeadFirst):
    def get_classifier(self) -> torch.Tensor:
        return self.fc.weight


@pytest.mark.parametrize("net", [HeadFirst, OfAnotherSignature, OfAnotherResult])
def test_what_a_net_calls_its_classifier_is_it_wherever_it_stands(net: type[nn.Module]) -> None:
    assert head_names(net()) == {"fc.weight", "fc.bias"}


def test_awaking_lets_gradients_through_every_branch() -> None:
    def dead(net: nn.Module) -> float:
        torch.manual_seed(0)
        net(torch.randn(4, 3, 32, 32)).square().mean().backward()
        grads = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        return float((grads == 0).float().mean())

    asleep, awake = build("tiny-nf-resnet", num_classes=10), build("tiny-nf-resnet", num_classes=10)
    changed = awaken(awake)
    assert len(changed) == 4 and awaken(awake) == []
    for (name, p), q in zip(asleep.named_parameters(), awake.parameters(), strict=True):
        assert (p.count_nonzero() == 0 and bool((q == 1).all())) if name in changed else p.shape == q.shape
    assert dead(asleep) > 0.5 > 0.2 > dead(awake)


def test_a_skipinit_gain_is_woken_and_a_linear_weight_at_zero_is_not() -> None:
    net = build(dataclasses.replace(find("tiny-nfnet"), kwargs=(("skipinit", True), ("zero_init_fc", True))))
    assert set(awaken(net)) == {f"stages.{i}.0.skipinit_gain" for i in range(4)}
    assert not net.head.fc.weight.any()


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("users_nets:nope", UnknownModel, "The module 'users_nets' has no 'nope'.\nTry: a name that users_nets"),
        ("users_nets.py:small", UnknownModel, "There is no module 'users_nets.py' to import.\nModuleNotFoundError:"),
        ("users_nets:number", UnknownModel, "users_nets:number is not callable.\nIt is int, a factory takes"),
        ("users_missing:net", UnknownModel, "There is no module 'users_missing' to import.\nModuleNotFoundError: No"),
        ("users_broken:net", UnknownModel, "The module 'users_broken' raised.\nModuleNotFoundError: No module named"),
        ("users_nets:raising", UnsupportedWorkload, "The factory users_nets:raising raised.\nValueError: no luck"),
        ("users_nets:empty", UnsupportedWorkload, "The factory users_nets:empty returned no torch.nn.Module.\nIt"),
    ],
)
def test_a_bad_factory_is_answered_in_words(factories: Path, name: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as error:
        build(name)
    assert str(error.value).startswith(said)


def test_a_timm_name_ignores_case_dashes_and_underscores_and_a_miss_suggests_the_nearest() -> None:
    assert px_of(find("timm:RESNET-18")) == px_of(find("timm:resnet18"))
    with pytest.raises(UnknownModel, match=r"The nearest: .*resnet50.*\nTry: timm:resnet"):
        build("timm:resnet51", device="meta")
    # and reaches for no network
    with pytest.raises(UnknownModel, match="has no model called"):
        build("timm:hf-hub:timm/resnet18.a1_in1k", device="meta")
