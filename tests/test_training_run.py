"""A training run: to the digit on the fake device, bit for bit on the CPU."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import torch
from make import Quiet
from test_data import write
from torch import Tensor

from nfbench.analysis import findings
from nfbench.catalog.models import find
from nfbench.devices.base import Device, World
from nfbench.devices.cpu import Cpu
from nfbench.devices.fake import FakeDevice
from nfbench.errors import BadResults, Terminated
from nfbench.learning import fake_training, setup
from nfbench.learning import weights as files_of_weights
from nfbench.learning.checkpoint import Checkpoints
from nfbench.learning.fake_training import FakeLearner
from nfbench.learning.feed import Resident, Streaming
from nfbench.learning.fit import Run
from nfbench.learning.learner import Sources
from nfbench.learning.setup import Setup
from nfbench.learning.trainer import Trainer
from nfbench.nets.build import build
from nfbench.nets.flops import count_net
from nfbench.records import Accuracy, Resolved, Result, Sampling, Software, from_json, to_json

QUARTERS = 256
"""A batch of which the fake device's epoch of 1024 images has four."""


def run(
    kept: list[Result],
    device: Device | None = None,
    *,
    seed: int = 0,
    max_time: float = 1e6,
    watch: Quiet | None = None,
    folder: str | None = None,
    weights: str | None = None,
    **settings: Any,
) -> Run:
    if weights is not None:
        settings["weights"] = "file:0123456789ab"
    workload = Accuracy(**{"model": "tiny-nfnet-s", "epochs": 3, "batch": QUARTERS} | settings)
    sampling = Sampling(max_time=max_time)
    sources = Sources(checkpoint=folder, weights=weights)
    place = device or FakeDevice()
    return Run(place, workload, sampling, kept.append, seed=seed, watch=watch or Quiet(), sources=sources)


def trained(device: Device | None = None, **settings: Any) -> Result:
    kept: list[Result] = []
    assert run(kept, device, **settings).run() is kept[0] and len(kept) == 1
    assert from_json(to_json(kept[0])) == kept[0]
    return kept[0]


def values(result: Result, name: str) -> tuple[float | None, ...]:
    reading = result.reading(name)
    assert reading is not None, name
    return reading.values


class Scripted(FakeLearner):
    """Has the losses of each update and the top-1 of each epoch from its script."""

    losses: tuple[tuple[float, ...], ...]
    top1: tuple[float, ...]

    def train(self, epoch: int, until: float) -> Any:
        return super().train(epoch, until)._replace(losses=list(self.losses[epoch]))

    def scores(self) -> dict[str, float]:
        return super().scores() | {"top1": self.top1[self.epochs - 1]}


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the fake device learn by a class with the attributes given."""

    def learn(kind: type[FakeLearner], **attributes: Any) -> None:
        monkeypatch.setattr(fake_training, "FakeLearner", type(kind.__name__, (kind,), attributes))

    return learn


# on the fake device


def test_each_epoch_gives_one_value_of_each_reading_and_totals_are_read_once() -> None:
    result = trained(lr=0.04)
    assert result.status == "ok" and result.message is None
    each = {r.name: (r.unit, r.values) for r in result.readings if r.scope == "epoch"}
    losses = [math.log(10) * 2.0 ** -(update / 4) / 2 for update in range(12)]
    means = each.pop("train_loss")
    assert means[1] == pytest.approx([sum(losses[i : i + 4]) / 4 for i in (0, 4, 8)])
    assert each == {
        "top1": ("1", (0.5, 0.75, 0.875)),
        "top5": ("1", (0.75, 0.875, 0.9375)),
        "test_loss": ("1", (0.5, 0.25, 0.125)),
        "learning_rate": ("1", (0.04,) * 3),
        "gradient_norm": ("1", (1.0,) * 3),
        "clipped_gradient_norm": ("1", (0.5,) * 3),
        "clipped_units": ("1", (0.25,) * 3),
        "train_time": ("s", (1.0,) * 3),
        "data_time": ("s", (1 / 64,) * 3),
        "evaluation_time": ("s", (0.0,) * 3),
    }
    assert {r.name: r.values for r in result.readings if r.scope == "run"} == {
        "macs": (2**20,),
        "train_macs": (3 * 2**20,),
        "params": (2**10,),
        "updates": (12,),
        "images_seen": (3072,),
        "wall_time": (3.0,),
    }
    assert result.notes == {"norm": "none"}
    assert result.resolved is not None and result.resolved.training is not None
    assert (result.resolved.agc, result.resolved.training.recipe) == (0.01, "nfnet")


def test_a_net_with_batch_normalization_is_also_scored_with_the_batch_s_own_statistics() -> None:
    result = trained(model="tiny-resnet-s")
    assert values(result, "batch_top1") == (0.5 + 1 / 64, 0.75 + 1 / 64, 0.875 + 1 / 64)
    assert result.reading("clipped_units") is None
    assert trained().reading("batch_top1") is None


def test_a_loss_that_is_not_finite_ends_the_run_at_its_update_and_keeps_the_epochs_before() -> None:
    # whether it goes on from its last epoch or begins anew
    for _ in range(2):
        result = trained(agc="none", lr=0.1, epochs=9, folder="ck")
        assert (result.status, result.message) == ("diverged", "the loss of update 12 is nan")
        assert (result.value("diverged_at"), result.value("updates"), result.value("images_seen")) == (12, 12, 3072)
        assert values(result, "top1") == (0.5, 0.75)


def test_without_epochs_the_weights_are_scored_once_and_nothing_is_trained() -> None:
    device = FakeDevice()
    result = trained(device, epochs=0, weights="published")
    assert (result.status, result.value("top1"), device.clock.seconds) == ("ok", 0.0, 0.0)
    assert not any(r.scope == "epoch" for r in result.readings)


CHANCE = math.log(10)
GUESSING, GOOD, LEARNT_AND_LOST = (CHANCE,) * 4, (0.5,) * 4, (0.5, CHANCE, CHANCE, CHANCE)


@pytest.mark.parametrize(
    ("losses", "top1", "at", "message"),
    [
        (
            (GOOD, GOOD, LEARNT_AND_LOST, GUESSING, GOOD),
            (0.8, 0.9, 0.1, 0.1, 0),
            10,
            "fell back to chance at update 10: top-1 10.0 % of 10 classes",
        ),
        (((CHANCE,) * 64,) * 2, (0.1, 0.1), 1, "never left chance at update 1: top-1 10.0 % of 10 classes"),
        # a net that has had fewer than a hundred updates may merely not have begun
        (((CHANCE,) * 32,) * 2, (0.1, 0.1), None, None),
        # a BN net's running statistics can lag behind its weights: the loss still falls
        ((GOOD, GOOD, GOOD), (0.8, 0.1, 0.9), None, None),
        ((GUESSING, GUESSING, GOOD), (0.1, 0.1, 0.9), None, None),
        # guessed well before it had learnt anything
        ((GUESSING,) * 3, (0.3, 0.1, 0.1), None, None),
    ],
)
def test_a_net_that_knows_nothing_any_more_has_diverged_at_the_update_where_that_began(
    losses: tuple[tuple[float, ...], ...], top1: tuple[float, ...], at: int | None, message: str | None, learner: Any
) -> None:
    learner(Scripted, losses=losses, top1=top1)
    # a run that had diverged has still diverged when it goes on
    for _ in range(2):
        result = trained(epochs=len(losses), batch=1024 // len(losses[0]), folder="ck")
        assert (result.status, result.message) == ("ok" if at is None else "diverged", message)
        assert result.value("diverged_at") == at
        assert values(result, "top1") == (top1 if at is None else top1[: 4 if at == 10 else 2])


def test_a_test_loss_that_is_not_finite_is_absent_from_its_place_and_the_last_is_a_divergence(learner: Any) -> None:
    for epoch, status, message in ((2, "ok", None), (3, "diverged", "the test loss is not finite")):
        losses = {epoch: math.inf}
        learner(FakeLearner, scores=lambda self, losses=losses: {"top1": 0.5, "test_loss": losses.get(self.epochs, 1)})
        result = trained()
        assert values(result, "test_loss") == tuple(None if n == epoch else 1.0 for n in (1, 2, 3))
        assert (result.status, result.message) == (status, message)


def test_a_value_stands_at_its_own_epoch_where_others_lack_it(learner: Any) -> None:
    scores = FakeLearner.scores
    learner(FakeLearner, scores=lambda self: scores(self) | ({"ema_top1": 0.5} if self.epochs == 2 else {}))
    assert values(trained(), "ema_top1") == (None, 0.5, None)


def test_images_that_cannot_be_read_are_counted_and_the_first_are_named(learner: Any) -> None:
    learner(FakeLearner, unreadable=lambda self: [f"val/a/{n}.png" for n in range(7)])
    for result in (trained(), trained(epochs=0, weights="x.pt")):
        assert result.value("unreadable_images") == 7
        names = ", ".join(f"val/a/{n}.png" for n in range(5))
        assert result.notes["unreadable"] == f"{names} and 2 more"


# going on from a checkpoint, on the fake device


def test_a_run_goes_on_after_its_last_epoch_and_is_not_trained_again_once_it_is_over() -> None:
    assert trained(folder="ck", epochs=4, max_time=2.0).status == "timeout"

    class Newer(FakeDevice):
        def software(self, model: str | None = None) -> Software:
            return Software(nfbench="99.0")

    watch, device = Quiet(), Newer()
    result = trained(device, epochs=4, folder="ck", watch=watch)
    assert watch.notes == ["tiny-nfnet-s: goes on after epoch 2 of 4."]
    assert device.clock.seconds == 2.0
    assert result.readings == trained(epochs=4).readings
    # other software says how much that of its beginning had trained
    assert result.notes["resumed"] == "2 of its 4 epochs"
    (finding,) = [f for f in findings.of(result) if f.code == "resumed"]
    assert finding.message == "Other software than this row's trained 2 of its 4 epochs."
    again = trained(device, epochs=4, folder="ck")
    assert device.clock.seconds == 2.0
    assert (again.id, again.status, again.readings) == (result.id, "ok", result.readings)


def test_a_disk_that_is_full_keeps_what_there_is_and_says_so(learner: Any) -> None:
    class Full(fake_training.FakeCheckpoints):
        def write(self, content: dict[str, Any], file: Any) -> None:
            if content["epoch"] == 2:
                raise OSError(28, "No space left on device")
            super().write(content, file)

    learner(FakeLearner, checkpoints=Full)
    kept: list[Result] = []
    with pytest.raises(BadResults, match=r"Checkpoints cannot be written to ck: No space left on device\."):
        run(kept, folder="ck").run()
    assert [(r.status, values(r, "top1")) for r in kept] == [("error", (0.5, 0.75))]
    learner(FakeLearner)
    assert values(trained(folder="ck"), "top1") == (0.5, 0.75, 0.875)


# on the CPU


@pytest.fixture(scope="module", autouse=True)
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An MNIST of thirty images, which is found wherever a run begins."""
    folder = tmp_path_factory.mktemp("system")
    write(folder / "mnist")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("nfbench.learning.data.SYSTEM", folder)
        yield folder


class Unlocked(Cpu):
    def lock_name(self) -> str | None:
        return None


SMALL: dict[str, Any] = {"model": "tiny-resnet-s", "dataset": "mnist", "px": 8, "batch": 4, "epochs": 1}
"""Five updates an epoch."""
ALL = SMALL | {"epochs": 4, "ema": 0.9, "drop_path": 0.3, "drop_rate": 0.1, "mixup": 0.2, "augment": "flip"}


def held(folder: Path | str, seed: int = 0) -> dict[str, Any]:
    """What the last checkpoint holds."""
    content: dict[str, Any] = torch.load(Path(folder, f"seed-{seed}.pt"), weights_only=True)
    return content


def cpu(**settings: Any) -> Result:
    result = trained(Unlocked(), **SMALL | settings)
    assert result.status == "ok", result.message
    return result


def equal(one: Any, other: Any) -> bool:
    """Whether two checkpoints hold the same, bit for bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


TIMES = ("train_time", "data_time", "evaluation_time")


def lasting(content: dict[str, Any]) -> dict[str, Any]:
    """All of a checkpoint but its times."""
    log = {name: each for name, each in content["log"].items() if name not in TIMES}
    totals = {name: value for name, value in content["totals"].items() if name != "wall_time"}
    rest = {name: value for name, value in content.items() if name not in ("id", "start", "software")}
    return rest | {"log": log, "totals": totals}


class Whole(NamedTuple):
    """A run that nothing stopped: its folder of checkpoints, its result and what it held at its end."""

    folder: Path
    result: Result
    held: dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, few_images: Path) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    return Whole(folder, cpu(**ALL, folder=str(folder)), held(folder))


def test_a_run_that_is_stopped_ends_as_one_that_is_not(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopping(Checkpoints):
        def save(self, resolved: Resolved, state: dict[str, Any]) -> None:
            super().save(resolved, state)
            if state["epoch"] in (1, 3, 4):
                raise Terminated

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "checkpoints", Stopping)
        for done in (1, 3, 4):
            kept: list[Result] = []
            with pytest.raises(Terminated):
                run(kept, Unlocked(), folder="parts", **ALL).run()
            assert len(values(kept[0], "top1")) == done
    result, parts = cpu(**ALL, folder="parts"), held("parts")
    assert equal(lasting(whole.held), lasting(parts))
    assert not equal(parts["state_dict"], parts["state_dict_ema"])
    assert (result.id, len(values(result, "ema_top1"))) == (parts["id"], 4)


KILLED = """
from nfbench.devices.cpu import Cpu
from nfbench.learning.fit import Run
from nfbench.learning.learner import Sources
from nfbench.records import Accuracy, Sampling
class Unlocked(Cpu):
    def lock_name(self):
        return None
sources = Sources(checkpoint="killed", data_dir={data_dir!r})
Run(Unlocked(), Accuracy(**{settings!r}), Sampling(), print, sources=sources).run()
"""


def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_weights(whole: Whole, few_images: Path) -> None:
    code = KILLED.format(settings=ALL, data_dir=str(few_images))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with child:
        deadline = time.monotonic() + 120
        while not Path("killed/seed-0.pt").exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        pause = random.uniform(0, 0.4)
        time.sleep(pause)
        child.kill()
        _, errors = child.communicate()
    assert Path("killed/seed-0.pt").exists(), errors.decode()
    epoch = held("killed")["epoch"]
    cpu(**ALL, folder="killed")
    assert equal(lasting(whole.held), lasting(held("killed"))), f"after {pause} s, epoch {epoch}"
    assert [p.name for p in Path("killed").iterdir()] == ["seed-0.pt"]


def test_the_weights_of_a_checkpoint_score_what_the_run_scored_and_no_path_is_stored(whole: Whole) -> None:
    file = whole.folder / "seed-0.pt"
    loaded = files_of_weights.load(find("tiny-resnet-s"), str(file))
    assert loaded.classes == 10 and loaded.ema is not None and loaded.config is not None
    assert equal(loaded.state, dict(whole.held["state_dict"]))
    assert equal(loaded.ema, dict(whole.held["state_dict_ema"]))
    kept: list[Result] = []
    only = Accuracy(model="tiny-resnet-s", dataset="mnist", batch=4, epochs=0, weights=loaded.source)
    Run(Unlocked(), only, Sampling(), kept.append, sources=Sources(weights=str(file))).run()
    (after,) = kept
    assert after.status == "ok" and after.notes["weights"] == loaded.source
    for name in ("top1", "top5", "ema_top1", "ema_top5", "batch_top1"):
        assert after.value(name) == values(whole.result, name)[-1], name
    # the weights bring the size that they were trained at
    assert after.resolved is not None and after.resolved.training is not None
    assert after.resolved.training.test_px == 8
    for result in (whole.result, after):
        assert str(whole.folder) not in to_json(result).decode()
        assert msgspec.json.decode(to_json(result))["workload"]["kind"] == "accuracy"


def test_determinism_has_a_cost_and_changes_no_weight_on_a_cpu_and_another_seed_changes_all() -> None:
    plain, deterministic = cpu(folder="plain"), cpu(folder="deterministic", deterministic=True)
    cost = deterministic.value("deterministic_cost")
    assert cost is not None and cost > 0 and plain.reading("deterministic_cost") is None
    assert not torch.are_deterministic_algorithms_enabled()
    assert equal(held("plain")["state_dict"], held("deterministic")["state_dict"])
    cpu(folder="other", seed=1)
    assert not equal(held("plain")["state_dict"], held("other", 1)["state_dict"])
    assert held("plain")["log"]["train_loss"] != held("other", 1)["log"]["train_loss"]


def test_a_net_without_normalization_diverges_at_a_high_rate_where_nothing_clips_and_not_where_agc_does() -> None:
    high = {"model": "tiny-nfnet-s", "lr": 10.0, "warmup_epochs": 0}
    result = trained(Unlocked(), **SMALL | high, agc="none")
    assert result.status == "diverged"
    at = result.value("diverged_at")
    assert at is not None and result.message in [f"the loss of update {at:.0f} is {bad}" for bad in ("nan", "inf")]
    assert result.value("updates") >= at  # type: ignore[operator]
    clipped = cpu(**high, agc=0.01)
    share, before, after = (
        values(clipped, name)[0] for name in ("clipped_units", "gradient_norm", "clipped_gradient_norm")
    )
    assert share is not None and 0 < share <= 1
    assert before is not None and after is not None and after < before


def test_sam_a_moving_average_accumulation_and_bf16_train_together() -> None:
    # few pictures, since in bf16 a CPU may take a hundred times as long, and not so small that a layer sees a single
    # pixel, of which oneDNN (torch 2.15) makes a weight gradient with whatever lies in memory
    result = cpu(px=64, batch=10, micro_batch=5, sam=0.05, ema=0.5, precision="bf16")
    assert result.value("updates") == 2
    assert result.resolved is not None
    assert (result.resolved.precision, result.resolved.micro_batch) == ("bf16", 5)
    assert all(value is not None and 0 <= value <= 1 for value in values(result, "ema_top1"))
    assert None not in values(result, "train_loss")


def test_batches_of_one_image_have_no_statistics_to_be_scored_with() -> None:
    torch.save(build(find("tiny-resnet-s"), num_classes=10).state_dict(), "w.pth")
    result = cpu(batch=1024, epochs=0, micro_batch=1, weights="w.pth")
    assert result.reading("batch_top1") is None and result.value("top1") is not None


# ---- what is settled before the first update


def settled(device: Cpu, **settings: Any) -> Setup:
    workload = Accuracy(**{"model": "tiny-nfnet-s", "dataset": "digits", "epochs": 0, "batch": 64} | settings)
    return Setup(device, workload, 0, Sources(), Quiet())


@pytest.mark.parametrize(("kind", "images"), [("cuda", 2), ("cpu", 64)])
def test_no_test_batch_on_a_gpu_has_a_tensor_that_is_too_large(
    monkeypatch: pytest.MonkeyPatch, kind: Any, images: int
) -> None:
    (at_test_px,) = count_net(find("tiny-nfnet-s"), [64], train=True, classes=10)
    monkeypatch.setattr(setup, "MOST_ELEMENTS", 3 * at_test_px.largest - 1)
    device = Cpu()
    device.machine = msgspec.structs.replace(device.machine, device=kind)
    plan = settled(device, test_px=64).feed().plan  # type: ignore[attr-defined]
    assert (plan.test_px, plan.test_batch) == (64, images)


def test_a_set_stays_on_no_rank_where_one_has_no_room_for_it() -> None:
    class Small(World):
        """Another rank has a device of 1,000 bytes."""

        def least(self, value: int) -> int:
            return min(value, 1_000)

    device = Cpu()
    assert isinstance(settled(device).feed(), Resident)
    device.world = Small()
    assert isinstance(settled(device).feed(), Streaming)
