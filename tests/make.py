"""Small records for tests."""

from __future__ import annotations

from typing import Any

from nfbench.measuring.watch import Silent
from nfbench.records import (
    SCHEMA_VERSION,
    Machine,
    Reading,
    Resolved,
    Result,
    Sampling,
    Software,
    StepTime,
    reading,
)

CPU = Machine(device="cpu", name="A CPU", memory=2**34, cpu="A CPU", cpu_cores=2)
H200 = Machine(device="cuda", name="NVIDIA H200", memory=2**37, compute_capability="9.0", driver="580.1")
FAKE = Machine(device="fake", name="fake")
SOFTWARE = Software(nfbench="0.1.0", torch="2.15.0", timm="1.0.31")


def step_times(*values: float) -> Reading:
    return reading("step_time", "s", "step", "test", values)


def once(name: str, value: float, unit: str = "1") -> Reading:
    return reading(name, unit, "run", "test", [value])


def result(model: str = "resnet50", times: tuple[float, ...] = (0.1,) * 20, **fields: Any) -> Result:
    given: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "id": "20260101T000000Z-0000",
        "start": "2026-01-01T00:00:00.000Z",
        "status": "ok",
        "workload": StepTime(model=model),
        "sampling": Sampling(),
        "machine": CPU,
        "software": SOFTWARE,
        "resolved": Resolved(px=224, micro_batch=32, precision="fp32", layout="nhwc"),
        "readings": (step_times(*times),),
    }
    return Result(**(given | fields))


class Quiet(Silent):
    """A watch that only keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def about(self, subject: str) -> None:
        return None

    def note(self, text: str) -> None:
        self.notes.append(text)
