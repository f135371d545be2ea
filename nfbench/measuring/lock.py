"""Two timings never share a device: the second waits, and says for whom."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from nfbench.devices.base import World
from nfbench.measuring.outcome import Watch

POLL = 0.2
SHARED = "NFBENCH_SHARED_DEVICE"
"""The variable under which a run was given a share of a device: it goes beside others of the kind, never a timing."""


def lock_file(name: str) -> Path:
    """The lock's file in the user's runtime folder, or where temporary files go; ``name`` is not readable from it."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if not os.access(folder, os.W_OK):
        folder = Path(tempfile.gettempdir())
    return folder / f"nfbench-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"


@contextlib.contextmanager
def only_one(name: str | None, watch: Watch, world: World | None = None) -> Iterator[None]:
    """Hold the lock of device ``name``; None needs none.

    The kernel releases it when its holder ends, however that ends. The ranks of a ``world`` take theirs one after the
    other, so that two worlds never hold each a part of what the other needs, and go on once all have them.
    """
    with contextlib.ExitStack() as held:
        with (world or World()).in_turn():
            held.enter_context(_held(name, watch))
        yield


@contextlib.contextmanager
def _held(name: str | None, watch: Watch) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # not on this system; the timing goes on without a lock
        name = None
    if name is None:
        yield
        return
    try:
        handle = os.open(lock_file(name), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        watch.note(f"No lock on the device ({error.strerror}): another timing may run beside this one.")
        yield
        return
    how = fcntl.LOCK_SH if os.environ.get(SHARED) else fcntl.LOCK_EX
    try:
        said = False
        while True:
            try:
                fcntl.flock(handle, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    holder = os.pread(handle, 64, 0).decode(errors="replace").strip() or "another nfbench"
                    watch.waits(f"Waiting for {holder}, which times on this device.")
                    said = True
                time.sleep(POLL)
        if said:
            watch.phase("going on")
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(handle)
