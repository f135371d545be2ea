"""Results as figures, PNG and SVG"""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from nfbench.showing.kinds import KINDS, TRAINED


@click.command("plot")
@click.argument("paths", nargs=-1, required=True, metavar="RESULTS...", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where to draw.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Only this; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="Also results by older software.")
def command(paths: tuple[Path, ...], out: Path | None, kinds: tuple[str, ...], everything: bool) -> None:
    """Draw results: files, or folders that are read recursively.

    Step time and throughput of each model with their intervals, step time over commits and versions (history),
    measured accuracy against its costs and against step time, and reported accuracy against counted MACs; of sweeps
    time, memory and accuracy over batch sizes and clipping thresholds; what norms, layouts, precisions and compile
    modes cost: all that the results hold enough for. Without -o the figures go to `figures` beside the results.
    """
    from nfbench.analysis import accuracy
    from nfbench.analysis.rows import rows
    from nfbench.analysis.store import load
    from nfbench.commands._landing import say_broken
    from nfbench.errors import BadResults
    from nfbench.records import Accuracy, AgcCost
    from nfbench.showing.plots import draw

    loaded = load(paths)
    # a history shows older software without being told to
    table, aside = rows(loaded.results, everything or set(kinds) == {"history"})
    trained, trained_aside = accuracy.rows(loaded.results, everything)
    clips, runs = (sum(isinstance(r.workload, kind) for r in loaded.results) for kind in (AgcCost, Accuracy))
    folder = out or (paths[0] if paths[0].is_dir() else paths[0].parent) / "figures"
    drawn = draw(table, folder, loaded.results, kinds, trained)
    for path in drawn.files:
        click.echo(path)
    for line in drawn.left_out:
        click.echo(f"Left out: {line}", err=True)
    if clips:
        click.echo(f"Left out: {clips} results of agc-cost, which `nfbench table` shows.", err=True)
    if runs and kinds and not set(kinds) & set(TRAINED):
        counted = f"{runs} result{'s'[: runs != 1]} of accuracy"
        click.echo(f"Left out: {counted}, which --kind {TRAINED[0]} draws.", err=True)
    say_broken(loaded.broken)
    for line in filter(None, (aside, trained_aside)):
        click.echo(line, err=True)
    if not drawn.files:
        raise BadResults(
            f"Nothing was drawn: the results hold too little for {' and '.join(dict.fromkeys(kinds))}.",
            why="What is missing is listed above.",
            try_=f"nfbench plot {shlex.join(map(str, paths))}, which draws all that they hold enough for",
        )
