"""What a training run is given, and what its loop over epochs needs of a net, so that a fake one can stand in."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from nfbench.learning.checkpoint import Checkpoints
from nfbench.records import Reading, Record, Resolved


class Sources(Record, frozen=True, kw_only=True):
    """Paths of one run, which no record holds: the folder of published data sets, the folder of ``imagefolder``, a file
    of weights, and the folder of its checkpoints. ``workers`` are the processes that read a set which does not stay on
    the device."""

    data_dir: str | None = None
    folder: str | None = None
    weights: str | None = None
    checkpoint: str | None = None
    workers: int | None = None


def digest(path: Path) -> str:
    """Twelve hex digits of the content of a file.

    Raises:
        OSError: it cannot be read, or is a device or a pipe, of which some never end and none can be read twice.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe", os.fspath(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=6)).hexdigest()


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
