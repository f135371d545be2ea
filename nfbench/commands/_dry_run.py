"""What a study would run: nothing is opened, measured or written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfbench.records import Result, recency
from nfbench.showing.screen import say, show
from nfbench.units import plural

if TYPE_CHECKING:
    from nfbench.studies.entries import Task
    from nfbench.studies.run import Wanted
    from nfbench.studies.study import Study


def would_run(found: Study, tasks: Sequence[Task], wanted: Wanted, out: Path | None, kind: str, format: Any) -> None:
    """List every task, whether it is done, and whether it would run now."""
    from nfbench.analysis.store import files, load
    from nfbench.commands._landing import SIMULATED_GPU
    from nfbench.devices import is_simulated, names_of
    from nfbench.errors import BadResults
    from nfbench.showing.tables import Column, render

    where, simulated = out or Path("results"), is_simulated(kind)
    try:
        paths = [where] if out else [p for p in files([where]).paths if (SIMULATED_GPU in p.parts) == simulated]
        known = load(paths).results
    except BadResults:
        known = []
    names = names_of(kind)
    here = [r for r in known if r.machine.device == kind and r.machine.name in names]
    states = _states(tasks, [r for r in here if out is not None or r.study == found.name])
    to_do = [
        place
        for place, state in enumerate(states)
        if wanted.fresh or state == "missing" or (wanted.retry and state == "failed")
    ][: wanted.limit]
    rows = [
        {
            "number": number,
            "kind": task.entry.table,
            "workload": task.name,
            "state": states[number - 1],
            "runs": number - 1 in to_do,
        }
        for number, task in enumerate(tasks, 1)
    ]
    columns = [
        Column("number", "#"),
        *(Column(name, name, right=False) for name in ("kind", "workload", "state")),
        Column("runs", "would run", lambda runs: "yes" if runs else "", right=False),
    ]
    show(render(columns, rows, format), format)
    say(f"{len(to_do)} of {plural(len(tasks), 'workload')} would run.")
    if to_do:
        say("Next: the same without --dry-run")


def _states(tasks: Sequence[Task], known: Sequence[Result]) -> list[str]:
    """``done``, ``failed`` or ``missing``, told from results of this machine with the software that is installed."""
    from nfbench.analysis.sessions import failed
    from nfbench.devices.host import software
    from nfbench.studies.run import Done

    now = software(with_torch=False)

    def same(r: Result) -> bool:
        pairs = [(getattr(r.software, f), getattr(now, f)) for f in ("nfbench", "torch", "timm", "commit", "dirty")]
        # the fake device names no torch, and torch itself its build
        return all(then is None or then == today or str(then).startswith(f"{today}+") for then, today in pairs)

    newest = max((r for r in known if same(r)), key=recency, default=None)
    if newest is None:
        return ["missing"] * len(tasks)
    done = Done(known, newest.machine, newest.software)
    return ["missing" if (rows := done.rows(t)) is None else "failed" if failed(rows) else "done" for t in tasks]
