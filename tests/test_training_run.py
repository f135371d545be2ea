"""A training run: to the digit on the fake device, bit for bit on the CPU."""

from __future__ import annotations

import contextlib
import math
import random
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from make import Quiet
from torch import Tensor

from nfbench.analysis import findings
from nfbench.analysis.store import Writer, load
from nfbench.catalog.models import find
from nfbench.devices.base import Device
from nfbench.devices.cpu import Cpu
from nfbench.devices.fake import FakeDevice
from nfbench.errors import BadData, BadResults, Interrupted, NfbenchError, Terminated
from nfbench.learning.checkpoint import Checkpoints
from nfbench.learning.fake_training import FakeLearner
from nfbench.learning.fit import Run
from nfbench.learning.learner import Sources
from nfbench.learning.trainer import Trainer
from nfbench.nets.build import build
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
    return Run(device or FakeDevice(), workload, sampling, kept.append, seed=seed, watch=watch, sources=sources)


def trained(device: Device | None = None, **settings: Any) -> Result:
    kept: list[Result] = []
    assert run(kept, device, **settings).run() is kept[0] and len(kept) == 1
    return kept[0]


def values(result: Result, name: str) -> tuple[float | None, ...]:
    found = result.reading(name)
    assert found is not None, name
    return found.values


class Scripted(FakeLearner):
    """Has the losses of each update and the top-1 of each epoch from its script."""

    losses: tuple[tuple[float, ...], ...]
    top1: tuple[float, ...]

    def train(self, epoch: int, until: float) -> Any:
        return super().train(epoch, until)._replace(losses=list(self.losses[epoch]))

    def scores(self) -> dict[str, float]:
        return super().scores() | {"top1": self.top1[self.epochs - 1]}


class Breaking(FakeLearner):
    """Raises ``error`` in the epoch ``at``, counted from 0."""

    error: BaseException
    at = 0

    def train(self, epoch: int, until: float) -> Any:
        if epoch == self.at:
            raise self.error
        return super().train(epoch, until)


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the fake device learn by a class with the attributes given."""

    def learn(kind: type[FakeLearner], **attributes: Any) -> None:
        monkeypatch.setattr(fake_training, "FakeLearner", type(kind.__name__, (kind,), attributes))

    return learn


# on the fake device


def test_each_epoch_gives_one_value_of_each_reading() -> None:
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


def test_the_totals_are_read_once() -> None:
    result = trained()
    totals = {r.name: r.values for r in result.readings if r.scope == "run"}
    assert totals == {
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
    result = trained(agc="none", lr=0.1, epochs=9)
    assert (result.status, result.message) == ("diverged", "the loss of update 12 is nan")
    assert (result.value("diverged_at"), result.value("updates"), result.value("images_seen")) == (12, 12, 3072)
    assert values(result, "top1") == (0.5, 0.75)


def test_the_time_s_end_keeps_the_epochs_that_were_done() -> None:
    result = trained(epochs=10, max_time=2.5)
    assert (result.status, result.message) == ("timeout", "--max-time was reached after 3 of 10 epochs")
    assert values(result, "train_time") == (1.0,) * 3
    assert result.value("updates") == 12


def test_without_epochs_the_weights_are_scored_once_and_nothing_is_trained() -> None:
    device = FakeDevice()
    result = trained(device, epochs=0, weights="published")
    assert (result.status, result.value("top1"), device.clock.seconds) == ("ok", 0.0, 0.0)
    assert not any(r.scope == "epoch" for r in result.readings)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted(), Terminated()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("at", [0, 2])
def test_an_interrupted_run_keeps_once_what_was_measured(stop: BaseException, at: int, learner: Any) -> None:
    learner(Breaking, error=stop, at=at)
    kept: list[Result] = []
    with pytest.raises(type(stop)):
        run(kept).run()
    (result,) = kept
    assert (result.status, result.message) == ("interrupted", None)
    assert len(r.values if (r := result.reading("top1")) else ()) == at
    assert result.resolved is not None and result.value("macs") == 2**20


def test_an_interruption_while_the_run_is_set_up_is_kept_too(learner: Any) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    learner(FakeLearner, __init__=interrupted)
    kept: list[Result] = []
    with pytest.raises(KeyboardInterrupt):
        run(kept).run()
    assert [(r.status, r.readings) for r in kept] == [("interrupted", ())]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (RuntimeError("mat1 of /home/alice/net.py\nat 0x7f"), "error", "RuntimeError: mat1 of net.py"),
        (MemoryError("no more"), "out_of_memory", "MemoryError: no more"),
        (ZeroDivisionError(), "error", "ZeroDivisionError: "),
    ],
    ids=lambda e: type(e).__name__ if isinstance(e, Exception) else "",
)
def test_what_fails_is_a_row_with_the_epochs_before(error: Exception, status: str, message: str, learner: Any) -> None:
    learner(Breaking, error=error, at=1)
    failed: list[str] = []

    class Watching(Quiet):
        def failed(self, error: Exception, result: Result) -> None:
            failed.append(f"{type(error).__name__} {result.status}")

    result = trained(watch=Watching())
    assert (result.status, result.message) == (status, message)
    assert values(result, "top1") == (0.5,)
    assert failed == [f"{type(error).__name__} {status}"]


def test_a_worded_error_keeps_the_epochs_before_it_and_nothing_where_there_are_none(learner: Any) -> None:
    for at in (0, 1):
        learner(Breaking, error=BadData("Too many pictures cannot be read.", try_="others"), at=at)
        kept: list[Result] = []
        with pytest.raises(BadData):
            run(kept).run()
        assert [(r.status, r.message, values(r, "top1")) for r in kept] == [
            ("error", "Too many pictures cannot be read.", (0.5,))
        ] * at


def test_the_learner_is_closed_however_the_run_ends(learner: Any) -> None:
    closed: list[bool] = []
    ends: list[BaseException] = [KeyboardInterrupt(), RuntimeError(), BadData("no")]
    for error in ends:
        learner(Breaking, error=error, at=1, close=lambda self: closed.append(True))
        with contextlib.suppress(KeyboardInterrupt, BadData):
            run([]).run()
    assert len(closed) == 3


CHANCE = math.log(10)
GUESSING = (CHANCE,) * 4
GOOD = (0.5,) * 4


def test_a_net_that_falls_back_to_chance_has_diverged_at_the_update_where_that_began(learner: Any) -> None:
    learner(Scripted, losses=(GOOD, GOOD, (0.5, CHANCE, CHANCE, CHANCE), GUESSING, GOOD), top1=(0.8, 0.9, 0.1, 0.1, 0))
    result = trained(epochs=5)
    assert result.status == "diverged"
    assert result.message == "fell back to chance at update 10: top-1 10.0 % of 10 classes"
    assert result.value("diverged_at") == 10
    assert values(result, "top1") == (0.8, 0.9, 0.1, 0.1)


def test_chance_alone_is_no_divergence_while_the_loss_still_falls(learner: Any) -> None:
    # a BN net's running statistics can lag behind its weights
    learner(Scripted, losses=(GOOD, GOOD, GOOD), top1=(0.8, 0.1, 0.9))
    assert trained().status == "ok"


def test_a_bad_first_epoch_is_no_divergence(learner: Any) -> None:
    learner(Scripted, losses=(GUESSING, GUESSING, GOOD), top1=(0.1, 0.1, 0.9))
    assert trained().status == "ok"


@pytest.mark.parametrize(("batch", "status"), [(16, "diverged"), (32, "ok")])
def test_a_net_that_never_left_chance_has_diverged_once_it_had_a_hundred_updates(
    batch: int, status: str, learner: Any
) -> None:
    updates = 1024 // batch
    learner(Scripted, losses=((CHANCE,) * updates,) * 2, top1=(0.1, 0.1))
    result = trained(epochs=2, batch=batch)
    assert result.status == status
    if status == "diverged":
        assert result.message == "never left chance at update 1: top-1 10.0 % of 10 classes"
        assert result.value("diverged_at") == 1


def test_a_value_that_is_not_finite_is_absent_from_its_place(learner: Any) -> None:
    learner(FakeLearner, scores=lambda self: {"top1": 0.5, "test_loss": math.inf if self.epochs == 2 else 1.0})
    assert values(trained(), "test_loss") == (1.0, None, 1.0)


def test_a_last_test_loss_that_is_not_finite_is_a_divergence(learner: Any) -> None:
    learner(FakeLearner, scores=lambda self: {"top1": 0.5, "test_loss": math.nan if self.epochs == 3 else 1.0})
    result = trained()
    assert (result.status, result.message) == ("diverged", "the test loss is not finite")
    assert result.value("diverged_at") == 12


def test_images_that_cannot_be_read_are_counted_and_the_first_are_named(learner: Any) -> None:
    learner(FakeLearner, unreadable=lambda self: [f"val/a/{n}.png" for n in range(7)])
    for result in (trained(), trained(epochs=0, weights="x.pt")):
        assert result.value("unreadable_images") == 7
        assert result.notes["unreadable"] == "val/a/0.png, val/a/1.png, val/a/2.png, val/a/3.png, val/a/4.png …"


def test_a_net_that_had_guessed_well_before_it_learnt_anything_has_not_fallen_back(learner: Any) -> None:
    learner(Scripted, losses=((CHANCE,) * 4,) * 3, top1=(0.3, 0.1, 0.1))
    assert trained().status == "ok"


@pytest.mark.parametrize("settings", [{}, {"agc": "none", "lr": 0.1}, {"max_time": 1.0}])
def test_a_result_goes_through_json_unchanged(settings: dict[str, Any]) -> None:
    result = trained(**settings)
    assert from_json(to_json(result)) == result


# going on from a checkpoint, on the fake device


def cut_off(learner: Any, at: int, **settings: Any) -> Result:
    """A run that was interrupted in the epoch ``at``."""
    learner(Breaking, error=KeyboardInterrupt(), at=at)
    kept: list[Result] = []
    with pytest.raises(KeyboardInterrupt):
        run(kept, folder="ck", **settings).run()
    learner(FakeLearner)
    return kept[0]


def test_a_run_that_goes_on_is_the_same_result(learner: Any) -> None:
    before = cut_off(learner, 2, epochs=4)
    watch, device = Quiet(), FakeDevice()
    result = trained(device, epochs=4, folder="ck", watch=watch)
    assert (result.id, result.start) == (before.id, before.start)
    assert watch.notes == ["tiny-nfnet-s: goes on after epoch 2 of 4."]
    assert device.clock.seconds == 2.0
    assert result.readings == trained(epochs=4).readings
    for row in (before, result):
        Writer(Path("o.jsonl")).write(row)
    loaded = load([Path("o.jsonl")])
    assert loaded.results == [result] and loaded.repeated == 1


def test_a_run_that_goes_on_under_other_software_says_how_much_the_other_had_trained(learner: Any) -> None:
    class Newer(FakeDevice):
        def software(self, model: str | None = None) -> Software:
            return Software(nfbench="99.0")

    cut_off(learner, 2, epochs=4)
    result = trained(Newer(), epochs=4, folder="ck")
    assert result.notes["resumed"] == "2 of its 4 epochs"
    (finding,) = [f for f in findings.of(result) if f.code == "resumed"]
    assert finding.message == "Other software than that of this row had trained 2 of its 4 epochs."


class Forgetful(FakeLearner):
    """Lacks a reading in its first and last epoch, as an energy counter may."""

    def scores(self) -> dict[str, float]:
        found = super().scores()
        return found | {"ema_top1": 0.5} if self.epochs == 2 else found


def test_a_value_stands_at_its_own_epoch_where_others_lack_it(learner: Any) -> None:
    learner(Forgetful)
    assert values(trained(), "ema_top1") == (None, 0.5, None)


def test_a_run_that_is_over_is_not_trained_again() -> None:
    first = trained(folder="ck")
    device = FakeDevice()
    again = trained(device, folder="ck")
    assert device.clock.seconds == 0.0
    assert (again.id, again.status, again.readings) == (first.id, "ok", first.readings)


def test_a_run_that_had_diverged_has_still_diverged_when_it_goes_on(learner: Any) -> None:
    script = {"losses": ((CHANCE,) * 64,) * 2 + ((0.5,) * 64,), "top1": (0.1, 0.1, 0.9)}
    learner(Scripted, **script)
    first, again = (trained(epochs=2, batch=16, folder="never") for _ in range(2))
    assert [r.status for r in (first, again)] == ["diverged"] * 2
    assert first.message == again.message
    learner(Scripted, losses=(GOOD, GUESSING, GOOD), top1=(0.9, 0.1, 0.9))
    first, again = (trained(folder="back") for _ in range(2))
    assert [r.message for r in (first, again)] == ["fell back to chance at update 5: top-1 10.0 % of 10 classes"] * 2
    assert again.readings == first.readings


def test_a_run_that_diverged_in_an_epoch_trains_it_again_and_diverges_there() -> None:
    first, again = (trained(agc="none", lr=0.1, folder="ck") for _ in range(2))
    assert (again.status, again.id, again.readings) == ("diverged", first.id, first.readings)


def test_each_seed_has_a_checkpoint_of_its_own() -> None:
    first, second = (trained(folder="ck", seed=seed) for seed in (0, 1))
    assert first.id != second.id
    assert sorted(p.name for p in Path("ck").iterdir()) == ["seed-0.pt", "seed-1.pt"]


def test_a_checkpoint_of_another_run_ends_this_one_before_it_trains() -> None:
    trained(folder="ck")
    kept: list[Result] = []
    device = FakeDevice()
    with pytest.raises(BadResults, match=r"seed-0.pt is a checkpoint of a run with --lr auto, not 0.5\."):
        run(kept, device, folder="ck", lr=0.5).run()
    assert kept == [] and device.clock.seconds == 0.0


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


class Unlocked(Cpu):
    def lock_name(self) -> str | None:
        return None


SMALL: dict[str, Any] = {"model": "tiny-resnet-s", "px": 8, "batch": 256, "epochs": 1}
"""Five updates an epoch of digits."""


def weights(folder: str, seed: int = 0) -> dict[str, Any]:
    """What the last checkpoint holds."""
    held: dict[str, Any] = torch.load(Path(folder, f"seed-{seed}.pt"), weights_only=True)
    return held


def cpu(**settings: Any) -> Result:
    result = trained(Unlocked(), **SMALL | settings)
    assert result.status == settings.pop("status", "ok"), result.message
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


def lasting(held: dict[str, Any]) -> dict[str, Any]:
    """All of a checkpoint but its times."""
    log = {name: each for name, each in held["log"].items() if name not in TIMES}
    totals = {name: value for name, value in held["totals"].items() if name != "wall_time"}
    kept = {name: value for name, value in held.items() if name not in ("id", "start", "software")}
    return kept | {"log": log, "totals": totals}


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_others() -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        cpu(folder=folder, seed=seed)
    first, again, other = weights("a"), weights("b"), weights("c", 1)
    assert equal(lasting(first), lasting(again))
    assert not equal(first["state_dict"], other["state_dict"])
    assert first["log"]["train_loss"] != other["log"]["train_loss"]


ALL: dict[str, Any] = {"epochs": 3, "ema": 0.9, "drop_path": 0.3, "drop_rate": 0.1, "mixup": 0.2, "augment": "flip"}


def test_a_run_that_is_stopped_after_each_epoch_ends_as_one_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu(**ALL, folder="whole")

    class Stopping(Checkpoints):
        def save(self, resolved: Resolved, state: dict[str, Any]) -> None:
            super().save(resolved, state)
            raise Terminated

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "checkpoints", Stopping)
        for done in (1, 2, 3):
            kept: list[Result] = []
            with pytest.raises(Terminated):
                run(kept, Unlocked(), folder="parts", **SMALL | ALL).run()
            assert len(values(kept[0], "top1")) == done
    result = cpu(**ALL, folder="parts")
    whole, parts = weights("whole"), weights("parts")
    assert equal(lasting(whole), lasting(parts))
    assert not equal(whole["state_dict"], whole["state_dict_ema"])
    assert (result.id, len(values(result, "ema_top1"))) == (parts["id"], 3)


KILLED = """
from nfbench.devices.cpu import Cpu
from nfbench.learning.fit import Run
from nfbench.learning.learner import Sources
from nfbench.records import Accuracy, Sampling
class Unlocked(Cpu):
    def lock_name(self):
        return None
Run(Unlocked(), Accuracy(**{settings!r}), Sampling(), print, sources=Sources(checkpoint="killed")).run()
"""


def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_weights() -> None:
    settings = SMALL | {"epochs": 8, "ema": 0.9}
    code = KILLED.format(settings=settings)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with child:
        cpu(**settings, folder="whole")
        deadline = time.monotonic() + 120
        while not Path("killed/seed-0.pt").exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        pause = random.uniform(0, 0.4)
        time.sleep(pause)
        child.kill()
        _, said = child.communicate()
    assert Path("killed/seed-0.pt").exists(), said.decode()
    cut_off = weights("killed")["epoch"]
    cpu(**settings, folder="killed")
    assert equal(lasting(weights("whole")), lasting(weights("killed"))), f"after {pause} s, epoch {cut_off}"
    assert [p.name for p in Path("killed").iterdir()] == ["seed-0.pt"]


def test_a_net_without_normalization_diverges_at_a_high_rate_where_nothing_clips_and_not_where_agc_does() -> None:
    high = {"model": "tiny-nfnet-s", "batch": 128, "lr": 3.0, "warmup_epochs": 0}
    result = trained(Unlocked(), **SMALL | high, agc="none")
    assert result.status == "diverged"
    at = result.value("diverged_at")
    assert at is not None and result.message in (f"the loss of update {at:.0f} is {bad}" for bad in ("nan", "inf"))
    assert result.value("updates") >= at  # type: ignore[operator]
    clipped = cpu(**high, agc=0.01)
    (share,) = values(clipped, "clipped_units")
    (before,), (after,) = values(clipped, "gradient_norm"), values(clipped, "clipped_gradient_norm")
    assert share is not None and 0 < share <= 1
    assert before is not None and after is not None and after < before


def test_half_the_micro_batch_gives_the_same_gradient() -> None:
    one = {"model": "tiny-nfnet-s", "batch": 512, "lr": 0.05}
    found = []
    for micro_batch in (512, 256):
        result = cpu(**one, micro_batch=micro_batch, folder=f"of{micro_batch}")
        assert result.resolved is not None and result.resolved.micro_batch == micro_batch
        found.append(weights(f"of{micro_batch}"))
    first, second = (held["state_dict"] for held in found)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=1e-5, msg=name)
    assert found[0]["log"]["train_loss"] == pytest.approx(found[1]["log"]["train_loss"], rel=1e-4)


def test_determinism_has_a_cost_and_changes_no_weight_on_a_cpu() -> None:
    few = {"batch": 512}
    plain = cpu(**few, folder="plain")
    result = cpu(**few, folder="deterministic", deterministic=True)
    cost = result.value("deterministic_cost")
    assert cost is not None and cost > 0 and plain.reading("deterministic_cost") is None
    assert equal(weights("plain")["state_dict"], weights("deterministic")["state_dict"])
    assert not torch.are_deterministic_algorithms_enabled()


def test_sam_a_moving_average_and_bf16_train_together() -> None:
    # forty pictures, since in bf16 a CPU may take a hundred times as long, and not so small that a layer sees a single
    # pixel, of which oneDNN (torch 2.15) makes a weight gradient with whatever lies in memory
    Path("data/mnist").mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 20)):
        images, labels = bytes(place % 251 for place in range(count * 28 * 28)), bytes(n % 10 for n in range(count))
        for kind, sides, held in (("images-idx3", (count, 28, 28), images), ("labels-idx1", (count,), labels)):
            head = struct.pack(f">{1 + len(sides)}I", 0x800 + len(sides), *sides)
            Path(f"data/mnist/{part}-{kind}-ubyte").write_bytes(head + held)
    result = cpu(dataset="mnist", px=32, batch=20, sam=0.05, ema=0.5, precision="bf16")
    assert result.value("updates") == 2
    assert result.resolved is not None and result.resolved.precision == "bf16"
    assert all(0 <= value <= 1 for value in result.reading("ema_top1").finite)  # type: ignore[union-attr]
    assert len(result.reading("train_loss").finite) == 1  # type: ignore[union-attr]


def test_batches_of_one_image_have_no_statistics_to_be_scored_with() -> None:
    result = cpu(batch=1024, px=32, epochs=0, micro_batch=1, weights=saved())
    assert result.reading("batch_top1") is None and result.value("top1") is not None


def saved(classes: int = 10) -> str:
    torch.save(build(find("tiny-resnet-s"), num_classes=classes).state_dict(), "w.pth")
    return "w.pth"


def test_weights_of_other_classes_cannot_only_be_evaluated() -> None:
    kept: list[Result] = []
    with pytest.raises(NfbenchError, match=r"The weights tell 7 classes apart, digits has 10\."):
        run(kept, Unlocked(), weights=saved(7), **SMALL | {"epochs": 0}).run()
    assert kept == []


def test_a_run_is_stored_without_a_path() -> None:
    result = trained(Unlocked(), **SMALL | {"batch": 1024}, folder=str(Path("ck").resolve()))
    assert str(Path.cwd()) not in to_json(result).decode()
    assert msgspec.json.decode(to_json(result))["workload"]["kind"] == "accuracy"
