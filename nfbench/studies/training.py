"""The training runs of a study: each net in a process of its own, and only what is still missing."""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from nfbench.analysis.store import new_id
from nfbench.measuring.outcome import Keep, Labels
from nfbench.records import Accuracy, Machine, Result, key
from nfbench.studies.group import Group, Seat, Watcher, running
from nfbench.studies.messages import Hello
from nfbench.studies.runner import start
from nfbench.studies.runs import Runs

ENDED = ("ok", "diverged")
"""What a run that is over ends as; any other is run again."""


class Home(NamedTuple):
    """Where a study's results are: its folder, and what earlier sessions left there."""

    folder: Path
    earlier: Sequence[Result]


def train(
    runs: Sequence[Runs],
    *,
    device: str,
    keep: Keep,
    watch: Watcher,
    home: Callable[[Machine], Home],
    study: str | None = None,
    kind: str | None = None,
    fresh: bool = False,
) -> list[Result]:
    """Train what no earlier session has finished on this machine with this software; return what those had finished.

    Epochs of a run that was cut off are not trained again: checkpoints stay in ``.checkpoints`` of the study's folder
    until the run's result is kept. ``fresh`` trains everything from its first epoch.

    Raises:
        NfbenchError: the device cannot be had, or is not of the ``kind`` for which the runs were chosen.
    """
    labels = Labels(session=new_id(), study=study)
    found: list[Result] = []
    place: _Place | None = None
    for one in runs:
        group = Group([Seat(one.workload)], device=device, seed=0, labels=labels)
        with running([group], keep) as state:
            if place is None:
                start([group], watch, kind)
                place = _place(group, home, fresh)
            folder = place.folder / ".checkpoints" / _digest(one.workload, place.hello)
            state.current = group
            for number, seed in enumerate(one.seeds, 1):
                old = place.finished.get((key(one.workload), seed))
                if old is not None and _same_data(old, one.sources.folder):
                    # it may have been stopped between its result and this
                    (folder / f"seed-{seed}.pt").unlink(missing_ok=True)
                    found.append(old)
                    continue
                if fresh:
                    (folder / f"seed-{seed}.pt").unlink(missing_ok=True)
                sources = one.sources
                if sources.checkpoint is not None and len(runs) > 1:
                    own = str(Path(sources.checkpoint) / _digest(one.workload, place.hello))
                    sources = msgspec.structs.replace(sources, checkpoint=own)
                elif sources.checkpoint is None:
                    sources = msgspec.structs.replace(sources, checkpoint=str(folder.resolve()))
                group.seats = (Seat(one.workload, sources=sources),)
                group.seed = seed
                # a run that failed says nothing about another seed
                group.out.clear()
                said = f", seed {seed} ({number} of {len(one.seeds)})" if len(one.seeds) > 1 else ""
                (result,) = group.turn(0, 0, one.sampling, keep, watch, said=said)
                if result is not None and result.status in ENDED:
                    (folder / f"seed-{seed}.pt").unlink(missing_ok=True)
                elif result is None or result.status != "unsupported":
                    # it is gone, or it has words left to say that are no answer to what it is asked next
                    group.renew(0)
            _tidy(folder)
    return found


class _Place(NamedTuple):
    """The study's folder, what is finished of it, and the worker's machine and software."""

    folder: Path
    finished: dict[tuple[str, int], Result]
    hello: Hello | None


def _place(group: Group, home: Callable[[Machine], Home], fresh: bool) -> _Place:
    hello = group.processes[0].hello
    if hello is None:
        # asking it will say why
        return _Place(Path(), {}, None)
    folder, earlier = home(hello.machine)
    finished = {
        (key(r.workload), r.seed): r
        for r in ([] if fresh else earlier)
        if r.status in ENDED and (r.machine, r.software) == (hello.machine, hello.software)
    }
    return _Place(folder, finished, hello)


def _same_data(old: Result, folder: str | None) -> bool:
    """Whether ``folder`` still holds what a finished run learnt: its record knows the folder's name only."""
    if folder is None:
        return True
    training = None if old.resolved is None else old.resolved.training
    return training is not None and training.data == _content(folder)


@functools.cache
def _content(folder: str) -> str:
    from nfbench.learning.data import load

    return load(f"imagefolder:{folder}").digest


def _digest(workload: Accuracy, hello: Hello | None) -> str:
    """A name for the checkpoints of a net; a run does not go on with other software or on another machine."""
    where = b"" if hello is None else msgspec.json.encode((hello.machine, hello.software))
    return hashlib.blake2b(key(workload).encode() + where, digest_size=6).hexdigest()


def _tidy(folder: Path) -> None:
    """Remove a folder and the one around it where no checkpoint is left in them."""
    for path in (folder, folder.parent):
        if path.is_dir() and not any(path.iterdir()):
            shutil.rmtree(path, ignore_errors=True)
