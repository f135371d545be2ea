"""What nfbench needs of a device, and who shares one batch.

::

    resolve → build → fit (micro-batch) → [ recorder → update … update → times ] → inspect

    torchrun ─┬─ rank 0 ── agree ──▶ every rank         decisions that hang on a clock or on memory are rank 0's
              ├─ rank 1 ── gather ─▶ rank 0             which alone writes, prints and keeps
              └─ …

Everything above this layer speaks these protocols only, so that a fake device can stand in to the digit. Without
torchrun, and with one process, a `World` is one rank that agrees with itself. It imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import nfbench
from nfbench.errors import NfbenchError
from nfbench.records import (
    AgcCost,
    AgcImpl,
    Conditions,
    Dependence,
    Flops,
    Layout,
    Machine,
    Phases,
    Reading,
    Resolved,
    Result,
    Software,
    Status,
    StepTime,
)

_T = TypeVar("_T")
Stamp = Callable[[], None]

RUNNER = "NFBENCH_RUNNER"
"""The environment variable that gives a worker the process id of its runner."""

OTHER_TREE = "NFBENCH_OTHER_TREE"
"""The environment variable that tells a worker of a tree whose code is the other side's, and the note that names what
it has imported from there all the same."""


RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets for each process; all of them, since schedulers of clusters set some for their own ends."""

OTHERS_END = 2.0
"""Seconds that rank 0 leaves the others to end in after an error."""


def child_environment(first: Sequence[Path] = (), own: bool = True) -> dict[str, str]:
    """The environment for a process of nfbench's own: it finds the package also where that was never installed.

    ``first`` are folders put first on its path. Where not ``own`` it is of another Python, whose nfbench it uses.
    """
    package_parent = [str(Path(nfbench.__file__).parent.parent)] if own else []
    path = [*map(str, first), *package_parent, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    # a process of a rank's own is no rank
    kept = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
    return {**kept, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


class Recorder(Protocol):
    """Time stamps taken in the device's own order of work."""

    def stamp(self) -> None:
        """Take one. Nothing is synchronized, printed or allocated on the device."""

    def times(self) -> list[float]:
        """Seconds from the first stamp to each, after all of them have passed; forgets them."""


class HostRecorder:
    """Stamps of a clock of the host, such as ``time.perf_counter``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.taken: list[float] = []

    def stamp(self) -> None:
        self.taken.append(self.clock())

    def times(self) -> list[float]:
        taken, self.taken = self.taken, []
        return [t - taken[0] for t in taken]


class Steps(Protocol):
    """A training step that has been built on a device."""

    phases: Phases
    """The phases of an update, each of which ends with a stamp."""

    def update(self, stamp: Stamp, passes: int) -> None:
        """One optimizer update over ``passes`` micro-batches, with a stamp at the end of each of its phases."""

    def arrange(self, layout: Layout, micro_batch: int) -> None:
        """Lay weights and inputs out anew, for passes of ``micro_batch`` images."""

    def describe(self) -> list[Reading]:
        """What the net costs by count: multiply-accumulates of one image and parameters. Absent where unknown."""

    def inspect(self) -> list[Reading]:
        """Operators dispatched a step, bytes that a pass saves for backward, shares of zero gradients and of clipped
        units, the loss: read once, outside the window, by an update that is not timed."""

    def finite(self) -> bool:
        """Whether the loss of the latest pass is finite. Synchronizes."""

    def notes(self) -> dict[str, str]:
        """What differs from what was asked, in words."""


class Reduced(Protocol):
    """Steps of several ranks."""

    phases: Phases

    def alone(self, stamp: Stamp, passes: int) -> None:
        """As `Steps.update`, without reducing the gradients over the ranks."""

    def reduce(self) -> None:
        """Reduce as many bytes as the gradients have, and nothing else."""

    def gradient_bytes(self) -> int:
        """The bytes that an update reduces."""


class Clips(Protocol):
    """The clip of one net by itself, to be timed with any implementation."""

    queued: bool
    """Whether the host only queues a call for a device, so that its own time is another than the device's."""

    def draw(self, share: float) -> None:
        """New gradients, of which about ``share`` of the units are over their limit."""

    def call(self, workload: AgcCost) -> Callable[[], object]:
        """What is timed."""

    def reset(self) -> None:
        """The gradients as they were drawn, none of them in a cache of a device that calls are queued for."""

    def wait(self, seconds: float) -> None:
        """Have such a device wait at least so long, while the host queues what comes next."""

    def describe(self, workload: AgcCost) -> list[Reading]:
        """Units, those over their limit, bytes that must move, and operators and launches of a call."""


class Device(Protocol):
    """A device on which steps are built and timed."""

    machine: Machine
    world: World
    """The ranks that share a batch, each with a device of its own."""
    least_window: float
    """The shortest window in seconds that this device's meters need."""
    first_warm_up: float
    next_warm_up: float
    """The shortest warm-up in seconds of a net, and of one that has had a turn before, where the cap holds it."""

    def software(self, model: str | None = None) -> Software:
        """Versions, with the commit of the code under test."""

    def conditions(self, idle: bool = False) -> Conditions:
        """The state of the machine now; where this process is ``idle`` and may wait, with what others do meanwhile."""

    def resolve(self, workload: StepTime) -> Resolved:
        """What each `auto` becomes before anything is built; the micro-batch is the whole batch and the layout
        channels-last where they are still to be found."""

    def build(self, workload: StepTime, resolved: Resolved, seed: int) -> Steps:
        """The net, its optimizer and its inputs, on the device."""

    def clips(self, workload: AgcCost, seed: int) -> Clips:
        """The parameters of the workload's net that AGC clips, with gradients, on the device."""

    def clip_impls(self) -> dict[AgcImpl, str | None]:
        """Each implementation of the clip, with the reason where it does not run here."""

    def fit(self, workload: StepTime, resolved: Resolved, steps: Steps, seed: int) -> int:
        """The micro-batch for `auto`."""

    def flops(self, workload: Flops) -> list[Reading]:
        """``macs`` and ``train_macs`` of one image of ``px``, ``params`` and ``activations``, counted from shapes.

        Raises:
            UnsupportedWorkload: the net cannot be built or run at that px.
        """

    def dependence(self, workload: Dependence, seed: int) -> list[Reading]:
        """How far images depend on their batch: the readings of `nfbench.nets.dependence`.

        Always in float32 on the CPU, with random weights.

        Raises:
            UnsupportedWorkload: the net cannot be built or run, or a setting makes no sense.
        """

    def recorder(self, stamps: int) -> Recorder:
        """A recorder with room for that many stamps, all of it made beforehand."""

    def synchronize(self) -> None:
        """Wait until the device has done all its work."""

    def now(self) -> float:
        """The host's monotonic clock, in seconds."""

    def pace(self) -> tuple[float, ...]:
        """What shows whether the device has settled: its clock and its power; nothing where neither is known."""

    def reset_peaks(self) -> None:
        """Forget the peak of memory in use."""

    def peaks(self) -> list[Reading]:
        """The peaks of memory in use since they were last forgotten, in bytes."""

    def rest(self) -> None:
        """Give back memory that is only cached, before another process has its turn."""

    def out_of_memory(self, error: BaseException) -> bool:
        """Whether ``error`` says that the device's memory did not do; may then free what is cached. Raises nothing."""

    def usable(self) -> bool:
        """Whether this process can go on with the device: some errors of CUDA stay until it ends."""

    def lock_name(self) -> str | None:
        """A name for the lock that keeps two timings off one device; None where none is needed."""


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
    if not all(given.get(name) for name in RANK_VARIABLES):
        return None
    try:
        rank, size, local = (int(given[name]) for name in RANK_VARIABLES[:3])
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
    """One process: it agrees with itself. `nfbench.devices.ranks.Ranks` is the world of several."""

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


def joined_world() -> World:
    """The world that this process has joined; one of its own where it has not."""
    return _joined


def enter_world(world: World) -> None:
    """From now on `joined_world` is ``world``."""
    global _joined
    _joined = world


def leave_world() -> None:
    """Close the world that was joined, with the others, at the end."""
    joined_world().close()
    enter_world(World())


def abandon_world() -> None:
    """Leave the world that was joined, whatever the others do; nothing where it has been left."""
    joined_world().abandon()
    enter_world(World())
