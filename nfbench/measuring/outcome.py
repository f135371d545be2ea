"""The frame of a result, and what a failure becomes in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from nfbench.analysis.store import new_id
from nfbench.devices.base import Device
from nfbench.records import SCHEMA_VERSION, Record, Result, Sampling, Status, Workload

Keep = Callable[[Result], None]
LONGEST_MESSAGE = 500


class Labels(Record, frozen=True, kw_only=True):
    """What a result is part of: an interleaved session, a study."""

    session: str | None = None
    study: str | None = None


def base_result(
    device: Device, workload: Workload, sampling: Sampling, seed: int, round: int, labels: Labels
) -> Result:
    """A result that holds everything but what is measured."""
    return Result(
        schema=SCHEMA_VERSION,
        id=new_id(),
        start=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        status="error",
        workload=workload,
        sampling=sampling,
        machine=device.machine,
        software=device.software(workload.model),
        session=labels.session,
        study=labels.study,
        round=round,
        seed=seed,
    )


def failure(error: Exception, device: Device) -> tuple[Status, str]:
    """The status and message that ``error`` gives a result; the message holds no traceback and no path."""
    lines = str(error).strip().splitlines() or [""]
    message = f"{type(error).__name__}: {lines[0]}"[:LONGEST_MESSAGE]
    return ("out_of_memory" if device.out_of_memory(error) else "error"), message
