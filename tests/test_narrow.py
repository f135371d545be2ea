"""Tables in terminals of any width: what stays, what is said once, and what is left out."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Cli
from make import CPU, H200, accuracy, result, turns
from test_table import kept

from nfbench.analysis import accuracy as runs
from nfbench.analysis import rows
from nfbench.records import Resolved, Result, StepTime
from nfbench.showing import accuracy as show_accuracy
from nfbench.showing import ratios as show_ratios
from nfbench.showing import results as show
from nfbench.showing.narrow import fitted
from nfbench.showing.sheet import sheet
from nfbench.showing.study import ratios
from nfbench.showing.tables import Column, render

WIDTHS = (20, 40, 60, 80, 100, 120, 200)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A terminal of so many columns as stdout."""

    def of(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(columns))

    return of


def timed(model: str = "nfnet-f0", batch: int = 32, **fields: Any) -> Result:
    given = {"px": 224, "micro_batch": batch, "precision": "fp32", "layout": "nhwc", "agc": 0.01}
    resolved = Resolved(**(given | fields.pop("resolved", {})))
    asked = StepTime(model=model, batch=batch, **fields.pop("asked", {}))
    place = f"{model}{batch}{resolved}{asked}{fields.get('machine')}"
    return result(model, workload=asked, resolved=resolved, id=place, notes={"norm": "none"}, **fields)


def lines(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def shown(results: list[Result]) -> str:
    return show.wide(rows.rows(results, everything=True)[0], "rich")


def test_what_all_rows_share_is_said_once_above_and_what_differs_keeps_its_column(wide: Callable[[int], None]) -> None:
    wide(70)
    above, head, *_ = lines(shown([timed(batch=8), timed(batch=32), timed("resnet50", resolved={"agc": None})]))
    assert above.startswith("all: px 224, ") and "precision fp32" in above and "layout nhwc" in above
    assert head.split()[:2] == ["model", "batch"] and "agc λ" in head
    assert "px" not in head.split() and "precision" not in head


def test_a_table_that_fits_says_nothing_above_it(wide: Callable[[int], None]) -> None:
    wide(300)
    found = lines(shown([timed(batch=8), timed(batch=32)]))
    assert found[0].startswith("model") and not any("Too narrow" in line for line in found)


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize(
    ("one", "title"),
    [
        ({"batch": 8}, "batch"),
        ({"resolved": {"px": 192}}, "px"),
        ({"resolved": {"agc": 0.04}}, "agc λ"),
        ({"resolved": {"layout": "nchw"}}, "layout"),
        ({"resolved": {"precision": "bf16"}}, "precision"),
        ({"asked": {"sam": 0.05}}, "sam ρ"),
    ],
)
def test_the_setting_that_alone_tells_two_rows_apart_stays_with_the_rate(
    width: int, one: dict[str, Any], title: str, wide: Callable[[int], None]
) -> None:
    wide(width)
    made = [timed(), timed(**one), timed("resnet50", resolved={"agc": None})]
    found = lines(shown(made))
    head = next(line for line in found if line.startswith("model"))
    assert title in head and "step time" in head and "images/s" in head
    assert all(len(line) <= width for line in found)


def test_of_several_settings_that_tell_the_same_one_is_enough(wide: Callable[[int], None]) -> None:
    wide(52)
    with_sam = timed(asked={"sam": 0.05, "sam_fraction": 0.2, "sam_scope": "micro-batch"})
    found = lines(shown([timed(), with_sam, timed(batch=8), timed("resnet50", 16)]))
    head = next(line for line in found if line.startswith("model"))
    assert "sam ρ" in head and "sam scope" not in head
    assert "sam scope" in found[-1] and "sam fraction" in found[-1]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_two_rows_that_differ_look_the_same_while_a_column_could_tell_them_apart(
    width: int, wide: Callable[[int], None]
) -> None:
    made = [
        timed(batch=b, resolved={"agc": c, "layout": a}) for b, c, a in itertools.product((8, 32), (0.01, 0.02), "ab")
    ]
    laid = show.laid(rows.rows(made)[0])
    cells = [[c.show(row.get(c.key)) for c in laid.columns] for row in laid.rows]
    found = fitted(laid.columns, cells, width)
    telling = [i for i, c in enumerate(found.columns) if c.role == "setting"]
    assert len({tuple(row[i] for i in telling) for row in found.cells}) == len(made) or width < 60
    # a column that says the same of every row is gone before one that does not
    assert not found.left_out or all(
        len({row[i] for row in found.cells}) > 1 for i, c in enumerate(found.columns) if c.role
    )


def test_a_machine_becomes_a_heading_of_its_rows(wide: Callable[[int], None]) -> None:
    wide(46)
    found = lines(shown([timed(machine=CPU), timed(batch=8, machine=CPU), timed(machine=H200)]))
    rule = next(i for i, line in enumerate(found) if line.startswith("─"))
    assert [found[rule + 1], found[rule + 4]] == ["A CPU", "NVIDIA H200"]
    assert "machine" not in found[rule - 1]


def test_of_software_only_what_differs_has_a_column(wide: Callable[[int], None]) -> None:
    newer = {"nfbench": "0.2.0", "torch": "2.15.0", "timm": "1.0.31"}
    from make import SOFTWARE

    other = type(SOFTWARE)(**newer)
    wide(72)
    found = lines(shown([timed(), timed(software=other), timed(batch=8)]))
    assert "software torch 2.15.0, timm 1.0.31" in " ".join(found[:2])
    assert any(line.rstrip().endswith("nfbench 0.2.0") for line in found)


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_training_runs_keep_what_names_them_and_their_top1_at_any_width(
    width: int, wide: Callable[[int], None]
) -> None:
    wide(width)
    made = [accuracy(agc=c, run={"dataset": d, "batch": b}) for c in (0.01, 0.02) for d in ("a", "b") for b in (4, 8)]
    text = show_accuracy.wide(runs.rows(made)[0], "rich")
    assert all(len(line) <= width for line in lines(text))
    if width >= 60:
        head = next(line for line in lines(text) if line.lstrip().startswith("model"))
        assert {"dataset", "batch", "top-1"} <= set(head.split()) and "agc λ" in head


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_texts_keep_to_the_width(width: int, wide: Callable[[int], None]) -> None:
    wide(width)
    columns = [
        Column("model", "model", right=False),
        Column("software", "software", right=False, spare=3, role="setting"),
        Column("machine", "machine", right=False, role="setting"),
        Column("n", "n"),
    ]
    long = ", ".join(f"x{i}" * 50 for i in range(200))
    made = [{"model": "[red]a", "software": long, "machine": "m" * 5000, "n": i} for i in range(2)]
    found = lines(render(columns, made, "rich"))
    assert all(len(line) <= width for line in found)
    assert not any("x199" in line for line in found)


def test_a_narrow_table_of_no_rows_is_its_head(wide: Callable[[int], None]) -> None:
    wide(10)
    assert lines(render([Column("a", "a column", role="setting"), Column("b", "b")], [], "rich"))[-1:] != []


@pytest.mark.parametrize("format", ["md", "csv", "json"])
def test_only_what_a_terminal_shows_depends_on_its_width(format: Any, wide: Callable[[int], None]) -> None:
    made = rows.rows([timed(batch=8), timed(batch=32)])[0]
    before = show.wide(made, format)
    wide(20)
    assert show.wide(made, format) == before


@pytest.mark.parametrize("format", ["rich", "md"])
def test_what_is_reported_stands_below_the_sheet_and_never_among_what_was_measured(format: Any) -> None:
    paper = {"px": 192, "precision": "bf16"}
    text = sheet(rows.rows([timed(resolved=paper, machine=H200), timed("resnet50", 64, machine=H200)])[0], format)
    measured, reported = text.split("Reported, not measured here: a step of batch 32 a device (arXiv 2102.06171)")
    assert "reported" not in measured and "56.70 ms" not in measured
    assert "V100, fp16" in reported and "TPUv3, bf16" in reported and "56.70 ms" in reported
    assert "100.0 ms" in measured and "100.0 ms" not in reported


def test_a_sheet_of_nets_that_nothing_is_reported_of_has_no_such_table() -> None:
    assert "Reported" not in sheet(rows.rows([timed("resnet50", 64)])[0], "rich")


@pytest.mark.parametrize("others", [[], [H200]])
def test_figures_of_the_fake_device_are_said_to_be_such_once(others: list[Any], cli: Cli) -> None:
    from make import FAKE

    done = cli("table", kept(timed(machine=FAKE), *(timed(machine=m) for m in others)))
    said = done.stderr.count("These are figures of the fake device, which times nothing.")
    assert said == (0 if others else 1)
    if not others:
        done = cli("step-time", "--model", "tiny-nfnet", "--device", "fake", "--out", "o", "--quiet")
        assert done.stderr.count("which times nothing") == 1 and "fake device" not in done.stdout


def test_a_column_that_only_a_near_one_stands_for_is_said(cli: Cli) -> None:
    from make import once

    folder = kept(result(readings=(*result().readings, once("peak_rss", 2.0**30, "B"))))
    done = cli("table", folder, "--columns", "model,peak_allocated")
    assert done.exit_code == 0
    assert "No peak_allocated in timed steps (1); they have peak_rss." in done.stderr
    assert "No peak" not in cli("table", folder, "--columns", "model,peak_rss").stderr
    assert "No peak" not in cli("table", folder, "--columns", "model,peak_allocated,peak_rss").stderr


@pytest.mark.parametrize("value", [0.0, 1e300, float("nan"), float("inf")])
def test_a_step_of_any_length_is_shown_in_a_cell(value: float) -> None:
    text = show.with_interval({"step_time": value, "step_time_low": 0.0, "step_time_high": value})
    assert len(text) < 40


@pytest.mark.parametrize("width", [70, 80, 100])
def test_ratios_keep_their_settings_and_what_was_reported_where_words_can_be_folded(
    width: int, wide: Callable[[int], None]
) -> None:
    found = ratios(turns("bn-nfnet-f0", "nfnet-f0", 0.6, px=64) + turns("nf-resnet26", "resnet26", 0.8))
    wide(width)
    text = show_ratios.table(found, "rich")
    assert all(len(line) <= width for line in lines(text)) and "Too narrow" not in text
    for head in ("net", "baseline", "settings", "times as fast", "reported"):
        assert any(head in line for line in lines(text)[:3])
    assert "64 px" in " ".join(text.split()) and "all: turns 4, rounds 4" in text


def test_ratios_without_a_reported_figure_have_no_column_of_dashes_on_a_narrow_screen(
    wide: Callable[[int], None],
) -> None:
    wide(60)
    text = show_ratios.table(ratios(turns("nf-resnet26", "resnet26", 0.8)), "rich")
    assert "reported" not in text and "224 px" in " ".join(text.split())
    assert any(line.split() == ["net", "times", "as", "fast"] for line in lines(text))
