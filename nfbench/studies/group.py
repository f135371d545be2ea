"""Workloads that take turns A B B A …, each in a process of its own that lives for one round."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import msgspec

from nfbench.errors import NfbenchError, Stop
from nfbench.learning.learner import Sources
from nfbench.measuring.outcome import Keep, Labels, frame
from nfbench.measuring.watch import Watch
from nfbench.records import AgcCost, Resolved, Result, Sampling, Side, Status, StepTime, Workload
from nfbench.studies.messages import Request
from nfbench.studies.process import Died, Place, Process, TooLong
from nfbench.studies.together import pinned


class Watcher(Watch, Protocol):
    """A watch that can be told what the next calls are about."""

    def about(self, subject: str) -> None:
        """A model, a place in a study."""


class Seat(NamedTuple):
    """A workload, where its process runs, which side of a comparison of code it is, a training run's paths, and the
    clips that take turns with it in that process."""

    workload: Workload
    place: Place = Place()
    side: Side | None = None
    sources: Sources = Sources()
    beside: tuple[AgcCost, ...] = ()


class Unstarted(NfbenchError):
    """The worker of ``seat`` could not open its device, or ``died`` before."""

    def __init__(self, seat: Seat, died: bool, error: NfbenchError) -> None:
        self.seat, self.died = seat, died
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
        watch: Watcher,
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
        """From now on each turn in a process of its own; those that were out may try again."""
        self.alone = True
        self.out.clear()
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


@contextmanager
def running(groups: Sequence[Group], keep: Keep) -> Iterator[Running]:
    """Ends all workers of the groups, whatever happens; at a signal the ``current`` group's keep what they have."""
    state = Running(groups, keep)
    try:
        yield state
    except (Stop, KeyboardInterrupt):
        if state.current is not None:
            state.current.interrupt(state.keep)
        raise
    finally:
        for group in state.groups:
            group.close()


def _of(seat: Seat, result: Result) -> Result:
    """``result`` under what was asked, which is not always what its process was asked, and with its side."""
    return msgspec.structs.replace(result, workload=seat.workload, side=seat.side)


def _row(request: Request, status: Status, message: str, process: Process, seat: Seat) -> Result:
    hello = process.hello
    if hello is None:
        error = NfbenchError(
            "A worker ended before it had opened its device.", why=message, try_="nfbench env, which says what is there"
        )
        raise Unstarted(seat, True, error)
    return frame(
        hello.machine,
        hello.software,
        request.workload,
        request.sampling,
        seed=request.seed,
        round=request.round,
        turn=request.turn,
        labels=request.labels,
        status=status,
        message=message,
    )
