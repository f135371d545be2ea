"""Set nets against each other, timed in turns"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nfbench import options
from nfbench.errors import Failed, Undecided, UnsupportedWorkload
from nfbench.showing.screen import say, show

if TYPE_CHECKING:
    from nfbench.analysis.rows import Row
    from nfbench.analysis.turn_ratios import Ratio


@click.command("compare")
@click.argument("nets", nargs=-1, required=True, metavar="A [B C ...]", shell_complete=options.complete_nets)
@click.option(
    "--match",
    type=click.Choice(["top1", "macs", "params", "step-time"]),
    help="In place of B: the other family's net that is nearest by this.",
)
@options.options(options.WORKLOAD_OPTIONS)
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="So many fresh processes of each net.  [default: 4, 8 or 16, as --within needs]",
)
@options.within_option("Stop at ratios ± this narrow.")
@options.max_time_option("2m", "Of timing, over all rounds; starting processes comes on top.")
@options.device_option
@options.seed_option
@options.out_option
@options.format_option
@options.notes_option
@options.noisy_option
@options.quiet_option
def command(
    nets: tuple[str, ...],
    match: Any,
    rounds: int | None,
    within: float,
    max_time: float,
    device: str,
    seed: int,
    out: Path | None,
    format: Any,
    noisy: bool,
    quiet: bool,
    **shared: Any,
) -> None:
    """Time two or more nets in turns A B B A and print how many times as fast A is.

    A net may bring settings of its own: nfnet-f1@px=224,layout=nhwc. Each round starts fresh processes; the interval
    is over rounds, and after 4, 8 or 16 of them it is narrow enough or the time is up. The last line says the answer
    in a sentence.
    """
    from nfbench.analysis import turn_ratios
    from nfbench.analysis.rows import row as row_of
    from nfbench.analysis.rows import without_noise
    from nfbench.catalog.models import find
    from nfbench.catalog.nearest import nearest
    from nfbench.commands._landing import Landing
    from nfbench.records import key
    from nfbench.showing import comparison
    from nfbench.showing.views import view
    from nfbench.studies import entries
    from nfbench.studies.rounds import Enough, in_rounds, sampling_against

    entries.positive("within", within)
    asked = [options.net_and_settings(text) for text in nets]
    if match is not None:
        if len(asked) != 1:
            raise UnsupportedWorkload("--match takes the place of B: name one net.", try_=f"compare A --match {match}")
        near = nearest(asked[0][0], match)
        say(near.said)
        asked.append((near.net.name, {}))
    if len(asked) < 2:
        raise UnsupportedWorkload(
            "One net is nothing to compare.", try_=f"nfbench compare {nets[0]} efficientnet-b4, or --match top1"
        )
    workloads = [entries.step_time_of({**shared, **own, "model": model}) for model, own in asked]
    keys = [key(w) for w in workloads]
    if len(set(keys)) < len(keys):
        again = next(w.model for w, k in zip(workloads, keys, strict=True) if keys.count(k) > 1)
        raise UnsupportedWorkload(
            f"{again} is there twice with the same settings.",
            why="A setting that changes nothing here tells them apart: it shows the noise of the machine.",
            # the px at which it trains changes nothing where it is asked for
            try_=f"compare {again} {again}@px={find(again).train_px or 224}, or {again} {again}@layout=nchw",
        )
    landing = Landing(out, "compare", device)
    with landing.live(quiet, brief=True) as live:
        sampling = sampling_against(rounds, within, max_time, len(workloads))
        enough = Enough(workloads, sampling, max_time)
        kept = in_rounds(workloads, sampling, device=device, seed=seed, keep=landing.keep, board=live, enough=enough)
    rows = [row_of([r for r in kept if key(r.workload) == k]) for k in keys]
    if noisy:
        rows = without_noise(rows)
    ratios = [
        None if "noisy" in rows[0] or "noisy" in row else turn_ratios.paired(kept, workloads[0], other)
        for row, other in zip(rows[1:], workloads[1:], strict=True)
    ]
    known = [ratio for ratio in ratios if ratio is not None]
    if known:
        say(comparison.sentence(known), err=format in ("csv", "json"))
    show(view(comparison.lines(rows, ratios), "compare", format), format)
    for line in [*(comparison.differing(rows) if format == "rich" else ()), *comparison.reported(known)]:
        say(line)
    for ratio in known:
        for finding in comparison.findings(ratio, within):
            say(f"! {finding}")
    landing.close(rows, format, kept)
    _check(rows, known)


def _check(rows: Sequence[Row], known: Sequence[Ratio]) -> None:
    """Raise where there is no ratio."""
    noisy = [f"{row['model']}: {row['noisy']}" for row in rows if "noisy" in row]
    if not known and noisy:
        raise Undecided(
            f"No ratio, because the timing is too noisy: {'; '.join(noisy)}.",
            why="The results are kept.",
            try_="the same on a quiet machine, or with --noisy",
        )
    if not known:
        raise Failed("No ratio: in every round the GPU was slowed down.", try_="Cool it or lock its clocks.")
