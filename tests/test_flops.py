"""MACs by guarantee, against the paper, and against hooks on real tensors; and `nfbench flops`."""

from __future__ import annotations

import csv
import functools
import io
import math
import re
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

from nfbench.catalog import models
from nfbench.catalog.models import NETS, Net, find
from nfbench.catalog.published import rows, table3, trained_otherwise
from nfbench.cli import main
from nfbench.nets.build import build
from nfbench.nets.flops import count


def nfbench(*args: str) -> Result:
    return CliRunner().invoke(main, ["flops", *args])


def first_convolution(net: nn.Module) -> list[int]:
    """A list into which the MACs of the convolution that runs first are put when the net runs."""
    seen: list[int] = []

    def hook(module: nn.Module, _: Any, out: Tensor) -> None:
        if not seen:
            seen.append(out.numel() * math.prod(module.weight.shape[1:]))

    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            m.register_forward_hook(hook)
    return seen


def series(net: Net) -> str:
    """What nets that differ in their number alone have in common: ``nfnet-f#``."""
    return re.sub(r"\d+", "#", net.name)


FIRST = {series(net): net for net in reversed(NETS)}
LARGER = [net for net in NETS if net not in FIRST.values()]


@functools.cache
def on_meta(name: str) -> nn.Module:
    return build(find(name), device="meta")


@pytest.mark.parametrize("net", FIRST.values(), ids=lambda net: net.name)
def test_forward_and_backward_are_3_times_forward_less_the_first_input_gradient(net: Net) -> None:
    module = build(net, device="meta")
    first = first_convolution(module)
    assert net.train_px is not None
    counted = count(module, net.train_px, train=True)
    assert counted.train_macs == 3 * counted.macs - first[0]
    assert 2.9 < counted.train_macs / counted.macs < 3
    stored = models.counted(net.name, net.train_px)
    assert stored == (counted.macs, counted.params, counted.activations)


@pytest.mark.parametrize("net", LARGER, ids=lambda net: net.name)
def test_a_larger_net_has_the_parts_of_the_first_of_its_series_and_its_stored_counts(net: Net) -> None:
    def parts(module: nn.Module) -> set[tuple[type[nn.Module], bool]]:
        return {(type(m), getattr(m, "groups", 1) > 1) for m in module.modules()}

    # so its backward has nothing that the first one's has not, whose forward and backward are counted above
    assert parts(on_meta(net.name)) == parts(on_meta(FIRST[series(net)].name))
    again = count(on_meta(net.name), net.train_px or 0)
    assert models.counted(net.name, net.train_px) == (again.macs, again.params, again.activations)


@pytest.mark.parametrize("net", [find(f"nfnet-f{i}") for i in range(8)], ids=lambda net: net.name)
def test_an_nfnet_has_the_macs_of_the_paper_to_its_last_printed_digit(net: Net) -> None:
    counted = count(on_meta(net.name), net.test_px or 0)
    assert models.counted(net.name, net.test_px) == (counted.macs, counted.params, counted.activations)
    (row,) = [row for row in rows("variants.csv") if row["model"] == net.name]
    assert round(counted.macs / 1e9, 2) == float(row["gmacs_test_px"])
    assert round(counted.params / 1e6, 2) == float(row["params_m"])
    if net.name != "nfnet-f7":
        paper = table3(net.name) or trained_otherwise(net.name)
        assert paper and round(counted.macs / 1e9, 2) == paper.macs_g
        assert round(counted.params / 1e6, 1) == paper.params_m


@pytest.mark.parametrize("name", [f"efficientnet-b{i}" for i in (0, 3, 4, 5, 6, 7, 8)])
def test_an_efficientnet_is_within_5_percent_of_the_paper(name: str) -> None:
    net = find(name)
    counted, paper = models.counted(name, net.test_px), table3(name) or trained_otherwise(name)
    assert counted and paper and paper.macs_g
    assert abs(counted.macs / (paper.macs_g * 1e9) - 1) < 0.05


@pytest.mark.parametrize(("name", "px"), [("nf-resnet26", 64), ("nf-regnet-b0", 96), ("timm-efficientnet-b0", 64)])
def test_hooks_on_real_tensors_count_the_same_to_the_digit(name: str, px: int) -> None:
    net = build(name).eval()
    total, outputs = [0], [0]

    def hook(module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> None:
        outputs[0] += out.numel()
        if isinstance(module, nn.Linear):
            total[0] += out.numel() * module.in_features
        else:
            kernel = module.kernel_size[0] * module.kernel_size[1]
            total[0] += out.numel() * module.in_channels // module.groups * kernel

    for m in net.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            m.register_forward_hook(hook)
    with torch.no_grad():
        net(torch.randn(1, 3, px, px))
    counted = count(build(name, device="meta"), px)
    assert (counted.macs, counted.activations) == (total[0], outputs[0])
    assert counted.params == sum(p.numel() for p in net.parameters())


def test_the_count_is_that_of_real_tensors_and_leaves_the_net_as_it_was() -> None:
    net = build("tiny-resnet")
    net.layer1.eval()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    assert count(net, 32, train=True) == count(build("tiny-resnet", device="meta"), 32, train=True)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert net.training and not net.layer1.training


def test_a_transposed_and_a_grouped_convolution_cost_each_gradient_what_forward_costs() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 6, 4, groups=2, stride=2))
    counted = count(net, 12, train=True)
    first, second = 10 * 10 * 8 * 27, 10 * 10 * 8 * 3 * 16
    assert (counted.macs, counted.train_macs) == (first + second, 2 * first + 3 * second)


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        ("tiny-nfnet --px 0", "tiny-nfnet cannot run at 0 px.\npx is the side of the square input.\nTry: nfbench"),
        ("tiny-nfnet --px -3", "tiny-nfnet cannot run at -3 px.\n"),
        ("timm:inception_v3 --px 32", "timm:inception_v3 does not run at 32 px.\nRuntimeError: "),
        ("", "No model was named.\n`nfbench models` lists them.\nTry: nfbench flops nfnet-f0, or nfbench flops"),
    ],
)
def test_what_cannot_be_counted_is_answered_in_words(args: str, answer: str) -> None:
    done = nfbench(*args.split())
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(answer)


def _rows(*args: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(nfbench(*args, "--format", "csv").stdout)))


def test_a_net_is_counted_at_its_train_and_test_px_with_the_reported_figure_beside_it() -> None:
    train, test = _rows("nfnet-f0")
    assert (train["px"], train["role"], train["reported_macs"], train["source"]) == ("192", "train", "", "")
    assert (test["px"], test["role"], test["reported_macs"]) == ("256", "test", "12380000000")
    assert float(test["difference"]) == pytest.approx(12384198656 / 12.38e9 - 1, abs=1e-6)
    assert test["source"] == "arXiv 2102.06171, Table 3"


def test_one_px_is_one_row_and_says_what_it_is() -> None:
    assert [(r["px"], r["role"]) for r in _rows("tiny-nfnet")] == [("32", "both")]
    assert [(r["px"], r["role"]) for r in _rows("tiny-nfnet", "--px", "48")] == [("48", "given")]


def test_train_adds_forward_and_backward_and_a_model_named_twice_is_counted_once() -> None:
    (row,) = _rows("tiny-resnet", "--train")
    assert 2.9 < int(row["train_macs"]) / int(row["macs"]) < 3
    (row,) = _rows("tiny-resnet", "TINY_RESNET")
    assert "train_macs" not in row


def test_the_stored_counts_are_written_by_the_command() -> None:
    stored = models.MACS_FILE.read_text(encoding="utf-8").splitlines()
    header, *lines = nfbench("senet-152", "efficientnet-b0", "tiny-nfnet-l", "--format", "csv").stdout.splitlines()
    assert stored[0] == header
    assert set(lines) <= set(stored)
    assert len(stored) - 1 == sum(1 if net.train_px == net.test_px else 2 for net in NETS)


def test_the_largest_tensor_is_padded_as_it_is() -> None:
    # 96 channels, 112 × 112 padded by one at two sides
    assert count(build("efficientnet-b0", device="meta"), 224, train=True).largest == 96 * 113**2
    assert (2**31 - 1) // (96 * 113**2) == 1751
    # no weight counts, however large
    assert count(nn.Sequential(nn.Flatten(), nn.Linear(12, 1000)), 2).largest == 1000
