from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Cli
from make import FAKE, H200, result

from nfbench.analysis.rows import rows
from nfbench.analysis.store import Writer
from nfbench.catalog import published
from nfbench.catalog.models import find
from nfbench.records import Result
from nfbench.showing import plots


def table(*results: Result) -> list[dict[str, object]]:
    return rows(results)[0]


MODELS = (("nf-resnet50", 0.12), ("resnet50", 0.1), ("nfnet-f0", 0.3))
SOME = [result(model, times=(time,) * 10) for model, time in MODELS]


def test_every_measured_model_is_a_point_at_its_step_time() -> None:
    figure = plots.step_time(table(*SOME), "A CPU")
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    points = {
        labels[round(line.get_ydata()[0])]: line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None"
    }
    assert points == pytest.approx({"nf-resnet50": 120.0, "resnet50": 100.0, "nfnet-f0": 300.0})
    assert (axes.get_xlabel(), axes.get_title(loc="left")) == ("step time, ms", "A CPU: measured, with 95 % intervals")
    assert axes.get_xlim()[0] == 0


def test_throughput_is_images_a_second() -> None:
    (axes,) = plots.throughput(table(SOME[1]), "A CPU").axes
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None"] == [320.0]


def test_the_interval_is_drawn_from_end_to_end() -> None:
    rounds = [result(times=(t,) * 10, round=i) for i, t in enumerate((0.1, 0.11, 0.12))]
    (row,) = table(*rounds)
    (axes,) = plots.step_time([row], "A CPU").axes
    (interval,) = [line for line in axes.lines if line.get_marker() == "None"]
    assert list(interval.get_xdata()) == pytest.approx([1e3 * row["step_time_low"], 1e3 * row["step_time_high"]])


def test_reported_accuracy_stands_at_counted_macs() -> None:
    (axes,) = plots.accuracy_vs_macs({"nfnet-f0"}).axes
    points = {(round(x, 2), y) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}
    assert (12.38, 83.6) in points
    assert published.top1(find("nfnet-f0")).top1 == 83.6  # type: ignore[union-attr]
    assert axes.get_xscale() == "log"
    assert "reported" in axes.get_ylabel() and "counted" in axes.get_xlabel()
    assert all(line.get_markerfacecolor() == "white" for line in axes.lines)
    labels = [text.get_text() for text in axes.texts]
    assert "nfnet-f0" in labels and "F1" in labels and "B7" in labels


def test_the_same_rows_give_the_same_bytes() -> None:
    for folder in ("a", "b"):
        plots.draw(table(*SOME), Path(folder))
    names = sorted(p.name for p in Path("a").iterdir())
    assert names == [
        f"{name}.{kind}" for name in ("reported-accuracy-vs-macs", "step-time", "throughput") for kind in ("png", "svg")
    ]
    for name in names:
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes(), name


def test_machines_get_figures_of_their_own() -> None:
    drawn = plots.draw(table(SOME[0], result(machine=H200)), Path("f"))
    assert {p.name for p in drawn.files if p.suffix == ".svg"} == {
        "a-cpu-step-time.svg",
        "a-cpu-throughput.svg",
        "nvidia-h200-step-time.svg",
        "nvidia-h200-throughput.svg",
        "reported-accuracy-vs-macs.svg",
    }


def test_what_has_no_step_time_is_listed_with_the_reason() -> None:
    failed = result("nfnet-f1", status="out_of_memory", readings=())
    drawn = plots.draw(table(SOME[0], failed), Path("f"))
    assert drawn.left_out == ["nfnet-f1 on A CPU: out_of_memory, no step time"]


def test_plot_draws_beside_the_results_or_where_it_is_told(cli: Cli) -> None:
    Writer(Path("results")).write(result(machine=FAKE))
    done = cli("plot", "results")
    assert done.exit_code == 0, done.output
    assert "results/figures/step-time.svg" in done.stdout.splitlines()
    done = cli("plot", "results", "-o", "elsewhere")
    assert all(line.startswith("elsewhere/") and Path(line).exists() for line in done.stdout.splitlines())


def test_a_folder_that_cannot_be_written_is_one_worded_message(cli: Cli) -> None:
    Writer(Path("results")).write(result())
    Path("file").write_text("")
    done = cli("plot", "results", "-o", "file/sub")
    assert done.exit_code == 1 and "Figures cannot be written to file/sub" in done.stderr


def test_a_hostile_model_name_stays_inside_the_folder() -> None:
    drawn = plots.draw(table(result("../../x<script>$\\frac$")), Path("f"))
    assert {p.parent for p in drawn.files} == {Path("f")}
    svg = Path("f/step-time.svg").read_text()
    assert "<script>" not in svg
