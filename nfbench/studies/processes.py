"""Worker processes seen from their runner, and groups of them that take turns A B B A …."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import msgspec

from nfbench.analysis.stats import Estimate
from nfbench.analysis.store import new_id
from nfbench.devices.base import OTHER_TREE, RUNNER, child_environment
from nfbench.errors import NfbenchError, Stop
from nfbench.learning.learner import Sources
from nfbench.measuring.outcome import Keep, Labels, Watch, frame
from nfbench.records import STUCK, AgcCost, Resolved, Result, Sampling, Side, Status, StepTime, Workload
from nfbench.studies.worker import Answer, Hello, Message, Request, Said, encoder, messages

ALLOWANCE = 900.0
"""Seconds beyond twice its cap that a turn may take, for import, build, compile and the search for a micro-batch."""

LAST_WORDS = 20.0
LONGEST_START = 300.0
GRACE = 1.0
"""Seconds after which a worker that has ended is done speaking, though a process of its own may hold its pipe."""


class Place(NamedTuple):
    """Where a worker runs.

    ``python`` is its interpreter (empty for this one's), ``path`` the folders put first on its path, ``folder`` its
    working folder, ``other_tree`` the tree of the other side, from which it should import nothing. Where it is
    ``guarded`` it runs code of a pull request: it has no variable that looks like a secret.
    """

    python: str = ""
    path: tuple[Path, ...] = ()
    folder: Path | None = None
    other_tree: Path | None = None
    guarded: bool = False


_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|^ACTIONS_|^AWS_", re.IGNORECASE)


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
            python, path, folder, other_tree, guarded = self.place
            env = {**child_environment(path, own=not python), RUNNER: str(os.getpid())}
            if other_tree is not None:
                # what is written beside the code of the base would change it
                env |= {OTHER_TREE: str(other_tree), "PYTHONDONTWRITEBYTECODE": "1"}
            if guarded:
                env = {name: value for name, value in env.items() if not _SECRET.search(name)}
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
    if said.what != "progress":
        getattr(watch, said.what)(said.text)
        return
    steps, value, low, high, left = said.numbers
    if value is not None:
        watch.progress(int(steps or 0), Estimate(value, low, high), left or 0.0)


class Seat(NamedTuple):
    """A workload, where its process runs, which side of a comparison of code it is, a training run's paths, and the
    clips that take turns with it in that process."""

    workload: Workload
    place: Place = Place()
    side: Side | None = None
    sources: Sources = Sources()
    beside: tuple[AgcCost, ...] = ()


class Unstarted(NfbenchError):
    """The worker of ``seat`` could not open its device, or ``died`` before; ``status`` is `timeout` where it had no
    time left to."""

    def __init__(self, seat: Seat, died: bool, error: NfbenchError, status: Status = "error") -> None:
        self.seat, self.died, self.status = seat, died, status
        super().__init__(error.what, why=error.why, try_=error.try_)


class Group:
    """A process for each seat. A seat that fails leaves a row with its status and takes no further turn.

    ``settled`` holds for each seat what its `auto`s became; one that is given pins the seat to it. Where ``alone``,
    each turn has a process of its own, which ends with it: the peaks of all do not fit in the memory at once. What the
    ``lead`` settled first, all others are pinned to. ``processes`` are lent, one a seat, and outlive the group.
    """

    def __init__(
        self,
        seats: Sequence[Seat],
        *,
        device: str,
        seed: int,
        labels: Labels,
        settled: Sequence[Resolved | None] = (),
        alone: bool = False,
        lead: int | None = None,
        processes: Sequence[Process] = (),
    ) -> None:
        self.seats, self.device, self.seed, self.labels = tuple(seats), device, seed, labels
        self.settled = list(settled) or [None] * len(self.seats)
        self.alone, self.lead = alone, lead
        self.lent = bool(processes)
        self.processes = list(processes) or [self._process(seat) for seat in self.seats]
        self.searched: set[int] = set()
        self.asked: list[Workload | None] = [None] * len(self.seats)
        self.out: set[int] = set()
        self.more: tuple[Result, ...] = ()

    def _process(self, seat: Seat) -> Process:
        return Process(self.device, place=seat.place)

    def turn(
        self,
        round: int,
        turn: int,
        sampling: Sampling,
        keep: Keep,
        watch: Watch,
        *,
        said: str = "",
        counts: bool = False,
        until: float = math.inf,
        unstarted: Callable[[Unstarted], None] | None = None,
    ) -> list[Result | None]:
        """One turn of every seat that is not out; every second time the other way round. Each result is kept.

        ``said`` is added to the model's name for the watch, ``counts`` asks for counts instead of times, and what is
        not done by ``until`` on the monotonic clock is ended. A seat whose worker does not start is out and told to
        ``unstarted``.

        Raises:
            Unstarted: a device cannot be had, and nobody is told.
        """
        found: list[Result | None] = [None] * len(self.seats)
        order = [index for index in range(len(self.seats)) if index not in self.out]
        for index in order if (round + turn) % 2 == 0 else reversed(order):
            request = Request(
                workload=self._pinned(index),
                sampling=sampling,
                seed=self.seed,
                round=round,
                turn=turn,
                labels=self.labels,
                counts=counts,
                sources=self.seats[index].sources,
                beside=self.seats[index].beside,
            )
            seat = self.seats[index]
            watch.about(f"{seat.workload.model}{said}{f', {seat.side}' if seat.side else ''}")
            try:
                found[index] = result = self._ask(index, request, watch, until)
            except Unstarted as error:
                if unstarted is None:
                    raise
                unstarted(error)
                self.out.add(index)
                continue
            for one in (*self.more, result):
                keep(one)
            self.more = ()
            if result.status != "ok":
                self.out.add(index)
                whose = f" ({seat.side})" if seat.side else ""
                watch.note(f"{seat.workload.model}{whose}: {result.status}: {result.message or 'no rate'}")
                if self.lent and not self.processes[index].alive():
                    self.renew(index)
            else:
                self._settle(index, result.resolved)
            if self.alone:
                self.renew(index)
        return found

    def run_alone(self) -> None:
        """From now on each turn in a process of its own; those that were out may try again, and what was settled while
        others held memory is open again."""
        self.alone = True
        self.out.clear()
        for index in self.searched:
            self.settled[index] = None
        self.searched.clear()
        for index in range(len(self.seats)):
            self.renew(index)

    def interrupt(self, keep: Keep) -> None:
        """Ask who is measuring to stop and keep what there is."""
        for seat, process in zip(self.seats, self.processes, strict=True):
            process.interrupt(lambda result, seat=seat: keep(_of(seat, result)))  # type: ignore[misc]

    def close(self) -> None:
        """End all workers but those that were lent."""
        for process in () if self.lent else self.processes:
            process.close()

    def _settle(self, index: int, resolved: Resolved | None) -> None:
        for other, settled in enumerate(self.settled):
            if settled is None and (other == index or index == self.lead):
                self.settled[other] = resolved
                self.searched.add(other)

    def renew(self, index: int) -> None:
        """A fresh process for a seat."""
        self.processes[index].close()
        self.processes[index] = self._process(self.seats[index])
        self.asked[index] = None

    def _pinned(self, index: int) -> Workload:
        """What is asked of a process stays the same while it lives, so that it keeps what it has built."""
        asked = self.asked[index]
        if asked is None:
            settled = self.settled[index]
            asked = self.seats[index].workload
            if settled is not None and isinstance(asked, StepTime):
                asked = pinned(asked, settled)
            self.asked[index] = asked
        return asked

    def _ask(self, index: int, request: Request, watch: Watch, until: float) -> Result:
        process, seat = self.processes[index], self.seats[index]
        try:
            answer = process.ask(request, watch, until)
        except Died as died:
            result = _row(request, "error", str(died), process, seat)
        except TooLong as late:
            result = _row(request, "timeout", str(late), process, seat)
        else:
            if answer.spent:
                self.renew(index)
            if answer.error is not None:
                what, why, try_ = answer.error
                error = NfbenchError(what, why=why, try_=try_)
                if answer.fatal:
                    raise Unstarted(seat, False, error)
                result = _row(request, "unsupported", str(error).replace("\n", " "), process, seat)
            else:
                assert answer.result is not None
                self.more = answer.more
                return answer.result if seat.beside else _of(seat, answer.result)
        return _of(seat, result)


class Running:
    """Groups whose workers have been started together, of which one has its turns at a time."""

    def __init__(self, groups: Sequence[Group], keep: Keep) -> None:
        self.groups, self.keep = list(groups), keep
        self.current: Group | None = None

    def each(self) -> Iterator[Group]:
        """The groups one after the other, each of which is closed when the next is asked for."""
        for group in self.groups:
            self.current = group
            yield group
            group.close()


@contextmanager
def running(
    groups: Sequence[Group], keep: Keep, watch: Watch, kind: str | None = None, until: float = math.inf
) -> Iterator[Running]:
    """Start the workers of the groups together, as `start_all`, and end all of them, whatever happens; at a signal the
    ``current`` group's keep what they have."""
    state = Running(groups, keep)
    try:
        start_all([process for group in groups if not group.alone for process in group.processes], watch, kind, until)
        yield state
    except (Stop, KeyboardInterrupt):
        if state.current is not None:
            state.current.interrupt(state.keep)
        raise
    finally:
        for group in state.groups:
            group.close()


def apart(seat: Seat, sampling: Sampling, *, device: str, seed: int, keep: Keep, watch: Watch) -> None:
    """Measure in a fresh process what cannot run in this one, whose device an error has made useless; a note says so.

    Raises:
        NfbenchError: the device cannot be had.
    """

    def noted(result: Result) -> None:
        keep(msgspec.structs.replace(result, notes={**result.notes, STUCK: "an error of CUDA stays in it"}))

    labels = Labels(session=new_id()) if seat.beside else Labels()
    with running([Group([seat], device=device, seed=seed, labels=labels)], noted, watch) as state:
        for group in state.each():
            group.turn(0, 0, sampling, noted, watch)


def _of(seat: Seat, result: Result) -> Result:
    """``result`` under what was asked, which is not always what its process was asked, and with its side."""
    return msgspec.structs.replace(result, workload=seat.workload, side=seat.side)


def _row(request: Request, status: Status, message: str, process: Process, seat: Seat) -> Result:
    hello = process.hello
    if hello is None:
        error = NfbenchError(
            "A worker ended before it had opened its device.", why=message, try_="nfbench env, which says what is there"
        )
        raise Unstarted(seat, True, error, status)
    return frame(hello.machine, hello.software, request, status, message)


TOGETHER = 4
"""Workers that may be alive at once; an idle one holds half a GiB, and on a GPU a context."""


def start_all(processes: Sequence[Process], watch: Watch, kind: str | None = None, until: float = math.inf) -> None:
    """Start workers together and wait until all have opened their devices, or failed to.

    It waits no longer than ``until`` on the monotonic clock.

    Raises:
        NfbenchError: one is not of the ``kind`` that is wanted.
    """
    watch.about("")
    watch.phase(f"starting {len(processes)} process{'es'[: 2 * (len(processes) != 1)]}")
    for process in processes:
        process.start()
    for process in processes:
        process.ready(until)
        opened = kind if process.hello is None else process.hello.machine.device
        if kind is not None and opened != kind:
            raise NfbenchError(
                f"The study was laid out for {kind}, but torch sees a {opened} device that NVML does not.",
                try_=f"--device {opened}",
            )


def greeting(process: Process, workload: Workload, watch: Watch) -> Hello:
    """What a worker says of itself once it has opened its device; ``workload`` is what it will be asked for.

    Raises:
        Unstarted: it could not.
    """
    process.ready()
    if process.hello is None:
        # asking it says why
        group = Group([Seat(workload)], device=process.device, seed=0, labels=Labels(), processes=[process])
        group.turn(0, 0, Sampling(), lambda result: None, watch)
        raise AssertionError("a worker that has not opened its device has answered")
    return process.hello


FULL = 0.9
"""The share of the device's memory that the peaks of all may take together; beyond it each runs alone."""


def pinned(workload: StepTime, resolved: Resolved) -> StepTime:
    """``workload`` with every `auto` set to what it became in ``resolved``."""
    return msgspec.structs.replace(
        workload,
        px=resolved.px,
        micro_batch=resolved.micro_batch,
        precision=resolved.precision,
        layout=resolved.layout,
        agc="none" if resolved.agc is None else resolved.agc,
        agc_impl=resolved.agc_impl or "auto",
    )


def crowded(results: Sequence[Result | None]) -> bool:
    """Whether the peaks of all together take more than 90 % of the device's memory, or one found none left.

    A pass of `auto` that is not the whole batch counts twice: alone, the next larger one might have been found.
    """
    kept = [r for r in results if r is not None]
    if any(r.status == "out_of_memory" for r in kept):
        return len(kept) > 1
    names = ("peak_reserved", "peak_allocated", "peak_rss")
    peaks = [max((r.value(name) or 0.0) for name in names) * (2 if _shortened(r) else 1) for r in kept]
    memory = next((r.machine.memory for r in kept if r.machine.memory), None)
    return len(kept) > 1 and memory is not None and sum(peaks) > FULL * memory


def _shortened(result: Result) -> bool:
    workload, resolved = result.workload, result.resolved
    if not isinstance(workload, StepTime) or workload.micro_batch != "auto" or resolved is None:
        return False
    return resolved.micro_batch * workload.world_size < workload.batch


@contextlib.contextmanager
def held_back() -> Iterator[Callable[[], None]]:
    """Hold signals back until what this yields is called: inside of Ray's code their exceptions would be lost."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[tuple[int, FrameType | None]] = []
    before = {number: signal.getsignal(number) for number in _numbers()}
    # what is ignored stays so
    held = {number: handler for number, handler in before.items() if callable(handler)}

    def heed() -> None:
        while came:
            number, frame = came.pop(0)
            held[signal.Signals(number)](number, frame)

    for number in held:
        signal.signal(number, lambda number, frame: came.append((number, frame)))
    try:
        yield heed
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    heed()


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Put back the handlers of signals that Ray replaces by its own."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _numbers()} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _numbers() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
