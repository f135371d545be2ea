from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
import sys
from pathlib import Path

import msgspec
import pytest
from conftest import Cli
from make import CPU, FAKE, H200, SOFTWARE, once, result

from nfbench import units
from nfbench.analysis import rows
from nfbench.analysis.metrics import METRICS
from nfbench.analysis.store import Writer, load
from nfbench.records import Conditions, Resolved, Result, Software, StepTime
from nfbench.showing.sheet import sheet
from nfbench.showing.tables import Column, render

NEWER = Software(nfbench="0.2.0", torch="2.16.0")


def kept(*results: Result, name: str = "results") -> Path:
    writer = Writer(Path(name))
    for r in results:
        writer.write(r)
    return Path(name)


def cells(screen: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(screen)))


def test_csv_and_json_hold_raw_values_in_si_units(cli: Cli) -> None:
    folder = kept(result(times=(0.125,) * 10, readings=(*result(times=(0.125,) * 10).readings, once("operators", 437))))
    (row,) = cells(cli("table", folder, "--format", "csv").stdout)
    assert (row["step_time"], row["throughput"], row["operators"]) == ("0.125", "256.0", "437.0")
    (found,) = json.loads(cli("table", folder, "--format", "json").stdout)
    assert found["step_time"] == 0.125
    assert "mfu" not in found and "step_energy" not in found


def test_rich_and_markdown_show_units_and_the_interval(cli: Cli) -> None:
    folder = kept(result(times=(0.125,) * 10))
    assert "125.0 ms ± 0 %" in cli("table", folder).stdout
    assert "| 125.0 ms ± 0 % |" in cli("table", folder, "--format", "md").stdout


def test_the_newest_software_is_shown_and_the_rest_counted(cli: Cli) -> None:
    older = result(times=(0.2,) * 10, id="older", round=1)
    old, new = result(times=(0.2,) * 10), result(times=(0.1,) * 10, software=NEWER, start="2026-02-01T00:00:00.000Z")
    folder = kept(old, older, new)
    done = cli("table", folder, "--format", "csv")
    assert [row["step_time"] for row in cells(done.stdout)] == ["0.1"]
    assert "Set aside: 2 by older software (--all shows them)." in done.stderr
    done = cli("table", folder, "--all", "--format", "csv")
    assert len(cells(done.stdout)) == 2 and "Set aside" not in done.stderr


def test_machines_share_a_table_only_with_a_column_that_says_so(cli: Cli) -> None:
    folder = kept(result(), result(machine=H200, id="gpu"))
    screen = cli("table", folder).stdout
    assert "machine" in screen and "A CPU" in screen and "NVIDIA H200" in screen
    assert "machine" not in cli("table", kept(result(), name="one")).stdout


def test_machines_of_one_name_are_told_apart_by_what_differs(cli: Cli) -> None:
    other = msgspec.structs.replace(H200, driver="590.2")
    screen = cli("table", kept(result(machine=H200), result(machine=other, id="other"))).stdout
    assert "NVIDIA H200, driver 580.1" in screen and "NVIDIA H200, driver 590.2" in screen


def test_each_machine_is_told_apart_from_those_of_its_own_name_alone() -> None:
    a, b = H200, msgspec.structs.replace(H200, driver="590.2")
    alone = msgspec.structs.replace(H200, name="NVIDIA A100", driver="1.0")
    slice_ = msgspec.structs.replace(alone, name="NVIDIA H100", mig_profile="1g.12gb")
    names = rows.machine_names([a, b, a, alone, slice_])
    assert names == {
        a: "NVIDIA H200, driver 580.1",
        b: "NVIDIA H200, driver 590.2",
        alone: "NVIDIA A100",
        slice_: "NVIDIA H100, 1g.12gb",
    }


def test_a_brief_row_holds_what_a_whole_one_does_but_metrics_and_findings() -> None:
    given = [result(conditions=Conditions(other_processes=1)), result("resnet26", times=())]
    for whole, brief in zip(rows.rows(given)[0], rows.rows(given, brief=True)[0], strict=True):
        # images/s are those of the step time and cost nothing
        kept = {k: v for k, v in whole.items() if k not in METRICS or k == "throughput"}
        assert brief == {k: v for k, v in kept.items() if k != "findings"}
    assert "throughput" in rows.rows(given)[0][0] and rows.rows(given)[0][0]["findings"]


def test_results_that_resolved_differently_are_rows_of_their_own() -> None:
    resolved = Resolved(px=224, micro_batch=16, precision="fp32", layout="nchw")
    found, _ = rows.rows([result(), result(resolved=resolved)])
    assert [(row["layout"], row["micro_batch"], row["rounds"]) for row in found] == [("nhwc", 32, 1), ("nchw", 16, 1)]


def test_a_result_that_was_copied_into_a_second_file_counts_once() -> None:
    folder = kept(result())
    (path,) = folder.glob("*.jsonl")
    Path(folder, "copy.jsonl").write_bytes(path.read_bytes())
    assert len(load([folder]).results) == 1


def test_rows_of_the_fake_device_never_stand_beside_real_ones(cli: Cli) -> None:
    done = cli(
        "table", kept(result(), result(machine=FAKE, id="a"), result(machine=FAKE, id="b", round=1)), "--format", "csv"
    )
    assert [row["machine"] for row in cells(done.stdout)] == ["A CPU"]
    assert "Set aside: 2 of the fake device." in done.stderr
    assert len(cells(cli("table", kept(result(machine=FAKE), name="fake"), "--format", "csv").stdout)) == 1


TIMES = (0.1, 0.11, 0.12, 0.105)


def rounds(count: int, turns: int = 1) -> list[Result]:
    """Rounds of one net; of several turns the second takes 1.21 times as long as the first."""
    return [
        result(id=f"{n}-{turn}", times=(TIMES[n] * 1.21**turn,) * 10, round=n, turn=turn, session="s")
        for n in range(count)
        for turn in range(turns)
    ]


@pytest.mark.parametrize("turns", [1, 2])
def test_replicates_are_one_row_with_their_spread_over_rounds(turns: int) -> None:
    ((row,), _) = rows.rows(rounds(4, turns))
    logs = [math.log(t * (1.1 if turns == 2 else 1)) for t in TIMES]
    half = 3.182446 * statistics.stdev(logs) / 2  # Student's t of four rounds, however many turns they have
    mean = statistics.fmean(logs)
    found = [row[key] for key in ("step_time", "step_time_low", "step_time_high")]
    assert found == pytest.approx([math.exp(v) for v in (mean, mean - half, mean + half)], rel=1e-6)
    assert row["rounds"] == 4 and row.get("turns") == (8 if turns == 2 else None)
    assert "few_rounds" not in {f.code for f in row["findings"]}


@pytest.mark.parametrize("turns", [1, 2])
@pytest.mark.parametrize("count", [2, 3])
def test_two_or_three_rounds_have_a_step_time_without_an_interval_and_say_so(count: int, turns: int, cli: Cli) -> None:
    ((row,), _) = rows.rows(rounds(count, turns))
    mean = statistics.geometric_mean(TIMES[:count]) * (1.1 if turns == 2 else 1)
    assert row["step_time"] == pytest.approx(mean)
    assert not {"step_time_low", "step_time_high"} & row.keys() and row["rounds"] == count
    (few,) = [f for f in row["findings"] if f.code == "few_rounds"]
    assert str(few) == f"{count} rounds give no interval: 4 are needed. Take --rounds 4 or more."
    assert "±" not in cli("table", kept(*rounds(count, turns))).stdout


@pytest.mark.parametrize(("steps", "interval"), [(9, False), (10, True)])
def test_one_window_of_fewer_than_ten_steps_has_no_interval(steps: int, interval: bool, cli: Cli) -> None:
    times = tuple(0.1 + 0.001 * (i % 3) for i in range(steps))
    one = result(times=times)
    ((row,), _) = rows.rows([one])
    assert ("step_time_low" in row) == interval and row["step_time"] == pytest.approx(statistics.median(times))
    assert ("±" in cli("table", kept(one)).stdout) == interval
    # a long run keeps not every step, but says how many there were
    told = result(times=times, readings=(*one.readings, once("steps", 1000)))
    assert "step_time_low" in rows.rows([told])[0][0]


@pytest.mark.parametrize("turns", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_images_a_second_are_the_batch_over_the_step_time_of_the_row(count: int, turns: int, cli: Cli) -> None:
    group = rounds(count, turns)
    ((row,), _) = rows.rows(group)
    assert row["throughput"] == 32 / row["step_time"]
    assert rows.rows(group, brief=True)[0][0]["throughput"] == row["throughput"]
    folder = kept(*group)
    (line,) = cells(cli("table", folder, "--format", "csv").stdout)
    assert float(line["throughput"]) == 32 / float(line["step_time"])
    shown = units.significant(row["throughput"], 4)
    for text in (cli("table", folder, "--format", "md").stdout, sheet([row], "md")):
        assert re.search(rf"\| {re.escape(shown)}\b", text), text


def test_a_failed_row_has_its_status_and_no_rate() -> None:
    failed = result(status="out_of_memory", message="OutOfMemoryError: CUDA", resolved=None, readings=())
    ((row,), _) = rows.rows([failed])
    assert row["status"] == "out_of_memory" and "step_time" not in row and "throughput" not in row
    assert str(row["findings"][0]).startswith("Ended as out of memory: OutOfMemoryError: CUDA.")


def test_a_failure_among_replicates_is_counted() -> None:
    ((row,), _) = rows.rows([result(), result(), result(status="error", message="x")])
    assert row["status"] == "2 ok, 1 error"


def test_reported_figures_stand_beside_only_where_batch_and_px_are_the_papers() -> None:
    paper = Resolved(px=192, micro_batch=32, precision="bf16", layout="nhwc")
    ((row,), _) = rows.rows([result("nfnet-f0", resolved=paper, machine=H200)])
    assert (row["reported_v100_step_time"], row["reported_tpuv3_step_time"]) == (0.0567, 0.0733)
    other = msgspec.structs.replace(paper, px=256)
    assert "reported_v100_step_time" not in rows.rows([result("nfnet-f0", resolved=other, machine=H200)])[0][0]
    large = result("nfnet-f0", resolved=paper, machine=H200, workload=StepTime(model="nfnet-f0", batch=64))
    assert "reported_v100_step_time" not in rows.rows([large])[0][0]
    # a CPU's figure stands beside no GPU's
    assert "reported_v100_step_time" not in rows.rows([result("nfnet-f0", resolved=paper)])[0][0]


def test_the_model_of_a_stranger_is_shown_all_the_same(cli: Cli) -> None:
    done = cli("table", kept(result("their-net\x1b[31m")))
    assert done.exit_code == 0 and "their-net" in done.stdout and "\x1b" not in done.stdout


def test_broken_lines_are_skipped_counted_and_said(cli: Cli) -> None:
    folder = kept(result())
    (path,) = folder.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b"{broken\n{also\n")
    done = cli("table", folder)
    assert done.exit_code == 0
    assert f"Skipped 2 lines that hold no result: {path}, line 2: broken or cut off" in done.stderr


@pytest.mark.parametrize("command", ["table", "plot"])
def test_no_results_is_one_worded_message(command: str, cli: Cli) -> None:
    done = cli(command, "nowhere")
    assert done.exit_code == 1 and done.stderr.startswith("There is no file or folder nowhere.\nTry: nfbench step-time")
    Path("empty").mkdir()
    done = cli(command, "empty")
    assert done.exit_code == 1
    assert done.stderr.startswith("No result in empty: no .jsonl file with a line in it.")


def test_times_that_no_clock_could_give_are_no_rate(cli: Cli) -> None:
    done = cli("table", kept(result(times=(0.0,) * 10)), "--format", "csv")
    assert done.exit_code == 0
    assert cells(done.stdout)[0]["step_time"] == ""


def test_a_narrow_terminal_does_without_columns_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    columns = [Column("a", "a"), Column("b", "bb", spare=1), Column("c", "cc", spare=2)]
    row = {"a": "x" * 20, "b": "y" * 6, "c": "z" * 6}
    lines = render(columns, [row], "rich").splitlines()
    assert [line.split() for line in lines if "─" not in line] == [["a", "bb"], ["x" * 20, "y" * 6], lines[-1].split()]
    assert lines[-1] == "Too narrow here for: cc."


def test_a_frame_has_one_row_a_group() -> None:
    frame = rows.frame(rows.rows([result("resnet50"), result("resnet26")])[0])
    assert list(frame["model"]) == ["resnet50", "resnet26"]
    assert frame["step_time"].tolist() == [0.1, 0.1]


def test_markdown_escapes_what_would_end_a_cell() -> None:
    text = render([Column("a", "A", right=False)], [{"a": "x|y\nz"}, {}], "md")
    assert text == "| A |\n|---|\n| x\\|y z |\n| – |\n"


def test_software_is_never_a_reason_to_refuse() -> None:
    chosen = rows.choose([result(), result(software=NEWER), result(machine=CPU, software=SOFTWARE)], everything=True)
    assert [len(group) for group in chosen.groups] == [2, 1]


def test_a_table_a_ratio_and_a_figure_are_of_the_same_session_where_one_was_measured_again(cli: Cli) -> None:
    def session(name: str, start: str, net: float, baseline: float) -> list[Result]:
        return [
            result(model, (time,) * 10, id=f"{name}{turn}{model}", session=name, turn=turn, start=start)
            for turn in range(2)
            for model, time in (("nf-resnet50", net), ("resnet50", baseline))
        ]

    folder = kept(
        *session("20260101T000000Z-0001", "2026-01-01T00:00:00.000Z", 0.4, 0.1),
        *session("20260102T000000Z-0002", "2026-01-02T00:00:00.000Z", 0.2, 0.1),
    )
    rows = cells(cli("table", folder, "--format", "csv").stdout)
    (ratio,) = [row for row in rows if row["kind"] == "ratio"]
    assert float(ratio["speedup"]) == pytest.approx(0.5)
    assert [row["step_time"] for row in rows if row["model"] == "nf-resnet50" and row["step_time"]] == ["0.2"]
    based = cells(cli("table", folder, "--baseline", "resnet50", "--format", "csv").stdout)
    (ratio,) = [row for row in based if row["model"] == "nf-resnet50"]
    assert float(ratio["step_time_ratio"]) == pytest.approx(2.0)
    said = "Set aside: 4 of other sessions of the same workloads."
    for command in (("table", folder), ("plot", folder, "--kind", "speedup"), ("report", folder, "-o", "report.md")):
        done = cli(*command)
        assert done.exit_code == 0, done.output
        if command[0] != "report":
            assert said in done.stderr
    assert "0.500" in Path("report.md").read_text()
