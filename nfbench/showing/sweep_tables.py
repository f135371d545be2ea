"""Sweeps as tables: wide ones below a sentence that answers for a person, a long one of raw values for a program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter

from nfbench import units
from nfbench.analysis import sweeps
from nfbench.analysis.query import grouped
from nfbench.analysis.rows import Row
from nfbench.analysis.stats import LEAST_ROUNDS
from nfbench.catalog.datasets import DATASETS
from nfbench.errors import printable_lines
from nfbench.showing.tables import Column, Format, Laid, raw

_BATCHES = {
    "throughput": "images/s",
    "step_time": "step time",
    "passes": "passes of an update × images of a pass",
    "peak_memory": "peak memory",
    "memory_image": "peak memory over the images of a pass",
    "image_energy": "energy per image",
}
_BATCH = "batch "
_LONGEST = 60
"""Characters of a name in a table for people."""


def batch_grids(rows: Sequence[Row]) -> list[Laid]:
    """The wide tables of a `batch_sweep`: net down, batch across; one for each quantity, machine and data set."""
    grids = []
    for where, part in _parts(rows, "machine"):
        timed = [row for row in part if "status" in row]
        accumulates = any(row.get("accumulation_steps", 1) > 1 for row in timed)
        for value, title in _BATCHES.items():
            needed = accumulates if value == "passes" else any(value in row for row in timed)
            # failures alone are a result too
            if needed or (timed and value == "throughput"):
                grids.append(_grid(f"{where}{_memory(title, timed)}, by batch", timed, value))
    for where, part in _parts([row for row in rows if "trained_status" in row], "machine", "dataset"):
        grids.append(_grid(f"{where}top-1, by batch", part, "top1"))
    return grids


def agc_grids(rows: Sequence[Row]) -> list[Laid]:
    """Wide tables of an `agc_sweep`: λ down, batch across, top-1 in the cells, one per net, data set and machine."""
    return [_grid(f"{where}: top-1, λ by batch", part, "top1", "agc") for where, part in _nets_and_data(rows)]


def _grid(title: str, rows: Sequence[Row], value: str, side: str = "net") -> Laid:
    """A wide table of a key of `sweeps.CELLS`, ``side`` down, λ with ``none`` last, and the batch across. Where several
    rows share a cell, all stand in it, and the first is its number.

    The places of columns are their keys, since two nets may have one name once it is cut.
    """
    cells = units.grouped(rows, lambda row: (row.get(side), row.get("batch")))
    down, across = (
        sorted(dict.fromkeys(row.get(key) for row in rows), key=sweeps.places(key)) for key in (side, "batch")
    )
    titles = ["λ" if side == "agc" else side, *(f"{_BATCH}{_label(batch)}" for batch in across)]
    columns = [Column(str(i), t, right=i > 0, cell=itemgetter(f"text {i}")) for i, t in enumerate(titles)]
    lines = []
    for name in down:
        line: Row = {"0": name, "text 0": _label(name)}
        for place, batch in enumerate(across, 1):
            alike = cells.get((name, batch), [])
            # what lacks this quantity in one row may have it in another
            texts = [text for text in map(sweeps.CELLS[value], alike) if text != units.ABSENT]
            numbers = [number for row in alike if isinstance(number := row.get(value), float | int)]
            line |= {f"text {place}": " / ".join(texts) or units.ABSENT, str(place): next(iter(numbers), None)}
        lines.append(line)
    return Laid(columns, lines, title)


def batch_sweep(rows: Sequence[Row], format: Format) -> str:
    """A `batch_sweep` as text."""
    if format in ("csv", "json"):
        return raw(sweeps.BATCHES, rows, format)
    return _text(batch_answer(rows), batch_grids(rows), format)


def agc_sweep(rows: Sequence[Row], format: Format) -> str:
    """An `agc_sweep` as text."""
    if format in ("csv", "json"):
        return raw(sweeps.CLIPS, rows, format)
    return _text(agc_answer(rows), agc_grids(rows), format)


def batch_answer(rows: Sequence[Row]) -> str:
    """The largest batch that each net takes in one pass where a larger one was tried, what does not fit, and the
    quickest and most accurate net where their intervals are clear of the next; a line per machine. No noisy step is in
    it, and none is the quickest without an interval over rounds."""
    found = []
    for where, part in _parts(rows, "machine"):
        timed = [row for row in part if "throughput" in row]
        whole = [row for row in timed if row.get("accumulation_steps") == 1]
        failed = [row for row in part if "out_of_memory" in str(row.get("status"))]
        least = {row["net"]: row["batch"] for row in sorted(failed, key=lambda row: -row["batch"])}
        over: dict[str, int] = {}
        for row in [*failed, *(row for row in timed if row.get("accumulation_steps", 1) > 1)]:
            over[row["net"]] = max(row["batch"], over.get(row["net"], 0))
        largest = {row["net"]: row["batch"] for row in sorted(whole, key=lambda row: row["batch"])}
        # the largest that was listed is no limit
        largest = {net: batch for net, batch in largest.items() if over.get(net, 0) > batch}
        parts = []
        if largest:
            each = ", ".join(f"{_aside(net)} {largest[net]}" for net in _nets(part) if net in largest)
            parts.append(f"largest batch of one pass: {each}")
        if least:
            each = ", ".join(f"{_aside(net)} at {least[net]}" for net in _nets(part) if net in least)
            parts.append(f"out of memory: {each}")
        if quiet := [_over_rounds(row) for row in timed if "noisy" not in row]:
            best, word = _best(quiet, "throughput", "quickest", f"under {LEAST_ROUNDS} rounds")
            rate = units.number(best["throughput"])
            parts.append(f"{word}: {_cut(best['net'])}, {rate} images/s at batch {best['batch']}")
        for dataset in dict.fromkeys(row["dataset"] for row in part if "top1" in row):
            there = [r for r in part if r.get("dataset") == dataset and "top1" in r]
            best, word = _best(there, "top1", "most accurate", "one seed")
            if not _near_chance(best):
                named = f"{_cut(best['net'])}, {sweeps.top1(best)} at batch {best['batch']}"
                parts.append(f"{word} on {_cut(dataset, 40)}: {named}")
        if parts:
            found.append(_sentence(where, parts))
    return "\n".join(found)


def agc_answer(rows: Sequence[Row]) -> str:
    """How many runs diverge without the clip and with it, and the highest top-1, with λ and batch; a line per net."""
    found = []
    for where, part in _nets_and_data(rows):
        without = [row for row in part if row.get("agc") == "none"]
        clipped = [row for row in part if isinstance(row.get("agc"), float | int)]
        parts = [
            f"{words} {sum(row.get('diverged', 0) for row in some)} of {sum(row['runs'] for row in some)} runs diverge"
            for words, some in (("without the clip", without), ("with it", clipped))
            if some
        ]
        done = [row for row in part if "top1" in row]
        if done:
            best, word = _best(done, "top1", "best", "one seed", alike=("agc", "batch"))
            clip = "without the clip" if best.get("agc") == "none" else f"at λ {best.get('agc', units.ABSENT)}"
            if not _near_chance(best):
                parts.append(f"{word} {sweeps.top1(best)} {clip}, batch {best['batch']}")
        found.append(_sentence(f"{where}: ", parts))
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


def _text(answer: str, grids: Sequence[Laid], format: Format) -> str:
    # a terminal has no room to say it in each
    said = "" if format == "md" else _BATCH
    shown = [g._replace(columns=[replace(c, title=c.title.removeprefix(said)) for c in g.columns]) for g in grids]
    above = [f"{printable_lines(answer)}\n"] if answer else []
    return "\n".join([*above, *(grid.text(format) for grid in shown)])


def _label(value: object) -> str:
    return units.ABSENT if value is None else _cut(str(value))


def _cut(text: str, most: int = _LONGEST) -> str:
    return units.shorten(text, most)


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


def _parts(rows: Iterable[Row], *keys: str) -> list[tuple[str, list[Row]]]:
    """The rows by the values of ``keys``, and what tells each part apart as the beginning of a title."""
    rows = list(rows)
    telling = [key for key in keys if key == "dataset" or len({row.get(key) for row in rows}) > 1]
    return [("".join(f"{_cut(str(part[0][key]))}: " for key in telling), part) for part in grouped(rows, keys)]


def _nets_and_data(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The rows of each net, data set and machine, and what they are of: the machine only where there are several."""
    several = len({row["machine"] for row in rows}) > 1
    parts = []
    for part in grouped(rows, ["machine", "dataset", "net"]):
        machine, dataset, net = (str(part[0][key]) for key in ("machine", "dataset", "net"))
        where = f"{_cut(machine)}, " if several else ""
        parts.append((f"{where}{_cut(net)} on {_cut(dataset, 40)}", part))
    return parts
