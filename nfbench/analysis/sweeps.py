"""Rows of a sweep, one row per cell.

All is in SI units, shares are 0 to 1, and what is absent has no entry. What failed or diverged is a row like any other.
A net is named by its model, with the settings in which its rows differ beside the one that is swept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.catalog.models import FAMILIES
from nfbench.records import Accuracy, StepTime
from nfbench.settings import defaults, in_words, named_up_to, settings_of

_NET = ("machine", "net", "model", "family", "norm", "px", "precision", "layout", "compile", "optimizer", "agc")
_RUN = ("dataset", "epochs", "lr", "trained_status", "runs", "seeds", "diverged", "diverged_at")
_TOP1 = ("top1", "top1_low", "top1_high")
BATCHES = (
    *_NET,
    *("batch", "micro_batch", "accumulation_steps", "status", "noisy", "rounds", "composed"),
    *("step_time", "step_time_low", "step_time_high", "throughput", "throughput_low", "throughput_high"),
    *("peak_memory", "peak_memory_of", "memory_image", "image_energy"),
    *_RUN,
    *_TOP1,
)
"""The columns of `batch_sweep`."""
CLIPS = (
    *("machine", "dataset", "net", "model", "family", "norm", "px", "epochs", "recipe", "batch", "agc", "lr", "tune"),
    *("status", "runs", "seeds", "diverged", "diverged_at", *_TOP1, "best_top1", "clipped_units"),
)
"""The columns of `agc_sweep`."""


def batch_sweep(steps: Iterable[Row], trained: Iterable[Row] = ()) -> list[Row]:
    """One row per net, batch and machine, from `rows.rows` and `accuracy.rows`.

    A training run stands in the row of the step of its machine, model and batch where there is one such run and one
    such step and they agree in px, norm, λ and precision, else in one of its own. ``net`` is the model with the
    settings in which its rows differ. ``peak_memory`` is what the allocator gave out, or on a CPU what the process
    held (``peak_memory_of``), ``memory_image`` that over the images of a pass. ``diverged_at`` is the first such
    update.
    """
    steps, trained = list(steps), list(trained)
    pairs = _pairs(steps, trained)
    found = [step(row) | (_run(trained[pairs[i]]) if i in pairs else {}) for i, row in enumerate(steps)]
    paired = set(pairs.values())
    alone = [row for i, row in enumerate(trained) if i not in paired]
    found += [_shared(row) | _run(row) for row in alone]
    named = names([*steps, *alone])
    rows = [row | {"net": name} for row, name in zip(found, named, strict=True)]
    return _held(sorted(rows, key=_order("machine", "net", "batch")), BATCHES)


def agc_sweep(trained: Iterable[Row]) -> list[Row]:
    """One row per net, data set, batch, λ (``agc``) and machine, from `accuracy.rows`; ``net`` as in `batch_sweep`."""
    trained = list(trained)
    named = names(trained, swept=("batch", "agc"))
    rows = [row | _run(row) | {"net": name, "status": row["status"]} for row, name in zip(trained, named, strict=True)]
    return _held(sorted(rows, key=_order("machine", "dataset", "net", "agc", "batch")), CLIPS)


def top1(row: Row) -> str:
    """'98.4 ± 0.3 %' over seeds, '98.42 %' of one; what diverged or failed of the seeds is said before it."""
    value, low, high = (row.get(key) for key in _TOP1)
    status = str(row.get("trained_status", row.get("status", "")))
    runs, diverged = row.get("runs", 0), row.get("diverged", 0)
    if value is None:
        if diverged and diverged == runs:
            return f"diverged at {row['diverged_at']}" if "diverged_at" in row else "diverged"
        return _worded(status) if status and status != "ok" else units.ABSENT
    text = units.share(value, low, high)
    if diverged:
        text = f"{diverged} of {runs} diverged; {text}"
    others = runs - diverged - row.get("seeds", runs - diverged)
    return f"{others} of {runs} failed; {text}" if others > 0 else text


def _timed(key: str, show: Callable[[Any], str]) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        status = row.get("status", "ok")
        if key not in row:
            return units.ABSENT if status == "ok" else _worded(status)
        text = show(row[key]) if status == "ok" else f"{show(row[key])} ({_worded(status)})"
        return f"{text} (noisy)" if "noisy" in row else text

    return cell


def _passes(row: Row) -> str:
    if "accumulation_steps" not in row:
        return units.ABSENT
    return f"{row['accumulation_steps']} × {row['micro_batch']}"


CELLS: Mapping[str, Callable[[Row], str]] = {
    "throughput": _timed("throughput", units.number),
    "step_time": _timed("step_time", units.seconds),
    "passes": _passes,
    "peak_memory": _timed("peak_memory", units.bytes_),
    "memory_image": _timed("memory_image", units.bytes_),
    "image_energy": _timed("image_energy", lambda value: units.si(value, "J")),
    "top1": top1,
}
"""The quantities that wide tables show, and how a row's reads."""


def _worded(status: str) -> str:
    return status.replace("_", " ")


def step(row: Row) -> Row:
    """A row of `rows.rows` with its images per second and its peak memory as `batch_sweep` has them."""
    found = dict(row)
    if (time := row.get("step_time")) is not None:
        found["throughput"] = row["batch"] / time
        for end, other in (("low", "high"), ("high", "low")):
            if row.get(f"step_time_{other}"):
                found[f"throughput_{end}"] = row["batch"] / row[f"step_time_{other}"]
    else:
        found.pop("throughput", None)
    for key, of in (("peak_allocated", "allocated"), ("peak_rss", "process")):
        if "peak_memory" not in found and row.get(key):
            found |= {"peak_memory": row[key], "peak_memory_of": of}
    if "peak_memory" in found and row.get("micro_batch"):
        found["memory_image"] = found["peak_memory"] / row["micro_batch"]
    return found


def _run(row: Row) -> Row:
    found = {key: row[key] for key in ("dataset", "epochs", "lr", "runs", "seeds", "diverged", *_TOP1) if key in row}
    found["trained_status"] = row["status"]
    if row.get("diverged_at"):
        found["diverged_at"] = min(row["diverged_at"])
    return found


def _shared(row: Row) -> Row:
    return {key: row[key] for key in (*_NET, "batch") if key in row}


def _pairs(steps: Sequence[Row], trained: Sequence[Row]) -> dict[int, int]:
    """The places of steps and of the runs that are of the same net, one of each."""
    there: dict[tuple[object, ...], list[tuple[int, Row]]] = {}
    for i, step in enumerate(steps):
        there.setdefault(_place(step), []).append((i, settings(step)))
    found: dict[int, list[int]] = {}
    for j, run in enumerate(trained):
        own = {key: value for key, value in settings(run).items() if key in SHARED}
        same = [i for i, step in there.get(_place(run), ()) if agree(own, step)]
        if len(same) == 1:
            found.setdefault(same[0], []).append(j)
    return {i: runs[0] for i, runs in found.items() if len(runs) == 1}


def _place(row: Row) -> tuple[object, ...]:
    return tuple(row.get(key) for key in ("machine", "model", "batch"))


def _held(rows: Sequence[Row], columns: Sequence[str]) -> list[Row]:
    """The rows with those of ``columns`` that they hold a value in."""
    # NaN is not equal to itself
    return [{key: v for key in columns if (v := row.get(key)) is not None and v == v} for row in rows]


def _order(*keys: str) -> Callable[[Row], tuple[Any, ...]]:
    def order(row: Row) -> tuple[Any, ...]:
        family = row.get("family")
        place = FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)
        parts = ((place, row["model"], row["net"]) if key == "net" else places(key)(row.get(key)) for key in keys)
        return tuple(parts)

    return order


def places(key: str) -> Callable[[Any], Any]:
    """How values of ``key`` are sorted: numbers, then words; what has no order of its own stays as it is."""
    if key not in ("agc", "batch", "machine", "dataset"):
        return lambda value: 0
    return lambda value: (
        (0, value, "") if isinstance(value, (int, float)) else (2, 0, "") if value is None else (1, 0, str(value))
    )


NAMED = named_up_to(0)
"""Settings in the order in which a name tells them."""
SHARED = ("px", "norm", "precision", "agc", "sam")
"""Settings that mean the same of a timed step and of a training run."""
TRAINED = tuple(s.name for s in settings_of(Accuracy) if s.name in NAMED and s.name not in defaults(StepTime))
_NONE = {s.name: defaults(StepTime)[s.name] for s in settings_of(StepTime) if s.part_of == s.name}


def settings(row: Row) -> Row:
    """What tells one net from another: as asked where what `auto` became depends on the batch. Unknown ones have no
    entry, such as of a step that failed before they were settled."""
    found = {key: row[key] for key in NAMED if row.get(key) is not None}
    if row.get("asked_layout") == "best":
        found["layout"] = "best"
    if row.get("kind") == "step-time":
        found = {key: value for key, value in found.items() if key not in TRAINED}
    return _NONE | found


def agree(one: Row, other: Row) -> bool:
    """Whether no setting that both know differs."""
    return all(other.get(key, value) == value for key, value in one.items())


def names(rows: Sequence[Row], swept: Sequence[str] = ("batch",)) -> list[str]:
    """The name of each row: equal where the rows are one net at other values of what is ``swept``.

    A row whose settings are not all known has the name of the one net that it can be, where there is only one.
    """
    found: list[str] = [""] * len(rows)
    for model, places in units.grouped(range(len(rows)), lambda place: str(rows[place]["model"])).items():
        known = {place: settings(rows[place]) for place in places}
        kinds = {place: rows[place].get("kind") for place in places}
        differ = [key for key in NAMED if key not in swept and _differs([(kinds[p], known[p]) for p in places], key)]
        whole = {place: {k: known[place][k] for k in differ if k in known[place]} for place in places}
        nets: dict[str, Row] = {}
        for place in places:
            found[place] = ", ".join([model, *in_words(whole[place])])
            nets[found[place]] = whole[place]
        may: dict[tuple[object, ...], list[str]] = {}
        taken = {(found[p], *(rows[p].get(key) for key in swept)) for p in places}
        for place in places:
            # training has settings that a timed step has not
            missing = [k for k in differ if k not in whole[place] and _should_know(rows[place], k)]
            if not missing:
                continue
            own = whole[place]
            if (settled := tuple(own.items())) not in may:
                may[settled] = [n for n, net in nets.items() if len(net) > len(own) and agree(own, net)]
            there = tuple(rows[place].get(key) for key in swept)
            # more than one is as good as many
            free = list(islice((n for n in may[settled] if (n, *there) not in taken), 2))
            if len(free) == 1:
                found[place] = free[0]
                taken.add((free[0], *there))
    return found


def _differs(known: Iterable[tuple[object, Row]], key: str) -> bool:
    """Whether rows, each as its kind and its settings, differ in a setting; one that is not shared within a kind."""
    kinds: dict[object, set[object]] = {}
    for kind, row in known:
        if (value := row.get(key)) is not None:
            kinds.setdefault("any" if key in SHARED else kind, set()).add(value)
    return any(len(values) > 1 for values in kinds.values())


def _should_know(row: Row, key: str) -> bool:
    if key in TRAINED:
        return row.get("kind") == "accuracy"
    return key != "agc_impl" or row.get("agc") is None
