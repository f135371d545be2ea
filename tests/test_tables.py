"""What all tables owe their readers: every row once, at any width, with any name, and the same in every format."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from make import HOSTILE, accuracy, once, result, turns

from nfbench.analysis import relative, rows, sweeps, turn_ratios
from nfbench.analysis import training_runs as runs
from nfbench.analysis.claims import judge
from nfbench.analysis.gate import Row as Judged
from nfbench.analysis.metrics import METRICS
from nfbench.records import PHASES, AgcCost, Dependence, Flops, Resolved, Result, StepTime, reading
from nfbench.showing import claim_tables, comparison, sweep_tables, verdicts, views
from nfbench.showing.sheet import sheet
from nfbench.showing.shown_rows import Shown, shown
from nfbench.showing.tables import Column, Format, render
from nfbench.showing.views import VIEWS, view

LONG = "x" * 10**5
RAW: tuple[Format, ...] = ("csv", "json")


def timed(model: str = "nfnet-f0", batch: int = 32, **fields: Any) -> Result:
    resolved = Resolved(px=224, micro_batch=batch, precision="fp32", layout="nhwc", agc=0.01)
    phases = (*result(times=fields.pop("times", (0.1,) * 10)).readings, reading("clip", "s", "step", "t", [0.01] * 10))
    given = {"resolved": resolved, "readings": phases} | fields
    return result(model, workload=StepTime(model=model, batch=batch), **given)


@cache
def of_names(*names: str) -> Shown:
    """Rows of every kind, one or two of each name."""
    results = [timed(name, batch) for name in names for batch in (8, 32)]
    results += [accuracy(name, seed=s, run={"dataset": f"imagefolder:{name}"}) for name in names for s in range(3)]
    results += [
        result(name, workload=AgcCost(model=name, impl=impl), readings=(reading("clip", "s", "run", "t", [0.01]),))
        for name in names
        for impl in ("foreach", "timm")
    ]
    results += [
        result(name, workload=kind(model=name), resolved=None, readings=(once("macs", 4e9),))
        for name in names
        for kind in (Flops, Dependence)
    ]
    pairs = [r for name in names for r in turns(name, "resnet50", 0.8, session=name[:90])]
    return shown(results)._replace(ratios=shown(pairs).ratios)


def against(seen: Shown) -> list[rows.Row]:
    models = list(dict.fromkeys(row["model"] for row in seen.steps))
    steps = [timed(model, batch, times=(0.1 * batch,) * 10) for model in models for batch in (8, 32)]
    held = relative.of(steps, True, rows.rows(steps)[0], [])
    return relative.against(held, models[0], {}, comparison.against_baseline)


def compared(seen: Shown) -> list[rows.Row]:
    models = [row["model"] for row in seen.steps if row["batch"] == 8]
    measured = [timed(model, session="s", round=n, times=(0.1 + 0.01 * n,) * 10) for n in range(4) for model in models]
    of_each = [[r for r in measured if r.workload.model == model] for model in models]
    pairs = [turn_ratios.paired(measured, of_each[0][0].step, other[0].step) for other in of_each[1:]]
    return comparison.lines([rows.row(group) for group in of_each], pairs)


def checked(seen: Shown) -> list[rows.Row]:
    return verdicts.lines(
        [Judged(workload=StepTime(model=r["model"], batch=r["batch"]), verdict="same", limit=0.03) for r in seen.steps]
    )


ROWS: dict[str, Callable[[Shown], Any]] = {
    "steps": lambda seen: seen.steps,
    "ratios": lambda seen: seen.ratios,
    "clips": lambda seen: seen.clips,
    "clip-steps": lambda seen: rows.clip_shares(seen.steps),
    "accuracy": lambda seen: seen.trained,
    "epochs": lambda seen: runs.epochs([accuracy(name, seed=seed) for seed, name in enumerate(("a", "b", "c"))]),
    "counted": lambda seen: [row for row in seen.counted if row["kind"] == "flops"],
    "dependence": lambda seen: [row for row in seen.counted if row["kind"] == "dependence"],
    "against": against,
    "compare": compared,
    "check": checked,
}
"""Of each view the rows that it shows."""
TEXTS: dict[str, Callable[[Shown, Format], str]] = {
    **{name: lambda seen, format, name=name: view(ROWS[name](seen), name, format) for name in ROWS},  # type: ignore[misc]
    "claims": lambda seen, format: claim_tables.table(judge([]), format),
    # beside clips stand the steps that hold one, once more
    "all": lambda seen, format: views.text(seen._replace(clips=()), format),
    "columns": lambda seen, format: views.columns(seen.rows, ["model", "batch", "step_time", "top1"], format),
    "sheet": lambda seen, format: sheet(seen.steps, format),
}
SWEEPS: dict[str, Callable[[Shown, Format], str]] = {
    "batch-sweep": lambda seen, of: sweep_tables.batch_sweep(sweeps.batch_sweep(seen.steps, seen.trained), of),
    "agc-sweep": lambda seen, format: sweep_tables.agc_sweep(sweeps.agc_sweep(seen.trained), format),
}
"""Wide tables below an answer, in which a net stands once for each quantity."""
TEXTS |= SWEEPS


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A terminal of so many columns as stdout."""

    def of(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(columns))

    return of


def lines(text: str) -> list[str]:
    for style in ("\x1b[2m", "\x1b[22m"):
        text = text.replace(style, "")
    return text.splitlines()


@pytest.mark.parametrize("name", TEXTS)
def test_each_row_is_shown_once_and_the_same_in_csv_and_json(name: str) -> None:
    seen = of_names("nfnet-f1", "resnet26", "nf-resnet26")
    table = TEXTS[name]
    raw = list(csv.DictReader(io.StringIO(table(seen, "csv"))))
    found = json.loads(table(seen, "json"))
    assert len(raw) == len(found) > 2
    for row, same in zip(raw, found, strict=True):
        filled = {key: value for key, value in row.items() if value}
        assert filled.keys() == {key for key, value in same.items() if value != []}
        assert all(float(filled[key]) == value for key, value in same.items() if type(value) in (int, float))
    names = [row.get("model", row.get("net")) for row in found]
    cells = [cell.strip() for line in table(seen, "md").splitlines() for cell in line.split("|")]
    for model in filter(None, names if name not in SWEEPS else ()):
        told = [cell for cell in cells if cell == model or cell.startswith((f"{model}, ", f"{model} ("))]
        assert len(told) == names.count(model)


@pytest.mark.parametrize(
    ("name", "width"), [*((name, 80) for name in TEXTS), *((name, 20) for name in ("all", *SWEEPS)), ("all", 120)]
)
def test_no_line_is_too_wide_and_no_name_steers_it(name: str, width: int, terminal: Callable[[int], None]) -> None:
    seen = of_names(*HOSTILE[:6], LONG)
    in_a_file = {format: TEXTS[name](seen, format) for format in ("md", *RAW)}
    terminal(width)
    text = TEXTS[name](seen, "rich")
    told = lines(text.partition("\n\n")[2] if name in SWEEPS else text)
    assert told and all(len(line) <= width and line.isprintable() for line in told)
    # only what a terminal shows depends on its width
    assert all(TEXTS[name](seen, format) == text for format, text in in_a_file.items())
    assert all(line.isprintable() and len(line) < 30_000 for line in in_a_file["md"].splitlines())


def test_every_view_is_tried_every_phase_measured_and_no_kind_has_two_columns_of_one_key() -> None:
    assert TEXTS.keys() >= VIEWS.keys()
    assert {m.key for m in METRICS["step-time"]} >= set(PHASES)
    for of in METRICS.values():
        assert len({m.key for m in of}) == len(of)


def test_a_narrow_terminal_closes_up_then_drops_columns_to_spare_and_then_folds(
    terminal: Callable[[int], None],
) -> None:
    columns = [Column("a", "a"), Column("b", "bb", spare=1), Column("c", "cc", spare=2)]
    row = {"a": "x" * 20, "b": "y" * 6, "c": "z" * 6}

    def shown_at(width: int) -> list[str]:
        terminal(width)
        return lines(render(columns, [row], "rich"))

    for width, gap in ((38, 3), (36, 2)):
        head, _, body = shown_at(width)
        assert head.split() == ["a", "bb", "cc"] and body == (" " * gap).join(row.values())
    head, _, body, left_out = shown_at(30)
    assert (head.split(), body.split(), left_out) == (["a", "bb"], ["x" * 20, "y" * 6], "Columns that do not fit: cc.")
    *table, left_out = shown_at(18)
    assert "Columns that" in f"{table[-1]}{left_out}" and "".join(table).count("x") == 20


def test_where_there_is_room_to_break_elsewhere_no_word_is_broken(terminal: Callable[[int], None]) -> None:
    terminal(80)
    columns = [Column("model", "model", right=False), Column("b", "batch"), Column("about", "about", right=False)]
    made = [{"model": f"tiny-efficientnet-{size}", "b": "1", "about": "a few more words " * 12} for size in "sml"]
    text = render(columns, made, "rich")
    assert all(row["model"] in text for row in made) and text.count("words") == 36


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_keeps_what_names_a_row_and_its_rate(width: int, terminal: Callable[[int], None]) -> None:
    terminal(width)
    made = rows.rows([timed(), timed(batch=8), timed("resnet50")])[0]
    head = lines(view(made, "steps", "rich"))[0]
    assert head.startswith("model") and all(t in head for t in ("batch", "layout", "agc λ", "step time", "images/s"))
    settings = [(c, d, b) for c in (0.01, 0.02) for d in ("a", "b") for b in (4, 8)]
    trained = [accuracy(agc=c, run={"dataset": d, "batch": b}) for c, d, b in settings]
    head = lines(view(runs.rows(trained)[0], "accuracy", "rich"))[1]
    assert all(title in head for title in ("model", "dataset", "batch", "agc λ", "top-1"))


def test_markdown_escapes_what_would_end_a_cell() -> None:
    text = render([Column("a", "A", right=False)], [{"a": "x|y\nz"}, {}], "md", "a\nb")
    assert text == "**a\\nb**\n\n| A |\n|---|\n| x\\|y\\nz |\n| – |\n"


@pytest.mark.parametrize("format", ["rich", "md", "csv", "json"])
def test_a_table_of_no_rows_is_its_head(format: Format) -> None:
    text = render([Column("a", "a"), Column("b", "b")], [], format)
    assert text == {"csv": "a,b\n", "json": "[]\n", "md": "| a | b |\n|---:|---:|\n", "rich": "a   b\n─────\n"}[format]
