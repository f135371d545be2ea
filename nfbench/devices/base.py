"""What nfbench needs of a device.

::

    resolve → build → fit (micro-batch) → [ recorder → update … update → times ] → inspect

Everything above this layer speaks these protocols only, so that a fake device can stand in to the digit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import nfbench
from nfbench.devices.world import VARIABLES, World
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
    Software,
    StepTime,
)

Stamp = Callable[[], None]

RUNNER = "NFBENCH_RUNNER"
"""The environment variable that gives a worker the process id of its runner."""

OTHER_TREE = "NFBENCH_OTHER_TREE"
"""The environment variable that tells a worker of a tree whose code is the other side's, and the note that names what
it has imported from there all the same."""


def child_environment(first: Sequence[Path] = (), own: bool = True) -> dict[str, str]:
    """The environment for a process of nfbench's own: it finds the package also where that was never installed.

    ``first`` are folders put first on its path. Where not ``own`` it is of another Python, whose nfbench it uses.
    """
    package_parent = [str(Path(nfbench.__file__).parent.parent)] if own else []
    path = [*map(str, first), *package_parent, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    # a process of a rank's own is no rank
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**kept, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


class Recorder(Protocol):
    """Time stamps taken in the device's own order of work."""

    def stamp(self) -> None:
        """Take one. Nothing is synchronized, printed or allocated on the device."""

    def times(self) -> list[float]:
        """Seconds from the first stamp to each, after all of them have passed; forgets them."""


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

    def draw(self, share: float) -> None:
        """New gradients, of which about ``share`` of the units are over their limit."""

    def call(self, workload: AgcCost) -> Callable[[], object]:
        """What is timed."""

    def reset(self) -> None:
        """The gradients as they were drawn."""

    def describe(self, workload: AgcCost) -> list[Reading]:
        """Units, those over their limit, bytes that must move, and operators and launches of a call."""


class Device(Protocol):
    """A device on which steps are built and timed."""

    machine: Machine
    world: World
    """The ranks that share a batch, each with a device of its own."""
    least_window: float
    """The shortest window in seconds that this device's meters need."""

    def software(self, model: str | None = None) -> Software:
        """Versions, with the commit of the code under test."""

    def conditions(self) -> Conditions:
        """The state of the machine now."""

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

    def reset_peaks(self) -> None:
        """Forget the peak of memory in use."""

    def peaks(self) -> list[Reading]:
        """The peaks of memory in use since they were last forgotten, in bytes."""

    def rest(self) -> None:
        """Give back memory that is only cached, before another process has its turn."""

    def out_of_memory(self, error: BaseException) -> bool:
        """Whether ``error`` says that the device's memory did not do; may then free what is cached."""

    def lock_name(self) -> str | None:
        """A name for the lock that keeps two timings off one device; None where none is needed."""
