"""Train and evaluate nets: accuracy, and what it cost"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nfbench import options
from nfbench.errors import NfbenchError, Stop
from nfbench.showing.screen import say, show


@click.command("accuracy")
@options.nets()
@options.options(options.RUN_OPTIONS, options.RANK_OPTIONS)
@options.device_option
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Training runs per net.")
@options.seed_of("First seed. It decides weights, order and augmentation.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Save each epoch there, and go on from what it holds.",
)
@options.target_option("Show the time until this top-1, such as 90%.")
@options.run_time_option
@options.options(options.LANDING_OPTIONS)
def command(
    models: tuple[str, ...],
    broadcast_buffers: bool | None,
    device: str,
    seeds: int,
    seed: int,
    target: float | None,
    max_time: float,
    out: Path | None,
    format: Any,
    quiet: bool,
    **settings: Any,
) -> None:
    """Train nets from scratch, each with its family's recipe, or fine-tune --weights; --epochs 0 only evaluates them.

    --dataset is digits (comes with scikit-learn), fashion-mnist, mnist, cifar10, cifar100, imagenet, or
    imagefolder:PATH, a folder with train/ and val/. Files are read where they are, in their published form; no data set
    is downloaded.

    --tune searches for the learning rate, or also for the threshold λ of nets that clip. 5 or 15 candidates learn from
    a ninth of the training images, then the best third of them from a third; a small set gives more of them. They are
    scored on a tenth of the training images that none of them saw. Every net has the same budget. All --seeds use the
    best values and learn from all training images. With --checkpoint a search that was stopped goes on.

    A run whose loss is not finite, or that falls back to chance, ends as `diverged` with the update at which it
    happened: an outcome, not a failure.

    torchrun --nproc-per-node 8 -m nfbench accuracy … trains one net on eight GPUs: --batch is of all of them.
    """
    from nfbench.analysis.training_runs import epochs, rows
    from nfbench.commands import _ranks as ranks
    from nfbench.devices import open_device
    from nfbench.learning.fit import Run
    from nfbench.showing import answers
    from nfbench.showing.live import Live
    from nfbench.showing.shown_rows import shown
    from nfbench.showing.views import VIEWS, view
    from nfbench.studies import entries
    from nfbench.studies.processes import Seat, apart

    checkpoint = settings.pop("checkpoint")
    asked = [
        entries.accuracy_of({"model": model, "checkpoint": _folder(checkpoint, model, models), **settings})
        for model in dict.fromkeys(models)
    ]
    for _, sources in asked:
        entries.check_sources(sources)
    sampling = entries.sampling_of({"max_time": max_time})
    asked = [(ranks.shared(workload, broadcast_buffers), sources) for workload, sources in asked]
    landing = ranks.landing(out, "accuracy", device)
    opened = open_device(device)
    # a run is long: what it finds must have somewhere to go
    landing.make(opened.machine)
    if settings["epochs"] == 0:
        seeds = 1  # nothing is drawn
    try:
        with Live(quiet) as live:
            for workload, sources in asked:
                for number in range(seed, seed + seeds):
                    live.about(workload.model + (f", seed {number}" if seeds > 1 else ""))
                    if opened.usable():
                        run = Run(opened, workload, sampling, landing.keep, seed=number, watch=live, sources=sources)
                        run.run()
                    else:
                        seat = Seat(workload, sources=sources)
                        apart(seat, sampling, device=device, seed=number, keep=landing.keep, watch=live)
    except (Stop, KeyboardInterrupt, NfbenchError) as error:
        landing.say()
        if landing.unwritten:
            show(view(epochs(landing.unwritten), "epochs", format) + "\n", format)
        if isinstance(error, (Stop, KeyboardInterrupt)):
            again = "The same command goes on from there." if checkpoint else "With --checkpoint DIR it would go on."
            say(again)
        raise
    table, _ = rows(landing.results, everything=True, target=target)
    person = format in ("rich", "md")
    answers.say_answers("", shown(landing.results), format)
    if len(table) == 1 and settings["epochs"] and any(r.reading("top1") for r in landing.results) and person:
        show(view(epochs(landing.results), "epochs", format) + "\n", format)
    show(view(table, "accuracy", format), format)
    for line in VIEWS["accuracy"].legend(table) if person else []:
        say(line, err=format != "rich")
    landing.close(table, format, counting=[r for r in landing.results if r.status != "diverged"])


def _folder(checkpoint: Path | None, model: str, models: tuple[str, ...]) -> Path | None:
    """A folder holds one run's checkpoints, so that several nets take one each."""
    if checkpoint is None or len(set(models)) == 1:
        return checkpoint
    return checkpoint / "".join(c if c.isalnum() or c in "-_." else "-" for c in model)
