"""`table` with columns, order and groups that were asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from make import H200, accuracy, once, result, step_times
from test_table import cells, kept

from nfbench.analysis.columns import grouped, ordered
from nfbench.records import Flops, Resolved, Result, StepTime
from nfbench.showing import chosen


def step(model: str = "resnet50", batch: int = 32, time: float = 0.1, **fields: Any) -> Result:
    asked = StepTime(model=model, batch=batch)
    return result(model, (time,) * 20, workload=asked, id=f"{model}-{batch}-{fields.get('round', 0)}", **fields)


def several() -> Path:
    return kept(
        step("nfnet-f10", 32, 0.4),
        step("nfnet-f2", 32, 0.2),
        step("resnet50", 64, 0.125),
        step("resnet50", 8, 0.05),
        result("resnet101", status="error", message="x", resolved=None, readings=(), id="failed"),
    )


def turns(*models: str, times: Sequence[float] = (0.1, 0.2)) -> list[Result]:
    """Nets that took turns in four rounds of one session."""
    return [
        result(
            model,
            (time * (1 + 0.01 * round),) * 10,
            session="20260101T000000Z-aaaa",
            round=round,
            id=f"{model}{round}",
            start=f"2026-01-01T00:00:{10 * round + place:02}.000Z",
        )
        for round in range(4)
        for place, (model, time) in enumerate(zip(models, times, strict=True))
    ]


def lines(screen: str) -> list[list[str]]:
    """The cells of each line of a table, without the rule."""
    return [line.split("   ") for line in screen.splitlines() if "─" not in line]


def test_columns_stand_in_the_order_in_which_they_were_asked_for(cli: Cli) -> None:
    folder = several()
    for asked in (["--columns", "batch,model,step_time"], ["--columns", "batch,model", "--columns", "step-time"]):
        text = cli("table", folder, *asked, "--sort", "model", "--format", "csv").stdout
        assert text.splitlines()[:2] == ["batch,model,step_time", "32,nfnet-f2,0.2"]
    assert (
        "| batch | model | step time |"
        in cli("table", folder, "--columns", "batch,model,step_time", "--format", "md").stdout
    )


def test_a_value_that_a_row_lacks_is_a_dash_an_empty_field_or_no_key(cli: Cli) -> None:
    asked = ("table", several(), "--columns", "model,step_time", "--where", "status=error")
    assert cli(*asked).stdout.splitlines()[2].split() == ["resnet101", "–"]
    assert cli(*asked, "--format", "md").stdout.splitlines()[2] == "| resnet101 | – |"
    assert cells(cli(*asked, "--format", "csv").stdout) == [{"model": "resnet101", "step_time": ""}]
    assert json.loads(cli(*asked, "--format", "json").stdout) == [{"model": "resnet101"}]


def test_people_see_units_and_intervals_and_csv_holds_si(cli: Cli) -> None:
    asked = ("table", several(), "--columns", "step_time,throughput,norm", "--where", "batch=64")
    assert "125.0 ms ± 0 %" in cli(*asked).stdout
    assert cells(cli(*asked, "--format", "csv").stdout) == [{"step_time": "0.125", "throughput": "512.0", "norm": ""}]


def test_shares_bytes_and_times_of_any_column_are_shown_with_their_unit() -> None:
    rows = [{"top1_low": 0.9, "moved_bytes": 2.0**20, "time_to_bn": 90.0, "bandwidth": 2e9, "gap": -0.01, "lr": 0.1}]
    (line,) = chosen.laid(rows, list(rows[0])).rows
    assert list(line.values()) == ["90.00 %", "1.00 MiB", "1 min 30 s", "2.00 GB/s", "−1.00 pp", "0.1"]


def test_a_column_that_no_result_has_is_said_with_the_nearest_and_those_that_there_are(cli: Cli) -> None:
    for flag in ("--columns", "--sort", "--group-by"):
        done = cli("table", several(), flag, "model,bacth")
        first, second, third = done.stderr.splitlines()
        assert done.exit_code == 1 and done.stdout == ""
        assert first == f"{flag} bacth: no result here has such a column."
        assert second.startswith("The nearest: batch. They hold model, px, batch, agc, ") and " more. " in second
        assert third == f"Try: {flag} batch"


@pytest.mark.parametrize("flag", ["--columns", "--sort", "--group-by"])
@pytest.mark.parametrize("typed", ["", " , "])
def test_no_column_at_all_is_worded(flag: str, typed: str, cli: Cli) -> None:
    done = cli("table", several(), flag, typed)
    assert done.exit_code == 2 and done.stdout == ""
    assert f"Invalid value for {flag}: no column is named; type model,batch,step_time." in done.stderr


def test_a_column_that_only_other_devices_have_is_there_and_empty(cli: Cli) -> None:
    done = cli("table", several(), "--columns", "model,mfu", "--format", "csv")
    assert done.exit_code == 0 and {row["mfu"] for row in cells(done.stdout)} == {""}


def test_rows_are_sorted_by_numbers_as_numbers_and_names_as_people_count(cli: Cli) -> None:
    def models(*asked: str) -> list[str]:
        done = cli("table", several(), "--columns", "model,batch", "--format", "csv", *asked)
        return [f"{row['model']}/{row['batch']}" for row in cells(done.stdout)]

    assert models("--sort", "model,batch") == [
        "nfnet-f2/32",
        "nfnet-f10/32",
        "resnet50/8",
        "resnet50/64",
        "resnet101/32",
    ]
    assert models("--sort", "-model,-batch")[:3] == ["resnet101/32", "resnet50/64", "resnet50/8"]
    assert models("--sort", "-throughput")[0] == "resnet50/64"


@pytest.mark.parametrize("key", ["step_time", "-step_time"])
def test_what_lacks_the_key_is_last_in_either_direction(key: str) -> None:
    rows = [{"model": "a"}, {"step_time": 2.0}, {"step_time": float("nan")}, {"step_time": 1.0}]
    found = ordered(rows, [key])
    assert [row.get("step_time") for row in found[:2]] == sorted([1.0, 2.0], reverse=key.startswith("-"))
    assert found[2:] == [rows[0], rows[2]]


@pytest.mark.parametrize("key", ["batch", "-batch"])
def test_equal_rows_stay_in_their_order(key: str) -> None:
    rows = [{"batch": 8, "place": place} for place in range(5)]
    assert ordered(rows, [key]) == rows


def test_numbers_come_before_words_and_hostile_text_is_no_number() -> None:
    rows = [{"agc": v} for v in ("none", 0.04, "9" * 10**5, 0.01, "\N{SUPERSCRIPT TWO}")]
    assert [row["agc"] for row in ordered(rows, ["agc"])][:2] == [0.01, 0.04]


def test_each_group_has_a_table_under_its_name_without_its_columns(cli: Cli) -> None:
    asked = ("table", several(), "--columns", "model,batch,step_time", "--group-by", "model", "--sort", "-batch,model")
    first, rest = cli(*asked).stdout.split("\n\n", 1)
    assert first.splitlines()[0] == "model: resnet50"
    assert first.splitlines()[1].split() == ["batch", "step", "time"]
    assert rest.count("model: ") == 3
    text = cli(*asked, "--format", "md").stdout
    assert text.startswith(
        "**model: resnet50**\n\n| batch | step time |\n|---:|---:|\n| 64 | 125.0 ms ± 0 % |\n| 8 | 50.00 ms ± 0 % |\n\n"
        "**model: nfnet-f2**\n"
    )


def test_groups_stand_together_and_their_keys_first_in_csv_and_json(cli: Cli) -> None:
    folder = kept(step("b", 8), step("a", 4), step("b", 16))
    asked = ("table", folder, "--columns", "batch,step_time", "--group-by", "model", "--sort", "-batch")
    assert [line[:5] for line in cli(*asked, "--format", "csv").stdout.splitlines()] == [
        "model",
        "b,16,",
        "b,8,0",
        "a,4,0",
    ]
    assert [list(row) for row in json.loads(cli(*asked, "--format", "json").stdout)] == [
        ["model", "batch", "step_time"]
    ] * 3


def test_a_row_without_the_key_is_in_a_group_of_its_own() -> None:
    rows: list[dict[str, Any]] = [{"a": 1}, {}, {"a": 1}, {"a": None}]
    assert [len(group) for group in grouped(rows, ["a"])] == [2, 2]
    assert chosen.above({}, ["model"], "rich") == "model: –\n"


def test_groups_of_every_kind_keep_the_tables_of_their_kinds(cli: Cli) -> None:
    folder = kept(step("tiny-resnet"), accuracy("tiny-resnet", id="run"), accuracy("tiny-nfnet", id="other"))
    screen = cli("table", folder, "--group-by", "model").stdout
    first, second = screen.split("model: tiny-nfnet\n")
    assert "100.0 ms" in first and "Training: " in first
    assert "100.0 ms" not in second and "Training: " in second


def test_all_kinds_are_shown_also_what_was_counted_and_what_took_turns(cli: Cli) -> None:
    counted = result("resnet50", workload=Flops(model="resnet50"), readings=(once("macs", 4e9),), id="count")
    folder = kept(*turns("resnet50", "nf-resnet50"), counted, accuracy("tiny-resnet", id="run"))
    screen = cli("table", folder).stdout
    for part in ("times as fast", "MACs", "4.000 G", "Training: "):
        assert part in screen
    found = json.loads(cli("table", folder, "--format", "json").stdout)
    assert sorted(row["kind"] for row in found) == ["accuracy", "flops", "ratio", "step-time", "step-time"]
    (ratio,) = (row for row in found if row["kind"] == "ratio")
    assert (ratio["net"], ratio["baseline"], ratio["speedup"]) == ("resnet50", "nf-resnet50", pytest.approx(2.0))


def test_a_kind_that_holds_none_of_the_columns_is_left_out_and_said(cli: Cli) -> None:
    folder = kept(step("tiny-resnet"), accuracy("tiny-resnet", id="run"))
    done = cli("table", folder, "--columns", "model,p95", "--format", "csv")
    assert len(cells(done.stdout)) == 1
    assert "Left out: training runs (1), which hold none of these columns.\n" in done.stderr
    done = cli("table", folder, "--columns", "model,p95,top1")
    assert [line[0].split()[0] for line in lines(done.stdout)] == ["kind", "step-time", "accuracy"]
    assert "Left out" not in done.stderr


@pytest.mark.parametrize("format", ["rich", "md"])
def test_a_strangers_names_neither_steer_the_terminal_nor_fill_it(format: str, cli: Cli) -> None:
    hostile = "*<b>[x](y)`|\x1b[31m\nz" + "x" * 10**6
    folder = kept(result(hostile), result("../../etc", id="b", machine=H200))
    done = cli("table", folder, "--group-by", "model", "--columns", "batch,machine", "--format", format)
    assert done.exit_code == 0 and "\x1b" not in done.stdout and len(done.stdout) < 2000
    heading = done.stdout.splitlines()[0]
    assert heading.startswith(
        r"**model: \*\<b\>\[x\](y)\`\| \[31m z" if format == "md" else "model: *<b>[x](y)`| [31m z"
    )


def test_order_columns_and_front_go_together(cli: Cli) -> None:
    folder = kept(accuracy("tiny-nfnet", id="a", macs=2e7), accuracy("tiny-resnet", id="b", macs=1e7, top1=(0.95,)))
    done = cli(
        "table", folder, "--front", "macs", "--columns", "model,front,macs", "--sort", "-macs", "--format", "csv"
    )
    assert [(row["model"], row["front"]) for row in cells(done.stdout)] == [
        ("tiny-nfnet", "False"),
        ("tiny-resnet", "True"),
    ]


def test_composed_is_said_where_a_step_time_is_asked_for(cli: Cli) -> None:
    resolved = Resolved(px=32, micro_batch=8, precision="fp32", layout="nhwc")
    composed = result(resolved=resolved, composed=True, readings=(step_times(0.1),))
    assert "composed" in cli("table", kept(composed), "--columns", "model,step_time,composed").stdout


def test_rows_of_several_kinds_in_one_table_are_sorted_together(cli: Cli) -> None:
    folder = kept(step("tiny-resnet", 8), step("tiny-resnet", 64), accuracy("tiny-resnet", id="run"))
    for asked in (("--columns", "batch,kind"), ()):
        found = cells(cli("table", folder, *asked, "--sort", "-batch", "--format", "csv").stdout)
        assert [(row["kind"], row["batch"]) for row in found] == [
            ("step-time", "64"),
            ("accuracy", "50"),
            ("step-time", "8"),
        ]


def test_a_chart_stands_under_no_table_of_a_file(cli: Cli) -> None:
    assert cli("table", several()).stdout == cli("table", several(), "--no-chart").stdout
