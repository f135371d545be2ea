"""Charts under tables: what is drawn and where, how wide, and for which streams."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from make import CPU, H200, result, step_times
from sweep_cases import batch_results, run, step

from nfbench.analysis import accuracy, compare, rows, stats, sweeps
from nfbench.analysis.store import Writer
from nfbench.catalog import published
from nfbench.records import Result, StepTime
from nfbench.showing import chart, chart_ratios, chart_rows, chart_study, chart_sweeps, spelling
from nfbench.showing.chart import ASCII, BLOCKS, REPORTED, Chart, Screen

WIDE, NARROW = Screen(100), Screen(60)
PLAIN = Screen(80, ASCII, "ascii")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self.said = encoding

    def isatty(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.said


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command with a terminal as stdout, and give what it shows."""

    def run(*args: object, encoding: str = "utf-8", columns: int = 80, term: str = "xterm-256color") -> str:
        from nfbench.cli import main

        screen = Terminal(encoding)
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "NFBENCH_NO_CHART"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", term)
        monkeypatch.setattr(sys, "stdout", screen)
        main.main([str(a) for a in args], prog_name="nfbench", standalone_mode=False)
        return screen.getvalue()

    return run


def texts(lines: Chart) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def row_of(name: str, lines: Chart) -> str:
    (line,) = [text for text in texts(lines) if text.startswith(name)]
    return line


def batches(*results: Result, screen: Screen = WIDE) -> Chart:
    frame = sweeps.batch_sweep(rows.rows(results)[0], accuracy.rows(results)[0])
    return chart_sweeps.batch_sweep(frame, screen)


def clips(*results: Result, screen: Screen = WIDE) -> Chart:
    return chart_sweeps.agc_sweep(sweeps.agc_sweep(accuracy.rows(results)[0]), screen)


def timed(model: str, seconds: float | None, low: float | None = None, high: float | None = None) -> rows.Row:
    row = {"model": model, "batch": 32, "status": "ok", "kind": "step-time"}
    more = {"step_time": seconds, "step_time_low": low, "step_time_high": high}
    return row | {key: value for key, value in more.items() if value is not None}


def cells(line: str, count: int, start: int) -> list[str]:
    """Cells of seven characters and a gap, as a wide screen has them."""
    return [line[start + 8 * i : start + 8 * i + 7] for i in range(count)]


@pytest.mark.parametrize("screen", [WIDE, NARROW, PLAIN], ids=["wide", "narrow", "ascii"])
@pytest.mark.parametrize("seconds", [1.0, 0.5, 0.123, 0.004])
def test_a_bar_is_as_long_as_its_value_within_one_cell(screen: Screen, seconds: float) -> None:
    table = [timed("longest", 1.0), timed("other", seconds)]
    lengths = {}
    for name in ("longest", "other"):
        line = row_of(name, chart_rows.times(table, screen))
        lengths[name] = sum(c in screen.glyphs.bar for c in line.removeprefix(name))
    assert lengths["longest"] > 20
    assert abs(lengths["other"] - seconds * lengths["longest"]) <= 1
    assert lengths["other"] >= 1


def test_whiskers_stand_at_the_ends_of_the_interval_and_the_value_between_them() -> None:
    line = row_of("b", chart_rows.times([timed("a", 1.0), timed("b", 0.5, 0.25, 0.75)], WIDE))
    start, room = 3, chart.WIDEST
    for glyph, share in (("├", 0.25), ("┼", 0.5), ("┤", 0.75)):
        assert abs(line.index(glyph) - start - share * room) <= 1
    assert line.endswith("500.0 ms ± 50 %")


def test_the_head_says_the_unit_the_scale_and_the_batch() -> None:
    assert texts(chart_rows.times([timed("a", 1.0), timed("b", 0.5)], WIDE))[0] == (
        "step time of 32 images, bars from 0 to 1.00 s"
    )


def test_a_net_without_a_time_says_why() -> None:
    failed = timed("b", None) | {"status": "out_of_memory"}
    assert row_of("b", chart_rows.times([timed("a", 1.0), timed("c", 1.0), failed], WIDE)).split()[1:4] == [
        "out",
        "of",
        "memory",
    ]


def test_what_does_not_fit_is_counted() -> None:
    table = [timed(f"net-{i}", 1.0) for i in range(30)]
    lines = texts(chart_rows.found(table, [], [], WIDE))
    assert len(lines) <= chart.LINES
    assert lines[-1] == f"and {30 - sum(line.startswith('net-') for line in lines)} more rows, in the table above"


@pytest.mark.parametrize("glyphs", [BLOCKS, ASCII], ids=["blocks", "ascii"])
def test_columns_over_batches_are_as_high_as_their_values_within_one_cell(glyphs: chart.Glyphs) -> None:
    values = {2: 100.0, 4: 400.0, 8: 800.0, 16: 50.0}
    found = batches(*(step("resnet50", b, b / v / 1.02) for b, v in values.items()), screen=Screen(100, glyphs))
    above, below = (text.ljust(60) for text in texts(found)[1:3])
    start = len("resnet50  ")
    for i, value in enumerate(values.values()):
        low, high = below[start + 8 * i], above[start + 8 * i]
        height = glyphs.columns.find(low) + 1 + (glyphs.columns.find(high) + 1 if high != " " else 0)
        assert abs(height / len(glyphs.columns) - 2 * value / 800) <= 1


def test_batches_of_base_2_stand_equally_far_apart_also_where_one_was_not_measured() -> None:
    lines = texts(batches(*(step("resnet50", b, 0.01 * b) for b in (2, 4, 16))))
    labels = cells(lines[3].ljust(60), 4, len("resnet50  "))
    assert [text.strip() for text in labels] == ["2", "4", "8", "16"]
    assert cells(lines[2], 4, len("resnet50  "))[2].strip() == ""


def test_batches_that_are_no_powers_apart_each_have_a_place() -> None:
    lines = texts(batches(*(step("resnet50", b, 0.01 * b) for b in (2, 6, 7))))
    assert lines[3].split() == ["2", "6", "7"]


def test_what_did_not_fit_has_a_letter_that_the_legend_explains() -> None:
    found = batches(*batch_results())
    assert "M" in row_of("nfnet-f0", found)
    assert "M out of memory" in texts(found)
    assert "M" not in row_of("resnet50", found)


def test_nets_of_a_sweep_share_one_scale_and_say_their_first_and_last_value() -> None:
    found = batches(step("a", 2, 0.01), step("a", 4, 0.01), step("b", 2, 0.1), step("b", 4, 0.1))
    assert texts(found)[0] == "images/s over batches, bars from 0 to 392.2"
    assert row_of("a ", found).endswith("196.1 → 392.2")
    assert row_of("b ", found).endswith("19.61 → 39.22")


def test_top1_over_batches_is_a_line_whose_scale_is_said() -> None:
    found = texts(batches(run(batch=32, top1=0.9), run(batch=64, top1=0.96)))
    assert found[0] == "digits: top-1 over batches, from 90.00 % to 96.00 %"
    start = len("tiny-nf-resnet  ")
    # the highest value on top of the upper row, the lowest at the bottom of the lower one
    assert cells(found[1].ljust(40), 2, start) == [" " * 7, "⠉" * 7]
    assert cells(found[2].ljust(40), 2, start) == ["⣀" * 7, " " * 7]


def test_a_cell_whose_runs_all_diverged_is_marked_and_has_no_line() -> None:
    found = clips(
        run(batch=64, agc=0.01, top1=0.9), run(batch=64, agc=0.02, top1=0.95), run(batch=64, top1=None, agc="none")
    )
    line = row_of("batch 64", found)
    assert cells(line, 3, len("batch 64  "))[2] == "   D   "
    assert texts(found)[-1] == "D diverged"
    assert texts(found)[-2].split() == ["0.01", "0.02", "none"]
    assert line.endswith("90.00 % … 95.00 %")


def test_a_cell_of_which_some_runs_diverged_has_its_line_and_a_mark() -> None:
    found = clips(run(agc=0.01, top1=0.9), run(agc=0.01, top1=None, seed=1), run(agc=0.02, top1=0.95))
    assert cells(row_of("batch 64", found), 1, len("batch 64  ")) == ["⣀⣀⣀⣀⣀⣀d"]
    assert "d some of its runs diverged" in texts(found)


def test_runs_that_share_a_place_each_have_a_row() -> None:
    fields = [{"run": {"dataset": "digits", "epochs": 2, "batch": 64, "agc": 0.01, "lr": lr}} for lr in (0.1, 0.2)]
    from make import accuracy as trained

    found = clips(*(trained("tiny-nfnet", (0.5, 0.9), **more) for more in fields), run("tiny-nfnet", agc=0.02))
    assert row_of("batch 64 (1)", found) and row_of("batch 64 (2)", found)


def pair(net: str, baseline: str, factors: Sequence[float]) -> compare.Ratio:
    """Rounds of ``net`` and ``baseline`` in turns, the latter's step so many times as long."""
    made = [
        result(model, workload=StepTime(model=model), machine=H200, round=round, readings=(step_times(*[seconds] * 5),))
        for round, factor in enumerate(factors)
        for model, seconds in ((net, 0.1), (baseline, 0.1 * factor))
    ]
    ratio = compare.paired(made, StepTime(model=net), StepTime(model=baseline))
    assert ratio is not None
    return ratio


def test_a_ratio_is_drawn_from_1_and_reported_ones_beside_it_in_another_look() -> None:
    ratio = pair("nfnet-f0", "resnet50", (1.9, 2.1, 2.0, 2.0))
    found = chart_ratios.speedups([ratio], WIDE)
    line = found[1]
    marks = [text for text, _ in line]
    one, value = marks.index("│"), marks.index("┃")
    assert one < value and set(marks[one + 1 : value]) <= {"━", "├", "─"}
    reported = [r.value for r in published.ratios("nfnet-f0", "resnet50")]
    assert marks.count("◇") == len(reported) > 0
    assert all(v < 1 for v in reported) and all(i < one for i, m in enumerate(marks) if m == "◇")
    styles = dict(line)
    assert styles["◇"] == REPORTED != styles["┃"]
    assert texts(found)[-1] == "┃ measured, ├─┤ 95 % interval, ◇ reported, │ 1 ×, log scale"
    assert texts(found)[0] == "nfnet-f0 is … times as fast as"
    assert "1.0 ×" in texts(found)[2]


def test_nothing_is_said_of_reported_ratios_where_there_are_none() -> None:
    lines = texts(chart_ratios.speedups([pair("tiny-nfnet", "tiny-resnet", (0.5, 0.5))], WIDE))
    assert lines[-1] == "┃ measured, │ 1 ×, log scale"
    assert not any("◇" in line for line in lines)


def test_a_ratio_of_fewer_than_four_rounds_is_drawn_without_an_interval() -> None:
    lines = texts(chart_ratios.speedups([pair("nfnet-f0", "resnet50", (1.9, 2.1, 2.0))], WIDE))
    assert lines[-1] == "┃ measured, ◇ reported, │ 1 ×, log scale" and "├" not in lines[1] and "±" not in lines[1]


def test_noise_does_not_look_like_a_speedup() -> None:
    line = texts(chart_ratios.speedups([pair("a", "b", (1.001, 1.001))], WIDE))[1]
    assert "━" not in line


def test_accuracies_stand_on_a_scale_with_their_intervals() -> None:
    table = [
        {"model": "a", "dataset": "digits", "status": "ok", "top1": 0.9},
        {"model": "b", "dataset": "digits", "status": "ok", "top1": 0.95, "top1_low": 0.94, "top1_high": 0.96},
        {"model": "c", "dataset": "digits", "status": "diverged"},
    ]
    found = chart_rows.accuracies(table, WIDE)
    assert texts(found)[0] == "top-1 on digits, from 90.00 % to 96.00 %"
    start = len("a  ")
    assert row_of("a", found).index("●") == start
    line = row_of("b", found)
    assert [line.index(c) - start for c in "├●┤"] == pytest.approx([4 / 6 * 63, 5 / 6 * 63, 63], abs=1)
    assert "diverged" in row_of("c", found)


def test_the_ends_of_an_interval_of_a_top1_are_those_of_a_share() -> None:
    table = [
        {"model": "a", "dataset": "digits", "status": "ok", "top1": 0.9},
        {"model": "b", "dataset": "digits", "status": "ok", "top1": 0.3, "top1_low": -0.35, "top1_high": 1.2},
    ]
    assert texts(chart_rows.accuracies(table, WIDE))[0] == "top-1 on digits, from 0.00 % to 100.00 %"


@pytest.mark.parametrize("glyphs", [BLOCKS, ASCII], ids=["blocks", "ascii"])
def test_every_mark_of_a_chart_of_rows_is_explained_below_it(glyphs: chart.Glyphs) -> None:
    screen = Screen(100, glyphs)
    trained = [{"model": m, "dataset": "x", "top1": 0.9, "top1_low": 0.5, "top1_high": 0.95} for m in "ab"]
    for lines in (
        chart_rows.times([timed("a", 1.0, 0.5, 1.5), timed("b", 2.0)], screen),
        chart_rows.accuracies(trained, screen),
        chart_ratios.speedups([pair("nfnet-f0", "resnet50", (1.9, 2.1, 2.0, 2.0))], screen),
    ):
        opening, line, _, closing = glyphs.whisker
        assert f"{opening}{line}{closing} 95 % interval" in texts(lines)[-1]
        assert " measured" in texts(lines)[-1]


ODD = (float("nan"), float("inf"), -1.0, 0.0, 1e-320, 1e-300, 1e300, 10**400, None, "word")


def odd_charts(count: int, screen: Screen) -> list[Callable[[int], Chart]]:
    """Every chart, of so many rows with values that no clock and no test set gives."""
    values = [ODD[i % len(ODD)] for i in range(count)]
    table = [timed(f"net-{i}", v, ODD[i % 7], ODD[i % 5]) for i, v in enumerate(values)]  # type: ignore[arg-type]
    trained = [{"model": f"net-{i}", "dataset": "x", "top1": v, "top1_low": ODD[i % 7]} for i, v in enumerate(values)]
    trained = [row | {"top1_high": ODD[i % 4]} for i, row in enumerate(trained)]
    ratio = pair("a", "b", (1.5, 1.6, 1.7))
    ratios = [
        ratio._replace(estimate=stats.Estimate(value, low, high))
        for value, low, high in ((v, ODD[i % 7], ODD[i % 4]) for i, v in enumerate(values))
        if all(isinstance(end, float) and end for end in (value, low, high))
    ]
    swept = sweeps.batch_sweep(rows.rows([step(f"net-{i}", 2**j) for i in range(count) for j in (1, 2)])[0], [])
    return [
        lambda most: chart_rows.times(table, screen, most),
        lambda most: chart_rows.accuracies(trained, screen, most) if trained else [],
        lambda most: chart_ratios.speedups(ratios, screen, most),  # type: ignore[arg-type]
        lambda most: chart_sweeps._batches("x", sweeps.records(swept), "throughput", "status", screen, most),
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 30])
@pytest.mark.parametrize("screen", [Screen(50), WIDE, PLAIN], ids=["50", "100", "ascii"])
def test_a_chart_of_anything_has_no_more_lines_than_it_may_take(count: int, screen: Screen) -> None:
    for draw in odd_charts(count, screen):
        for most in range(chart.LINES + 4):
            lines = draw(most)
            assert len(lines) <= most
            assert all(chart.wide(text) <= screen.width for text in texts(lines))


@pytest.mark.parametrize("count", range(1, 12))
def test_charts_without_room_are_counted(count: int) -> None:
    def draw(most: int) -> Chart:
        return [[("x", "")]] * most if most >= chart.LEAST else []

    lines = texts(chart.together([*[draw] * count, lambda most: []], WIDE))
    shown = 1 + lines.count("")
    assert len(lines) <= chart.LINES
    assert lines.count("x") >= shown * chart.LEAST
    if shown < count:
        assert lines[-1].startswith(f"and {count - shown} more chart")
    else:
        assert lines[-1] == "x"


def test_each_machine_has_a_chart_of_its_own_where_it_has_rows_to_compare() -> None:
    table = [timed(name, 1.0) | {"machine": machine, "software": name} for machine in ("X", "Y") for name in "ab"]
    found = texts(chart_rows.found(table, [], [], WIDE))
    assert [line for line in found if "step time" in line] == [
        "X: step time of 32 images, bars from 0 to 1.00 s",
        "Y: step time of 32 images, bars from 0 to 1.00 s",
    ]
    alone = texts(chart_rows.found(table[:3], [], [], WIDE))
    assert alone[0].startswith("step time") and alone[3].startswith("a, Y")


def test_many_kinds_of_rows_at_once_fit_below_their_tables() -> None:
    table = [timed("a", 1.0), timed("b", 2.0)]
    trained = [{"model": m, "dataset": str(d), "status": "ok", "top1": 0.5} for d in range(9) for m in "ab"]
    ratios = [pair("a", "b", (1.5, 1.6))]
    lines = texts(chart_rows.found(table, trained, ratios, WIDE))
    assert len(lines) <= chart.LINES
    assert lines[0].startswith("step time") and any("times as fast as" in line for line in lines)
    assert lines[-1].startswith("and 8 more charts, for which --where makes room")


@pytest.mark.parametrize("width", [50, 60, 80, 120])
@pytest.mark.parametrize(("glyphs", "encoding"), [(BLOCKS, "utf-8"), (ASCII, "ascii")], ids=["blocks", "ascii"])
def test_hostile_rows_neither_break_a_chart_nor_leave_their_line(
    width: int, glyphs: chart.Glyphs, encoding: str
) -> None:
    screen = Screen(width, glyphs, encoding)
    name = "[red]\x1b]0;x\x07\u202e" + "漢字" * 500_000
    table = [timed(name, 1e300), timed("b", float("nan")), timed("c", float("inf")), timed("d", 1e-300, 0.0, 1e300)]
    table += [timed("e", 10**400), timed("f", -1.0), timed("g", 0.0, 0.0, 0.0)]
    trained = [{"model": m, "dataset": name, "status": "ok", "top1": v} for m, v in ((name, 5e300), ("b", -1e300))]
    frame = sweeps.batch_sweep(
        rows.rows([step(name, b, s) for b in (1, 3, 10**30) for s in (1e-9, 1e9)])[0],
        accuracy.rows([run(name, batch=b, dataset=name) for b in (1, 3)])[0],
    )
    charts = (
        chart_rows.found(table, trained, [], screen),
        chart_sweeps.batch_sweep(frame, screen),
        clips(run(name, agc=0.01), run(name, agc=1e300), screen=screen),
    )
    for lines in charts:
        assert 2 < len(lines) <= chart.LINES
        for text in texts(lines):
            assert text.isprintable()
            assert chart.wide(text) <= width
            text.encode(encoding)


@pytest.mark.parametrize("screen", [Screen(50), NARROW, WIDE, PLAIN], ids=["50", "60", "100", "ascii"])
def test_no_line_is_wider_than_the_terminal(screen: Screen) -> None:
    made = [
        *(step("a-net-whose-name-is-long-enough-for-two", 2**i, 0.01 * 2**i) for i in range(14)),
        *(step("resnet50", 2**i, 0.01 * 2**i) for i in range(14)),
    ]
    for lines in (batches(*made, screen=screen), chart_study.of_rows(rows.rows(made[:1] + made[-1:])[0], [], screen)):
        assert lines
        assert all(chart.wide(text) <= screen.width for text in texts(lines))


def test_no_rows_or_one_make_no_comparison_and_no_chart() -> None:
    assert chart_rows.found([], [], [None], WIDE) == []
    assert chart_rows.found([timed("a", 1.0)], [{"model": "a", "status": "ok", "top1": 0.9}], [], WIDE) == []
    assert batches() == clips() == []
    assert batches(step("resnet50", 32, 0.1)) == clips(run()) == []


def test_a_sweep_is_told_by_the_setting_with_more_values() -> None:
    several = [run(batch=b, agc=c) for b in (64, 256) for c in (0.01, 0.02, "none")]
    head = texts(chart_study.of_rows([], accuracy.rows(several)[0], WIDE))[0]
    assert head.startswith("tiny-nf-resnet on digits: top-1 across λ")
    head = texts(chart_study.of_rows(rows.rows(batch_results())[0], [], WIDE))[0]
    assert head.startswith("images/s over batches")
    same = [step(model, 32, 0.1, machine=CPU) for model in ("resnet50", "nf-resnet50")]
    assert texts(chart_study.of_rows(rows.rows(same)[0], [], WIDE))[0].startswith("step time of 32 images")


def test_rows_of_which_few_are_of_a_sweep_are_drawn_as_rows() -> None:
    nets = [step(model, 32, 0.1, machine=CPU) for model in ("resnet26", "resnet50", "nf-resnet26", "nf-resnet50")]
    some = [*nets, step("resnet50", 64, 0.2, machine=CPU)]
    assert texts(chart_study.of_rows(rows.rows(some)[0], [], WIDE))[0].startswith("step time, bars")
    most = [*some, *(step("resnet50", batch, 0.2, machine=CPU) for batch in (8, 16, 128))]
    assert texts(chart_study.of_rows(rows.rows(most)[0], [], WIDE))[0].startswith("images/s over batches")


def test_a_table_of_a_sweep_has_the_chart_of_the_sweep_below_it(terminal: Callable[..., str]) -> None:
    Writer(Path("swept")).write(*batch_results())
    Writer(Path("clipped")).write(*(run(batch=b, agc=c) for b in (64, 256) for c in (0.01, 0.02, "none")))
    assert "images/s over batches, bars from 0" in terminal("table", "swept")
    assert "tiny-nf-resnet on digits: top-1 across λ" in terminal("table", "clipped")


def test_names_are_cut_in_the_middle() -> None:
    assert WIDE.cut("abcdefghij", 7) == "abcd…ij"
    assert WIDE.cut("漢字漢字漢字", 7) == "漢字…字"
    assert PLAIN.cut("λ 0.01", 20) == "lambda 0.01"
    assert PLAIN.cut("漢", 20) == "?"


SWEEP = ("batch-sweep", "--device", "fake", "--model", "tiny-nfnet", "--batch", "2,4", "--out", "r", "--quiet")
TIMES = ("step-time", "--device", "fake", "--model", "tiny-nfnet", "--model", "tiny-resnet", "--out", "s", "--quiet")
COMPARE = ("compare", "--device", "fake", "tiny-nfnet", "tiny-resnet", "--max-time", "2", "--out", "c", "--quiet")


def test_a_terminal_shows_a_chart_under_its_table_and_a_pipe_the_same_table_without(
    terminal: Callable[..., str], cli: Cli
) -> None:
    shown, piped = terminal(*TIMES, term="dumb", columns=120), cli(*TIMES).stdout
    assert shown.startswith(piped)
    assert "\nstep time of 32 images, bars from 0 to" in shown.removeprefix(piped)
    assert "█" not in piped and "\x1b" not in piped
    assert terminal(*TIMES, "--no-chart", columns=120) == piped


@pytest.mark.parametrize("format", ["md", "csv", "json"])
def test_other_formats_have_no_chart_in_a_terminal_either(format: str, terminal: Callable[..., str]) -> None:
    assert "bars from 0" not in terminal(*TIMES, "--format", format)


def test_a_variable_turns_charts_off_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    from nfbench.cli import main

    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("NFBENCH_NO_CHART", "1")
    main.main(list(TIMES), prog_name="nfbench", standalone_mode=False)
    assert "bars from 0" not in stream.getvalue()


def test_colours_are_for_terminals_that_have_them(terminal: Callable[..., str]) -> None:
    assert "\x1b[36m" in terminal(*TIMES, columns=120)
    assert "\x1b" not in terminal(*TIMES, columns=120, term="dumb")


def test_a_comparison_ends_with_its_ratio_drawn(terminal: Callable[..., str]) -> None:
    shown = terminal(*COMPARE, term="dumb")
    assert "tiny-nfnet is … times as fast as\ntiny-resnet  " in shown
    assert "┃ measured, │ 1 ×, log scale" in shown
    assert "┃" not in terminal(*COMPARE, "--no-chart", term="dumb")


def test_a_sweep_ends_with_its_chart(terminal: Callable[..., str]) -> None:
    shown = terminal(*SWEEP, term="dumb")
    assert "images/s over batches, bars from 0 to 1024" in shown
    assert "images/s over batches" not in terminal(*SWEEP, "--no-chart", term="dumb")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "no-such-encoding"])
def test_a_terminal_without_blocks_gets_a_chart_of_ascii(encoding: str) -> None:
    found = chart.screen("rich", Terminal(encoding))
    assert found is not None and found.glyphs is ASCII
    drawn = texts(chart_rows.times([timed("λ", 1.0, 0.9, 1.1), timed("b", 0.5)], found))
    assert all(text.isascii() for text in drawn)
    assert "=" in drawn[1] and "+/-" in drawn[1]


def test_what_is_no_terminal_has_no_screen() -> None:
    assert chart.screen("rich", io.StringIO()) is None
    assert chart.screen("csv", Terminal()) is None


def test_a_terminal_too_narrow_for_any_chart_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(chart.NARROWEST - 1))
    assert chart.screen("rich", Terminal()) is None


@pytest.mark.parametrize("command", ["step-time", "accuracy", "run", "batch-sweep", "agc-sweep", "compare"])
def test_every_command_that_draws_can_be_told_not_to(command: str, cli: Cli) -> None:
    assert "--no-chart" in cli(command, "--help").stdout


@pytest.mark.parametrize("encoding", ["latin-1", "cp437"])
def test_tables_survive_an_encoding_without_their_rules(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from nfbench.cli import main

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    main.main(["accuracy", "--help"], prog_name="nfbench", standalone_mode=False)
    sys.stdout.flush()
    assert "Clipping threshold lambda" in raw.getvalue().decode(encoding)


def test_a_stream_that_can_write_everything_is_left_alone() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    spelling.never_fails(stream)
    assert stream.errors == "strict"


def test_every_glyph_is_one_cell_wide() -> None:
    everything: Any = [mark for glyphs in (BLOCKS, ASCII) for marks in glyphs for mark in marks]
    assert all(chart.wide(mark) == 1 for mark in everything)
