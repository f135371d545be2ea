"""Sweeps as tables: wide ones below a sentence that answers for a person, a long one of raw values for a program."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from nfbench import units
from nfbench.analysis import sweeps
from nfbench.analysis.rows import Row
from nfbench.analysis.stats import LEAST_ROUNDS
from nfbench.catalog.datasets import DATASETS
from nfbench.showing.tables import Column, Format, Laid, keyed, printable, render

if TYPE_CHECKING:
    import pandas as pd

_BATCHES = {
    "throughput": "images/s",
    "step_time": "step time",
    "passes": "passes of an update × images of a pass",
    "peak_memory": "peak memory",
    "memory_image": "peak memory over the images of a pass",
    "image_energy": "energy an image",
}
_LONGEST = 60
"""Characters of a name in a table for people."""


class Grid(NamedTuple):
    """A wide table of texts (`analysis.sweeps.grid`) of ``value``, and the raw values behind its cells."""

    title: str
    frame: pd.DataFrame
    raw: Sequence[Sequence[float | None]]
    value: str


def batch_grids(frame: pd.DataFrame) -> list[Grid]:
    """The wide tables of a `batch_sweep`: net down, batch across; one for each quantity, machine and data set."""
    found = []
    for where, part in _parts(frame, "machine"):
        timed = part[part["status"].notna()]
        rows = sweeps.records(timed)
        accumulates = any(row.get("accumulation_steps", 1) > 1 for row in rows)
        for value, title in _BATCHES.items():
            needed = accumulates if value == "passes" else any(value in row for row in rows)
            # failures alone are a result too
            if needed or (rows and value == "throughput"):
                found.append(_grid(f"{where}{_memory(title, rows)}, by batch", timed, value))
    for where, part in _parts(frame[frame["trained_status"].notna()], "machine", "dataset"):
        found.append(_grid(f"{where}top-1, by batch", part, "top1"))
    return found


def agc_grids(frame: pd.DataFrame) -> list[Grid]:
    """The wide tables of an `agc_sweep`: λ down, batch across, top-1 in the cells, one a net, data set and machine."""
    several = frame["machine"].nunique() > 1
    found = []
    for (machine, dataset, net), part in _groups(frame, "machine", "dataset", "net"):
        title = f"{_cut(net)} on {_cut(dataset, 40)}: top-1, λ by batch"
        title = f"{_cut(machine)}, {title}" if several else title
        found.append(_grid(title, part, "top1", "agc"))
    return found


def _grid(title: str, frame: pd.DataFrame, value: str, index: str = "net") -> Grid:
    values: dict[tuple[Any, Any], float] = {}
    for row in sweeps.records(frame):
        # of several that share a cell the first stands for all
        if isinstance(row.get(value), float | int):
            values.setdefault((row.get(index), row.get("batch")), row[value])
    texts = sweeps.grid(frame, value, index, "batch")
    return Grid(title, texts, [[values.get((i, c)) for c in texts.columns] for i in texts.index], value)


def batch_sweep(frame: pd.DataFrame, format: Format) -> str:
    """A `batch_sweep` as text."""
    if format in ("csv", "json"):
        return _raw(frame, format)
    return _text(batch_answer(frame), batch_grids(frame), format)


def agc_sweep(frame: pd.DataFrame, format: Format) -> str:
    """An `agc_sweep` as text."""
    if format in ("csv", "json"):
        return _raw(frame, format)
    return _text(agc_answer(frame), agc_grids(frame), format)


def batch_answer(frame: pd.DataFrame) -> str:
    """The largest batch that each net takes in one pass where a larger one was tried, what does not fit, and the
    quickest and most accurate net where their intervals are clear of the next; a line a machine. No noisy step is in
    it, and none is the quickest without an interval over rounds."""
    found = []
    for where, part in _parts(frame, "machine"):
        rows = sweeps.records(part)
        timed = [row for row in rows if "throughput" in row]
        whole = [row for row in timed if row.get("accumulation_steps") == 1]
        failed = [row for row in rows if "out_of_memory" in str(row.get("status"))]
        least = {row["net"]: row["batch"] for row in sorted(failed, key=lambda row: -row["batch"])}
        over: dict[str, int] = {}
        for row in [*failed, *(row for row in timed if row.get("accumulation_steps", 1) > 1)]:
            over[row["net"]] = max(row["batch"], over.get(row["net"], 0))
        largest = {row["net"]: row["batch"] for row in sorted(whole, key=lambda row: row["batch"])}
        # the largest that was listed is no limit
        largest = {net: batch for net, batch in largest.items() if over.get(net, 0) > batch}
        parts = []
        if largest:
            each = ", ".join(f"{_aside(net)} {largest[net]}" for net in _nets(rows) if net in largest)
            parts.append(f"largest batch of one pass: {each}")
        if least:
            each = ", ".join(f"{_aside(net)} at {least[net]}" for net in _nets(rows) if net in least)
            parts.append(f"out of memory: {each}")
        if quiet := [_over_rounds(row) for row in timed if "noisy" not in row]:
            best, word = _best(quiet, "throughput", "quickest", f"under {LEAST_ROUNDS} rounds")
            rate = units.number(best["throughput"])
            parts.append(f"{word}: {_cut(best['net'])}, {rate} images/s at batch {best['batch']}")
        for dataset in dict.fromkeys(row["dataset"] for row in rows if "top1" in row):
            there = [r for r in rows if r.get("dataset") == dataset and "top1" in r]
            best, word = _best(there, "top1", "most accurate", "one seed")
            if not _near_chance(best):
                named = f"{_cut(best['net'])}, {sweeps.top1(best)} at batch {best['batch']}"
                parts.append(f"{word} on {_cut(dataset, 40)}: {named}")
        if parts:
            found.append(_sentence(where, parts))
    return "\n".join(found)


def agc_answer(frame: pd.DataFrame) -> str:
    """How many runs diverge without the clip and with it, and the highest top-1, with λ and batch; a line a net."""
    found = []
    several = frame["machine"].nunique() > 1
    for (machine, dataset, net), part in _groups(frame, "machine", "dataset", "net"):
        rows = sweeps.records(part)
        without = [row for row in rows if row.get("agc") == "none"]
        clipped = [row for row in rows if isinstance(row.get("agc"), float | int)]
        parts = [
            f"{words} {sum(row.get('diverged', 0) for row in some)} of {sum(row['runs'] for row in some)} runs diverge"
            for words, some in (("without the clip", without), ("with it", clipped))
            if some
        ]
        done = [row for row in rows if "top1" in row]
        if done:
            best, word = _best(done, "top1", "best", "one seed", alike=("agc", "batch"))
            clip = "without the clip" if best.get("agc") == "none" else f"at λ {best.get('agc', units.ABSENT)}"
            if not _near_chance(best):
                parts.append(f"{word} {sweeps.top1(best)} {clip}, batch {best['batch']}")
        where = f"{_cut(machine)}, " if several else ""
        found.append(_sentence(f"{where}{_cut(net)} on {_cut(dataset, 40)}: ", parts))
    return "\n".join(found)


def _over_rounds(row: Row) -> Row:
    """The row without the interval of one run, which knows nothing of the spread between runs."""
    if row.get("rounds", 0) >= LEAST_ROUNDS:
        return row
    return {key: value for key, value in row.items() if key not in ("throughput_low", "throughput_high")}


def _best(rows: Sequence[Row], key: str, word: str, single: str, alike: tuple[str, ...] = ("net",)) -> tuple[Row, str]:
    """The row of the highest value and what it may be called: ``word`` where its interval is clear of those of all rows
    that are not ``alike``, of a single net of those at its other batches.
    """
    best = max(rows, key=lambda row: row[key])
    if len({row.get("net") for row in rows}) == 1:
        alike = tuple(dict.fromkeys((*alike, "batch")))
    others = [row for row in rows if any(row.get(k) != best.get(k) for k in alike)]
    if not others:
        return best, "highest"
    low = best.get(f"{key}_low")
    if low is None:
        return best, f"highest ({single})"
    # the spread of what has no interval is unknown
    ends = [row.get(f"{key}_high", float("inf")) for row in others]
    return best, word if low > max(ends) else "highest (not clear of the next)"


def _near_chance(row: Row) -> bool:
    known = DATASETS.get(row["dataset"])
    classes = (known.classes if known is not None else None) or 10
    return bool(row["top1"] < 1.5 / classes)


def _raw(frame: pd.DataFrame, format: Format) -> str:
    return render(keyed(frame.columns), sweeps.records(frame), format)


def _text(answer: str, grids: Sequence[Grid], format: Format) -> str:
    tables = [laid(grid, format).text(format) for grid in grids]
    return "\n".join([*([f"{_lines(answer)}\n"] if answer else []), *tables])


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def laid(grid: Grid, format: Format = "md") -> Laid:
    """A wide table. The places of its columns are their keys, since two nets may have one name once it is cut."""
    across, down = grid.frame.columns, grid.frame.index
    # a terminal has no room to say it in each
    batch = "batch " if format == "md" and across.name == "batch" else ""
    titles = ["λ" if down.name == "agc" else str(down.name), *(f"{batch}{_label(value)}" for value in across)]
    columns = [
        Column(str(place), title, right=place > 0, cell=itemgetter(f"text {place}"))
        for place, title in enumerate(titles)
    ]
    rows = []
    for name, texts, values in zip(down, grid.frame.to_numpy().tolist(), grid.raw, strict=True):
        row: Row = {f"text {place}": text for place, text in enumerate([_label(name), *texts])}
        rows.append(row | {str(place): value for place, value in enumerate([name, *values])})
    return Laid(columns, rows, grid.title)


def _label(value: object) -> str:
    return units.ABSENT if value is None else _cut(str(value))


def _cut(text: str, most: int = _LONGEST) -> str:
    """``text`` in one line, its middle left out where it is long."""
    text = text if len(text) <= most else f"{text[: most * 2 // 3]}…{text[len(text) - most // 3 + 1 :]}"
    return printable(text)


def _aside(net: str) -> str:
    """A net's name before a number: in brackets where it has settings, whose commas and numbers run into others."""
    return f"({_cut(net)})" if "," in net else _cut(net)


def _sentence(where: str, parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return f"{where}{text}." if where else f"{text[:1].upper()}{text[1:]}."


def _memory(title: str, rows: Sequence[Row]) -> str:
    """The title; of a memory with what it is of."""
    words = {"allocated": "allocated on the device", "process": "of the process"}
    of = dict.fromkeys(words[row["peak_memory_of"]] for row in rows if "peak_memory_of" in row)
    return f"{title}, {' or '.join(of)}" if "memory" in title else title


def _nets(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["net"] for row in rows))


def _groups(frame: pd.DataFrame, *keys: str) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    groups = frame.groupby(list(keys), sort=False, dropna=False)
    return [(tuple(str(value) for value in where), part) for where, part in groups]


def _parts(frame: pd.DataFrame, *keys: str) -> list[tuple[str, pd.DataFrame]]:
    """The frame by the values of ``keys``, and what tells each part apart as the beginning of a title."""
    telling = [i for i, key in enumerate(keys) if key == "dataset" or frame[key].nunique(dropna=False) > 1]
    return [("".join(f"{_cut(where[i])}: " for i in telling), part) for where, part in _groups(frame, *keys)]
