"""What the loop over epochs needs of a net in training, so that a fake one can stand in to the digit."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from nfbench.learning.checkpoint import Checkpoints
from nfbench.records import Reading, Resolved


class Epoch(NamedTuple):
    """What an epoch of training left. ``losses`` are of each update, ``seconds`` of all of them, ``data_seconds`` of
    their batches; norms are medians. ``finished`` is False where a loss was not finite or the time was up."""

    losses: list[float]
    seconds: float
    data_seconds: float
    rate: float
    gradient_norm: float | None
    clipped_norm: float | None
    clipped_units: float | None
    skipped: int
    finished: bool


class Learner(Protocol):
    """A run that is trained an epoch at a time: `nfbench.learning.trainer.Trainer`, or the fake device's."""

    resolved: Resolved
    counts: list[Reading]
    notes: dict[str, str]
    updates: int
    checkpoints: type[Checkpoints]

    def build(self) -> None: ...
    def train(self, epoch: int, until: float) -> Epoch: ...
    def scores(self) -> dict[str, float]: ...
    def unreadable(self) -> list[str]: ...
    def cost_of_determinism(self) -> float | None: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...
    def close(self) -> None: ...
