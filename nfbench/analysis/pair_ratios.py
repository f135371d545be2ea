"""The ratios of two rows, each with how it was come by: in turns within a session, or of separate runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nfbench.analysis import accuracy_metrics, compare, gate, metrics, noise, stats
from nfbench.analysis.rows import Row
from nfbench.analysis.stats import Estimate
from nfbench.records import Result, key


class Of(NamedTuple):
    """A row and the results that it was made of."""

    row: Row
    results: Sequence[Result]


def in_turns(mine: Of, base: Of) -> compare.Ratio | None:
    """The ratio of two rows of steps over the rounds in which they took turns; None where they share no session."""
    if mine.row["kind"] != "step-time":
        return None
    shared = {r.session for r in mine.results} & {r.session for r in base.results} - {None}
    sides = mine.results[-1].step, base.results[-1].step
    if not shared or key(sides[0]) == key(sides[1]):
        return None
    results = [*noise.undisturbed(mine.results), *noise.undisturbed(base.results)]
    return compare.paired([r for r in results if r.session in shared], *sides)


def timed(mine: Of, base: Of) -> Row:
    """The ratios of two rows of steps, ``mine`` over ``base``, and what the paper reports of the two nets.

    There is no ratio where either row is noisy, and no interval with fewer than `stats.LEAST_ROUNDS` rounds a side.
    """
    if "noisy" in mine.row or "noisy" in base.row:
        return {"how": "noisy"}
    found: Row = {}
    if (paired := in_turns(mine, base)) is not None:
        estimate: Estimate | None = paired.estimate
        over = f"{paired.rounds} rounds"
        found = {"how": "in turns", "turns": paired.turns}
    else:
        estimate, over = _separate(mine, base)
    if estimate is not None:
        # both have as many images a second as their batch and their time give
        size = mine.row["batch"] / base.row["batch"] if base.row["batch"] else None
        found |= _interval("step_time_ratio", estimate)
        if size and estimate.value:
            ends = [size / end if end else None for end in (estimate.value, estimate.high, estimate.low)]
            found |= dict(zip((f"throughput_ratio{end}" for end in ("", "_low", "_high")), ends, strict=True))
        found["interval_over"] = over if estimate.low is not None else None
    for of, name in (("allocated", "peak_allocated"), ("process", "peak_rss")):
        if "memory_ratio" not in found and (ratio := _quotient(mine.row, base.row, name)) is not None:
            found |= {"memory_ratio": ratio, "memory_of": of}
    found["image_energy_ratio"] = _quotient(mine.row, base.row, "image_energy")
    reported = compare.reported(base.results[-1], mine.results[-1])
    found["reported_ratios"] = "; ".join(f"{r.value:.3g} ({r.source})" for r in reported) or None
    return found


def _separate(mine: Of, base: Of) -> tuple[Estimate | None, str]:
    """The ratio of two that were not timed in turns, with Welch's interval over the rounds of each."""
    sound = [
        [r for r in noise.undisturbed(o.results) if r.status == "ok" and not metrics.voided(r)] for o in (base, mine)
    ]
    rounds = [metrics.rounds(results) for results in sound]
    if not all(rounds):
        return None, ""
    before, after = (list(side.values()) for side in rounds)
    if min(len(before), len(after)) < stats.LEAST_ROUNDS:
        return Estimate(stats.mean_of_logs(after).value / stats.mean_of_logs(before).value), ""
    # a study has a session for each round, which is no replicate of a session
    sessions = [times for times in metrics.by_session(rounds[0]) if len(times) >= stats.LEAST_ROUNDS]
    between = [stats.mean_of_logs(times).value for times in sessions]
    estimate = gate.unpaired(before, after, between, stats.CONFIDENCE)
    return estimate, f"{len(after)} and {len(before)} rounds, Welch"


def trained(mine: Of, base: Of) -> Row:
    """The ratios of two rows of training runs, and the difference of their top-1 over seeds."""
    sides = [
        [t for r in o.results if r.status == "ok" and (t := accuracy_metrics.final_top1(r)) is not None]
        for o in (mine, base)
    ]
    found: Row = {
        f"{name}_ratio": _quotient(mine.row, base.row, name)
        for name in ("train_step_time", "throughput", "image_energy")
    }
    if all(sides):
        difference = stats.contrast([(1.0, sides[0]), (-1.0, sides[1])])
        found |= _interval("top1_difference", difference)
        if difference.low is not None:
            found["interval_over"] = f"{len(sides[0])} and {len(sides[1])} seeds, Welch"
    return found


def _interval(name: str, estimate: Estimate) -> Row:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _quotient(row: Row, base: Row, name: str) -> float | None:
    mine, its = row.get(name), base.get(name)
    return mine / its if mine is not None and its else None
