"""Verdicts on claims: which results give which verdict, in which words, on made records."""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from nfbench.analysis import stats
from nfbench.analysis.claims import BY_CONSTRUCTION, RULES, Figure, Verdict, claims, judge
from nfbench.analysis.stats import Estimate
from nfbench.catalog import published
from nfbench.records import Reading, Resolved, Result, Sampling, StepTime, reading
from nfbench.showing import claim_tables
from nfbench.showing.views import VIEWS
from nfbench.studies.entries import TABLES
from tests.make import CPU, FAKE, H200, accuracy, once, result, step_times

BF16 = Resolved(px=192, micro_batch=32, precision="bf16", layout="nhwc", agc=0.01, agc_impl="fused")
Results = list[Result]
FREE, LOST = (0.76, 0.77) * 2, (None,) * 4
ABOVE, BELOW, BOTH = (1.5, 1.51, 1.49, 1.5), (0.5, 0.51, 0.49, 0.5), (0.9, 1.1, 0.95, 1.05)


def rounds(net: StepTime, baseline: StepTime, *ratios: float, more: tuple[Reading, ...] = (), **fields: Any) -> Results:
    """A turn of two workloads in each round, ``net``'s step taking ``ratios`` of the baseline's 100 ms."""
    return [
        result(
            workload.model,
            workload=workload,
            id=f"{workload.model}-{workload.sam}-{workload.norm}-{number}",
            start=f"2026-01-01T00:00:0{number % 10}.000Z",
            session="s",
            round=number,
            readings=(step_times(*(time,) * 20), *more),
            **({"machine": H200, "resolved": BF16} | fields),
        )
        for number, ratio in enumerate(ratios)
        for workload, time in ((net, 0.1 * ratio), (baseline, 0.1))
    ]


def pair(net: str, baseline: str, *ratios: float, settings: Any = None, **fields: Any) -> Results:
    asked = settings or {}
    return rounds(StepTime(model=net, **asked), StepTime(model=baseline, **asked), *ratios, **fields)


f1, tiny = partial(pair, "efficientnet-b7", "nfnet-f1"), partial(pair, "tiny-efficientnet", "tiny-nfnet")
twins = partial(pair, "bn-nfnet-f0", "nfnet-f0")
COUNTED = (once("macs", 1e10), once("params", 1e8))


def sam(*ratios: float, model: str = "nfnet-f5") -> Results:
    return rounds(StepTime(model=model, sam=0.05), StepTime(model=model), *ratios)


def ranks(*ratios: float, size: int = 2) -> Results:
    """Separate runs on ``size`` devices, as torchrun starts them."""
    asked: dict[str, Any] = {"model": "bn-nfnet-f0", "world_size": size, "batch": 32 * size}
    turns = rounds(StepTime(**asked, norm="sync_batch"), StepTime(**asked), *ratios)
    return [replace(r, session=None, round=0) for r in turns]


def runs(model: str, *top1: float | None, machine: Any = H200, **fields: Any) -> Results:
    """One training run a seed; None is one that diverged."""
    asked = {"batch": 50, "epochs": 3, **fields.get("run", {})}
    made = []
    for seed, value in enumerate(top1):
        id = f"{model}-{seed}-{fields.get('agc', 0.01)}-{asked['batch']}-{asked.get('lr')}"
        end = {"status": "diverged"} if value is None else {}
        given = {"top1": (0.1, 0.1, value or 0.1), "seed": seed, "id": id, "machine": machine}
        made.append(accuracy(model, **{**given, **end, **fields, "run": asked}))
    return made


def spread(top1: float, width: float = 0.01, seeds: int = 4) -> list[float]:
    return [top1 + width * (i - 1.5) for i in range(seeds)]


def large(
    on: tuple[float, ...], off: tuple[float | None, ...], model: str = "nf-resnet50", lam: float = 0.01, **run: Any
) -> Results:
    """Runs with and without AGC."""
    asked = {"batch": 4096, "dataset": "imagenet", "epochs": 90} | run
    without = runs(model, *off, agc=None, run=asked | {"agc": "none"})
    return [*runs(model, *on, agc=lam, run=asked | {"agc": lam}), *without]


def over_batches(
    bn: tuple[float, float], free: tuple[float, float], width: float = 0.01, seeds: int = 4, dataset: str = "imagenet"
) -> Results:
    """Top-1 at batch 32 and at batch 2, of seeds ``width`` apart."""
    return [
        run
        for model, ends, clip in (("resnet50", bn, None), ("nf-resnet50", free, 0.01))
        for batch, top1 in zip((32, 2), ends, strict=True)
        for run in runs(model, *spread(top1, width, seeds), agc=clip, run={"batch": batch, "dataset": dataset})
    ]


def corners(seeds: int = 4, bn_recipe: str = "nfnet") -> Results:
    """A normalizer-free and a BN net with and without AGC: 0.9, 0.8, 0.8 and 0.7."""
    return [
        run
        for model, recipe in (("nf-resnet50", "nfnet"), ("resnet50", bn_recipe))
        for clip in (0.01, None)
        for asked in [{"recipe": recipe, "agc": clip or "none", "dataset": "imagenet"}]
        for top1 in [0.7 + 0.1 * (model == "nf-resnet50") + 0.1 * (clip is not None)]
        for run in runs(model, *spread(top1, 0.001, seeds), agc=clip, run=asked, training={"recipe": recipe})
    ]


def tuned(free: float, bn: float, dataset: str = "cifar10", **run: Any) -> Results:
    asked = {"weights": "published", "dataset": dataset, **run}
    return [*runs("nf-resnet50", *spread(free), run=asked), *runs("resnetv2-50", *spread(bn), agc=None, run=asked)]


def clipping(model: str, *shares: float, batch: int = 32, **fields: Any) -> Results:
    """Steps of 100 ms, of which the clip takes one of ``shares`` in each process."""
    asked = {"workload": StepTime(model=model, batch=batch), "resolved": BF16, "machine": H200}
    return [
        result(model, **{**asked, "id": f"{model}-{share}-{i}", "readings": (step_times(*(0.1,) * 24), clip), **fields})
        for i, share in enumerate(shares)
        for clip in [reading("clip", "s", "step", "test", [0.1 * share] * 24)]
    ]


def peaks(
    twin: tuple[float, ...], free: tuple[float, ...], name: str = "peak_allocated", session: str = "s"
) -> Results:
    """What a twin and its net take in each process, all of one session."""
    return [
        result(
            model,
            machine=H200,
            resolved=BF16,
            session=session,
            round=i,
            id=f"{model}-{name}-{session}-{i}",
            readings=(step_times(0.1), once(name, value, "B")),
        )
        for model, values in (("bn-nfnet-f0", twin), ("nfnet-f0", free))
        for i, value in enumerate(values)
    ]


def having(results: Results, part: str = "", **fields: Any) -> Results:
    """The results with other ``fields``, of their workload or of what was resolved where that is named."""
    made = [{part: replace(getattr(r, part), **fields)} if part else fields for r in results]
    return [replace(r, id=f"{r.id}{part}{list(fields)}", **changes) for r, changes in zip(results, made, strict=True)]


def later(results: Results) -> Results:
    return [replace(r, session="t", start=r.start.replace("2026-01", "2026-02"), id=f"{r.id}t") for r in results]


def swapped(results: Results) -> Results:
    other = dict(zip(names := list(dict.fromkeys(r.workload for r in results)), reversed(names), strict=True))
    return [replace(r, workload=other[r.workload]) for r in results]


def ending_as(results: Results, status: Any) -> Results:
    return [*results[:-1], replace(results[-1], status=status)]


def cut_short() -> Results:
    """Five rounds of two turns, of which the last round has one."""
    first = twins(*ABOVE, 1.5, sampling=Sampling(turns=2))
    return [*first, *(replace(r, turn=1, id=f"{r.id}-1") for r in first if r.round < 4)]


def of(claim: str, results: Results) -> Verdict:
    return next(v for v in judge(results) if v.claim.id == claim)


def words(verdict: Verdict) -> str:
    return " | ".join(
        [verdict.scope, verdict.why, *(f"{f.about}: {f.judged} ({f.conditions})" for f in verdict.figures)]
    )


SIDES: dict[str, tuple[Results, Results, Results]] = {
    "f1-vs-b7": (f1(*ABOVE), f1(*BELOW), f1(*BOTH)),
    "bn-twin-slower": (twins(*ABOVE), twins(*BELOW), twins(*BOTH)),
    "sam-cost": (sam(*ABOVE), sam(2.3, 2.31, 2.29, 2.3), sam(1.9, 2.1, 2.0, 2.0)),
    "agc-large-batch": (
        large(FREE, (None, None, 0.3, None)),
        large(FREE, (0.75, 0.74) * 2),
        large(FREE, (0.6, 0.8) * 2),
    ),
    "bn-small-batch": (
        over_batches((0.8, 0.5), (0.8, 0.79)),
        over_batches((0.8, 0.79), (0.8, 0.5)),
        over_batches((0.8, 0.75), (0.8, 0.78), width=0.1),
    ),
    "better-transfer": (tuned(0.9, 0.8), tuned(0.8, 0.9), tuned(0.85, 0.84)),
}
"""For each claim whose source states a limit, results on the claim's side, on the other, and on both."""
ONLY: dict[str, tuple[Results, Results]] = {
    "bn-memory": (peaks((1.5e9, 1.6e9) * 2, (1e9, 1e9) * 2), peaks((1.5e9,), (1e9,))),
    "bn-distributed": (ranks(1.1, 1.11, 1.09, 1.1), ranks(1.1, 1.11, 1.09)),
    "agc-or-architecture": (corners(), corners(seeds=3)),
    "agc-cheap": (clipping("nfnet-f0", *(0.01, 0.012) * 2), clipping("nfnet-f0", 0.01)),
    "more-flops-equal-time": (f1(*ABOVE, more=COUNTED), f1(*ABOVE[:3], more=COUNTED)),
}
"""For each claim whose source states no limit, enough replicates for an interval, and too few."""
SEEDS = ("agc-large-batch", "bn-small-batch", "agc-or-architecture", "better-transfer")
TINY = ("f1-vs-b7", "bn-twin-slower", "sam-cost", "agc-large-batch", "bn-memory", "agc-cheap", "more-flops-equal-time")


def typed(claim: str, more: str = "") -> str:
    return "again with --norm batch" if claim == "bn-distributed" else f": nfbench run claims --only {claim}{more}"


def again(claim: str, replicates: int) -> str:
    return typed(claim, f" --set seeds={replicates}" if claim in SEEDS else f" --set rounds={replicates} --fresh")


def test_each_claim_of_the_file_is_judged_in_its_order_and_words_by_a_rule_or_by_construction() -> None:
    rows = published.rows("claims.csv")
    assert set(RULES) | set(BY_CONSTRUCTION) == {row["id"] for row in rows} == {*SIDES, *ONLY, *BY_CONSTRUCTION}
    verdicts = judge([])
    assert [(v.claim.id, v.claim.reported) for v in verdicts] == [(row["id"], row["reported"]) for row in rows]
    assert {claim for claim, rule in RULES.items() if rule.limit is None} == set(ONLY)
    constructed = {v.claim.id: (v.figures, v.why) for v in verdicts if v.verdict == "by construction"}
    assert set(constructed) == set(BY_CONSTRUCTION)
    assert constructed["bn-dependence"] == ((), "nfbench models resnet50 --dependence shows it")


@pytest.mark.parametrize("claim", list(SIDES))
def test_an_interval_on_its_side_holds_on_the_other_falls_over_both_or_none_tells_nothing(claim: str) -> None:
    holds, falls, neither = (of(claim, results) for results in SIDES[claim])
    # what is fine-tuned here is not what the source fine-tunes
    full = claim != "better-transfer"
    assert (holds.verdict, holds.why) == ("holds" if full else "agrees here", "")
    assert (falls.verdict, falls.why) == ("does not hold" if full else "disagrees here", "")
    assert all(f.answer and f.rounds >= 4 and f.results for f in holds.figures)
    assert neither.verdict == "cannot tell" and "reaches over what is claimed" in neither.why
    assert neither.why.endswith(again(claim, 8))
    few = of(claim, [r for r in SIDES[claim][0] if max(r.seed, r.round) < 3])
    assert few.verdict == "cannot tell" and all(f.estimate.low is f.answer is None for f in few.figures)
    assert few.why == f"4 {'seeds' if claim in SEEDS else 'rounds'} are needed for an interval{again(claim, 4)}"


@pytest.mark.parametrize("claim", list(ONLY))
def test_a_claim_whose_source_states_no_limit_reports_its_number_and_no_verdict(claim: str) -> None:
    enough, few = (of(claim, results) for results in ONLY[claim])
    assert enough.verdict == few.verdict == "measured only" and enough.why == ""
    assert all(f.estimate.low is not None and f.limit is f.answer is None for f in enough.figures)
    assert all(f.judged.endswith("(the source states no limit)") for f in enough.figures)
    assert all(f.estimate.low is None for f in few.figures) and few.why.endswith(again(claim, 4))


@pytest.mark.parametrize("claim", [*SIDES, *ONLY])
def test_a_claim_that_nothing_was_measured_for_is_not_run_and_says_what_to_type(claim: str) -> None:
    verdict = of(claim, [] if claim == "agc-cheap" else ONLY["agc-cheap"][0])
    assert (verdict.verdict, verdict.figures) == ("not run", ()) and verdict.why.endswith(typed(claim))


HOT = replace(result().conditions, throttle=("hw_thermal_slowdown",))
LESS = [*runs("tiny-nfnet", 0.5, 0.51, 0.52), *runs("tiny-efficientnet", 0.9, 0.91, 0.92, agc=None)]
CLIP = clipping("nfnet-f0", *(0.01, 0.012) * 2)
SLOWER = [*clipping("nfnet-f0", 0.3, resolved=replace(BF16, agc_impl="timm")), *clipping("nfnet-f0", 0.2, batch=16)]
TWINS = peaks((1.3e9,) * 4, (1e9,) * 4)
FEW = having(peaks((5e8,) * 4, (1e9,) * 4), "resolved", micro_batch=4)
PART = "only a part of what was planned: "
CASES: dict[str, list[tuple[Results, str, str]]] = {
    "f1-vs-b7": [
        # what is not the claim's own setting is a scope, with which a figure agrees or disagrees and no more
        (tiny(*ABOVE), "agrees here", "tiny nets | "),
        (tiny(*BELOW), "disagrees here", "tiny nets | "),
        (f1(*ABOVE, settings={"px": 216}), "agrees here", "at 216 px | "),
        (f1(*ABOVE, settings={"batch": 64}), "agrees here", "batch 64 | "),
        (f1(*ABOVE, settings={"batch": 32, "world_size": 2}), "agrees here", "batch 32 | "),
        (f1(*ABOVE, settings={"batch": 64, "world_size": 2}), "holds", " | "),
        (f1(*ABOVE, settings={"px": 192}, machine=FAKE), "agrees here", "at 192 px, a fake device | "),
        (f1(*ABOVE, machine=CPU), "agrees here", "a CPU | "),
        ([*later(tiny(*BELOW)), *f1(*ABOVE)], "holds", " | "),
        # equal accuracy is reported of the real nets, and measured of tiny ones
        (f1(*ABOVE), "holds", "top-1 as reported 84.7 and 84.7 %, not measured here"),
        (tiny(*ABOVE), "agrees here", "their accuracy was not compared"),
        ([*tiny(*ABOVE), *LESS], "cannot tell", "tiny-nfnet is less accurate on digits"),
        # what did not take turns, what the GPU was slowed down in, and a check of code are no evidence
        ([replace(r, session=r.workload.model) for r in f1(*ABOVE)], "not run", ""),
        (having(f1(*ABOVE), conditions=HOT), "not run", ""),
        (having(f1(*ABOVE), side="head"), "not run", ""),
        ([*f1(*ABOVE), *later(f1(*BELOW, settings={"layout": "nchw"}))], "holds", ""),
        (swapped(f1(*ABOVE)), "does not hold", ""),
        # turns of one process are no rounds, however alike they are
        ([replace(r, round=0, turn=r.round) for r in f1(*ABOVE)], "cannot tell", "4 rounds are needed"),
        # twice as many as were measured in vain
        (f1(*(0.9, 1.1) * 8), "cannot tell", " --set rounds=32 --fresh"),
    ],
    "bn-twin-slower": [
        (twins(*ABOVE, settings={"px": 192}), "holds", ""),
        (
            [*twins(*ABOVE), *later(pair("bn-nfnet-f3", "nfnet-f3", *BELOW))],
            "does not hold",
            "speed of nfnet-f3 relative to bn-nfnet-f3: 0.500",
        ),
        # rounds of a study have a session each and are one measurement
        ([replace(r, session=f"s{r.round}", sampling=Sampling(rounds=4)) for r in twins(*ABOVE)], "holds", "4 rounds)"),
        ([*later(twins(*BELOW)), *twins(*ABOVE)], "does not hold", ""),
        ([*twins(*ABOVE), *ending_as(later(twins(*BELOW)), "out_of_memory")], "holds", ""),
        # what did not come to its end decides nothing, and is to be run again
        (ending_as(twins(*ABOVE), "interrupted"), "cannot tell", f"{PART}nfnet-f0 ended as interrupted"),
        (ending_as(twins(*ABOVE), "error"), "cannot tell", f"{PART}nfnet-f0 ended as error{typed('bn-twin-slower')}"),
        (ending_as(twins(*ABOVE), "out_of_memory"), "cannot tell", " --set micro_batch=auto --fresh"),
        (cut_short(), "cannot tell", f"{PART}8 of 10 turns{typed('bn-twin-slower')} --fresh"),
        (
            [result("bn-nfnet-f3", machine=H200, status="out_of_memory", readings=())],
            "not run",
            f"(bn-nfnet-f3 ended as out of memory){typed('bn-twin-slower')} --retry failed",
        ),
    ],
    "sam-cost": [
        (sam(*ABOVE, model="nfnet-f0"), "agrees here", "not nfnet-f5 | "),
        (having(sam(*ABOVE)[::2], "workload", sam_fraction=0.5) + sam(*ABOVE)[1::2], "not run", ""),
    ],
    "agc-large-batch": [
        (large(FREE, LOST), "holds", "top-1 without AGC: 10.0 % exactly (claimed: below 70 %)"),
        (large(FREE, LOST), "holds", "4 of 4 diverged; 4 seeds"),
        (large(FREE, LOST, batch=256), "agrees here", "batch 256 | "),
        (large(FREE, LOST, epochs=10), "agrees here", "10 epochs | "),
        ([*large((0.9, 0.91) * 2, (0.9, 0.91) * 2, batch=256), *large(FREE, LOST)], "holds", ""),
        ([*large(FREE, LOST), *large((0.6, 0.61) * 2, LOST, lam=0.02)], "holds", "λ 0.01: 76.5 ± 0.9 %, best of 2 on"),
        (large(FREE, LOST, batch=64), "not run", ""),
        (large(FREE, LOST, "tiny-nfnet-s"), "not run", ""),
        (large((0.2, 0.21) * 2, LOST, "tiny-nf-resnet-s", epochs=1), "not run", ""),
        (large((0.2, 0.21) * 2, LOST, "tiny-nf-resnet-s", epochs=3), "disagrees here", ""),
        (large(FREE, LOST, "tiny-nf-resnet-s", epochs=1), "agrees here", ""),
    ],
    "bn-small-batch": [
        (over_batches((0.8, 0.5), (0.8, 0.79), dataset="digits"), "agrees here", "digits | "),
        (over_batches((0.6, 0.55), (0.6, 0.58), 0.1, seeds=6), "cannot tell", " --set seeds=12"),
    ],
    "better-transfer": [
        (tuned(0.9, 0.8, "digits"), "agrees here", "digits, not the paper's weights | "),
        ([*tuned(0.9, 0.8), *tuned(0.6, 0.5, lr=0.01)], "agrees here", "λ 0.01: 90 ± 2 %, best of 2 on the same"),
        (swapped(tuned(0.9, 0.8)), "disagrees here", ""),
    ],
    "agc-or-architecture": [(corners(bn_recipe="bn-resnet"), "not run", "")],
    "bn-distributed": [(ranks(*ABOVE, size=1), "not run", "two or more devices")],
    "more-flops-equal-time": [
        (pair("resnet50", "nfnet-f1", *ABOVE, more=(once("macs", 1.0),)), "not run", ""),
    ],
    "agc-cheap": [
        ([*CLIP, *SLOWER], "measured only", "batch 32, 192 px, bf16, by fused; 4 rounds)"),
        (clipping("nfnet-f0", 0.2, batch=8), "not run", ""),
    ],
    "bn-memory": [
        (TWINS, "measured only", "peak memory per image of bn-nfnet-f0 relative to nfnet-f0: 1.30 × exactly"),
        ([*FEW, *TWINS], "measured only", "1.30 × exactly"),
        (FEW, "measured only", "take 16 or more"),
        ([*having(TWINS[:4], "resolved", micro_batch=16), *TWINS[4:]], "not run", ""),
        ([*TWINS, *peaks((), (3e9,), session="by hand")], "measured only", "1.30 × exactly"),
        ([*TWINS[:4], *having(TWINS[4:], "workload", agc_impl="timm")], "not run", ""),
        (peaks((1.5e9,) * 4, (1e9,) * 4, name="saved_bytes"), "measured only", "saved for backward per image of"),
    ],
}
"""For each claim results, the verdict, and what is said with it."""


@pytest.mark.parametrize(
    ("claim", "results", "expected", "part"),
    [pytest.param(claim, *case, id=f"{claim}-{i}") for claim, cases in CASES.items() for i, case in enumerate(cases)],
)
def test_results_have_their_verdict_and_its_words(claim: str, results: Results, expected: str, part: str) -> None:
    verdict = of(claim, results)
    assert verdict.verdict == expected, words(verdict)
    assert part in words(verdict)
    assert bool(verdict.scope) == (expected in ("agrees here", "disagrees here") or "tiny" in words(verdict))


def test_figures_are_those_of_the_rows_over_processes_with_welchs_interval() -> None:
    def unpaired(net: tuple[float, ...], baseline: tuple[float, ...]) -> Any:
        logs = stats.contrast([(1, [math.log(v) for v in net]), (-1, [math.log(v) for v in baseline])])
        return pytest.approx([math.exp(v) for v in logs if v is not None])

    (apart,) = of("bn-distributed", ranks(1.1, 1.2, 1.1, 1.2)).figures
    assert "2 devices, in separate runs; 4 rounds" in apart.conditions
    assert apart.estimate == unpaired((1.1, 1.2, 1.1, 1.2), (1.0,) * 4)
    twin, free = (1.3e9, 1.31e9, 1.32e9, 1.33e9), (1e9, 1.02e9, 1.04e9, 1.06e9)
    # the turns of a process are no replicates, and the order of rows is nothing
    rows = [*peaks(twin, free), *(replace(r, turn=1, id=f"{r.id}-1") for r in peaks(twin, free))]
    for order in (rows, rows[::-1]):
        (figure,) = of("bn-memory", order).figures
        assert (figure.estimate, figure.rounds) == (unpaired(twin, free), 4)
    ema = having(TWINS, "workload", sam=0.05)
    assert len(of("bn-memory", [*TWINS, *ema, *having(ema, "workload", sam_fraction=0.5)]).figures) == 3
    turns = [clipping("nfnet-f0", 0.03 + 0.002 * n, session="s", turn=n, id=f"s{n}")[0] for n in range(4)]
    (share,) = of("agc-cheap", turns).figures
    assert (share.rounds, share.estimate.low) == (1, None)
    others = [r for i in range(3) for r in clipping("nfnet-f0", 0.06, session=f"t{i}", id=f"t{i}")]
    means = [stats.mean_of_logs([0.03 + 0.002 * n for n in range(4)]).value, 0.06, 0.06, 0.06]
    assert of("agc-cheap", [*turns, *others]).figures[0].estimate == pytest.approx(stats.mean_of_logs(means))
    macs, params = of("more-flops-equal-time", f1(*ABOVE, more=COUNTED)).figures
    assert macs.estimate.value == params.estimate.value == pytest.approx(1.5, rel=0.01)


def test_an_interval_that_touches_the_limit_decides_nothing_and_the_side_turns_the_answer() -> None:
    ends = {(1.4, 1.6): True, (0.4, 0.6): False, (0.9, 1.1): None, (1.0, 1.2): None, (None, None): None}
    for (low, high), answer in ends.items():
        above = Figure("a", "b", Estimate(1.0, low, high), "×", (), 4, 1.0)
        assert above.answer is answer
        assert above._replace(doubt="why").answer is above._replace(limit=None).answer is None
        assert above._replace(side="below").answer is (None if answer is None else not answer)


def test_results_of_two_machines_are_never_judged_together() -> None:
    with pytest.raises(ValueError, match="results of 2 machines: NVIDIA H200, A CPU"):
        judge([*f1(*ABOVE), result(machine=CPU)])


def test_the_study_feeds_every_claim_but_the_one_that_needs_two_devices_and_no_command_is_dead_on_a_cpu() -> None:
    study = tomllib.loads((Path(__file__).parent.parent / "benchmarks" / "claims.toml").read_text(encoding="utf-8"))
    fed: dict[str, set[str]] = {"full": set(), "tiny": set()}
    for table in itertools.chain.from_iterable(tables for name, tables in study.items() if name in TABLES):
        fed[table.get("scale", "full")] |= {table["claim"]} if isinstance(table["claim"], str) else set(table["claim"])
    assert fed == {"full": set(RULES) - {"bn-distributed"}, "tiny": set(TINY)}
    why = {v.claim.id: v.why for v in judge([result("resnet50")])}
    for claim in TINY:
        assert why[claim].endswith(typed(claim, " --set scale=tiny"))
    for study_name in ("small-batch", "agc-or-architecture"):
        assert any(f": nfbench run {study_name} --set scale=tiny (" in text for text in why.values())
    assert why["better-transfer"].endswith(": in no study for this device")


def everything(place: int) -> list[Verdict]:
    return [of(claim, sides[place]) for claim, sides in SIDES.items()]


def test_the_summary_counts_each_verdict_and_names_the_device() -> None:
    mixed = [*everything(0), *everything(1), *everything(2)[:3], *(of(claim, r) for claim, (r, _) in ONLY.items())]
    assert claim_tables.summary(mixed) == (
        "On NVIDIA H200: 5 hold, 5 do not hold, 1 agrees here, 1 disagrees here, 3 cannot tell, 5 measured only."
    )
    assert claim_tables.summary(judge([])) == "Nothing was measured: 3 true by construction, 11 not run."
    assert claim_tables.summary(judge([result()])).endswith("11 not run. This is a CPU: it says nothing about a GPU.")


def test_each_figure_has_a_line_and_what_is_reported_never_shares_a_column_with_what_was_measured() -> None:
    keys = [column.key for column in VIEWS["claims"].lay([]).columns]
    assert keys == ["id", "claim", "verdict", "measured", "on", "reported", "who"]
    text = claim_tables.table([*everything(0), *everything(2)], "md")
    cells = [[cell.strip() for cell in line.split(" | ")] for line in text.splitlines()[2:]]
    reported = {claim.reported for claim in claims()} | {"", "–"}
    assert {line[5] for line in cells} <= reported and not {line[3] for line in cells} & (reported - {"", "–"})
    assert "8.7 / 8.81 / 13.1" in text
    for verdict in everything(2):
        assert verdict.why in text and all(f"{f.about}: {f.judged}" in text for f in verdict.figures)
    # what a GPU is reported to do stands beside no other device's figure
    assert (
        claim_tables.reported(of("f1-vs-b7", f1(*ABOVE, machine=CPU)))
        == ""
        != claim_tables.reported(of("f1-vs-b7", f1(*ABOVE)))
    )


def test_csv_and_json_hold_raw_values_one_row_a_figure_and_one_for_a_claim_without() -> None:
    verdicts = [*everything(0)[:1], *judge([])]
    rows = json.loads(claim_tables.table(verdicts, "json"))
    assert len(claim_tables.table(verdicts, "csv").splitlines()) - 1 == len(rows) == 1 + 14
    first, only = rows[0], json.loads(claim_tables.table([of("bn-memory", TWINS)], "json"))[0]
    assert (first["id"], first["verdict"], first["unit"], first["answer"]) == ("f1-vs-b7", "holds", "×", True)
    assert first["low"] < first["value"] < first["high"] and first["limit"] == 1.0 and "why" not in first
    assert only["verdict"] == "measured only" and not {"side", "limit", "answer"} & set(only)
    assert all("why" in row and "value" not in row for row in rows[1:])
