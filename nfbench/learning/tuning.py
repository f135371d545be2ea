"""Search for the learning rate and the clipping threshold λ with which a net learns best, by successive halving.

Candidates learn from a part of the training images, and are scored on a tenth of the training images that none of them
saw: the test set has no say in the choice. Every net has the same budget: as many candidates, the same parts. The
recipe's own rate is in the middle of the rates. Jamieson & Talwalkar 2016 (arXiv 1502.07943) describe the method.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nfbench import units
from nfbench.analysis.store import replacing
from nfbench.errors import BadResults
from nfbench.learning.learner import Learner
from nfbench.measuring.outcome import Watch
from nfbench.records import Accuracy, Candidate, Record, Training, key

HELD_OUT = 0.1
"""The share of the training images on which candidates are scored."""
PARTS = (1 / 9, 1 / 3)
"""The shares of the other training images from which candidates learn, round by round; a third of them goes on."""
RATES, WIDEST = 5, 9.0
"""How many rates are tried, from the recipe's own over `WIDEST` to it times `WIDEST`."""
LAMBDAS = (0.01, 0.04, 0.16)
FILE = "search.json"
LEAST_UPDATES = 2
"""Updates that an epoch of a candidate has at least, however few images there are."""


class _Saved(Record, frozen=True, kw_only=True):
    """What the file beside the checkpoints holds: what was asked, the digest of the data, what has been tried."""

    workload: str
    data: str
    candidates: tuple[Candidate, ...]


def grid(workload: Accuracy, rate: float, clipping: float | None) -> list[tuple[float, float | None]]:
    """The pairs of learning rate and λ to be tried, where ``rate`` and ``clipping`` are those without a search.

    A net that does not clip tries three times as many rates over the same range where λ is tuned as well, so that its
    budget is the same.
    """
    names = workload.tune.split(",")
    tunes_clip = "agc" in names and clipping is not None
    count = RATES * (len(LAMBDAS) if "agc" in names and clipping is None else 1)
    steps = [2 * place / (count - 1) - 1 for place in range(count)]
    rates = [float(f"{rate * WIDEST**step:.4g}") for step in steps] if "lr" in names else [rate]
    return list(itertools.product(rates, LAMBDAS if tunes_clip else (clipping,)))


def best_first(candidates: list[Candidate]) -> list[Candidate]:
    """The candidates that did not diverge, the most accurate first, of equals that with the smaller values."""
    sound = [c for c in candidates if c.top1 is not None]
    return sorted(sound, key=lambda c: (-(c.top1 or 0.0), c.lr, c.agc or 0.0))


@dataclass(kw_only=True)
class Search:
    """The search of one workload, its ``candidates`` in the order in which they were tried.

    ``make`` gives a learner of a workload from a part of the training images, ``learn`` trains it to its end and gives
    its top-1, or None where it diverged. ``folder`` is where what has been tried is kept, so that a search that was
    stopped goes on; None where it is kept nowhere.
    """

    workload: Accuracy
    make: Callable[[Accuracy, float], Learner]
    learn: Callable[[Learner, Accuracy], float | None]
    watch: Watch
    folder: Path | None = None

    def __post_init__(self) -> None:
        self.candidates: list[Candidate] = []

    def run(self) -> None:
        """Try every candidate that has not been tried.

        Raises:
            BadResults: ``folder`` holds the search of another workload or of other data, or cannot be written.
        """
        own = msgspec.structs.replace(self.workload, tune="none")
        plain = self.make(own, 1.0)
        training, clipping = plain.resolved.training, plain.resolved.agc
        plain.close()
        assert training is not None
        tried = self._saved(training)
        alive = grid(self.workload, training.lr, clipping)
        if len(alive) == 1:
            return
        for round, part in enumerate(PARTS):
            part = min(1.0, max(part, LEAST_UPDATES * own.batch / training.train_images))
            for number, (lr, agc) in enumerate(alive, 1):
                candidate = tried.get((lr, agc, round))
                if candidate is None:
                    clip = "" if agc is None else f", λ {agc:g}"
                    whose = f"tuning, round {round + 1} of {len(PARTS)}, candidate {number} of {len(alive)}"
                    self.watch.phase(f"{whose}: learning rate {lr:g}{clip}")
                    candidate = self._tried(own, lr, agc, round, part)
                self.candidates.append(candidate)
                self._save(training)
            last = best_first([c for c in self.candidates if c.round == round])
            alive = [(c.lr, c.agc) for c in last[: math.ceil(len(alive) / 3)]]

    @property
    def best(self) -> Candidate | None:
        """The best of the last round; None where every candidate diverged, or there was nothing to choose."""
        last = max((c.round for c in self.candidates), default=0)
        return next(iter(best_first([c for c in self.candidates if c.round == last])), None)

    def _tried(self, own: Accuracy, lr: float, agc: float | None, round: int, part: float) -> Candidate:
        asked = msgspec.structs.replace(own, lr=lr, agc="none" if agc is None else agc)
        learner = self.make(asked, part)
        try:
            top1 = self.learn(learner, asked)
        finally:
            learner.close()
        images = asked.epochs * learner.updates * asked.batch
        return Candidate(lr=lr, agc=agc, round=round, images=images, top1=top1)

    def _saved(self, training: Training) -> dict[tuple[float, float | None, int], Candidate]:
        path = None if self.folder is None else self.folder / FILE
        if path is None or not path.exists():
            return {}
        try:
            saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
        except (OSError, msgspec.DecodeError) as error:
            raise BadResults(f"{path} is no search of nfbench.", try_=f"rm {path}, to search anew") from error
        if (saved.workload, saved.data) != (key(self.workload), training.data):
            raise BadResults(
                f"{path} holds the search of another run.",
                why="A search goes on with the same settings and the same data.",
                try_="--checkpoint with another folder",
            )
        if saved.candidates:
            self.watch.note(f"{self.workload.model}: the search goes on after {len(saved.candidates)} candidates.")
        return {(c.lr, c.agc, c.round): c for c in saved.candidates}

    def _save(self, training: Training) -> None:
        if self.folder is None:
            return
        saved = _Saved(workload=key(self.workload), data=training.data, candidates=tuple(self.candidates))
        try:
            with replacing(self.folder / FILE) as part:
                part.write_bytes(msgspec.json.encode(saved))
        except OSError as error:
            raise BadResults(
                f"The search cannot be kept in {self.folder}: {error.strerror}.",
                try_="--checkpoint with another folder",
            ) from error


def sentence(training: Training) -> str:
    """Say what was tuned, and how many candidates there were: for tables and answers."""
    tuned = " and ".join(
        name
        for name, values in (
            ("learning rate", {c.lr for c in training.search}),
            ("λ", {c.agc for c in training.search}),
        )
        if len(values) > 1
    )
    return f"{tuned} from {units.plural(len({(c.lr, c.agc) for c in training.search}), 'candidate')}"
