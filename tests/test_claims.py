"""Verdicts on claims: what decides each, on made records."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nfbench.analysis import metrics, stats
from nfbench.analysis.claim import Figure, Verdict
from nfbench.analysis.claims import RULES, TINY, claims, judge
from nfbench.analysis.stats import Estimate
from nfbench.catalog import published
from nfbench.records import Dependence, Reading, Resolved, Result, StepTime, reading
from nfbench.showing import claims as show
from nfbench.studies.entries import TABLES
from tests.make import CPU, H200, accuracy, each_epoch, once, result, step_times

BF16 = Resolved(px=192, micro_batch=32, precision="bf16", layout="nhwc", agc=0.01, agc_impl="fused")
Results = list[Result]


def turns(
    net: StepTime, baseline: StepTime, ratios: tuple[float, ...], *, more: tuple[Reading, ...] = (), **fields: Any
) -> Results:
    """Two workloads in turns, ``net``'s step taking ``ratios`` of the baseline's 100 ms."""
    found = []
    for turn, ratio in enumerate(ratios):
        for side, workload in enumerate((net, baseline)):
            time = 0.1 * (ratio if side == 0 else 1.0)
            found.append(
                result(
                    workload.model,
                    workload=workload,
                    id=f"{workload.model}-{workload.sam}-{turn}",
                    start=f"2026-01-01T00:00:0{turn}.000Z",
                    machine=H200,
                    resolved=BF16,
                    session="s",
                    turn=turn,
                    readings=(step_times(*(time,) * 20), *more),
                    **fields,
                )
            )
    return found


def pair(net: str, baseline: str, *ratios: float, **fields: Any) -> Results:
    return turns(StepTime(model=net), StepTime(model=baseline), ratios, **fields)


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


def dependence(model: str, seed: int = 0, **values: float) -> Result:
    return result(
        model,
        workload=Dependence(model=model),
        machine=H200,
        seed=seed,
        id=f"dependence-{model}-{seed}",
        resolved=Resolved(px=64, micro_batch=8, precision="fp32", layout="nchw"),
        readings=tuple(once(name, value) for name, value in values.items()),
    )


def of(claim: str, results: Results) -> Verdict:
    return next(v for v in judge(results) if v.claim.id == claim)


def clipping(model: str, *shares: float, batch: int = 32, **fields: Any) -> Results:
    """Steps of 100 ms of which the clip takes ``shares`` by turns."""
    times = step_times(*(0.1,) * 24)
    clip = reading("clip", "s", "step", "test", [0.1 * shares[i % len(shares)] for i in range(24)])
    asked = {"workload": StepTime(model=model, batch=batch), "resolved": BF16, "readings": (times, clip)}
    return [result(model, machine=H200, **{**asked, **fields})]


def counted(twin: float, own: float, machine: Any = H200, name: str = "saved_bytes") -> Results:
    return [
        result(model, machine=machine, id=model, readings=(step_times(0.1), once(name, value, "B")))
        for model, value in (("bn-nfnet-f0", twin), ("nfnet-f0", own))
    ]


def large(*pairs: tuple[float | None, float | None], batch: int = 4096) -> Results:
    """Runs with and without AGC, a pair a seed."""
    on, off = zip(*pairs, strict=True)
    asked = {"batch": batch, "dataset": "imagenet"}
    with_agc = runs("nf-resnet50", *on, run=asked | {"agc": 0.01})
    return [*with_agc, *runs("nf-resnet50", *off, agc=None, run=asked | {"agc": "none"})]


def over_batches(bn: tuple[float, float], free: tuple[float, float], spread: float = 0.01) -> Results:
    """Top-1 at batch 32 and at batch 2, of three seeds ``spread`` apart."""
    found = []
    for model, ends, clip in (("resnet50", bn, None), ("nf-resnet50", free, 0.01)):
        for batch, top1 in zip((32, 2), ends, strict=True):
            seeds = [top1 + spread * (i - 1) for i in range(3)]
            found += runs(model, *seeds, agc=clip, run={"batch": batch, "dataset": "cifar10"})
    return found


def corners(both: float, new: float, old_agc: float, old: float, spread: float = 0.001) -> Results:
    found = []
    for model, clip, top1 in (
        ("nf-resnet50", 0.01, both),
        ("nf-resnet50", None, new),
        ("resnet50", 0.01, old_agc),
        ("resnet50", None, old),
    ):
        asked = {"recipe": "nfnet", "agc": "none" if clip is None else clip, "dataset": "cifar10"}
        found += runs(model, *(top1 + spread * (i - 1) for i in range(3)), agc=clip, run=asked)
    return found


def tuned(free: float, bn: float, spread: float = 0.01) -> Results:
    asked = {"weights": "published", "dataset": "cifar10"}
    seeds = [spread * (i - 1) for i in range(3)]
    mine = runs("nf-resnet50", *(free + s for s in seeds), run=asked)
    return [*mine, *runs("resnetv2-50", *(bn + s for s in seeds), agc=None, run=asked)]


def ranks(ratio: tuple[float, ...]) -> Results:
    two = {"model": "bn-nfnet-f0", "world_size": 2}
    return turns(StepTime(**two, norm="sync_batch"), StepTime(**two), ratio)


def sam(*ratios: float) -> Results:
    return turns(StepTime(model="nfnet-f5", sam=0.05), StepTime(model="nfnet-f5"), ratios)


def rivals(*ratios: float) -> Results:
    return pair("nfnet-f1", "efficientnet-b7", *ratios, more=(once("macs", 1e10), once("params", 1e8)))


def output(model: str, changed: float, rounding: float = 1e-7) -> Result:
    return dependence(model, output_rest_changed=changed, output_evaluation_others=changed, output_rounding=rounding)


def share(agc: float, plain: float = 0.0, clipped: float = 0.5) -> Results:
    rounding = {"share_rounding_agc": 1e-7, "share_rounding_no_agc": 1e-7, "clipped_units": clipped}
    changed = {"share_rest_changed_agc": agc, "share_rest_changed_no_agc": plain}
    return [dependence("nfnet-f0", **changed, **rounding)]


def typed(claim: str) -> str:
    """What is to be typed for more on a claim."""
    if claim == "bn-distributed":
        return "nfbench step-time --model bn-nfnet-f0 --norm sync_batch, and again with --norm batch"
    return f": nfbench run claims --only {claim}"


def typed_again(claim: str) -> str:
    """What is to be typed for more of what was measured and decides nothing."""
    if claim in ("bn-dependence", "bn-train-eval"):
        return "the interval reaches over 1e-06"
    if claim == "bn-distributed":
        return typed(claim)
    more = {
        **dict.fromkeys(("agc-large-batch", "bn-small-batch", "agc-or-architecture", "better-transfer"), "seeds=6"),
        "agc-cheap": "rounds=4 --fresh",
        "bn-memory": "rounds=4 --fresh",
        "agc-dependence": "agc=0.001",
    }
    return f"{typed(claim)} --set {more.get(claim, 'turns=16 --fresh')}"


CASES: dict[str, tuple[Results, Results, Results]] = {
    "f1-vs-b7": (
        pair("nfnet-f1", "efficientnet-b7", 0.5, 0.51, 0.49, 0.5),
        pair("nfnet-f1", "efficientnet-b7", 2.0, 2.01, 1.99, 2.0),
        pair("nfnet-f1", "efficientnet-b7", 0.9, 1.1, 0.95, 1.05),
    ),
    "bn-twin-slower": (
        pair("bn-nfnet-f0", "nfnet-f0", 1.5, 1.51, 1.49),
        pair("bn-nfnet-f0", "nfnet-f0", 0.8, 0.81, 0.79),
        pair("bn-nfnet-f0", "nfnet-f0", 1.5),
    ),
    "sam-cost": (sam(1.3, 1.31, 1.29), sam(2.3, 2.31, 2.29), sam(1.9, 2.1, 2.0)),
    "agc-large-batch": (
        large((0.74, None), (0.75, None), (0.76, 0.3)),
        large((0.74, 0.73), (0.75, 0.74), (0.76, 0.75)),
        large((0.74, None)),
    ),
    "bn-small-batch": (
        over_batches((0.8, 0.5), (0.8, 0.79)),
        over_batches((0.8, 0.79), (0.8, 0.5)),
        over_batches((0.8, 0.75), (0.8, 0.78), spread=0.1),
    ),
    "bn-memory": (
        counted(1.5e9, 1e9),
        counted(1e9, 1e9),
        [*counted(1.5e9, 1e9, name="peak_allocated"), *counted(0.9e9, 1e9, name="peak_allocated")],
    ),
    "bn-distributed": (ranks((1.1, 1.11, 1.09)), ranks((0.9, 0.91, 0.89)), ranks((1.0, 1.1, 0.9))),
    "bn-dependence": ([output("resnet50", 0.7)], [output("resnet50", 1e-7)], [output("resnet50", 1.2e-6)]),
    "agc-dependence": (share(0.3), share(0.0), share(0.3, clipped=0.0)),
    "bn-train-eval": ([output("resnet50", 0.7)], [output("resnet50", 1e-7)], [output("resnet50", 1.2e-6)]),
    "agc-or-architecture": (
        corners(0.9, 0.8, 0.8, 0.7),
        corners(0.9, 0.2, 0.85, 0.7),
        corners(0.9, 0.8, 0.8, 0.7, spread=0.05),
    ),
    "better-transfer": (tuned(0.9, 0.8), tuned(0.8, 0.9), tuned(0.85, 0.84)),
    "agc-cheap": (clipping("nfnet-f0", 0.01), clipping("nfnet-f0", 0.2), clipping("nfnet-f0", 0.04, 0.06)),
    "more-flops-equal-time": (rivals(0.5, 0.51, 0.49), rivals(2.0, 2.01, 1.99), rivals(0.9, 1.1, 1.0)),
}
"""For each claim results by which it holds, does not hold, and cannot be told."""


def test_every_claim_of_the_file_has_a_rule_and_no_rule_is_of_no_claim() -> None:
    assert set(RULES) == {row["id"] for row in published.rows("claims.csv")} == set(CASES)


def test_verdicts_come_in_the_order_of_the_file_with_its_own_words() -> None:
    verdicts = judge([])
    assert [v.claim.id for v in verdicts] == [row["id"] for row in published.rows("claims.csv")]
    assert [v.claim.reported for v in verdicts] == [row["reported"] for row in published.rows("claims.csv")]


def test_a_claim_without_a_rule_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULES, "agc-cheap")
    with pytest.raises(KeyError, match="agc-cheap"):
        judge([])


def test_every_rule_says_what_decides_it() -> None:
    assert all(rule.__doc__ and len(rule.__doc__) > 150 for rule in RULES.values())


@pytest.mark.parametrize("claim", list(CASES))
def test_a_claim_holds_where_every_interval_is_on_its_side(claim: str) -> None:
    found = of(claim, CASES[claim][0])
    assert (found.verdict, found.why) == ("holds", "")
    assert all(f.answer for f in found.figures if f.decides)
    assert found.results and set(found.results) <= {r.id for r in CASES[claim][0]}


@pytest.mark.parametrize("claim", list(CASES))
def test_a_claim_does_not_hold_where_an_interval_is_wholly_on_the_other_side(claim: str) -> None:
    found = of(claim, CASES[claim][1])
    assert (found.verdict, found.why) == ("does not hold", "")


@pytest.mark.parametrize("claim", list(CASES))
def test_a_claim_cannot_be_told_where_the_interval_reaches_over_or_is_absent_and_says_what_to_type(claim: str) -> None:
    found = of(claim, CASES[claim][2])
    assert found.verdict == "cannot tell"
    assert found.figures and found.measured
    assert found.why.endswith(typed_again(claim))
    assert "--max-time" not in found.why and "--micro-batch" not in found.why


def test_more_is_asked_for_than_was_measured_so_that_it_is_not_done_already() -> None:
    many = msgspec.structs.replace(result().sampling, turns=16)
    rows = [msgspec.structs.replace(r, sampling=many) for r in pair("nfnet-f1", "efficientnet-b7", *(0.9, 1.1) * 8)]
    assert of("f1-vs-b7", rows).why.endswith(" --set turns=32 --fresh")
    runs_ = over_batches((0.8, 0.75), (0.8, 0.78), spread=0.1)
    more = [msgspec.structs.replace(r, id=f"more-{r.id}", seed=r.seed + 3) for r in runs_]
    assert of("bn-small-batch", [*runs_, *more]).why.endswith(" --set seeds=12")


def test_what_was_only_a_part_of_its_session_is_to_be_run_again() -> None:
    asked = msgspec.structs.replace(result().sampling, turns=6)
    rows = [msgspec.structs.replace(r, sampling=asked) for r in CASES["bn-twin-slower"][0]]
    assert of("bn-twin-slower", rows).why.endswith("--only bn-twin-slower --fresh")


def test_a_figure_in_doubt_gives_way_to_one_about_the_same_without() -> None:
    few = msgspec.structs.replace(BF16, micro_batch=4)
    doubted = [msgspec.structs.replace(r, resolved=few, id=f"few-{r.id}") for r in counted(0.5e9, 1e9)]
    found = of("bn-memory", [*doubted, *counted(1.5e9, 1e9)])
    assert (found.verdict, [f.decides for f in found.figures]) == ("holds", [True, False])


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
        with_agc = runs(model, on, on + 0.01, run=asked | {"agc": 0.01})
        return of("agc-large-batch", [*with_agc, *runs(model, 0.1, 0.11, agc=None, run=asked | {"agc": "none"})])

    assert tried("tiny-nfnet-s", 0.9, 3).verdict == "not run"
    assert tried("tiny-nf-resnet-s", 0.2, 1).verdict == "not run"
    assert tried("tiny-nf-resnet-s", 0.2, 3).verdict == "does not hold"
    assert tried("tiny-nf-resnet-s", 0.9, 1).verdict == "holds"


@pytest.mark.parametrize("claim", list(CASES))
def test_a_claim_that_nothing_was_measured_for_is_not_run_and_says_what_to_type(claim: str) -> None:
    others = [r for other, (holds, _, _) in CASES.items() if other == "bn-memory" != claim for r in holds]
    found = of(claim, others)
    assert (found.verdict, found.figures, found.measured) == ("not run", (), "")
    assert found.why.endswith(typed(claim))


def test_results_of_two_machines_are_never_judged_together() -> None:
    with pytest.raises(ValueError, match="results of 2 machines: NVIDIA H200, A CPU"):
        judge([*CASES["f1-vs-b7"][0], result(machine=CPU)])


@pytest.mark.parametrize("claim", ["f1-vs-b7", "bn-twin-slower", "bn-distributed", "better-transfer"])
def test_swapped_sides_swap_the_verdict(claim: str) -> None:
    def swapped(results: Results) -> Results:
        other = dict(zip(names := list(dict.fromkeys(r.workload for r in results)), reversed(names), strict=True))
        return [msgspec.structs.replace(r, workload=other[r.workload]) for r in results]

    holds, falls, _ = CASES[claim]
    assert of(claim, swapped(holds)).verdict == "does not hold"
    assert of(claim, swapped(falls)).verdict == "holds"


def test_one_contradicting_pair_brings_a_general_claim_down() -> None:
    slower, quicker = CASES["bn-twin-slower"][0], pair("bn-nfnet-f3", "nfnet-f3", 0.9, 0.91, 0.89)
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
    said = f"only a part of its session: nfnet-f0 ended as {status.replace('_', ' ')}"
    assert said in found.why and said in found.measured
    cut = [*CASES["sam-cost"][0][:-1], msgspec.structs.replace(CASES["sam-cost"][0][-1], status=status)]
    assert of("sam-cost", cut).verdict == "cannot tell"


def test_a_session_that_ended_between_two_turns_says_how_many_it_had() -> None:
    asked = msgspec.structs.replace(result().sampling, turns=6)
    rows = [msgspec.structs.replace(r, sampling=asked) for r in CASES["bn-twin-slower"][0]]
    assert "only a part of its session: 3 of 6 turns" in of("bn-twin-slower", rows).why


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
    tiny = pair("tiny-nfnet", "tiny-efficientnet", 2.0, 2.01, 1.99)
    found = of("f1-vs-b7", tiny)
    assert (found.verdict, found.scope) == ("does not hold", "tiny nets")
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
    assert found.scope == "digits"


def test_a_tiny_nfnet_that_is_less_accurate_does_not_show_that_it_is_as_quick_at_equal_accuracy() -> None:
    steps = pair("tiny-nfnet", "tiny-efficientnet", 0.5, 0.51, 0.49)
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
            *clipping("nfnet-f0", 0.01),
            *clipping("nfnet-f0", 0.3, resolved=slow),
            *clipping("nfnet-f0", 0.2, batch=16),
        ],
    )
    assert of("agc-cheap", clipping("nfnet-f0", 0.2, batch=8)).verdict == "not run"
    assert found.verdict == "holds"
    assert "by fused" in found.measured and "batch 32" in found.measured


def test_turns_of_a_process_are_no_replicates_of_the_clips_share() -> None:
    one = [clipping("nfnet-f0", 0.03 + 0.002 * turn, session="s", turn=turn, id=f"s{turn}")[0] for turn in range(4)]
    (figure,) = of("agc-cheap", one).figures
    assert figure.answer and figure.on.endswith("; interval within this run")
    other = clipping("nfnet-f0", 0.06, session="t", id="t")
    (figure,) = of("agc-cheap", [*one, *other]).figures
    means = [stats.mean_of_logs([0.03 + 0.002 * turn for turn in range(4)]).value, 0.06]
    assert figure.estimate == pytest.approx(stats.mean_of_logs(means))
    assert figure.answer is None and "within" not in figure.on


def test_the_interval_of_one_windows_steps_says_that_it_is_within_that_run() -> None:
    assert of("agc-cheap", clipping("nfnet-f0", 0.01)).figures[0].on.endswith("; interval within this run")


def test_memory_is_compared_at_the_same_micro_batch_only() -> None:
    half = msgspec.structs.replace(BF16, micro_batch=16)
    twin, own = counted(1.5e9, 1e9)
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
    assert (before.verdict, before.figures[0].shown) == ("holds", "1.30 × exactly")
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


def test_memory_that_varies_has_welchs_interval_whatever_the_order_of_its_rows() -> None:
    twin, own = (1.3e9, 1.31e9, 1.32e9), (1e9, 1.02e9, 1.04e9)
    rows = [*peaks("bn-nfnet-f0", *twin), *peaks("nfnet-f0", *own)]
    (figure,) = of("bn-memory", rows).figures
    logs = stats.contrast([(1, [math.log(v) for v in twin]), (-1, [math.log(v) for v in own])])
    assert figure.estimate == pytest.approx([math.exp(v) for v in logs if v is not None])
    assert figure.on.endswith("; interval within this run")
    assert of("bn-memory", rows[::-1]).figures[0].estimate == pytest.approx(figure.estimate)


def test_turns_of_a_process_are_no_replicates_of_its_memory() -> None:
    turns_ = [*peaks("bn-nfnet-f0", 1.3e9, 1.31e9), *peaks("nfnet-f0", 1e9, 1e9)]
    again = [*peaks("bn-nfnet-f0", 1.32e9, session="t"), *peaks("nfnet-f0", 1e9, session="t")]
    (figure,) = of("bn-memory", [*turns_, *again]).figures
    logs = [math.log(v) for v in ((1.3 * 1.31) ** 0.5, 1.32)]
    expected = stats.contrast([(1, logs), (-1, [0.0, 0.0])])
    assert figure.estimate == pytest.approx([math.exp(v) for v in expected if v is not None])
    assert "within this run" not in figure.on


def test_few_images_a_pass_say_nothing_of_an_images_memory() -> None:
    few = msgspec.structs.replace(BF16, micro_batch=4)
    found = of("bn-memory", [msgspec.structs.replace(r, resolved=few) for r in counted(0.5e9, 1e9)])
    assert found.verdict == "cannot tell"
    assert "it takes 16 or more" in found.why
    assert found.why.endswith("--only bn-memory --set batch=16 --set micro_batch=16")


def test_a_peak_of_memory_goes_before_what_is_saved_for_backward() -> None:
    twin, own = counted(1.5e9, 1e9)
    peak = [msgspec.structs.replace(r, readings=(*r.readings, once("peak_allocated", 1e9, "B"))) for r in (twin, own)]
    assert of("bn-memory", peak).verdict == "does not hold"


def test_one_device_is_not_enough_to_tell_of_distributed_training() -> None:
    one = turns(StepTime(model="bn-nfnet-f0", norm="sync_batch"), StepTime(model="bn-nfnet-f0"), (1.5, 1.51, 1.49))
    found = of("bn-distributed", one)
    assert found.verdict == "not run"
    assert "two or more devices" in found.why


def test_separate_runs_over_several_devices_are_compared_by_the_ends_of_their_intervals() -> None:
    apart = [msgspec.structs.replace(r, session=None) for r in CASES["bn-distributed"][0]]
    found = of("bn-distributed", apart)
    assert found.verdict == "holds"
    assert "2 devices, in separate runs" in found.measured
    net, baseline = (metrics.across([r for r in apart if r.step.norm == norm]) for norm in ("sync_batch", "auto"))
    assert net is not None and baseline is not None and net.low is not None and baseline.high is not None
    assert found.figures[0].estimate.low == net.low / baseline.high


def test_an_nf_net_that_depends_on_its_batch_is_shown_but_does_not_decide() -> None:
    found = of("bn-dependence", [output("resnet50", 0.7), output("nfnet-f0", 0.0)])
    assert found.verdict == "holds"
    assert [f.decides for f in found.figures] == [True, False]
    assert of("bn-dependence", [output("nfnet-f0", 0.0)]).verdict == "not run"


@pytest.mark.parametrize("claim", ["bn-dependence", "bn-train-eval", "agc-dependence"])
def test_dependence_says_that_it_is_of_a_cpu_whatever_the_machines_gpu(claim: str) -> None:
    found = of(claim, CASES[claim][0])
    assert found.machine == H200
    assert all(f.on.endswith("float32 on the CPU") for f in found.figures)


def test_training_tells_of_the_gap_to_evaluation_only_where_no_output_was_compared() -> None:
    gap = each_epoch("batch_top1", 0.5, 0.8, 0.95)
    seeds = [
        accuracy("resnet50", (0.5, 0.8, top1), seed, more=(gap,), machine=H200)
        for seed, top1 in enumerate((0.9, 0.91, 0.9))
    ]
    assert of("bn-train-eval", seeds).verdict == "holds"
    assert of("bn-train-eval", seeds[:1]).verdict == "cannot tell"
    assert of("bn-train-eval", [*seeds, output("resnet50", 1e-8)]).verdict == "does not hold"


def test_a_run_that_diverged_counts_with_chance() -> None:
    found = of("agc-large-batch", large((0.7, None), (0.71, None), (0.72, None)))
    assert found.figures[1].estimate.value == pytest.approx(0.71 - 0.1)
    assert "without AGC 10.0 %, 3 of 3 diverged" in found.measured


def test_the_largest_batch_decides() -> None:
    small, big = large((0.9, 0.9), (0.91, 0.91), batch=256), large((0.7, None), (0.71, None), (0.72, None))
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
    weaker = runs("nf-resnet50", 0.6, 0.61, run={"batch": 4096, "dataset": "imagenet", "agc": 0.02}, agc=0.02)
    figures = of("agc-large-batch", [*runs_, *weaker]).figures
    assert all("λ 0.01, best of 2 on the same seeds" in f.on for f in figures)
    assert all("best of" not in f.on for f in of("agc-large-batch", runs_).figures)


def test_without_a_gain_there_is_nothing_to_ascribe() -> None:
    found = of("agc-or-architecture", corners(0.7, 0.7, 0.7, 0.7))
    assert found.verdict == "cannot tell"
    assert "there is no gain to ascribe to either" in found.why


def test_two_recipes_are_no_two_by_two() -> None:
    other = [
        r if r.run.model == "nf-resnet50" else _with_recipe(r, "bn-resnet") for r in CASES["agc-or-architecture"][0]
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
    above = Figure("a", "b", estimate, "×", "above", 1.0, ())
    assert above.answer is answer
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
    assert show.summary(everything(0)) == "On NVIDIA H200: 14 hold."
    mixed = [*everything(0)[:5], *everything(1)[:1], *everything(2)[:3], *judge(CASES["bn-dependence"][0])[:1]]
    assert show.summary(mixed) == "On NVIDIA H200: 5 hold, 1 does not, 3 cannot tell, 1 not run."
    assert show.summary(judge([])) == "Nothing was measured: 14 not run."


def test_the_summary_of_a_cpu_says_that_it_says_nothing_about_a_gpu() -> None:
    assert show.summary(judge([result()])).endswith("14 not run. This is a CPU: it says nothing about a GPU.")


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
    first = frame.iloc[0]
    assert (first["id"], first["verdict"], first["unit"], first["answer"]) == ("f1-vs-b7", "holds", "×", True)
    assert first["low"] < first["value"] < first["high"]
    assert frame["why"].isna().tolist() == [True] + [False] * 14


def test_csv_and_json_are_the_same_rows() -> None:
    assert len(show.table(everything(0), "csv").splitlines()) == 1 + len(show.rows(everything(0)))
    assert '"verdict": "holds"' in show.table(everything(0), "json")
