"""Nets as people bring them: tensors of any side, several outputs, weights that are computed, states that move."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from make import asked_and_settled
from torch import Tensor, nn

from nfbench.devices.cpu import Cpu
from nfbench.errors import UnsupportedWorkload
from nfbench.learning.evaluate import evaluate
from nfbench.learning.trainer import LearningStep
from nfbench.nets.build import build
from nfbench.nets.flops import count
from nfbench.nets.optimizer import build_optimizer
from nfbench.nets.outputs import heads
from nfbench.nets.train_step import TrainStep
from nfbench.records import StepTime

BATCH, PX, CLASSES = 4, 8, 5


def nothing() -> None:
    return None


def step_of(net: nn.Module, kind: type[TrainStep] = TrainStep, layout: Any = "nhwc", **settings: Any) -> Any:
    workload, resolved = asked_and_settled(BATCH, PX, **settings)
    optimizer = build_optimizer(net, "sgd", "nfnet", 0.05)
    step = kind(net, optimizer, workload, resolved, device=torch.device("cpu"), classes=CLASSES, seed=0)
    step.arrange(layout, 2)
    return step


def small(make: Callable[[nn.Module], nn.Module] = lambda m: m) -> nn.Sequential:
    return nn.Sequential(
        make(nn.Conv2d(3, 6, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), make(nn.Linear(6, CLASSES))
    )


class Conv3d(nn.Module):
    """A net with weights of five, four, two and no dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv3d(4, 6, 3, padding=1)
        self.head, self.scale = nn.Linear(6, CLASSES), nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.scale * self.deep(self.flat(x).unflatten(1, (4, 2))).mean((2, 3, 4)))


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9}, {"sam": 0.05}])
def test_tensors_of_four_dimensions_are_laid_out_and_others_stay(settings: dict[str, Any]) -> None:
    step = step_of(Conv3d(), clipping=0.01, **settings)
    assert step.net.flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert step.net.deep.weight.is_contiguous()
    step.update(nothing, 2)
    assert torch.isfinite(step.loss)
    step.arrange("nchw", 2)
    assert step.net.flat.weight.is_contiguous()


Two = namedtuple("Two", ["logits", "aux_logits2", "aux_logits1"])


@dataclasses.dataclass
class Fields:
    features: Tensor
    logits: Tensor
    aux: Tensor | None = None


class Several(nn.Module):
    """A net whose outputs ``pack`` makes of features and three heads' logits; a tensor alone in evaluation."""

    def __init__(self, pack: Callable[..., Any], columns: int = CLASSES) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3)
        self.heads = nn.ModuleList(nn.Linear(6, columns) for _ in range(3))
        self.pack = pack

    def forward(self, x: Tensor) -> Any:
        features = self.body(x).mean((2, 3))
        return self.pack(features, *(head(features) for head in self.heads))


@pytest.mark.parametrize(
    ("pack", "weights", "note"),
    [
        (lambda f, a, b, c: Two(a, b, c), (1, 0.3, 0.3), "of logits + 0.3 · aux_logits2 + 0.3 · aux_logits1"),
        (lambda f, a, b, c: OrderedDict(out=a, aux=b), (1, 0.4, 0), "of out + 0.4 · aux"),
        (lambda f, a, b, c: {"AuxLogits": b, "Logits": a}, (1, 0.4, 0), "of Logits + 0.4 · AuxLogits"),
        (lambda f, a, b, c: SimpleNamespace(loss=None, logits=a, f=f), (1, 0, 0), "of logits; not trained on: f"),
        (lambda f, a, b, c: Fields(f, a, b), (1, 0.4, 0), "of logits + 0.4 · aux; not trained on: features"),
        (lambda f, a, b, c: Fields(f, a), (1, 0, 0), "of logits; not trained on: features"),
        (lambda f, a, b, c: (a, [b, f]), (1, 0, 0), "of 0; not trained on: 1.0, 1.1"),
        (lambda f, a, b, c: {"hidden": (f,), "logits": a}, (1, 0, 0), "of logits; not trained on: hidden.0"),
        (lambda f, a, b, c: a, (1, 0, 0), None),
    ],
)
@pytest.mark.parametrize("kind", [TrainStep, LearningStep])
def test_the_loss_is_of_the_main_output_and_of_auxiliary_heads(
    kind: type[TrainStep], pack: Callable[..., Any], weights: tuple[float, ...], note: str | None
) -> None:
    torch.manual_seed(0)
    step = step_of(Several(pack), kind)
    images, targets = step.inputs[0], step.targets[0]
    features = step.net.body(images).mean((2, 3))
    wanted = sum(
        weight * F.cross_entropy(head(features), targets, label_smoothing=0.1)
        for weight, head in zip(weights, step.net.heads, strict=True)
    )
    step.update(nothing, 1)
    torch.testing.assert_close(step.loss, wanted.detach())
    assert step.notes.get("loss") == note
    scores = evaluate(step.net, [(images, targets)], "fp32", classes=CLASSES)
    assert scores.loss == pytest.approx(float(F.cross_entropy(pack_main(step.net, images), targets)))


def pack_main(net: Several, images: Tensor) -> Tensor:
    return net.heads[0](net.body(images).mean((2, 3))).detach()


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Several(lambda f, a, b, c: a, columns=3), r"no logits of shape \(2, 5\) to train on.*output \(2, 3\)"),
        (Several(lambda f, a, b, c: (f[0], "a")), r"no logits of shape \(2, 5\).*It returned 0 \(6,\)"),
        (Several(lambda f, a, b, c: torch.complex(a, b)), r"output \(2, 5\) of complex64"),
        (Several(lambda f, a, b, c: None), "no logits .* It returned NoneType"),
        (Several(lambda f, a, b, c: a.detach()), "depends on no parameter that trains"),
    ],
)
def test_what_is_no_output_that_can_be_trained_is_refused_in_words(net: nn.Module, message: str) -> None:
    step = step_of(net)
    with pytest.raises(UnsupportedWorkload) as refused:
        step.update(nothing, 1)
    assert re.search(message, str(refused.value).replace("\n", " "))


def test_an_exact_number_of_columns_goes_before_more() -> None:
    wide, exact = torch.zeros(2, 9, requires_grad=True), torch.zeros(2, 5, requires_grad=True)
    assert heads((wide, exact), images=2, classes=5, name="net").main is exact
    assert heads((wide,), images=2, classes=5, name="net").main is wide


OLD_AND_NEW = [
    nn.utils.weight_norm,
    nn.utils.spectral_norm,
    nn.utils.parametrizations.weight_norm,
    nn.utils.parametrizations.spectral_norm,
]


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("make", OLD_AND_NEW)
def test_the_average_is_of_what_trains_and_unit_vectors_are_copied(make: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    net = small(make)
    net.insert(1, nn.BatchNorm2d(6))
    step = step_of(net, ema=0.9, clipping=None)
    weights = [p.detach().clone() for p in net.parameters()]
    mean = net[1].running_mean.clone()
    for t in range(3):
        step.update(nothing, 2)
        keep = min(0.9, (1 + t) / (10 + t))
        weights = [keep * a + (1 - keep) * p.detach() for a, p in zip(weights, net.parameters(), strict=True)]
        mean = keep * mean + (1 - keep) * net[1].running_mean
    for got, wanted in zip(step.ema.module.parameters(), weights, strict=True):
        torch.testing.assert_close(got.detach(), wanted)
    torch.testing.assert_close(step.ema.module[1].running_mean, mean)
    for (name, got), (_, live) in zip(step.ema.module.named_buffers(), net.named_buffers(), strict=True):
        if "running" not in name:
            assert torch.equal(got, live), name
    assert not step.ema.module.training and step.ema.module(step.inputs[0]).shape == (2, CLASSES)


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.filter, self.head = (
            nn.Parameter(torch.randn(3, PX, PX // 2 + 1, dtype=torch.cfloat)),
            nn.Linear(3, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.fft.irfft2(torch.fft.rfft2(x) * self.filter, s=(PX, PX)).abs().mean((2, 3)))


class Functional(nn.Module):
    """Takes a gradient in forward by torch.func."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x).mean((2, 3))
        slopes = torch.func.grad(lambda rows: self.head(rows).tanh().sum())(x)
        return self.head(x + slopes)  # type: ignore[no-any-return]


def test_a_net_that_takes_gradients_by_torch_func_trains_and_its_saved_bytes_are_not_counted() -> None:
    step = step_of(Functional())
    step.update(nothing, 1)
    names = {reading.name for reading in step.inspect(True)}
    assert "operators" in names and "saved_bytes" not in names
    assert "torch.func" in step.notes["saved_bytes"]


class Uncopied(nn.Module):
    """Holds a lock and an iterator, a buffer that grows, and one whose elements share their memory."""

    def __init__(self) -> None:
        super().__init__()
        self.lock, self.numbers = threading.Lock(), (n for n in range(9))
        self.register_buffer("seen", torch.zeros(0))
        self.register_buffer("ones", torch.ones(1).expand(3))
        self.net = Several(lambda f, a, b, c: a)

    def forward(self, x: Tensor) -> Any:
        with self.lock:
            self.seen = torch.cat([self.seen, x.detach().mean()[None]])
        return self.net(x * self.ones[:, None, None])


def test_a_net_that_cannot_be_copied_whole_has_an_average() -> None:
    step = step_of(Uncopied(), ema=0.9)
    for _ in range(2):
        step.update(nothing, 1)
    average = step.ema.module
    assert average.lock is step.net.lock and average.numbers is step.net.numbers
    assert len(average.seen) == 2 and torch.equal(average.seen, step.net.seen)
    assert torch.equal(average.ones, torch.ones(3))
    for mean, p in zip(average.parameters(), step.net.parameters(), strict=True):
        assert mean is not p and (p.requires_grad or torch.equal(mean, p))


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9, "sam": 0.05}])
def test_complex_parameters_train(settings: dict[str, Any]) -> None:
    step = step_of(Complex(), clipping=None, **settings)
    assert not step.optimizer.defaults["fused"]
    before = step.net.filter.detach().clone()
    step.update(nothing, 2)
    assert not torch.equal(step.net.filter, before) and torch.isfinite(torch.view_as_real(step.net.filter)).all()


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(3, 6, sparse=True), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.table((x[:, 0, 0, 0] > 0).long()))


@pytest.mark.parametrize("sam", ["none", 0.05])
def test_sparse_gradients_are_refused_in_words(sam: Any) -> None:
    with pytest.raises(UnsupportedWorkload, match="has sparse gradients"):
        step_of(Sparse(), clipping=None, sam=sam).update(nothing, 1)


def test_a_net_of_which_nothing_trains_is_refused_in_words() -> None:
    with pytest.raises(UnsupportedWorkload, match="no parameter that trains"):
        step_of(small().requires_grad_(False))


def test_what_is_frozen_unused_or_empty_does_not_hinder_a_step() -> None:
    net = small()
    net[0].requires_grad_(False)
    net.register_parameter("unused", nn.Parameter(torch.ones(3)))
    net.register_parameter("empty", nn.Parameter(torch.zeros(0, 4)))
    step = step_of(net, clipping=None, ema=0.9, sam=0.05)
    frozen, trained = net[0].weight.clone(), net[4].weight.detach().clone()
    step.update(nothing, 2)
    assert torch.equal(net[0].weight, frozen) and not torch.equal(net[4].weight, trained)


@pytest.mark.parametrize("norm", ["auto", "group"])
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_lazy_layers_get_their_sizes_at_the_px_of_the_run(
    norm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lazy_nets.py").write_text(
        "from torch import nn\n"
        "def lazy(num_classes):\n"
        "    norm, head = nn.LazyBatchNorm2d(), nn.LazyLinear(num_classes)\n"
        "    return nn.Sequential(nn.LazyConv2d(4, 3), norm, nn.ReLU(), nn.Flatten(), head)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for device in ("cpu", "meta"):
        net = build("lazy_nets:lazy", num_classes=CLASSES, device=device, norm=norm, px=PX)
        assert net.get_parameter("4.weight").shape == (CLASSES, 4 * (PX - 2) ** 2) and net.training
    with pytest.raises(UnsupportedWorkload, match="lazy layers of lazy_nets:lazy get no sizes at 2 px"):
        build("lazy_nets:lazy", px=2)
    device = Cpu()
    workload = StepTime(model="lazy_nets:lazy", batch=2, micro_batch=2, px=PX, layout="nchw", norm=norm)  # type: ignore[arg-type]
    steps = device.build(workload, device.resolve(workload), seed=0)
    steps.update(nothing, 1)
    assert steps.finite()


def test_of_a_net_of_which_nothing_trains_forward_alone_is_counted() -> None:
    counts = count(small().requires_grad_(False), PX, train=True)
    assert counts.train_macs == counts.macs > 0


@pytest.mark.parametrize("scope", ["batch", "micro-batch"])
@pytest.mark.parametrize("make", OLD_AND_NEW[1::2])
def test_an_ascent_leaves_every_buffer_as_it_was(make: Callable[[nn.Module], nn.Module], scope: Any) -> None:
    net = small(make)
    net.insert(1, nn.BatchNorm2d(6))
    net.insert(2, nn.InstanceNorm2d(6, track_running_stats=True))
    step = step_of(net, clipping=None, sam=0.05, sam_scope=scope)
    for _ in range(2):
        before = [b.clone() for b in net.buffers()]
        step._ascent_gradient(0, 2)
        assert all(map(torch.equal, net.buffers(), before))
    # only what an ascent would move is copied
    assert len(step.sam.moving) < len(before)
    step.update(nothing, 2)
    assert not any(map(torch.equal, net[1].buffers(), [torch.zeros(6), torch.ones(6), torch.tensor(0)]))
