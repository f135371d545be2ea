"""`nfbench compare`: turns, ratios, what is reported beside them, and the sentence."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from make import H200, Quiet, once, result, step_times

from nfbench import options
from nfbench.analysis import compare
from nfbench.analysis.rows import row
from nfbench.catalog import published
from nfbench.catalog.nearest import nearest
from nfbench.errors import NfbenchError, UnsupportedWorkload
from nfbench.records import Conditions, Machine, Resolved, Result, Sampling, StepTime
from nfbench.showing import comparison
from nfbench.studies import versus
from nfbench.studies.group import Group, Seat

A, B, C = StepTime(model="nfnet-f1"), StepTime(model="efficientnet-b7"), StepTime(model="resnet50")


def turns(*times: Sequence[float], **fields: Any) -> list[Result]:
    """Turn n of A, B … with one step time each."""
    workloads = (A, B, C)
    return [
        result(workload=w, times=(t,) * 5, turn=n, **fields)
        for n, each in enumerate(times)
        for w, t in zip(workloads, each, strict=False)
    ]


def test_the_ratio_is_paired_turn_by_turn() -> None:
    # both take twice as long in every second turn, which is not noise of their ratio
    ratio = compare.paired(turns((1.0, 8.0), (2.0, 16.0), (1.0, 8.0), (2.0, 16.0)), A, B)
    assert ratio is not None
    assert ratio.speedup == (pytest.approx(8.0),) * 3
    assert (ratio.rounds, ratio.turns) == (1, 4)


def test_one_model_at_two_settings_is_two_workloads() -> None:
    small = StepTime(model="nfnet-f1", px=192)
    rows = [result(workload=w, times=(t,) * 5, turn=n) for n in range(2) for w, t in ((A, 3.0), (small, 1.0))]
    ratio = compare.paired(rows, A, small)
    assert ratio is not None and ratio.estimate.value == pytest.approx(3.0)


def test_the_reported_figures_stand_beside_it_with_their_sources() -> None:
    found = published.ratios("nfnet-f1", "efficientnet-b7")
    assert [f.value for f in found] == [8.7, 8.81, 13.1, 7.79, 2.73, 6.57]
    assert found[0].source == "Brock et al. 2021 text" and found[1].source.startswith("arXiv 2102.06171, Table 3")
    other_way = published.ratios("efficientnet-b7", "nfnet-f1")
    assert [f.value * g.value for f, g in zip(found, other_way, strict=True)] == pytest.approx([1.0] * 6)


def test_other_pairs_have_those_of_the_papers_tables_and_some_have_none() -> None:
    tpu, v100 = published.ratios("nfnet-f0", "efficientnet-b4")
    assert tpu.value == pytest.approx(245.9 / 73.3) and tpu.source.endswith("TPUv3")
    assert v100.value == pytest.approx(221.6 / 56.7) and v100.source.endswith("V100")
    (twin,) = published.ratios("nfnet-f0", "bn-nfnet-f0")
    assert twin.value == pytest.approx(111.7 / 73.3) and "Table 6" in twin.source
    assert published.ratios("tiny-nfnet", "tiny-resnet") == []


def on_h200(workload: StepTime, seconds: float, px: int, turn: int, agc: float | None) -> Result:
    resolved = Resolved(px=px, micro_batch=32, precision="bf16", layout="nhwc", agc=agc)
    energy = (once("energy", 300.0, "J"), once("energy_time", 3.0, "s"))
    return result(
        workload=workload, machine=H200, resolved=resolved, turn=turn, readings=(step_times(*(seconds,) * 5), *energy)
    )


def compared() -> tuple[list[Any], list[Any]]:
    noise = (1.0, 1.01, 0.99, 1.0)
    kept = [on_h200(A, 0.02, 224, n, 0.01) for n in range(4)]
    kept += [on_h200(B, 0.104 * noise[n], 600, n, None) for n in range(4)]
    rows = [row([r for r in kept if r.workload == w]) for w in (A, B)]
    return rows, [compare.paired(kept, A, B)]


def test_the_table_holds_the_ratio_the_rates_and_every_setting_that_differs() -> None:
    rows, ratios = compared()
    first, second = json.loads(comparison.table(rows, ratios, "json"))
    assert "speedup" not in first
    assert second["speedup"] == pytest.approx(5.2, abs=0.01)
    assert second["speedup_low"] < 5.2 < second["speedup_high"]
    assert second["throughput"] == pytest.approx(32 / 0.104, rel=0.01)
    assert second["image_energy"] == pytest.approx(100 * 0.104 / 32, rel=0.01)
    assert second["reported"][0] == {"value": 8.7, "source": "Brock et al. 2021 text"}
    assert second["differs"] == "px 224 against 600; agc λ 0.01 against none"
    shown = comparison.table(rows, ratios, "md")
    assert "8.70 text, 8.81 TPUv3, 13.1 V100" in shown and "5.20 ± 0.07" in shown


def test_the_sentence_names_the_device_the_precision_both_nets_and_what_the_paper_reports() -> None:
    _, ratios = compared()
    assert comparison.sentence(ratios) == (
        "On NVIDIA H200, bf16: a step of nfnet-f1 is 5.20 ± 0.07 times as fast as one of efficientnet-b7 (both nhwc, "
        "batch 32; 224 px against 600 px; ± within this run), where the paper reports 8.70 text, 8.81 TPUv3, 13.1 V100."
    )


def test_a_wide_ratio_few_turns_and_throttled_ones_are_findings() -> None:
    hot = Conditions(throttle=("hw_slowdown",))
    kept = [*turns((1.0, 2.0), (1.0, 2.2)), result(workload=A, turn=2), result(workload=B, turn=2, conditions=hot)]
    ratio = compare.paired(kept, A, B)
    assert ratio is not None
    assert [f.code for f in comparison.findings(ratio, 0.01)] == ["wide_ratio", "few_turns", "void_turns"]
    narrow = compare.paired(turns(*[(1.0, 2.0)] * 4), A, B)
    assert narrow is not None and comparison.findings(narrow, 0.01) == []


Script = Callable[[Seat, int, int], Result]


def run(monkeypatch: pytest.MonkeyPatch, script: Script, **sampling: float) -> tuple[list[Result], list[Result], Quiet]:
    """(those that count, all, the watch) of a comparison whose workers follow ``script``."""

    class Scripted(Group):
        def _ask(self, index: int, request: Any, watch: Any, until: float) -> Result:
            found = script(self.seats[index], request.round, request.turn)
            return versus.msgspec.structs.replace(
                found, workload=self.seats[index].workload, round=request.round, turn=request.turn
            )

    monkeypatch.setattr(versus, "Group", Scripted)
    monkeypatch.setattr(versus, "start", lambda *args: None)
    kept: list[Result] = []
    watch = Quiet()
    wanted = Sampling(**{"within": 0.01, "max_time": 60.0, **sampling})  # type: ignore[arg-type]
    counted = versus.versus([A, B], wanted, device="fake", seed=0, keep=kept.append, watch=watch)
    return counted, kept, watch


def test_four_turns_decide_where_nothing_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, kept, _ = run(monkeypatch, lambda seat, r, t: result(times=(0.5,) * 5))
    order = ["nfnet-f1", "efficientnet-b7"]
    assert [(r.workload.model, r.turn) for r in kept] == [
        (model, turn) for turn in range(4) for model in (order if turn % 2 == 0 else order[::-1])
    ]
    assert len(counted) == len(kept)
    assert {r.round for r in counted} == {0}


def test_turns_go_on_until_the_ratio_is_narrow_or_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(seat: Seat, round: int, turn: int) -> Result:
        return result(times=((1.1 if turn % 2 else 1.0) if seat.workload == A else 1.0,) * 5)

    counted, _, _ = run(monkeypatch, noisy, within=0.02, max_time=1e9)
    ratio = compare.paired(counted, A, B)
    assert ratio is not None and ratio.turns % 2 == 0 and ratio.turns > 8
    half = ratio.estimate.half_width
    assert half is not None and half <= 0.02 * ratio.estimate.value
    counted, _, _ = run(monkeypatch, noisy, within=1e-9, max_time=0.001)
    assert len(counted) == 4


def test_nets_that_do_not_fit_together_get_fresh_processes_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Machine(device="cuda", name="small", memory=100)

    def big(seat: Seat, round: int, turn: int) -> Result:
        return result(times=(0.5,) * 5, machine=small, readings=(step_times(0.5, 0.5), once("peak_reserved", 60.0)))

    counted, kept, watch = run(monkeypatch, big)
    assert watch.notes == ["They do not fit in the device's memory together: each turn gets fresh processes."]
    assert len(kept) == len(counted) + 2
    assert sorted({r.round for r in counted}) == [1, 2, 3, 4] and {r.turn for r in counted} == {0}
    ratio = compare.paired(counted, A, B)
    assert ratio is not None and ratio.rounds == 4


def test_one_that_fails_is_a_row_and_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(seat: Seat, round: int, turn: int) -> Result:
        return result(status="error", readings=(), message="boom") if seat.workload == B else result()

    counted, kept, _ = run(monkeypatch, failing)
    assert [r.status for r in kept].count("error") == 1
    assert compare.paired(counted, A, B) is None


@pytest.mark.parametrize(
    ("name", "by", "found"),
    [
        ("nfnet-f1", "top1", "efficientnet-b7"),
        ("efficientnet-b7", "top1", "nfnet-f1"),
        ("nfnet-f0", "step-time", "efficientnet-b0"),
        ("nf-resnet50", "macs", "resnet50"),
        ("resnet101", "params", "nf-resnet101"),
        ("tiny-nfnet", "params", "tiny-efficientnet"),
        ("bn-nfnet-f2", "macs", "nfnet-f2"),
    ],
)
def test_match_names_the_nearest_net_of_the_other_family(name: str, by: Any, found: str) -> None:
    near = nearest(name, by)
    assert near.net.name == found
    assert near.said.startswith(f"{found} is nearest to {name} by ") and " against " in near.said


def test_match_says_where_a_figure_is_not_known() -> None:
    with pytest.raises(UnsupportedWorkload, match="No reported V100 step time is known of nf-resnet50"):
        nearest("nf-resnet50", "step-time")
    with pytest.raises(UnsupportedWorkload, match="is known of timm:vit_tiny"):
        nearest("timm:vit_tiny", "macs")


def test_a_net_brings_its_own_settings_named_and_typed_like_the_flags() -> None:
    assert options.net_and_settings("nfnet-f1") == ("nfnet-f1", {})
    found = options.net_and_settings("nfnet-f1@px=224,layout=nhwc,agc=none,sam-fraction=20%")
    assert found == ("nfnet-f1", {"px": 224, "layout": "nhwc", "agc": "none", "sam_fraction": 0.2})


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


def test_the_command_prints_the_table_and_ends_with_the_sentence(cli: Cli) -> None:
    done = cli("compare", "tiny-nfnet@px=64", "tiny-resnet", "--device", "fake", "--quiet", "--out", "o.jsonl")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split("  ")[0] == "model" and "tiny-nfnet is … times as fast" in lines[0]
    assert lines[-1] == (
        "On fake, fp32: a step of tiny-nfnet is 1.000 times as fast as one of tiny-resnet (both nhwc, batch 32; 64 px "
        "against 32 px; ± within this run). This is a fake device: it says nothing about a GPU."
    )
    done = cli("compare", "tiny-nfnet", "--match", "macs", "--device", "fake", "--quiet", "--format", "csv")
    assert done.exit_code == 0, done.output
    read = list(csv.DictReader(done.stdout.splitlines()))
    assert [r["speedup"] for r in read] == ["", "1.0"]
    assert "is nearest to tiny-nfnet by counted MACs at the train px" in done.stderr
    assert "a step of tiny-nfnet is" in done.stderr
    assert Path("results/fake/compare").is_dir()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nfnet-f1"], "One net is nothing to compare."),
        (["nfnet-f1", "nfnet_f1"], "nfnet-f1 is there twice with the same settings."),
        (["nfnet-f1", "resnet50", "--match", "macs"], "--match takes the place of B: name one net."),
        (["nfnet-f1", "nope"], "There is no net called 'nope'."),
        (["nfnet-f1", "resnet50", "--within", "0"], "--within 0 is not positive."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_message(cli: Cli, args: list[str], words: str) -> None:
    done = cli("compare", *args, "--device", "fake")
    assert done.exit_code == 1 and words in done.stderr and "Traceback" not in done.stderr
    assert not Path("results").exists()
