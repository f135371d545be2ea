from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec
import pytest
from conftest import Cli
from make import CPU, FAKE, H200, accuracy, once, result
from matplotlib.axes import Axes

from nfbench.analysis.rows import rows
from nfbench.analysis.store import Writer
from nfbench.catalog import published
from nfbench.catalog.models import find as net
from nfbench.records import AgcCost, Resolved, Result, StepTime
from nfbench.showing import by_model, left_out, plots
from nfbench.showing.kinds import KINDS, Drawing, Held, Missing, find
from nfbench.showing.tables import printable


def table(*results: Result) -> list[dict[str, object]]:
    return rows(results)[0]


def only(drawing: Drawing) -> Axes:
    ((_, figure),) = drawing.figures
    (axes,) = figure.axes
    return axes


MODELS = (("nf-resnet50", 0.12), ("resnet50", 0.1), ("nfnet-f0", 0.3))
SOME = [result(model, times=(time,) * 10) for model, time in MODELS]


def test_every_measured_model_is_a_point_at_its_step_time() -> None:
    axes = only(by_model.step_time(Held(table(*SOME))))
    labels = [text.get_text() for text in axes.get_yticklabels()]
    points = {
        labels[round(line.get_ydata()[0])]: line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None"
    }
    assert points == pytest.approx({"nf-resnet50": 120.0, "resnet50": 100.0, "nfnet-f0": 300.0})
    assert axes.get_xlabel() == "step time, ms"
    assert axes.figure.get_suptitle() == "A CPU: measured step time, 95 % intervals"  # type: ignore[union-attr]
    assert axes.get_xlim()[0] == 0


def test_throughput_is_images_a_second() -> None:
    axes = only(by_model.throughput(Held(table(SOME[1]))))
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None"] == [320.0]


def test_the_interval_is_drawn_from_end_to_end() -> None:
    rounds = [result(times=(t,) * 10, round=i) for i, t in enumerate((0.1, 0.11, 0.12, 0.11))]
    (row,) = table(*rounds)
    axes = only(by_model.step_time(Held([row])))
    (interval,) = [line for line in axes.lines if line.get_marker() == "None"]
    assert list(interval.get_xdata()) == pytest.approx([1e3 * row["step_time_low"], 1e3 * row["step_time_high"]])


def test_reported_accuracy_stands_at_counted_macs() -> None:
    axes = only(plots.accuracy_vs_macs(Held(table(SOME[2]))))
    points = {(round(x, 2), y) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}
    assert (12.38, 83.6) in points
    assert published.top1(net("nfnet-f0")).top1 == 83.6  # type: ignore[union-attr]
    assert axes.get_xscale() == "log"
    assert "reported" in axes.get_ylabel() and "counted" in axes.get_xlabel()
    assert all(line.get_markerfacecolor() == "white" for line in axes.lines)
    labels = [text.get_text() for text in axes.texts]
    assert "nfnet-f0" in labels and "F1" in labels and "B7" in labels


def test_the_same_rows_give_the_same_bytes() -> None:
    for folder in ("a", "b"):
        plots.draw(Held(table(*SOME)), Path(folder))
    names = sorted(p.name for p in Path("a").iterdir())
    assert names == [
        f"{name}.{kind}" for name in ("reported-accuracy-vs-macs", "step-time", "throughput") for kind in ("png", "svg")
    ]
    for name in names:
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes(), name


def test_what_is_reported_is_drawn_beside_nets_that_it_is_reported_of_or_where_it_is_asked_for(cli: Cli) -> None:
    for folder, one in (("fake", result(machine=FAKE)), ("tiny", result("tiny-nfnet")), ("known", result())):
        Writer(Path(folder)).write(one)
        said = cli("plot", folder).stdout
        assert ("reported-accuracy-vs-macs" in said) is (folder == "known"), folder
        assert "reported-accuracy-vs-macs" in cli("plot", folder, "--kind", "reported-accuracy-vs-macs").stdout


def test_machines_get_figures_of_their_own() -> None:
    drawn = plots.draw(Held(table(SOME[0], result(machine=H200))), Path("f"))
    assert {p.name for p in drawn.files if p.suffix == ".svg"} == {
        "a-cpu-step-time.svg",
        "a-cpu-throughput.svg",
        "nvidia-h200-step-time.svg",
        "nvidia-h200-throughput.svg",
        "reported-accuracy-vs-macs.svg",
    }


def test_what_has_no_step_time_is_listed_with_the_reason() -> None:
    failed = result("nfnet-f1", status="out_of_memory", readings=())
    drawn = plots.draw(Held(table(SOME[0], failed)), Path("f"), ["step-time"])
    assert left_out.lines(drawn.drawings) == (
        ["step-time: nfnet-f1, batch 32: out of memory, no step time"],
        True,
    )


def test_plot_draws_beside_the_results_or_where_it_is_told(cli: Cli) -> None:
    Writer(Path("results")).write(result(machine=FAKE))
    done = cli("plot", "results")
    assert done.exit_code == 0, done.output
    assert "results/figures/step-time.svg" in done.stdout.splitlines()
    done = cli("plot", "results", "-o", "elsewhere")
    assert all(line.startswith("elsewhere/") and Path(line).exists() for line in done.stdout.splitlines())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_function(kind: str) -> None:
    assert isinstance(find(kind)(Held([])), Drawing)


def test_only_the_kinds_asked_for_are_drawn(cli: Cli) -> None:
    Writer(Path("results")).write(result())
    done = cli("plot", "results", "--kind", "throughput", "--kind", "step-time", "--kind", "throughput")
    assert done.exit_code == 0, done.output
    assert [Path(line).name for line in done.stdout.splitlines()] == [
        f"{name}.{kind}" for name in ("throughput", "step-time") for kind in ("png", "svg")
    ]


def test_an_unknown_kind_is_wrong_usage_that_lists_the_kinds(cli: Cli) -> None:
    done = cli("plot", ".", "--kind", "pie")
    assert done.exit_code == 2
    assert all(kind in done.stderr for kind in KINDS)


def test_nothing_to_draw_is_one_worded_error_after_the_reasons(cli: Cli) -> None:
    Writer(Path("results")).write(result(status="out_of_memory", readings=()))
    done = cli("plot", "results", "--kind", "step-time", "--kind", "throughput")
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr.splitlines() == [
        "Left out of step-time: resnet50, batch 32: out of memory, no step time.",
        "Left out of throughput: resnet50, batch 32: out of memory, no step time.",
        "Nothing was drawn: the results hold too little for step-time and throughput.",
        "What is missing is listed above.",
        "Try: nfbench plot results, which draws all that they hold enough for",
    ]
    assert not Path("results/figures").exists()


def test_results_of_another_kind_are_not_left_out_in_silence(cli: Cli) -> None:
    clip = AgcCost(model="nfnet-f0", impl="foreach")
    Writer(Path("results")).write(result(workload=clip, resolved=None, readings=(once("clip", 1.0, "s"),)))
    done = cli("plot", "results", "--kind", "history")
    assert done.exit_code == 1
    assert "Left out: 1 result of agc-cost, which `nfbench table` shows." in done.stderr


def test_a_condition_on_runs_leaves_the_steps_that_they_are_set_against(cli: Cli) -> None:
    writer = Writer(Path("results"))
    small = Resolved(px=32, micro_batch=32, precision="fp32", layout="nhwc")
    for model in ("tiny-resnet", "tiny-resnet-s"):
        writer.write(result(model, resolved=small))
        for dataset in ("digits", "fashion-mnist"):
            writer.write(accuracy(model, agc=None, run={"dataset": dataset}))
    done = cli("plot", "results", "--kind", "accuracy-vs-latency", "--where", "dataset=fashion-mnist")
    assert done.exit_code == 0, done.output
    assert [Path(line).name for line in done.stdout.splitlines()] == [
        f"accuracy-vs-latency.{kind}" for kind in ("png", "svg")
    ]
    assert "Left out" not in done.stderr
    # a condition that steps can meet still holds for them
    done = cli("plot", "results", "--kind", "accuracy-vs-latency", "--where", "batch=50")
    assert done.exit_code == 1 and "no step time of it on that machine" in done.stderr


def test_machines_whose_names_begin_alike_do_not_overwrite_each_other() -> None:
    long = [result(machine=msgspec.structs.replace(CPU, name="m" * 70 + end)) for end in "ab"]
    drawn = plots.draw(Held(table(*long)), Path("f"), kinds=["step-time"])
    assert len(set(drawn.files)) == 4 and all(path.exists() for path in drawn.files)


@pytest.mark.parametrize("time", [1e-300, 1e300, 1e306, float("nan")])
def test_a_time_that_no_clock_shows_is_left_out(time: float) -> None:
    rows = table(SOME[0], result("resnet50", times=(time,) * 10))
    drawn = plots.draw(Held(rows), Path("f"), kinds=["step-time"])
    assert len(drawn.files) == 2
    assert left_out.lines(drawn.drawings)[0] == ["step-time: resnet50, batch 32: no step time"]


def test_a_folder_that_cannot_be_written_is_one_worded_message(cli: Cli) -> None:
    Writer(Path("results")).write(result())
    Path("file").write_text("")
    done = cli("plot", "results", "-o", "file/sub")
    assert done.exit_code == 1 and "Figures cannot be written to file/sub" in done.stderr


def test_a_hostile_model_name_stays_inside_the_folder() -> None:
    drawn = plots.draw(Held(table(result("../../x<script>$\\frac$"))), Path("f"))
    assert {p.parent for p in drawn.files} == {Path("f")}
    svg = Path("f/step-time.svg").read_text()
    assert "<script>" not in svg


def test_each_format_that_is_asked_for_is_written_and_no_other(cli: Cli) -> None:
    Writer(Path("results")).write(result())
    done = cli("plot", "results", "--kind", "step-time", "--format", "pdf", "--format", "svg")
    assert [Path(line).name for line in done.stdout.splitlines()] == ["step-time.pdf", "step-time.svg"]
    assert Path("results/figures/step-time.pdf").read_bytes().startswith(b"%PDF")
    assert not Path("results/figures/step-time.png").exists()


def test_a_pdf_names_neither_a_day_nor_a_version() -> None:
    for folder in ("a", "b"):
        plots.draw(Held(table(*SOME)), Path(folder), ["step-time"], ["pdf"])
    content = Path("a/step-time.pdf").read_bytes()
    assert content == Path("b/step-time.pdf").read_bytes()
    assert b"/CreationDate" not in content and b"/Producer" not in content


def test_of_more_rows_than_a_figure_has_room_for_the_rest_is_listed() -> None:
    many = [result(f"package.net:n{i}", times=(0.1 + i / 1000,) * 10) for i in range(by_model.MOST + 25)]
    drawing = by_model.step_time(Held(table(*many)))
    points = [line for line in only(drawing).lines if line.get_marker() != "None"]
    assert len(points) == by_model.MOST == len(drawing.drawn)
    assert len(drawing.missing) == 25
    ((line,), whole) = left_out.lines({"step-time": drawing})
    assert line.startswith("step-time: 25 rows (package.net:n") and "room for 40 rows" in line and not whole


def test_the_rows_at_the_batch_that_most_have_are_drawn_first() -> None:
    common = [result(f"package.net:n{i}", times=(0.1,) * 10) for i in range(30)]
    rare = [
        result(f"package.net:a{i}", times=(0.1,) * 10, workload=StepTime(model=f"package.net:a{i}", batch=2**i))
        for i in range(20)
    ]
    drawing = by_model.step_time(Held(table(*rare, *common)))
    assert sum(row["batch"] == 32 for row in drawing.drawn) >= 30


def test_all_that_was_left_out_is_in_a_file_where_the_screen_names_only_some(cli: Cli) -> None:
    failed = [result(f"package.net:n{i}", status="out_of_memory", readings=()) for i in range(9)]
    Writer(Path("results")).write(result(), *failed)
    done = cli("plot", "results", "--kind", "step-time")
    assert "Left out of step-time: 9 rows (package.net:n0, batch 32; " in done.stderr
    assert "All that was left out: results/figures/left-out.csv" in done.stderr
    lines = Path("results/figures/left-out.csv").read_text().splitlines()
    assert len(lines) == 10 and all("out of memory, no step time" in line for line in lines[1:])


def test_a_list_of_what_was_left_out_goes_with_the_figures_that_it_is_about(cli: Cli) -> None:
    failed = [result(f"package.net:n{i}", status="out_of_memory", readings=()) for i in range(9)]
    Writer(Path("results")).write(result(), *failed)
    listed = Path("out/left-out.csv")
    assert cli("plot", "results", "--kind", "step-time", "-o", "out").exit_code == 0 and listed.exists()
    done = cli("plot", "results", "--kind", "step-time", "-o", "out", "--where", "model=resnet50")
    assert done.exit_code == 0, done.output
    assert not listed.exists() and Path("out/step-time.svg").exists()
    assert "left-out.csv" not in done.stderr


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A1", "+1", "-2+3", "@SUM(A1)", "\tx", "\r=1", "\n@x", " =1"])
def test_no_cell_of_what_was_left_out_is_a_formula_to_a_spreadsheet(name: str) -> None:
    row = {"model": name, "machine": name, "batch": 32, "status": "ok"}
    missing = Drawing([], [], [Missing(row, name), Missing({"model": "plain-net", "px": -1}, "why - so")])
    heads, wild, tame = csv.reader(io.StringIO(left_out.table({"step-time": missing})))
    assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in wild)
    found = dict(zip(heads, wild, strict=True))
    assert (found["model"], found["why"], found["batch"]) == (f"'{printable(name)}", f"'{printable(name)}", "32")
    told = dict(zip(heads, tame, strict=True))
    # numbers are numbers
    assert (told["model"], told["why"], told["px"]) == ("plain-net", "why - so", "-1")


def test_without_a_kind_only_what_no_figure_shows_is_said(cli: Cli) -> None:
    Writer(Path("results")).write(result(), result("nfnet-f1", status="out_of_memory", readings=()))
    done = cli("plot", "results")
    said = [line for line in done.stderr.splitlines() if line.startswith("Left out")]
    assert said and all("nfnet-f1, batch 32" in line for line in said)
    assert not any("it takes two" in line for line in said)


def test_a_figure_is_the_same_whatever_else_it_is_saved_as() -> None:
    plots.draw(Held(table(*SOME)), Path("alone"), ["step-time"], ["svg"])
    plots.draw(Held(table(*SOME)), Path("with"), ["step-time"], ["png", "pdf", "svg"])
    assert Path("alone/step-time.svg").read_bytes() == Path("with/step-time.svg").read_bytes()
