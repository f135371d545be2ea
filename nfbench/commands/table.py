"""Results as a table"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nfbench import options

if TYPE_CHECKING:
    from nfbench.analysis.rows import Row
    from nfbench.records import Result
    from nfbench.showing.tables import Format
    from nfbench.showing.together import Kinds

_FRONTS = ("macs", "params", "step-time", "energy")


@click.command("table")
@click.argument("paths", nargs=-1, required=True, metavar="RESULTS...", type=click.Path(path_type=Path))
@click.option("--columns", multiple=True, metavar="KEY,KEY", help="Only these keys of csv, in this order.")
@click.option("--sort", multiple=True, metavar="KEY,-KEY", help="By these; -KEY: the largest first.")
@options.where_option
@click.option("--group-by", multiple=True, metavar="KEY,KEY", help="A table for each value.")
@click.option("--baseline", metavar="NET", help="Ratios to this net, as resnet50@batch=64.")
@click.option("--all", "everything", is_flag=True, help="Also results by older software.")
@options.noisy_option
@click.option("--front", type=click.Choice(_FRONTS), help="Training runs by this cost; ● no cheaper one is as good.")
@click.option("--target", type=options.Share(), metavar="SHARE", help="Time of training until this top-1, as 90%.")
@options.format_option
def command(
    paths: tuple[Path, ...],
    columns: tuple[str, ...],
    sort: tuple[str, ...],
    where: tuple[str, ...],
    group_by: tuple[str, ...],
    baseline: str | None,
    everything: bool,
    noisy: bool,
    front: str | None,
    target: float | None,
    format: Any,
) -> None:
    """Show results, one line a workload: files, or folders that are read recursively.

    Of each workload on each machine the newest software is shown, its replicates taken together.
    """
    from nfbench.analysis import columns as asked
    from nfbench.analysis.store import load
    from nfbench.analysis.where import parse, select
    from nfbench.commands._landing import FAKE, newest, say_broken
    from nfbench.showing import accuracy as show_accuracy
    from nfbench.showing import together
    from nfbench.showing import clips as show_clips
    from nfbench.showing import relative as show_relative
    from nfbench.showing import results as show

    if target is not None and not 0 < target <= 1:
        raise click.BadParameter("a top-1 is over 0 and up to 100 %; type 90% or 0.9.", param_hint="--target")
    conditions, keys, order, groups = parse(where), *map(asked.listed, (columns, sort, group_by))
    for flag, typed, named in (("--columns", columns, keys), ("--sort", sort, order), ("--group-by", group_by, groups)):
        if typed and not named:
            raise click.BadParameter("no column is named; type model,batch,step_time.", param_hint=flag)
    loaded = load(paths)
    if loaded.note:
        click.echo(loaded.note, err=True)
    results, replaced = newest(loaded.results)
    kinds, said = _kinds(results, everything, target, noisy)
    if front is not None or target is not None:
        _check_trained(kinds.trained, paths, front)
    if baseline is not None:
        kinds = _against(kinds, results, everything, baseline, groups)
    kinds = together.Kinds(*select(conditions, *kinds.each.values()))
    if front is not None:
        kinds = together.Kinds([], [], [], show_accuracy.on_front(kinds.trained, front), [])
    _check_columns(kinds, keys, order, groups, baseline is not None)
    people = format in ("rich", "md")
    if keys:
        _echo_columns(kinds, keys, format, groups, order)
    elif baseline is not None:
        click.echo(together.against(kinds, format, groups, order), nl=False)
    else:
        click.echo(together.text(kinds, format, groups, order), nl=False)
        kinds = kinds.changed(lambda rows: asked.ordered(rows, order))
        ratios = [row.ratio for row in kinds.ratios if isinstance(row, together.OfRatio)]
    legend = show_relative.legend(kinds.rows) if baseline is not None else []
    legend += [] if keys or baseline else [*show_clips.legend(kinds.clips), *show_accuracy.legend(kinds.trained)]
    for line in legend if people else ():
        click.echo(line, err=True)
    for line in show.findings([*kinds.steps, *kinds.trained]):
        click.echo(f"! {line}", err=True)
    if all(r.machine.device == "fake" for r in results):
        # beside any other they are set aside
        click.echo(FAKE, err=True)
    say_broken(loaded.broken)
    for line in filter(None, (replaced, *(said if front is None else said[1:]))):
        click.echo(line, err=True)
    click.echo(f"Next: nfbench plot {' '.join(map(str, paths))}", err=True)


def _kinds(
    results: Sequence[Result], everything: bool, target: float | None, noisy: bool
) -> tuple[Kinds, tuple[str, str]]:
    """The rows of each kind, and what was set aside of timed steps and of training runs, in a sentence each."""
    from nfbench.analysis import accuracy, clips, counted
    from nfbench.analysis.rows import quiet, rows
    from nfbench.showing.study import ratios
    from nfbench.showing.together import Kinds, of_ratios

    steps, aside = rows(results, everything, noisy=noisy)
    trained, trained_aside = accuracy.rows(results, everything, target)
    real = [r for r in results if r.machine.device != "fake"] or results
    turns = of_ratios(ratios(real if noisy else quiet(real), everything))
    kinds = Kinds(steps, turns, clips.rows(results), trained, counted.rows(results))
    return kinds, (aside, trained_aside)


def _against(kinds: Kinds, results: Sequence[Result], everything: bool, net: str, groups: Sequence[str]) -> Kinds:
    """The timed steps and the training runs with their ratios to ``net``; what else there is has none."""
    from nfbench.analysis import relative
    from nfbench.showing.relative import differences
    from nfbench.showing.together import Kinds

    model, settings = options.net_and_settings(net)
    held = relative.of(results, everything, kinds.steps, kinds.trained)
    found = relative.against(held, model, settings, groups, differences)
    for name, rows in (("clips", kinds.clips), ("counts", kinds.counted)):
        if rows:
            click.echo(f"Left out: {name} ({len(rows)}), of which --baseline makes no ratios.", err=True)
    return Kinds(found[: len(kinds.steps)], [], [], found[len(kinds.steps) :], [])


def _echo_columns(
    kinds: Kinds, keys: Sequence[str], format: Format, groups: Sequence[str], order: Sequence[str]
) -> None:
    """The columns that were asked for, and on stderr the kinds that hold none of what they tell."""
    from nfbench.analysis.columns import ordered
    from nfbench.showing import chosen
    from nfbench.showing.relative import told

    for line in chosen.instead(kinds.each, keys):
        click.echo(line, err=True)
    without = chosen.left_out(kinds.each, keys)
    for name in without:
        click.echo(f"Left out: {name} ({len(kinds.each[name])}), which hold none of these columns.", err=True)
    rows: list[Row] = ordered([row for name, of in kinds.each.items() if name not in without for row in of], order)
    click.echo(chosen.table(rows, told(keys, rows, format), format, groups), nl=False)


def _check_columns(
    kinds: Kinds, keys: Sequence[str], order: Sequence[str], groups: Sequence[str], ratios: bool
) -> None:
    from nfbench.analysis.columns import check
    from nfbench.analysis.relative import KEYS
    from nfbench.showing.chosen import KNOWN

    for flag, names in (("--columns", keys), ("--sort", [k.removeprefix("-") for k in order]), ("--group-by", groups)):
        check(names, kinds.rows, flag, KNOWN if ratios else KNOWN.keys() - set(KEYS))


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
