"""Results as a table"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nfbench import options
from nfbench.errors import NfbenchError
from nfbench.showing.screen import say, show

if TYPE_CHECKING:
    from nfbench.analysis.rows import Row
    from nfbench.showing.shown_rows import Shown
    from nfbench.showing.tables import Format

_FRONTS = ("macs", "params", "step-time", "energy")


@click.command("table")
@options.results_argument
@click.option(
    "--columns",
    multiple=True,
    metavar="KEY,KEY",
    help="Show only these columns, in this order. The names are those of --format csv.",
)
@click.option("--sort", multiple=True, metavar="KEY,-KEY", help="Sort by these columns. -KEY sorts the largest first.")
@options.where_option
@click.option(
    "--baseline",
    metavar="NET",
    help="Show ratios to this net, such as resnet50@batch=64. Each row says whether the two were timed in turns.",
)
@options.older_option
@options.noisy_option
@click.option(
    "--front",
    type=click.Choice(_FRONTS),
    help="Sort training runs by this cost. ● marks a run if no cheaper run is as accurate.",
)
@options.target_option("Show how long training takes to reach this top-1, such as 90%.")
@options.format_option
@options.notes_option
def command(
    paths: tuple[Path, ...],
    columns: tuple[str, ...],
    sort: tuple[str, ...],
    where: tuple[str, ...],
    baseline: str | None,
    everything: bool,
    noisy: bool,
    front: str | None,
    target: float | None,
    format: Any,
) -> None:
    """Show results, one line per workload. RESULTS are files, or folders that are read recursively.

    For each workload and machine the table shows the newest software. Repeated measurements are combined.
    """
    from nfbench.analysis import query as asked
    from nfbench.analysis.query import in_seconds, parse, select
    from nfbench.analysis.store import load
    from nfbench.analysis.training_runs import on_front
    from nfbench.commands._landing import FAKE, newest, say_broken
    from nfbench.showing import views
    from nfbench.showing.notes import say_notes
    from nfbench.showing.shown_rows import Shown, shown

    if front is not None and baseline is not None:
        raise NfbenchError("--front and --baseline are two different tables.", try_="one of --front and --baseline")
    conditions, keys, order = parse(where), asked.listed(columns), asked.listed(sort)
    for line in in_seconds(conditions):
        say(line)
    for flag, typed, names in (("--columns", columns, keys), ("--sort", sort, order)):
        if typed and not names:
            raise click.BadParameter("no column is named; type model,batch,step_time.", param_hint=flag)
    loaded = load(paths)
    if loaded.note:
        say(loaded.note)
    results, replaced = newest(loaded.results)
    seen = shown(results, everything, noisy, target)
    against = baseline is not None
    if front is not None or target is not None:
        _check_trained(seen.trained, paths, front)
    if baseline is not None:
        seen = _against(seen, everything, baseline)
    seen = seen.of(select(conditions, *seen.each.values()))
    if front is not None:
        seen = Shown(trained=on_front(seen.trained, front), aside=("", seen.aside[1]))
    _check_columns(seen, keys, order, against)
    if keys:
        _echo_columns(seen, keys, format, order)
    else:
        show(views.text(seen, format, order, against), format)
    for line in views.legend(seen, against) if format in ("rich", "md") and (against or not keys) else ():
        say(line, err=format != "rich")
    say_notes([*seen.steps, *seen.trained], format)
    if all(r.machine.device == "fake" for r in results):
        # beside any other they are set aside
        say(FAKE)
    say_broken(loaded.broken)
    for line in filter(None, (replaced, *seen.aside)):
        say(line)
    say(f"Next: nfbench plot {' '.join(map(str, paths))}")


def _against(seen: Shown, everything: bool, net: str) -> Shown:
    """The timed steps and the training runs with their ratios to ``net``; what else there is has none."""
    from nfbench.analysis import relative
    from nfbench.showing.comparison import against_baseline

    model, settings = options.net_and_settings(net)
    held = relative.of(seen.results, everything, seen.steps, seen.trained)
    rows = relative.against(held, model, settings, against_baseline)
    for name, others in (("clips", seen.clips), ("counts", seen.counted)):
        if others:
            say(f"Left out: {name} ({len(others)}), of which --baseline makes no ratios.")
    steps = len(seen.steps)
    return seen._replace(steps=rows[:steps], ratios=(), clips=(), trained=rows[steps:], counted=())


def _echo_columns(seen: Shown, keys: Sequence[str], format: Format, order: Sequence[str]) -> None:
    """The columns that were asked for, and on stderr the kinds that hold none of what they tell."""
    from nfbench.analysis.query import ordered
    from nfbench.showing import views

    for line in views.instead(seen, keys):
        say(line)
    without = views.without(seen, keys)
    for name in without:
        say(f"Left out: {name} ({len(seen.each[name])}), which hold none of these columns.")
    rows = ordered([row for name, of in seen.each.items() if name not in without for row in of], order)
    show(views.columns(rows, views.with_ratios(keys, rows, format), format), format)


def _check_columns(seen: Shown, keys: Sequence[str], order: Sequence[str], ratios: bool) -> None:
    from nfbench.analysis.query import check
    from nfbench.analysis.relative import KEYS
    from nfbench.showing.views import KNOWN

    for flag, names in (("--columns", keys), ("--sort", [k.removeprefix("-") for k in order])):
        check(names, seen.rows, flag, KNOWN if ratios else KNOWN.keys() - set(KEYS))


def _check_trained(rows: Sequence[Row], paths: Sequence[Path], front: str | None) -> None:
    from nfbench.analysis.training_runs import COSTS
    from nfbench.errors import BadResults

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
