"""Two timings never share a device: the second waits, and says for whom."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from nfbench.measuring.watch import Watch

POLL = 0.2


def lock_file(name: str) -> Path:
    """The lock's file in the user's runtime folder, or where temporary files go; ``name`` is not readable from it."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if not os.access(folder, os.W_OK):
        folder = Path(tempfile.gettempdir())
    return folder / f"nfbench-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"


@contextlib.contextmanager
def only_one(name: str | None, watch: Watch) -> Iterator[None]:
    """Hold the lock of device ``name``; None needs none.

    The kernel releases it when its holder ends, however that ends.
    """
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
    try:
        said = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    holder = os.pread(handle, 64, 0).decode(errors="replace").strip() or "another nfbench"
                    watch.note(f"Waiting for {holder}, which times on this device.")
                    said = True
                time.sleep(POLL)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(handle)
