"""Training runs as rows of raw values: one row per workload, machine and software, its seeds taken together."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest

import msgspec

from nfbench.analysis import findings, stats, training_metrics
from nfbench.analysis.metrics import METRICS, keys
from nfbench.analysis.rows import Row, choose, family_of, machine_names, software_name, status_of
from nfbench.analysis.training_metrics import final_top1, images_to, time_to, updates_to
from nfbench.catalog.models import batch_normalized, lookup
from nfbench.records import Accuracy, Result, of_kind, recency
from nfbench.settings import SAM
from nfbench.units import grouped

__all__ = ["EPOCH", "epochs", "front", "norm_of", "of_each_seed", "rows"]

_UNSET = ("auto", "train")
_NOT_SHOWN = ("training", "data", "mean", "std", "search")
_PLACE = ("dataset", "px", "test_px", "epochs", "weights", "machine")
"""Where these are equal, one net's final top-1 may be another's target."""

COSTS = {
    "macs": ("macs", "MACs"),
    "params": ("params", "parameters"),
    "step-time": ("train_step_time", "training step time"),
    "energy": ("image_energy", "energy per image"),
}
"""What top-1 can be set against: the key of a row and its name in a sentence."""
EPOCH = keys("epoch")
"""The readings that a run has of each epoch."""


def rows(results: Iterable[Result], everything: bool = False, target: float | None = None) -> tuple[list[Row], str]:
    """One row for each group of `rows.choose` over the training runs, and what was set aside in a sentence.

    All raw, in SI units, shares 0 to 1; what is absent has no entry. Quantities are means over the seeds that are ok,
    of each seed the newest run; the top-1 has Student's t over them, from two seeds on. ``macs`` are of one image at
    the px in training. ``time_to_target``, ``updates_to_target`` and ``images_to_target`` are
    geometric means over all runs with Student's t on their logarithms, and absent unless each run held ``target`` to
    its end; ``reached_target`` counts those that did. ``bn_model`` is the net with batch normalization whose final
    top-1 is the target of ``time_to_bn``.
    """
    chosen = choose(of_kind(results, Accuracy), everything)
    groups = [of_each_seed(group) for group in chosen.groups]
    repeated = sum(map(len, chosen.groups)) - sum(map(len, groups))
    aside = chosen._replace(aside=chosen.aside | {"of a seed whose other run is shown": repeated})
    names = machine_names(group[-1].machine for group in groups)
    found = [_row(group) | {"machine": names[group[-1].machine]} for group in groups]
    partners = _partners(found)
    for row, group in zip(found, groups, strict=True):
        if target is not None:
            row |= {"target": target} | _reached(group, target, "target")
        if (partner := _partner(row, partners.get(_place(row), ()))) is not None:
            row |= {"bn_model": partner["model"]} | _reached(group, partner["top1"], "bn")
    return found, aside.said("training runs")


def front(rows: Iterable[Row], cost: str) -> list[Row]:
    """The rows of the Pareto front of top-1 against ``cost``, a key, the cheapest first; rows without both have none.

    A row is on it where no other is as good for less, or better for as much.
    """
    found: list[Row] = []
    for row in sorted((r for r in rows if "top1" in r and cost in r), key=lambda r: (r[cost], -r["top1"])):
        last = found[-1] if found else None
        if last is None or row["top1"] > last["top1"] or all(row[k] == last[k] for k in ("top1", cost)):
            found.append(row)
    return found


def on_front(rows: Sequence[Row], cost: str) -> list[Row]:
    """The rows by ``cost``, a name of `COSTS`, each with ``front``: whether it is on that of its machine, data set, px
    and weights. A row that lacks the cost or a top-1 has none and stands last."""
    key = COSTS[cost][0]
    names = ("machine", "dataset", "px", "test_px", "weights")
    places = grouped(rows, lambda row: tuple(row.get(name) for name in names)).values()
    best = {id(row) for place in places for row in front(place, key)}
    ordered = sorted(rows, key=lambda row: (not {key, "top1"} <= row.keys(), row.get(key, 0.0)))
    return [row | ({"front": id(row) in best} if {key, "top1"} <= row.keys() else {}) for row in ordered]


def epochs(results: Sequence[Result]) -> list[Row]:
    """One row per epoch, from 1: the mean over the runs that have a finite value there, ``runs`` of which finished it.

    ``gap`` is as in `rows`, ``throughput`` images per second of training time, ``data_share`` of that time.
    """
    found: list[Row] = []
    length = max((len(r.values) for result in results for r in result.readings if r.scope == "epoch"), default=0)
    for place in range(length):
        each = [_epoch(result, place) for result in results]
        keys = dict.fromkeys(key for row in each for key in row)
        means = {key: statistics.fmean(row[key] for row in each if key in row) for key in keys}
        found.append({"epoch": place + 1, "runs": sum("train_time" in row for row in each)} | means)
    return found


def _epoch(result: Result, place: int) -> Row:
    readings = {r.name: r.values for r in result.readings if r.scope == "epoch" and r.name in EPOCH}
    found: Row = {
        name: values[place] for name, values in readings.items() if place < len(values) and values[place] is not None
    }
    time, images = found.get("train_time"), training_metrics.epoch_images(result)
    if time and images:
        found["throughput"] = images / time
    if time and "data_time" in found:
        found["data_share"] = found["data_time"] / time
    if "batch_top1" in found and "top1" in found:
        found["gap"] = found["batch_top1"] - found["top1"]
    return found


def of_each_seed(group: Sequence[Result]) -> list[Result]:
    """The newest run of each seed, since the same seed again tells nothing of the spread; one that ended goes first."""
    ordered = sorted(group, key=lambda r: (r.status in ("ok", "diverged"), recency(r)))
    return [result for _, result in sorted({r.seed: r for r in ordered}.items())]


def _row(group: Sequence[Result]) -> Row:
    ok = [r for r in group if r.status == "ok"]
    shown = ok or list(group)
    result = shown[-1]
    run = result.run
    statuses = Counter(r.status for r in group)
    steps = [r.value("diverged_at") for r in group if r.status == "diverged"]
    found: Row = {
        "kind": "accuracy",
        **_settings(result),
        "family": family_of(run.model),
        "norm": result.notes.get("norm") or norm_of(run.model),
        "runs": len(group),
        "seeds": len(ok),
        "status": status_of(statuses),
        "diverged": len(steps) or None,
        "diverged_at": tuple(int(s) for s in steps if s is not None) or None,
        "device": result.machine.title,
        "software": software_name(result.software),
        "start": max(r.start for r in group),
        "study": result.study,
    }
    if top1 := [value for r in ok if (value := final_top1(r)) is not None]:
        estimate = stats.mean(top1)
        found |= {"top1": estimate.value, "top1_low": estimate.low, "top1_high": estimate.high}
    for metric in METRICS["accuracy"]:
        values = [] if metric.of is None else [value for r in shown if (value := metric.of(r)) is not None]
        # figures that no run has had overflow on the way
        if values and math.isfinite(mean := sum(values) / len(values)):
            found[metric.key] = mean
    few = findings.few_seeds(len(top1)) if run.epochs else None
    found["findings"] = [*findings.of_all(group), *([few] if few else [])]
    return {name: value for name, value in found.items() if value is not None}


def _settings(result: Result) -> Row:
    """What was asked, and over it what each `auto` became."""
    run = result.run
    found = {name: value for name, value in msgspec.structs.asdict(run).items() if value not in _UNSET}
    if run.sam == "none":
        found = {name: value for name, value in found.items() if name not in SAM}
    if result.resolved is None:
        return found
    became = msgspec.structs.asdict(result.resolved)
    none = {"agc": became["agc"]}
    if result.resolved.training is not None:
        training = msgspec.structs.asdict(result.resolved.training)
        became |= training
        none["ema"] = training["ema"]
    became |= {name: "none" for name, value in none.items() if value is None}
    if run.epochs == 0:
        # what nothing was trained with
        found, became = ({name: v for name, v in d.items() if name in _EVALUATED} for d in (found, became))
    return found | {name: v for name, v in became.items() if v is not None and name not in _NOT_SHOWN}


_EVALUATED = (
    *("model", "dataset", "epochs", "batch", "px", "test_px", "precision", "layout", "weights", "norm"),
    *("classes", "test_images", "interpolation", "crop_pct", "crop_mode", "threads"),
)


def norm_of(model: str) -> str | None:
    """The normalization of a net of the catalogue; None for any other."""
    net = lookup(model)
    return None if net is None else net.norm


def _reached(group: Sequence[Result], target: float, name: str) -> Row:
    reached: Row = {}
    for key, of in (("time", time_to), ("updates", updates_to), ("images", images_to)):
        values = [value for r in group if (value := of(r, target)) is not None]
        if key == "time":
            reached[f"reached_{name}"] = len(values)
        if values and len(values) == len(group) and math.isfinite(sum(values)):
            estimate = stats.mean_of_logs(values)
            reached[f"{key}_to_{name}"] = estimate.value
            # seeds that need as many epochs each tell nothing of the spread: an epoch is as fine as it is counted
            if estimate.low is not None and estimate.low != estimate.high:
                reached |= {f"{key}_to_{name}_low": estimate.low, f"{key}_to_{name}_high": estimate.high}
    return reached


def _partners(rows: Iterable[Row]) -> dict[tuple[object, ...], list[Row]]:
    """The rows with batch normalization that may be a partner, by their place: of equals in what decides between them
    the first."""
    found: dict[tuple[object, ...], dict[tuple[object, ...], Row]] = {}
    for row in rows:
        if row.get("norm") == "batch" and "top1" in row:
            found.setdefault(_place(row), {}).setdefault((row["model"], row.get("macs"), *_common(row)), row)
    return {place: list(those.values()) for place, those in found.items()}


def _partner(row: Row, there: Iterable[Row]) -> Row | None:
    """The row with batch normalization to compare a normalizer-free one with: its own partner's, else the nearest
    by the ratio of MACs; of several the one with the most settings in common. ``there`` are the `_partners` there."""
    if row.get("norm") != "none" or not row["epochs"]:
        return None
    own = batch_normalized(row["model"])
    named = [r for r in there if own is not None and r["model"] == own.name]
    near = named or [r for r in there if r.get("macs", 0) > 0 < row.get("macs", 0)]

    def distance(other: Row) -> tuple[float, int]:
        ratio = 0.0 if named else abs(math.log(other["macs"] / row["macs"]))
        return ratio, sum(a != b for a, b in zip_longest(_common(other), _common(row)))

    return min(near, key=distance, default=None)


def _place(row: Row) -> tuple[object, ...]:
    return tuple(row.get(key) for key in _PLACE)


def _common(row: Row) -> list[object]:
    return [row.get(key) for key in ("batch", "px", "precision", "augment", "software")]
