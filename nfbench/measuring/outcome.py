"""The frame of a result, and what a failure becomes in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from nfbench.analysis.store import new_id
from nfbench.devices.base import Device
from nfbench.records import SCHEMA_VERSION, Machine, Record, Result, Sampling, Software, Status, Workload

Keep = Callable[[Result], None]
LONGEST_MESSAGE = 500
_PATH = re.compile(r"(?<![\w./\\])(?:[A-Za-z]:|~)?(?:[/\\][^\s/\\:'\"]+)+[/\\](?=[^\s/\\])")
_UUID = re.compile(r"\b(?:(?:GPU|MIG)-)?[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")


class Labels(Record, frozen=True, kw_only=True):
    """What a result is part of: an interleaved session, a study."""

    session: str | None = None
    study: str | None = None


def frame(
    machine: Machine,
    software: Software,
    workload: Workload,
    sampling: Sampling,
    *,
    seed: int,
    round: int,
    turn: int,
    labels: Labels,
    status: Status = "error",
    message: str | None = None,
) -> Result:
    """A result that begins now and holds everything but what is measured."""
    return Result(
        schema=SCHEMA_VERSION,
        id=new_id(),
        start=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        status=status,
        message=None if message is None else scrubbed(message),
        workload=workload,
        sampling=sampling,
        machine=machine,
        software=software,
        session=labels.session,
        study=labels.study,
        round=round,
        turn=turn,
        seed=seed,
    )


def failure(error: Exception, device: Device) -> tuple[Status, str]:
    """The status and message that ``error`` gives a result."""
    lines = str(error).strip().splitlines() or [""]
    message = scrubbed(f"{type(error).__name__}: {lines[0]}")
    return ("out_of_memory" if device.out_of_memory(error) else "error"), message


def scrubbed(message: str) -> str:
    """``message`` fit to be stored and published: without folders, UUIDs and all that is over 500 characters."""
    home = str(Path.home())
    message = _PATH.sub("", message.replace(home, "~") if len(home) > 1 else message)
    return _UUID.sub("…", message)[:LONGEST_MESSAGE]
