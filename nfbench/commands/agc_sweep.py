"""Accuracy over clipping thresholds and batch sizes"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nfbench import options
from nfbench.commands._study import RUN

RATE_OF = 256
"""The batch at which --base-lr is the rate."""


@click.command("agc-sweep")
@options.nets()
@click.option(
    "--agc",
    type=options.Values(float, "none"),
    default="0.01,0.02,0.04,0.08,0.16,none",
    show_default=True,
    help="Thresholds λ.",
)
@click.option(
    "--batch", type=options.Values(int), default="64,256", show_default=True, help="Images per optimizer update."
)
@options.options(options.DATA_OPTIONS)
@click.option(
    "--base-lr",
    type=float,
    metavar="X",
    help="Peak rate at batch 256, scaled linearly to each batch.  [default: the recipe's]",
)
@options.options(
    tuple(options.RUN_FLAGS[name] for name in ("px", "precision", "layout", "agc_impl", "augment", "tune"))
)
@options.run_time_option
@options.options(RUN)
def command(
    models: tuple[str, ...],
    agc: Any,
    batch: Any,
    data_dir: Path | None,
    base_lr: float | None,
    **given: Any,
) -> None:
    """Train nets with each threshold of adaptive gradient clipping at each batch size.

    The learning rate grows with the batch, as in the paper's Figure 2b; --tune lr searches for it in each cell instead.
    A run that diverges is a cell of the table, with the update at which it did. Where it is stopped, the same command
    goes on.
    """
    from nfbench.commands._study import perform, take_flags
    from nfbench.studies import entries
    from nfbench.studies.study import study

    flags = take_flags(given)
    run = {
        "model": list(models),
        "agc": agc,
        "seed": flags.seed,
        **given,
        **({} if data_dir is None else {"data_dir": str(data_dir)}),
    }
    if base_lr is None:
        tables = [{**run, "batch": batch}]
    else:
        entries.positive("base-lr", base_lr, "--base-lr 0.1, the rate at batch 256")
        tables = [{**run, "batch": size, "lr": base_lr * size / RATE_OF} for size in batch]
    found = study(
        {
            "title": "AGC sweep",
            "question": "Which threshold trains at which batch, and what happens without the clip?",
            "figures": ["agc-lines", "agc-heatmap"],
            "accuracy": tables,
        },
        Path("agc-sweep"),
    )
    perform(found, flags)
