"""Ratios of step times that were measured in turns, those of two stored rows, and the sentence that says them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from nfbench import units
from nfbench.analysis import gate, metrics, stats, training_metrics
from nfbench.analysis.rows import Row
from nfbench.analysis.stats import Estimate
from nfbench.catalog import published
from nfbench.catalog.models import lookup
from nfbench.records import Machine, Resolved, Result, Sampling, StepTime, accumulation_steps, key
from nfbench.settings import words_of

_SHORTEST, _LONGEST = 1e-12, 1e12
"""Seconds that no clock has shown: such a file was not written by nfbench, and its ratios overflow."""
_WIDE = 1.1
"""How many times a ratio the end of its interval may be for it to say that two nets are about equal."""
FEW_ROUNDS = f"{stats.LEAST_ROUNDS} rounds are needed for an interval: --rounds {stats.LEAST_ROUNDS}"
_BOTH = ("px", "batch", "micro_batch", "layout", "precision", "world_size")
"""Settings that `where` tells of both sides."""


class Ratio(NamedTuple):
    """How much of the baseline's step ``net`` takes, over rounds of fresh processes.

    ``turns`` are the windows of each side in the ``rounds`` that count. ``voided`` turns do not count, because the GPU
    was slowed down on one side in their round; in ``slowed`` turns that count it was slowed down on both alike.
    ``asked`` is how many turns were planned, 0 where looks decide that.
    """

    net: Result
    baseline: Result
    estimate: Estimate
    rounds: int
    voided: int = 0
    turns: int = 0
    asked: int = 0
    slowed: int = 0

    @property
    def open(self) -> bool:
        """Whether the interval reaches over 1 so widely that it tells of neither net that it is the faster one."""
        _, low, high = self.estimate
        return low is not None and high is not None and low < 1 < high and high > _WIDE**2 * low

    @property
    def speedup(self) -> Estimate:
        """How many times as fast the net's step is, which is what people are told: the same ratio the other way up."""
        value, low, high = self.estimate
        return Estimate(1 / value, None if high is None else 1 / high, None if low is None else 1 / low)

    @property
    def no_interval(self) -> str:
        """Why it has no interval; empty where it has one."""
        return "" if self.estimate.low is not None else FEW_ROUNDS


def paired(results: Sequence[Result], net: StepTime, baseline: StepTime) -> Ratio | None:
    """The ratio of two workloads over rounds in which both have a rate; None where there is no such round.

    The effect of a round is the mean log-ratio of the step times of its turns. The interval is Student's t over rounds,
    at `gate.confidence` where looks could end the measurement, and absent with fewer than `stats.LEAST_ROUNDS`: turns
    of one pair of processes share its luck and do not replicate each other. A round in which a turn is missing, or in
    which the GPU was slowed down on one side more than on the other, does not count; where no round is whole, the turns
    that there are give a value without an interval.
    """
    sides = key(net), key(baseline)
    turns: dict[tuple[str | None, int, int], dict[str, Result]] = {}
    for r in results:
        # what did not end well would stand against what did
        if (side := key(r.workload)) in sides and r.status in ("ok", "diverged") and _clocked(metrics.seconds(r)):
            turns.setdefault((r.session, r.round, r.turn), {})[side] = r
    rounds: dict[tuple[str | None, int], list[tuple[Result, Result]]] = {}
    for (session, round, _), pair in turns.items():
        if len(pair) == 2:
            rounds.setdefault((session, round), []).append((pair[sides[0]], pair[sides[1]]))
    sound = {place: pairs for place, pairs in rounds.items() if not any(map(metrics.uneven, pairs))}
    whole = _alike([pairs for pairs in sound.values() if len(pairs) >= pairs[0][0].sampling.turns])
    counted = whole or list(sound.values())
    if not counted:
        return None
    last, sampling = counted[-1][-1], counted[-1][-1][0].sampling
    effects = [
        stats.mean_of_logs([(metrics.seconds(a) or 0) / (metrics.seconds(b) or 1) for a, b in pairs]).value
        for pairs in counted
    ]
    estimate = stats.mean_of_logs(effects, gate.confidence() if sampling.looks else stats.CONFIDENCE)
    enough = len(whole) >= stats.LEAST_ROUNDS and not _peeked(sampling, rounds)
    return Ratio(
        *last,
        estimate if enough else Estimate(estimate.value),
        len(counted),
        sum(map(len, rounds.values())) - sum(map(len, sound.values())),
        sum(map(len, counted)),
        # where looks decide, or turns went on until the ratio was known, nobody planned their number
        0
        if sampling.looks or sampling.turns == 1
        else sampling.turns * max(len({t[:2] for t in turns}), sampling.rounds),
        sum(metrics.voided(a) for pairs in counted for a, _ in pairs),
    )


def _alike(rounds: list[list[tuple[Result, Result]]]) -> list[list[tuple[Result, Result]]]:
    """The rounds in which each `auto` of both sides became the same, those of which there are most."""
    kinds = Counter((pairs[0][0].resolved, pairs[0][1].resolved) for pairs in rounds)
    return [pairs for pairs in rounds if (pairs[0][0].resolved, pairs[0][1].resolved) == kinds.most_common(1)[0][0]]


def _peeked(sampling: Sampling, rounds: Collection[tuple[str | None, int]]) -> bool:
    """Whether an older version looked after each of these rounds, every one a turn in processes of its own."""
    sessions = {session for session, _ in rounds}
    single = sampling.rounds == sampling.turns == 1 and not sampling.looks and sampling.turn_time > 0
    return single and len(sessions) < len(rounds)


def _clocked(seconds: float | None) -> bool:
    return seconds is not None and _SHORTEST < seconds < _LONGEST


def sentence(ratios: Sequence[Ratio], more: Callable[[Ratio], str] = lambda ratio: "") -> str:
    """ "On NVIDIA H200, bf16: nf-resnet50 is 0.89 ± 0.01 times as fast as resnet50 (both 224 px, nhwc)", and what
    ``more`` says of a ratio."""
    precisions = {_resolved(r).precision for ratio in ratios for r in ratio[:2]}
    precision = precisions.pop() if len(precisions) == 1 else None
    clauses = [f"{compared(r, *named(r))} ({circumstances(r, precision is None)}){more(r)}" for r in ratios]
    return on(ratios[0].net.machine, precision, "; ".join(clauses))


def on(machine: Machine, precision: str | None, text: str) -> str:
    """``text`` as a sentence that says on what, and where that is no GPU, that it says nothing about one."""
    device = f"{machine.title} ({machine.mig_profile})" if machine.mig_profile else machine.title
    head = f"On {device}{f', {precision}' if precision else ''}: {text}"
    if machine.device == "cuda":
        return head + "."
    kind = {"cpu": "a CPU", "fake": "a fake device"}[machine.device]
    return f"{head}. This is {kind}: it says nothing about a GPU."


def compared(ratio: Ratio, net: str, baseline: str) -> str:
    """ "nf-resnet50 is 0.89 ± 0.01 times as fast as resnet50", where the interval allows to say so."""
    if ratio.net.step.batch != ratio.baseline.step.batch:
        net, baseline = f"a step of {net}", f"one of {baseline}"
    _, low, high = ratio.speedup
    if low is not None and high is not None and high > units.WIDEST * low:
        ends = f"{units.significant(low, 2)} to {units.significant(high, 2)}"
        return f"{units.TOO_NOISY} whether {net} is faster than {baseline}: {ends} times as fast"
    times = f"{units.interval(*ratio.speedup)} times as fast"
    if ratio.open:
        return f"cannot tell whether {net} is faster than {baseline}: {times}"
    if low is not None and high is not None and low <= 1 <= high:
        return f"{net} and {baseline} are about equally fast: {times}"
    return f"{net} is {times} as {baseline}"


def circumstances(ratio: Ratio, with_precision: bool) -> str:
    """The settings of both sides, and what else is to be known about how the ratio was measured."""
    settings = where(ratio, with_precision)
    if ratio.asked > ratio.turns + ratio.voided:
        settings += f"; only {ratio.turns} of {ratio.asked} turns count"
    if ratio.no_interval:
        settings += f"; {ratio.no_interval}"
    if ratio.voided:
        settings += f"; {units.plural(ratio.voided, 'turn')} left out, the GPU was slowed down"
    if ratio.slowed:
        settings += f"; the GPU was slowed down on both sides in {units.plural(ratio.slowed, 'turn')}"
    return settings


def reported(net: Result, baseline: Result) -> list[published.ReportedRatio]:
    """What is published of the two nets, on GPUs and TPUs: nothing where no GPU has measured them here, so that no
    other device's figure stands beside it."""
    if not (net.machine.is_real_gpu and baseline.machine.is_real_gpu):
        return []
    return published.ratios(catalogued(net.workload.model), catalogued(baseline.workload.model))


def catalogued(model: str) -> str:
    """The catalogue's name of a net; the name itself where it has none."""
    net = lookup(model)
    return model if net is None else net.name


def named(ratio: Ratio) -> tuple[str, str]:
    """The two nets, each with its settings that the other has not and that `where` does not tell."""
    net, baseline = (words_of(r.workload, without=_BOTH) for r in (ratio.net, ratio.baseline))
    return (
        _with(ratio.net.workload.model, [part for part in net if part not in baseline]),
        _with(ratio.baseline.workload.model, [part for part in baseline if part not in net]),
    )


def _with(model: str, own: Sequence[str]) -> str:
    return f"{model} with {', '.join(own)}" if own else model


def where(ratio: Ratio, with_precision: bool) -> str:
    """The settings of both sides: 'both 224 px, nhwc' or 'both 224 px; nchw against nhwc'."""
    pairs = list(zip(*(_settings(r, with_precision) for r in ratio[:2]), strict=True))
    same = [a for a, b in pairs if a == b and a]
    different = [f"{a or 'whole'} against {b or 'whole'}" for a, b in pairs if a != b]
    return "; ".join(filter(None, ["both " + ", ".join(same) if same else "", ", ".join(different)]))


def _settings(result: Result, with_precision: bool) -> list[str]:
    """The settings of one side, each in its place; empty where there is nothing to say."""
    resolved, batch = _resolved(result), result.step.batch
    steps = accumulation_steps(result.step, resolved)
    passes = f" as {steps} × {resolved.micro_batch}" if steps > 1 else ""
    if (ranks := result.step.world_size) > 1:
        passes = f" on {ranks} ranks{passes}"
    return [
        f"{resolved.px} px",
        resolved.layout,
        resolved.precision if with_precision else "",
        f"batch {batch}{passes}",
        "composed" if result.composed else "",
    ]


def _resolved(result: Result) -> Resolved:
    assert result.resolved is not None
    return result.resolved


class Of(NamedTuple):
    """A row and the results that it was made of."""

    row: Row
    results: Sequence[Result]


def in_turns(mine: Of, base: Of) -> Ratio | None:
    """The ratio of two rows of steps over the rounds in which they took turns; None where they share no session."""
    if mine.row["kind"] != "step-time":
        return None
    shared = {r.session for r in mine.results} & {r.session for r in base.results} - {None}
    sides = mine.results[-1].step, base.results[-1].step
    if not shared or key(sides[0]) == key(sides[1]):
        return None
    results = [*metrics.undisturbed(mine.results), *metrics.undisturbed(base.results)]
    return paired([r for r in results if r.session in shared], *sides)


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
    published = reported(base.results[-1], mine.results[-1])
    found["reported_ratios"] = "; ".join(f"{r.value:.3g} ({r.source})" for r in published) or None
    return found


def _separate(mine: Of, base: Of) -> tuple[Estimate | None, str]:
    """The ratio of two that were not timed in turns, with Welch's interval over the rounds of each."""
    sound = [
        [r for r in metrics.undisturbed(o.results) if r.status == "ok" and not metrics.voided(r)] for o in (base, mine)
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
        [t for r in o.results if r.status == "ok" and (t := training_metrics.final_top1(r)) is not None]
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
