"""Time training steps: forward, backward, clip, update"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nfbench import options
from nfbench.showing.screen import show


@click.command("step-time")
@options.nets()
@options.options(options.WORKLOAD_OPTIONS, options.RANK_OPTIONS)
@options.device_option
@options.seed_option
@options.options(options.SAMPLING_OPTIONS, options.LANDING_OPTIONS)
def command(
    models: tuple[str, ...],
    broadcast_buffers: bool | None,
    device: str,
    seed: int,
    out: Path | None,
    format: Any,
    quiet: bool,
    **settings: Any,
) -> None:
    """Time whole training steps of one or more nets, clip included.

    NET is a name of `nfbench models`, timm:NAME, or package.module:factory for one of your own. It may bring settings
    of its own: nfnet-f1@px=224,layout=nhwc. Each result is written to --out before it is shown.

    torchrun --nproc-per-node 8 -m nfbench step-time … times one net on eight GPUs: --batch is of all of them.
    """
    from nfbench.analysis.rows import rows
    from nfbench.commands import _ranks as ranks
    from nfbench.devices import open_device
    from nfbench.measuring.measure import measure
    from nfbench.showing import answers
    from nfbench.showing.sheet import sheet
    from nfbench.showing.shown_rows import shown
    from nfbench.studies import entries

    sampling = entries.sampling_of({name: settings.pop(name) for name in ("within", "min_steps", "rounds", "max_time")})
    ranks.check(sampling)
    workloads = [
        ranks.shared(entries.step_time_of({**settings, **of_net, "model": model}), broadcast_buffers)
        for model, of_net in map(options.net_and_settings, models)
    ]
    landing = ranks.landing(out, "step-time", device)
    with landing.live(quiet) as live:
        if sampling.rounds > 1:
            from nfbench.studies.rounds import in_rounds

            in_rounds(workloads, sampling, device=device, seed=seed, keep=landing.keep, board=live)
        else:
            opened = open_device(device)
            for workload in workloads:
                live.about(workload.model)
                if opened.usable():
                    measure(opened, workload, sampling, landing.keep, seed=seed, watch=live)
                else:
                    from nfbench.studies.processes import Seat, apart

                    apart(Seat(workload), sampling, device=device, seed=seed, keep=landing.keep, watch=live)
    table, _ = rows(landing.results, everything=True)
    answers.say_answers("", shown(landing.results), format)
    show(sheet(table, format), format)
    landing.close(table, format)
