"""The curves of training runs: values by epoch of each seed, their mean, and where runs diverged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from nfbench.analysis import accuracy
from nfbench.analysis.rows import Row
from nfbench.records import Result
from nfbench.showing.kinds import Drawing, without
from nfbench.showing.row_results import Made, single
from nfbench.showing.style import drawable

_SEEDS = 24
"""Runs of a net that a figure has room for."""


class Run(NamedTuple):
    """A training run by itself, with the epoch in which it diverged, where that is known (0: at its beginning)."""

    row: Row
    result: Result
    diverged: float | None

    def curve(self, name: str) -> list[float]:
        """Its values by epoch, NaN where there is none that an axis can hold."""
        found = self.result.reading(name)
        sound = _loss if name == "train_loss" else _share
        return [v if v is not None and sound(v) else math.nan for v in (found.values if found else ())]

    def points(self, name: str) -> list[tuple[float, float]]:
        """Its values with their epochs, from 1; one in which it diverged was evaluated where it broke off."""
        end = math.inf if self.diverged is None else self.diverged
        return [(min(epoch, end), v) for epoch, v in held(self.curve(name))]


def runs(made: Made, drawing: Drawing) -> list[Run]:
    """The runs of a row that have something to draw, one a seed; the others are left out of ``drawing``."""
    shown = {id(r) for r in accuracy.of_each_seed(made.results)}
    found = []
    for result in made.results:
        run = Run(single(made, result), result, _diverged(result))
        if id(result) not in shown:
            drawing.leave_out([run.row], "another run of that seed is shown")
        elif result.run.epochs < 2:
            why = "one epoch only, which is no curve" if result.run.epochs else "evaluated only"
            drawing.leave_out([run.row], why)
        elif not run.points("top1") and run.diverged is None:
            drawing.leave_out([run.row], without(run.row, "top-1 of an epoch"))
        else:
            found.append(run)
    drawing.leave_out((run.row for run in found[_SEEDS:]), f"a figure has room for {_SEEDS} seeds of a net")
    return found[:_SEEDS]


def mean(runs: Iterable[Run], name: str) -> list[float]:
    """The mean by epoch over the runs that are ok, as far as all of them have a value."""
    curves = [run.curve(name) for run in runs if run.result.status == "ok"]
    return [sum(each) / len(each) for each in zip(*curves, strict=False)]


def held(values: Sequence[float]) -> list[tuple[int, float]]:
    """The epochs, from 1, that have a value, with it."""
    return [(epoch, v) for epoch, v in enumerate(values, 1) if not math.isnan(v)]


def _diverged(result: Result) -> float | None:
    at, resolved = result.value("diverged_at"), result.resolved
    if result.status != "diverged" or at is None or resolved is None or resolved.training is None:
        return None
    # training takes whole batches only
    updates = resolved.training.train_images // result.run.batch if result.run.batch > 0 else 0
    epoch = at / updates if updates > 0 else -1.0
    return epoch if 0 <= epoch <= result.run.epochs else None


_sound = Callable[[float], bool]


def _share(value: float) -> bool:
    return 0 <= value <= 1


_loss: _sound = drawable
