"""A device of arithmetic: every image takes exactly 1/1024 s and 1 MiB, so that all above it is tested to the digit.

It imports no torch. A step of ``batch`` images takes ``batch / 1024`` seconds on its own clock, a quarter of it
forward, a half backward, and an eighth each clip and update, whatever the number of passes. A user's factory is called,
and where what it returns has an attribute ``sleep``, every step takes that share longer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from nfbench import __version__
from nfbench.catalog.models import call_factory, find
from nfbench.devices.base import HostRecorder, Stamp, World
from nfbench.devices.host import commit_of
from nfbench.errors import UnsupportedWorkload
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
    reading,
)

IMAGE_TIME = 1 / 1024
IMAGE_BYTES = 2**20
MEMORY = 2**30
LAUNCH_FREE = 0.9
ROUNDING = 2.0**-22
UNITS = {"macs": "MAC", "train_macs": "MAC", "px": "px"}


class FakeClock:
    """Seconds that pass only when a step is taken."""

    def __init__(self) -> None:
        self.seconds = 0.0


class FakeSteps:
    """A step that only lets time pass."""

    def __init__(self, clock: FakeClock, batch: int, micro_batch: int, clipped: bool, net: object = None) -> None:
        self.clock, self.batch, self.micro_batch = clock, batch, micro_batch
        self.clipped, self.net = clipped, net
        self.image_time = IMAGE_TIME * (1 + float(getattr(net, "sleep", 0.0)))
        self.phases = Phases()
        self.updates = 0

    def update(self, stamp: Stamp, passes: int) -> None:
        for _ in range(passes):
            self.clock.seconds += self.micro_batch * self.image_time / 4
            stamp()
            self.clock.seconds += self.micro_batch * self.image_time / 2
            stamp()
        for _ in range(2):
            self.clock.seconds += self.batch * self.image_time / 8
            stamp()
        self.updates += 1

    def arrange(self, layout: Layout, micro_batch: int) -> None:
        self.micro_batch = micro_batch

    def describe(self) -> list[Reading]:
        return [
            reading("macs", "MAC", "run", "fake", [2**20]),
            reading("train_macs", "MAC", "run", "fake", [3 * 2**20]),
            reading("params", "1", "run", "fake", [2**10]),
        ]

    def inspect(self) -> list[Reading]:
        clipped = [reading("clipped_units", "1", "run", "fake", [0.5])] if self.clipped else []
        return [
            reading("operators", "1", "step", "fake", [float(getattr(self.net, "operators", 100))]),
            reading("saved_bytes", "B", "micro_step", "fake", [self.micro_batch * IMAGE_BYTES / 2]),
            reading("zero_gradients", "1", "run", "fake", [0.0]),
            *clipped,
            reading("loss", "1", "run", "fake", [1.0]),
        ]

    def finite(self) -> bool:
        return True

    def notes(self) -> dict[str, str]:
        return {}


class FakeClips:
    """Clips that take a time of their own each: timm's loop 8 ms, a copy ½ ms, and half as much again where units are
    over their limit."""

    TIMES: ClassVar[dict[str, float]] = {
        "timm": 2**-7,
        "reference": 2**-4,
        "foreach": 2**-9,
        "fused": 2**-10,
        "copy": 2**-11,
    }
    queued = False

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.share = clock, 0.0

    def draw(self, share: float) -> None:
        self.share = share

    def reset(self) -> None:
        self.clock.seconds += 1

    def wait(self, seconds: float) -> None:
        return None

    def call(self, workload: AgcCost) -> Callable[[], object]:
        seconds = self.TIMES[workload.impl] * (1 if workload.impl == "copy" else 1 + self.share / 2)

        def clip() -> None:
            self.clock.seconds += seconds

        return clip

    def describe(self, workload: AgcCost) -> list[Reading]:
        moved = 2**20 * (2 if workload.impl == "copy" else 2 + self.share)
        found = [
            reading("moved_bytes", "B", "step", "fake", [moved]),
            reading("operators", "1", "step", "fake", [{"timm": 100, "copy": 1}.get(workload.impl, 10)]),
        ]
        if workload.impl != "copy":
            found.append(reading("units", "1", "run", "fake", [1000]))
            found.append(reading("clipped_units", "1", "run", "fake", [self.share]))
        return found


class FakeDevice:
    """Implements `nfbench.devices.base.Device` on a `FakeClock`."""

    machine = Machine(device="fake", name="fake", memory=MEMORY)
    least_window = first_warm_up = next_warm_up = 0.0
    world = World()

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.peak = 0

    def software(self, model: str | None = None) -> Software:
        net = find(model) if model else None
        module = sys.modules.get(net.config.partition(":")[0]) if net and net.source == "factory" else None
        commit, dirty = commit_of(Path(module.__file__)) if module and module.__file__ else (None, None)
        return Software(nfbench=__version__, commit=commit, dirty=dirty)

    def conditions(self, idle: bool = False) -> Conditions:
        return Conditions()

    def resolve(self, workload: StepTime) -> Resolved:
        net = find(workload.model)
        px = (net.train_px or 224) if workload.px == "train" else workload.px
        agc = (0.01 if net.norm == "none" else None) if workload.agc == "auto" else workload.agc
        return Resolved(
            px=px,
            micro_batch=workload.batch if workload.micro_batch == "auto" else workload.micro_batch,
            precision="fp32" if workload.precision == "auto" else workload.precision,
            layout="nhwc" if workload.layout == "best" else workload.layout,
            agc=None if agc == "none" else agc,
            agc_impl=None if agc in ("none", None) else "foreach" if workload.agc_impl == "auto" else workload.agc_impl,
        )

    def build(self, workload: StepTime, resolved: Resolved, seed: int) -> FakeSteps:
        net = find(workload.model)
        made = call_factory(net.config, 1000) if net.source == "factory" else None
        self.peak = resolved.micro_batch * IMAGE_BYTES
        return FakeSteps(self.clock, workload.batch, resolved.micro_batch, resolved.agc is not None, made)

    def clips(self, workload: AgcCost, seed: int) -> FakeClips:
        return FakeClips(self.clock)

    def clip_impls(self) -> dict[AgcImpl, str | None]:
        return {"timm": None, "reference": None, "foreach": None, "fused": None}

    def flops(self, workload: Flops) -> list[Reading]:
        net = find(workload.model)
        sides = {"train": net.train_px or 224, "test": net.test_px or 224}
        px = sides[workload.px] if isinstance(workload.px, str) else workload.px
        counts = {"macs": 2**20, "train_macs": 3 * 2**20, "params": 2**10, "activations": 2**12, "px": px}
        return [reading(name, UNITS.get(name, "1"), "run", "fake", [value]) for name, value in counts.items()]

    def dependence(self, workload: Dependence, seed: int) -> list[Reading]:
        """With batch normalization half of an output and a whole share depend on the rest; AGC makes it a quarter of
        a share without."""
        net = find(workload.model)
        batch = 0.0 if net.norm == "none" else 1.0
        agc = (0.01 if net.norm == "none" else "none") if workload.agc == "auto" else workload.agc
        values = {
            "px": 64.0 if workload.px == "auto" else float(workload.px),
            "output_rest_changed": batch / 2,
            "output_evaluation_others": batch,
            "output_rounding": ROUNDING,
            "share_rest_changed_no_agc": batch,
            "share_rounding_no_agc": ROUNDING,
        }
        if not isinstance(agc, str):
            values |= {"clipping": agc, "clipped_units": 0.5}
            values |= {"share_rest_changed_agc": max(batch, 0.25), "share_rounding_agc": ROUNDING}
        return [reading(name, UNITS.get(name, "1"), "run", "fake", [value]) for name, value in values.items()]

    def fit(self, workload: StepTime, resolved: Resolved, steps: object, seed: int) -> int:
        micro_batch = workload.batch
        while micro_batch * IMAGE_BYTES > LAUNCH_FREE * MEMORY:
            if micro_batch % 2:
                raise UnsupportedWorkload(
                    f"A batch of {workload.batch} has no power-of-two share that fits.", try_="--micro-batch 1"
                )
            micro_batch //= 2
        self.peak = micro_batch * IMAGE_BYTES
        return micro_batch

    def recorder(self, stamps: int) -> HostRecorder:
        return HostRecorder(self.now)

    def synchronize(self) -> None:
        return None

    def now(self) -> float:
        return self.clock.seconds

    def pace(self) -> tuple[float, ...]:
        return ()

    def reset_peaks(self) -> None:
        return None

    def peaks(self) -> list[Reading]:
        return [reading("peak_allocated", "B", "window", "fake", [self.peak])]

    def rest(self) -> None:
        return None

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)

    def usable(self) -> bool:
        return True

    def lock_name(self) -> str | None:
        return None
