"""Whether a Ray cluster answers at an address: found out in seconds, and told in words."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys

from nfbench.errors import NfbenchError

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


def check(address: str) -> None:
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
        raise refused(address, done.stdout.strip())
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


def refused(address: str, words: str) -> NfbenchError:
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
