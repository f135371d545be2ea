"""An NF net's images do not see each other, a BN net's do, and AGC couples those of a unit that it clips."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import Cli
from torch import Tensor, nn

from nfbench.nets import dependence as measuring
from nfbench.nets.build import awaken, build
from nfbench.nets.dependence import dependence, dependence_of

ROUNDING = 1e-5
BATCH_MATTERS = ["output_rest_changed", "output_evaluation_others", "share_rest_changed_no_agc"]
LEVELS = ["output_rounding", "share_rounding_no_agc"]


class Grouped(nn.Module):
    """A net with group normalization, and dropout of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.GroupNorm(2, 8)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.convolution(x))).mean((2, 3))
        return self.head(F.dropout(self.dropout(x), 0.5, self.training))


class OneUnit(nn.Module):
    """A net with a single unit that AGC clips; its classifier is left alone."""

    def __init__(self) -> None:
        super().__init__()
        self.unit = nn.Linear(48, 1, bias=False)
        self.head = nn.Linear(1, 1000, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.unit(x.flatten(1)))


def inputs(batch: int = 4, px: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2 * batch, 3, px, px, generator=generator)
    return images, torch.randint(1000, (2 * batch,), generator=generator)


def figures(net: str | type[nn.Module], clipping: float | None = None, **size: int) -> dict[str, float]:
    torch.manual_seed(0)
    module = build(net) if isinstance(net, str) else net()
    awaken(module)
    return dependence(module, *inputs(**size), clipping)


@pytest.mark.parametrize(("net", "batch"), [("tiny-nfnet-s", 4), ("tiny-nf-resnet-s", 3), (Grouped, 4)])
def test_without_batch_statistics_all_is_equal_but_for_rounding(net: str | type[nn.Module], batch: int) -> None:
    measured = figures(net, batch=batch)
    for name in [*BATCH_MATTERS, *LEVELS]:
        assert 0 <= measured[name] < ROUNDING, name
    assert not measured.keys() & {"clipping", "clipped_units", "share_rest_changed_agc", "share_rounding_agc"}


def test_with_batch_statistics_everything_depends_on_the_batch_far_beyond_rounding() -> None:
    measured = figures("tiny-resnet-s")
    level = max(measured[name] for name in LEVELS)
    assert level < ROUNDING
    for name in BATCH_MATTERS:
        assert measured[name] > 0.01 > 1000 * level, name


def test_agc_couples_the_images_of_an_nf_net_once_units_are_clipped() -> None:
    measured = figures("tiny-nfnet-s", 0.01, batch=2)
    assert 0 < measured["clipped_units"] < 1
    assert measured["share_rounding_agc"] < ROUNDING < 0.01 < measured["share_rest_changed_agc"]


def test_a_share_is_the_clipped_gradient_less_the_clipped_gradient_without_that_image() -> None:
    torch.manual_seed(0)
    module, clipping = OneUnit(), 0.01
    images, targets = inputs(batch=2, px=4)
    weight = module.unit.weight

    def clip(g: Tensor) -> Tensor:
        return g * min(1.0, clipping * float(weight.detach().norm() / g.norm()))

    def share(x: Tensor, y: Tensor, i: int) -> Tensor:
        terms = F.cross_entropy(module(x), y, reduction="none", label_smoothing=0.1) / 2
        whole, term = (torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in (terms.sum(), terms[i]))
        assert whole.norm() > clipping * weight.norm()
        return clip(whole) - clip(whole - term)

    changes = []
    for i in range(2):
        x, y = images[2:].clone(), targets[2:].clone()
        x[i], y[i] = images[i], targets[i]
        before, after = share(images[:2], targets[:2], i), share(x, y, i)
        changes.append(float((after - before).norm() / before.norm()))
    measured = dependence(module, images, targets, clipping)
    assert measured["share_rest_changed_agc"] == pytest.approx(max(changes), rel=1e-3)
    assert measured["share_rest_changed_no_agc"] < ROUNDING
    assert measured["clipped_units"] == 1
    # a clip that clips no unit couples nothing
    measured = dependence(module, images, targets, 1e9)
    assert measured["clipped_units"] == 0
    assert measured["share_rest_changed_agc"] < ROUNDING


SENTENCES = (
    "In training an image's output ",
    "Evaluation gives an image ",
    "Without AGC an image's share of the update ",
    "With AGC an image's share of the update ",
)


@pytest.mark.parametrize(
    ("model", "changes"), [("tiny-nfnet-s", [False, False, False, True]), ("tiny-resnet-s", [True] * 3)]
)
def test_sentences_say_what_is_so_by_construction(
    model: str, changes: list[bool], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "dependence_of", functools.cache(dependence_of))
    args = ("models", model, "--dependence", "--batch", 2, "--format")
    (raw,) = json.loads(cli(*args, "json").stdout)
    assert (raw["batch"], raw["px"], raw.get("clipping")) == (2, 32, 0.01 if model == "tiny-nfnet-s" else None)
    screen = cli(*args, "rich")
    table, _, sentences = screen.stdout.rpartition("\n\n")
    assert "output of an image: the rest of its batch changed" in table
    for line, start, change in zip(sentences.splitlines(), SENTENCES, changes, strict=False):
        assert line.startswith(start)
        assert ("not depend" not in line and "the same" not in line) == change
        assert line.endswith(", which is rounding.") != change
    assert len(sentences.splitlines()) == len(changes)
    assert screen.stderr == "Changes are relative to what changes: 0.01 is 1 %. Rounding is what 0 looks like here.\n"


def test_the_same_seed_gives_the_same_figures_and_another_seed_others(cli: Cli) -> None:
    args = ("models", "tiny-resnet-s", "--dependence", "--batch", 2, "--format", "csv", "--seed")
    assert cli(*args, 1).stdout == cli(*args, 1).stdout != cli(*args, 2).stdout


def test_a_timm_net_and_ones_own_are_measured(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\n"
        "def silent(num_classes):\n"
        "    head = nn.Linear(3, num_classes)\n"
        "    nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)\n"
        "def fixed(num_classes):\n"
        "    return nn.Sequential(nn.MaxPool2d(56), nn.Flatten(), nn.Linear(3 * 4**2, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli("models", "timm:test_vit", "--dependence", "--batch", 2, "--agc", "none").exit_code == 0
    (row,) = json.loads(cli("models", "own_nets:fixed", "--dependence", "--batch", 2, "--format", "json").stdout)
    assert row["px"] == 224
    silent = cli("models", "own_nets:silent", "--dependence")
    assert (silent.exit_code, silent.stderr) == (
        1,
        "own_nets:silent gives no logits to compare for 8 images of 64 px.\n"
        "Of shape (8, 1000), their norms run from 0 to 0.\n"
        "Try: another --px, or a net whose last layer is not zero throughout\n",
    )
    fixed = cli("models", "own_nets:fixed", "--dependence", "--px", 56)
    assert fixed.exit_code == 1
    assert fixed.stderr.startswith("own_nets:fixed does not run on 8 images of 56 px.\nRuntimeError: ")


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        ("--dependence", "--dependence needs the NAME of a net.\nIt runs that net; "),
        ("tiny-nfnet-s --px 32", "--px 32 needs --dependence.\nNothing else here runs a net.\nTry: nfbench models "),
        ("tiny-nfnet-s --dependence --batch 1", "--batch 1 has no rest for an image to depend on.\nTry: --batch 8\n"),
    ],
)
def test_what_cannot_be_measured_is_answered_in_words(cli: Cli, args: str, answer: str) -> None:
    done = cli("models", *args.split())
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(answer)
