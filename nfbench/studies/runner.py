"""Runs workloads: here, or each in a process of its own, one after the other or in turns A B B A. Only it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from nfbench.analysis.store import new_id
from nfbench.devices import open_device
from nfbench.errors import NfbenchError, Stop
from nfbench.measuring.measure import measure
from nfbench.measuring.outcome import Keep, Labels, frame
from nfbench.measuring.watch import Watch
from nfbench.records import Result, Sampling, Status, StepTime
from nfbench.studies.messages import Request
from nfbench.studies.process import Died, Process, TooLong
from nfbench.studies.study import Part

TOGETHER = 4
"""Workers that may be alive at once; an idle one holds half a GiB, and on a GPU a context."""


class Watcher(Watch, Protocol):
    """A watch that can be told what the next calls are about."""

    def about(self, subject: str) -> None:
        """A model, a place in a study."""


def here(
    workloads: Sequence[StepTime], sampling: Sampling, *, device: str, seed: int, keep: Keep, watch: Watcher
) -> None:
    """Measure the workloads in this process, one after the other.

    Raises:
        NfbenchError: the device or a workload cannot be had; what came before it is kept.
    """
    opened = open_device(device)
    for workload in workloads:
        watch.about(workload.model)
        measure(opened, workload, sampling, keep, seed=seed, watch=watch)


def parts(
    parts: Sequence[Part],
    *,
    device: str,
    seed: int,
    keep: Callable[[int, Result], None],
    watch: Watcher,
    study: str | None = None,
    kind: str | None = None,
) -> None:
    """Measure each part, every workload in a process of its own; ``keep`` gets the part's place with each result.

    The workloads of a part take turns A B B A … in processes that are kept alive; each of its rounds starts fresh ones.
    A workload that fails leaves a row with its status and takes no further turn of that round; the others go on.
    Import is most of a worker's start, so the workers of a few parts start together, before any of them is timed.

    Raises:
        NfbenchError: the device cannot be had, or is not of the ``kind`` for which the parts were chosen.
    """
    labels = [Labels(session=new_id(), study=study) for _ in parts]
    rounds = [(place, round) for place, part in enumerate(parts) for round in range(part.sampling.rounds)]
    for batch in _batches(parts, rounds):
        running = {run: [Process(device) for _ in parts[run[0]].workloads] for run in batch}
        processes = [process for group in running.values() for process in group]
        current: Keep | None = None
        try:
            watch.about("")
            watch.phase(f"starting {len(processes)} process{'es'[: 2 * (len(processes) != 1)]}")
            for process in processes:
                process.start()
            for process in processes:
                process.ready()
                _check_kind(process, kind)
            for place, round in batch:
                current = partial(keep, place)
                group = running[place, round]
                _turns(parts[place], group, round, labels[place], seed, current, watch)
                for process in group:
                    process.close()
        except (Stop, KeyboardInterrupt):
            for process in processes:
                if current is not None:
                    process.interrupt(current)
            raise
        finally:
            for process in processes:
                process.close()


def _check_kind(process: Process, kind: str | None) -> None:
    if kind is not None and process.hello is not None and process.hello.machine.device != kind:
        found = process.hello.machine.device
        raise NfbenchError(
            f"The study was laid out for {kind}, but torch sees a {found} device that NVML does not.",
            try_=f"--device {found}",
        )


def _batches(parts: Sequence[Part], rounds: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """(Part, round)s whose workers start together: at most `TOGETHER` workers, a part never torn apart."""
    batch: list[tuple[int, int]] = []
    workers = 0
    for place, round in rounds:
        more = len(parts[place].workloads)
        if batch and workers + more > TOGETHER:
            yield batch
            batch, workers = [], 0
        batch.append((place, round))
        workers += more
    if batch:
        yield batch


def _turns(
    part: Part, processes: Sequence[Process], round: int, labels: Labels, seed: int, keep: Keep, watch: Watcher
) -> None:
    sampling = part.sampling
    out: set[int] = set()
    for turn in range(sampling.turns):
        order = range(len(processes))
        for index in order if (round + turn) % 2 == 0 else reversed(order):
            if index in out:
                continue
            workload = part.workloads[index]
            done, whole = round * sampling.turns + turn + 1, sampling.rounds * sampling.turns
            watch.about(f"{workload.model} ({done}/{whole})" if whole > 1 else workload.model)
            request = Request(workload=workload, sampling=sampling, seed=seed, round=round, turn=turn, labels=labels)
            if not _ask(processes[index], request, keep, watch):
                out.add(index)


def _ask(process: Process, request: Request, keep: Keep, watch: Watcher) -> bool:
    """One turn; whether it went well. Every outcome but a fatal error is kept."""
    try:
        answer = process.ask(request, watch)
    except Died as died:
        result = _row(request, "error", str(died), process)
    except TooLong as late:
        result = _row(request, "timeout", str(late), process)
    else:
        if answer.error is not None:
            what, why, try_ = answer.error
            error = NfbenchError(what, why=why, try_=try_)
            if answer.fatal:
                raise error
            result = _row(request, "unsupported", str(error).replace("\n", " "), process)
        else:
            assert answer.result is not None
            result = answer.result
    keep(result)
    if result.status != "ok":
        watch.note(f"{request.workload.model}: {result.status}: {result.message or 'no rate'}")
    return result.status == "ok"


def _row(request: Request, status: Status, message: str, process: Process) -> Result:
    hello = process.hello
    if hello is None:
        raise NfbenchError(
            "A worker ended before it had opened its device.", why=message, try_="nfbench env, which says what is there"
        )
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
