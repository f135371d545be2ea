"""What a sweep says to its study's question, in sentences: of the cost of the clip, and of accuracy over batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nfbench import units
from nfbench.analysis import sweeps, turn_ratios
from nfbench.analysis.rows import CLIP_BASELINE, Row, clip_shares, machine_names
from nfbench.records import Machine
from nfbench.showing.figures.style import plain
from nfbench.showing.study import Shown

_NAME = 60
"""Characters of a net."""
_FEW = 2
"""Thresholds of a net up to which it is no sweep of them: with the clip and without."""


def cost_of_clip(seen: Shown) -> list[str]:
    """What share of a step the clip takes at each batch, and how many times as long timm's loop takes: a line a
    machine, of the quickest clip of each net."""
    found = []
    for machine, name in _machines(seen):
        rows = [row for row in seen.clips if row.get("machine") == name]
        steps = [row for row in clip_shares(seen.steps) if row.get("machine") == name]
        shares, loops = list[str](), list[str]()
        for net in dict.fromkeys(row["model"] for row in rows):
            own = [row for row in rows if row["model"] == net and row["impl"] != CLIP_BASELINE and "time" in row]
            if not own:
                continue
            impl = min(own, key=lambda row: (-row["clipped"], row["time"]))["impl"]
            shares += _shares(impl, net, [row for row in steps if row["model"] == net])
            loops += _loops(net, [row for row in own if row["impl"] == impl and "speedup" in row])
        parts = ["; ".join(shares), f"{CLIP_BASELINE}'s loop takes {'; '.join(loops)}" if loops else ""]
        if said := ". ".join(filter(None, parts)):
            found.append(turn_ratios.on(machine, None, said))
    return found


def _shares(impl: str, net: str, steps: Sequence[Row]) -> list[str]:
    """ "the clip by foreach is 4.2 % of nfnet-f0's step at batch 1 and 1.5 % at batch 4"."""
    own = sorted((row for row in steps if row.get("agc_impl") == impl), key=lambda row: int(row["batch"]))
    each = [f"{units.percent(row['share'], 2)} at batch {row['batch']}" for row in own]
    if not each:
        return []
    first, *others = [each[0].replace(" at", f" of {plain(net, _NAME)}'s step at", 1), *each[1:]]
    return [f"the clip by {impl} is {' and '.join([first, *others])}"]


def _loops(net: str, rows: Sequence[Row]) -> list[str]:
    """ "3.71 times as long on nfnet-f0 with 0 % of the units over their limit, 2.68 with 100 %"."""
    ordered = sorted(rows, key=lambda row: float(row["clipped"]))
    # between none and all it is between
    ends = ordered[:: max(1, len(ordered) - 1)]
    times = [units.interval(row["speedup"], None, None) for row in ends]
    limits = [units.percent(row["clipped"]) for row in ends]
    if not ends:
        return []
    first = f"{times[0]} times as long on {plain(net, _NAME)} with {limits[0]} of the units over their limit"
    return [", ".join([first, *(f"{time} with {limit}" for time, limit in zip(times[1:], limits[1:], strict=True))])]


def over_batches(seen: Shown) -> list[str]:
    """The top-1 of each net at its smallest and at its largest batch, and whether they are told apart: a line a machine
    and data set."""
    found: list[str] = []
    if any(len(limits) > _FEW for limits in _limits(seen).values()):
        # that is a sweep of thresholds, which has an answer of its own
        return found
    rows = [row for row in sweeps.records(sweeps.batch_sweep([], seen.trained)) if "batch" in row]
    for machine, name in _machines(seen):
        own = [row for row in rows if row.get("machine") == name]
        for dataset in dict.fromkeys(str(row["dataset"]) for row in own if "dataset" in row):
            there = [row for row in own if str(row.get("dataset")) == dataset]
            nets = dict.fromkeys(str(row["net"]) for row in there)
            parts = [_ends([row for row in there if row["net"] == net]) for net in nets]
            if said := [part for part in parts if part]:
                found.append(turn_ratios.on(machine, None, f"top-1 on {plain(dataset, 40)} of {'; '.join(said)}"))
    return found


def _limits(seen: Shown) -> dict[str, set[object]]:
    """The thresholds of each model."""
    found: dict[str, set[object]] = {}
    for row in seen.trained:
        found.setdefault(row["model"], set()).add(row.get("agc"))
    return found


def _ends(rows: Sequence[Row]) -> str:
    """ "tiny-resnet: 91 ± 2 % at batch 4 and 74 ± 3 % at 32, which is lower"; empty of a single batch."""
    ordered = sorted(rows, key=lambda row: int(row["batch"]))
    small, large = ordered[0], ordered[-1]
    if small["batch"] == large["batch"]:
        return ""
    ends = f"{_top1(small)} at batch {small['batch']} and {_top1(large)} at {large['batch']}"
    return f"{plain(str(small['net']), _NAME)}: {ends}{_apart(small, large)}"


def _top1(row: Row) -> str:
    """The cell of a table, worded for a sentence: "35 ± 26 % (1 of 5 diverged)"."""
    aside, _, value = sweeps.top1(row).rpartition("; ")
    value = value.replace("diverged at", "diverged at update")
    return f"{value} ({aside})" if aside else value


def _apart(small: Row, large: Row) -> str:
    if not all(key in row for row in (small, large) for key in ("top1_low", "top1_high")):
        return ""
    if large["top1_high"] < small["top1_low"]:
        return ", which is lower"
    return ", which is higher" if large["top1_low"] > small["top1_high"] else ", not told apart"


def _machines(seen: Shown) -> Iterator[tuple[Machine, str]]:
    """Each machine with the name that its rows bear."""
    yield from machine_names(r.machine for r in seen.results).items()
