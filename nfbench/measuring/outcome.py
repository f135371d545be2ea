"""The frame of a result, what a failure becomes in it, the one result of several ranks, and who looks on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from nfbench.analysis.stats import Estimate
from nfbench.analysis.store import new_id
from nfbench.devices.base import Device, World
from nfbench.privacy import scrubbed
from nfbench.records import (
    SCHEMA_VERSION,
    Machine,
    Reading,
    Record,
    Result,
    Sampling,
    Software,
    Status,
    Workload,
    from_json,
    to_json,
)

Keep = Callable[[Result], None]


class Labels(Record, frozen=True, kw_only=True):
    """What a result is part of: an interleaved session, a study."""

    session: str | None = None
    study: str | None = None


class Turn(Record, frozen=True, kw_only=True):
    """What a result is asked for: a workload, measured in one turn of one round."""

    workload: Workload
    sampling: Sampling
    seed: int = 0
    round: int = 0
    turn: int = 0
    labels: Labels = Labels()


def frame(
    machine: Machine, software: Software, asked: Turn, status: Status = "error", message: str | None = None
) -> Result:
    """A result that begins now and holds everything but what is measured."""
    return Result(
        schema=SCHEMA_VERSION,
        id=new_id(),
        start=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        status=status,
        message=None if message is None else scrubbed(message),
        workload=asked.workload,
        sampling=asked.sampling,
        machine=machine,
        software=software,
        session=asked.labels.session,
        study=asked.labels.study,
        round=asked.round,
        turn=asked.turn,
        seed=asked.seed,
    )


def begun(device: Device, asked: Turn) -> Result:
    """The `frame` of a result of this process's ``device``."""
    return frame(device.machine, device.software(asked.workload.model), asked)


def failure(error: Exception, device: Device) -> tuple[Status, str]:
    """The status and message that ``error`` gives a result."""
    lines = str(error).strip().splitlines() or [""]
    message = scrubbed(f"{type(error).__name__}: {lines[0]}")
    return ("out_of_memory" if device.out_of_memory(error) else "error"), message


def to_store(result: Result, command: str | None) -> Result:
    """``result`` with the ``command`` that was typed, and all its words `scrubbed`, whoever wrote them."""
    return msgspec.structs.replace(
        result,
        command=command,
        message=None if result.message is None else scrubbed(result.message),
        notes={name: scrubbed(words) for name, words in result.notes.items()},
    )


SHARED = frozenset(
    {
        "macs",
        "train_macs",
        "params",
        "steps",
        "passes",
        "operators",
        "saved_bytes",
        "inspected_images",
        "zero_gradients",
        "clipped_units",
        "nonfinite_units",
        "skipped_updates",
        "gradient_bytes",
    }
)
"""What is the same on every rank by its nature, and stands once: counts, and what is read off reduced gradients."""


def _of_each(name: str) -> bool:
    return name not in SHARED


def merged(world: World, result: Result, of_each: Callable[[str], bool] = _of_each) -> Result:
    """On rank 0 the result of all ranks, with those readings of others that are ``of_each``; on others ``result``.

    It is `diverged` where one is. Throttling of any card counts; machines that differ are named in a note.
    """
    if world.size == 1:
        return result
    found = [from_json(line) for line in world.gather(to_json(result))]
    if not found:
        return result
    readings: list[Reading] = list(result.readings)
    for rank, other in enumerate(found[1:], 1):
        readings += [msgspec.structs.replace(r, rank=rank) for r in other.readings if of_each(r.name)]
    throttle = sorted({reason for other in found for reason in other.conditions.throttle})
    names = dict.fromkeys(other.machine.name for other in found)
    notes = result.notes if len(names) == 1 else {**result.notes, "machines": ", ".join(names)}
    return msgspec.structs.replace(
        result,
        status=next((other.status for other in found if other.status != "ok"), result.status),
        conditions=msgspec.structs.replace(result.conditions, throttle=tuple(throttle)),
        notes=notes,
        readings=tuple(readings),
    )


class Watch:
    """Told what runs; this one looks away. Nothing it does may reach into a timed block."""

    def about(self, subject: str) -> None:
        """What the next calls are about: a model, a place in a study."""

    def phase(self, what: str) -> None:
        """What runs now, in words."""

    def progress(self, steps: int, estimate: Estimate, left: float) -> None:
        """Steps counted, the running step time, and the seconds left to the cap."""

    def going(self, text: str) -> None:
        """How far a long piece of work is; may be passed over."""

    def note(self, text: str) -> None:
        """Something the user should read, kept on the screen."""

    def waits(self, text: str) -> None:
        """Nothing goes on, for the reason given, until anything else is told."""
        self.note(text)

    def failed(self, error: Exception, result: Result) -> None:
        """The workload failed; ``result`` is the row that will say so."""
