"""Rows against a baseline's: which is compared with which, and how each ratio was come by."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from conftest import Cli
from make import CPU, H200, SOFTWARE, accuracy, once, result
from test_chosen import step, turns
from test_table import NEWER, cells, kept

from nfbench.analysis import relative, rows, stats
from nfbench.analysis import training_runs as accuracy_rows
from nfbench.records import Resolved, Result
from nfbench.showing.comparison import against_baseline

ENDS = {"step_time_ratio_low", "step_time_ratio_high", "throughput_ratio_low", "interval_over"}


def against(*results: Result, model: str = "resnet50", **settings: Any) -> list[rows.Row]:
    steps, _ = rows.rows(results, True)
    trained, _ = accuracy_rows.rows(results, True)
    return relative.against(relative.of(results, True, steps, trained), model, settings, against_baseline)


def test_a_ratio_within_a_session_is_paired_round_by_round_and_says_so() -> None:
    base, mine = against(*turns("resnet50", "nf-resnet50"))
    assert (base["how"], mine["how"], mine["turns"], mine["interval_over"]) == ("baseline", "in turns", 4, "4 rounds")
    # the machine slows down by 3 % over the session, and both alike
    assert mine["step_time_ratio"] == pytest.approx(2.0)
    assert mine["step_time_ratio_high"] - mine["step_time_ratio_low"] == pytest.approx(0.0, abs=1e-9)
    assert "step_time_ratio" not in base
    _, mine = against(*(r for r in turns("resnet50", "nf-resnet50") if r.round < 3))
    assert (mine["how"], mine["turns"], mine["step_time_ratio"]) == ("in turns", 3, pytest.approx(2.0))
    assert not ENDS & mine.keys()


def test_replicates_of_separate_runs_are_welchs_over_rounds() -> None:
    times = (0.2, 0.21, 0.22, 0.2, 0.23), (0.1, 0.104, 0.102, 0.101)
    nets = [step("nfnet-f0", time=t, session=f"a{n}") for n, t in enumerate(times[0])]
    base = [step(time=t, session=f"b{n}") for n, t in enumerate(times[1])]
    mine, _ = against(*nets, *base)
    assert (mine["how"], mine["interval_over"]) == ("separate runs", "5 and 4 rounds, Welch")
    logs = [[math.log(t) for t in side] for side in times]
    apart = stats.contrast([(1.0, logs[0]), (-1.0, logs[1])])
    assert mine["step_time_ratio"] == pytest.approx(math.exp(apart.value))
    # sessions of one round each tell nothing of the noise between sessions
    assert mine["step_time_ratio_high"] == pytest.approx(math.exp(apart.high or 0))


@pytest.mark.parametrize("rounds", [(3, 4), (4, 3), (1, 8)])
def test_fewer_than_four_rounds_on_either_side_give_no_interval(rounds: tuple[int, int]) -> None:
    models = ("nfnet-f0", 0.2), ("resnet50", 0.1)
    steps = [
        step(model, time=time * (1 + 0.01 * n), session=f"{model}{n}")
        for (model, time), count in zip(models, rounds, strict=True)
        for n in range(count)
    ]
    mine, _ = against(*steps)
    assert mine["step_time_ratio"] == pytest.approx(2.0, rel=0.05) and not ENDS & mine.keys()


def test_the_intervals_of_single_runs_enter_no_ratio_and_a_noisy_row_has_none() -> None:
    spread = tuple(0.1 + 0.0001 * (place % 7) for place in range(60))
    mine, base = against(result("nfnet-f0", tuple(2 * t for t in spread)), result("resnet50", spread, id="b"))
    assert all(row["step_time_low"] < row["step_time_high"] for row in (mine, base))
    assert (mine["step_time_ratio"], mine["how"]) == (2.0, "separate runs") and not ENDS & mine.keys()
    mine, _ = against(result("nfnet-f0", (0.2,)), result("resnet50", id="b"))
    assert mine["how"] == "noisy" and not {"step_time_ratio", "throughput_ratio"} & mine.keys()
    failed = result("nfnet-f0", status="error", message="x", resolved=None, readings=())
    mine, _ = against(failed, result("resnet50", id="b"))
    assert mine["status"] == "error" and not {"how", "step_time_ratio"} & mine.keys()


def test_the_row_of_the_same_batch_is_the_one_to_compare_with_else_the_nearest() -> None:
    base = [step("resnet50", batch, 0.01 * batch) for batch in (8, 32, 64)]
    same, far, *_ = against(step("nfnet-f0", 32, 0.64), step("nfnet-f0", 128, 1.28), *base)
    assert same["step_time_ratio"] == pytest.approx(2.0) and "differs" not in same
    # of images, and the other way up
    assert same["throughput_ratio"] == pytest.approx(same["throughput"] / (32 / 0.32))
    assert far["differs"].startswith("batch 128 against ")
    chosen = against(step("nfnet-f0", 32, 0.2), step("resnet50", 32, 0.1), step("resnet50", 64, 0.4), batch=64)
    assert [row["how"] for row in chosen] == ["separate runs", "separate runs", "baseline"]
    assert [row.get("step_time_ratio") for row in chosen] == [pytest.approx(0.5), pytest.approx(0.25), None]


def test_what_differs_is_told_and_two_machines_are_never_compared() -> None:
    other = Resolved(px=192, micro_batch=32, precision="bf16", layout="nchw")
    mine, _ = against(result("nfnet-f0", resolved=other), result("resnet50", id="b"))
    assert mine["differs"] == "px 192 against 224; precision bf16 against fp32; layout nchw against nhwc"
    mine, _ = against(result("nfnet-f0", software=NEWER), result("resnet50", id="b", software=SOFTWARE))
    assert mine["differs"] == "software nfbench 0.2.0, torch 2.16.0 against nfbench 0.1.0, torch 2.15.0, timm 1.0.31"
    for machine in (H200, msgspec.structs.replace(CPU, cpu_cores=64)):
        mine, base = against(result("nfnet-f0", machine=machine), result("resnet50", id="b"))
        assert not set(relative.KEYS) & mine.keys() and base["how"] == "baseline"


def test_memory_is_compared_in_the_same_kind_of_memory() -> None:
    both = result("nfnet-f0", readings=(*result().readings, once("peak_allocated", 6e9), once("peak_rss", 9e9)))
    base = result("resnet50", id="b", readings=(*result().readings, once("peak_rss", 3e9)))
    mine, _ = against(both, base)
    assert (mine["memory_ratio"], mine["memory_of"]) == (3.0, "process")


def test_top1_is_a_difference_over_seeds_of_the_same_data_set() -> None:
    own = [accuracy("tiny-nfnet", (t,), seed, id=f"a{seed}") for seed, t in enumerate((0.9, 0.92))]
    base = [accuracy("tiny-resnet", (t,), seed, id=f"b{seed}") for seed, t in enumerate((0.8, 0.82))]
    other = accuracy("tiny-nfnet", (0.5,), id="c", run={"dataset": "cifar10"})
    mine, baseline, apart = against(*own, *base, other, model="tiny-resnet")
    assert mine["top1_difference"] == pytest.approx(0.1) and mine["interval_over"] == "2 and 2 seeds, Welch"
    assert mine["top1_difference_low"] < 0.1 < mine["top1_difference_high"]
    assert baseline["how"] == "baseline" and "top1_difference" not in apart


def test_reported_ratios_stand_in_a_column_of_their_own_and_never_beside_a_cpus(cli: Cli) -> None:
    folder = kept(step("efficientnet-b7", time=0.5, machine=H200), step("nfnet-f1", time=0.1, machine=H200))
    (row, _) = cells(cli("table", folder, "--baseline", "nfnet-f1", "--format", "csv").stdout)
    assert row["step_time_ratio"] == "5.0" and "8.7" in row["reported_ratios"]
    screen = cli("table", folder, "--baseline", "nfnet-f1")
    assert "reported" in screen.stdout.splitlines()[0] and "× nfnet-f1's" in screen.stdout.splitlines()[0]
    assert "reported: at the train px of each and batch 32 per device." in screen.stdout
    on_cpu = kept(step("efficientnet-b7", time=0.5), step("nfnet-f1", time=0.1), name="cpu")
    screen = cli("table", on_cpu, "--baseline", "nfnet-f1")
    assert "× nfnet-f1's" in screen.stdout and "reported" not in screen.stdout


def test_the_table_says_how_what_differs_and_how_many_rows_have_no_ratio(cli: Cli) -> None:
    apart = step("resnet26", 64, machine=H200)
    folder = kept(*turns("resnet50", "nf-resnet50"), step("nfnet-f0", 64, 0.4), step("nfnet-f1", software=NEWER), apart)
    done = cli("table", folder, "--baseline", "resnet50", "--format", "md")
    lines = {line.split(" | ")[0].strip("| "): line for line in done.stdout.splitlines()[2:]}
    assert "| in turns (4) |" in lines["nf-resnet50"] and "| baseline |" in lines["resnet50"]
    assert " ≠ | batch 64 against 32 | separate runs |" in lines["nfnet-f0"]
    # other software is no other workload
    assert "software" in lines["nfnet-f1"] and "≠" not in lines["nfnet-f1"] + lines["nf-resnet50"]
    assert "≠: of another batch or px than the baseline's row, so the ratio is not of the nets alone." in done.stderr
    assert "separate runs: timed apart" in done.stderr and "in turns: both took turns" in done.stderr
    assert "1 of 5 rows have no ratio: there is no such baseline of their kind, machine and data set." in done.stderr
    alike = kept(step("nfnet-f0", time=0.4), step("resnet50"), name="alike")
    assert "≠" not in cli("table", alike, "--baseline", "resnet50").output


def test_a_ratio_that_is_asked_for_as_a_column_brings_how_and_what_differs(cli: Cli) -> None:
    folder = kept(step("nfnet-f0", 64, 0.4), step("resnet50", 32, 0.1))
    asked = ("table", folder, "--baseline", "resnet50", "--columns")
    (first, *_) = cli(*asked, "model,memory_ratio,step_time_ratio", "--format", "csv").stdout.splitlines()
    assert first == "model,memory_ratio,step_time_ratio,how,differs"
    row, base = json.loads(cli(*asked, "model", "--format", "json").stdout)
    assert row == {
        "model": "nfnet-f0",
        "step_time_ratio": pytest.approx(4.0),
        "how": "separate runs",
        "differs": "batch 64 against 32",
    }
    assert base == {"model": "resnet50", "how": "baseline"}
    assert "| nfnet-f0 | 4.00 ≠ | separate runs |" in cli(*asked, "model", "--format", "md").stdout
    # without a baseline there is none
    done = cli("table", folder, "--columns", "model,step_time_ratio")
    assert done.exit_code == 1
    assert done.stderr.startswith("--columns step_time_ratio: no result here has such a column.")


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        (
            "resnet5",
            "--baseline resnet5: no timed step and no training run here is of that net.\n"
            "There are: nfnet-f0, resnet50.\nTry: --baseline resnet50\n",
        ),
        ("resnet50@batch=7", "There are: batch 32."),
        ("resnet50@bacth=7", "there is no setting 'bacth'"),
    ],
)
def test_a_baseline_that_is_not_there_is_said_with_those_that_are(baseline: str, said: str, cli: Cli) -> None:
    done = cli("table", kept(step("nfnet-f0"), step("resnet50")), "--baseline", baseline)
    assert done.exit_code == 1 and said in done.stderr


def test_that_nets_are_normalized_and_clipped_otherwise_is_left_to_csv_but_another_threshold_is_not(cli: Cli) -> None:
    def net(model: str, norm: str, agc: float | None) -> Result:
        resolved = Resolved(px=224, micro_batch=32, precision="fp32", layout="nhwc", agc=agc)
        return result(model, resolved=resolved, notes={"norm": norm}, id=model)

    folder = kept(net("nfnet-f0", "none", 0.01), net("nfnet-f1", "none", 0.04), net("resnet50", "batch", None))
    asked = ("table", folder, "--baseline", "nfnet-f0", "--sort", "model")
    _, f1, resnet = cli(*asked, "--format", "md").stdout.splitlines()[2:]
    assert "| agc λ 0.04 against 0.01 |" in f1 and "norm" not in resnet and "λ" not in resnet
    assert "norm batch against none; agc λ none" in cells(cli(*asked, "--format", "csv").stdout)[2]["differs"]
