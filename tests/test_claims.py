"""Verdicts on claims: what decides each, on made records."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nfbench.analysis import stats
from nfbench.analysis.claim import Figure, Verdict
from nfbench.analysis.claims import BY_CONSTRUCTION, RULES, TINY, claims, judge
from nfbench.analysis.stats import LEAST_ROUNDS, Estimate
from nfbench.catalog import published
from nfbench.records import Reading, Resolved, Result, Sampling, StepTime, reading
from nfbench.showing import claims as show
from nfbench.studies.entries import TABLES
from tests.make import CPU, FAKE, H200, accuracy, once, result, step_times

BF16 = Resolved(px=192, micro_batch=32, precision="bf16", layout="nhwc", agc=0.01, agc_impl="fused")
Results = list[Result]


def rounds(
    net: StepTime, baseline: StepTime, ratios: tuple[float, ...], *, more: tuple[Reading, ...] = (), **fields: Any
) -> Results:
    """A turn of two workloads in each round, ``net``'s step taking ``ratios`` of the baseline's 100 ms."""
    found = []
    for round, ratio in enumerate(ratios):
        for side, workload in enumerate((net, baseline)):
            time = 0.1 * (ratio if side == 0 else 1.0)
            found.append(
                result(
                    workload.model,
                    workload=workload,
                    id=f"{workload.model}-{workload.sam}-{round}",
                    start=f"2026-01-01T00:00:0{round % 10}.000Z",
                    resolved=BF16,
                    session="s",
                    round=round,
                    readings=(step_times(*(time,) * 20), *more),
                    **({"machine": H200} | fields),
                )
            )
    return found


def pair(net: str, baseline: str, *ratios: float, **fields: Any) -> Results:
    return rounds(StepTime(model=net), StepTime(model=baseline), ratios, **fields)


def runs(model: str, *top1: float | None, machine: Any = H200, **fields: Any) -> Results:
    """One run a seed; None is one that diverged."""
    found = []
    for seed, value in enumerate(top1):
        asked = {"batch": 50, "epochs": 3, **fields.get("run", {})}
        clip = fields.get("agc", 0.01)
        id = f"{model}-{seed}-{clip}-{asked['batch']}"
        end = {"status": "diverged"} if value is None else {}
        given = {"top1": (0.1, 0.1, value or 0.1), "seed": seed, "id": id, "machine": machine}
        found.append(accuracy(model, **{**given, **end, **fields, "run": asked}))
    return found


def of(claim: str, results: Results) -> Verdict:
    return next(v for v in judge(results) if v.claim.id == claim)


def clipping(model: str, *shares: float, batch: int = 32, **fields: Any) -> Results:
    """Steps of 100 ms, of which the clip takes one of ``shares`` in each process."""
    asked = {"workload": StepTime(model=model, batch=batch), "resolved": BF16, "machine": H200}
    return [
        result(model, **{**asked, "id": f"{model}-{share}-{i}", "readings": (step_times(*(0.1,) * 24), clip), **fields})
        for i, share in enumerate(shares)
        for clip in [reading("clip", "s", "step", "test", [0.1 * share] * 24)]
    ]


def counted(*values: tuple[float, float], machine: Any = H200, name: str = "saved_bytes") -> Results:
    """What a twin and its net take, a pair of processes each."""
    return [
        result(model, machine=machine, id=f"{model}-{i}", readings=(step_times(0.1), once(name, value, "B")))
        for i, pair in enumerate(values)
        for model, value in zip(("bn-nfnet-f0", "nfnet-f0"), pair, strict=True)
    ]


def large(*pairs: tuple[float | None, float | None], batch: int = 4096, epochs: int = 90) -> Results:
    """Runs with and without AGC, a pair a seed."""
    on, off = zip(*pairs, strict=True)
    asked = {"batch": batch, "dataset": "imagenet", "epochs": epochs}
    with_agc = runs("nf-resnet50", *on, run=asked | {"agc": 0.01})
    return [*with_agc, *runs("nf-resnet50", *off, agc=None, run=asked | {"agc": "none"})]


def over_batches(
    bn: tuple[float, float], free: tuple[float, float], spread: float = 0.01, seeds: int = 4, dataset: str = "imagenet"
) -> Results:
    """Top-1 at batch 32 and at batch 2, of seeds ``spread`` apart."""
    found = []
    for model, ends, clip in (("resnet50", bn, None), ("nf-resnet50", free, 0.01)):
        for batch, top1 in zip((32, 2), ends, strict=True):
            tops = [top1 + spread * (i - 1.5) for i in range(seeds)]
            found += runs(model, *tops, agc=clip, run={"batch": batch, "dataset": dataset})
    return found


def corners(both: float, new: float, old_agc: float, old: float, seeds: int = 4, spread: float = 0.001) -> Results:
    found = []
    for model, clip, top1 in (
        ("nf-resnet50", 0.01, both),
        ("nf-resnet50", None, new),
        ("resnet50", 0.01, old_agc),
        ("resnet50", None, old),
    ):
        asked = {"recipe": "nfnet", "agc": "none" if clip is None else clip, "dataset": "imagenet"}
        found += runs(model, *(top1 + spread * (i - 1.5) for i in range(seeds)), agc=clip, run=asked)
    return found


def tuned(free: float, bn: float, spread: float = 0.01) -> Results:
    asked = {"weights": "published", "dataset": "cifar10"}
    seeds = [spread * (i - 1.5) for i in range(4)]
    mine = runs("nf-resnet50", *(free + s for s in seeds), run=asked)
    return [*mine, *runs("resnetv2-50", *(bn + s for s in seeds), agc=None, run=asked)]


def ranks(*ratios: float) -> Results:
    two = {"model": "bn-nfnet-f0", "world_size": 2, "batch": 64}
    return rounds(StepTime(**two, norm="sync_batch"), StepTime(**two), ratios)


def sam(*ratios: float, model: str = "nfnet-f5") -> Results:
    return rounds(StepTime(model=model, sam=0.05), StepTime(model=model), ratios)


def rivals(*ratios: float) -> Results:
    return pair("nfnet-f1", "efficientnet-b7", *ratios, more=(once("macs", 1e10), once("params", 1e8)))


def typed(claim: str) -> str:
    """What is to be typed for more on a claim."""
    if claim == "bn-distributed":
        return "nfbench step-time --model bn-nfnet-f0 --norm sync_batch, and again with --norm batch"
    return f": nfbench run claims --only {claim}"


ACCURACY = ("agc-large-batch", "bn-small-batch", "agc-or-architecture", "better-transfer")


def typed_again(claim: str, replicates: int) -> str:
    """What is to be typed for more of what was measured and decides nothing."""
    if claim == "bn-distributed":
        return typed(claim)
    return f"{typed(claim)} --set {'seeds' if claim in ACCURACY else 'rounds'}={replicates}{FRESH[claim in ACCURACY]}"


FRESH = (" --fresh", "")

CASES: dict[str, tuple[Results, Results, Results]] = {
    "f1-vs-b7": (
        pair("nfnet-f1", "efficientnet-b7", 0.5, 0.51, 0.49, 0.5),
        pair("nfnet-f1", "efficientnet-b7", 2.0, 2.01, 1.99, 2.0),
        pair("nfnet-f1", "efficientnet-b7", 0.9, 1.1, 0.95, 1.05),
    ),
    "bn-twin-slower": (
        pair("bn-nfnet-f0", "nfnet-f0", 1.5, 1.51, 1.49, 1.5),
        pair("bn-nfnet-f0", "nfnet-f0", 0.8, 0.81, 0.79, 0.8),
        pair("bn-nfnet-f0", "nfnet-f0", 0.9, 1.1, 0.95, 1.05),
    ),
    "sam-cost": (sam(1.3, 1.31, 1.29, 1.3), sam(2.3, 2.31, 2.29, 2.3), sam(1.9, 2.1, 2.0, 2.0)),
    "agc-large-batch": (
        large((0.76, None), (0.77, None), (0.76, 0.3), (0.77, None)),
        large((0.76, 0.75), (0.77, 0.74), (0.76, 0.75), (0.77, 0.74)),
        large((0.76, 0.6), (0.77, 0.8), (0.76, 0.6), (0.77, 0.8)),
    ),
    "bn-small-batch": (
        over_batches((0.8, 0.5), (0.8, 0.79)),
        over_batches((0.8, 0.79), (0.8, 0.5)),
        over_batches((0.8, 0.75), (0.8, 0.78), spread=0.1),
    ),
    "better-transfer": (tuned(0.9, 0.8), tuned(0.8, 0.9), tuned(0.85, 0.84)),
}
"""For each claim whose source states a limit, results on the claim's side, on the other, and on both."""
SCOPED = {"better-transfer": "cifar10"}
"""Claims that no result is full evidence of."""

ONLY: dict[str, tuple[Results, Results]] = {
    "bn-memory": (counted(*[(1.5e9, 1e9), (1.6e9, 1e9)] * 2), counted((1.5e9, 1e9))),
    "bn-distributed": (ranks(1.1, 1.11, 1.09, 1.1), ranks(1.1, 1.11, 1.09)),
    "agc-or-architecture": (corners(0.9, 0.8, 0.8, 0.7), corners(0.9, 0.8, 0.8, 0.7, seeds=3)),
    "agc-cheap": (clipping("nfnet-f0", 0.01, 0.012, 0.01, 0.012), clipping("nfnet-f0", 0.01)),
    "more-flops-equal-time": (rivals(0.5, 0.51, 0.49, 0.5), rivals(0.5, 0.51, 0.49)),
}
"""For each claim whose source states no limit, enough replicates for an interval, and too few."""
MEASURED = {claim: cases[0] for claim, cases in {**CASES, **ONLY}.items()}


def test_every_claim_of_the_file_has_a_rule_and_no_rule_is_of_no_claim() -> None:
    assert set(RULES) == set(CASES) | set(ONLY)
    assert {row["id"] for row in published.rows("claims.csv")} == set(RULES) | set(BY_CONSTRUCTION)
    assert not set(RULES) & set(BY_CONSTRUCTION)


def test_verdicts_come_in_the_order_of_the_file_with_its_own_words() -> None:
    verdicts = judge([])
    assert [v.claim.id for v in verdicts] == [row["id"] for row in published.rows("claims.csv")]
    assert [v.claim.reported for v in verdicts] == [row["reported"] for row in published.rows("claims.csv")]


def test_a_claim_without_a_rule_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULES, "agc-cheap")
    with pytest.raises(KeyError, match="agc-cheap"):
        judge([])


def test_every_rule_says_what_decides_it_and_where_its_limit_comes_from() -> None:
    for claim, rule in RULES.items():
        assert rule.__doc__ and len(rule.__doc__) > 150, claim
        limit = rule.__doc__.partition("Limit: ")[2]
        assert limit.startswith("none, since") == (claim in ONLY) and (
            " source " in limit or "Figure 2a" in limit or claim in ONLY
        )


@pytest.mark.parametrize("claim", list(CASES))
def test_a_claim_holds_where_every_interval_is_on_its_side(claim: str) -> None:
    found = of(claim, CASES[claim][0])
    assert (found.verdict, found.why) == ("agrees here" if claim in SCOPED else "holds", "")
    assert SCOPED.get(claim, "") in found.scope and bool(found.scope) == (claim in SCOPED)
    assert all(f.answer and f.rounds >= LEAST_ROUNDS for f in found.figures if f.decides)
    assert found.results and set(found.results) <= {r.id for r in CASES[claim][0]}


@pytest.mark.parametrize("claim", list(CASES))
def test_a_claim_does_not_hold_where_an_interval_is_wholly_on_the_other_side(claim: str) -> None:
    found = of(claim, CASES[claim][1])
    assert (found.verdict, found.why) == ("disagrees here" if claim in SCOPED else "does not hold", "")


@pytest.mark.parametrize("claim", list(CASES))
def test_a_claim_cannot_be_told_where_the_interval_reaches_over_and_says_what_to_type(claim: str) -> None:
    found = of(claim, CASES[claim][2])
    assert found.verdict == "cannot tell"
    assert found.figures and found.measured
    assert "the interval reaches over" in found.why and found.why.endswith(typed_again(claim, 8))
    assert "--max-time" not in found.why and "--micro-batch" not in found.why


def fewer(claim: str, replicates: int) -> Results:
    return [r for r in CASES[claim][0] if (r.seed if claim in ACCURACY else r.round) < replicates]


@pytest.mark.parametrize("replicates", [1, 2, 3])
@pytest.mark.parametrize("claim", list(CASES))
def test_fewer_than_four_rounds_or_seeds_give_no_interval_and_no_verdict(claim: str, replicates: int) -> None:
    found = of(claim, fewer(claim, replicates))
    assert found.verdict == "cannot tell"
    assert all(f.estimate.low is f.estimate.high is f.answer is None for f in found.figures)
    assert "±" not in found.measured
    assert f"4 {'seeds' if claim in ACCURACY else 'rounds'} are needed for an interval" in found.why
    assert found.why.endswith(typed_again(claim, 4))


def in_turns(results: Results) -> Results:
    """The same rounds as turns of one process on either side."""
    return [msgspec.structs.replace(r, round=0, turn=r.round) for r in results]


@pytest.mark.parametrize("claim", ["f1-vs-b7", "bn-twin-slower", "sam-cost"])
def test_turns_of_one_process_give_no_verdict_however_alike_they_are(claim: str) -> None:
    found = of(claim, in_turns(CASES[claim][0]))
    assert found.verdict == "cannot tell" and "±" not in found.measured
    assert "4 rounds are needed for an interval: " in found.why


@pytest.mark.parametrize("claim", list(ONLY))
def test_a_claim_whose_source_states_no_limit_reports_its_number_and_no_verdict(claim: str) -> None:
    enough, few = (of(claim, results) for results in ONLY[claim])
    assert enough.verdict == few.verdict == "measured only"
    assert enough.why == "" and all(f.estimate.low is not None for f in enough.figures)
    for figure in (*enough.figures, *few.figures):
        assert figure.limit is figure.answer is None
        assert figure.judged == f"{figure.shown} (the source states no limit)"
    assert all(f.estimate.low is None for f in few.figures)
    assert "are needed for an interval" in few.why and few.why.endswith(typed_again(claim, 4))


def test_what_is_true_by_construction_is_no_measurement_and_names_what_shows_it() -> None:
    for results in ([], [result("resnet50")], MEASURED["f1-vs-b7"]):
        found = {v.claim.id: (v.verdict, v.figures, v.why) for v in judge(results)}
        assert {claim for claim, (word, _, _) in found.items() if word == "by construction"} == set(BY_CONSTRUCTION)
        assert found["bn-dependence"] == ("by construction", (), "nfbench models resnet50 --dependence shows it")


SCOPES: list[tuple[str, Any, str]] = [
    ("tiny nets", lambda *r: pair("tiny-nfnet", "tiny-efficientnet", *r), "tiny nets"),
    ("another px", lambda *r: at(r, px=64), "at 64 px"),
    ("almost the px", lambda *r: at(r, px=216), "at 216 px"),
    ("another batch", lambda *r: at(r, batch=64), "batch 64"),
    ("another batch a device", lambda *r: at(r, world_size=2), "batch 32"),
    ("a CPU", lambda *r: pair("nfnet-f1", "efficientnet-b7", *r, machine=CPU), "a CPU"),
    ("the fake device", lambda *r: pair("nfnet-f1", "efficientnet-b7", *r, machine=FAKE), "a fake device"),
]


def at(ratios: tuple[float, ...], **settings: Any) -> Results:
    nets = (StepTime(model=model, **settings) for model in ("nfnet-f1", "efficientnet-b7"))
    return rounds(*nets, ratios)


@pytest.mark.parametrize(("made", "scope"), [pytest.param(made, text, id=name) for name, made, text in SCOPES])
def test_a_figure_with_a_scope_agrees_or_disagrees_here_and_no_more(made: Any, scope: str) -> None:
    agrees, disagrees = of("f1-vs-b7", made(0.5, 0.51, 0.49, 0.5)), of("f1-vs-b7", made(2.0, 2.01, 1.99, 2.0))
    assert (agrees.verdict, disagrees.verdict) == ("agrees here", "disagrees here")
    assert scope in agrees.scope.split(", ") and scope in disagrees.scope.split(", ")
    assert of("f1-vs-b7", made(0.9, 1.1, 0.95, 1.05)).verdict == "cannot tell"
    assert of("f1-vs-b7", made(0.5, 0.51, 0.49)).verdict == "cannot tell"


@pytest.mark.parametrize("settings", [{"px": "train"}, {"world_size": 2, "batch": 64}])
def test_the_claims_own_px_and_batch_a_device_are_no_scope(settings: dict[str, Any]) -> None:
    assert of("f1-vs-b7", at((0.5, 0.51, 0.49, 0.5), **settings)).verdict == "holds"


def test_the_px_that_a_net_trains_at_is_no_scope_when_it_is_typed() -> None:
    own = [StepTime(model=model, px=192) for model in ("bn-nfnet-f0", "nfnet-f0")]
    assert of("bn-twin-slower", rounds(*own, (1.5, 1.51, 1.49, 1.5))).verdict == "holds"


def test_the_cost_of_sam_is_claimed_of_one_net() -> None:
    other = of("sam-cost", sam(1.3, 1.31, 1.29, 1.3, model="nfnet-f0"))
    assert (other.verdict, other.scope) == ("agrees here", "not nfnet-f5")


@pytest.mark.parametrize(
    ("results", "scope"),
    [
        (large(*[(0.76, None), (0.77, None)] * 2, batch=256), "batch 256"),
        (large(*[(0.76, None), (0.77, None)] * 2, epochs=10), "10 epochs"),
        ([msgspec.structs.replace(r, machine=CPU) for r in CASES["agc-large-batch"][0]], "a CPU"),
        (over_batches((0.8, 0.5), (0.8, 0.79), dataset="cifar10"), "cifar10"),
    ],
)
def test_training_on_other_data_or_another_device_is_a_scope(results: Results, scope: str) -> None:
    claim = "agc-large-batch" if results[0].run.batch >= 256 else "bn-small-batch"
    assert (of(claim, results).verdict, of(claim, results).scope) == ("agrees here", scope)


def test_more_is_asked_for_than_was_measured_so_that_it_is_not_done_already() -> None:
    assert of("f1-vs-b7", pair("nfnet-f1", "efficientnet-b7", *(0.9, 1.1) * 8)).why.endswith(" --set rounds=32 --fresh")
    runs_ = over_batches((0.8, 0.75), (0.8, 0.78), spread=0.1, seeds=6)
    assert of("bn-small-batch", runs_).why.endswith(" --set seeds=12")


def test_what_was_only_a_part_of_its_session_is_to_be_run_again() -> None:
    assert of("bn-twin-slower", cut_short()).why.endswith("--only bn-twin-slower --fresh")


def test_passes_of_many_images_go_before_passes_of_few() -> None:
    few = msgspec.structs.replace(BF16, micro_batch=4)
    small = [msgspec.structs.replace(r, resolved=few, id=f"few-{r.id}") for r in counted((0.5e9, 1e9))]
    (figure,) = of("bn-memory", [*small, *counted((1.5e9, 1e9))]).figures
    assert figure.estimate.value == pytest.approx(1.5)


def test_on_a_cpu_no_command_is_dead() -> None:
    found = {v.claim.id: v.why for v in judge([result("resnet50")])}
    assert found["better-transfer"].endswith(": in no study for this device")
    for claim, study in (("bn-small-batch", "small-batch"), ("agc-or-architecture", "agc-or-architecture")):
        assert f": nfbench run {study} --set scale=tiny (" in found[claim]
    failed = result("nfnet-f0", status="out_of_memory", readings=())
    assert of("bn-twin-slower", [failed]).why.endswith(" --set scale=tiny --retry failed")


def test_only_normalizer_free_resnets_that_trained_long_enough_tell_of_a_collapse() -> None:
    def tried(model: str, on: float, epochs: int) -> Verdict:
        asked = {"batch": 256, "epochs": epochs}
        with_agc = runs(model, *(on, on + 0.01) * 2, run=asked | {"agc": 0.01})
        return of("agc-large-batch", [*with_agc, *runs(model, *(0.1, 0.11) * 2, agc=None, run=asked | {"agc": "none"})])

    assert tried("tiny-nfnet-s", 0.9, 3).verdict == "not run"
    assert tried("tiny-nf-resnet-s", 0.2, 1).verdict == "not run"
    assert tried("tiny-nf-resnet-s", 0.2, 3).verdict == "disagrees here"
    assert tried("tiny-nf-resnet-s", 0.9, 1).verdict == "agrees here"


@pytest.mark.parametrize("claim", list(MEASURED))
def test_a_claim_that_nothing_was_measured_for_is_not_run_and_says_what_to_type(claim: str) -> None:
    others = [] if claim == "bn-memory" else MEASURED["bn-memory"]
    found = of(claim, others)
    assert (found.verdict, found.figures, found.measured) == ("not run", (), "")
    assert found.why.endswith(typed(claim))


def test_results_of_two_machines_are_never_judged_together() -> None:
    with pytest.raises(ValueError, match="results of 2 machines: NVIDIA H200, A CPU"):
        judge([*CASES["f1-vs-b7"][0], result(machine=CPU)])


@pytest.mark.parametrize("claim", ["f1-vs-b7", "bn-twin-slower", "better-transfer"])
def test_swapped_sides_swap_the_verdict(claim: str) -> None:
    def swapped(results: Results) -> Results:
        other = dict(zip(names := list(dict.fromkeys(r.workload for r in results)), reversed(names), strict=True))
        return [msgspec.structs.replace(r, workload=other[r.workload]) for r in results]

    holds, falls, _ = CASES[claim]
    assert of(claim, swapped(holds)).verdict == of(claim, falls).verdict
    assert of(claim, swapped(falls)).verdict == of(claim, holds).verdict


def test_one_contradicting_pair_brings_a_general_claim_down() -> None:
    slower, quicker = CASES["bn-twin-slower"][0], pair("bn-nfnet-f3", "nfnet-f3", 0.9, 0.91, 0.89, 0.9)
    found = of("bn-twin-slower", [*slower, *(msgspec.structs.replace(r, session="t") for r in quicker)])
    assert found.verdict == "does not hold"
    assert [f.answer for f in found.figures] == [True, False]


def test_steps_of_two_sessions_are_no_pair() -> None:
    apart = [msgspec.structs.replace(r, session=r.workload.model) for r in CASES["f1-vs-b7"][0]]
    assert of("f1-vs-b7", apart).verdict == "not run"


def test_the_newest_session_of_a_pair_counts() -> None:
    old = CASES["bn-twin-slower"][0]
    new = [
        msgspec.structs.replace(r, session="t", start=r.start.replace("2026", "2027"))
        for r in CASES["bn-twin-slower"][1]
    ]
    assert of("bn-twin-slower", [*new, *old]).verdict == "does not hold"


@pytest.mark.parametrize("status", ["out_of_memory", "interrupted", "error"])
def test_a_session_of_which_a_side_did_not_end_well_decides_nothing_and_says_why(status: Any) -> None:
    whole = CASES["bn-twin-slower"][0]
    partial = [*whole[:-1], msgspec.structs.replace(whole[-1], status=status)]
    found = of("bn-twin-slower", partial)
    assert found.verdict == "cannot tell"
    said = f"only a part of what was planned: nfnet-f0 ended as {status.replace('_', ' ')}"
    assert said in found.why and said in found.measured
    cut = [*CASES["sam-cost"][0][:-1], msgspec.structs.replace(CASES["sam-cost"][0][-1], status=status)]
    assert of("sam-cost", cut).verdict == "cannot tell"


def cut_short() -> Results:
    """Five rounds of two turns, of which the last round has one."""
    asked = msgspec.structs.replace(result().sampling, turns=2)
    first = pair("bn-nfnet-f0", "nfnet-f0", 1.5, 1.51, 1.49, 1.5, 1.5, sampling=asked)
    return [*first, *(msgspec.structs.replace(r, turn=1, id=f"{r.id}-1") for r in first if r.round < 4)]


def test_a_session_that_ended_between_two_turns_says_how_many_it_had() -> None:
    # turns of a round that is not whole count or not
    assert re.search("only a part of what was planned: [89] of 10 turns", of("bn-twin-slower", cut_short()).why)


def test_a_session_that_did_not_end_well_gives_way_to_an_older_one_that_did() -> None:
    old = CASES["bn-twin-slower"][0]
    late = [
        msgspec.structs.replace(r, session="t", start=r.start.replace("2026", "2027"))
        for r in CASES["bn-twin-slower"][1]
    ]
    late[-1] = msgspec.structs.replace(late[-1], status="out_of_memory")
    assert of("bn-twin-slower", [*old, *late]).verdict == "holds"


def test_the_sides_of_a_check_are_no_evidence() -> None:
    assert of("f1-vs-b7", [msgspec.structs.replace(r, side="head") for r in CASES["f1-vs-b7"][0]]).verdict == "not run"


def test_turns_in_which_the_gpu_was_slowed_down_do_not_count() -> None:
    hot = msgspec.structs.replace(result().conditions, throttle=("hw_thermal_slowdown",))
    slowed = [msgspec.structs.replace(r, conditions=hot) for r in CASES["f1-vs-b7"][0]]
    assert of("f1-vs-b7", slowed).verdict == "not run"


def test_full_size_nets_go_before_tiny_ones() -> None:
    tiny = pair("tiny-nfnet", "tiny-efficientnet", 2.0, 2.01, 1.99, 2.0)
    found = of("f1-vs-b7", tiny)
    assert (found.verdict, found.scope) == ("disagrees here", "tiny nets")
    found = of("f1-vs-b7", [*(msgspec.structs.replace(r, session="t") for r in tiny), *CASES["f1-vs-b7"][0]])
    assert (found.verdict, found.scope) == ("holds", "")


def test_runs_of_tiny_nets_on_small_data_say_so() -> None:
    found = of(
        "better-transfer",
        [
            msgspec.structs.replace(r, workload=msgspec.structs.replace(r.run, dataset="digits"))
            for r in tuned(0.9, 0.8)
        ],
    )
    assert found.scope == "not the paper's weights, digits"


def test_a_tiny_nfnet_that_is_less_accurate_does_not_show_that_it_is_as_quick_at_equal_accuracy() -> None:
    steps = pair("tiny-nfnet", "tiny-efficientnet", 0.5, 0.51, 0.49, 0.5)
    less = [*runs("tiny-nfnet", 0.5, 0.51, 0.52), *runs("tiny-efficientnet", 0.9, 0.91, 0.92, agc=None)]
    found = of("f1-vs-b7", [*steps, *less])
    assert found.verdict == "cannot tell"
    assert "tiny-nfnet is less accurate on digits (51" in found.why and "nfbench run" not in found.why
    assert "their accuracy was not compared" in of("f1-vs-b7", steps).measured


def test_the_clip_is_judged_at_the_batch_nearest_the_papers_and_by_the_quickest_implementation() -> None:
    slow = msgspec.structs.replace(BF16, agc_impl="timm")
    found = of(
        "agc-cheap",
        [
            *clipping("nfnet-f0", *(0.01, 0.012) * 2),
            *clipping("nfnet-f0", 0.3, resolved=slow),
            *clipping("nfnet-f0", 0.2, batch=16),
        ],
    )
    assert of("agc-cheap", clipping("nfnet-f0", 0.2, batch=8)).verdict == "not run"
    assert [f.estimate.value for f in found.figures] == [pytest.approx(0.011, rel=0.01)]
    assert "by fused" in found.measured and "batch 32" in found.measured


def test_turns_of_a_process_are_no_replicates_of_the_clips_share() -> None:
    one = [clipping("nfnet-f0", 0.03 + 0.002 * turn, session="s", turn=turn, id=f"s{turn}")[0] for turn in range(4)]
    (figure,) = of("agc-cheap", one).figures
    assert (figure.rounds, figure.estimate.low) == (1, None)
    others = [r for i in range(3) for r in clipping("nfnet-f0", 0.06, session=f"t{i}", id=f"t{i}")]
    (figure,) = of("agc-cheap", [*one, *others]).figures
    means = [stats.mean_of_logs([0.03 + 0.002 * turn for turn in range(4)]).value, 0.06, 0.06, 0.06]
    assert figure.estimate == pytest.approx(stats.mean_of_logs(means))
    assert figure.conditions.endswith("by fused; 4 rounds")


def test_memory_is_compared_at_the_same_micro_batch_only() -> None:
    half = msgspec.structs.replace(BF16, micro_batch=16)
    twin, own = counted((1.5e9, 1e9))
    assert of("bn-memory", [msgspec.structs.replace(twin, resolved=half), own]).verdict == "not run"


def peaks(model: str, *values: float, session: str | None = "s", impl: Any = "auto", batch: int = 32) -> Results:
    """The peaks of memory of a net in the turns of one process."""
    asked = StepTime(model=model, agc_impl=impl, batch=batch)
    became = msgspec.structs.replace(BF16, agc_impl="fused" if impl == "auto" else impl)
    given: dict[str, Any] = {"workload": asked, "resolved": became, "machine": H200, "session": session}
    name = f"{model}-{session}-{impl}"
    return [
        result(model, id=f"{name}-{turn}", turn=turn, readings=(once("peak_allocated", v, "B"),), **given)
        for turn, v in enumerate(values)
    ]


TOGETHER = [*peaks("bn-nfnet-f0", *(1.3e9,) * 4), *peaks("nfnet-f0", *(1e9,) * 4)]


@pytest.mark.parametrize("impl", ["fused", "foreach", "timm"])
def test_a_clip_that_was_asked_for_is_no_part_of_the_comparison_with_a_twin(impl: str) -> None:
    before = of("bn-memory", TOGETHER)
    assert (before.verdict, before.figures[0].shown) == ("measured only", "1.30 ×")
    assert of("bn-memory", [*TOGETHER, *peaks("nfnet-f0", 2e9, session=None, impl=impl)]) == before
    apart = [*peaks("bn-nfnet-f0", 1.3e9), *peaks("nfnet-f0", 2e9, impl=impl)]
    assert of("bn-memory", apart).verdict == "not run"


def test_memory_of_two_workloads_is_two_figures() -> None:
    ema = [msgspec.structs.replace(r, workload=msgspec.structs.replace(r.step, sam=0.05)) for r in TOGETHER]
    less = [msgspec.structs.replace(r, workload=msgspec.structs.replace(r.step, sam_fraction=0.5)) for r in ema]
    assert len(of("bn-memory", [*TOGETHER, *ema, *less]).figures) == 3


def test_memory_of_a_session_is_not_compared_with_that_of_another() -> None:
    other = peaks("nfnet-f0", 3e9, session="by hand")
    assert of("bn-memory", [*TOGETHER, *other]) == of("bn-memory", TOGETHER)


def test_memory_that_varies_has_welchs_interval_over_processes_whatever_the_order_of_its_rows() -> None:
    twin, free = (1.3e9, 1.31e9, 1.32e9, 1.33e9), (1e9, 1.02e9, 1.04e9, 1.06e9)
    rows = [
        row
        for i, (a, b) in enumerate(zip(twin, free, strict=True))
        # the turns of a process are no replicates
        for row in (*peaks("bn-nfnet-f0", a, a, session=f"s{i}"), *peaks("nfnet-f0", b, session=f"s{i}"))
    ]
    (figure,) = of("bn-memory", rows).figures
    logs = stats.contrast([(1, [math.log(v) for v in twin]), (-1, [math.log(v) for v in free])])
    assert figure.estimate == pytest.approx([math.exp(v) for v in logs if v is not None])
    assert figure.rounds == 4
    assert of("bn-memory", rows[::-1]).figures[0].estimate == pytest.approx(figure.estimate)


def test_few_images_a_pass_say_so() -> None:
    few = msgspec.structs.replace(BF16, micro_batch=4)
    found = of("bn-memory", [msgspec.structs.replace(r, resolved=few) for r in counted((0.5e9, 1e9))])
    assert "take 16 or more" in found.measured


def test_a_peak_of_memory_goes_before_what_is_saved_for_backward() -> None:
    rows = counted((1.5e9, 1e9))
    peak = [msgspec.structs.replace(r, readings=(*r.readings, once("peak_allocated", 1e9, "B"))) for r in rows]
    (figure,) = of("bn-memory", peak).figures
    assert (figure.estimate.value, "peak memory" in figure.about) == (1.0, True)


def test_one_device_is_not_enough_to_tell_of_distributed_training() -> None:
    one = rounds(StepTime(model="bn-nfnet-f0", norm="sync_batch"), StepTime(model="bn-nfnet-f0"), (1.5,) * 4)
    found = of("bn-distributed", one)
    assert found.verdict == "not run"
    assert "two or more devices" in found.why


def test_separate_runs_over_several_devices_have_welchs_interval_over_processes() -> None:
    apart = [
        msgspec.structs.replace(r, session=None, id=f"{i}", round=0) for i, r in enumerate(ranks(1.1, 1.2, 1.1, 1.2))
    ]
    (figure,) = of("bn-distributed", apart).figures
    assert "2 devices, in separate runs; 4 rounds" in figure.conditions
    logs = stats.contrast([(1, [math.log(v) for v in (1.1, 1.2, 1.1, 1.2)]), (-1, [0.0] * 4)])
    assert figure.estimate == pytest.approx([math.exp(v) for v in logs if v is not None])
    assert of("bn-distributed", apart[:4]).figures[0].estimate.low is None


def test_a_run_that_diverged_counts_with_chance() -> None:
    found = of("agc-large-batch", large(*((top1, None) for top1 in (0.71, 0.72, 0.71, 0.72))))
    assert found.figures[1].estimate == (0.1, 0.1, 0.1)
    assert (
        "top-1 without AGC 10.0 % exactly (imagenet, batch 4096, 90 epochs, 4 of 4 diverged; 4 seeds)" in found.measured
    )


def test_the_largest_batch_decides() -> None:
    small, big = large(*[(0.9, 0.9), (0.91, 0.91)] * 2, batch=256), CASES["agc-large-batch"][0]
    assert of("agc-large-batch", [*small, *big]).verdict == "holds"
    assert of("agc-large-batch", large((0.9, None), (0.91, None), batch=64)).verdict == "not run"


def test_what_is_the_best_of_several_says_of_how_many() -> None:
    slower = [
        msgspec.structs.replace(r, id=f"slow-{r.id}", workload=msgspec.structs.replace(r.run, lr=0.01))
        for r in tuned(0.6, 0.5)
    ]
    (figure,) = of("better-transfer", [*tuned(0.9, 0.8), *slower]).figures
    assert figure.on.count("best of 2 on the same seeds") == 2
    assert "best of" not in of("better-transfer", tuned(0.9, 0.8)).measured
    runs_ = large((0.74, None), (0.75, None))
    weaker = runs(
        "nf-resnet50", 0.6, 0.61, run={"batch": 4096, "epochs": 90, "dataset": "imagenet", "agc": 0.02}, agc=0.02
    )
    figures = of("agc-large-batch", [*runs_, *weaker]).figures
    assert ["λ 0.01, best of 2 on the same seeds" in f.on for f in figures] == [True, False]
    assert all("best of" not in f.on for f in of("agc-large-batch", runs_).figures)


def test_two_recipes_are_no_two_by_two() -> None:
    other = [
        r if r.run.model == "nf-resnet50" else _with_recipe(r, "bn-resnet") for r in MEASURED["agc-or-architecture"]
    ]
    assert of("agc-or-architecture", other).verdict == "not run"


def _with_recipe(r: Result, recipe: Any) -> Result:
    assert r.resolved is not None and r.resolved.training is not None
    training = msgspec.structs.replace(r.resolved.training, recipe=recipe)
    return msgspec.structs.replace(r, resolved=msgspec.structs.replace(r.resolved, training=training))


def test_what_failed_is_named_where_nothing_else_was_measured() -> None:
    failed = result("bn-nfnet-f3", status="out_of_memory", readings=())
    assert "bn-nfnet-f3 ended as out of memory" in of("bn-twin-slower", [failed]).why


def test_on_a_cpu_the_tiny_scale_is_what_to_type_for_what_it_feeds() -> None:
    found = {v.claim.id: v.why for v in judge([result("resnet50")])}
    assert {id for id, why in found.items() if "run claims" in why and why.endswith(" --set scale=tiny")} == TINY


def test_the_study_feeds_every_claim_but_the_one_that_needs_two_devices() -> None:
    study = tomllib.loads((Path(__file__).parent.parent / "benchmarks" / "claims.toml").read_text(encoding="utf-8"))
    fed: dict[str, set[str]] = {"full": set(), "tiny": set()}
    for table in (one for name, tables in study.items() if name in TABLES for one in tables):
        named = table["claim"] if isinstance(table["claim"], list) else [table["claim"]]
        fed[table.get("scale", "full")] |= set(named)
    assert fed["full"] == set(RULES) - {"bn-distributed"}
    assert fed["tiny"] == TINY


@pytest.mark.parametrize(
    ("estimate", "answer"),
    [
        (Estimate(1.5, 1.4, 1.6), True),
        (Estimate(0.5, 0.4, 0.6), False),
        (Estimate(1.0, 0.9, 1.1), None),
        (Estimate(1.1, 1.0, 1.2), None),
        (Estimate(1.5), None),
    ],
)
def test_an_interval_that_touches_the_limit_decides_nothing_and_the_side_turns_the_answer(
    estimate: Estimate, answer: bool | None
) -> None:
    above = Figure("a", "b", estimate, "×", (), LEAST_ROUNDS, 1.0)
    assert above.answer is answer
    assert above._replace(rounds=LEAST_ROUNDS - 1).answer is above._replace(limit=None).answer is None
    assert above._replace(side="below").answer is (None if answer is None else not answer)
    assert above._replace(doubt="why").answer is None


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_contrast_scales_with_its_values_and_is_a_students_t_where_spreads_are_equal(scale: float) -> None:
    a, b = [scale * v for v in (1.0, 2.0, 3.0)], [scale * v for v in (2.0, 3.0, 4.0)]
    found = stats.contrast([(1, a), (-1, b)])
    assert found.value == pytest.approx(-scale)
    # four degrees of freedom: 2.776 · √(2/3)
    assert found.half_width == pytest.approx(2.7764 * (2 / 3) ** 0.5 * scale, rel=1e-4)
    assert stats.contrast([(-1, a), (1, b)]).value == -found.value


def test_a_contrast_has_no_interval_of_one_value_and_none_of_width_where_nothing_spreads() -> None:
    assert stats.contrast([(1, [0.5, 0.6]), (-1, [0.1])]).low is None
    assert stats.contrast([(1, [0.5, 0.5]), (-1, [0.25, 0.25])]) == (0.25, 0.25, 0.25)


def everything(place: int) -> list[Verdict]:
    return [of(claim, cases[place]) for claim, cases in CASES.items()]


def test_the_summary_counts_each_verdict_and_names_the_device() -> None:
    assert show.summary(everything(0)) == "On NVIDIA H200: 5 hold, 1 agrees here."
    mixed = [*everything(0), *everything(1), *everything(2)[:3], *(of(claim, r) for claim, (r, _) in ONLY.items())]
    assert show.summary(mixed) == (
        "On NVIDIA H200: 5 hold, 5 do not hold, 1 agrees here, 1 disagrees here, 3 cannot tell, 5 measured only."
    )
    assert show.summary(judge([])) == "Nothing was measured: 3 true by construction, 11 not run."


def test_the_summary_of_a_cpu_says_that_it_says_nothing_about_a_gpu() -> None:
    assert show.summary(judge([result()])).endswith("11 not run. This is a CPU: it says nothing about a GPU.")


@pytest.mark.parametrize("format", ["rich", "md"])
def test_each_figure_has_a_line_and_the_reason_stands_in_the_table(format: Any) -> None:
    text = show.table([*everything(0), *everything(2)], format)
    for verdict in everything(2):
        assert verdict.why in text
    for figure in (f for v in everything(0) for f in v.figures):
        assert f"{figure.about}: {figure.shown}" in text
    assert "8.7 / 8.81 / 13.1" in text


def test_what_is_reported_and_what_was_measured_never_share_a_column() -> None:
    keys = [column.key for column in show.COLUMNS]
    assert keys == ["id", "claim", "verdict", "measured", "on", "reported", "who"]
    text = show.table(everything(0), "md")
    cells = [[cell.strip() for cell in line.split(" | ")] for line in text.splitlines()[2:]]
    reported = {claim.reported for claim in claims()} | {"", "–"}
    assert {line[5] for line in cells} <= reported
    assert not {line[3] for line in cells} & (reported - {"", "–"})


def test_the_frame_holds_raw_values_one_row_a_figure_and_one_for_a_claim_without() -> None:
    frame = show.frame([*everything(0)[:1], *judge([])])
    assert list(frame.columns) == [column.key for column in show.RAW]
    assert len(frame) == 1 + 14
    first, only = frame.iloc[0], show.rows([of("bn-memory", MEASURED["bn-memory"])])[0]
    assert (only["verdict"], only["side"], only["limit"], only["answer"]) == ("measured only", None, None, None)
    assert (first["id"], first["verdict"], first["unit"], first["answer"]) == ("f1-vs-b7", "holds", "×", True)
    assert first["low"] < first["value"] < first["high"]
    assert frame["why"].isna().tolist() == [True] + [False] * 14


def test_csv_and_json_are_the_same_rows() -> None:
    assert len(show.table(everything(0), "csv").splitlines()) == 1 + len(show.rows(everything(0)))
    assert '"verdict": "holds"' in show.table(everything(0), "json")


def test_rounds_of_a_study_have_a_session_each_and_are_one_measurement() -> None:
    # as `run` measures them: what decides is the pair, not the session
    results = pair("bn-nfnet-f0", "nfnet-f0", 1.3, 1.31, 1.3, 1.32)
    planned = Sampling(rounds=4, turns=1)
    each = [msgspec.structs.replace(r, session=f"s{r.round}", sampling=planned) for r in results]
    verdict, once = of("bn-twin-slower", each), of("bn-twin-slower", results)
    assert verdict.verdict == once.verdict == "holds"
    assert verdict.figures[0].rounds == 4 and verdict.measured == once.measured
