"""Rules for claims that step times decide: ratios of steps that took turns, and the clip's share of a step.

Intervals are over rounds of fresh processes. Only the newest session of each pair of workloads counts, and only turns
in which the GPU was not slowed down. A session that did not come to its end gives way to one that did; where there is
no other it is shown and decides nothing.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from nfbench.analysis import compare, metrics, sessions, stats
from nfbench.analysis.claim import PAPER_BATCH, Evidence, Figure, by_process, failures, norm, scope
from nfbench.analysis.claims_equal import at_equal_accuracy
from nfbench.analysis.compare import Ratio
from nfbench.analysis.rows import choose, family_of
from nfbench.analysis.stats import Estimate
from nfbench.catalog.models import find, normalizer_free
from nfbench.records import Flops, Result, StepTime, key

LEAST_BATCH = 16
"""Below it a clip, which takes its time once an update, is compared with a step that nobody trains with."""
FIFTH = 0.2
FASTER, SECOND_STEP = 1.0, 1.0
"""Limits that the sources state: a ratio of steps, and what an ascent adds as a share of the plain step."""
SAM_NET = "nfnet-f5"
"""The net of which the source reports SAM's cost."""


class Pair(NamedTuple):
    """Two workloads that took turns; ``ratio`` is how much of the baseline's step the net's takes.

    ``doubt`` says what did not end well, after which one side went on without the other or neither did.
    """

    net: StepTime
    baseline: StepTime
    ratio: Ratio
    ids: tuple[str, ...]
    doubt: str = ""

    def figure(
        self, about: str, estimate: Estimate, limit: float | None = None, note: str = "", doubt: str = ""
    ) -> Figure:
        """A ratio that the claim says is above ``limit``."""
        on = [compare.where(self.ratio, True), note, self.doubt]
        return Figure(
            about,
            "; ".join(filter(None, on)),
            estimate,
            "×",
            self.ids,
            self.ratio.rounds,
            limit,
            scope=scope(*self.ratio[:2]),
            doubt="; ".join(filter(None, [self.doubt, doubt])),
        )


def pairs(results: Sequence[Result]) -> list[Pair]:
    """Each two workloads that took turns, both ways round, from the newest measurement of the two."""
    found: dict[tuple[str, str], Pair] = {}
    for rows in sessions.measurements(results):
        workloads = list({key(r.workload): r.step for r in rows}.values())
        for net, baseline in itertools.permutations(workloads, 2):
            ratio = compare.paired(rows, net, baseline)
            if ratio is None or any(r.resolved is None for r in ratio[:2]):
                continue
            keys = key(net), key(baseline)
            both = [r for r in rows if key(r.workload) in keys]
            pair = Pair(net, baseline, ratio, tuple(r.id for r in both), _partial(both, ratio))
            if not pair.doubt or keys not in found or found[keys].doubt:
                found[keys] = pair
    return list(found.values())


def _partial(rows: Sequence[Result], ratio: Ratio) -> str:
    """Why the turns of two workloads are not all that should have been; empty where they are."""
    taken = ratio.turns + ratio.voided
    # one that was stopped between two turns has no row that says so
    fewer = f"{taken} of {ratio.asked} turns" if taken < ratio.asked else ""
    why = failures(rows) or fewer
    return f"only a part of what was planned: {why}" if why else ""


def f1_vs_b7(results: Sequence[Result]) -> Evidence:
    """NFNet-F1 trains faster than EfficientNet-B7: the baseline's step takes over 1 times as long as the net's.

    The pair is nfnet-f1 and efficientnet-b7, or a tiny NFNet and the tiny EfficientNet of its size, with equal settings
    (``px = "train"`` is each net's own). Where they were timed at ``layout = "best"`` only that counts. Equal accuracy
    is the paper's for the real nets; of tiny nets that were trained too, an NFNet that is less accurate beyond doubt
    leaves it open.

    Limit: 1 ×, since the source says "faster".
    """
    found = [p for p in pairs(results) if _like(p.net, p.baseline) and _f1_and_b7(p)]
    best = [p for p in found if p.net.layout == "best"] or found
    figures = []
    for pair in best:
        equal = at_equal_accuracy(results, pair.net.model, pair.baseline.model)
        about = f"{pair.baseline.model}'s step over {pair.net.model}'s"
        figures.append(pair.figure(about, pair.ratio.speedup, FASTER, equal.note, equal.doubt))
    return Evidence(figures, missing("no nfnet-f1 and efficientnet-b7 timed in turns", results))


def bn_twin_slower(results: Sequence[Result]) -> Evidence:
    """The batch-normalized twin of an NFNet is slower: its step takes over 1 times the NFNet's.

    Every NFNet and its twin ``bn-…`` with equal settings count.

    Limit: 1 ×, since the source says "slower". Its 20 to 40 % are what it measured, no limit that a device must reach.
    """
    figures = [
        p.figure(f"{p.net.model}'s step over {p.baseline.model}'s", p.ratio.estimate, FASTER)
        for p in pairs(results)
        if _like(p.net, p.baseline) and twins(p) and family_of(p.baseline.model) in ("nfnet", "tiny")
    ]
    return Evidence(figures, missing("no NFNet and its batch-normalized twin timed in turns", results))


def sam_cost(results: Sequence[Result]) -> Evidence:
    """SAM on a fifth of the batch adds less than a second step: the step with it over that without, less 1, is under 1.

    A pair differs in ``sam`` alone, with ``sam_fraction`` 0.2. The extra time is a share of the plain step. The claim's
    own net is NFNet-F5.

    Limit: 100 %, since the source says "less than a second step" ("20-40 % instead of 100 %").
    """
    figures = []
    for p in pairs(results):
        plain = msgspec.structs.replace(p.net, sam="none", sam_fraction=FIFTH, sam_scope=p.baseline.sam_scope)
        if p.net.sam == "none" or p.net.sam_fraction != FIFTH or plain != p.baseline:
            continue
        extra = Estimate(*(None if v is None else v - 1 for v in p.ratio.estimate))  # type: ignore[arg-type]
        note = f"ρ {p.net.sam:g}, ascent on {FIFTH:.0%} of each {p.net.sam_scope}"
        figure = p.figure(f"what SAM adds to a step of {p.net.model}", extra, SECOND_STEP, note)
        other = f"not {SAM_NET}" if p.net.model != SAM_NET and "tiny" not in figure.scope else ""
        where = ", ".join(filter(None, [other, figure.scope]))
        figures.append(figure._replace(unit="%", side="below", scope=where))
    return Evidence(figures, missing("no net timed in turns with and without SAM on a fifth of the batch", results))


def agc_cheap(results: Sequence[Result]) -> Evidence:
    """AGC adds little to a step: the clip's share of it.

    Counted for each normalizer-free net with the clip on, at the measured batch, of 16 or more, that is nearest the
    paper's 32, and by the quickest implementation there: the median over steps of clip / step. The interval is
    Student's t over processes, each with the mean of its turns.

    Limit: none, since no source says how much is little.
    """
    groups: dict[str, list[tuple[float, float, Figure]]] = {}
    for group in choose(r for r in results if _clips(r)).groups:
        if (figure := _clip_share(group)) is not None:
            batch = group[-1].step.batch
            distance = abs(math.log2(batch / PAPER_BATCH))
            groups.setdefault(group[-1].workload.model, []).append((distance, figure.measured.value, figure))
    figures = [min(found, key=lambda one: one[:2])[2] for found in groups.values()]
    return Evidence(
        figures, missing(f"no step of a net that AGC clips, with its phases, at batch {LEAST_BATCH} or more", results)
    )


def more_flops_equal_time(results: Sequence[Result]) -> Evidence:
    """NFNets need more FLOPs and parameters for the same training time: MACs, and parameters, over the step time, of
    an NFNet over those of a net of another architecture at equal accuracy.

    Pairs are an NFNet and a batch-normalized net that is not its twin, timed in turns with equal settings, whose
    reported top-1 is within half a point, or tiny ones. MACs are of one image at the px in training, counted.

    Limit: none, since the source names neither nets nor a figure.
    """
    figures = []
    for p in pairs(results):
        if not (_like(p.net, p.baseline) and _rivals(p)):
            continue
        equal = at_equal_accuracy(results, p.net.model, p.baseline.model)
        if not equal.reported and family_of(p.net.model) != "tiny":
            continue
        for name, word in (("macs", "MACs"), ("params", "parameters")):
            mine, its = (_count(results, r, name) for r in p.ratio[:2])
            if not mine or not its:
                continue
            more = Estimate(*(None if v is None else v * mine / its for v in p.ratio.speedup))  # type: ignore[arg-type]
            about = f"{word} for the same step time, {p.net.model} over {p.baseline.model}"
            note = "; ".join(filter(None, [f"{word} {mine / its:.3g} ×", equal.note]))
            figures.append(p.figure(about, more, note=note, doubt=equal.doubt))
    return Evidence(figures, missing("no NFNet timed in turns with an equally accurate net of another family", results))


def _like(net: StepTime, baseline: StepTime) -> bool:
    """Whether two workloads differ in the net alone, each with its own normalization."""
    return net.norm in ("auto", "batch") and msgspec.structs.replace(net, model=baseline.model) == baseline


def _f1_and_b7(pair: Pair) -> bool:
    net, baseline = pair.net.model, pair.baseline.model
    tiny = net.startswith("tiny-nfnet") and baseline == net.replace("nfnet", "efficientnet")
    return tiny or (net, baseline) == ("nfnet-f1", "efficientnet-b7")


def twins(pair: Pair) -> bool:
    """Whether the pair is a twin and, as its baseline, the normalizer-free net that it is one of."""
    own = normalizer_free(pair.net.model)
    return own is not None and own.name == pair.baseline.model and find(pair.net.model).twin_of is not None


def _rivals(pair: Pair) -> bool:
    net, baseline = pair.net.model, pair.baseline.model
    nfnet = family_of(net) == "nfnet" or net.startswith("tiny-nfnet")
    return nfnet and norm(baseline) == "batch" and find(baseline).twin_of is None


def _clips(result: Result) -> bool:
    workload = result.workload
    return (
        isinstance(workload, StepTime)
        and workload.batch >= LEAST_BATCH
        and (result.resolved is not None and result.resolved.agc is not None)
        and (norm(workload.model) == "none" and workload.sam == "none" and workload.ema == "none")
        and not metrics.voided(result)
        and metrics.seconds(result) is not None
        and metrics.phase_time(result, "clip") is not None
    )


def _clip_share(group: Sequence[Result]) -> Figure | None:
    last = group[-1]
    assert last.resolved is not None
    shares = by_process(group, _share)
    if not shares:
        return None
    on = f"batch {last.step.batch}, {last.resolved.px} px, {last.resolved.precision}, by {last.resolved.agc_impl}"
    about, ids = f"the clip's share of {last.workload.model}'s step", tuple(r.id for r in group)
    return Figure(about, on, stats.mean_of_logs(shares), "%", ids, len(shares), scope=scope(*group))


def _share(result: Result) -> float | None:
    """The clip's share of one run's steps."""
    clip, step = result.reading("clip"), result.reading("step_time")
    if clip is not None and step is not None and not result.composed and len(clip.values) == len(step.values):
        return statistics.median([c / s for c, s in zip(clip.values, step.values, strict=True) if c is not None and s])
    whole, part = metrics.seconds(result), metrics.phase_time(result, "clip")
    return part / whole if whole and part is not None else None


def _count(results: Sequence[Result], result: Result, name: str) -> float | None:
    """MACs or parameters of a result's net at its px: its own, or those counted by `flops`."""
    if (value := result.value(name)) is not None:
        return value
    assert result.resolved is not None
    counted: Iterator[float | None] = (
        r.value(name)
        for r in results
        if isinstance(r.workload, Flops) and r.workload.model == result.workload.model
        if r.resolved is not None and r.resolved.px == result.resolved.px
    )
    return next(counted, None)


def missing(text: str, results: Sequence[Result]) -> str:
    """``text`` on this device, with the steps that failed."""
    failed = failures(r for r in results if isinstance(r.workload, StepTime))
    return f"{text} on this device{f' ({failed})' if failed else ''}"
