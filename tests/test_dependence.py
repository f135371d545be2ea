"""An NF net's images do not see each other, a BN net's do, and AGC couples those of a unit that it clips."""

from __future__ import annotations

import functools
import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Cli
from timm.layers.drop import drop_path
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from nfbench.catalog.models import find
from nfbench.errors import UnsupportedWorkload
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
    assert measured["share_rest_changed_no_agc"] < ROUNDING


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
    assert "change of an image's output when the rest of its batch changes" in table
    for line, start, change in zip(sentences.splitlines(), SENTENCES, changes, strict=False):
        assert line.startswith(start)
        assert ("not depend" not in line and "the same" not in line) == change
        assert line.endswith(", which is rounding.") != change
    assert len(sentences.splitlines()) == len(changes)
    assert screen.stderr == "Changes are relative: 0.01 is 1 %. A change as small as that by rounding is none.\n"


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


class Drawing(nn.Module):
    """A net that draws in its forward: ``draw`` changes the features (N, 8, 15, 15) of the images."""

    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.convolution, self.draw, self.head = nn.Conv2d(3, 8, 3, stride=2), draw, nn.Linear(8, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.draw(self.convolution(x)).mean((2, 3)))


def attention(make: Callable[[], nn.Module]) -> Callable[[Tensor], Tensor]:
    layer = make()

    def draw(x: Tensor) -> Tensor:
        out = layer(x.flatten(2).transpose(1, 2))
        return (out[0] if isinstance(out, tuple) else out).transpose(1, 2)[..., None]

    return draw


class Held(nn.Module):
    """Calls ``draw`` with itself, which holds something that changes."""

    def __init__(self, of: Any, draw: Callable[[Held, Tensor], Tensor]) -> None:
        super().__init__()
        self.of, self.draw = of, draw

    def forward(self, x: Tensor) -> Tensor:
        return self.draw(self, x)


def counted(held: Held, x: Tensor) -> Tensor:
    held.of += 1
    return x * held.of


def grown(held: Held, x: Tensor) -> Tensor:
    with torch.no_grad():
        held.of *= 1.1
    return x * held.of


PRIVATE = torch.Generator().manual_seed(1)
DRAWS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "attention": lambda: attention(lambda: nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)),
    "sdpa": lambda: lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
    "lstm": lambda: attention(lambda: nn.LSTM(8, 8, 2, dropout=0.5, batch_first=True)),
    "gru": lambda: attention(lambda: nn.GRU(8, 8, 2, dropout=0.5, batch_first=True)),
    "dropout": lambda: lambda x: torch.dropout(x, 0.5, True),
    "dropout2d": lambda: lambda x: F.dropout2d(x, 0.5, True),
    "alpha_dropout": lambda: lambda x: F.alpha_dropout(x, 0.5, True),
    "native_dropout": lambda: lambda x: x * torch.native_dropout(torch.ones_like(x), 0.5, False)[0],
    "stochastic_depth": lambda: lambda x: x + stochastic_depth(x, 0.5, "row"),
    "drop_path": lambda: lambda x: x + drop_path(x, 0.5, True),
    "rrelu": lambda: nn.RReLU(),
    "rrelu_": lambda: lambda x: F.rrelu_(x.clone(), 0.1, 0.3, True),
    "fractional": lambda: nn.FractionalMaxPool2d(3, output_size=4),
    "noise": lambda: lambda x: x + torch.randn_like(x),
    "normal_": lambda: lambda x: x + torch.empty_like(x).normal_(1, 2),
    "rand": lambda: lambda x: x * torch.rand(len(x), 1, 1, 1),
    "private": lambda: lambda x: x * torch.rand(x.shape, generator=PRIVATE),
    "mixup": lambda: lambda x: x + x[torch.randperm(len(x))],
    "choice": lambda: lambda x: x[..., torch.randint(3, 9, (1,))],
    "gumbel": lambda: lambda x: x * F.gumbel_softmax(x.flatten(1), hard=True).view_as(x),
    "gamma": lambda: lambda x: x * torch.distributions.Gamma(torch.ones(len(x), 1, 1, 1), 2.0).sample(),
    "beta": lambda: lambda x: x * torch.distributions.Beta(torch.ones(len(x), 1, 1, 1), 2.0).sample(),
    "multinomial": lambda: (
        lambda x: x * torch.multinomial(torch.tensor([[0.2, 0.7]]).repeat(len(x), 1), 1)[..., None, None]
    ),
    "categorical": lambda: lambda x: x + torch.distributions.Categorical(logits=torch.ones(len(x), 4)).sample().sum(),
    "choices": lambda: lambda x: x + torch.multinomial(x.mean((2, 3)).softmax(1), 8, True)[..., None, None],
    "random_": lambda: lambda x: x + torch.empty_like(x).random_(1, 9),
    "poisson": lambda: lambda x: x + torch.poisson(torch.ones_like(x)),
    "python": lambda: lambda x: x * random.uniform(0.5, 1),
    "numpy": lambda: lambda x: x * float(np.random.uniform(0.5, 1)),
    "private numpy": lambda: Held(np.random.default_rng(0), lambda held, x: x * float(held.of.uniform(0.5, 1))),
    "private python": lambda: Held(random.Random(0), lambda held, x: x * held.of.uniform(0.5, 1)),
    "counter": lambda: Held(0, counted),
    "lock": lambda: Held(threading.Lock(), lambda held, x: x),
}


@pytest.mark.parametrize("name", DRAWS)
def test_what_a_net_draws_is_no_dependence_whoever_draws_it(name: str) -> None:
    torch.manual_seed(0)
    net = Drawing(DRAWS[name]())
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    measured = dependence(net, *inputs(batch=2), 0.01)
    for figure in [*BATCH_MATTERS, *LEVELS]:
        assert measured[figure] < ROUNDING, figure
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_a_mask_of_any_type_keeps_what_it_would_most_likely_keep(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = Drawing(lambda x: x * torch.empty(x.shape, dtype=dtype).bernoulli_(0.5))
    plain = Drawing(lambda x: 0.5 * x if dtype.is_floating_point else x)
    plain.load_state_dict(net.state_dict())
    drawn, wanted = (dependence(n, *inputs(batch=2), 0.01) for n in (net, plain))
    assert drawn == wanted


def test_a_frozen_parameter_that_moves_in_each_forward_is_no_dependence() -> None:
    net = Drawing(Held(nn.Parameter(torch.ones(1), requires_grad=False), grown))
    measured = dependence(net, *inputs(batch=2), 0.01)
    assert measured["output_rest_changed"] < ROUNDING and measured["share_rest_changed_no_agc"] < ROUNDING
    assert float(net.draw.of) == 1


def test_what_a_net_keeps_for_itself_stays_as_it_was() -> None:
    net = Drawing(Held(0, counted))
    dependence(net, *inputs(batch=2), None)
    assert net.draw.of == 0


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_what_moves_in_each_forward_is_no_dependence(norm: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    net = OneUnit()
    norm(net.unit), norm(net.head)
    buffers = [b.clone() for b in net.buffers()]
    measured = dependence(net, *inputs(px=4), None)
    for figure in [*BATCH_MATTERS, *LEVELS]:
        assert measured[figure] < ROUNDING, figure
    assert all(map(torch.equal, net.buffers(), buffers))


class Embedded(nn.Module):
    """A net with sparse gradients, a parameter that nothing uses, and an empty one."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(3, 6, sparse=True), nn.Linear(6, 1000)
        self.unused, self.empty = nn.Linear(2, 2), nn.Parameter(torch.zeros(0, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.table((x[:, 0, 0, 0] > 0).long()) * x.mean((1, 2, 3))[:, None])


def test_sparse_gradients_and_what_nothing_uses_are_taken() -> None:
    measured = figures(Embedded)
    assert measured["output_rest_changed"] < ROUNDING and measured["share_rest_changed_no_agc"] < ROUNDING


def test_a_net_of_which_nothing_is_clipped_or_trained() -> None:
    net = OneUnit()
    net.unit.requires_grad_(False)
    assert "clipping" not in dependence(net, *inputs(px=4), 0.01)
    with pytest.raises(UnsupportedWorkload, match="OneUnit has no parameter that trains"):
        dependence(net.requires_grad_(False), *inputs(px=4), None)


def test_of_several_outputs_the_main_one_is_measured() -> None:
    class Pair(OneUnit):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"features": x.flatten(1), "logits": super().forward(x)}

    assert dependence(Pair(), *inputs(px=4), None)["output_rest_changed"] < ROUNDING


@pytest.mark.parametrize("when", ["training", "evaluation"])
def test_whatever_a_net_raises_is_answered_in_words(when: str) -> None:
    class Broken(OneUnit):
        def forward(self, x: Tensor) -> Tensor:
            if self.training == (when == "training"):
                raise KeyError("scale")
            return super().forward(x)

    with pytest.raises(UnsupportedWorkload, match=r"Broken does not run on 4 images of 4 px\.\nKeyError: 'scale'"):
        dependence(Broken(), *inputs(px=4), None)


def test_no_generator_of_a_gpu_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    dependence_of(find("tiny-nfnet-s"), batch=2, px=32)
    assert not seeds
