"""Run a study and answer its question"""

from __future__ import annotations

from typing import Any

import click

from nfbench import options
from nfbench.commands._study import RUN
from nfbench.errors import NfbenchError
from nfbench.showing.screen import show


@click.command("run")
@click.argument("study", required=False, shell_complete=options.complete_studies)
@click.option("--list", "listing", is_flag=True, help="List the studies that come with nfbench.")
@click.option(
    "--only",
    multiple=True,
    metavar="X",
    help="Run only this model, kind, claim or key=value,key=value. May be repeated.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting of the study: a value, a list or a range. scale=tiny fits a CPU.",
)
@options.max_time_option(None, "The same as --set max_time=TIME: seconds, 90s, 20m or 1h.")
@click.option("--within", type=options.narrow, help="The same as --set within=SHARE.")
@click.option("--rounds", type=click.IntRange(1, 1000), metavar="N", help="The same as --set rounds=N.")
@options.options(RUN)
def command(
    study: str | None,
    listing: bool,
    only: tuple[str, ...],
    assignments: tuple[str, ...],
    max_time: float | None,
    within: float | None,
    rounds: int | None,
    **given: Any,
) -> None:
    """Run STUDY, a name of --list or the path of a .toml file, each workload in a process of its own.

    A workload that fails is a row with its status, and the others go on. Ends with tables, figures and the answer. The
    same command goes on where it was stopped, however that happened: what is done on this machine with this software is
    not run again, and training that was cut off goes on from its last epoch.
    """
    from nfbench.commands._study import perform, take_flags
    from nfbench.studies.study import find_study, with_settings

    flags = take_flags(given)
    if listing and study is not None:
        raise NfbenchError(
            "--list shows all studies, and one was named.", try_=f"nfbench run --list, or nfbench run {study} --dry-run"
        )
    if listing:
        _list(flags.format)
        return
    if study is None:
        raise NfbenchError("Which study?", try_="nfbench run quick, or nfbench run --list")
    found = find_study(study)
    if found.counts_only:
        raise NfbenchError(f"{found.name} counts and times nothing.", try_=f"nfbench check {study}")
    caps = {"max_time": max_time, "within": within, "rounds": rounds}
    typed = [f"{name}={value:.9g}" for name, value in caps.items() if value is not None]
    perform(with_settings(found, [*assignments, *typed]), flags, only)


def _list(format: Any) -> None:
    from nfbench.showing.tables import Column, render
    from nfbench.studies.study import read, shipped

    studies = [read(path) for path in shipped().values()]
    rows = [{"study": s.name, "title": s.title, "scales": ", ".join(s.scales), "question": s.question} for s in studies]
    columns = [Column(name, name, right=False) for name in ("study", "title", "scales", "question")]
    show(render(columns, rows, format), format)
