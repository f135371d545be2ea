"""Results of `agc-cost` as rows: what a clip takes, against timm's and against the bytes that it must move."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from nfbench.analysis import stats
from nfbench.analysis.rows import Row, machine_names, software_name
from nfbench.records import AgcCost, Machine, Result, Software

CLIP_BASELINE = "timm"

_ClipPlace = tuple[str, str, float, Machine, Software]


def clip_rows(results: Iterable[Result]) -> list[Row]:
    """One row for each net, share of clipped units and implementation, of the newest run of each, in its order.

    All in SI units. ``time`` is the geometric mean over turns of the median call, with Student's t over the turns;
    ``speedup`` how many times as long timm's loop takes, paired turn by turn. ``bandwidth`` is the
    bytes that must move (W, G, and what is clipped of G again) over the time, ``copy_bandwidth`` that of a copy in the
    same turns, ``floor`` the time that those bytes take at it and ``over_floor`` time / floor, paired turn by turn.
    The two ratios have no interval: the turns of one process are one round.
    """
    turns: dict[tuple[_ClipPlace, str], dict[int, Result]] = {}
    newest: dict[tuple[object, ...], str | None] = {}
    for result in sorted(results, key=lambda r: r.start):
        workload = result.workload
        if not isinstance(workload, AgcCost):
            continue
        place = (workload.model, workload.layout, workload.clipped, result.machine, result.software)
        # another run is another interleaving, which pairs with nothing of this one
        if newest.setdefault(place[:4], result.session) != result.session:
            newest[place[:4]] = result.session
            turns = {key: group for key, group in turns.items() if key[0][:4] != place[:4]}
        turns.setdefault((place, workload.impl), {})[result.turn] = result
    machines = machine_names(place[3] for place, _ in turns)
    return [
        _clip_row(place, impl, group, turns.get((place, CLIP_BASELINE), {}), turns.get((place, "copy"), {}))
        | {"machine": machines[place[3]], "software": software_name(place[4])}
        for (place, impl), group in turns.items()
        if impl != "copy"
    ]


def _clip_row(
    place: _ClipPlace,
    impl: str,
    group: dict[int, Result],
    baseline: dict[int, Result],
    copies: dict[int, Result],
) -> Row:
    last = list(group.values())[-1]
    times = {turn: time for turn, r in group.items() if (time := _call_time(r)) is not None}
    found: Row = {
        "kind": "agc-cost",
        "model": place[0],
        "layout": place[1],
        "clipped": place[2],
        "impl": impl,
        "status": "ok" if times else last.status,
        "message": last.message,
        "turns": len(times) or None,
        "units": last.value("units"),
        "clipped_units": last.value("clipped_units"),
        "operators": last.value("operators"),
        "launches": last.value("launches"),
    }
    if times:
        estimate = stats.mean_of_logs(list(times.values()))
        found |= {"time": estimate.value, "time_low": estimate.low, "time_high": estimate.high}
        found |= _against_timm(times, baseline)
        found |= _bandwidth(times, estimate.value, last, copies)
    return {name: value for name, value in found.items() if value is not None}


def _call_time(result: Result) -> float | None:
    """Seconds of one call: the median of a turn."""
    calls = result.reading("clip")
    return statistics.median(calls.finite) if result.status == "ok" and calls and calls.finite else None


def _against_timm(times: dict[int, float], baseline: dict[int, Result]) -> Row:
    pairs = [(its, mine) for turn, mine in times.items() if turn in baseline and (its := _call_time(baseline[turn]))]
    if not pairs:
        return {}
    return {"speedup": stats.mean_of_logs([its / mine for its, mine in pairs]).value}


def _bandwidth(times: dict[int, float], time: float, result: Result, copies: dict[int, Result]) -> Row:
    moved = result.value("moved_bytes")
    if moved is None:
        return {}
    found: Row = {"moved_bytes": moved, "bandwidth": moved / time}
    rates = {turn: b / t for turn, r in copies.items() if (t := _call_time(r)) and (b := r.value("moved_bytes"))}
    pairs = [(its, rates[turn]) for turn, its in times.items() if turn in rates]
    if pairs:
        found["copy_bandwidth"] = stats.mean_of_logs([rate for _, rate in pairs]).value
        found["floor"] = moved / found["copy_bandwidth"]
        found["over_floor"] = stats.mean_of_logs([its * rate / moved for its, rate in pairs]).value
    return found


def clip_shares(rows: Sequence[Row]) -> list[Row]:
    """Of rows of steps: what share of the step the clip is, over the batch sizes of each net."""
    return [
        {**row, "share": row["clip"] / row["step_time"]} for row in rows if row.get("clip") and row.get("step_time")
    ]
