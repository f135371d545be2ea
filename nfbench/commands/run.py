"""Run a study and answer its question"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nfbench import options
from nfbench.errors import NfbenchError, Stop
from nfbench.records import Accuracy, Result


@click.command("run")
@click.argument("study", required=False)
@click.option("--list", "listing", is_flag=True, help="The studies that come with nfbench.")
@click.option("--fresh", is_flag=True, help="Train again what an earlier run has trained already.")
@options.device_option
@options.seed_option
@options.out_option
@options.format_option
@options.quiet_option
def command(
    study: str | None, listing: bool, fresh: bool, device: str, seed: int, out: Path | None, format: Any, quiet: bool
) -> None:
    """Run STUDY, a name of --list or the path of a .toml file, each workload in a process of its own.

    A workload that fails is a row with its status, and the others go on. Ends with a table, plots and the answer.
    A study that trains nets goes on where it was stopped: what is finished on this machine with this software is not
    trained again, and what was cut off goes on from its last epoch.
    """
    from nfbench.studies.study import find

    if listing:
        return _list(format)
    if study is None:
        raise NfbenchError("Which study?", try_="nfbench run quick, or nfbench run --list")
    found = find(study)
    if found.counts_only:
        raise NfbenchError(f"{found.name} counts and times nothing.", try_=f"nfbench check {study}")

    from nfbench.analysis import accuracy, compare
    from nfbench.analysis.rows import rows
    from nfbench.commands._landing import Landing
    from nfbench.devices import kind_of
    from nfbench.showing import accuracy as show_accuracy
    from nfbench.showing import plots
    from nfbench.showing import results as show
    from nfbench.showing.live import Live
    from nfbench.studies import runner, training
    from nfbench.studies.runs import check

    kind = kind_of(device)
    parts, runs = found.parts(kind), found.runs(kind)
    for one in runs:
        check(one.sources)
    landing = Landing(out, found.name)
    click.echo(f"{found.title}: {found.question}", err=True)
    by_part: dict[int, list[Result]] = {}

    def keep(place: int, result: Result) -> None:
        landing.keep(result)
        by_part.setdefault(place, []).append(result)

    try:
        with Live(quiet) as live:
            if parts:
                runner.parts(parts, device=device, seed=seed, keep=keep, watch=live, study=found.name, kind=kind)
            finished = (
                training.train(
                    runs,
                    device=device,
                    keep=landing.keep,
                    watch=live,
                    home=lambda machine: training.Home(landing.folder(machine), landing.earlier(machine)),
                    fresh=fresh,
                    study=found.name,
                    kind=kind,
                )
                if runs
                else []
            )
    except (Stop, KeyboardInterrupt, NfbenchError):
        landing.say()
        raise
    results = [*finished, *landing.results]
    table, _ = rows(results, everything=True)
    trained, _ = accuracy.rows(results, everything=True)
    if table or not trained:
        click.echo(show.wide(table, format), nl=False)
    if trained:
        shown = show_accuracy.on_front(trained, "macs")
        click.echo(show_accuracy.wide(shown, format), nl=False)
        for line in show_accuracy.legend(shown) if format in ("rich", "md") else []:
            click.echo(line, err=True)
    if finished:
        click.echo(f"{len(finished)} runs had been finished before; --fresh trains them again.", err=True)
    folder = landing.folder(results[-1].machine)
    for figure in plots.draw(table, folder / "figures", results, trained=trained).files:
        click.echo(f"Drew {figure}", err=True)
    ratios = [
        ratio
        for place, part in enumerate(parts)
        if len(part.workloads) == 2 and (ratio := compare.paired(by_part.get(place, []), *part.workloads)) is not None
    ]
    try:
        landing.close([*table, *trained], counting=[r for r in landing.results if not _outcome(r)])
    finally:
        if ratios:
            click.echo(compare.sentence(ratios), err=format in ("csv", "json"))
        if trained and (answer := show_accuracy.answer(shown)):
            click.echo(answer, err=format in ("csv", "json"))


def _outcome(result: Result) -> bool:
    """Whether a run diverged, which is what a training run may find."""
    return isinstance(result.workload, Accuracy) and result.status == "diverged"


def _list(format: Any) -> None:
    from nfbench.showing.tables import Column, render
    from nfbench.studies.study import read, shipped

    studies = [read(path) for path in shipped().values()]
    rows = [{"study": s.name, "title": s.title, "question": s.question} for s in studies]
    columns = [Column(name, name, right=False) for name in ("study", "title", "question")]
    click.echo(render(columns, rows, format), nl=False)
