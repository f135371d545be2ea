"""The nodes of a Ray cluster, and what runs on them. All that nfbench asks of Ray is here; see docs.ray.io."""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

import nfbench
from nfbench.errors import NfbenchError
from nfbench.records import Software
from nfbench.studies import ray_address, signals

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
        ray_address.check(address)
        with _quietly(), signals.restored():
            import ray

            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ray_address.refused(address, str(error)) from error
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
            from nfbench.studies.remote import machine_name, missing, software

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
        """Have a node call ``nfbench.studies.remote.<function>``, once; who loses it decides what is next."""

        def called(version: str, function: str, content: bytes) -> bytes:
            import pickle

            import nfbench

            if nfbench.__version__ != version:
                # told without what only the right version has
                import json

                what = f"It has nfbench {nfbench.__version__}, this is {version}."
                return json.dumps({"refused": [what, "", "the same nfbench on every node"]}).encode()
            from nfbench.studies import remote

            answer: bytes = getattr(remote, function)(pickle.loads(content))
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
