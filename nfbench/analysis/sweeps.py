"""Rows of a sweep as pandas tables: long, one row a cell, and wide, as text.

All is in SI units, shares are 0 to 1, and what is absent is NaN. What failed or diverged is a row like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nfbench import units
from nfbench.analysis import lines
from nfbench.analysis.rows import Row
from nfbench.catalog.models import FAMILIES

if TYPE_CHECKING:
    import pandas as pd

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
    *("machine", "dataset", "net", "model", "family", "norm", "px", "epochs", "recipe", "batch", "agc", "lr"),
    *("status", "runs", "seeds", "diverged", "diverged_at", *_TOP1, "best_top1", "clipped_units"),
)
"""The columns of `agc_sweep`."""
_WHOLE = frozenset(
    ("px", "batch", "micro_batch", "accumulation_steps", "rounds", "epochs", "runs", "seeds", "diverged", "diverged_at")
)


def batch_sweep(steps: Iterable[Row], trained: Iterable[Row] = ()) -> pd.DataFrame:
    """One row a net, batch and machine, from `rows.rows` and `accuracy.rows`.

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
    named = lines.names([*steps, *alone])
    rows = [row | {"net": name} for row, name in zip(found, named, strict=True)]
    return _frame(sorted(rows, key=_order("machine", "net", "batch")), BATCHES)


def agc_sweep(trained: Iterable[Row]) -> pd.DataFrame:
    """One row a net, data set, batch, λ (``agc``) and machine, from `accuracy.rows`; ``net`` as in `batch_sweep`."""
    trained = list(trained)
    named = lines.names(trained, swept=("batch", "agc"))
    rows = [row | _run(row) | {"net": name, "status": row["status"]} for row, name in zip(trained, named, strict=True)]
    return _frame(sorted(rows, key=_order("machine", "dataset", "net", "agc", "batch")), CLIPS)


def grid(frame: pd.DataFrame, value: str, index: str = "net", columns: str = "batch") -> pd.DataFrame:
    """A wide table of texts for people: ``index`` down, ``columns`` across, both in order, λ with ``none`` last.

    ``value`` is a key of `CELLS`. Where several rows share a cell, all stand in it.
    """
    import pandas as pd

    rows, cells = records(frame), dict[tuple[Any, Any], list[str]]()
    for row in rows:
        cells.setdefault((row.get(index), row.get(columns)), []).append(CELLS[value](row))
    down, across = (sorted(dict.fromkeys(row.get(key) for row in rows), key=_places(key)) for key in (index, columns))
    # what lacks this quantity in one row may have it in another
    texts = [
        [" / ".join([t for t in cells.get((i, c), ()) if t != units.ABSENT] or [units.ABSENT]) for c in across]
        for i in down
    ]
    return pd.DataFrame(
        texts, index=pd.Index(down, name=index, dtype=object), columns=pd.Index(across, name=columns, dtype=object)
    )


def records(frame: pd.DataFrame) -> list[Row]:
    """The rows of a frame as dictionaries in which what is absent has no entry."""
    return [
        {key: int(v) if key in _WHOLE else v for key, v in row.items() if not _absent(v)}
        for row in frame.to_dict("records")
    ]


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
"""The quantities that `grid` shows, and how a row's reads."""


def _worded(status: str) -> str:
    return status.replace("_", " ")


def _absent(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def step(row: Row) -> Row:
    """A row of `rows.rows` with its images a second and its peak memory as `batch_sweep` has them."""
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
        there.setdefault(_place(step), []).append((i, lines.settings(step)))
    found: dict[int, list[int]] = {}
    for j, run in enumerate(trained):
        own = {key: value for key, value in lines.settings(run).items() if key in lines.SHARED}
        same = [i for i, step in there.get(_place(run), ()) if lines.agree(own, step)]
        if len(same) == 1:
            found.setdefault(same[0], []).append(j)
    return {i: runs[0] for i, runs in found.items() if len(runs) == 1}


def _place(row: Row) -> tuple[object, ...]:
    return tuple(row.get(key) for key in ("machine", "model", "batch"))


def _frame(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    table = [[row.get(c) for c in columns] for row in rows]
    frame = pd.DataFrame(table, columns=list(columns), dtype=object)
    # a file may hold any number, and this type has a largest
    whole = {
        c: "Int64" for i, c in enumerate(columns) if c in _WHOLE and all(abs(row[i] or 0) < 2**63 for row in table)
    }
    shares = {c: "float64" for c in columns if c in _MEASURED}
    return frame.astype(whole | shares)


_MEASURED = frozenset(
    key
    for key in (*BATCHES, *CLIPS)
    if key.startswith(("step_time", "throughput", "top1", "best", "clipped", "memory", "image_energy", "lr"))
    or key == "peak_memory"
)


def _order(*keys: str) -> Callable[[Row], tuple[Any, ...]]:
    def order(row: Row) -> tuple[Any, ...]:
        family = row.get("family")
        place = FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)
        parts = ((place, row["model"], row["net"]) if key == "net" else _places(key)(row.get(key)) for key in keys)
        return tuple(parts)

    return order


def _places(key: str) -> Callable[[Any], Any]:
    """How values of ``key`` are sorted: numbers, then words; what has no order of its own stays as it is."""
    if key not in ("agc", "batch", "machine", "dataset"):
        return lambda value: 0
    return lambda value: (
        (0, value, "") if isinstance(value, (int, float)) else (2, 0, "") if value is None else (1, 0, str(value))
    )
