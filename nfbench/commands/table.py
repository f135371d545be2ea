"""Results as a table"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nfbench import options


@click.command("table")
@click.argument("paths", nargs=-1, required=True, metavar="RESULTS...", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Also results by older software.")
@options.format_option
def command(paths: tuple[Path, ...], everything: bool, format: Any) -> None:
    """Show results, one line a workload: files, or folders that are read recursively.

    Of each workload on each machine the newest software is shown, its replicates taken together.
    """
    from nfbench.analysis import clips
    from nfbench.analysis.rows import rows
    from nfbench.analysis.store import load
    from nfbench.commands._landing import say_broken
    from nfbench.showing import clips as show_clips
    from nfbench.showing import results as show

    loaded = load(paths)
    table, aside = rows(loaded.results, everything)
    alone = clips.rows(loaded.results)
    if table or not alone:
        click.echo(show.wide(table, format), nl=False)
    if alone and not table:
        click.echo(show_clips.tables(alone, [], format), nl=False)
    elif alone and format in ("rich", "md"):
        click.echo("\n" + show_clips.tables(alone, [], format), nl=False)
    elif alone:
        click.echo(f"Left out: {len(alone)} rows of agc-cost, which have other columns: name their files.", err=True)
    for line in show_clips.legend(alone) if format in ("rich", "md") else []:
        click.echo(line, err=True)
    for line in show.findings(table):
        click.echo(f"! {line}", err=True)
    say_broken(loaded.broken)
    if aside:
        click.echo(aside, err=True)
    where = " ".join(map(str, paths))
    click.echo(f"Next: nfbench plot {where}", err=True)
