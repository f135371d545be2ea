"""The loop inside an epoch: batches, updates, losses; and what the net scores after it.

Its step is the timed one of `nfbench.nets.train_step`, fed with real batches: the same code trains that is timed.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from nfbench import units
from nfbench.learning import recipe
from nfbench.learning.checkpoint import Checkpoints
from nfbench.learning.evaluate import Scores, evaluate, evaluating, norms
from nfbench.learning.feed import mixed_seed, seed_all
from nfbench.learning.learner import Epoch
from nfbench.learning.setup import Setup, as_step
from nfbench.measuring.outcome import Watch
from nfbench.nets import agc
from nfbench.nets.agc_units import Units, unitwise_norm
from nfbench.nets.optimizer import UNFUSED, fusible
from nfbench.nets.ranked_step import RankedStep
from nfbench.nets.train_step import TrainStep

LOOKS = 20
"""Updates of an epoch whose gradient norm is read."""
CHUNK_TIME, LONGEST_CHUNK = 0.5, 100
"""Seconds and updates between two looks at the losses, which wait for the device."""
TRIAL_UPDATES = 5
"""Updates of a turn of the trial that gives the cost of determinism."""


class LearningStep(TrainStep):
    """A `TrainStep` whose inputs are given, and whose loss, clipped units and gradient norms are kept on the device.

    ``total`` is the mean loss of the last update over all of its passes, ``skipped`` the updates that fp16 skipped.
    Where ``looking`` is set, the next update's gradient norm is taken before and after the clip.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.scaler is not None:
            # a scale that only falls would end where gradients underflow
            self.scaler = torch.amp.GradScaler(self.device.type)
        self.total = self.loss
        self.looking = False
        self.norms: list[tuple[Tensor, Tensor]] = []
        self.counts: list[Tensor] = []
        self.units = sum(unitwise_norm(p.detach()).numel() for p in self.clipped)
        self.skipped = torch.zeros((), dtype=torch.int64, device=self.device)

    def feed(self, images: Tensor, targets: Tensor) -> None:
        """The batch of the next update: images of shape (batch, 3, px, px), targets of classes or of their shares."""
        self.inputs, self.targets = list(images.split(self.micro_batch)), list(targets.split(self.micro_batch))

    def update(self, stamp: Callable[[], None], passes: int) -> None:
        """As that of `TrainStep`, with a look at the clip."""
        self._ascend_batch(stamp, passes)
        for index in range(passes):
            self._pass(stamp, index, passes)
        self._gather(stamp)
        self._watched()
        stamp()
        self._finish(stamp)

    def _apply(self) -> None:
        scale = None if self.scaler is None else getattr(self.scaler, "_scale", None)
        before = scale.clone() if isinstance(scale, Tensor) else None
        super()._apply()
        if before is not None and scale is not None:
            # read off the scale's own tensor: GradScaler.get_scale would wait for the device
            self.skipped = self.skipped + (scale < before).sum()

    def _pass(self, stamp: Callable[[], None], index: int, passes: int) -> None:
        super()._pass(stamp, index, passes)
        self.total = self.loss if index == 0 else self.total + self.loss

    def _watched(self) -> None:
        if not self.looking:
            self._counted(self.clip())
            return
        self.looking = False
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        before = norm(gradients)
        if self.impl == "timm" and self.clipped:
            # timm's function does not say what it clips
            shares = agc.units(self.clipped, self.clipping or 0.0, "timm")
            self.counts.append(torch.tensor(self.units * shares.clipped / max(1, shares.units)))
        self._counted(self.clip())
        self.norms.append((before, norm(gradients)))

    def _counted(self, clip: object) -> None:
        if isinstance(clip, Units):
            self.counts.append(clip.clipped)

    def taken(self) -> tuple[list[float], list[float], list[float]]:
        """Since it was last asked: gradient norms before and after the clip, and shares of clipped units. Waits."""
        norms, counts = self.norms, self.counts
        self.norms, self.counts = [], []
        shares = (torch.stack(counts).double() / max(1, self.units)).tolist() if counts else []
        return [float(a) for a, _ in norms], [float(b) for _, b in norms], shares

    def taken_skipped(self) -> int:
        """The skipped updates since it was last asked. Waits."""
        skipped = int(self.skipped)
        self.skipped = torch.zeros_like(self.skipped)
        return skipped


class RankedLearningStep(RankedStep, LearningStep):
    """A `LearningStep` on one of several ranks, each of which is given its share of the batch; ``total`` is of that."""


class Trainer:
    """The net of a run and its step, ready for the next epoch."""

    checkpoints = Checkpoints

    def __init__(self, setup: Setup, watch: Watch) -> None:
        self.setup, self.watch, self.device, self.world = setup, watch, setup.device, setup.device.world
        self.resolved, self.counts, self.notes = setup.resolved, setup.counts, setup.notes
        self.feed = setup.feed()
        self.updates = self.feed.updates
        if setup.workload.deterministic:
            _determine(True)
        watch.phase("building")
        self.build()

    def build(self) -> None:
        """The net and its step as they are before the first update."""
        setup, workload, resolved = self.setup, self.setup.workload, self.setup.resolved
        values = msgspec.structs.asdict(setup.training)
        module = setup.module()
        if not workload.epochs:
            # an optimizer is made of what trains, though nothing is trained
            module.requires_grad_(True)
        optimizer = recipe.build_optimizer(module, values)
        if (resolved.optimizer_impl or "").endswith("fused") and not fusible(module):
            self.notes["fused"] = UNFUSED
        ema = setup.training.ema if workload.epochs else None
        timed = msgspec.structs.replace(as_step(workload), ema="none" if ema is None else ema)
        self.step = (RankedLearningStep if workload.world_size > 1 else LearningStep)(
            module, optimizer, timed, resolved, device=self.device.torch_device, classes=setup.classes, seed=setup.seed
        )
        step = self.step
        step.notes = self.notes
        step.criterion = recipe.build_loss(values)
        step.arrange(workload.layout, resolved.micro_batch)
        self.mix = recipe.build_mixing(values, setup.classes)
        self.set_rate = recipe.build_schedule(optimizer, values, max(1, workload.epochs), self.updates)

    def train(self, epoch: int, until: float) -> Epoch:
        """Train an epoch, or as much of it as the device's clock leaves until ``until``; stop at a loss that is not
        finite. Random numbers follow from the seed and the epoch alone."""
        step, device, updates = self.step, self.device, self.updates
        # each rank drops and mixes by itself
        seed_all(mixed_seed(self.setup.seed, epoch, self.world.rank))
        step.net.train()
        looks = max(1, updates // LOOKS)
        whole = self.setup.workload.epochs * updates
        where = f"epoch {epoch + 1} of {self.setup.workload.epochs}"
        losses: list[float] = []
        seconds = data_seconds = 0.0
        batches, chunk, finished = self.feed.train(epoch), 1, True
        while len(losses) < updates and finished:
            n = min(chunk, updates - len(losses))
            recorder = device.recorder(1 + 2 * n)
            totals: list[Tensor] = []
            device.synchronize()
            recorder.stamp()
            for index in range(len(losses), len(losses) + n):
                images, targets = self.mix(*next(batches))
                step.feed(images, targets)
                recorder.stamp()
                self.set_rate(epoch * updates + index)
                step.looking = index % looks == 0
                step.update(_nothing, step.accumulation_steps)
                totals.append(step.total)
                recorder.stamp()
            device.synchronize()
            times = recorder.times()
            seconds += times[-1]
            data_seconds += sum(b - a for a, b in zip(times[:-1:2], times[1::2], strict=True))
            # the loss of the whole batch, of which each rank has a share
            losses += [total / self.world.size for total in self.world.total(torch.stack(totals).tolist())]
            now = device.now()
            finished = all(map(math.isfinite, losses[-n:])) and (now < until or len(losses) == updates)
            mean = seconds / len(losses)
            chunk = max(1, min(LONGEST_CHUNK, int(CHUNK_TIME / max(mean, 1e-6))))
            chunk, finished = self.world.agree((chunk, finished))
            left = units.seconds(mean * (whole - epoch * updates - len(losses)), 2)
            self.watch.going(f"{where}: {len(losses)} of {updates} updates, {left} of training left")
        before, after, shares = step.taken()
        return Epoch(
            losses,
            seconds,
            data_seconds,
            step.optimizer.param_groups[0]["lr"],
            _middle(before),
            _middle(after) if step.clipping is not None else None,
            statistics.fmean(shares) if shares else None,
            step.taken_skipped(),
            finished,
        )

    def scores(self) -> dict[str, float]:
        """top1, top5 and test_loss of the weights; batch_top1 with a batch's own statistics; ema_top1 and ema_top5 of
        the weights' average, of the run or of the file that they came from."""
        one = self._scores(self.step.net)
        scores = {"top1": one.top1, "top5": one.top5, "test_loss": one.loss}
        if self._has_batches() and min(self.resolved.micro_batch, self.setup.training.test_images) > 1:
            scores["batch_top1"] = self._scores(self.step.net, batch_statistics=True).top1
        average = self.setup.averaged() if self.step.ema is None else self.step.ema.module
        if average is not None:
            other = self._scores(average)
            scores |= {"ema_top1": other.top1, "ema_top5": other.top5}
        return {name: value for name, value in scores.items() if value is not None}

    def unreadable(self) -> list[str]:
        """Names of the images that could not be read so far.

        Raises:
            BadData: they are more than 1 % of the set.
        """
        of_ranks = [json.loads(names) for names in self.world.gather(json.dumps(self.feed.unreadable()).encode())]
        return self.world.agree(sorted({name for names in of_ranks for name in names}))

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on, as tensors and plain values."""
        step = self.step
        state: dict[str, Any] = {
            "state_dict": step.net.state_dict(),
            "optimizer": step.optimizer.state_dict(),
            "updates": step.updates,
            "averaged": step.averaged,
        }
        if step.ema is not None:
            state["state_dict_ema"] = step.ema.module.state_dict()
        if step.scaler is not None:
            state["scaler"] = step.scaler.state_dict()
        training = self.setup.training
        state["data_config"] = {
            "input_size": (3, training.test_px, training.test_px),
            "mean": training.mean,
            "std": training.std,
            "interpolation": training.interpolation,
            "crop_pct": training.crop_pct,
            "crop_mode": training.crop_mode,
        }
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        step = self.step
        step.net.load_state_dict(state["state_dict"])
        step.optimizer.load_state_dict(state["optimizer"])
        step.updates, step.averaged = state["updates"], state["averaged"]
        if step.ema is not None:
            step.ema.module.load_state_dict(state["state_dict_ema"])
        if step.scaler is not None:
            step.scaler.load_state_dict(state["scaler"])

    def cost_of_determinism(self) -> float | None:
        """The time of an update with deterministic algorithms over that without, in turns A B B A; None without them.

        It trains: `build` afterwards.
        """
        if not self.setup.workload.deterministic or self.setup.workload.epochs == 0:
            return None
        self.watch.phase("timing what determinism costs")
        times: dict[bool, float] = {True: 0.0, False: 0.0}
        for turn, on in enumerate((True, False, True, False, False, True)):
            _determine(on)
            spent = self._some_updates()
            # the first of each only warms up
            times[on] += spent if turn >= 2 else 0.0
        _determine(True)
        return times[True] / times[False]

    def _some_updates(self) -> float:
        n = min(TRIAL_UPDATES, self.updates)
        # reading and mixing them is no part of an update
        batches = [self.mix(*batch) for batch in islice(self.feed.train(0), n)]
        recorder = self.device.recorder(1 + n)
        self.device.synchronize()
        recorder.stamp()
        for update, batch in enumerate(batches):
            self.step.feed(*batch)
            self.set_rate(update)
            self.step.update(_nothing, self.step.accumulation_steps)
            recorder.stamp()
        self.device.synchronize()
        self.step.taken()
        return float(recorder.times()[-1])

    def close(self) -> None:
        """Leave torch's flags as others expect them."""
        if self.setup.workload.deterministic:
            torch.use_deterministic_algorithms(False)

    def _has_batches(self) -> bool:
        """Whether there are statistics of a test batch; ranks take other numbers of batches, which cannot be shared."""
        layers = norms(self.step.net)
        return bool(layers) and (self.world.size == 1 or not any(isinstance(m, nn.SyncBatchNorm) for m in layers))

    def _scores(self, net: nn.Module, *, batch_statistics: bool = False) -> Scores:
        batches: Iterator[tuple[Tensor, Tensor]] = self.feed.test()
        if batch_statistics:
            # one image has no statistics
            batches = (batch for batch in batches if len(batch[1]) > 1)
        with evaluating(net, batch_statistics=batch_statistics):
            setup = self.setup
            precision, name = setup.resolved.precision, setup.net.name
            return evaluate(net, batches, precision, self.world.total, classes=setup.classes, name=name)


def _determine(on: bool) -> None:
    torch.use_deterministic_algorithms(on)
    torch.backends.cudnn.benchmark = not on


def _middle(values: Sequence[float]) -> float | None:
    """The median of the values that are finite."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else None


def _nothing() -> None:
    return None


def norm(gradients: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients together, 0-d."""
    total: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm([g.detach() for g in gradients])))
    return total
