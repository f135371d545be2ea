"""What a node of a cluster does: it says what it is, and measures one task. It keeps nothing and knows no Ray."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

import nfbench
from nfbench.analysis.stats import Estimate
from nfbench.devices import about, nvml
from nfbench.errors import NfbenchError
from nfbench.learning.sources import Sources
from nfbench.measuring.lock import SHARED
from nfbench.measuring.outcome import Labels, scrubbed
from nfbench.measuring.watch import Silent
from nfbench.records import Record, Result, Sampling, Software, StepTime
from nfbench.studies import runs
from nfbench.studies.entry import Task
from nfbench.studies.execute import measured_once
from nfbench.studies.group import Group, Seat, Unstarted
from nfbench.studies.messages import Hello
from nfbench.studies.process import Process

THREADS = "OMP_NUM_THREADS"


class Asked(NamedTuple):
    """A task for a node, whose machine must have this ``name``; ``share`` is what the task takes of a device."""

    task: Task
    device: str
    study: str | None
    name: str
    share: float


class Report(Record, frozen=True, kw_only=True):
    """What came of a task.

    ``refused`` says in words (what, why, try) why this node cannot do it, ``died`` how a worker ended that had not
    opened its device yet, or what this node raised.
    """

    results: tuple[Result, ...] = ()
    notes: tuple[str, ...] = ()
    refused: tuple[str, str, str] | None = None
    died: str | None = None


_decoder = msgspec.json.Decoder(Report)


def decoded(content: bytes) -> Report:
    """The report of a node."""
    return _decoder.decode(content)


class Listener(Silent):
    """Keeps the notes of a task for the report."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def about(self, subject: str) -> None:
        return None

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, steps: int, estimate: Estimate, left: float) -> None:
        return None


def machine_name(device: str) -> str:
    """The name that this machine has in results on such a device, without opening it; empty where NVML is absent."""
    if device == "fake":
        return "fake"
    if device == "cpu":
        return about.cpu_name()
    cards = nvml.cards()
    return cards[0].name if cards else ""


def software(device: str) -> bytes:
    """The `Software` of this node as JSON, as it is in results on such a device, without opening it."""
    # nothing of the fake device is torch's, and importing that takes seconds
    return msgspec.json.encode(
        Software(nfbench=nfbench.__version__) if device == "fake" else about.software(with_torch=True)
    )


def missing(sources: Sequence[Sources]) -> str | None:
    """What a training run would read and this machine has not, in words; None where all is there."""
    for one in sources:
        try:
            runs.check(one)
        except NfbenchError as error:
            return error.what
        if one.weights is not None and not Path(one.weights).is_file():
            return f"There is no file of weights {one.weights}."
    return None


def hello(device: str) -> bytes:
    """A `Hello` of this node as JSON, from a worker that has opened the device; a `Report` where it was refused."""
    unlimited(1.0, device)
    process = Process(device)
    try:
        process.ready()
        if process.hello is not None:
            return msgspec.json.encode(process.hello)
        any_ = StepTime(model="tiny-nfnet")
        group = Group([Seat(any_)], device=device, seed=0, labels=Labels(), processes=[process])
        # asking it says why
        group.turn(0, 0, Sampling(), lambda result: None, Listener())
    except NfbenchError as error:
        return msgspec.json.encode(Report(refused=(error.what, error.why, error.try_)))
    finally:
        process.close()
    raise AssertionError("a worker that has not opened its device has answered")


def greeted(content: bytes) -> Hello:
    """The `Hello` of a node.

    Raises:
        NfbenchError: its device could not be opened.
    """
    try:
        return msgspec.json.decode(content, type=Hello)
    except msgspec.ValidationError:
        refused = decoded(content).refused
    assert refused is not None
    what, why, try_ = refused
    raise NfbenchError(what, why=why, try_=try_)


def measure(asked: Asked) -> bytes:
    """A `Report` as JSON of a task that runs here, its workloads in processes of nfbench's own."""
    watch = Listener()
    try:
        report = _measured(asked, watch)
    except Exception as error:
        # a node whose disk is full, say, does not end what the others do
        words = scrubbed(" ".join(f"{type(error).__name__}: {error}".split()))
        report = Report(died=words, notes=tuple(watch.notes))
    return msgspec.json.encode(report)


def _measured(asked: Asked, watch: Listener) -> Report:
    task = asked.task
    if (why := missing([task.entry.sources])) is not None:
        return Report(refused=(why, "Every node reads it by the same path.", ""))
    name = machine_name(asked.device)
    if asked.name and name and name != asked.name:
        return Report(refused=(f"It is of another kind: {name}, not {asked.name}.", "A study is of one machine.", ""))
    unlimited(asked.share, asked.device)
    try:
        results = measured_once(task, device=asked.device, watch=watch, study=asked.study)
    except Unstarted as error:
        if error.died:
            return Report(died=str(error).replace("\n", " "), notes=tuple(watch.notes))
        return Report(refused=(error.what, error.why, error.try_))
    except NfbenchError as error:
        return Report(refused=(error.what, error.why, error.try_))
    if asked.share < 1:
        beside = {"share": f"{asked.share:g} of the device, beside another run"}
        results = [msgspec.structs.replace(r, notes=r.notes | beside) for r in results]
    return Report(results=tuple(results), notes=tuple(watch.notes))


def unlimited(share: float, device: str) -> None:
    """Make the workers that start now use as many threads as they would without Ray, and take their part of the lock.

    Ray sets the number of threads of each task to its CPUs, which is another figure than torch's own; a share of a CPU
    keeps it.
    """
    os.environ[SHARED] = "1" if share < 1 else ""
    if share == 1 or device == "cuda":
        own = os.environ.get(THREADS)
        if own is not None and f"{THREADS}=".encode() not in _at_start():
            del os.environ[THREADS]


def _at_start() -> bytes:
    """The environment with which this process was started; where it cannot be told, what it has now."""
    try:
        return Path("/proc/self/environ").read_bytes()
    except OSError:
        return "\0".join(f"{name}={value}" for name, value in os.environ.items()).encode()
