"""`nfbench compare`: turns, ratios, what is reported beside them, and the sentence."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Cli
from make import H200, Quiet, once, result, step_times

from nfbench import options
from nfbench.analysis import turn_ratios
from nfbench.analysis.rows import row
from nfbench.catalog import published
from nfbench.catalog.nearest import nearest
from nfbench.errors import NfbenchError, UnsupportedWorkload
from nfbench.records import Conditions, Machine, Reading, Resolved, Result, Sampling, StepTime, reading
from nfbench.showing import comparison
from nfbench.showing.shown_rows import ratio_rows
from nfbench.showing.views import view
from nfbench.studies import run as study_run
from nfbench.studies.processes import Group, Seat
from nfbench.studies.rounds import Enough, in_rounds, sampling_against

pytestmark = pytest.mark.usefixtures("workers_in_process")

A, B, C = StepTime(model="nfnet-f1"), StepTime(model="efficientnet-b7"), StepTime(model="resnet50")


TWO = Sampling(turns=2)


def rounds(*times: Sequence[float], turns: int = 2, **fields: Any) -> list[Result]:
    """Round n of A, B … with one step time each, the same in each of its turns."""
    workloads = (A, B, C)
    given = {"sampling": Sampling(turns=turns)} | fields
    return [
        result(workload=w, times=(t,) * 5, round=n, turn=turn, **given)
        for n, each in enumerate(times)
        for turn in range(turns)
        for w, t in zip(workloads, each, strict=False)
    ]


def test_the_interval_is_students_t_over_the_log_ratios_of_the_rounds() -> None:
    times = [(1.0, 1.1), (1.0, 1.2), (1.0, 1.3), (1.0, 1.15), (1.0, 1.25)]
    logs = [math.log(b / a) for a, b in times]
    mean = statistics.fmean(logs)
    ratio = turn_ratios.paired(rounds(*times), A, B)
    assert ratio is not None and ratio.speedup.value == pytest.approx(math.exp(mean))
    # t of 4 degrees of freedom at 0.975, and at 1 − 0.05 / 3 / 2 where three looks could have ended it
    for looks, quantile in (((), 2.776445), ((4, 8, 16), 3.960786)):
        width = quantile * statistics.stdev(logs) / math.sqrt(5)
        ratio = turn_ratios.paired(rounds(*times, sampling=Sampling(turns=2, looks=looks)), A, B)
        assert ratio is not None
        assert ratio.speedup.low == pytest.approx(math.exp(mean - width), rel=1e-6)
        assert ratio.speedup.high == pytest.approx(math.exp(mean + width), rel=1e-6)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_fewer_than_four_rounds_have_no_interval_and_say_what_is_needed(number: int) -> None:
    ratio = turn_ratios.paired(rounds(*[(1.0, 2.0), (1.0, 2.2), (1.0, 2.1)][:number]), A, B)
    assert ratio is not None and ratio.speedup.value == pytest.approx(2.0, rel=0.06)
    assert (ratio.estimate.low, ratio.estimate.high, ratio.rounds) == (None, None, number)
    needed = "4 rounds are needed for an interval: --rounds 4"
    assert ratio.no_interval == needed and needed in turn_ratios.sentence([ratio])
    rows = [row([r for r in rounds((1.0, 2.0)) if r.workload == w]) for w in (A, B)]
    assert needed in view(comparison.lines(rows, [ratio]), "compare", "md") and needed in view(
        ratio_rows([ratio]), "ratios", "md"
    )
    assert "±" not in comparison.sentence([ratio])


def test_turns_of_one_pair_of_processes_are_one_round_at_their_geometric_mean() -> None:
    # as the files of older versions hold them
    ratio = turn_ratios.paired(rounds((1.0, 2.0), turns=12), A, B)
    assert ratio is not None and (ratio.rounds, ratio.turns, ratio.estimate.low) == (1, 12, None)
    # every second turn takes 1.44 times as long as the one before
    turns = [
        result(workload=w, times=(time,) * 5, round=n, turn=turn, sampling=TWO)
        for n, each in enumerate((1.1, 1.2, 1.1, 1.2))
        for turn in range(2)
        for w, time in ((A, each * (1.2 if turn else 1 / 1.2)), (B, 1.0))
    ]
    ratio = turn_ratios.paired(turns, A, B)
    assert ratio is not None and (ratio.rounds, ratio.turns) == (4, 8)
    assert ratio.estimate.value == pytest.approx(math.sqrt(1.1 * 1.2))
    # Student's t over four rounds (3.1824), not over eight turns
    half = 3.1824 * (math.log(1.2) - math.log(1.1)) / math.sqrt(3) / 2
    assert ratio.estimate.high == pytest.approx(ratio.estimate.value * math.exp(half), rel=1e-3)


def test_a_round_that_is_not_whole_was_slowed_down_or_resolved_otherwise_does_not_count() -> None:
    hot = Conditions(throttle=("hw_slowdown",))
    other = Resolved(px=224, micro_batch=32, precision="fp32", layout="nchw")
    sound = rounds(*[(1.0, 2.0)] * 4)
    cut = [result(workload=w, times=(t,) * 5, round=4, sampling=TWO) for w, t in ((A, 1.0), (B, 9.0))]
    slowed = [
        result(workload=w, times=(t,) * 5, round=5, turn=turn, sampling=TWO, conditions=hot if turn else Conditions())
        for turn in range(2)
        for w, t in ((A, 1.0), (B, 9.0))
    ]
    nchw = [msgspec.structs.replace(r, round=6, resolved=other) for r in rounds((1.0, 9.0))]
    ratio = turn_ratios.paired([*sound, *cut, *slowed, *nchw], A, B)
    assert ratio is not None and ratio.speedup == (pytest.approx(2.0),) * 3
    assert (ratio.rounds, ratio.turns, ratio.voided) == (4, 8, 2)
    assert turn_ratios.sentence([ratio]).endswith("2 turns left out, the GPU was slowed down). " + NO_GPU)
    assert turn_ratios.paired(slowed, A, B) is None
    each_alone = rounds(*[(1.0, 2.0)] * 6, turns=1, session="s", sampling=Sampling(turn_time=3.0))
    peeked = turn_ratios.paired(each_alone, A, B)
    # an older version looked after each
    assert peeked is not None and peeked.rounds == 6 and peeked.estimate.low is None


NO_GPU = "This is a CPU: it says nothing about a GPU."


def test_the_reported_figures_stand_beside_it_with_their_sources() -> None:
    found = published.ratios("nfnet-f1", "efficientnet-b7")
    assert [f.value for f in found] == [8.7, 8.81, 13.1, 7.79, 2.73, 6.57]
    assert found[0].source == "Brock et al. 2021 text" and found[1].source.startswith("arXiv 2102.06171, Table 3")
    other_way = published.ratios("efficientnet-b7", "nfnet-f1")
    assert [f.value * g.value for f, g in zip(found, other_way, strict=True)] == pytest.approx([1.0] * 6)


def on_h200(workload: StepTime, seconds: float, px: int, round: int, agc: float | None) -> Result:
    resolved = Resolved(px=px, micro_batch=32, precision="bf16", layout="nhwc", agc=agc)
    energy = (once("energy", 300.0, "J"), once("energy_time", 3.0, "s"))
    return result(
        workload=workload, machine=H200, resolved=resolved, round=round, readings=(step_times(*(seconds,) * 5), *energy)
    )


def compared() -> tuple[list[Any], list[Any]]:
    noise = (1.0, 1.01, 0.99, 1.0)
    kept = [on_h200(A, 0.02, 224, n, 0.01) for n in range(4)]
    kept += [on_h200(B, 0.104 * noise[n], 600, n, None) for n in range(4)]
    rows = [row([r for r in kept if r.workload == w]) for w in (A, B)]
    return rows, [turn_ratios.paired(kept, A, B)]


def test_the_table_holds_the_ratio_the_rates_and_every_setting_that_differs() -> None:
    rows, ratios = compared()
    first, second = json.loads(view(comparison.lines(rows, ratios), "compare", "json"))
    assert "speedup" not in first
    assert second["speedup"] == pytest.approx(5.2, abs=0.01)
    assert second["speedup_low"] < 5.2 < second["speedup_high"]
    assert second["throughput"] == pytest.approx(32 / 0.104, rel=0.01)
    assert second["image_energy"] == pytest.approx(100 * 0.104 / 32, rel=0.01)
    assert second["reported"][0] == {"value": 8.7, "source": "Brock et al. 2021 text"}
    assert second["differs"] == "px 224 against 600; agc λ 0.01 against none"
    shown = view(comparison.lines(rows, ratios), "compare", "md")
    assert "8.70 text, 8.81 TPUv3, 13.1 V100" in shown and "5.20 ± 0.07" in shown


def test_the_sentence_names_the_device_the_precision_both_nets_and_what_the_paper_reports() -> None:
    _, ratios = compared()
    assert comparison.sentence(ratios) == (
        "On NVIDIA H200, bf16: nfnet-f1 is 5.20 ± 0.07 times as fast as efficientnet-b7 (both nhwc, "
        "batch 32; 224 px against 600 px), where the paper reports 8.70 text, 8.81 TPUv3, 13.1 V100."
    )


def slowed_by(share: float, clock: float | None) -> tuple[Reading, ...]:
    """What is read of a GPU that is slowed down in that share of 20 samples."""
    samples = reading("throttled", "1", "window", "nvml", [float(i < 20 * share) for i in range(20)])
    # its clock is another at times, which a mean would show
    dip = (clock or 0.0) / (3 if share else 1)
    clocks = () if clock is None else (reading("sm_clock", "Hz", "window", "nvml", [clock, clock, dip]),)
    return (step_times(*(0.1,) * 5), samples, *clocks)


@pytest.mark.parametrize(
    ("net", "baseline", "counts", "slowed"),
    [
        ((0.0, 1.9e9), (0.0, 1.6e9), True, False),
        ((0.1, 1.9e9), (0.0, 1.9e9), True, False),
        ((0.1, 1.9e9), (0.0, 1.8e9), False, False),
        ((0.5, 1.7e9), (0.0, 1.7e9), False, False),
        ((0.5, 1.7e9), (0.6, 1.72e9), True, True),
        ((0.5, 1.7e9), (0.6, 1.8e9), False, False),
        ((0.5, None), (0.5, None), False, False),
    ],
    ids=["power", "moment", "cycles disagree", "one side", "alike", "apart", "unknown clock"],
)
def test_a_turn_counts_where_both_sides_were_slowed_down_alike(
    net: tuple[float, float | None], baseline: tuple[float, float | None], counts: bool, slowed: bool
) -> None:
    hot = Conditions(throttle=("sw_thermal_slowdown",))
    kept = [
        result(workload=w, machine=H200, conditions=hot, round=n, readings=slowed_by(*side))
        for n in range(4)
        for w, side in ((A, net), (B, baseline))
    ]
    ratio = turn_ratios.paired(kept, A, B)
    assert (ratio is not None) is counts
    if ratio is not None:
        assert (ratio.rounds, ratio.voided, ratio.slowed) == (4, 0, 4 * slowed)
        assert [f.code for f in comparison.findings(ratio, 0.01)] == ["slowed_alike"] * slowed
        assert turn_ratios.sentence([ratio]).count("slowed down on both sides in 4 turns") == slowed


def test_a_wide_ratio_and_voided_turns_are_findings() -> None:
    hot = Conditions(throttle=("hw_slowdown",))
    wide = rounds((1.0, 2.0), (1.0, 2.2), (1.0, 1.9), (1.0, 2.1))
    slowed = [result(workload=w, times=(1.0,) * 5, round=4, conditions=hot) for w in (A, B)]
    ratio = turn_ratios.paired([*wide, *slowed], A, B)
    assert ratio is not None
    assert [f.code for f in comparison.findings(ratio, 0.01)] == ["wide_ratio", "void_turns"]
    narrow = turn_ratios.paired(rounds(*[(1.0, 2.0)] * 4), A, B)
    assert narrow is not None and comparison.findings(narrow, 0.01) == []


Script = Callable[[Seat, int, int], Result]


def run(
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    rounds: int | None = None,
    within: float = 0.01,
    time: float = 60,
    nets: tuple[StepTime, ...] = (A, B),
) -> tuple[list[Result], Quiet]:
    """The results and the watch of a comparison whose workers follow ``script``, 3 s a turn."""

    class Scripted(Group):
        def _ask(self, index: int, request: Any, watch: Any, until: float) -> Result:
            found = script(self.seats[index], request.round, request.turn)
            return msgspec.structs.replace(
                found,
                workload=self.seats[index].workload,
                round=request.round,
                turn=request.turn,
                sampling=request.sampling,
                readings=(*found.readings, reading("block_time", "s", "block", "test", [3.0])),
            )

    monkeypatch.setattr(study_run, "Group", Scripted)
    kept: list[Result] = []
    watch = Quiet()
    wanted = sampling_against(rounds, within, time, len(nets))
    enough = Enough(nets, wanted, time)
    keep = lambda *results: kept.extend(results)  # noqa: E731
    in_rounds(nets, wanted, device="fake", seed=0, keep=keep, board=watch, enough=enough)
    return kept, watch


def noisy(seat: Seat, round: int, turn: int) -> Result:
    """A's step takes 1 s in one round and 1.1 s in the next."""
    return result(times=((1.1 if round % 2 else 1.0) if seat.workload == A else 1.0,) * 5)


def test_four_rounds_decide_where_nothing_varies_each_a_b_b_a(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = run(monkeypatch, lambda seat, r, t: result(times=(0.5,) * 5))
    one, other = ["nfnet-f1", "efficientnet-b7"], ["efficientnet-b7", "nfnet-f1"]
    assert [r.workload.model for r in kept] == [*one, *other, *other, *one] * 2
    assert {id(r) for r in kept} == {id(r) for r in kept}
    assert {r.sampling.looks for r in kept} == {(4, 8, 16)}


@pytest.mark.parametrize(
    ("within", "time", "taken"),
    [
        (0.15, 1e9, 4),  # ± 13.6 % after 4 rounds
        (0.06, 1e9, 8),  # ± 5.7 % after 8
        (1e-9, 1e9, 16),  # never, and there is no further look
        (1e-9, 100.0, 8),  # 8 rounds of 4 turns of 3 s take 96 s, 16 do not fit
        (1e-9, 1.0, 4),  # the rounds of the first look always run
    ],
)
def test_it_ends_at_a_look_alone(monkeypatch: pytest.MonkeyPatch, within: float, time: float, taken: int) -> None:
    kept, _ = run(monkeypatch, noisy, within=within, time=time)
    ratio = turn_ratios.paired(kept, A, B)
    assert ratio is not None and ratio.rounds == taken
    half = ratio.estimate.half_width
    assert half is not None and (half <= within * ratio.estimate.value) == (within > 1e-9)


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_number_of_rounds_is_kept_and_its_interval_uncorrected(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    kept, _ = run(monkeypatch, noisy, rounds=number, time=1.0)
    ratio = turn_ratios.paired(kept, A, B)
    assert ratio is not None and ratio.rounds == number
    assert {r.sampling.looks for r in kept} == {()}
    assert (ratio.estimate.low is None) == (number < 4)


def test_a_round_in_which_the_gpu_was_slowed_down_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hot = Conditions(throttle=("hw_slowdown",))

    def script(seat: Seat, round: int, turn: int) -> Result:
        return result(times=(0.5,) * 5, conditions=hot if round == 1 else Conditions())

    kept, _ = run(monkeypatch, script, rounds=4)
    ratio = turn_ratios.paired(kept, A, B)
    assert ratio is not None and (ratio.rounds, ratio.voided) == (4, 2)
    kept, _ = run(monkeypatch, lambda seat, r, t: result(conditions=hot))
    assert {r.round for r in kept} == set(range(9))  # 8 are run again, and then it is given up
    assert turn_ratios.paired(kept, A, B) is None


def test_nets_that_do_not_fit_together_get_fresh_processes_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Machine(device="cuda", name="small", memory=100)

    def big(seat: Seat, round: int, turn: int) -> Result:
        return result(times=(0.5,) * 5, machine=small, readings=(step_times(0.5, 0.5), once("peak_reserved", 60.0)))

    kept, watch = run(monkeypatch, big)
    assert watch.notes == ["They do not fit in the device's memory together: each turn gets fresh processes."]
    ratio = turn_ratios.paired(kept, A, B)
    assert ratio is not None and (ratio.rounds, ratio.turns) == (4, 8)


@pytest.mark.parametrize(
    ("peak", "micro_batch", "alone"), [(30.0, 8, True), (30.0, 32, False), (10.0, 8, False), (None, 8, True)]
)
def test_a_micro_batch_found_beside_another_net_is_sought_again_alone(
    monkeypatch: pytest.MonkeyPatch, peak: float | None, micro_batch: int, alone: bool
) -> None:
    small, asked = Machine(device="cuda", name="small", memory=100), []
    pinned = Group._pinned

    def recorded(group: Group, index: int) -> Any:
        workload = pinned(group, index)
        asked.append((group.alone, workload.micro_batch))
        return workload

    def script(seat: Seat, round: int, turn: int) -> Result:
        if seat.workload == A:
            readings = (step_times(0.5, 0.5), once("peak_reserved", 45.0))
            return result(machine=small, readings=readings)
        if peak is None and not asked[-1][0]:
            return result(status="out_of_memory", readings=())
        readings = (step_times(0.5, 0.5), once("peak_reserved", peak or 45.0))
        passes = Resolved(px=224, micro_batch=micro_batch, precision="fp32", layout="nhwc")
        return result(machine=small, readings=readings, resolved=passes)

    monkeypatch.setattr(Group, "_pinned", recorded)
    run(monkeypatch, script, rounds=4)
    assert any(apart for apart, _ in asked) is alone
    if alone:
        first = next(place for place, (apart, _) in enumerate(asked) if apart)
        assert [of for _, of in asked[first : first + 4]] == ["auto", "auto", micro_batch, 32]


@pytest.mark.parametrize(("nets", "fails_in"), [((A, B), 0), ((A, C, B), 0), ((A, C, B), 2)])
def test_one_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch, nets: tuple[StepTime, ...], fails_in: int) -> None:
    def failing(seat: Seat, round: int, turn: int) -> Result:
        if seat.workload == B and round >= fails_in:
            return result(status="error", readings=(), message="boom")
        return result(times=(0.5,) * 5)

    kept, _ = run(monkeypatch, failing, nets=nets)
    assert [r.status for r in kept].count("error") == 1
    ratio = turn_ratios.paired(kept, A, nets[1])
    if len(nets) == 2:
        assert ratio is None
    else:
        assert ratio is not None and (ratio.rounds, ratio.turns) == (4, 8) and ratio.estimate.low is not None


@pytest.mark.parametrize(
    ("name", "by", "found"),
    [
        ("nfnet-f1", "top1", "efficientnet-b7"),
        ("efficientnet-b7", "top1", "nfnet-f1"),
        ("nfnet-f0", "step-time", "efficientnet-b0"),
        ("nf-resnet50", "macs", "resnet50"),
        ("resnet101", "params", "nf-resnet101"),
        ("tiny-nfnet", "params", "tiny-resnet-s"),
        ("bn-nfnet-f2", "macs", "nfnet-f2"),
    ],
)
def test_match_names_the_nearest_net_of_the_other_family(name: str, by: Any, found: str) -> None:
    near = nearest(name, by)
    assert near.net.name == found
    assert near.said.startswith(f"{found} is nearest to {name} by ") and " against " in near.said
    with pytest.raises(UnsupportedWorkload, match="No reported V100 step time is known of nf-resnet50"):
        nearest("nf-resnet50", "step-time")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nfnet-f1@pix=2", "there is no setting 'pix'"),
        ("nfnet-f1@px", "'px' gives no value"),
        ("nfnet-f1@px=a", "px: 'a' is neither a number nor train"),
        ("nfnet-f1@layout=chwn", "layout: 'chwn' is not one of 'best', 'nchw', 'nhwc'"),
        ("@px=3", "names no net"),
    ],
)
def test_a_setting_that_is_none_is_named(text: str, words: str) -> None:
    with pytest.raises(NfbenchError, match=words):
        options.net_and_settings(text)
    made = options.net_and_settings("nfnet-f1@px=224,layout=nhwc,agc=none,sam-fraction=20%")
    assert made == ("nfnet-f1", {"px": 224, "layout": "nhwc", "agc": "none", "sam_fraction": 0.2})


def test_the_command_prints_the_sentence_and_below_it_the_table(cli: Cli) -> None:
    done = cli("compare", "tiny-nfnet@px=64", "tiny-resnet", "--device", "fake", "--quiet", "--out", "o.jsonl")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[1].split("  ")[0] == "model" and "tiny-nfnet is … times as fast" in lines[1]
    assert lines[0] == (
        "On fake, fp32: tiny-nfnet and tiny-resnet are about equally fast: 1.000 times as fast (both nhwc, batch 32; "
        "64 px against 32 px). This is a fake device: it says nothing about a GPU."
    )
    done = cli("compare", "tiny-nfnet", "--match", "macs", "--device", "fake", "--quiet", "--format", "csv")
    assert done.exit_code == 0, done.output
    read = list(csv.DictReader(done.stdout.splitlines()))
    assert [r["speedup"] for r in read] == ["", "1.0"]
    assert "is nearest to tiny-nfnet by counted MACs at the train px" in done.stderr
    assert "tiny-nfnet and tiny-efficientnet-l are" in done.stderr
    assert Path("results/fake/compare").is_dir()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nfnet-f1"], "One net is nothing to compare."),
        (["nfnet-f1", "nfnet_f1"], "nfnet-f1 is there twice with the same settings."),
        (["nfnet-f1", "resnet50", "--match", "macs"], "--match takes the place of B: name one net."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_message(cli: Cli, args: list[str], words: str) -> None:
    done = cli("compare", *args, "--device", "fake")
    assert done.exit_code == 1 and words in done.stderr and "Traceback" not in done.stderr
    assert not Path("results").exists()


def test_a_noisy_side_gives_no_ratio_unless_it_is_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from nfbench.analysis import metrics

    monkeypatch.setattr(metrics, "noise_reason", lambda results, step_time: "other processes took 31 % of the CPU")
    nets = ("compare", "tiny-nfnet", "tiny-resnet", "--device", "fake", "--quiet")
    done = cli(*nets)
    assert done.exit_code == 4 and "(noisy)" in done.stdout and "equally fast" not in done.stdout
    assert "tiny-resnet: other processes took 31 % of the CPU" in done.stderr and "--noisy" in done.stderr
    assert len(list(Path("results/fake/compare").iterdir())) == 1
    done = cli(*nets, "--noisy")
    assert done.exit_code == 0 and "tiny-resnet are about equally fast" in done.stdout and "(noisy)" not in done.stdout
