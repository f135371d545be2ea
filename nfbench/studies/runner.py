"""Runs workloads: here, or each in a process of its own, one after the other or in turns A B B A. Only it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from nfbench.analysis.store import new_id
from nfbench.devices import open_device
from nfbench.errors import NfbenchError, Stop
from nfbench.measuring.measure import measure
from nfbench.measuring.outcome import Keep, Labels
from nfbench.measuring.watch import Watch
from nfbench.records import SCHEMA_VERSION, Machine, Result, Sampling, Software, Status, Workload
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
    workloads: Sequence[Workload], sampling: Sampling, *, device: str, seed: int, keep: Keep, watch: Watcher
) -> None:
    """Measure the workloads in this process, one after the other.

    Raises:
        NfbenchError: the device or a workload cannot be had; what came before it is kept.
    """
    opened = open_device(device)
    for workload in workloads:
        watch.about(workload.model)
        measure(opened, workload, sampling, keep, seed=seed, watch=watch)


def in_turns(
    workloads: Sequence[Workload],
    sampling: Sampling,
    *,
    device: str,
    seed: int,
    keep: Keep,
    watch: Watcher,
) -> None:
    """Measure the workloads in ``sampling.rounds`` rounds, in turns A B B A …, each in a process kept alive.

    Every turn is a result; they share a session, and a round holds one turn of each. A workload that fails leaves a
    row with its status and takes no further turn; the others go on.
    """
    parts(
        [Part(tuple(workloads), sampling)], device=device, seed=seed, keep=lambda _, result: keep(result), watch=watch
    )


def parts(
    parts: Sequence[Part],
    *,
    device: str,
    seed: int,
    keep: Callable[[int, Result], None],
    watch: Watcher,
    study: str | None = None,
) -> None:
    """Measure each part of a study as `in_turns` does; ``keep`` gets the part's place with each result.

    Import is most of a worker's start, so the workers of a few parts start together, before any of them is timed.
    """
    for batch in _batches(parts):
        running = {place: [Process(device) for _ in parts[place].workloads] for place in batch}
        processes = [process for group in running.values() for process in group]
        current: Keep | None = None
        try:
            watch.about("")
            watch.phase(f"starting {len(processes)} process{'es'[: 2 * (len(processes) != 1)]}")
            for process in processes:
                process.start()
            for process in processes:
                process.ready()
            for place in batch:
                current = partial(keep, place)
                _turns(parts[place], running[place], Labels(session=new_id(), study=study), seed, current, watch)
                for process in running[place]:
                    process.close()
        except (Stop, KeyboardInterrupt):
            for process in processes:
                if current is not None:
                    process.interrupt(current)
            raise
        finally:
            for process in processes:
                process.close()


def _batches(parts: Sequence[Part]) -> Iterator[list[int]]:
    """Places of parts whose workers start together: at most `TOGETHER` of them, a part never torn apart."""
    batch: list[int] = []
    workers = 0
    for place, part in enumerate(parts):
        if batch and workers + len(part.workloads) > TOGETHER:
            yield batch
            batch, workers = [], 0
        batch.append(place)
        workers += len(part.workloads)
    yield batch


def _turns(part: Part, processes: Sequence[Process], labels: Labels, seed: int, keep: Keep, watch: Watcher) -> None:
    out: set[int] = set()
    for round in range(part.sampling.rounds):
        order = range(len(processes)) if round % 2 == 0 else reversed(range(len(processes)))
        for index in order:
            if index in out:
                continue
            workload = part.workloads[index]
            watch.about(
                f"{workload.model} ({round + 1}/{part.sampling.rounds})" if part.sampling.rounds > 1 else workload.model
            )
            request = Request(workload=workload, sampling=part.sampling, seed=seed, round=round, labels=labels)
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
    machine: Machine = hello.machine
    software: Software = hello.software
    return Result(
        schema=SCHEMA_VERSION,
        id=new_id(),
        start=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        status=status,
        message=message,
        workload=request.workload,
        sampling=request.sampling,
        machine=machine,
        software=software,
        session=request.labels.session,
        study=request.labels.study,
        round=request.round,
        seed=request.seed,
    )
