"""The processes that share one batch, as torchrun starts them: who this one is, and how they agree.

::

    torchrun ─┬─ rank 0 ── agree ──▶ every rank         decisions that hang on a clock or on memory are rank 0's
              ├─ rank 1 ── gather ─▶ rank 0             which alone writes, prints and keeps
              └─ …

Without torchrun, and with one process, a `World` is one rank that agrees with itself. It imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from nfbench.errors import NfbenchError
from nfbench.records import Result, Status

_T = TypeVar("_T")

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets for each process; all of them, since schedulers of clusters set some for their own ends."""


OTHERS_END = 2.0
"""Seconds that rank 0 leaves the others to end in after an error."""


class Place(NamedTuple):
    """This process among ``size``: its rank, that on its node, and how many nodes and processes a node there are."""

    rank: int
    size: int
    local_rank: int
    nodes: int
    local_size: int


def place(environment: Mapping[str, str] | None = None) -> Place | None:
    """The place that torchrun gave this process; None without torchrun, and where it started one process only."""
    given = os.environ if environment is None else environment
    if not all(given.get(name) for name in VARIABLES):
        return None
    try:
        rank, size, local = (int(given[name]) for name in VARIABLES[:3])
        local_size = int(given.get("LOCAL_WORLD_SIZE") or size)
    except ValueError:
        return None
    if size < 2:
        return None
    return Place(rank, size, local, max(1, size // max(1, local_size)), local_size)


class Failure(NamedTuple):
    """Why a rank cannot go on: a status with its message, or the three parts of a worded error."""

    rank: int
    status: Status
    message: str
    worded: tuple[str, str, str] | None = None


class RankFailed(NfbenchError):
    """A rank failed and its row is kept; the others cannot go on without it."""

    exit_code = 5


class World:
    """One process: it agrees with itself. `nfbench.devices.ranks.Ranks` is that of several."""

    rank = 0
    size = 1
    local_rank = 0
    nodes = 1
    backend: str | None = None

    @property
    def processes(self) -> tuple[int, ...]:
        """The process ids of the ranks on this machine."""
        return (os.getpid(),)

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    def agree(self, value: _T) -> _T:
        """Rank 0's ``value``, which JSON can hold, on every rank."""
        return value

    def least(self, value: int) -> int:
        """The smallest ``value`` of all ranks, on every rank."""
        return value

    def gather(self, value: bytes) -> list[bytes]:
        """On rank 0 every rank's ``value`` in their order; on others nothing."""
        return [value]

    def total(self, values: Sequence[float]) -> list[float]:
        """Place by place the sum over all ranks, on every rank."""
        return list(values)

    def barrier(self) -> None:
        """Wait until every rank has come here, however long that takes."""

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """One rank after the other is inside, in their order."""
        yield

    @contextlib.contextmanager
    def on_failure(self, keep: Callable[[Status, str], None]) -> Iterator[None]:
        """Inside, where another rank fails while this one waits for it, rank 0 calls ``keep`` and the process ends."""
        yield

    def blame(self, status: Status, message: str) -> tuple[Status, str]:
        """What a failure of this rank is a consequence of: where another failed before it, that one's."""
        return status, message

    def blame_stop(self) -> tuple[Status, str | None]:
        """What a signal means: `interrupted`, or that torchrun ends all because a rank is gone."""
        return "interrupted", None

    def refuse(self, error: Exception) -> None:
        """Tell the others of an error that ends the command here."""

    def end(self, kept: Result) -> None:
        """After a failure whose row was ``kept``; nothing where that was `interrupted`.

        Raises:
            RankFailed: there are other ranks, which cannot go on.
        """

    def close(self) -> None:
        """Leave, once all have come to their end."""

    def abandon(self) -> None:
        """Leave without a word."""


def last_words(message: str) -> None:
    """Have torchrun's own last words, some thirty lines about an exit code that is not 0, end with ``message``."""
    said = {"message": message, "extraInfo": {"py_callstack": message, "timestamp": str(int(time.time()))}}
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        with contextlib.suppress(OSError):
            Path(file).write_text(json.dumps({"message": said}), encoding="utf-8")
    # it ends the other ranks at once, and would name each of them that has not come to its own end
    time.sleep(OTHERS_END)


_joined = World()


def joined() -> World:
    """The world that this process has joined; one of its own where it has not."""
    return _joined


def enter(world: World) -> None:
    """From now on `joined` is ``world``."""
    global _joined
    _joined = world


def leave() -> None:
    """Close the world that was joined, with the others, at the end."""
    joined().close()
    enter(World())


def abandon() -> None:
    """Leave the world that was joined, whatever the others do; nothing where it has been left."""
    joined().abandon()
    enter(World())
