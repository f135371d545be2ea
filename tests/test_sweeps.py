from __future__ import annotations

import re
from typing import Any

import pytest
from make import CPU, H200, reading, result
from make import accuracy as training
from sweep_cases import BATCHES, GIB, agc_results, batch_results, norm_results, run, step

from nfbench.analysis import rows, sweeps, training_runs
from nfbench.records import AgcCost, Resolved, Result, StepTime
from nfbench.showing import answers, sweep_tables
from nfbench.showing.shown_rows import shown
from nfbench.showing.tables import Laid

STEPS = batch_results()
RUNS = agc_results()


def batches(*results: Result) -> list[rows.Row]:
    return sweeps.batch_sweep(rows.rows(results)[0], training_runs.rows(results)[0])


def clips(*results: Result) -> list[rows.Row]:
    return sweeps.agc_sweep(training_runs.rows(results)[0])


def counted(table: list[rows.Row]) -> tuple[int, int]:
    """How many rows are of timed steps, and how many of training runs."""
    return sum("status" in row for row in table), sum("trained_status" in row for row in table)


def cell(table: list[rows.Row], **where: object) -> rows.Row:
    (row,) = [r for r in table if all(r.get(key) == value for key, value in where.items())]
    return row


def test_a_batch_sweep_has_a_row_for_each_net_and_batch_also_where_it_failed() -> None:
    frame = batches(*STEPS)
    assert len(frame) == len(STEPS) == 3 * len(BATCHES)
    assert list(dict.fromkeys(row["net"] for row in frame)) == ["nfnet-f0", "nf-resnet50", "resnet50"]
    assert cell(frame, net="nfnet-f0", batch=256)["status"] == "out_of_memory"
    trained = training_runs.rows(RUNS)[0]
    both = sweeps.batch_sweep(rows.rows(STEPS)[0], trained)
    assert counted(both) == (len(STEPS), len(trained))


def test_values_are_raw_in_si_units_and_what_is_absent_has_no_entry() -> None:
    frame = batches(step("resnet50", 64, 0.5, micro_batch=16, memory=4 * GIB), step("resnet50", 128, None))
    row = cell(frame, batch=64)
    assert row["step_time"] == pytest.approx(0.51)
    assert row["throughput"] == pytest.approx(64 / 0.51)
    assert row["throughput_low"] == 64 / row["step_time_high"]
    assert (row["micro_batch"], row["accumulation_steps"]) == (16, 4)
    assert (row["peak_memory"], row["peak_memory_of"], row["memory_image"]) == (4 * GIB, "allocated", GIB / 4)
    assert not {"step_time", "throughput", "peak_memory", "image_energy", "top1"} & set(cell(frame, batch=128))


def test_top1_stands_in_the_row_of_the_step_of_its_net_batch_and_machine() -> None:
    timed = [step("tiny-nf-resnet", b, 0.1, px=32, machine=CPU) for b in (32, 64)]
    frame = batches(*timed, run(batch=64, top1=0.9), run(batch=64, top1=0.92, seed=1), run(batch=128, top1=None))
    assert len(frame) == 3
    both = cell(frame, batch=64)
    assert (both["status"], both["top1"], both["seeds"], both["dataset"]) == ("ok", pytest.approx(0.91), 2, "digits")
    assert "top1" not in cell(frame, batch=32)
    alone = cell(frame, batch=128)
    assert (alone["trained_status"], alone["diverged"], alone["diverged_at"]) == ("diverged", 1, 25)
    assert "status" not in alone and "step_time" not in alone


def test_a_run_at_another_px_or_clip_is_no_accuracy_of_that_step() -> None:
    frame = batches(step("tiny-nf-resnet", 64, 0.1, px=224, machine=CPU), run(batch=64, agc=0.01))
    assert len(frame) == 2 and {row["net"] for row in frame} == {"tiny-nf-resnet, 224 px", "tiny-nf-resnet, 32 px"}
    frame = batches(step("tiny-nf-resnet", 64, 0.1, px=32, machine=CPU), run(batch=64, agc="none"))
    assert {row["net"] for row in frame} == {"tiny-nf-resnet, λ 0.01", "tiny-nf-resnet, λ none"}


def test_nets_are_told_apart_by_the_settings_in_which_they_differ() -> None:
    names = {row["net"] for row in batches(*norm_results())}
    assert {"resnet50, batch norm", "resnet50, group norm", "resnet50, frozen norm", "nf-resnet50"} < names


def test_a_layout_that_was_left_to_the_device_is_one_net_over_all_batches() -> None:
    frame = batches(step("resnet50", 2, 0.1, layout="nchw"), step("resnet50", 64, 0.1, layout="nhwc"))
    assert [row["net"] for row in frame] == ["resnet50"] * 2


def test_what_failed_before_its_settings_were_known_is_of_the_one_net_that_it_can_be() -> None:
    frame = batches(
        step("resnet50", 32, 0.1, px=224), step("resnet50", 64, 0.2, px=224), step("resnet50", 64, 0.1, px=96),
        step("resnet50", 32, 0.1, px=96), step("resnet50", 128, 0.3, px=96), step("resnet50", 128, None),
    )  # fmt: skip
    assert cell(frame, batch=128, status="out_of_memory")["net"] == "resnet50, 224 px"


def test_an_agc_sweep_has_a_row_for_each_threshold_and_batch() -> None:
    frame = clips(*RUNS)
    assert len(frame) == 6 * 4
    assert [row["agc"] for row in frame[::4]] == [0.01, 0.02, 0.04, 0.08, 0.16, "none"]
    row = cell(frame, agc="none", batch=256)
    assert (row["status"], row["runs"], row["seeds"], row["diverged"], row["diverged_at"]) == ("diverged", 2, 0, 2, 25)
    assert cell(frame, agc=0.01, batch=64)["lr"] == pytest.approx(0.1 * 64 / 256)


def texts(grid: Laid) -> dict[str, list[str]]:
    """The cells of each line, by what it is of."""
    lines = [[column.text(row) for column in grid.columns] for row in grid.rows]
    return {line[0]: line[1:] for line in lines}


def test_thresholds_go_down_with_none_last_and_batches_across() -> None:
    (grid,) = sweep_tables.agc_grids(clips(*reversed(RUNS)))
    assert list(texts(grid)) == ["0.01", "0.02", "0.04", "0.08", "0.16", "none"]
    assert [column.title for column in grid.columns] == ["λ", "batch 32", "batch 64", "batch 128", "batch 256"]


def test_cells_say_what_diverged_what_failed_and_what_is_absent() -> None:
    frame = clips(
        run(batch=32, agc=0.01, top1=0.98), run(batch=32, agc=0.01, top1=0.984, seed=1),
        run(batch=32, agc="none", top1=None), run(batch=64, agc=0.01, top1=0.971),
        run(batch=64, agc=0.01, top1=None, seed=1), run(batch=64, agc=0.01, top1=None, seed=2),
        run(batch=64, agc="none", status="out_of_memory"), run(batch=128, agc=0.01, top1=0.97),
    )  # fmt: skip
    (grid,) = sweep_tables.agc_grids(frame)
    assert texts(grid)["0.01"] == ["98 ± 3 %", "2 of 3 diverged; 97.10 %", "97.00 %"]
    assert texts(grid)["none"] == ["diverged at 25", "out of memory", "–"]
    failed = clips(run(top1=0.97), run(seed=1, status="error", top1=0.5))
    assert texts(sweep_tables.agc_grids(failed)[0]) == {"0.01": ["1 of 2 failed; 97.00 %"]}


def test_a_step_that_did_not_fit_is_a_cell_of_the_table() -> None:
    (grid,) = [grid for grid in sweep_tables.batch_grids(batches(*STEPS)) if grid.title == "step time, by batch"]
    assert list(texts(grid)) == ["nfnet-f0", "nf-resnet50", "resnet50"]
    assert texts(grid)["nfnet-f0"][BATCHES.index(256)] == "out of memory"
    assert texts(grid)["nfnet-f0"][BATCHES.index(2)] == "32.64 ms"


def test_people_get_one_wide_table_a_quantity_below_the_answer() -> None:
    text = sweep_tables.batch_sweep(batches(*STEPS), "md")
    assert text.splitlines()[0] == (
        "Largest batch of one pass: nfnet-f0 64, nf-resnet50 128; out of memory: nfnet-f0 at 256; "
        "highest (under 4 rounds): resnet50, 517.7 images/s at batch 256."
    )
    for title in ("images/s", "step time", "peak memory, allocated on the device"):
        assert f"**{title}, by batch**" in text
    assert "**energy" not in text and "top-1" not in text


def test_an_agc_sweep_says_how_many_runs_diverge_and_which_is_best() -> None:
    for format in ("md", "rich"):
        text = sweep_tables.agc_sweep(clips(*RUNS), format)  # type: ignore[arg-type]
        assert text.splitlines()[0] == (
            "tiny-nf-resnet on digits: without the clip 4 of 8 runs diverge; with it 1 of 40 runs diverge; "
            "highest (not clear of the next) 98 ± 3 % without the clip, batch 64."
        )
        assert "diverged at 25" in text and "λ" in text


def test_the_answer_calls_nothing_best_that_no_interval_sets_apart() -> None:
    def said(*results: Result) -> str:
        return sweep_tables.batch_answer(batches(*results))

    one = [run("tiny-nf-resnet", 32, top1=0.95), run("tiny-resnet", 32, "none", 0.9)]
    assert said(*one) == "Highest (one seed) on digits: tiny-nf-resnet, 95.00 % at batch 32."
    near = [
        run(m, 32, a, 0.9 + s / 100, s) for m, a in (("tiny-nf-resnet", 0.01), ("tiny-resnet", "none")) for s in (0, 1)
    ]
    assert said(*near).startswith("Highest (not clear of the next) on digits")
    apart = [*near[:2], *(run("tiny-resnet", 32, "none", 0.5 + s / 1000, s) for s in (0, 1))]
    assert said(*apart).startswith("Most accurate on digits: tiny-nf-resnet")
    assert said(run(top1=0.11), run(top1=0.12, batch=32)) == ""


def test_the_largest_batch_that_was_listed_is_no_limit() -> None:
    assert "largest batch" not in sweep_tables.batch_answer(batches(step(batch=8), step(batch=16))).lower()
    text = sweep_tables.batch_answer(batches(step(batch=8), step(batch=16, micro_batch=8)))
    assert text.startswith("Largest batch of one pass: resnet50 8;")
    assert "quickest" not in sweep_tables.batch_answer(batches(step("resnet50", 8), step("nf-resnet50", 8, 0.1)))


def test_machines_and_data_sets_never_share_a_table() -> None:
    frame = batches(step(batch=8, machine=CPU), step(batch=8), step(batch=16), run(), run(dataset="mnist"))
    titles = [str(grid.title) for grid in sweep_tables.batch_grids(frame)]
    assert "A CPU: images/s, by batch" in titles and "NVIDIA H200: images/s, by batch" in titles
    assert sum("top-1" in title for title in titles) == 2
    grids = sweep_tables.agc_grids(clips(run(), run(dataset="mnist"), run(machine=H200)))
    assert len(grids) == 3 and str(grids[0].title).startswith("A CPU, ")


def test_numbers_that_no_type_holds_stay_in_the_table_and_a_time_that_is_not_finite_is_absent() -> None:
    frame = batches(step(batch=2**64, micro_batch=2**64), step(batch=8, seconds=float("nan")))
    assert sorted(row["batch"] for row in frame) == [8, 2**64]
    row = cell(frame, batch=8)
    assert "step_time" not in row and "throughput" not in row


# what studies that sweep answer


def clip(impl: Any, turn: int, time: float, clipped: float) -> Result:
    readings = (reading("clip", "s", "step", "test", [time]),)
    workload = AgcCost(model="nfnet-f0", impl=impl, clipped=clipped)
    return result(workload=workload, session="s", turn=turn, readings=readings)


COST = [
    clip(impl, turn, time, share)
    for turn in range(4)
    for share in (0.0, 0.5, 1.0)
    for impl, time in (("timm", 0.03 + 0.001 * turn), ("reference", 0.1), ("foreach", 0.01 * (1 + share)))
]


def clipping(batch: int, impl: Any, share: float) -> Result:
    """A step of 0.1 s of which the clip takes a ``share``."""
    phases = (*result().readings, reading("clip", "s", "step", "test", [0.1 * share] * 20))
    resolved = Resolved(px=192, micro_batch=batch, precision="fp32", layout="nhwc", agc=0.01, agc_impl=impl)
    workload = StepTime(model="nfnet-f0", batch=batch, agc_impl=impl)
    return result("nfnet-f0", workload=workload, readings=phases, resolved=resolved)


def test_the_cost_of_agc_is_its_share_of_a_step_and_how_long_timms_loop_takes() -> None:
    steps = [clipping(1, "foreach", 0.04), clipping(4, "foreach", 0.015), clipping(1, "timm", 0.13)]
    (sentence,) = answers.sentences("agc-cost", shown([*COST, *steps]))
    assert sentence.startswith(
        "On A CPU: the clip by foreach is 4.0 % of nfnet-f0's step at batch 1 and 1.5 % at batch 4. timm's loop takes "
    )
    assert re.search(
        r"takes 3\.\d+ times as long on nfnet-f0 with 0 % of the units over their limit, 1\.\d+ with 100 %\. "
        r"This is a CPU: it says nothing about a GPU\.$",
        sentence,
    )


def over_batches(model: str, batch: int, tops: tuple[float, ...]) -> list[Result]:
    return [training(model, (0.3, top), seed, run={"batch": batch}, agc=0.01) for seed, top in enumerate(tops)]


def test_over_batches_the_smallest_is_set_against_the_largest_with_intervals() -> None:
    gone = training("tiny-nfnet", (0.1,), 5, status="diverged", run={"batch": 4, "epochs": 2})
    runs = [
        *over_batches("tiny-resnet", 4, (0.40, 0.41, 0.42)),
        *over_batches("tiny-resnet", 8, (0.10, 0.11, 0.12)),
        *over_batches("tiny-resnet", 32, (0.80, 0.81, 0.82)),
        *over_batches("tiny-nfnet", 4, (0.80, 0.81, 0.85)),
        *over_batches("tiny-nfnet", 32, (0.79, 0.82, 0.84)),
    ]
    sentence = answers.sentences("small-batch", shown(runs))[0]
    assert sentence.startswith("On A CPU: top-1 on digits of ")
    assert "tiny-resnet: 41 ± 2 % at batch 4 and 81 ± 2 % at 32, which is higher" in sentence.replace(".0 ", " ")
    assert re.search(r"tiny-nfnet: 82 ± \d+ % at batch 4 and 82 ± \d+ % at 32, not told apart", sentence)
    # what diverged is said beside the top-1 that it is not in
    sentence = answers.sentences("mine", shown([*runs, gone]))[0]
    assert re.search(r"tiny-nfnet: \d+ ± \d+ % \(1 of 4 diverged\) at batch 4 and \d+ ± \d+ % at 32", sentence)
    # a threshold's sweep has an answer of its own
    limits = [training("tiny-nfnet", run={"batch": b, "agc": a}, agc=a) for b in (4, 8) for a in (0.01, 0.02, 0.04)]
    assert not [line for line in answers.sentences("mine", shown(limits)) if "top-1 on" in line]
