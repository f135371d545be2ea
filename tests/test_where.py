"""Conditions on rows: their grammar, what they keep, and what is said where they keep nothing."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from conftest import Cli
from make import accuracy, result
from test_table import cells, kept

from nfbench.analysis import query
from nfbench.analysis.findings import Finding
from nfbench.analysis.query import parse, select
from nfbench.errors import BadResults
from nfbench.records import StepTime

ROWS: list[dict[str, Any]] = [
    {"model": "nfnet-f0", "batch": 32, "step_time": 0.05, "agc": 0.01, "layout": "nhwc", "start": "2026-01-01T00:00"},
    {"model": "NFNet_F1", "batch": 64, "step_time": 0.2, "agc": 0.04, "layout": "nhwc", "start": "2026-03-01T00:00"},
    {"model": "resnet50", "batch": 32, "step_time": 0.1, "agc": "none", "layout": "nchw", "composed": True},
    {"model": "their, net=a", "batch": 8, "peak": 3 * 2**30, "top1": 0.9, "diverged_at": (24, 25)},
]


def left(*texts: str) -> list[int]:
    """The places of the rows that are kept."""
    (found,) = select(parse(texts), ROWS)
    return [next(place for place, row in enumerate(ROWS) if row is one) for one in found]


def refused(*texts: str, rows: list[dict[str, Any]] = ROWS) -> BadResults:
    """What is said where conditions keep nothing."""
    with pytest.raises(BadResults) as told:
        select(parse(texts), rows)
    return told.value


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("model=nfnet-f0", [0]),
        ("model = NFNET_F0", [0]),
        ("model=nfnetf1", [1]),
        ("model!=resnet50", [0, 1, 3]),
        ("batch=32,64", [0, 1, 2]),
        ("batch=[32, 64]", [0, 1, 2]),
        ("batch!=32,64", [3]),
        ("batch=32,layout=nhwc", [0]),
        ("batch=32,8,layout=nchw", [2]),
        ("step_time<100ms", [0]),
        ("step_time<=0.1", [0, 2]),
        ("step-time>=100 ms", [1, 2]),
        ("step_time>=0.1s", [1, 2]),
        ("peak>2GiB", [3]),
        ("top1>=90%", [3]),
        ("agc=1%", [0]),
        ("agc=none", [2]),
        ("agc>0.02", [1]),
        ("model~nfnet*", [0, 1]),
        ("model~nfnet-f?,batch=64", [1]),
        ("layout~NH*", [0, 1]),
        ("start>=2026-02", [1]),
        ("composed=true", [2]),
        ("diverged_at=25", [3]),
        ("model='their, net=a'", [3]),
        ('model="their, net=a",batch=8', [3]),
    ],
)
def test_a_condition_keeps_the_rows_that_meet_it(text: str, places: list[int]) -> None:
    assert left(text) == places


def test_all_conditions_must_hold_none_keeps_all_and_what_lacks_the_column_meets_none() -> None:
    assert left("batch=32", "layout=nhwc") == [0] and left() == [0, 1, 2, 3]
    assert 3 not in left("layout!=nchw") and 3 not in left("step_time<3600")


def test_a_finding_is_named_by_its_code() -> None:
    rows: list[dict[str, Any]] = [{"findings": [Finding("drift", "Slower.", "Wait.")]}, {"findings": []}]
    assert select(parse(["findings=drift"]), rows) == [rows[:1]]
    assert select(parse(["findings!=drift"]), rows) == [rows[1:]]


def test_kinds_are_judged_together_and_one_without_the_column_is_left_out() -> None:
    runs = [{"model": "resnet50", "top1": 0.9}]
    assert select(parse(["top1>0.5"]), ROWS[:3], runs) == [[], runs]
    assert select(parse(["model=resnet50"]), ROWS, runs) == [[ROWS[2]], runs]


@pytest.mark.parametrize("text", ["", "=", "model", ",", "=x", "<3", "'", "\N{SNOWMAN}", "[32]", "batch"])
def test_what_is_no_condition_is_said_with_an_example(text: str) -> None:
    error = refused(text)
    assert "--where" in error.try_ and ("is no condition" in error.what or "leaves a quote open" in error.what)


@pytest.mark.parametrize("text", ["a=", "a==", "a==b", "a=,b", "batch=32,", "batch=[]", "a<", "a='',b"])
def test_a_condition_without_a_value_is_said(text: str) -> None:
    assert f"gives {text.partition('=')[0].strip('<')} no value" in refused(text).what


def test_an_order_takes_one_value() -> None:
    error = refused("batch<8,16")
    assert "batch<8,16 compares with several values" in error.what and error.try_ == "--where batch<8"


def test_a_quote_that_is_left_open_is_said_and_an_apostrophe_is_none() -> None:
    assert "leaves a quote open" in refused('machine="A, B').what
    rows = [{"machine": "Ann's box"}]
    assert select(parse(["machine=ann's box"]), rows) == [rows]


@pytest.mark.parametrize("unit", ["3xs", "20m", "12G", "1h", "2min", "100us"])
def test_units_beyond_the_plain_ones_are_no_numbers_and_are_said(unit: str) -> None:
    assert (
        f"They are numbers in SI units, and {unit!r} is none; 100ms, 1% and 2GiB are."
        in refused(f"step_time<{unit}").why
    )


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("modell=nfnet-f0,resnet50", "--where model=nfnet-f0,resnet50"),
        ("batc>=32", "--where 'batch>=32'"),
        ("modle~nfnet-*", "--where 'model~nfnet-*'"),
        ('layuot="a, b"', "--where 'layout=\"a, b\"'"),
    ],
)
def test_the_condition_that_is_suggested_is_a_whole_one_with_the_right_key(typed: str, suggested: str) -> None:
    assert refused(typed).try_ == suggested
    # what is suggested is no slip itself, though it may leave nothing
    (condition,) = parse(shlex.split(suggested)[1:])
    query.check([condition.key], ROWS, "--where")


@pytest.mark.parametrize("typed", ["foo", "nope", "x", "zzz", "stop"])
def test_what_is_near_nothing_has_no_suggestion(typed: str) -> None:
    error = refused(f"{typed}=1", rows=[{"floor": 1, "nodes": 2, "model": "a", "top1": 0.5}])
    assert error.try_ == "" and "nearest" not in error.why


def test_the_condition_that_leaves_none_is_named_with_the_values_that_there_are() -> None:
    error = refused("layout=nhwc", "batch=7")
    assert error.what == "No result is left by --where batch=7 after layout=nhwc."
    assert error.why == "The values of batch there: 32, 64."
    many = [{"model": f"net-{place}", "batch": place} for place in range(40)]
    assert "model has 40 values; the nearest: net-3" in refused("model=net-3x", rows=many).why
    assert "batch has 40 values, 0 to 39" in refused("batch=99", rows=many).why
    assert select([], [], []) == [[], []] and "There are no results" in refused("batch=8", rows=[]).why


@pytest.mark.parametrize("text", ["model=y", "modle=y", "model~*a*a*a*a*b"])
def test_what_a_stranger_wrote_stays_short_and_on_its_line(text: str) -> None:
    said = str(refused(text, rows=[{"model": "x" * 10**6 + "\x1b[31m\n", "a\x1b\nb" * 10**5: 1}]))
    assert "\x1b" not in said and len(said) < 1000 and len(said.splitlines()) == 3


def test_a_number_that_is_none_is_kept_by_no_condition() -> None:
    rows = [{"batch": float("nan")}, {"batch": 10**400}, {"batch": 8}]
    assert select(parse(["batch<9"]), rows) == [rows[2:]]
    assert select(parse(["batch>9"]), rows) == [rows[1:2]]
    assert select(parse(["batch=8"]), rows) == [rows[2:]]


def test_the_table_keeps_what_is_asked_for_of_every_kind(cli: Cli) -> None:
    large = result("resnet50", workload=StepTime(model="resnet50", batch=64), id="b")
    folder = kept(result("resnet50"), large, accuracy("tiny-resnet", id="c"))
    for text, models in (("batch=64", ["resnet50"]), ("kind=accuracy", ["tiny-resnet"])):
        done = cli("table", folder, "--where", text, "--format", "csv")
        assert [row["model"] for row in cells(done.stdout)] == models
    done = cli("table", folder, "--where", "batch=7")
    assert done.exit_code == 1
    assert done.stderr.startswith("No result is left by --where batch=7.\nThe values of batch there: 32, 50, 64.")
