"""Runs workloads: here, or each in a process of its own, one after the other or in turns A B B A. Only it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
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
    study: str | None = None,
) -> None:
    """Measure the workloads in ``sampling.rounds`` rounds, in turns A B B A …, each in a process kept alive.

    Every turn is a result; they share a session, and a round holds one turn of each. A workload that fails leaves a
    row with its status and takes no further turn; the others go on.
    """
    labels = Labels(session=new_id(), study=study)
    processes = [Process(device) for _ in workloads]
    out: set[int] = set()
    try:
        for round in range(sampling.rounds):
            order = range(len(workloads)) if round % 2 == 0 else reversed(range(len(workloads)))
            for index in order:
                if index in out:
                    continue
                place = f" ({round + 1}/{sampling.rounds})" if sampling.rounds > 1 else ""
                watch.about(f"{workloads[index].model}{place}")
                request = Request(workload=workloads[index], sampling=sampling, seed=seed, round=round, labels=labels)
                if not _ask(processes[index], request, keep, watch):
                    out.add(index)
    except (Stop, KeyboardInterrupt):
        for process in processes:
            process.interrupt(keep)
        raise
    finally:
        for process in processes:
            process.close()


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
