"""Two timings never share a device: the second waits, and says for whom.

One file per device stands for it, in a folder that all processes of a machine share whatever their environment. A
container, a service with a private ``/tmp`` and another machine see files of their own: those are not waited for.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from nfbench.analysis.store import NO_LINK
from nfbench.devices.base import World
from nfbench.errors import DeviceUnavailable
from nfbench.measuring.outcome import Watch

POLL = 0.2
SHARED = "NFBENCH_SHARED_DEVICE"
"""The variable under which a run was given a share of a device: it goes beside others of the kind, never a timing."""
FOLDER = "NFBENCH_TEST_LOCKS"
"""The variable that gives nfbench's own tests a folder for locks."""
_CONTENT = re.compile(rb"(process \d{1,20})?\n?")


def lock_file(name: str) -> Path:
    """The lock's file of device ``name``, which is not readable from it."""
    # XDG_RUNTIME_DIR and TMPDIR differ between a desktop and a cron job, two users, and two jobs of a cluster
    return Path(os.environ.get(FOLDER, "/tmp"), f"nfbench-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock")


@contextlib.contextmanager
def only_one(name: str | None, watch: Watch, world: World | None = None, longest: float = math.inf) -> Iterator[None]:
    """Hold the lock of device ``name``; None needs none.

    The kernel releases it when its holder ends, however that ends. The ranks of a ``world`` take theirs one after the
    other, so that two worlds never hold each a part of what the other needs, and go on once all have them.

    Raises:
        DeviceUnavailable: another has held it for ``longest`` seconds.
    """
    with contextlib.ExitStack() as held:
        with (world or World()).in_turn():
            held.enter_context(_held(name, watch, longest))
        yield


@contextlib.contextmanager
def _held(name: str | None, watch: Watch, longest: float) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # not on this system; the timing goes on without a lock
        name = None
    if name is None:
        yield
        return
    try:
        handle = _opened(lock_file(name))
    except OSError as error:
        watch.note(f"No lock on the device ({error.strerror}): another timing may run beside this one.")
        yield
        return
    how = fcntl.LOCK_SH if os.environ.get(SHARED) else fcntl.LOCK_EX
    try:
        began, holder = time.monotonic(), ""
        while True:
            try:
                fcntl.flock(handle, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not holder:
                    holder = os.pread(handle, 64, 0).decode(errors="replace").strip() or "another nfbench"
                    watch.waits(f"Waiting for {holder}, which times on this device.")
                if time.monotonic() - began > longest:
                    raise DeviceUnavailable(
                        f"{holder.capitalize()} has timed on this device for longer than --max-time, {longest:g} s.",
                        try_="the same later, or with a larger --max-time",
                    ) from None
                time.sleep(POLL)
        if holder:
            watch.phase("going on")
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    """The lock's file, open, made where it is missing: in a folder that anybody writes to it may be a trap.

    Raises:
        OSError: it is no plain file of a lock, or may not be used.
    """
    flags = os.O_RDWR | NO_LINK
    try:
        # Linux refuses to open another user's file with O_CREAT in a folder like /tmp
        handle = os.open(path, flags)
    except FileNotFoundError:
        try:
            handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            # whatever the umask, other users wait here too
            os.fchmod(handle, 0o666)
        except FileExistsError:
            handle = os.open(path, flags)
    seen = os.fstat(handle)
    if not stat.S_ISREG(seen.st_mode) or seen.st_nlink != 1 or not _CONTENT.fullmatch(os.pread(handle, 64, 0)):
        os.close(handle)
        raise OSError(0, f"{path} is something else")
    return handle
