"""Notices that another rank has failed, while this one waits for it inside a collective that never returns.

::

    rank 1 fails ──▶ "failed" in the store ──▶ the guard of rank 0: its row is kept, "done" ──▶ every rank ends

A rank that was killed says nothing: then torchrun sends SIGTERM to the others, and rank 0 looks which of them is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NoReturn

import psutil

from nfbench.devices.world import Failure, RankFailed, last_words
from nfbench.errors import NfbenchError, Terminated
from nfbench.records import Status

PACE = 1.0
"""Seconds between two looks: one small question to the store each."""
GRACE = 3.0
"""Seconds that a rank is given to come to its own end, such as the same error or a connection that is lost."""
LAST_WORD = timedelta(seconds=20)
"""A failed rank stays until rank 0 has written its row: less than torchrun's patience, 30 s."""


class Guard:
    """Watches the store for a failure; one for each rank.

    ``keep`` is what rank 0 does with a failure that its main thread cannot come to see. Whoever claims the end first,
    the main thread or this one, sees to it; a main thread that comes too late waits until the process is ended, so that
    one row is kept and not two.
    """

    def __init__(self, rank: int, size: int, store: Any) -> None:
        self.rank, self.size, self.store = rank, size, store
        self.keep: Callable[[Status, str], None] | None = None
        self.claiming = threading.Lock()
        self.claimed_by: int | None = None
        self.asking = threading.Lock()
        self.told: Failure | None = None
        self.wake, self.woken = os.pipe()
        os.set_blocking(self.woken, False)
        self.stopped = False
        self.before = -1
        self.thread = threading.Thread(target=self._watch, name="nfbench guard", daemon=True)
        self.store.set(f"pid/{rank}", json.dumps([socket.gethostname(), os.getpid()]))

    def start(self) -> None:
        """From the main thread: a signal must wake the guard even where no Python code can run."""
        if threading.current_thread() is threading.main_thread():
            self.before = signal.set_wakeup_fd(self.woken, warn_on_full_buffer=False)
        self.thread.start()

    @contextlib.contextmanager
    def keeping(self, keep: Callable[[Status, str], None]) -> Iterator[None]:
        """Inside, ``keep`` is what is done with such a failure. Once it was called nothing that follows runs."""
        self.keep = keep
        try:
            yield
        except NfbenchError:
            raise
        except BaseException:
            # without the claim the guard could end the process between here and the row that this thread is to keep
            self._claim()
            raise
        finally:
            with self.claiming:
                self.keep = None
                late = self.claimed_by not in (None, threading.get_ident())
            if late:
                self._wait_for_the_end()

    def stop(self) -> None:
        """Look no longer."""
        self.stopped = True
        with contextlib.suppress(OSError):
            os.write(self.woken, b"\0")
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self.before)
        self.thread.join(2 * PACE)

    def tell(self, failure: Failure) -> Failure:
        """Put ``failure`` where all ranks see it, unless one came before it; return the first."""
        with self.asking:
            mine = json.dumps(failure)
            first = self.store.compare_set("failed", "", mine)
        self.told = Failure(*json.loads(first))
        return self.told

    def failed(self) -> Failure | None:
        """The first failure that was told."""
        if self.told is None:
            with self.asking, contextlib.suppress(Exception):
                if self.store.check(["failed"]):
                    self.told = Failure(*json.loads(self.store.get("failed")))
        return self.told

    def blame(self, own: Failure) -> tuple[Status, str]:
        """The first failure of all ranks, ``own`` unless another was told or is gone. Takes a few seconds at most."""
        self._claim()
        until = time.monotonic() + GRACE
        # a lost connection is the consequence of something that the other rank may be about to tell
        lost = any(word in own.message for word in ("onnection", "peer", "NCCL", "gloo", "ocket", "Broken pipe"))
        while lost and self.failed() is None and time.monotonic() < until:
            if (gone := self.gone()) is not None:
                own = Failure(gone, "error", "it is gone: killed, perhaps by the kernel for want of memory")
                break
            time.sleep(0.1)
        first = own
        with contextlib.suppress(Exception):
            first = self.tell(own)
        return first.status, f"rank {first.rank}: {first.message}"

    def blame_stop(self) -> tuple[Status, str | None]:
        """A signal came: `interrupted`, or the failure of a rank that torchrun has found dead."""
        self._claim()
        gone = self.gone() if self.rank == 0 else None
        told = self.failed()
        if gone is None and told is None:
            with self.asking, contextlib.suppress(Exception):
                self.store.set(f"stopped/{self.rank}", "")
            return "interrupted", None
        return self.blame(told or Failure(gone or 0, "error", "it is gone: killed, perhaps for want of memory"))

    def gone(self) -> int | None:
        """A rank of this machine whose process has ended, without having been told to."""
        for rank in range(self.size):
            with self.asking, contextlib.suppress(Exception):
                if rank == self.rank or not self.store.check([f"pid/{rank}"]):
                    continue
                host, pid = json.loads(self.store.get(f"pid/{rank}"))
                if host != socket.gethostname() or self.store.check([f"stopped/{rank}"]):
                    continue
                if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    return rank
        return None

    def ended(self) -> None:
        """After this rank's last word on a failure: rank 0 lets the others go, they wait for it."""
        self._claim()
        with self.asking, contextlib.suppress(Exception):
            if self.rank == 0:
                self.store.set("done", "")
            else:
                self.store.wait(["done"], LAST_WORD)

    def _claim(self) -> None:
        """See to the end, which a signal may not break off; where the guard does, wait for it."""
        self._go_deaf()
        if not self._is_mine():
            self._wait_for_the_end()

    def _go_deaf(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)

    def _is_mine(self) -> bool:
        """Whether this thread is the first to see to the end."""
        with self.claiming:
            if self.claimed_by is None:
                self.claimed_by = threading.get_ident()
            return self.claimed_by == threading.get_ident()

    def _wait_for_the_end(self) -> NoReturn:
        while True:
            time.sleep(PACE)

    def _watch(self) -> None:
        while not self.stopped:
            ready, _, _ = select.select([self.wake], [], [], PACE)
            signalled = bool(ready) and os.read(self.wake, 64).strip(b"\0") != b""
            if self.stopped:
                return
            if self.failed() is not None or signalled:
                self._end(signalled)

    def _end(self, signalled: bool) -> None:
        until = time.monotonic() + GRACE
        while time.monotonic() < until and not self._is_done():
            if self.stopped or self.claimed_by is not None:
                return
            time.sleep(0.1)
        if not self._is_mine():
            return
        # the main thread hangs in a collective: nothing will come of it any more
        failure = self.failed()
        code = RankFailed.exit_code
        if self.rank == 0:
            if failure is None:
                gone = self.gone()
                code = Terminated.exit_code if gone is None else code
                failure = (
                    Failure(0, "interrupted", "SIGTERM")
                    if gone is None
                    else Failure(gone, "error", "it is gone: killed, perhaps by the kernel for want of memory")
                )
            try:
                said = self._last_row(failure)
                self.ended()
                last_words(said)
            finally:
                os._exit(NfbenchError.exit_code if failure.worded else code)
        if failure is None:
            with self.asking, contextlib.suppress(Exception):
                self.store.set(f"stopped/{self.rank}", "")
        else:
            self.ended()
        os._exit(0)

    def _is_done(self) -> bool:
        """Whether rank 0 has come to its end, so that nothing is left to wait for."""
        with self.asking, contextlib.suppress(Exception):
            return bool(self.rank and self.store.check(["done"]))
        return False

    def _last_row(self, failure: Failure) -> str:
        """Keep what there is and say why there is no more."""
        if failure.worded is not None:
            what, why, try_ = failure.worded
            said = f"Rank {failure.rank}: {NfbenchError(what, why=why, try_=try_)}"
        else:
            message = f"rank {failure.rank}: {failure.message}"
            said = f"{failure.status.replace('_', ' ')}: {message}."
            if self.keep is not None:
                self.keep(failure.status, message)
        print(said, file=sys.stderr, flush=True)
        return said
