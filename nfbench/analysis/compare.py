"""Ratios of step times that were measured in turns, and the sentence that says them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nfbench import units
from nfbench.analysis import metrics, stats
from nfbench.analysis.asked import said
from nfbench.analysis.stats import Estimate
from nfbench.records import Machine, Resolved, Result, StepTime, accumulation_steps, key

_SHORTEST, _LONGEST = 1e-12, 1e12
"""Seconds that no clock has shown: such a file was not written by nfbench, and its ratios overflow."""
_WIDE = 1.1
"""How many times a ratio the end of its interval may be for it to say that two nets are about equal."""
_TOLD = ("batch ", "micro batch ", "layout ", "precision ", "world size ")


class Ratio(NamedTuple):
    """How much of the baseline's step ``net`` takes, paired turn by turn within one session.

    ``turns`` count, over ``rounds`` of fresh processes; ``voided`` ones do not, because the GPU was slowed down.
    ``asked`` is how many there were to be, where that is known.
    """

    net: Result
    baseline: Result
    estimate: Estimate
    rounds: int
    voided: int = 0
    turns: int = 0
    asked: int = 0

    @property
    def open(self) -> bool:
        """Whether the interval reaches over 1 so widely that it tells of neither net that it is the faster one."""
        _, low, high = self.estimate
        return low is not None and high is not None and low < 1 < high and high > _WIDE**2 * low

    @property
    def speedup(self) -> Estimate:
        """How many times as long the baseline's step takes: the same ratio the other way up."""
        value, low, high = self.estimate
        return Estimate(1 / value, None if high is None else 1 / high, None if low is None else 1 / low)


def paired(results: Sequence[Result], net: StepTime, baseline: StepTime) -> Ratio | None:
    """The ratio of two workloads over the turns in which both have a rate; None where there is no such turn.

    The effect is the paired log-ratio of the medians, its interval Student's t: over the means of the rounds, or over
    the turns where there is one round only. A turn in which the GPU was slowed down on either side does not count.
    """
    sides = key(net), key(baseline)
    turns: dict[tuple[str | None, int, int], dict[str, Result]] = {}
    for r in results:
        # what did not end well would stand against what did
        if (side := key(r.workload)) in sides and r.status in ("ok", "diverged") and _clocked(metrics.seconds(r)):
            turns.setdefault((r.session, r.round, r.turn), {})[side] = r
    both = {place: pair for place, pair in turns.items() if len(pair) == 2}
    sound = {place: pair for place, pair in both.items() if not any(map(metrics.voided, pair.values()))}
    if not sound:
        return None
    rounds: dict[tuple[str | None, int], list[float]] = {}
    for (session, round, _), pair in sound.items():
        ratio = (metrics.seconds(pair[sides[0]]) or 0) / (metrics.seconds(pair[sides[1]]) or 1)
        rounds.setdefault((session, round), []).append(ratio)
    # turns of one pair of processes share their luck, so that they replicate each other only where nothing else does
    ratios = [stats.mean_of_logs(r).value for r in rounds.values()] if len(rounds) > 1 else next(iter(rounds.values()))
    last = list(sound.values())[-1]
    return Ratio(
        last[sides[0]],
        last[sides[1]],
        stats.mean_of_logs(ratios),
        len(rounds),
        len(both) - len(sound),
        len(sound),
        # turns that end when the ratio is known well enough are not told beforehand
        last[sides[0]].sampling.turns * len({place[:2] for place in turns}) if last[sides[0]].sampling.turns > 1 else 0,
    )


def _clocked(seconds: float | None) -> bool:
    return seconds is not None and _SHORTEST < seconds < _LONGEST


def sentence(ratios: Sequence[Ratio]) -> str:
    """ "On NVIDIA H200, bf16: nf-resnet50 takes 1.12 ± 0.01 of resnet50's step (both 224 px, nhwc)"."""
    first = ratios[0].net
    precision = _only([_resolved(r).precision for ratio in ratios for r in ratio[:2]])
    return on(first.machine, precision, "; ".join(_clause(ratio, precision is None) for ratio in ratios))


def on(machine: Machine, precision: str | None, text: str) -> str:
    """``text`` as a sentence that says on what, and where that is no GPU, that it says nothing about one."""
    head = f"On {_device(machine)}{f', {precision}' if precision else ''}: {text}"
    if machine.device == "cuda":
        return head + "."
    kind = {"cpu": "a CPU", "fake": "a fake device"}[machine.device]
    return f"{head}. This is {kind}: it says nothing about a GPU."


def _clause(ratio: Ratio, with_precision: bool) -> str:
    shown = units.interval(*ratio.estimate)
    net, baseline = named(ratio)
    said = f"{net} takes {shown} of {baseline}'s step ({circumstances(ratio, with_precision)})"
    return f"{said}, which does not tell the faster one" if ratio.open else said


def circumstances(ratio: Ratio, with_precision: bool) -> str:
    """The settings of both sides, and what else is to be known about how the ratio was measured."""
    settings = where(ratio, with_precision)
    if ratio.asked > ratio.turns + ratio.voided:
        settings += f"; {ratio.turns} of {ratio.asked} turns, the others did not end well"
    if (ratio.estimate.half_width or 0) > 0 and ratio.rounds == 1:
        settings += "; ± within this run"
    if ratio.voided:
        settings += f"; {ratio.voided} turn{'s'[: ratio.voided != 1]} left out, the GPU was slowed down"
    return settings


def named(ratio: Ratio) -> tuple[str, str]:
    """The two nets, each with its settings that the other has not and that `where` does not tell."""
    net, baseline = (
        [part for part in said(r.workload) if not part.startswith(_TOLD) and not part.endswith(" px")]
        for r in (ratio.net, ratio.baseline)
    )
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


def _device(machine: Machine) -> str:
    return f"{machine.name} ({machine.mig_profile})" if machine.mig_profile else machine.name


def _resolved(result: Result) -> Resolved:
    assert result.resolved is not None
    return result.resolved


def _only(values: Sequence[str]) -> str | None:
    return values[0] if len(set(values)) == 1 else None
