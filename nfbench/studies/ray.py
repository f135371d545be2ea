"""All that nfbench asks of Ray, and what the nodes of its cluster do: see docs.ray.io.

A node says what it is, and measures one task. It keeps nothing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import pickle
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import nfbench
from nfbench.devices import host, nvml
from nfbench.errors import NfbenchError
from nfbench.learning.learner import Sources
from nfbench.measuring.lock import SHARED
from nfbench.measuring.outcome import Watch
from nfbench.privacy import scrubbed
from nfbench.records import Record, Result, Software, StepTime
from nfbench.studies.entries import Task, check_sources
from nfbench.studies.processes import Process, Unstarted, greeting, restored
from nfbench.studies.run import measured_once
from nfbench.studies.worker import Hello

ANSWER = 10.0
"""Seconds that a cluster has to answer at its address."""

IMPORT = 120.0
# under `uv run` Ray would send this folder to the nodes and build an environment there; each node has its own
SETTINGS = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
# ray.init waits for minutes for an address that does not answer, in code that no exception ends
_TRIAL = """
import faulthandler, logging, os, sys
import ray
faulthandler.dump_traceback_later(float(sys.argv[2]), exit=True)
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
except Exception as error:
    print(" ".join(str(error).split()))
    sys.stdout.flush()
    os._exit(7)
os._exit(0)
"""


def check_address(address: str) -> None:
    """See that a cluster answers at ``address``, and make Ray fit to be imported.

    Raises:
        NfbenchError: ray is not installed, the address is none, or no cluster answers or lets us in.
    """
    spec = importlib.util.find_spec("ray")
    if spec is None or spec.origin is None:
        raise NfbenchError(
            "--ray needs Ray, which is not installed.", try_='pip install "nfbench[ray]", or uv sync --extra ray'
        )
    os.environ.update(SETTINGS)
    if address != "auto":
        _knock(address)
    _try(address)


def _knock(address: str) -> None:
    """Raise `NfbenchError` where ``address`` is none, or nothing listens there."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise NfbenchError(
            f"--ray {address} is no address of a cluster.",
            why="nfbench runs on a machine of the cluster, and asks the port that ray start --head names.",
            try_="--ray auto, or --ray HOST:6379",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except OSError as error:
        raise _silent(address, str(error.strerror or error)) from error


def _try(address: str) -> None:
    """Raise `NfbenchError` where no cluster answers in time; found out by a process that can be ended."""
    command = [sys.executable, "-W", "ignore", "-c", _TRIAL, address, str(ANSWER)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=IMPORT)
    except subprocess.TimeoutExpired as error:
        raise _silent(address, f"nothing came of it in {IMPORT:.0f} s") from error
    if done.returncode == 7:
        raise refusal(address, done.stdout.strip())
    if "Timeout" in done.stderr:
        raise _silent(address, f"nothing of Ray's in {ANSWER:g} s")
    if done.returncode:
        raise _silent(address, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])


def _silent(address: str, why: str) -> NfbenchError:
    where = "on this machine" if address == "auto" else f"at {address}"
    return NfbenchError(
        f"No Ray cluster answers {where}: {why}.",
        try_="ray start --head on one machine and ray start --address=HOST:6379 on the others; ray status shows them",
    )


def refusal(address: str, words: str) -> NfbenchError:
    """What Ray said when it did not let us in, in our words where the cause is a known one."""
    if "ersion mismatch" in words:
        return NfbenchError(
            "The cluster runs another Ray or Python than this.", why=words[:300], try_="the same versions on every node"
        )
    if "Could not find any running Ray instance" in words:
        return _silent(address, "none was started here")
    return NfbenchError(
        f"The Ray cluster at {address} does not let nfbench in.",
        why=f"nfbench must run on a machine of the cluster. Ray says: {words[:300] or 'nothing'}",
        try_="ray status",
    )


LOOK = 300.0
"""Seconds in which a node must have imported torch."""
POLL = 0.2
LONGEST = 300
"""Characters of what a task raised."""


class Lost(Exception):
    """A task ended without an answer because its node, or Ray's process on it, was lost."""


class Broken(Lost):
    """A task ended without an answer because something raised there that nobody expected, such as a full disk."""


class Node(NamedTuple):
    """A node that is alive: Ray's name for it, its address, what it has of GPUs and CPUs, and Ray's name for the kind
    of its GPUs."""

    id: str
    address: str
    gpus: float
    cpus: float
    accelerator: str | None = None


class Need(NamedTuple):
    """What a task takes of a node, and the kind of GPU that it needs as `Node.accelerator` names it."""

    gpus: float
    cpus: float
    accelerator: str | None = None


class Seen(NamedTuple):
    """What a node says of itself: versions (None where it has no nfbench), the name of its machine, the data that it
    has not, and all of its software where its nfbench has this version."""

    version: str | None
    python: str
    name: str
    missing: str | None
    software: Software | None = None


class Nodes:
    """A connection to a cluster that runs already, to be entered; leaving it ends all that was handed out.

    ``heed`` is called between calls of Ray, where an exception can be raised.

    Raises:
        NfbenchError: ray is not installed, or no cluster answers at ``address``.
    """

    def __init__(self, address: str) -> None:
        self.address, self.heed = address, _nothing
        check_address(address)
        with _quietly(), restored():
            import ray

            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise refusal(address, str(error)) from error
        self.ray: Any = ray

    def __enter__(self) -> Nodes:
        # a thread of Ray's prints there what happens to nodes
        self.silence = contextlib.redirect_stdout(io.StringIO())
        self.silence.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        with _quietly(), contextlib.suppress(Exception):
            self.ray.shutdown()
        self.silence.__exit__(None, None, None)

    def alive(self) -> list[Node]:
        """The nodes that are alive now."""
        found = []
        for node in self.ray.nodes():
            has = node.get("Resources", {})
            kind = next((name for name in has if name.startswith("accelerator_type:")), None)
            if node["Alive"]:
                address = node["NodeManagerAddress"]
                found.append(Node(node["NodeID"], address, has.get("GPU", 0.0), has.get("CPU", 0.0), kind))
        return found

    def look(self, nodes: Sequence[Node], device: str, sources: object) -> dict[Node, Seen]:
        """What each of ``nodes`` says of itself, whatever else runs there; those that are lost meanwhile are left out.

        Raises:
            NfbenchError: none of them answers, or one cannot say it.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        def seen(version: str, asked: bytes) -> tuple[str | None, str, str, str | None, bytes]:
            # another nfbench may have nothing of what follows
            import pickle
            import sys

            python = f"{sys.version_info[0]}.{sys.version_info[1]}"
            try:
                import nfbench
            except ImportError:
                return None, python, "", None, b""
            if nfbench.__version__ != version:
                return nfbench.__version__, python, "", None, b""
            from nfbench.studies.ray import machine_name, missing, software

            device, sources = pickle.loads(asked)
            return version, python, machine_name(device), missing(sources), software(device)

        content = pickle.dumps((device, sources))
        with _quietly():
            refs = [
                self.ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=On(node.id, soft=False))(seen).remote(
                    nfbench.__version__, content
                )
                for node in nodes
            ]
        ready: list[Any] = []
        until = time.monotonic() + LOOK
        while len(ready) < len(refs) and time.monotonic() < until:
            ready += self.ended([ref for ref in refs if ref not in ready])
        found = {}
        for node, ref in zip(nodes, refs, strict=True):
            if ref not in ready:
                continue
            try:
                version, python, name, missing, software = self.result(ref)
            except Broken as error:
                raise NfbenchError(
                    f"The node {node.address} cannot say what it has: {error}.",
                    try_="the same nfbench on every node, in the environment in which ray start runs",
                ) from error
            except Lost:
                continue
            # what has other fields was written by another commit of this version
            all_of_it = msgspec.json.decode(software, type=Software) if software else None
            found[node] = Seen(version, python, name, missing, all_of_it)
        if not found:
            raise NfbenchError(f"None of the nodes of the Ray cluster at {self.address} answers.", try_="ray status")
        return found

    def hand_out(self, function: str, argument: object, need: Need) -> Any:
        """Have a node call ``nfbench.studies.ray.<function>``, once; who loses it decides what is next."""

        def called(version: str, function: str, content: bytes) -> bytes:
            import pickle

            import nfbench

            if nfbench.__version__ != version:
                # told without what only the right version has
                import json

                what = f"It has nfbench {nfbench.__version__}, this is {version}."
                return json.dumps({"refused": [what, "", "the same nfbench on every node"]}).encode()
            from nfbench.studies import ray

            answer: bytes = getattr(ray, function)(pickle.loads(content))
            return answer

        settings: dict[str, Any] = {"num_cpus": need.cpus, "num_gpus": need.gpus, "max_retries": 0}
        if need.accelerator is not None:
            settings["resources"] = {need.accelerator: 0.001}
        with _quietly():
            return self.ray.remote(**settings)(called).remote(nfbench.__version__, function, pickle.dumps(argument))

    def ended(self, refs: Collection[Any]) -> list[Any]:
        """Those of what was handed out that have ended, after a moment at most."""
        self.heed()
        if not refs:
            time.sleep(POLL)
            return []
        with _quietly():
            ready, _ = self.ray.wait(list(refs), num_returns=1, timeout=POLL)
        self.heed()
        return list(ready)

    def result(self, ref: Any) -> Any:
        """What a node answered.

        Raises:
            Lost: its node, or its process there, is gone. `Broken`: it raised something.
        """
        errors = self.ray.exceptions
        with _quietly():
            try:
                return self.ray.get(ref, timeout=LOOK)
            except errors.RayTaskError as error:
                cause = getattr(error, "cause", None) or error
                raise Broken(" ".join(f"{type(cause).__name__}: {cause}".split())[:LONGEST]) from error
            except errors.RayError as error:
                raise Lost(type(error).__name__) from error

    def cancel(self, refs: Collection[Any]) -> None:
        """End what was handed out."""
        for ref in refs:
            with _quietly(), contextlib.suppress(Exception):
                self.ray.cancel(ref, force=True)


def _nothing() -> None:
    return None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    # Ray's own warnings are about Ray's own code
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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


reports = msgspec.json.Decoder(Report)


class Listener(Watch):
    """Keeps the notes of a task for the report."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def machine_name(device: str) -> str:
    """The name that this machine has in results on such a device, without opening it; empty where NVML is absent."""
    if device == "fake":
        return "fake"
    if device == "cpu":
        return host.cpu_name()
    cards = nvml.cards()
    return cards[0].name if cards else ""


def software(device: str) -> bytes:
    """The `Software` of this node as JSON, as it is in results on such a device, without opening it."""
    # nothing of the fake device is torch's, and importing that takes seconds
    return msgspec.json.encode(
        Software(nfbench=nfbench.__version__) if device == "fake" else host.software(with_torch=True)
    )


def missing(sources: Sequence[Sources]) -> str | None:
    """What a training run would read and this machine has not, in words; None where all is there."""
    for one in sources:
        try:
            check_sources(one)
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
        return msgspec.json.encode(greeting(process, StepTime(model="tiny-nfnet"), Listener()))
    except NfbenchError as error:
        return msgspec.json.encode(Report(refused=(error.what, error.why, error.try_)))
    finally:
        process.close()


def greeted(content: bytes) -> Hello:
    """The `Hello` of a node.

    Raises:
        NfbenchError: its device could not be opened.
    """
    try:
        return msgspec.json.decode(content, type=Hello)
    except msgspec.ValidationError:
        refused = reports.decode(content).refused
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
