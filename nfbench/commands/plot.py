"""Results as figures: PNG, SVG or PDF"""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nfbench import options
from nfbench.showing.figures.kinds import KINDS
from nfbench.showing.screen import say
from nfbench.units import plural

if TYPE_CHECKING:
    from nfbench.analysis.query import Condition
    from nfbench.records import Result

_FORMATS = ("png", "svg", "pdf")


@click.command("plot")
@options.results_argument
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Folder for the figures."
)
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Draw only this kind. May be repeated."
)
@click.option("--format", "formats", multiple=True, type=click.Choice(_FORMATS), help="May be repeated.  [png, svg]")
@options.where_option
@options.older_option
@options.noisy_option
@options.notes_option
def command(
    paths: tuple[Path, ...],
    out: Path | None,
    kinds: tuple[str, ...],
    formats: tuple[str, ...],
    where: tuple[str, ...],
    everything: bool,
    noisy: bool,
) -> None:
    """Draw results. RESULTS are files, or folders that are read recursively.

    Without --kind, nfbench draws every figure for which the results hold enough. --notes shows what could not be drawn,
    and why. Without -o the figures go to `figures` beside the results, those of results/reference and
    results/validation to results/figures.
    """
    from nfbench.analysis.query import in_seconds, parse, select
    from nfbench.analysis.store import beside, load
    from nfbench.commands._landing import newest, say_broken
    from nfbench.errors import BadResults
    from nfbench.showing.figures import driver
    from nfbench.showing.screen import NOTES, linked
    from nfbench.showing.shown_rows import shown

    conditions = parse(where)
    for line in in_seconds(conditions):
        say(line)
    loaded = load(paths)
    if loaded.note:
        say(loaded.note)
    results, replaced = newest(loaded.results)
    seen = shown(results, everything, noisy)
    # a step has no data set, but the runs of one are set against steps
    known = [c for c in conditions if any(c.key in row for row in seen.steps)]
    partners = [row for row in seen.steps if all(c.holds(row) for c in known)] if known != conditions else None
    # with conditions that nothing meets, this says so
    steps, trained, ratios = select(conditions, seen.steps, seen.trained, seen.ratios)
    results = _met(conditions, results) if conditions else results
    seen = seen._replace(steps=steps, trained=trained, ratios=ratios, results=results, partners=partners)
    folder = out or beside(paths[0]) / "figures"
    asked = list(dict.fromkeys(kinds))
    drawn = driver.draw(seen, folder, asked, tuple(dict.fromkeys(formats)) or ("png", "svg"))
    for path in drawn.files:
        click.echo(linked(path, sys.stdout))
    lines = driver.left_out(driver.heeded(drawn.drawings, asked))
    lines = [f"Left out of {line}." for line in lines]
    if any("; …)" in line for line in lines):
        lines.append("Where rows are counted, `nfbench table` lists them all.")
    lines += [] if conditions else [f"Left out: {line}" for line in _unread(results, asked)]
    if drawn.files:
        number = sum(len(drawing.figures) for drawing in drawn.drawings.values())
        say(f"{plural(number, 'figure')} drawn, into {folder}.")
    if drawn.files and lines and not asked and not click.get_current_context().meta[NOTES]:
        lines = ["Some rows are left out of some kinds of figures; --notes shows which and why."]
    for line in lines:
        say(line)
    say_broken(loaded.broken)
    # a history shows older software without being told to
    for line in filter(None, (replaced, *(seen.aside if set(asked) != {"history"} else ()))):
        say(line)
    if not drawn.files:
        raise BadResults(
            f"Nothing was drawn: the results hold too little for {' and '.join(asked) or 'any figure'}.",
            why="What is missing is listed above." if lines else "",
            try_=f"nfbench plot {shlex.join(map(str, paths))}, which draws all that they hold enough for"
            if asked
            else "nfbench step-time --model tiny-nfnet, which makes results to draw",
        )


def _met(conditions: Iterable[Condition], results: Sequence[Result]) -> list[Result]:
    """The results but for those of steps and of training runs whose row, by whatever software, does not meet all
    conditions."""
    from nfbench.analysis import rows, training_runs
    from nfbench.analysis.rows import choose
    from nfbench.records import Accuracy, StepTime, of_kind

    conditions = list(conditions)
    unmet: set[int] = set()
    for kind, rows_of in ((StepTime, rows.rows), (Accuracy, training_runs.rows)):
        alike = of_kind(results, kind)
        both = zip(rows_of(alike, everything=True)[0], choose(alike, everything=True).groups, strict=True)
        unmet |= {id(r) for row, group in both if not all(c.holds(row) for c in conditions) for r in group}
    return [r for r in results if id(r) not in unmet]


def _unread(results: Sequence[Result], asked: Iterable[str]) -> list[str]:
    """What none of the kinds reads, counted by command."""
    from nfbench.records import Accuracy, StepTime

    reads = {KINDS[kind].reads for kind in asked or KINDS}
    timed, trained = {"steps", "ratios", "timed", "softwares"}, {"trained", "seeds"}
    read = [kind for kind, by in ((StepTime, timed), (Accuracy, trained)) if reads & by]
    shown = {StepTime: "--kind step-time draws", Accuracy: "--kind accuracy-vs-flops draws"}
    counts = Counter(type(r.workload) for r in results if type(r.workload) not in read)
    return [
        f"{number} result{'s'[: number != 1]} of {kind.__struct_config__.tag}, which"
        f" {shown.get(kind, '`nfbench table` shows')}."
        for kind, number in counts.items()
    ]
