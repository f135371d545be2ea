"""Time the clip alone and in a step, each way"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from nfbench import options
from nfbench.errors import NfbenchError, UnsupportedWorkload
from nfbench.records import AgcImpl
from nfbench.showing.screen import say, show

SHARES = (0.0, 0.5, 1.0)
BATCHES = {"cpu": (1, 4), "cuda": (8, 32, 128), "fake": (8, 32)}


@click.command("agc-cost")
@options.nets("nfnet-f0")
@click.option(
    "--agc-impl", "impls", multiple=True, type=click.Choice(get_args(AgcImpl)), help="Only these.  [default: all]"
)
@click.option("--layout", type=click.Choice(["nchw", "nhwc"]), default="nhwc", show_default=True)
@click.option("--batch", "batches", multiple=True, type=int, help="Batches of the steps.  [default: a few]")
@click.option("--no-steps", is_flag=True, help="Time the clip by itself only.")
@options.device_option
@options.seed_of("Seed of weights and gradients.")
@options.within_option("Stop when each interval is ± this narrow.")
@options.max_time_option("20s", "For each share of clipped units, and for each step.")
@options.options(options.LANDING_OPTIONS)
def command(
    models: tuple[str, ...],
    impls: tuple[AgcImpl, ...],
    layout: Any,
    batches: tuple[int, ...],
    no_steps: bool,
    device: str,
    seed: int,
    within: float,
    max_time: float,
    out: Path | None,
    format: Any,
    quiet: bool,
) -> None:
    """What adaptive gradient clipping costs: each implementation on all parameters that NET clips, nfnet-f0 by default.

    They take turns A B C C B A on random gradients of which no, half and all units are over their limit, against timm's
    loop and against the time in which the bytes could be copied. Then whole steps at several batch sizes, those in
    which the default clips and those in which timm's does in turns A B B A: what share of each step is the clip.
    """
    if no_steps and batches:
        raise NfbenchError("--batch has no effect with --no-steps, which times no step.", try_="one of the two")
    from nfbench.analysis.rows import clip_rows, clip_shares, rows
    from nfbench.catalog.models import find
    from nfbench.commands._landing import Landing
    from nfbench.devices import open_device
    from nfbench.measuring.clips import ClipCosts
    from nfbench.records import AgcCost
    from nfbench.showing import answers, views
    from nfbench.showing.shown_rows import Shown, shown
    from nfbench.studies import entries
    from nfbench.studies.processes import Seat, apart
    from nfbench.studies.rounds import TURNS, in_rounds

    sampling = entries.sampling_of({"within": within, "max_time": max_time})
    of_steps = entries.sampling_of({"within": within, "max_time": max_time / TURNS, "turns": TURNS})
    names = [find(model).name for model in dict.fromkeys(models)]
    landing = Landing(out, "agc-cost", device)
    opened = open_device(device)
    runs = opened.clip_impls()
    for impl in impls:
        if (why := runs[impl]) is not None:
            raise UnsupportedWorkload(
                f"--agc-impl {impl} does not run on {opened.machine.name}.", why=why, try_="--agc-impl foreach"
            )
    asked: list[AgcImpl] = list(impls or [impl for impl, why in runs.items() if why is None])
    steps = [
        [
            entries.step_time_of({"model": model, "batch": batch, "layout": layout, "agc": 0.01, "agc_impl": impl})
            for impl in ("auto", "timm")
        ]
        for model in names
        for batch in ([] if no_steps else batches or BATCHES[opened.machine.device])
    ]
    with landing.live(quiet) as live:
        for model in names:
            costs = ClipCosts(opened, sampling, landing.keep, live, seed)
            for share in SHARES:
                live.about(f"{model}, {share:.0%} of the units over their limit")
                each = [AgcCost(model=model, impl=impl, clipped=share, layout=layout) for impl in asked]
                each.append(AgcCost(model=model, impl="copy", clipped=share, layout=layout))
                if opened.usable():
                    costs.run(each)
                else:
                    seat = Seat(each[0], beside=tuple(each[1:]))
                    apart(seat, sampling, device=device, seed=seed, keep=landing.keep, watch=live)
            # their memory is for the steps
            del costs
        opened.rest()
        for pair in steps:
            in_rounds(pair, of_steps, device=device, seed=seed, keep=landing.keep, board=live)
    table, _ = rows(landing.results, everything=True)
    clips = clip_rows(landing.results)
    answers.say_answers("", shown(landing.results), format)
    show(views.texts(Shown(steps=clip_shares(table), clips=clips), format)["clips"], format)
    for line in views.VIEWS["clips"].legend(clips) if format in ("rich", "md") else ():
        say(line, err=format != "rich")
    for impl, why in runs.items():
        if why is not None and not impls:
            say(f"Left out: {impl}, since {why}.")
    landing.close(table, format)
