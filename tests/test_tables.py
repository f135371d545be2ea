"""What all tables owe their readers: every row once, at any width, with any name, and the same in every format."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from make import H200, HOSTILE, accuracy, once, result, turns
from nfbench.showing.baseline_tables import differences
from nfbench.showing.results import sheet
from sweep_cases import agc_results, batch_results

from nfbench.analysis import relative, rows, sweeps, turn_ratios
from nfbench.analysis import training_runs as runs
from nfbench.analysis.rows import clip_rows, count_rows
from nfbench.records import AgcCost, Dependence, Flops, Resolved, Result, StepTime, reading
from nfbench.showing import accuracy as show_accuracy
from nfbench.showing import comparison, results, sweep_tables, views
from nfbench.showing.shown_rows import ratios
from nfbench.showing.tables import Column, Format, render
from nfbench.showing.views import Kinds

LONG = "x" * 10**5


def timed(model: str = "nfnet-f0", batch: int = 32, **fields: Any) -> Result:
    resolved = Resolved(px=224, micro_batch=batch, precision="fp32", layout="nhwc", agc=0.01)
    return result(model, workload=StepTime(model=model, batch=batch), **({"resolved": resolved} | fields))


def of_names(*names: str) -> Kinds:
    """Rows of every kind, one or two of each name."""
    steps = [timed(name, batch) for name in names for batch in (8, 32)]
    costs = [
        result(name, workload=AgcCost(model=name, impl=impl), readings=(reading("clip", "s", "run", "t", [0.01]),))
        for name in names
        for impl in ("foreach", "timm")
    ]
    trained = [accuracy(name, seed=seed, run={"dataset": f"imagefolder:{name}"}) for name in names for seed in range(3)]
    counts = [
        result(name, workload=kind(model=name), resolved=None, readings=(once("macs", 4e9),))
        for name in names
        for kind in (Flops, Dependence)
    ]
    pairs = [r for name in names for r in turns(name, "resnet50", 0.8, session=name[:90])]
    return Kinds(
        rows.rows(steps)[0],
        views.of_ratios(ratios(pairs)),
        clip_rows(costs),
        runs.rows(trained)[0],
        count_rows(counts),
    )


def of_kind(name: str) -> Callable[[Kinds, Format], str]:
    # beside clips stand the steps that hold one, and there are none
    return lambda kinds, format: views.texts(replace(kinds, steps=()) if name == "clips" else kinds, format)[name]


def against(kinds: Kinds, format: Format) -> str:
    models = list(dict.fromkeys(row["model"] for row in kinds.steps))
    steps = [timed(model, batch, times=(0.1 * batch,) * 10) for model in models for batch in (8, 32)]
    held = relative.of(steps, True, rows.rows(steps)[0], [])
    return views.text(Kinds(relative.against(held, models[0], {}, differences)), format, against=True)


def compared(kinds: Kinds, format: Format) -> str:
    models = [row["model"] for row in kinds.steps if row["batch"] == 8]
    measured = [timed(model, session="s", round=n, times=(0.1 + 0.01 * n,) * 10) for n in range(4) for model in models]
    of_each = [[r for r in measured if r.workload.model == model] for model in models]
    pairs = [turn_ratios.paired(measured, of_each[0][0].step, other[0].step) for other in of_each[1:]]
    return comparison.table([rows.row(group) for group in of_each], pairs, format)


VIEWS: dict[str, Callable[[Kinds, Format], str]] = {
    **{name: of_kind(name) for name in ("steps", "ratios", "clips", "accuracy", "counted")},
    "all": lambda kinds, format: views.text(kinds, format),
    "chosen": lambda kinds, format: (
        views.chosen(kinds.rows, ["model", "batch", "step_time", "top1"]).text(format)
        if format in ("rich", "md")
        else views.raw(kinds.rows, ["model", "batch", "step_time", "top1"], format)
    ),
    "against": against,
    "sheet": lambda kinds, format: sheet(kinds.steps, format),
    "compared": compared,
}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A terminal of so many columns as stdout."""

    def of(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(columns))

    return of


def lines(text: str) -> list[str]:
    for style in ("\x1b[1m", "\x1b[2m", "\x1b[22m", "\x1b[0m"):
        text = text.replace(style, "")
    return text.splitlines()


@pytest.mark.parametrize("view", VIEWS)
def test_each_row_is_shown_once_and_the_same_in_csv_and_json(view: str) -> None:
    kinds = of_names("nfnet-f1", "resnet26", "nf-resnet26")
    table = VIEWS[view]
    raw = list(csv.DictReader(io.StringIO(table(kinds, "csv"))))
    found = json.loads(table(kinds, "json"))
    assert len(raw) == len(found) > 2
    for row, same in zip(raw, found, strict=True):
        filled = {name: value for name, value in row.items() if value}
        assert filled.keys() == {name for name, value in same.items() if value != []}
        assert all(float(filled[name]) == value for name, value in same.items() if type(value) in (int, float))
    names = [row.get("model", row.get("net")) for row in found]
    cells = [cell.strip() for line in table(kinds, "md").splitlines() for cell in line.split("|")]
    for name in names:
        shown = [cell for cell in cells if cell == name or cell.startswith((f"{name}, ", f"{name} ("))]
        assert len(shown) == names.count(name)


@pytest.mark.parametrize(("view", "width"), [*((view, 80) for view in VIEWS), ("all", 20), ("all", 120)])
def test_no_line_is_too_wide_and_no_name_steers_it(view: str, width: int, terminal: Callable[[int], None]) -> None:
    kinds = of_names(*HOSTILE[:6], LONG)
    in_a_file = {format: VIEWS[view](kinds, format) for format in ("md", "csv", "json")}
    terminal(width)
    shown = lines(VIEWS[view](kinds, "rich"))
    assert shown and all(len(line) <= width and line.isprintable() for line in shown)
    # only what a terminal shows depends on its width
    assert all(VIEWS[view](kinds, format) == text for format, text in in_a_file.items())
    assert all(line.isprintable() and len(line) < 30_000 for line in in_a_file["md"].splitlines())


@pytest.mark.parametrize("width", [20, 80])
def test_wide_tables_of_sweeps_and_epochs_keep_to_the_width_too(width: int, terminal: Callable[[int], None]) -> None:
    terminal(width)
    steps, trained = (rows.rows(batch_results())[0], runs.rows(agc_results(HOSTILE[6]))[0])
    for text in (
        sweep_tables.batch_sweep(sweeps.batch_sweep(steps, []), "rich").partition("\n\n")[2],
        sweep_tables.agc_sweep(sweeps.agc_sweep(trained), "rich").partition("\n\n")[2],
        show_accuracy.epochs([accuracy(), accuracy(seed=1)], "rich"),
    ):
        assert all(len(line) <= width and line.isprintable() for line in lines(text))


def test_a_narrow_terminal_drops_columns_to_spare_and_then_folds(terminal: Callable[[int], None]) -> None:
    columns = [Column("a", "a"), Column("b", "bb", spare=1), Column("c", "cc", spare=2)]
    row = {"a": "x" * 20, "b": "y" * 6, "c": "z" * 6}
    terminal(300)
    assert lines(render(columns, [row], "rich"))[0].split() == ["a", "bb", "cc"]
    terminal(30)
    head, _, body, said = lines(render(columns, [row], "rich"))
    assert (head.split(), body.split(), said) == (["a", "bb"], ["x" * 20, "y" * 6], "Too narrow here for: cc.")
    terminal(18)
    *table, said = lines(render(columns, [row], "rich"))
    assert said.startswith("Too narrow") or "Too narrow" in table[-1]
    assert "".join(table).count("x") == 20


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_keeps_what_names_a_row_and_its_rate(width: int, terminal: Callable[[int], None]) -> None:
    terminal(width)
    made = rows.rows([timed(), timed(batch=8), timed("resnet50", machine=H200)])[0]
    head = lines(results.laid(made).text("rich"))[0]
    assert head.startswith("model") and all(title in head for title in ("batch", "agc λ", "step time", "images/s"))
    settings = [(c, d, b) for c in (0.01, 0.02) for d in ("a", "b") for b in (4, 8)]
    trained = [accuracy(agc=c, run={"dataset": d, "batch": b}) for c, d, b in settings]
    head = lines(show_accuracy.laid(runs.rows(trained)[0]).text("rich"))[1]
    assert all(title in head for title in ("model", "dataset", "batch", "agc λ", "top-1"))


def test_markdown_escapes_what_would_end_a_cell() -> None:
    text = render([Column("a", "A", right=False)], [{"a": "x|y\nz"}, {}], "md", "a\nb")
    assert text == "**a b**\n\n| A |\n|---|\n| x\\|y z |\n| – |\n"


@pytest.mark.parametrize("format", ["rich", "md", "csv", "json"])
def test_a_table_of_no_rows_is_its_head(format: Format) -> None:
    text = render([Column("a", "a"), Column("b", "b")], [], format)
    assert text == {"csv": "a,b\n", "json": "[]\n", "md": "| a | b |\n|---:|---:|\n", "rich": "a   b\n─────\n"}[format]
