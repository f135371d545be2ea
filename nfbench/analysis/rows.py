"""Stored results as rows of raw values: one row per workload, machine and software, its replicates taken together.

Results of `agc-cost` and those that were only counted have rows of their own.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from nfbench import units
from nfbench.analysis import findings, metrics, stats
from nfbench.catalog import published
from nfbench.catalog.models import lookup
from nfbench.records import (
    AgcCost,
    Dependence,
    Flops,
    Machine,
    Resolved,
    Result,
    Software,
    Status,
    StepTime,
    accumulation_steps,
    key,
    of_kind,
    recency,
)
from nfbench.settings import Setting, asked_for, settings_of
from nfbench.units import grouped

if TYPE_CHECKING:
    import pandas as pd


_MACHINE: dict[str, Callable[[Any], str]] = {
    "mig_profile": str,
    "power_limit": lambda watts: f"{watts:.0f} W",
    "cpu_cores": lambda cores: f"{cores} cores",
    "memory": units.bytes_,
    "driver": lambda driver: f"driver {driver}",
    "cpu": str,
    "compute_capability": lambda capability: f"sm {capability}",
}
_ALWAYS = ("mig_profile",)


Row = dict[str, Any]


class Chosen(NamedTuple):
    """Results that are shown, in groups of replicates, and how many were set aside for each reason."""

    groups: list[list[Result]]
    aside: dict[str, int]

    def said(self, of: str = "") -> str:
        """What was set aside, in a sentence, with the kind ``of`` results; empty where nothing was."""
        parts = [f"{count} {why}" for why, count in self.aside.items() if count]
        return f"Not shown{f' ({of})' if of else ''}: {'; '.join(parts)}." if parts else ""


def choose(results: Iterable[Result], everything: bool = False) -> Chosen:
    """Group replicates: equal in workload, machine, software and in what each `auto` became.

    Of each workload on each machine the newest software is kept unless ``everything``.

    Rows of the fake device never stand beside real ones: they are set aside where there are any of those.
    """
    results = list(results)
    real = [r for r in results if r.machine.device != "fake"]
    aside = {"of the fake device": len(results) - len(real)} if real else {}
    groups: dict[tuple[str, Machine, Software, Resolved | None], list[Result]] = {}
    latest: dict[tuple[str, Machine], Result] = {}
    for result in real or results:
        place = key(result.workload), result.machine
        groups.setdefault((*place, result.software, result.resolved), []).append(result)
        latest[place] = max(latest.get(place, result), result, key=recency)
    if everything:
        return Chosen(list(groups.values()), aside)
    kept = {where: group for where, group in groups.items() if latest[where[:2]].software == where[2]}
    older = sum(map(len, groups.values())) - sum(map(len, kept.values()))
    return Chosen(list(kept.values()), aside | {"by older software (--all shows them)": older})


def row(group: Sequence[Result], brief: bool = False) -> Row:
    """One row of raw SI values; what is absent has no entry.

    Quantities are medians over the replicates that have a rate; the step time has its interval, and images/s are those
    of the step time. ``noisy`` says why the row is used nowhere but in tables (`metrics.noise_reason`). Reported
    figures stand under ``reported_`` and only where batch and px are the paper's. A ``brief`` row has neither the other
    metrics nor findings, which are most of the work.
    """
    last = group[-1]
    replicates = _rated(group)
    rated = metrics.undisturbed(replicates)
    shown = rated or [last]
    result = shown[-1]
    workload, resolved = result.step, result.resolved
    statuses = Counter(r.status for r in group)
    found: Row = {
        "kind": "step-time",
        "model": workload.model,
        "family": family_of(workload.model),
        # what became of others stands in the record of that
        **{s.name: getattr(workload, s.name) for s in settings_of(StepTime) if _as_asked(workload, s)},
        "status": statuses.most_common(1)[0][0] if not rated else status_of(statuses),
        "rounds": (rounds := len(metrics.turns(rated))),
        # of a process that took turns with another, each window is a result
        "turns": len(rated) if len(rated) > rounds else None,
        "composed": result.composed or None,
        "stopped_by": result.stopped_by,
        "device": result.machine.title,
        "machine": machine_names([result.machine])[result.machine],
        "software": software_name(result.software),
        "start": last.start,
        "study": result.study,
        "norm": result.notes.get("norm"),
    }
    if resolved is not None:
        found |= msgspec.structs.asdict(resolved)
        found["agc"] = "none" if resolved.agc is None else resolved.agc
        found["accumulation_steps"] = accumulation_steps(workload, resolved)
        found["asked_precision"], found["asked_layout"] = workload.precision, workload.layout
    found |= _trials(shown)
    if (time := metrics.across(rated)) is not None:
        found |= {"step_time": time.value, "step_time_low": time.low, "step_time_high": time.high}
    found["noisy"] = metrics.noise_reason(rated, time)
    steps = [r.value("steps") for r in rated]
    found["steps"] = sum(s for s in steps if s is not None) or None
    found |= ({} if brief else _measured(shown)) | _reported(result)
    if time is not None and workload.batch > 0:
        # of several replicates the median rate is not that of their step time
        found["throughput"] = workload.batch / time.value
    if not brief:
        found["findings"] = _doubts(group, rated, found["noisy"], len(replicates) - len(rated))
    return {name: value for name, value in found.items() if value is not None}


def _as_asked(workload: StepTime, setting: Setting) -> bool:
    return setting.name not in Resolved.__struct_fields__ and asked_for(workload, setting)


def _rated(group: Sequence[Result]) -> list[Result]:
    """Those of replicates that have a rate; what was cut short is no replicate of what was not."""
    rated = [r for r in group if metrics.seconds(r) is not None]
    return [r for r in rated if r.status in ("ok", "diverged")] or rated


def quiet(results: Iterable[Result]) -> list[Result]:
    """The results without those of timed steps whose row is noisy, of whatever software, and of sessions that other
    work disturbed."""
    results = list(results)
    steps = choose(of_kind(results, StepTime), everything=True)
    noisy: set[int] = set()
    for group in steps.groups:
        rated = _rated(group)
        calm = metrics.undisturbed(rated)
        if metrics.noise_reason(calm, metrics.across(calm)):
            noisy |= set(map(id, group))
        else:
            noisy |= set(map(id, rated)) - set(map(id, calm))
    return [r for r in results if id(r) not in noisy]


def _trials(results: Sequence[Result]) -> Row:
    """Seconds of a pass in each layout, of the first replicate that tried them: the others take what it chose.

    Where the trial could not tell two layouts apart, that stands in their place.
    """
    for result in results:
        readings = {layout: result.reading(f"trial_{layout}") for layout in ("nchw", "nhwc")}
        trials = {layout: trial.finite for layout, trial in readings.items() if trial is not None and trial.finite}
        if len(trials) == 2 and not stats.apart(*trials.values()):
            return {"layout_trial": "undecided"}
        if trials:
            return {f"trial_{layout}": statistics.median(times) for layout, times in trials.items()}
    return {}


def _measured(results: Sequence[Result]) -> Row:
    found: Row = {}
    # all of one result before the next, whose step times are then worked out once
    functions = {m.key: m.of for m in metrics.METRICS["step-time"] if m.of is not None}
    each = [[metric(r) for metric in functions.values()] for r in results]
    for name, column in zip(functions, zip(*each, strict=True), strict=True):
        values = [value for value in column if value is not None]
        if values:
            found[name] = statistics.median(values)
    return found


def _doubts(
    group: Sequence[Result], rated: Sequence[Result], noisy: str | None, disturbed: int
) -> list[findings.Finding]:
    warnings = findings.of_all(group)
    if noisy or disturbed:
        # that others had the CPU is said once
        warnings = [f for f in warnings if f.code != "busy_host"]
    if disturbed:
        warnings.insert(0, findings.disturbed(disturbed, len(rated) + disturbed))
    if noisy:
        warnings.insert(0, findings.noisy(noisy))
    if (few := findings.few_rounds(len(metrics.turns(rated)))) is not None:
        warnings.append(few)
    # replicates have an interval of their own
    return [f for f in warnings if f.code != "wide_interval" or len(rated) == 1]


def rows(
    results: Iterable[Result], everything: bool = False, brief: bool = False, noisy: bool = False
) -> tuple[list[Row], str]:
    """The rows of `choose` over the results that are steps, ``brief`` ones as of `row`, and what was set aside in a
    sentence. Where ``noisy`` is wanted, noisy rows count as any other."""
    chosen = choose(of_kind(results, StepTime), everything)
    found = [row(group, brief) for group in chosen.groups]
    if noisy:
        found = without_noise(found)
    names = machine_names(group[-1].machine for group in chosen.groups)
    for shown, group in zip(found, chosen.groups, strict=True):
        shown["machine"] = names[group[-1].machine]
    return found, chosen.said()


def without_noise(rows: Sequence[Row]) -> list[Row]:
    """The rows with noisy ones made like any other."""
    kept = [{name: value for name, value in row.items() if name != "noisy"} for row in rows]
    for row in kept:
        if "findings" in row:
            row["findings"] = [f for f in row["findings"] if f.code != "noisy"]
    return kept


def machine_names(machines: Iterable[Machine]) -> dict[Machine, str]:
    """A name for each machine: its device's, with those of its fields in which another of that name differs."""
    found: dict[Machine, str] = {}
    same: dict[str, dict[str, set[object]]] = {}
    distinct = list(dict.fromkeys(machines))
    for machine in distinct:
        values = same.setdefault(machine.name, {field: set() for field in _MACHINE})
        for field in _MACHINE:
            values[field].add(getattr(machine, field))
    for machine in distinct:
        parts = [machine.title]
        for field, text in _MACHINE.items():
            value = getattr(machine, field)
            if value is not None and (field in _ALWAYS or len(same[machine.name][field]) > 1):
                parts.append(text(value))
        found[machine] = ", ".join(parts)
    return found


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a pandas table: SI units, one column a key, findings as their codes."""
    import pandas as pd

    return pd.DataFrame([{**r, "findings": " ".join(f.code for f in r.get("findings", ()))} for r in rows])


def status_of(statuses: Counter[Status]) -> str:
    """The status of replicates of which at least one has a rate; a failure among them is counted, not hidden."""
    if len(statuses) == 1:
        return next(iter(statuses))
    return ", ".join(f"{count} {status}" for status, count in statuses.most_common())


def software_name(software: Software) -> str:
    """The versions that matter, in a line: "nfbench 0.1.0 (abc1234), torch 2.15.0, timm 1.0.31"."""
    parts = [f"nfbench {software.nfbench}"]
    if software.commit:
        parts[0] += f" ({software.commit[:7]}{'+' if software.dirty else ''})"
    parts += [f"{name} {value}" for name in ("torch", "timm") if (value := getattr(software, name))]
    return ", ".join(parts)


def family_of(model: str) -> str | None:
    """The catalogue's family of a net; None for a name that it does not know."""
    net = lookup(model)
    return None if net is None else net.family


def _reported(result: Result) -> Row:
    net = lookup(result.workload.model)
    if net is None or result.machine.simulated:
        return {}
    top1, paper = published.top1(net), published.paper(net.name)
    found: Row = {"reported_top1": top1.top1 / 100} if top1 else {}
    if paper is None or result.resolved is None or result.machine.device != "cuda":
        return found
    if result.step.batch == 32 and result.resolved.px == (paper.train_px or net.train_px):
        for name, value in (("v100", paper.v100_step_ms), ("tpuv3", paper.tpuv3_step_ms)):
            if value is not None:
                found[f"reported_{name}_step_time"] = value / 1000
    return found


CLIP_BASELINE = "timm"

_ClipPlace = tuple[str, str, float, Machine, Software]


def clip_rows(results: Iterable[Result]) -> list[Row]:
    """One row for each net, share of clipped units and implementation, of the newest run of each, in its order.

    All in SI units. ``time`` is the geometric mean over turns of the median call, with Student's t over the turns, and
    ``host_time`` the host's, where that only queues a call. ``speedup`` is how many times as long timm's loop takes,
    paired turn by turn. ``bandwidth`` is the bytes that must move (W, G, and what is clipped of G again) over the time,
    ``copy_bandwidth`` that of a copy in the same turns, ``floor`` the time that those bytes take at it and
    ``over_floor`` time / floor, paired turn by turn.
    The two ratios have no interval: the turns of one process are one round.
    """
    turns: dict[tuple[_ClipPlace, str], dict[int, Result]] = {}
    newest: dict[tuple[object, ...], str | None] = {}
    for result in sorted(results, key=recency):
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
        host = [time for r in group.values() if (time := _call_time(r, "clip_host"))]
        found["host_time"] = stats.mean_of_logs(host).value if host else None
        found |= _against_timm(times, baseline)
        found |= _bandwidth(times, estimate.value, last, copies)
    return {name: value for name, value in found.items() if value is not None}


def _call_time(result: Result, name: str = "clip") -> float | None:
    """Seconds of one call: the median of a turn."""
    calls = result.reading(name)
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


def count_rows(results: Iterable[Result]) -> list[Row]:
    """One row each of raw values: the settings, the status, and every reading under its name, the mean over seeds."""
    counts = of_kind(results, Flops, Dependence)
    groups = grouped(counts, lambda r: (key(r.workload), r.machine))
    names = machine_names(machine for _, machine in groups)
    found = []
    for (_, machine), group in groups.items():
        latest = max(group, key=recency)
        sound = [r for r in group if r.software == latest.software]
        row: Row = {
            "kind": latest.workload.__struct_config__.tag,
            "model": latest.workload.model,
            "family": family_of(latest.workload.model),
            "status": latest.status,
            "machine": names[machine],
            "software": software_name(latest.software),
            **{k: v for k, v in msgspec.structs.asdict(latest.workload).items() if k != "model"},
        }
        for reading in latest.readings:
            if reading.unit == "s":
                continue
            values = [v for r in sound if (v := r.value(reading.name)) is not None]
            if values:
                mean = sum(values) / len(values)
                row[reading.name] = int(mean) if mean == int(mean) and reading.name in ("px", "batch") else mean
        found.append({k: v for k, v in row.items() if v is not None})
    return found
