"""What figures are drawn from, and rows with what only some kinds want to know of them. Imports no matplotlib."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nfbench.analysis import metrics, sweeps, training_runs
from nfbench.analysis import rows as steps_as_rows
from nfbench.analysis.rows import Row, choose, machine_names, software_name
from nfbench.analysis.sweeps import step
from nfbench.analysis.training_runs import norm_of
from nfbench.catalog import published
from nfbench.catalog.models import find, lookup, normalizer_free
from nfbench.errors import UnknownModel
from nfbench.records import PHASES, Accuracy, Result, StepTime, key, of_kind, recency
from nfbench.settings import settings_of
from nfbench.showing.figures.style import drawable, plain, subject
from nfbench.showing.shown_rows import Shown
from nfbench.units import grouped

LARGEST = 2.0**62
"""A batch that no axis can hold."""
_LAYOUT = ("layout", "precision", "compile", "micro_batch", "agc_impl", "broadcast_buffers")
BESIDE_LAYOUT = (*(s.name for s in settings_of(StepTime) if s.name not in _LAYOUT), "software")
"""Settings in which rows must be equal to be compared by layout, precision and compile mode."""
WAY = ("layout", "precision", "compile")
COSTS = ("macs", "params", "image_time", "image_energy")
"""What a training run costs, in several ways."""
_JOINED = ("machine", "model", "precision", "batch")
_TRAINED = ("px", "agc")
_TIMES = ("step_time", "step_time_low", "step_time_high")


def steps_of(seen: Shown) -> list[Result]:
    """The timed steps among the results."""
    return of_kind(seen.results, StepTime)


# what is read


def in_turns(seen: Shown) -> list[Row]:
    """The ratios as rows, each with its ``ratio`` and the model of its net."""
    return [{**row, "ratio": ratio} for row, ratio in zip(seen.ratios, seen.measured, strict=True)]


def timed(seen: Shown) -> list[Row]:
    """Every timed ``result`` by itself, with its ``seconds`` and its ``number`` among those of its net that can be
    drawn: the newest of each group of replicates first, what failed last."""
    groups = choose(steps_of(seen), seen.everything).groups
    names = machine_names(group[-1].machine for group in groups)
    placed = []
    for group in groups:
        newest = sorted(group, key=lambda r: (r.status == "ok", recency(r)), reverse=True)
        placed += list(enumerate(newest))
    placed.sort(key=lambda one: recency(one[1]), reverse=True)
    placed.sort(key=lambda one: (one[0], one[1].status != "ok"))
    numbers = Counter[object]()
    rows = []
    for _, result in placed:
        row = _single(result, names[result.machine])
        seconds, net = metrics.seconds(result), (row["machine"], row["model"])
        numbers[net] += drawable(seconds)
        rows.append(row | {"batch": result.step.batch, "seconds": seconds, "number": numbers[net]})
    return rows


def of_seeds(seen: Shown) -> list[Row]:
    """Every training run by itself: ``of`` which net it is, whether it is the one that is ``shown`` of its seed, the
    ``row`` of them all, and the epoch that it ``diverged_in``, where that is known (0: at its beginning)."""
    runs = of_kind(seen.results, Accuracy)
    groups = choose(runs, seen.everything).groups
    rows = []
    for place, (row, group) in enumerate(zip(training_runs.rows(runs, seen.everything)[0], groups, strict=True)):
        shown = {id(r) for r in training_runs.of_each_seed(group)}
        for result in group:
            common = {name: row[name] for name in ("batch", "agc", "dataset") if name in row}
            more = {"of": place, "row": row, "shown": id(result) in shown, "diverged_in": _diverged_in(result)}
            epochs = {"epochs": result.run.epochs, "seed": result.seed}
            rows.append(_single(result, row["machine"]) | common | epochs | more)
    return rows


def of_softwares(seen: Shown) -> list[Row]:
    """The rows of steps by whatever software, with the ``workload``, what each `auto` ``became``, the software as
    ``recorded``, and ``of`` which workload and machine they are."""
    steps = steps_of(seen)
    groups = choose(steps, everything=True).groups
    return [
        row
        | {"workload": group[0].step, "became": group[0].resolved, "recorded": group[0].software}
        | {"of": (group[0].machine, key(group[0].workload)), "start": min(r.start for r in group)}
        for row, group in zip(steps_as_rows.rows(steps, everything=True, brief=True)[0], groups, strict=True)
    ]


def _single(result: Result, machine: str) -> Row:
    model = result.workload.model
    same = {"model": model, "family": steps_as_rows.family_of(model), "machine": machine, "result": result}
    return same | {"software": software_name(result.software), "status": result.status}


def _diverged_in(result: Result) -> float | None:
    at, resolved = result.value("diverged_at"), result.resolved
    if result.status != "diverged" or at is None or resolved is None or resolved.training is None:
        return None
    # training takes whole batches only
    updates = resolved.training.train_images // result.run.batch if result.run.batch > 0 else 0
    epoch = at / updates if updates > 0 else -1.0
    return epoch if 0 <= epoch <= result.run.epochs else None


def searches(seen: Shown) -> list[Row]:
    """Of each net that was tuned the run of one seed, with its ``training`` and the ``clipping`` that was chosen."""
    tuned: dict[int, Row] = {}
    for row in of_seeds(seen):
        resolved = row["result"].resolved
        if resolved is not None and resolved.training is not None and resolved.training.search:
            tuned.setdefault(row["of"], row | {"training": resolved.training, "clipping": resolved.agc})
    return list(tuned.values())


READERS: Mapping[str, Callable[[Shown], list[Row]]] = {
    "steps": lambda seen: list(seen.steps),
    "trained": lambda seen: list(seen.trained),
    "ratios": in_turns,
    "timed": timed,
    "seeds": of_seeds,
    "softwares": of_softwares,
    "searches": searches,
}


# what is added


def named(rows: Sequence[Row], swept: Sequence[str]) -> list[Row]:
    """The rows, each with its ``net``: the model with the settings in which its rows differ beside what is ``swept``.

    Where a model has rows that only the software tells apart, as with --all, its nets bear the software, since no line
    leads from one to another.
    """
    settled = ("model", "machine", "dataset", "batch")
    same = grouped(rows, lambda row: (*(row.get(k) for k in settled), tuple(sweeps.settings(row).items())))
    several = {place[0] for place, alike in same.items() if len({row.get("software") for row in alike}) > 1}
    parts = grouped(rows, lambda row: row.get("software") if row["model"] in several else None)
    with_names: list[Row] = []
    for software, part in parts.items():
        suffix = f", {plain(str(software), 44)}" if software is not None else ""
        with_names += [row | {"net": name + suffix} for row, name in zip(part, sweeps.names(part, swept), strict=True)]
    return with_names


def swept(seen: Shown, rows: Sequence[Row]) -> list[Row]:
    """Rows of steps over batches, with images per second and peak memory."""
    return named([step(row) for row in rows], ("batch",))


def over_clips(seen: Shown, rows: Sequence[Row]) -> list[Row]:
    """Rows of training runs over λs and batches, each with its net."""
    return named(rows, ("batch", "agc"))


def ranked(seen: Shown, rows: Sequence[Row]) -> list[Row]:
    """Rows of training runs over batches, with the ``worth`` of their line, the least for those that go first.

    Of each net that is the λ of the most batches, of several the best; then NF nets without a clip, which is what the
    figure asks about; then other λs.
    """
    worths: dict[object, tuple[float, ...]] = {}
    place = ("machine", "dataset", "epochs")
    by_line = grouped(named(rows, ("batch",)), lambda row: (*(row.get(k) for k in place), row["net"]))
    for alike in grouped(by_line, lambda line: (*line[:-1], _without_clip(line[-1]))).values():
        ordered = sorted(alike, key=lambda line: (unclipped(by_line[line][0]), *_worth(by_line[line])))
        for rank, line in enumerate(ordered):
            last = 1 if unclipped(by_line[line][0]) else 2
            worths[line] = (last if rank else 0, *_worth(by_line[line]))
    return [row | {"worth": worths[line]} for line, alike in by_line.items() for row in alike]


def _without_clip(net: str) -> str:
    return ", ".join(part for part in net.split(", ") if not part.startswith("λ "))


def unclipped(row: Row) -> bool:
    """Whether a row is of a net without normalization that was trained without a clip."""
    return row.get("agc") == "none" and row.get("norm") == "none"


def _worth(rows: Sequence[Row]) -> tuple[float, ...]:
    tops = [row["top1"] for row in rows if "top1" in row]
    return -len({row["batch"] for row in rows}), -len(tops), -statistics.fmean(tops) if tops else 0.0


def joined(seen: Shown, runs: Sequence[Row]) -> list[Row]:
    """Give each run the step time of the quickest step of the same net on one device of the same machine, at the same
    precision and batch, where there is one. What was trained takes only a step at its px and with its clip.

    Nets that were timed on a GPU, and that no run evaluated on ImageNet, come after them with ``top1_by_others``.
    """
    steps = grouped(
        (
            row
            for row in (seen.steps if seen.partners is None else seen.partners)
            if drawable(row.get("step_time")) and row.get("world_size", 1) == 1
        ),
        lambda row: tuple(row.get(k) for k in _JOINED),
    )
    gpus = {r.machine.name for r in seen.results if r.machine.device == "cuda"}
    with_times = []
    for run in runs:
        same = steps.get(tuple(run.get(k) for k in _JOINED), ())
        same = [row for row in same if not run.get("epochs") or all(row.get(k) == run.get(k) for k in _TRAINED)]
        times = _quickest(same) if same else {}
        with_times.append(run | times | {"gpu": run.get("device") in gpus})
    evaluated = {run["model"] for run in runs if run.get("dataset") == "imagenet" and top1(run) is not None}
    timed = [same[0] | _quickest(same) for same in steps.values() if same[0].get("device") in gpus]
    of_others = {"kind": "accuracy", "dataset": "imagenet", "weights": "published", "epochs": 0, "gpu": True}
    for row in timed:
        net = None if row["model"] in evaluated else lookup(row["model"])
        if net is not None and (reported := published.top1(net)) is not None:
            kept = {name: value for name, value in row.items() if name in (*_JOINED, *_TIMES, "family", "status")}
            with_times.append(kept | of_others | {"top1_by_others": reported.top1 / 100})
    return with_times


def _quickest(steps: Sequence[Row]) -> Row:
    quickest = min(steps, key=lambda row: float(row["step_time"]))
    return {name: quickest[name] for name in _TIMES if name in quickest}


def with_ranks(seen: Shown, rows: Sequence[Row]) -> list[Row]:
    """The rows with ``ranks`` where several devices shared the step: by rank the medians of its step, of the step that
    it takes by itself, and of its phases."""
    shared = [r for r in steps_of(seen) if r.step.world_size > 1]
    groups = [(steps_as_rows.row(group, brief=True), group) for group in choose(shared, seen.everything).groups]
    ranked = []
    for row in rows:
        # of machines that share a name, only a row among others says which it is of
        alike = (g for b, g in groups if all(row.get(k) == v for k, v in b.items() if k not in ("machine", "noisy")))
        ranks = _ranks(next(alike, [])) if row.get("world_size", 1) > 1 else {}
        ranked.append(row | {"ranks": ranks} if len(ranks) > 1 else row)
    return ranked


def _ranks(results: Sequence[Result]) -> dict[int, dict[str, float]]:
    values: dict[int, dict[str, list[float]]] = {}
    for reading in (reading for r in results if metrics.seconds(r) is not None for reading in r.readings):
        if reading.name in ("step_time", "unsynchronized_step", *PHASES) and reading.scope == "step":
            sound = [v for v in reading.finite if drawable(v)]
            values.setdefault(reading.rank, {}).setdefault(reading.name, []).extend(sound)
    medians = {rank: {n: statistics.median(v) for n, v in each.items() if v} for rank, each in sorted(values.items())}
    return {rank: each for rank, each in medians.items() if "step_time" in each}


def with_image_time(seen: Shown, runs: Sequence[Row]) -> list[Row]:
    """The training runs with the seconds of training on an image."""
    timed = [(run, run.get("train_step_time")) for run in runs]
    return [run | ({"image_time": time / run["batch"]} if time and run["batch"] > 0 else {}) for run, time in timed]


def costed(seen: Shown, rows: Sequence[Row]) -> list[Row]:
    """Rows of steps with what they cost, and what they are compared by: the normalizer-free net as their ``base``,
    their norm also where only the catalogue tells it (``normed``), their ``way``, and what is ``beside`` it."""
    return [
        row
        | {"base": _base(row["model"]), "normed": str(row.get("norm") or norm_of(row["model"]) or "unknown")}
        | {"way": tuple(map(row.get, WAY)), "beside": tuple(map(row.get, BESIDE_LAYOUT))}
        | {"timed": drawable(row.get("step_time"))}
        for row in map(step, rows)
    ]


def _base(model: str) -> str:
    nf = normalizer_free(model)
    if nf is not None:
        return nf.name
    try:
        return find(model).name
    except UnknownModel:
        return model


# what is in a row


def top1(row: Row) -> float | None:
    """The top-1 of training runs in per cent, where it is one."""
    value = row.get("top1")
    return 100 * value if value is not None and 0 <= value <= 1 else None


def top1_ends(row: Row) -> tuple[float, float] | None:
    """The ends of its interval in per cent, cut where no accuracy can be, whatever Student's t allows."""
    low, high = row.get("top1_low"), row.get("top1_high")
    return None if low is None or high is None else (100 * max(low, 0.0), 100 * min(high, 1.0))


def clip_place(clip: Any) -> float:
    """Where a λ stands among others: none behind all."""
    return math.inf if clip == "none" else float(clip)


def on_log_axis(cost: float | None) -> bool:
    """Whether a cost can stand on a logarithmic axis: its ticks overflow with what nothing has cost."""
    return cost is not None and 1e-15 < cost < 1e18


def by_epoch(row: Row, name: str) -> list[float]:
    """The values of a training run by epoch, NaN where there is none that an axis can hold."""
    reading = row["result"].reading(name)
    sound = drawable if name == "train_loss" else is_share
    return [v if v is not None and sound(v) else math.nan for v in (reading.values if reading else ())]


def is_share(value: float) -> bool:
    """Whether a value is from 0 to 1."""
    return 0 <= value <= 1


def lost(rows: Iterable[Row]) -> list[str]:
    """How many seeds of each row are in no mean, and why."""
    notes = []
    for row in rows:
        if "top1" in row and row["seeds"] < row["runs"]:
            first = min(row["diverged_at"], default=None) if "diverged_at" in row else None
            at = f", the first at update {first}" if first is not None else ""
            status = str(row["status"]).replace("_", " ")
            count = f"{row['runs'] - row['seeds']} of {row['runs']} seeds not in the mean ({status}{at})"
            notes.append(f"{subject(row)}: {count}")
    return notes


# why a row cannot be drawn: empty where it can be


def without(row: Row, what: str) -> str:
    """Why a row has no ``what``, in words: "out of memory, no step time"."""
    status = str(row.get("status")).replace("_", " ")
    return f"no {what}" if status == "ok" else f"{status}, no {what}"


def _needs(what: str, there: Callable[[Row], object]) -> Callable[[Row], str]:
    return lambda row: "" if there(row) else without(row, what)


def _first(*reasons: Callable[[Row], str]) -> Callable[[Row], str]:
    return lambda row: next(filter(None, (reason(row) for reason in reasons)), "")


def _no_batch(row: Row) -> str:
    if row["batch"] <= 0:
        return "no image in its batch"
    return "" if row["batch"] < LARGEST else "a batch that no axis can hold"


def _over_batches(key: str, what: str) -> Callable[[Row], str]:
    """Why a step is neither a point over batches nor a mark of what failed."""

    def there(row: Row) -> bool:
        if key not in row:
            return bool(row["status"] != "ok")
        timed = key == "peak_memory" or drawable(row.get("step_time"))
        return timed and 1e-12 < row[key] < 1e18

    return _first(_no_batch, _needs(what, there))


def no_ratio(row: Row) -> str:
    """Why a ratio has no place on an axis."""
    return "" if drawable(row["speedup"]) else "a ratio that no axis can hold"


def no_bar(row: Row) -> str:
    """Why a step has no bar of phases."""
    timed = any(drawable(row.get(key)) for key in (*PHASES, "image_energy")) or row.get("ranks")
    return no_step_time(row) or ("" if timed else "no time of a phase, as under a CUDA graph, and no energy")


no_seconds = _needs("step time", lambda row: drawable(row["seconds"]))
no_step_time = _needs("step time", lambda row: drawable(row.get("step_time")))
no_time_of_an_image = _first(no_step_time, _no_batch)
no_throughput_over_batches = _over_batches("throughput", "throughput")
no_step_time_over_batches = _over_batches("step_time", "step time")
no_peak_memory_over_batches = _over_batches("peak_memory", "peak memory")
no_top1_over_batches = _first(
    _no_batch, _needs("top-1", lambda row: top1(row) is not None or row.get("diverged") or row["status"] != "ok")
)
no_cost = _needs(
    "final top-1 that could be drawn",
    lambda row: top1(row) is not None and any(on_log_axis(row.get(key)) for key in COSTS),
)


def no_place_on_a_map(row: Row) -> str:
    """Why a training run has no place over λs and batches."""
    clip = row.get("agc")
    known = clip == "none" or (isinstance(clip, float | int) and 0 < clip < 1e9)
    return no_top1_over_batches(row) if known else "no known λ"


def no_join(row: Row) -> str:
    """Why a training run has no place over step times."""
    if top1(row) is None and "top1_by_others" not in row:
        return without(row, "top-1")
    timed = "step_time" in row
    return "" if timed else "no step of that net was timed on that machine at its precision, batch, px and λ"


def no_curve(row: Row) -> str:
    """Why a training run by itself has no curve."""
    if not row["shown"]:
        return "another run of that seed is shown"
    if row["epochs"] < 2:
        return "one epoch only, which is no curve" if row["epochs"] else "evaluated only"
    drawn = row["diverged_in"] is not None or any(is_share(v) for v in by_epoch(row, "top1"))
    return "" if drawn else without(row, "top-1 of an epoch")
