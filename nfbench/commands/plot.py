"""Results as figures, PNG and SVG"""

from __future__ import annotations

from pathlib import Path

import click


@click.command("plot")
@click.argument("paths", nargs=-1, required=True, metavar="RESULTS...", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where to draw.")
@click.option("--all", "everything", is_flag=True, help="Also results by older software.")
def command(paths: tuple[Path, ...], out: Path | None, everything: bool) -> None:
    """Draw results: files, or folders that are read recursively.

    Step time and throughput of each model with their intervals, and reported accuracy against counted MACs. Without
    -o the figures go to `figures` beside the results.
    """
    from nfbench.analysis.rows import rows
    from nfbench.analysis.store import load
    from nfbench.commands._landing import say_broken
    from nfbench.records import AgcCost
    from nfbench.showing.plots import draw

    loaded = load(paths)
    table, aside = rows(loaded.results, everything)
    clips = sum(isinstance(r.workload, AgcCost) for r in loaded.results)
    folder = out or (paths[0] if paths[0].is_dir() else paths[0].parent) / "figures"
    drawn = draw(table, folder)
    for path in drawn.files:
        click.echo(path)
    for line in drawn.left_out:
        click.echo(f"Left out: {line}", err=True)
    if clips:
        click.echo(f"Left out: {clips} results of agc-cost, which `nfbench table` shows.", err=True)
    say_broken(loaded.broken)
    if aside:
        click.echo(aside, err=True)
