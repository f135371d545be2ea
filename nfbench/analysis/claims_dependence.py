"""Rules for claims on how far images depend on each other, from `Dependence` results.

Each such figure is a relative change, and stands against what rounding does in the same net: over 10 times that (at
least float32's 1.2e-7) nothing but dependence explains it, under it there is none. The interval is the range over
seeds, widened by rounding on both sides; that of one seed is its rounding.

It is computed in float32 on the CPU of whatever machine it was measured on, which the figure says: a verdict names the
machine's GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from nfbench.analysis import stats
from nfbench.analysis.accuracy import of_each_seed
from nfbench.analysis.accuracy_metrics import batch_gap
from nfbench.analysis.claim import Evidence, Figure, failures, norm, scope
from nfbench.analysis.rows import choose
from nfbench.analysis.stats import Estimate
from nfbench.records import Accuracy, Dependence, Result

FLOAT32 = 2.0**-23
BEYOND_ROUNDING = 10.0
WHERE = "float32 on the CPU"


def bn_dependence(results: Sequence[Result]) -> Evidence:
    """Batch normalization makes examples of a batch depend on each other: an image's output changes with the rest of
    its batch, beyond 10 times rounding, in every BN net that was measured.

    The same figure of nets without normalization stands beside it and does not decide.
    """
    figures = []
    for group in _groups(results):
        figure = _figure(group, "output_rest_changed", "output_rounding", "how far an image's output follows the rest")
        if figure is not None:
            figures.append(figure._replace(decides=norm(group[-1].workload.model) == "batch"))
    return Evidence(figures, _missing("no dependence of a net with batch normalization measured", results))


def agc_dependence(results: Sequence[Result]) -> Evidence:
    """AGC brings an implicit dependence between examples back: in nets without normalization an image's share of the
    update changes with the rest of its batch, beyond 10 times rounding, with AGC, and within it without.

    Open where the clip shortened no unit of that batch.
    """
    figures = []
    for group in _groups(results):
        if norm(group[-1].workload.model) != "none":
            continue
        about = "how far an image's share of the update follows the rest"
        on = _figure(group, "share_rest_changed_agc", "share_rounding_agc", f"{about} with AGC")
        off = _figure(group, "share_rest_changed_no_agc", "share_rounding_no_agc", f"{about} without", "below")
        if on is not None and off is not None:
            clipped = any(r.value("clipped_units") for r in group)
            figures += [on._replace(doubt="" if clipped else "no unit was over its limit"), off]
    return Evidence(figures, _missing("no dependence of a net with AGC measured", results))


def bn_train_eval(results: Sequence[Result]) -> Evidence:
    """Batch normalization behaves differently in training and in inference: a BN net's output in evaluation, with
    running statistics of other images, is not that in training, beyond 10 times rounding.

    Every BN net that was measured decides. Where none was, training runs do: by Student's t interval over seeds of the
    top-1 with the test batches' own statistics less that with the running ones, against 0 on either side. It stands
    beside the outputs where both were measured.
    """
    about = "how far an image's output in evaluation is from that in training"
    nets = [g for g in _groups(results) if norm(g[-1].workload.model) == "batch"]
    outputs = [f for g in nets if (f := _figure(g, "output_evaluation_others", "output_rounding", about)) is not None]
    gaps = [figure._replace(decides=not outputs) for figure in _gaps(results)]
    missing = "no dependence of a net with batch normalization measured, and none trained"
    return Evidence([*outputs, *gaps], _missing(missing, results))


def _gaps(results: Sequence[Result]) -> list[Figure]:
    runs = [r for r in results if isinstance(r.workload, Accuracy) and batch_gap(r) is not None]
    found = []
    for group in choose(runs).groups:
        seeds = of_each_seed(group)
        run, gap = seeds[-1].run, stats.mean([g for r in seeds if (g := batch_gap(r)) is not None])
        about = f"{run.model}'s top-1 with a batch's own statistics less that with running ones"
        on = f"{run.dataset}, batch {run.batch}, {run.epochs} epoch{'s'[: run.epochs != 1]}"
        ids = tuple(r.id for r in seeds)
        # a gap in either direction is one
        side: Literal["above", "below"] = "above" if gap.value >= 0 else "below"
        found.append(Figure(about, on, gap, "pp", side, 0.0, ids, scope=scope(run)))
    return found


def _groups(results: Sequence[Result]) -> list[list[Result]]:
    measured = [r for r in results if isinstance(r.workload, Dependence) and r.status == "ok"]
    return [of_each_seed(group) for group in choose(measured).groups]


def _figure(
    group: Sequence[Result], name: str, rounding: str, about: str, side: Literal["above", "below"] = "above"
) -> Figure | None:
    values = [v for r in group if (v := r.value(name)) is not None]
    floors = [v for r in group if (v := r.value(rounding)) is not None]
    last = group[-1]
    workload, resolved = last.workload, last.resolved
    if not values or not floors or not isinstance(workload, Dependence):
        return None
    floor = max(FLOAT32, *floors)
    estimate = Estimate(stats.mean(values).value, min(values) - floor, max(values) + floor)
    px = "" if resolved is None else f", {resolved.px} px"
    seeds = f"{len(values)} seed{'s'[: len(values) != 1]}"
    on = f"{workload.model}, batch {workload.batch}{px}, random weights, {seeds}, {WHERE}"
    ids = tuple(r.id for r in group)
    return Figure(about, on, estimate, "1", side, BEYOND_ROUNDING * floor, ids, scope=scope(workload))


def _missing(text: str, results: Sequence[Result]) -> str:
    failed = failures(r for r in results if isinstance(r.workload, Dependence))
    return f"{text}{f' ({failed})' if failed else ''}"
