"""A training run from its first epoch, or from its last checkpoint, to its result.

::

    set up → [ train an epoch → evaluate → checkpoint ] … → Result
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from nfbench import units
from nfbench.devices.base import Device, RankFailed
from nfbench.errors import BadResults, NfbenchError
from nfbench.learning.learner import Learner, Sources
from nfbench.learning.tuning import Search
from nfbench.measuring.measure import kept_once
from nfbench.measuring.meters import Energy
from nfbench.measuring.outcome import Keep, Labels, Turn, Watch, begun, merged
from nfbench.privacy import scrubbed
from nfbench.records import Accuracy, Candidate, Reading, Result, Sampling, Status, key, reading
from nfbench.units import first_few

EPOCH_UNITS = {"train_time": "s", "data_time": "s", "evaluation_time": "s", "energy": "J"}
"""The readings of an epoch that are no shares or counts, and that each rank has of its own."""
RUN_UNITS = {"wall_time": "s"}

LEARNT = 0.97
"""A loss below this share of ln(classes) is that of a net that tells classes apart."""
FEW_UPDATES = 100
"""Updates within which a net that has learnt nothing may merely not have begun."""


class OutOfTime(Exception):
    """``--max-time`` was reached."""


class Diverged(Exception):
    """The loss is not finite, or the net has fallen back to chance, at ``update`` (from 1), None where every candidate
    of a search did so."""

    def __init__(self, update: int | None, why: str) -> None:
        self.update = update
        super().__init__(why)


class Judge:
    """Looks at each update's loss and each epoch's scores.

    ``majority`` is the share, 0 to 1, of the largest class among ``test_images``. ``last_learnt`` is the last update,
    from 1, whose loss was that of a net that knows something.
    """

    def __init__(self, classes: int, test_images: int, majority: float) -> None:
        self.classes, self.test_images = max(2, classes), test_images
        self.share = max(1 / self.classes, majority)
        self.last_learnt = 0

    def look_at(self, losses: Sequence[float], before: int) -> None:
        """The losses of the updates after the first ``before``.

        Raises:
            Diverged: at the first that is not finite.
        """
        chance = math.log(self.classes)
        for update, loss in enumerate(losses, before + 1):
            if not math.isfinite(loss):
                raise Diverged(update, f"the loss of update {update} is {loss}")
            if loss < LEARNT * chance:
                self.last_learnt = update

    def check(self, log: Mapping[str, Sequence[float | None]], updates: float, *, last: bool) -> None:
        """The epochs so far, after ``updates`` updates; ``last`` says that there comes no other.

        Raises:
            Diverged: the last test loss is not finite, or test accuracy and loss of the epoch are those of a net that
                knows nothing, and the net had known something before, or the run is over.
        """
        top1, loss = log["top1"][-1] or 0.0, log["train_loss"][-1]
        if last and log["test_loss"][-1] is None:
            raise Diverged(round(updates), "the test loss is not finite")
        # who always says the largest class is right so often, and by three standard deviations more at most
        guessed = self.share + 3 * math.sqrt((1 - self.share) * self.share / self.test_images)
        if top1 > guessed or (loss is not None and loss < LEARNT * math.log(self.classes)):
            return
        # an untrained net's guesses may lie above chance by luck; a loss below it does not
        known = self.last_learnt > 0 and any(v is not None and v > guessed for v in log["top1"][:-1])
        if known or (last and updates >= FEW_UPDATES):
            update = self.last_learnt + 1
            how = "fell back to chance" if known else "never left chance"
            raise Diverged(update, f"{how} at update {update}: top-1 {units.percent(top1)} of {self.classes} classes")


@dataclass
class Run:
    """One training run of one seed.

    ``sampling.max_time`` caps its seconds from the first update of this process on. ``sources`` are the paths of its
    files.
    """

    device: Device
    workload: Accuracy
    sampling: Sampling
    keep: Keep
    _: KW_ONLY
    seed: int = 0
    watch: Watch = field(default_factory=Watch)
    labels: Labels = field(default_factory=Labels)
    sources: Sources = field(default_factory=Sources)

    def __post_init__(self) -> None:
        self.world = self.device.world
        self.learner: Learner | None = None
        self.log: dict[str, list[float | None]] = {}
        self.totals: dict[str, float] = {}
        self.notes: dict[str, str] = {}
        self.done = 0
        self.judge = Judge(2, 1, 0.0)

    def run(self) -> Result:
        """Train to the end and hand the result to ``keep`` exactly once.

        Raises:
            NfbenchError: the run cannot be what was asked; nothing is kept, unless an epoch was done. `RankFailed`: one
                of several ranks failed; its row is kept.
            Stop, KeyboardInterrupt: raised again after what was measured has been kept as `interrupted`.
        """
        asked = Turn(workload=self.workload, sampling=self.sampling, seed=self.seed, labels=self.labels)
        self.result = begun(self.device, asked)
        try:
            lock, longest = self.device.lock_name(), self.sampling.max_time
            return kept_once(self.device, lock, self.keep, self.watch, self._trained, self._filled, longest)
        except NfbenchError as error:
            if self.done and not isinstance(error, RankFailed):
                self.keep(self._filled("error", error.what))
            raise
        finally:
            if self.learner is not None:
                self.learner.close()

    def _trained(self) -> Result:
        self.result = msgspec.structs.replace(self.result, conditions=self.device.conditions(idle=True))
        return merged(self.world, self._filled(*self._outcome()), EPOCH_UNITS.__contains__)

    def _outcome(self) -> tuple[Status, str | None]:
        """Learn, and say how that ended."""
        try:
            self._learn()
        except Diverged as error:
            if error.update is not None:
                self.totals["diverged_at"] = error.update
            return "diverged", str(error)
        except OutOfTime:
            done = f"{self.done} of {self.workload.epochs} epochs"
            return (
                "timeout",
                f"--max-time was reached after {done}"
                if self.learner is not None
                else "--max-time was reached during the search",
            )
        return "ok", None

    def _learn(self) -> None:
        began = self.device.now()
        until = began + self.sampling.max_time
        tuned, search = self._tuned(until)
        learner = self.learner = _learner(self.device, tuned, self.seed, self.sources, self.watch)
        if search:
            training = msgspec.structs.replace(learner.resolved.training, search=search)  # type: ignore[type-var]
            learner.resolved = msgspec.structs.replace(learner.resolved, training=training)
        self.notes |= learner.notes
        training = learner.resolved.training
        if training is not None:
            self.judge = Judge(training.classes, training.test_images, training.majority or 0.0)
        if self.workload.epochs == 0:
            self.watch.phase("evaluating")
            self._evaluate(learner)
            return
        self._resume(learner)
        if self.done:
            # it may have been stopped between its checkpoint and this
            self.judge.check(self.log, self.totals["updates"], last=self.done == self.workload.epochs)
        card = getattr(self.device, "card", None)
        meter = None if card is None else Energy(card)
        began, before = self.device.now(), self.totals.get("wall_time", 0.0)
        if not search:
            until = began + self.sampling.max_time
        for epoch in range(self.done, self.workload.epochs):
            if self.world.agree(self.device.now() >= until):
                raise OutOfTime
            self._epoch(learner, epoch, until, meter)
            self.totals["wall_time"] = before + self.device.now() - began
            if self.store is not None and self.world.first:
                self.store.save(learner.resolved, self._state(learner))
            self.judge.check(self.log, self.totals["updates"], last=self.done == self.workload.epochs)

    def _tuned(self, until: float) -> tuple[Accuracy, tuple[Candidate, ...]]:
        """The workload with what a search found, and the search; one search serves all seeds.

        Raises:
            Diverged: every candidate did.
            OutOfTime: the time was up during the search.
        """
        if self.workload.tune == "none" or self.workload.epochs == 0:
            return self.workload, ()
        own = msgspec.structs.replace(self.workload, tune="none")
        known = _SEARCHES.setdefault(self.device, {})
        place = key(self.workload), self.sources.data_dir, self.sources.folder, self.sources.weights
        if place not in known:
            search = Search(
                workload=self.workload,
                make=lambda workload, part: _learner(self.device, workload, 0, self.sources, Watch(), part),
                learn=lambda learner, workload: self._score(learner, workload, until),
                watch=self.watch,
                folder=None if self.sources.checkpoint is None else Path(self.sources.checkpoint),
            )
            search.run()
            known[place] = search
        search = known[place]
        if search.candidates and search.best is None:
            raise Diverged(None, f"all {len(search.candidates)} candidates of the search diverged")
        if search.best is None:
            return own, ()
        agc = "none" if search.best.agc is None else search.best.agc
        return msgspec.structs.replace(own, lr=search.best.lr, agc=agc), tuple(search.candidates)

    def _score(self, learner: Learner, workload: Accuracy, until: float) -> float | None:
        """The top-1 of a candidate after its last epoch; None where it diverged."""
        training = learner.resolved.training
        assert training is not None
        judge = Judge(training.classes, training.test_images, training.majority or 0.0)
        learner.build()
        for epoch in range(workload.epochs):
            if self.device.now() >= until:
                raise OutOfTime
            trained = learner.train(epoch, until)
            try:
                judge.look_at(trained.losses, epoch * learner.updates)
            except Diverged:
                return None
            if not trained.finished:
                raise OutOfTime
        top1 = learner.scores()["top1"]
        return top1 if math.isfinite(top1) else None

    def _resume(self, learner: Learner) -> None:
        """Go on from the last checkpoint where there is one; what determinism costs is timed only at the beginning."""
        self.store = None
        if self.sources.checkpoint is not None:
            self.store = learner.checkpoints(Path(self.sources.checkpoint), self.workload, self.seed)
            saved = self.store.load()
            self._check_shared(0 if saved is None else saved["epoch"])
            if saved is not None:
                self.store.goes_on(saved, learner.resolved, self.device.machine)
                learner.restore(saved)
                self.log, self.totals, self.done = saved["log"], saved["totals"], saved["epoch"]
                if not self.world.first:
                    # what rank 0 saved of these is its own
                    self.log |= {name: [None] * self.done for name in EPOCH_UNITS if name in self.log}
                self.judge.last_learnt = saved["last_learnt"]
                self.result = msgspec.structs.replace(self.result, id=saved["id"], start=saved["start"])
                self.notes |= saved["notes"]
                if saved["software"] != msgspec.to_builtins(self.result.software):
                    self.notes["resumed"] = f"{self.done} of its {self.workload.epochs} epochs"
                self.watch.note(f"{self.workload.model}: goes on after epoch {self.done} of {self.workload.epochs}.")
                return
        if (cost := learner.cost_of_determinism()) is not None:
            self.totals["deterministic_cost"] = cost
            learner.build()

    def _check_shared(self, epoch: int) -> None:
        """Raise `BadResults` where this rank does not find the checkpoint that rank 0 goes on from."""
        first = self.world.agree(epoch)
        if first != epoch:
            raise BadResults(
                f"Rank {self.world.rank} finds a checkpoint of epoch {epoch} where rank 0 finds one of epoch {first}.",
                why="All ranks go on from the same.",
                try_="--checkpoint with a folder that all nodes share",
            )

    def _state(self, learner: Learner) -> dict[str, Any]:
        return {
            **learner.state(),
            "id": self.result.id,
            "start": self.result.start,
            "software": msgspec.to_builtins(self.result.software),
            "machine": msgspec.to_builtins(self.result.machine),
            "notes": self.notes,
            "log": self.log,
            "totals": self.totals,
            "epoch": self.done,
            "last_learnt": self.judge.last_learnt,
        }

    def _epoch(self, learner: Learner, epoch: int, until: float, meter: Energy | None) -> None:
        before = epoch * learner.updates
        if meter is not None:
            self.device.synchronize()
            meter.start()
        began = self.device.now()
        trained = learner.train(epoch, until)
        ended = self.device.now()
        used = meter.stop(trained.seconds / max(ended - began, 1e-9)) if meter is not None else []
        self.totals["updates"] = before + len(trained.losses)
        self.totals["images_seen"] = self.totals["updates"] * self.workload.batch
        self.judge.look_at(trained.losses, before)
        if not trained.finished:
            raise OutOfTime
        if trained.skipped:
            self.totals["skipped_updates"] = self.totals.get("skipped_updates", 0) + trained.skipped
        scores = self._evaluate(learner)
        readings: dict[str, float | None] = {
            "train_loss": math.fsum(trained.losses) / len(trained.losses),
            **scores,
            "learning_rate": trained.rate,
            "gradient_norm": trained.gradient_norm,
            "clipped_gradient_norm": trained.clipped_norm,
            "clipped_units": trained.clipped_units,
            "train_time": trained.seconds,
            "data_time": trained.data_seconds,
            "evaluation_time": self.device.now() - ended,
            "energy": next((r.values[0] for r in used if r.name == "energy"), None),
        }
        for name, value in readings.items():
            if value is not None:
                # what an epoch lacked must not move the values of later ones
                self.log.setdefault(name, [None] * epoch).append(value if math.isfinite(value) else None)
        self.done = epoch + 1
        for values in self.log.values():
            values.extend([None] * (self.done - len(values)))
        rate = units.number(len(trained.losses) * self.workload.batch / max(trained.seconds, 1e-9), 3)
        self.watch.phase(
            f"epoch {self.done} of {self.workload.epochs}: top-1 {units.percent(scores['top1'])}, "
            f"loss {units.significant(readings['train_loss'] or 0.0)}, {rate} images/s"
        )

    def _evaluate(self, learner: Learner) -> dict[str, float]:
        scores = learner.scores()
        if unreadable := learner.unreadable():
            self.totals["unreadable_images"] = len(unreadable)
            self.notes["unreadable"] = first_few(unreadable)
        if self.workload.epochs == 0:
            self.totals |= scores
        return scores

    def _filled(self, status: Status, message: str | None) -> Result:
        """The result with all that has been measured so far."""
        learner = self.learner
        readings = list(learner.counts) if learner is not None else []
        readings += [
            Reading(name=name, unit=EPOCH_UNITS.get(name, "1"), scope="epoch", source="measured", values=tuple(values))
            for name, values in self.log.items()
        ]
        readings += [
            reading(name, RUN_UNITS.get(name, "1"), "run", "measured", [value]) for name, value in self.totals.items()
        ]
        if message is not None:
            for path in (self.sources.data_dir, self.sources.folder, self.sources.weights, self.sources.checkpoint):
                message = message.replace(path, Path(path).name) if path else message
        return msgspec.structs.replace(
            self.result,
            status=status,
            message=None if message is None else scrubbed(message),
            software=self.device.software(self.workload.model),
            resolved=learner.resolved if learner is not None else None,
            # training adds to the learner's
            notes={**self.result.notes, **self.notes, **(learner.notes if learner is not None else {})},
            readings=tuple(readings),
        )


_SEARCHES: WeakKeyDictionary[Device, dict[tuple[object, ...], Search]] = WeakKeyDictionary()
"""The searches of this process, by their device and by what was asked."""


def _learner(
    device: Device, workload: Accuracy, seed: int, sources: Sources, watch: Watch, part: float | None = None
) -> Learner:
    if device.machine.device == "fake":
        from nfbench.devices.fake import FakeDevice
        from nfbench.learning.fake_training import FakeLearner

        assert isinstance(device, FakeDevice)
        return FakeLearner(device, workload, seed, part)
    from nfbench.devices.cpu import Cpu
    from nfbench.devices.cuda import Cuda
    from nfbench.learning.setup import Setup
    from nfbench.learning.trainer import Trainer

    assert isinstance(device, (Cpu, Cuda))
    return Trainer(Setup(device, workload, seed, sources, watch, part), watch)
