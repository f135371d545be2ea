"""The frame of a result, and what a failure becomes in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from nfbench.analysis.store import new_id
from nfbench.devices.base import Device
from nfbench.records import SCHEMA_VERSION, Machine, Record, Result, Sampling, Software, Status, Workload

Keep = Callable[[Result], None]
LONGEST_MESSAGE = 500
_PATH = re.compile(r"(?<![\w./\\])(?:[A-Za-z]:|~)?(?:[/\\][^\s/\\:'\"]+)+[/\\](?=[^\s/\\])")
_PREFIX = re.compile(r"(?:[\w-]+=)?(?:imagefolder:)?")
"""What stands before the value in one word of a command: ``--dataset=imagefolder:``."""
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


def typed(words: Iterable[str]) -> str:
    """The command of these ``words`` fit to be stored: a path is given by its last component, and neither the home
    folder nor a UUID nor the address of a cluster is in it."""
    home = str(Path.home())
    stored: list[str] = []
    flag = ""
    for word in words:
        prefix = "" if (match := _PREFIX.match(word)) is None else match[0]
        flag = prefix.partition("=")[0] if prefix.startswith("--") else flag
        value = word[len(prefix) :]
        value = value.replace(home, "~") if len(home) > 1 else value
        parts = re.split(r"[/\\]", value)
        # "origin/main" is no path
        ref = flag == "--against" and parts[0] not in ("", "~", "..")
        if flag == "--ray" and value != "auto":
            value = "ADDRESS"
        elif not ref:
            value = next((part for part in reversed(parts) if part), value)
        stored.append(_UUID.sub("…", prefix + value))
        flag = word
    return shlex.join(stored)
