"""What to type to measure results again: every setting that was not at its default, as far as records tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from nfbench.analysis.stats import LEAST_ROUNDS
from nfbench.errors import NfbenchError
from nfbench.records import Accuracy, Dependence, Flops, Result, Sampling, StepTime, key
from nfbench.showing import report_sweeps
from nfbench.showing.report_flags import (
    DEFAULTS,
    Flag,
    device,
    flags,
    length,
    of_seeds,
    positional,
    runs,
    seed,
    settings,
    text,
    together,
    typed,
    word,
)
from nfbench.showing.tables import printable
from nfbench.studies.entries import TURN_TIME
from nfbench.studies.study import FULL, Study

MOST = 6
"""Commands that are listed of one group."""
_LONGEST = 1000


def commands(what: str, results: Sequence[Result]) -> tuple[str, ...]:
    """The lines that measure ``results`` of the command ``what`` again; empty where what was typed is not known."""
    lines = [line for line in dict.fromkeys(_MAKERS[what](results)) if len(line) < _LONGEST]
    more = [f"# and {len(lines) - MOST} more with other settings"] if len(lines) > MOST else []
    return (*_unknown(results), *lines[:MOST], *more) if lines else ()


def study(found: Study, results: Sequence[Result], scale: str = "") -> tuple[str, ...]:
    """The line that runs a shipped study again, with a word where it holds not all that was measured.

    Without a ``scale`` it is the first that holds all of it.
    """
    asked = {key(r.workload) for r in results}
    kind = results[0].machine.device
    scales = [scale] if scale else [FULL, *(s for s in found.scales if s != FULL)]
    missing = {s: asked - _held(msgspec.structs.replace(found, scale=s), kind) for s in scales}
    best = min(scales, key=lambda s: len(missing[s]))
    timed = {r.seed for r in results if not isinstance(r.workload, Accuracy)}
    chosen: list[Flag] = [] if best == FULL else [("set", f"scale={best}")]
    chosen += [("seed", max(timed))] if len(timed) == 1 and timed != {0} else []
    line = f"nfbench run {found.name}{flags([*chosen, *device(results)])}"
    if not missing[best]:
        return (line,)
    count = f"{len(missing[best])} of {len(asked)} workloads"
    return (line, f"# {count} of these results are not in the study as it comes: it was changed, or --set was given")


def _held(found: Study, kind: str) -> set[str]:
    try:
        return {key(workload) for entry in found.entries(kind) for workload in entry.workloads}
    except NfbenchError:
        return set()


def _unknown(results: Sequence[Result]) -> list[str]:
    """What no record tells, as comments above the commands."""
    runs = [r.workload for r in results if isinstance(r.workload, Accuracy)]
    folders = dict.fromkeys(run.dataset for run in runs if run.dataset.startswith("imagefolder:"))
    files = dict.fromkeys(run.weights for run in runs if run.weights.startswith("file:"))
    said = [f"# {printable(folder)}: with the path of that folder" for folder in folders if len(folder) < _LONGEST]
    return said + [f"# WEIGHTS: the file with the digest {printable(f[5:])}" for f in files if len(f) < _LONGEST]


def _step_time(results: Sequence[Result]) -> list[str]:
    names = ("within", "min_steps", "rounds", "max_time")
    return together(
        (
            typed(r, "step-time"),
            r.workload.model,
            flags([*settings(r.workload), *length("step-time", r, *names), *seed(r), *device(results)]),
        )
        for r in results
        if isinstance(r.workload, StepTime)
    )


def _compare(results: Sequence[Result]) -> list[str]:
    sessions: dict[str | None, list[Result]] = {}
    for result in results:
        if isinstance(result.workload, StepTime):
            sessions.setdefault(result.session, []).append(result)
    return [_in_turns(group) for group in sessions.values()]


def _in_turns(group: Sequence[Result]) -> str:
    nets: dict[str, None] = {}
    for r in sorted(group, key=lambda r: (r.round, r.turn)):
        own = ",".join(f"{name}={text(value)}" for name, value in settings(r.workload))
        nets[word(f"{r.workload.model}@{own}" if own else r.workload.model)] = None
    first, sampling = group[0], group[0].sampling
    given = length("compare", first, "within")
    # older versions had one round, which was not chosen
    fixed = sampling.turns > 1 and not sampling.looks
    given += [("rounds", sampling.rounds)] if fixed else []
    if sampling.turn_time:
        cap = _max_time(sampling, len(nets))
        given += [("max_time", cap)] if cap != DEFAULTS["compare"]["max_time"] else []
    return positional("nfbench compare", nets, flags([*given, *seed(first), *device(group)]))


def _max_time(sampling: Sampling, nets: int) -> float:
    """The seconds of --max-time, of which `nfbench.studies.runner.sampling_against` gives each turn a share."""
    least = sampling.looks[0] if sampling.looks else sampling.rounds
    if sampling.turns > 1 and sampling.turn_time < TURN_TIME:
        return round(sampling.turn_time * sampling.turns * least * nets, 6)
    return round(sampling.max_time * max(least, LEAST_ROUNDS) * sampling.turns * nets, 6)


def _accuracy(results: Sequence[Result]) -> list[str]:
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for r in results:
        if isinstance(r.workload, Accuracy):
            swept: list[Flag] = [("dataset", r.workload.dataset), ("epochs", r.workload.epochs)]
            own = [flag for flag in settings(r.workload) if flag[0] not in dict(swept)]
            given = flags([*swept, *own, *length("accuracy", r, "max_time")])
            seeds.setdefault((typed(r, "accuracy"), r.workload.model, given), set()).add(r.seed)
    return together(
        (begun, model, given + flags([*of_seeds(run), *device(results)]))
        for (begun, model, given), own_seeds in seeds.items()
        for run in runs(own_seeds)
    )


def _flops(results: Sequence[Result]) -> list[str]:
    nets: dict[str, dict[str, None]] = {}
    for r in results:
        if isinstance(r.workload, Flops):
            px = r.workload.px
            given = "" if isinstance(px, str) else flags([("px", px)])
            nets.setdefault(given, {})[word(r.workload.model)] = None
    return [positional("nfbench flops", models, given) for given, models in nets.items()]


def _dependence(results: Sequence[Result]) -> list[str]:
    return [
        positional(
            "nfbench models", [word(r.workload.model)], f" --dependence{flags([*settings(r.workload), *seed(r)])}"
        )
        for r in results
        if isinstance(r.workload, Dependence)
    ]


def _check(results: Sequence[Result]) -> list[str]:
    lines = []
    for name in dict.fromkeys(r.study for r in results if r.study):
        own = [r for r in results if r.study == name]
        commits = {side: {r.software.commit for r in own if r.side == side} for side in ("base", "head")}
        known = len(commits["base"]) == 1 and None not in commits["base"] and commits["base"] != commits["head"]
        against: list[Flag] = [("against", str(next(iter(commits["base"])))[:12])] if known else []
        lines.append(positional("nfbench check", [word(name)], flags([*against, *seed(own[0]), *device(own)])))
    return lines


_MAKERS: dict[str, Callable[[Sequence[Result]], list[str]]] = {
    "step-time": _step_time,
    "compare": _compare,
    "accuracy": _accuracy,
    "agc-cost": report_sweeps.agc_cost,
    "batch-sweep": report_sweeps.batch_sweep,
    "agc-sweep": report_sweeps.agc_sweep,
    "flops": _flops,
    "dependence": _dependence,
    "check": _check,
}
