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
    person = format in ("rich", "md")
    if not alone or (table and person):
        click.echo(show.wide(table, format), nl=False)
    if alone:
        gap = "\n" if table and person else ""
        click.echo(gap + show_clips.tables(alone, clips.shares(table) if person else table, format), nl=False)
    for line in show_clips.legend(alone) if person else []:
        click.echo(line, err=True)
    for line in show.findings(table):
        click.echo(f"! {line}", err=True)
    say_broken(loaded.broken)
    if aside:
        click.echo(aside, err=True)
    where = " ".join(map(str, paths))
    click.echo(f"Next: nfbench plot {where}", err=True)
