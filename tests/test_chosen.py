"""`table` with columns and order that were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from make import accuracy, once, result
from test_table import cells, kept

from nfbench.analysis.query import ordered
from nfbench.records import Result, StepTime
from nfbench.showing import views


def step(model: str = "resnet50", batch: int = 32, time: float = 0.1, **fields: Any) -> Result:
    asked = StepTime(model=model, batch=batch)
    return result(model, (time,) * 20, workload=asked, id=f"{model}-{batch}-{fields.get('round', 0)}", **fields)


@pytest.fixture
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


def test_columns_stand_in_the_order_in_which_they_were_asked_for(several: Path, cli: Cli) -> None:
    for asked in (["--columns", "batch,model,step_time"], ["--columns", "batch,model", "--columns", "step-time"]):
        text = cli("table", several, *asked, "--sort", "model", "--format", "csv").stdout
        assert text.splitlines()[:2] == ["batch,model,step_time", "32,nfnet-f2,0.2"]
        people = cli("table", several, *asked, "--where", "batch=64", "--format", "md").stdout
        assert people.splitlines()[::2] == ["| batch | model | step time |", "| 64 | resnet50 | 125.0 ms ± 0 % |"]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("top1_low", 0.9, "90.00 %"),
        ("data_share", 0.15, "15.00 %"),
        ("moved_bytes", 2.0**20, "1.00 MiB"),
        ("trial_nhwc", 0.004, "4.000 ms"),
        ("copy_bandwidth", 2e9, "2.00 GB/s"),
        ("gap", -0.01, "−1.00 pp"),
        ("macs", 4.1e9, "4.10 GMAC"),
        ("px", 224, "224"),
        ("train_loss", 0.123456, "0.1235"),
    ],
)
def test_any_column_is_shown_to_people_with_its_unit(key: str, value: float, text: str) -> None:
    column = views.column(key, [{key: value}])
    assert (column.text({key: value}), column.text({}), column.right) == (text, "–", True)


@pytest.mark.parametrize("flag", ["--columns", "--sort"])
def test_a_column_that_no_result_has_is_said_with_the_nearest(flag: str, several: Path, cli: Cli) -> None:
    done = cli("table", several, flag, "model,bacth")
    first, second, third = done.stderr.splitlines()
    assert done.exit_code == 1 and done.stdout == ""
    assert first == f"{flag} bacth: no result here has such a column."
    assert second.startswith("The nearest: batch. They hold model, px, batch, agc, ") and " more. " in second
    assert third == f"Try: {flag} batch"
    done = cli("table", several, flag, " , ")
    assert done.exit_code == 2 and f"Invalid value for {flag}: no column is named" in done.stderr


def test_rows_are_sorted_by_numbers_as_numbers_and_names_as_people_count(several: Path, cli: Cli) -> None:
    def models(*asked: str) -> list[str]:
        done = cli("table", several, "--columns", "model,batch", "--format", "csv", *asked)
        return [f"{row['model']}/{row['batch']}" for row in cells(done.stdout)]

    names = ["nfnet-f2/32", "nfnet-f10/32", "resnet50/8", "resnet50/64", "resnet101/32"]
    assert models("--sort", "model,batch") == names and models("--sort", "-model,-batch") == names[::-1]
    assert models("--sort", "-throughput")[0] == "resnet50/64"


@pytest.mark.parametrize("key", ["step_time", "-step_time"])
def test_what_lacks_the_key_is_last_in_either_direction_and_equals_keep_their_order(key: str) -> None:
    rows = [{"model": "a"}, {"step_time": 2.0}, {"step_time": float("nan")}, {"step_time": 1.0}]
    found = ordered(rows, [key])
    assert [row.get("step_time") for row in found[:2]] == sorted([1.0, 2.0], reverse=key.startswith("-"))
    assert found[2:] == [rows[0], rows[2]]
    equal = [{"step_time": 8, "place": place} for place in range(5)]
    assert ordered(equal, [key]) == equal


def test_numbers_come_before_words_and_hostile_text_is_no_number() -> None:
    rows = [{"agc": v} for v in ("none", 0.04, "9" * 10**5, 0.01, "\N{SUPERSCRIPT TWO}")]
    assert [row["agc"] for row in ordered(rows, ["agc"])][:2] == [0.01, 0.04]


def test_a_kind_that_holds_none_of_the_columns_is_left_out_and_a_near_column_is_named(cli: Cli) -> None:
    timed = result("tiny-resnet", readings=(*result().readings, once("peak_rss", 2.0**30, "B")))
    folder = kept(timed, accuracy("tiny-resnet", id="run"))
    done = cli("table", folder, "--columns", "model,p95", "--format", "csv")
    assert len(cells(done.stdout)) == 1
    assert "Left out: training runs (1), which hold none of these columns.\n" in done.stderr
    done = cli("table", folder, "--columns", "model,p95,top1")
    assert [line.split()[0] for line in done.stdout.splitlines() if "─" not in line][:3] == [
        "kind",
        "step-time",
        "accuracy",
    ]
    assert "Left out" not in done.stderr
    done = cli("table", folder, "--columns", "model,peak_allocated")
    assert "No peak_allocated in timed steps (1); they have peak_rss." in done.stderr
    assert "No peak" not in cli("table", folder, "--columns", "model,peak_allocated,peak_rss").stderr
