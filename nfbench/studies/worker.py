"""The process in which one workload is timed: ``python -m nfbench.studies.worker DEVICE``.

Requests come on standard input. When that ends, the runner is gone, and so is the worker, whatever it was doing; it
never writes a file.

What a runner and its worker say to each other is one JSON object a line, requests in, messages out::

    runner  Request …            → worker
    runner  Hello, Said …, Answer ← worker      (once Hello; an Answer ends each Request)
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
from typing import BinaryIO, Literal, NoReturn

import msgspec

from nfbench.analysis.stats import Estimate
from nfbench.devices import open_device
from nfbench.devices.base import OTHER_TREE, Device
from nfbench.errors import DeviceUnavailable, NfbenchError, Terminated, UnsupportedWorkload
from nfbench.learning.learner import Sources
from nfbench.measuring.measure import Measurement
from nfbench.measuring.outcome import Turn, Watch
from nfbench.records import Accuracy, AgcCost, Dependence, Flops, Machine, Record, Result, Software, StepTime


class Request(Turn, frozen=True, kw_only=True):
    """A workload to be measured, a step in one turn. The worker keeps what it has built while the step stays the same.

    ``counts`` asks for what can be counted, and times nothing. ``sources`` are the paths of a training run, ``beside``
    the clips with which one takes turns.
    """

    beside: tuple[AgcCost, ...] = ()
    counts: bool = False
    sources: Sources = Sources()


class Hello(Record, frozen=True, kw_only=True, tag=True):
    """The device is open. What the runner needs to write a row for a worker that died."""

    machine: Machine
    software: Software


class Said(Record, frozen=True, kw_only=True, tag=True):
    """Something for the watch: ``numbers`` are steps, value, low, high and seconds left of a progress."""

    what: Literal["phase", "progress", "going", "note", "waits"]
    text: str = ""
    numbers: tuple[float | None, ...] = ()


class Answer(Record, frozen=True, kw_only=True, tag=True):
    """The result, or the worded error that stands in its place; ``fatal`` where no other workload could run either.

    ``more`` came before the result: those of workloads that took turns in one process. Where ``spent`` nothing more can
    run in this process.
    """

    result: Result | None = None
    more: tuple[Result, ...] = ()
    error: tuple[str, str, str] | None = None
    fatal: bool = False
    spent: bool = False


Message = Hello | Said | Answer

requests = msgspec.json.Decoder(Request)
messages: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
encoder = msgspec.json.Encoder()


class Pipe(Watch):
    """Tells the runner."""

    def __init__(self, out: BinaryIO) -> None:
        self.out = out

    def send(self, message: Message) -> None:
        """One line; a runner that is gone ends the worker."""
        try:
            self.out.write(encoder.encode(message) + b"\n")
            self.out.flush()
        except BrokenPipeError:
            _end()

    def phase(self, what: str) -> None:
        self.send(Said(what="phase", text=what))

    def progress(self, steps: int, estimate: Estimate, left: float) -> None:
        self.send(Said(what="progress", numbers=(steps, *estimate, left)))

    def going(self, text: str) -> None:
        self.send(Said(what="going", text=text))

    def note(self, text: str) -> None:
        self.send(Said(what="note", text=text))

    def waits(self, text: str) -> None:
        self.send(Said(what="waits", text=text))

    def failed(self, error: Exception, result: Result) -> None:
        import traceback

        traceback.print_exception(error)


class Worker:
    """Does what it is asked on an open device. What is built for a step stays while the same step is asked for."""

    def __init__(self, device: Device, pipe: Pipe) -> None:
        self.device, self.pipe = device, pipe
        self.built: Measurement | None = None

    def answer(self, request: Request) -> None:
        """Send what came of ``request``.

        Raises:
            KeyboardInterrupt, Terminated: a signal ended it; what there is has been sent.
        """
        workload = request.workload
        try:
            match workload:
                case StepTime():
                    self._time(request, workload)
                case Accuracy():
                    self._learn(request, workload)
                case AgcCost():
                    self._clips(request, workload)
                case _:
                    self._count(request, workload)
        except NfbenchError as error:
            self.pipe.send(_refusal(error, isinstance(error, DeviceUnavailable)))
        if isinstance(workload, StepTime):
            # what is cached would be missing from the memory of whose turn it is next
            self.device.rest()

    def _keep(self, result: Result) -> None:
        if names := _from_other_tree():
            result = msgspec.structs.replace(result, notes={**result.notes, OTHER_TREE: names})
        self._send(result)

    def _send(self, result: Result, more: tuple[Result, ...] = ()) -> None:
        self.pipe.send(Answer(result=result, more=more, spent=not self.device.usable()))

    def _time(self, request: Request, workload: StepTime) -> None:
        built = self.built
        if built is None or (built.workload, built.seed) != (workload, request.seed):
            self.built = built = Measurement(self.device, workload, request.sampling, self._keep, watch=self.pipe)
        built.sampling, built.seed, built.labels = request.sampling, request.seed, request.labels
        if request.counts:
            built.counts(request.round)
        else:
            built.turn(request.round, request.turn)

    def _learn(self, request: Request, workload: Accuracy) -> None:
        from nfbench.learning.fit import Run

        Run(
            self.device,
            workload,
            request.sampling,
            self._keep,
            seed=request.seed,
            watch=self.pipe,
            labels=request.labels,
            sources=request.sources,
        ).run()

    def _count(self, request: Request, workload: Flops | Dependence) -> None:
        from nfbench.measuring.counts import count

        count(self.device, workload, self._keep, seed=request.seed, watch=self.pipe, labels=request.labels)

    def _clips(self, request: Request, workload: AgcCost) -> None:
        from nfbench.measuring.clips import ClipCosts

        runs = self.device.clip_impls()
        here = [w for w in (workload, *request.beside) if w.impl == "copy" or runs[w.impl] is None]
        if all(w.impl == "copy" for w in here):
            raise UnsupportedWorkload(
                f"--agc-impl {workload.impl} does not run on {self.device.machine.name}.",
                why=f"{runs[workload.impl]}." if workload.impl != "copy" else "",
                try_="--agc-impl foreach",
            )
        kept: list[Result] = []
        ClipCosts(self.device, request.sampling, kept.append, self.pipe, request.seed, request.labels).run(here)
        self._send(kept[-1], tuple(kept[:-1]))


def opened(wanted: str, pipe: Pipe) -> Worker | None:
    """A worker on the device ``wanted``, which has said hello; None where it has said why there is none."""
    try:
        device = open_device(wanted)
    except NfbenchError as error:
        pipe.send(_refusal(error, fatal=True))
        return None
    pipe.send(Hello(machine=device.machine, software=device.software()))
    return Worker(device, pipe)


def main(wanted: str) -> None:
    """Serve requests until standard input ends."""
    # whatever a user's factory prints must not end up among the messages
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    inbox: queue.Queue[Request] = queue.Queue()
    threading.Thread(target=_read, args=(inbox,), daemon=True).start()

    def stop(*_: object) -> NoReturn:
        raise Terminated

    signal.signal(signal.SIGTERM, stop)
    worker = opened(wanted, Pipe(out))
    while worker is not None:
        request = inbox.get()
        try:
            worker.answer(request)
        except (KeyboardInterrupt, Terminated):
            return


def _refusal(error: NfbenchError, fatal: bool) -> Answer:
    return Answer(error=(error.what, error.why, error.try_), fatal=fatal)


def _from_other_tree() -> str:
    """The modules that came from the tree of the other side, but for what is installed in it; the first three."""
    tree = os.environ.get(OTHER_TREE)
    if not tree:
        return ""
    files = {name: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())}
    below = [name for name, file in files.items() if file.startswith(tree + os.sep) and "site-packages" not in file]
    return ", ".join(sorted(below)[:3])


def _read(inbox: queue.Queue[Request]) -> None:
    for line in sys.stdin.buffer:
        inbox.put(requests.decode(line))
    _end()


def _end() -> NoReturn:
    """The runner is gone: end with all that this process has started, which may hold the device too."""
    if os.getpgrp() == os.getpid():
        with contextlib.suppress(OSError):
            os.killpg(0, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
