"""When a run has diverged: its loss is not finite, or it knows nothing (any more)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nfbench import units

LEARNT = 0.97
"""A loss below this share of ln(classes) is that of a net that tells classes apart."""
FEW_UPDATES = 100
"""Updates within which a net that has learnt nothing may merely not have begun."""


class Diverged(Exception):
    """The loss is not finite, or the net has fallen back to chance, at ``update`` (from 1)."""

    def __init__(self, update: int, why: str) -> None:
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
