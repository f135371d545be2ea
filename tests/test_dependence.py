"""An NF net's images do not see each other, a BN net's do, and AGC couples those of a unit that it clips."""

from __future__ import annotations

import copy
import csv
import functools
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import Cli
from torch import Tensor, nn

from nfbench.nets import dependence as measuring
from nfbench.nets.build import awaken, build
from nfbench.nets.dependence import dependence, dependence_of

ROUNDING = 1e-5
OUTPUT, SHARE, GRADIENT = "output of an image", "share of the update", "gradient"


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    module = build(name)
    awaken(module)
    return module


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


def figures(module: nn.Module, clipping: float | None = None, **size: int) -> dict[tuple[str, str], Any]:
    return {(row["about"], row["what"]): row["value"] for row in dependence(module, *inputs(**size), clipping)}


measured = functools.cache(dependence_of)


@pytest.fixture
def measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One measurement for all commands that ask for the same; only what is shown of it differs."""
    monkeypatch.setattr(measuring, "dependence_of", measured)


@pytest.fixture(scope="module")
def nf() -> dict[tuple[str, str], Any]:
    return figures(built("tiny-nfnet"), 0.01)


@pytest.fixture(scope="module")
def bn() -> dict[tuple[str, str], Any]:
    return figures(built("tiny-resnet"))


@pytest.fixture(scope="module")
def grouped() -> dict[tuple[str, str], Any]:
    torch.manual_seed(0)
    return figures(Grouped())


BATCH_MATTERS = [
    (OUTPUT, "rest changed"),
    (OUTPUT, "evaluation, own statistics"),
    (OUTPUT, "evaluation, others'"),
    (SHARE, "rest changed, no AGC"),
    (GRADIENT, "2 micro-batches"),
]
ALONE = [(OUTPUT, "batch of one"), (GRADIENT, "4 micro-batches")]
LEVELS = [(OUTPUT, "rounding"), (SHARE, "rounding, no AGC"), (GRADIENT, "rounding")]


@pytest.mark.parametrize("kind", ["nf", "grouped"])
def test_without_batch_statistics_nothing_depends_on_the_batch_beyond_rounding(
    kind: str, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(kind)
    for key in [*BATCH_MATTERS, *ALONE, *LEVELS]:
        assert 0 <= found[key] < ROUNDING, key


def test_with_batch_statistics_everything_depends_on_the_batch_far_beyond_rounding(
    bn: dict[tuple[str, str], Any],
) -> None:
    level = max(bn[key] for key in LEVELS)
    assert level < ROUNDING
    for key in BATCH_MATTERS:
        assert bn[key] > 0.01 > 1000 * level, key


def test_statistics_of_other_images_are_worse_than_those_of_the_batch_itself(bn: dict[tuple[str, str], Any]) -> None:
    assert bn[OUTPUT, "evaluation, others'"] > bn[OUTPUT, "evaluation, own statistics"]


def test_a_batch_of_one_that_batch_normalization_refuses_is_a_cell_that_says_so(bn: dict[tuple[str, str], Any]) -> None:
    for key in [*ALONE, (OUTPUT, "batch of one, rounding")]:
        assert bn[key].startswith("refused: Expected more than 1 value per channel when training"), key
        assert "\n" not in bn[key]


def test_a_batch_of_one_that_batch_normalization_takes_is_another_output() -> None:
    found = figures(built("tiny-resnet"), batch=2, px=64)
    assert found[OUTPUT, "batch of one"] > 0.01
    assert found[GRADIENT, "2 micro-batches"] > 0.01


def test_agc_couples_the_images_of_an_nf_net_once_units_are_clipped(nf: dict[tuple[str, str], Any]) -> None:
    assert 0 < nf[SHARE, "clipped units"] < 1
    assert nf[SHARE, "rest changed, AGC"] > 0.01
    assert nf[SHARE, "rounding, AGC"] < ROUNDING


@pytest.mark.parametrize(("name", "batch"), [("tiny-nf-resnet", 2), ("tiny-efficientnet", 4)])
def test_a_clip_that_clips_no_unit_couples_nothing(name: str, batch: int) -> None:
    found = figures(built(name), 1e9, batch=batch)
    assert found[SHARE, "clipped units"] == 0
    assert found[SHARE, "rest changed, AGC"] == pytest.approx(found[SHARE, "rest changed, no AGC"], rel=1e-3, abs=1e-4)


def test_without_a_clip_there_are_no_figures_of_one(bn: dict[tuple[str, str], Any]) -> None:
    assert [what for about, what in bn if about == SHARE] == ["rest changed, no AGC", "rounding, no AGC"]


def test_a_share_is_the_clipped_gradient_less_the_clipped_gradient_without_that_image() -> None:
    torch.manual_seed(0)
    module, clipping = OneUnit(), 0.01
    images, targets = inputs(batch=2, px=4)
    weight = module.unit.weight

    def clip(g: Tensor) -> Tensor:
        return g * min(1.0, clipping * float(weight.detach().norm() / g.norm()))

    def shares(x: Tensor, y: Tensor, i: int) -> Tensor:
        terms = F.cross_entropy(module(x), y, reduction="none", label_smoothing=0.1) / 2
        whole, own = (torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in (terms.sum(), terms[i]))
        assert whole.norm() > clipping * weight.norm()
        return clip(whole) - clip(whole - own)

    changes = []
    for i in range(2):
        x, y = images[2:].clone(), targets[2:].clone()
        x[i], y[i] = images[i], targets[i]
        before, after = shares(images[:2], targets[:2], i), shares(x, y, i)
        changes.append(float((after - before).norm() / before.norm()))
    found = figures(module, clipping, batch=2, px=4)
    assert found[SHARE, "rest changed, AGC"] == pytest.approx(max(changes), rel=1e-3)
    assert found[SHARE, "rest changed, no AGC"] < ROUNDING
    assert found[SHARE, "clipped units"] == 1


def test_the_micro_batches_of_an_odd_batch_add_up_too() -> None:
    found = figures(built("tiny-nf-resnet"), batch=3)
    assert found[GRADIENT, "2 micro-batches"] < ROUNDING > found[GRADIENT, "3 micro-batches"]


def test_the_module_is_left_as_it_was_found() -> None:
    module = built("tiny-resnet").eval()
    next(module.modules()).training = True
    first = next(module.parameters())
    first.grad = given = torch.ones_like(first)
    norm = next(m for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    modes, momentum = [m.training for m in module.modules()], norm.momentum
    state = copy.deepcopy(module.state_dict())
    dependence(module, *inputs(batch=2), 0.01)
    assert [m.training for m in module.modules()] == modes
    assert norm.momentum == momentum
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert first.grad is given and bool((given == 1).all())
    assert all(p.grad is None for p in module.parameters() if p is not first)


def test_the_same_seed_gives_the_same_figures_and_another_seed_others(cli: Cli) -> None:
    args = ("models", "tiny-efficientnet", "--dependence", "--batch", 2, "--format", "csv", "--seed")
    assert cli(*args, 1).stdout == cli(*args, 1).stdout != cli(*args, 2).stdout


@pytest.mark.usefixtures("measured_once")
def test_json_and_csv_hold_raw_values_and_the_screen_rounded_ones(cli: Cli) -> None:
    args = ("models", "Tiny_NFNet", "--dependence", "--batch", 2, "--format")
    raw = {(row["about"], row["what"]): row.get("value") for row in json.loads(cli(*args, "json").stdout)}
    table = {(row["about"], row["what"]): row["value"] for row in csv.DictReader(io.StringIO(cli(*args, "csv").stdout))}
    assert {key: float(value) for key, value in table.items()} == raw
    assert (raw["measured with", "batch"], raw["measured with", "px"], raw["measured with", "AGC λ"]) == (2, 32, 0.01)
    screen = cli(*args, "rich")
    assert screen.stdout.splitlines()[0] == "tiny-nfnet"
    assert f"{raw[SHARE, 'rest changed, AGC']:.3g} " in screen.stdout
    assert screen.stderr == "Changes are relative to what changes: 0.01 is 1 %. Rounding is what 0 looks like here.\n"


REST = "depends on the rest of its batch: it changes by "
NO_REST = "does not depend on the rest of its batch: it changes by "


@pytest.mark.usefixtures("measured_once")
@pytest.mark.parametrize("format", ["rich", "md"])
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            "tiny-nfnet",
            [
                f"In training an image's output {NO_REST}",
                "Evaluation gives an image the same output as training: it changes by ",
                f"Without AGC an image's share of the update {NO_REST}",
                f"With AGC an image's share of the update {REST}",
            ],
        ),
        (
            "tiny-resnet",
            [
                f"In training an image's output {REST}",
                "Evaluation gives an image another output than training: it changes by ",
                f"Without AGC an image's share of the update {REST}",
            ],
        ),
    ],
)
def test_the_claims_that_are_true_by_construction_are_said_in_sentences(
    model: str, expected: list[str], format: str, cli: Cli
) -> None:
    lines = cli("models", model, "--dependence", "--batch", 2, "--format", format).stdout.split("\n\n")[-1].splitlines()
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start)
        assert line.endswith(", which is rounding.") == ("not depend" in start or "the same" in start)


@pytest.mark.usefixtures("measured_once")
def test_a_refusal_is_short_on_the_screen_and_whole_in_csv(cli: Cli) -> None:
    args = ("models", "tiny-resnet", "--dependence", "--batch", 2, "--format")
    assert "refused: Expected more than 1 value per channel when training |" in cli(*args, "md").stdout
    assert '"refused: Expected more than 1 value per channel when training, got input size' in cli(*args, "csv").stdout


@pytest.mark.usefixtures("measured_once")
def test_agc_auto_clips_nets_without_normalization_alone_and_agc_none_nothing(cli: Cli) -> None:
    def clipping(*args: object) -> Any:
        rows = json.loads(cli("models", *args, "--dependence", "--batch", 2, "--format", "json").stdout)
        return next(row.get("value") for row in rows if row["what"] == "AGC λ")

    assert (clipping("tiny-nfnet"), clipping("tiny-nfnet", "--agc", "none")) == (0.01, None)
    assert (clipping("tiny-resnet"), clipping("tiny-resnet", "--agc", 0.1)) == (None, 0.1)


def test_a_timm_net_and_a_factory_of_one_s_own_are_measured(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert cli("models", "timm:test_vit", "--dependence", "--batch", 2).exit_code == 0
    assert "224 " in cli("models", "own_nets:fixed", "--dependence", "--batch", 2).stdout
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
    assert fixed.stderr.endswith("Try: another --px, or a net that returns one tensor of logits, for 1000 classes\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["--dependence"],
            "--dependence needs the NAME of a net.\n"
            "It runs that net; `nfbench models` lists them.\n"
            "Try: nfbench models nfnet-f0 --dependence\n",
        ),
        (
            ["tiny-nfnet", "--px", "32", "--batch", "4"],
            "--px 32 needs --dependence.\n"
            "Nothing else here runs a net.\n"
            "Try: nfbench models tiny-nfnet --dependence --px 32 --batch 4\n",
        ),
        (
            ["tiny-nfnet", "--dependence", "--batch", "1"],
            "--batch 1 has no rest for an image to depend on.\nTry: --batch 8\n",
        ),
        (["tiny-nfnet", "--dependence", "--px", "0"], "--px 0 is not positive.\nTry: --px 64\n"),
        (
            ["tiny-nfnet", "--dependence", "--agc", "-1"],
            "--agc -1 is not positive.\nTry: --agc 0.01, or --agc none not to clip\n",
        ),
    ],
)
def test_what_cannot_be_measured_is_answered_in_words(cli: Cli, args: list[str], said: str) -> None:
    done = cli("models", *args)
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", said)


def test_the_help_fits_a_terminal_of_24_lines_and_80_columns(cli: Cli) -> None:
    lines = cli("models", "--help").stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
