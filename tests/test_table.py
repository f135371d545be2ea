"""`table` over stored results: which are rows, what a row of replicates holds, and what is said beside it."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Cli
from make import FAKE, H200, once, result

from nfbench import units
from nfbench.analysis import rows
from nfbench.analysis.store import Writer, load
from nfbench.records import Resolved, Result, Software, StepTime
from nfbench.showing.sheet import sheet
from nfbench.showing.views import step_time

NEWER = Software(nfbench="0.2.0", torch="2.16.0")
TIMES = (0.1, 0.11, 0.12, 0.105)


def kept(*results: Result, name: str = "results") -> Path:
    writer = Writer(Path(name))
    for r in results:
        writer.write(r)
    return Path(name)


def cells(screen: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(screen)))


def rounds(count: int, turns: int = 1) -> list[Result]:
    """Rounds of one net; of several turns the second takes 1.21 times as long as the first."""
    return [
        result(id=f"{n}-{turn}", times=(TIMES[n] * 1.21**turn,) * 10, round=n, turn=turn, session="s")
        for n in range(count)
        for turn in range(turns)
    ]


def test_csv_and_json_hold_raw_values_in_si_units_and_people_see_them_with_units(cli: Cli) -> None:
    folder = kept(result(times=(0.125,) * 10, readings=(*result(times=(0.125,) * 10).readings, once("operators", 437))))
    (row,) = cells(cli("table", folder, "--format", "csv").stdout)
    assert (row["step_time"], row["throughput"], row["operators"]) == ("0.125", "256.0", "437.0")
    (found,) = json.loads(cli("table", folder, "--format", "json").stdout)
    assert found["step_time"] == 0.125 and not {"mfu", "step_energy"} & found.keys()
    assert "125.0 ms ± 0 %" in cli("table", folder).stdout
    assert "| 125.0 ms ± 0 % |" in cli("table", folder, "--format", "md").stdout


def test_the_newest_software_is_shown_and_the_rest_counted_and_none_is_refused(cli: Cli) -> None:
    older = result(times=(0.2,) * 10, id="older", round=1)
    old, new = result(times=(0.2,) * 10), result(times=(0.1,) * 10, software=NEWER, start="2026-02-01T00:00:00.000Z")
    folder = kept(old, older, new)
    done = cli("table", folder, "--format", "csv")
    assert [row["step_time"] for row in cells(done.stdout)] == ["0.1"]
    assert "Not shown: 2 by older software (--all shows them)." in done.stderr
    done = cli("table", folder, "--all", "--format", "csv")
    assert [row["rounds"] for row in cells(done.stdout)] == ["2", "1"] and "Not shown" not in done.stderr


def test_machines_share_a_table_with_a_column_that_tells_them_apart(cli: Cli) -> None:
    other = msgspec.structs.replace(H200, driver="590.2")
    folder = kept(result(), result(machine=H200, id="gpu"), result(machine=other, id="other"))
    screen = cli("table", folder).stdout
    assert all(name in screen for name in ("A CPU", "NVIDIA H200, driver 580.1", "NVIDIA H200, driver 590.2"))
    assert "machine" not in cli("table", kept(result(), name="one")).stdout
    # of its name alone is told what differs
    slice_ = msgspec.structs.replace(other, name="NVIDIA H100", mig_profile="1g.12gb")
    assert rows.machine_names([H200, other, slice_])[slice_] == "NVIDIA H100, 1g.12gb"


def test_rows_of_the_fake_device_never_stand_beside_real_ones_and_are_said_to_be_such_once(cli: Cli) -> None:
    folder = kept(result(), result(machine=FAKE, id="a"), result(machine=FAKE, id="b", round=1))
    done = cli("table", folder, "--format", "csv")
    assert [row["machine"] for row in cells(done.stdout)] == ["A CPU"]
    assert "Not shown: 2 of the fake device." in done.stderr and "which times nothing" not in done.stderr
    done = cli("table", kept(result(machine=FAKE), name="fake"), "--format", "csv")
    assert len(cells(done.stdout)) == 1 and done.stderr.count("which times nothing") == 1


def test_results_that_resolved_differently_are_rows_of_their_own_and_a_copy_is_none() -> None:
    resolved = Resolved(px=224, micro_batch=16, precision="fp32", layout="nchw")
    found, _ = rows.rows([result(), result(resolved=resolved)])
    assert [(row["layout"], row["micro_batch"], row["rounds"]) for row in found] == [("nhwc", 32, 1), ("nchw", 16, 1)]
    folder = kept(result())
    (path,) = folder.glob("*.jsonl")
    Path(folder, "copy.jsonl").write_bytes(path.read_bytes())
    assert len(load([folder]).results) == 1


@pytest.mark.parametrize("turns", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_replicates_are_one_row_with_their_spread_over_four_rounds_or_none(count: int, turns: int, cli: Cli) -> None:
    group = rounds(count, turns)
    ((row,), _) = rows.rows(group)
    logs = [math.log(t * (1.1 if turns == 2 else 1)) for t in TIMES[:count]]
    assert row["step_time"] == pytest.approx(math.exp(statistics.fmean(logs)))
    assert row["rounds"] == count and row.get("turns") == (2 * count if turns == 2 else None)
    few = [str(f) for f in row["findings"] if f.code == "few_rounds"]
    if count == 4:
        # Student's t of four rounds, however many turns they have
        half = 3.182446 * statistics.stdev(logs) / 2
        ends = [math.exp(statistics.fmean(logs) + side * half) for side in (-1, 1)]
        assert [row["step_time_low"], row["step_time_high"]] == pytest.approx(ends, rel=1e-6) and few == []
    elif count > 1:
        assert not {"step_time_low", "step_time_high"} & row.keys()
        assert few == [f"{count} rounds give no interval: 4 are needed. Type --rounds 4 or more."]
    folder = kept(*group)
    (line,) = cells(cli("table", folder, "--format", "csv").stdout)
    assert float(line["throughput"]) == row["throughput"] == 32 / row["step_time"]
    shown = units.significant(row["throughput"], 4)
    for text in (cli("table", folder, "--format", "md").stdout, sheet([row], "md")):
        assert re.search(rf"\| {re.escape(shown)}\b", text), text
        assert ("±" in text) == ("step_time_low" in row)


@pytest.mark.parametrize(("steps", "interval"), [(9, False), (10, True)])
def test_one_window_of_fewer_than_ten_steps_has_no_interval(steps: int, interval: bool) -> None:
    times = tuple(0.1 + 0.001 * (i % 3) for i in range(steps))
    one = result(times=times)
    ((row,), _) = rows.rows([one])
    assert ("step_time_low" in row) == interval and row["step_time"] == pytest.approx(statistics.median(times))
    # a long run keeps not every step, but says how many there were
    told = result(times=times, readings=(*one.readings, once("steps", 1000)))
    assert "step_time_low" in rows.rows([told])[0][0]


def test_a_failed_row_has_its_status_and_no_rate_and_one_among_replicates_is_counted() -> None:
    failed = result(status="out_of_memory", message="OutOfMemoryError: CUDA", resolved=None, readings=())
    ((row,), _) = rows.rows([failed])
    assert row["status"] == "out_of_memory" and not {"step_time", "throughput"} & row.keys()
    assert str(row["findings"][0]).startswith("Ended as out of memory: OutOfMemoryError: CUDA.")
    ((row,), _) = rows.rows([result(), result(), result(status="error", message="x")])
    assert row["status"] == "2 ok, 1 error"


def test_times_that_no_clock_could_give_are_no_rate_and_fit_in_a_cell(cli: Cli) -> None:
    done = cli("table", kept(result(times=(0.0,) * 10)), "--format", "csv")
    assert done.exit_code == 0 and cells(done.stdout)[0]["step_time"] == ""
    for value in (0.0, 1e300, float("nan"), float("inf")):
        assert len(step_time({"step_time": value, "step_time_low": 0.0, "step_time_high": value})) < 40


def test_reported_figures_stand_only_where_batch_px_and_device_are_the_papers_and_apart_from_measured_ones() -> None:
    paper = Resolved(px=192, micro_batch=32, precision="bf16", layout="nhwc")

    def row_of(resolved: Resolved = paper, **fields: Any) -> rows.Row:
        return rows.rows([result("nfnet-f0", resolved=resolved, **({"machine": H200} | fields))])[0][0]

    row = row_of()
    assert (row["reported_v100_step_time"], row["reported_tpuv3_step_time"]) == (0.0567, 0.0733)
    other_px, on_cpu = row_of(msgspec.structs.replace(paper, px=256)), row_of(machine=result().machine)
    other_batch = row_of(workload=StepTime(model="nfnet-f0", batch=64))
    assert not any("reported_v100_step_time" in other for other in (other_px, on_cpu, other_batch))
    measured, reported = sheet([row], "md").split(
        "Reported, not measured here: a step of batch 32 per device (arXiv 2102.06171)"
    )
    assert "reported" not in measured and "56.70 ms" not in measured and "100.0 ms" in measured
    assert "V100, fp16" in reported and "TPUv3, bf16" in reported and "56.70 ms" in reported
    assert "Reported" not in sheet([on_cpu], "rich")


@pytest.mark.parametrize("command", ["table", "plot"])
def test_no_results_is_one_worded_message(command: str, cli: Cli) -> None:
    done = cli(command, "nowhere")
    assert done.exit_code == 1 and done.stderr.startswith("There is no file or folder nowhere.\nTry: nfbench step-time")
    Path("empty").mkdir()
    done = cli(command, "empty")
    assert done.exit_code == 1
    assert done.stderr.startswith("No result in empty: no .jsonl file with a line in it.")


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
    said = "Not shown: 4 results of older sessions; newer ones measured the same."
    for command in (("table", folder), ("plot", folder, "--kind", "speedup"), ("report", folder, "-o", "report.md")):
        done = cli(*command)
        assert done.exit_code == 0, done.output
        if command[0] != "report":
            assert said in done.stderr
    assert "0.500" in Path("report.md").read_text()
