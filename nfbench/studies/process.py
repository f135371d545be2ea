"""A worker process, seen from its runner."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from nfbench.analysis.stats import Estimate
from nfbench.devices.base import OTHER_TREE, RUNNER, child_environment
from nfbench.measuring.outcome import Keep, Watch
from nfbench.studies.messages import Answer, Hello, Message, Request, Said, encoder, messages

ALLOWANCE = 900.0
"""Seconds beyond twice its cap that a turn may take, for import, build, compile and the search for a micro-batch."""

LAST_WORDS = 20.0
LONGEST_START = 300.0
GRACE = 1.0
"""Seconds after which a worker that has ended is done speaking, though a process of its own may hold its pipe."""


class Place(NamedTuple):
    """Where a worker runs.

    ``python`` is its interpreter (empty for this one's), ``path`` the folders put first on its path, ``folder`` its
    working folder, ``other_tree`` the tree of the other side, from which it should import nothing.
    """

    python: str = ""
    path: tuple[Path, ...] = ()
    folder: Path | None = None
    other_tree: Path | None = None


class Died(Exception):
    """The worker ended without an answer."""


class TooLong(Exception):
    """The worker did not answer in time; it has been killed."""


class Process:
    """One worker. It starts with the first request, in a session of its own, so that Ctrl-C reaches it only through
    `interrupt`."""

    def __init__(self, device: str, allowance: float = ALLOWANCE, place: Place | None = None) -> None:
        self.device, self.allowance, self.place = device, allowance, place or Place()
        self.hello: Hello | None = None
        self.child: subprocess.Popen[bytes] | None = None
        self.reader: threading.Thread | None = None
        self.inbox: queue.Queue[Message | None] = queue.Queue()
        self.spoke = threading.Event()
        self.waiting = self.garbled = False
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process

    def start(self) -> subprocess.Popen[bytes]:
        """Start the worker where it does not run yet."""
        if self.child is None:
            python, path, folder, other_tree = self.place
            env = {**child_environment(path, own=not python), RUNNER: str(os.getpid())}
            if other_tree is not None:
                env[OTHER_TREE] = str(other_tree)
            self.child = subprocess.Popen(
                [python or sys.executable, "-m", "nfbench.studies.worker", self.device],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                env=env,
                start_new_session=True,
            )
            self.reader = threading.Thread(target=self._read, args=(self.child,), daemon=True)
            self.reader.start()
        return self.child

    def ready(self, until: float = math.inf) -> None:
        """Wait until the worker has imported all it needs and opened its device or failed; `ask` tells which."""
        self.start()
        self.spoke.wait(max(0.0, min(LONGEST_START, until - time.monotonic())))

    def ask(self, request: Request, watch: Watch, until: float = math.inf) -> Answer:
        """The worker's answer.

        Raises:
            Died: it ended without one.
            TooLong: it took longer than twice its cap and the allowance, or beyond ``until`` on the monotonic clock.
        """
        child = self.start()
        assert child.stdin is not None
        # a worker that is gone may have said why before it went
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(encoder.encode(request) + b"\n")
            child.stdin.flush()
        self.waiting = True
        stopped: float | None = None
        limit = min(2 * request.sampling.max_time + self.allowance, max(0.0, until - time.monotonic()))
        deadline = time.monotonic() + limit
        while True:
            # while another has the device nothing of this one's time passes
            left = deadline - (time.monotonic() if stopped is None else stopped)
            gone = not self.alive()
            try:
                message = self.inbox.get(timeout=max(0.0, min(left, GRACE)))
            except queue.Empty:
                if gone:
                    raise Died(self._epitaph()) from None
                if left > GRACE:
                    continue
                self.kill()
                raise TooLong(f"no answer after {limit:.0f} s") from None
            if stopped is not None:
                deadline, stopped = deadline + time.monotonic() - stopped, None
            match message:
                case None:
                    self.inbox.put(None)  # whoever asks again is told again
                    raise Died(self._epitaph())
                case Hello():
                    continue
                case Said():
                    if message.what == "waits":
                        stopped = time.monotonic()
                    _tell(watch, message)
                case Answer():
                    self.waiting = False
                    return message

    def alive(self) -> bool:
        """Whether it has been started and still runs."""
        return self.child is not None and self.child.poll() is None

    def interrupt(self, keep: Keep) -> None:
        """Ask the worker to stop and keep what it had measured, if it was measuring."""
        if self.child is None or not self.waiting:
            return
        self.child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + LAST_WORDS
        while True:
            try:
                message = self.inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            if message is None:
                return
            if isinstance(message, Answer):
                if message.result is not None:
                    keep(message.result)
                return

    def kill(self) -> None:
        """End the worker and all that it started, at once."""
        if self.child is not None:
            # what it has started may outlive it and hold its pipe
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()

    def close(self) -> None:
        """End the worker and let go of its pipes."""
        if self.child is not None:
            self.kill()
            if self.reader is not None:
                self.reader.join(LAST_WORDS)
            for pipe in (self.child.stdin, self.child.stdout):
                with contextlib.suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()
        self.errors.close()

    def _read(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                # a worker that dies may leave half a line
                if line.endswith(b"\n"):
                    message = messages.decode(line)
                    if isinstance(message, Hello):
                        self.hello = message
                    self.inbox.put(message)
                    self.spoke.set()
        except msgspec.DecodeError:
            self.garbled = True
        self.inbox.put(None)
        self.spoke.set()

    def _epitaph(self) -> str:
        """How the worker ended, in a line."""
        assert self.child is not None
        if self.garbled:
            self.kill()
            return "the process answered in words that this nfbench does not know: its own may be of another version"
        code = self.child.wait()
        self.errors.seek(0)
        words = self.errors.read().decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        if code == -signal.SIGKILL:
            return "the process was killed, most likely for want of memory"
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"the process ended {how}: {words[0][:300]}"


def _tell(watch: Watch, said: Said) -> None:
    if said.what == "phase":
        watch.phase(said.text)
    elif said.what == "going":
        watch.going(said.text)
    elif said.what == "waits":
        watch.waits(said.text)
    elif said.what == "note":
        watch.note(said.text)
    else:
        steps, value, low, high, left = said.numbers
        if value is not None:
            watch.progress(int(steps or 0), Estimate(value, low, high), left or 0.0)
