"""Training on the fake device: arithmetic, so that all around a run is tested to the digit.

An image takes 1/1024 s. After epoch e the test accuracy is 1 − 2^−e, with a BN net's batch statistics 1/64 better. A
net without normalization that nothing clips diverges at update 12 where its peak rate is over 0.05. A candidate of a
search is the worse, the farther its rate is from 0.1 and its λ from 0.04.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from nfbench.catalog.models import find
from nfbench.catalog.recipes import RECIPES
from nfbench.devices.fake import IMAGE_TIME, FakeDevice
from nfbench.learning.checkpoint import Checkpoints
from nfbench.learning.learner import Epoch
from nfbench.records import Accuracy, Reading, Resolved, StepTime, Training, reading

IMAGES, TEST_IMAGES, CLASSES = 1024, 512, 10
HELD_OUT = 64
BEST_RATE, BEST_LAMBDA = 0.1, 0.04
DIVERGES_AT, HIGHEST_RATE = 12, 0.05


class FakeCheckpoints(Checkpoints):
    """Checkpoints that need no torch."""

    def write(self, content: dict[str, Any], file: BinaryIO) -> None:
        file.write(msgspec.msgpack.encode(content))

    def read(self, path: Path) -> Any:
        return msgspec.msgpack.decode(path.read_bytes())


class FakeLearner:
    """Implements `nfbench.learning.learner.Learner` on a fake clock."""

    checkpoints: type[Checkpoints] = FakeCheckpoints

    def __init__(self, device: FakeDevice, workload: Accuracy, seed: int, part: float | None = None) -> None:
        self.device, self.workload, self.seed, self.part = device, workload, seed, part
        net = find(workload.model)
        self.normalized = net.norm != "none"
        step = StepTime(model=workload.model, px=workload.px, batch=workload.batch, agc=workload.agc)
        resolved = device.resolve(step)
        recipe = RECIPES[net.recipe or "bn-resnet"]
        self.rate = recipe.lr * workload.batch / 256 if workload.lr == "auto" else workload.lr
        training = Training(
            recipe=net.recipe or "bn-resnet",
            optimizer=recipe.optimizer,
            lr=self.rate,
            schedule="constant",
            warmup_epochs=0.0,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            label_smoothing=recipe.label_smoothing,
            augment="none",
            classes=CLASSES,
            train_images=IMAGES,
            test_images=TEST_IMAGES,
            test_px=resolved.px,
            data="0" * 12,
            mean=(0.5,),
            std=(0.5,),
            interpolation="bilinear",
        )
        self.resolved: Resolved = msgspec.structs.replace(resolved, training=training)
        self.counts: list[Reading] = [
            reading("macs", "MAC", "run", "fake", [2**20]),
            reading("train_macs", "MAC", "run", "fake", [3 * 2**20]),
            reading("params", "1", "run", "fake", [2**10]),
        ]
        self.notes = {"norm": "batch" if self.normalized else "none"}
        images = IMAGES if part is None else round(part * (IMAGES - HELD_OUT))
        self.updates = images // workload.batch
        self.epochs = 0

    def build(self) -> None:
        self.epochs = 0

    def train(self, epoch: int, until: float) -> Epoch:
        """An epoch that takes its time."""
        clipped = self.resolved.agc is not None
        diverges = not self.normalized and not clipped and self.rate > HIGHEST_RATE
        losses = [math.log(CLASSES) * 2.0 ** -(epoch + update / self.updates) / 2 for update in range(self.updates)]
        if diverges and epoch * self.updates < DIVERGES_AT <= (epoch + 1) * self.updates:
            losses = [*losses[: DIVERGES_AT - 1 - epoch * self.updates], math.nan]
        seconds = len(losses) * self.workload.batch * IMAGE_TIME
        self.device.clock.seconds += seconds
        self.epochs = epoch + 1
        return Epoch(
            losses=losses,
            seconds=seconds,
            data_seconds=seconds / 64,
            rate=self.rate,
            gradient_norm=1.0,
            clipped_norm=0.5 if clipped else None,
            clipped_units=0.25 if clipped else None,
            skipped=0,
            finished=self.device.now() < until or len(losses) == self.updates,
        )

    def scores(self) -> dict[str, float]:
        top1 = 1 - 2.0**-self.epochs
        if self.part is not None:
            top1 -= abs(math.log(self.rate / BEST_RATE)) / 64
            top1 -= 0.0 if self.resolved.agc is None else abs(math.log(self.resolved.agc / BEST_LAMBDA)) / 64
        scores = {"top1": top1, "top5": (1 + top1) / 2, "test_loss": 1 - top1}
        return {**scores, "batch_top1": top1 + 1 / 64} if self.normalized else scores

    def unreadable(self) -> list[str]:
        return []

    def cost_of_determinism(self) -> float | None:
        return None

    def state(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def restore(self, state: dict[str, Any]) -> None:
        self.epochs = state["epochs"]

    def close(self) -> None:
        return None
