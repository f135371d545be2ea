"""Results as a table"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nfbench import options

if TYPE_CHECKING:
    from nfbench.analysis.rows import Row

_FRONTS = ("macs", "params", "step-time", "energy")


@click.command("table")
@click.argument("paths", nargs=-1, required=True, metavar="RESULTS...", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Also results by older software.")
@click.option("--front", type=click.Choice(_FRONTS), help="Training runs by this cost; ● no cheaper one is as good.")
@click.option("--target", type=options.Share(), metavar="SHARE", help="Time of training until this top-1, as 90%.")
@options.format_option
def command(paths: tuple[Path, ...], everything: bool, front: str | None, target: float | None, format: Any) -> None:
    """Show results, one line a workload: files, or folders that are read recursively.

    Of each workload on each machine the newest software is shown, its replicates taken together.
    """
    from nfbench.analysis import accuracy, clips
    from nfbench.analysis.rows import rows
    from nfbench.analysis.store import load
    from nfbench.commands._landing import say_broken
    from nfbench.showing import accuracy as show_accuracy
    from nfbench.showing import clips as show_clips
    from nfbench.showing import results as show

    if target is not None and not 0 < target <= 1:
        raise click.BadParameter("a top-1 is over 0 and up to 100 %; type 90% or 0.9.", param_hint="--target")
    loaded = load(paths)
    table, aside = rows(loaded.results, everything)
    alone = clips.rows(loaded.results)
    trained, trained_aside = accuracy.rows(loaded.results, everything, target)
    if front is not None or target is not None:
        _check_trained(trained, paths, front)
    if front is not None:
        table, aside, alone, trained = [], "", [], show_accuracy.on_front(trained, front)
    if format in ("rich", "md"):
        parts = [show.wide(table, format)] if table else []
        parts += [show_clips.tables(alone, clips.shares(table), format)] if alone else []
        parts += [show_accuracy.wide(trained, format)] if trained else []
        click.echo("\n".join(parts), nl=False)
        for line in (*show_clips.legend(alone), *show_accuracy.legend(trained)):
            click.echo(line, err=True)
    elif not trained:
        click.echo(show_clips.tables(alone, table, format) if alone else show.wide(table, format), nl=False)
    elif not (table or alone):
        click.echo(show_accuracy.wide(trained, format), nl=False)
    else:
        click.echo(_together([*table, *alone, *trained], format), nl=False)
    for line in show.findings([*table, *trained]):
        click.echo(f"! {line}", err=True)
    say_broken(loaded.broken)
    for line in filter(None, (aside, trained_aside)):
        click.echo(line, err=True)
    where = " ".join(map(str, paths))
    click.echo(f"Next: nfbench plot {where}", err=True)


def _together(rows: Sequence[Row], format: Any) -> str:
    """Rows of several kinds, apart in the first column, as one table of raw values."""
    from nfbench.showing import accuracy, clips, results
    from nfbench.showing.tables import render

    columns = {c.key: c for c in (*accuracy.RAW, *clips.RAW, *results.ALL)}
    return render(list(columns.values()), results.coded(rows, format), format)


def _check_trained(rows: Sequence[Row], paths: Sequence[Path], front: str | None) -> None:
    from nfbench.errors import BadResults
    from nfbench.showing.accuracy import COSTS

    where = " ".join(map(str, paths))
    if not rows:
        asked = "--target" if front is None else f"--front {front}"
        raise BadResults(
            f"{asked} is about training runs, and {where} holds none.",
            try_="nfbench accuracy --model tiny-nfnet, which makes one",
        )
    if front is not None:
        key, words = COSTS[front]
        if not any(key in row and "top1" in row for row in rows):
            raise BadResults(
                f"No training run in {where} has both a final top-1 and {words}, so there is no front.",
                try_=f"nfbench table {where}, which shows what they hold",
            )
