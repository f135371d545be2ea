"""Steps, memory, energy and accuracy over batches"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nfbench import options
from nfbench.commands._study import RUN
from nfbench.errors import BadStudy
from nfbench.records import Result, StepTime, of_kind

if TYPE_CHECKING:
    from nfbench.studies.entries import Task

LARGEST = {"cpu": 256, "cuda": 4096, "fake": 4096}
LARGEST_TRAINED = 256
MOST_PASSES = 4
_SETTINGS = ("px", "micro_batch", "precision", "layout", "compile", "agc", "agc_impl", "norm", "optimizer", "ema")


@click.command("batch-sweep")
@options.nets()
@click.option(
    "--batch",
    type=options.Values(int, "auto"),
    default="auto",
    show_default=True,
    help="Such as 2,4,8. auto: 2, 4, 8 ... until an update takes 4 passes.",
)
@options.options(tuple(options.STEP_FLAGS[name] for name in _SETTINGS))
@options.within_option("As in step-time.")
@options.max_time_option("20s", "For each net and batch.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="Rounds of fresh processes.")
@click.option("--accuracy", is_flag=True, help="Train each net at each batch too, up to 256 unless --batch says more.")
@options.options(options.DATA_OPTIONS)
@options.options(RUN)
def command(
    models: tuple[str, ...],
    batch: Any,
    accuracy: bool,
    dataset: str,
    epochs: int,
    seeds: int,
    data_dir: Path | None,
    **given: Any,
) -> None:
    """Time steps of nets at batch sizes 2, 4, 8 and so on, up to the largest that fits and then by accumulation.

    Small batches are where batch normalization does worst: --accuracy trains at each batch, with each family's recipe
    and its rate scaled linearly, and shows what becomes of the top-1. Where it is stopped, the same command goes on.
    """
    from nfbench.commands._study import perform, take_flags
    from nfbench.studies.study import study

    flags = take_flags(given)
    sampling = {name: given.pop(name) for name in ("within", "max_time", "rounds")}
    automatic = batch == "auto"
    timed: Any = {"from": 2, "to": LARGEST[flags.kind], "factor": 2} if automatic else batch
    trained: Any = {"from": 2, "to": LARGEST_TRAINED, "factor": 2} if automatic else batch
    settings = {name: value for name, value in given.items() if _given(name)}
    tables: dict[str, Any] = {"step-time": [{"model": list(models), "batch": timed, **settings, **sampling}]}
    if accuracy:
        run = {"model": list(models), "batch": trained, "dataset": dataset, "epochs": epochs, "seeds": seeds}
        # the best layout is one to be tried, and a recipe brings its own optimizer
        shared = {name: value for name, value in settings.items() if name != "optimizer" and value != "best"}
        paths = {} if data_dir is None else {"data_dir": str(data_dir)}
        tables["accuracy"] = [run | shared | {"seed": flags.seed} | paths]
    elif _given("dataset", "epochs", "seeds", "data_dir"):
        raise BadStudy("--dataset, --epochs and --seeds are of training.", try_="--accuracy with them")
    figures = ["batch-throughput", "batch-step-time", "batch-memory", *(["batch-accuracy"] if accuracy else [])]
    found = study(
        {
            "title": "Batch sweep",
            "question": "What do small and large batches cost each net?",
            "figures": figures,
            **tables,
        },
        Path("batch-sweep"),
    )
    perform(found, flags, skip=enough if automatic else None)


def enough(task: Task, found: Sequence[Result]) -> str | None:
    """Why no larger batch of a net is timed: one did not fit, or an update already takes four passes."""
    workload = task.workload
    if not isinstance(workload, StepTime):
        return None
    for r in of_kind(found, StepTime):
        if r.step.model != workload.model or r.step.batch >= workload.batch:
            continue
        if r.status == "out_of_memory":
            return f"batch {r.step.batch} did not fit"
        passes = None if r.resolved is None else r.step.batch // r.resolved.micro_batch
        if passes is not None and passes >= MOST_PASSES:
            return f"batch {r.step.batch} already takes {passes} passes"
    return None


def _given(*names: str) -> bool:
    context = click.get_current_context()
    return any(context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE for name in names)
