"""What lines over batches and clipping thresholds mean, the strip below them, and the cells of a map."""

from __future__ import annotations

import msgspec
import pytest
from figure_cases import axes_of, drawn, foot, legend, marked, only, points, texts, ticks, why
from make import CPU, accuracy
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from sweep_cases import BATCHES, GIB, agc_results, batch_results, run, step

from nfbench.analysis.rows import rows
from nfbench.showing.figures.style import look

STEPS, RUNS = batch_results(), agc_results()


def samples(strip: Axes) -> list[tuple[object, object]]:
    """What stands beside the rows of a strip to tell of which line each is."""
    return [(line.get_color(), line.get_marker()) for line in strip.lines if line.get_label() == "_sample"]


def test_every_step_is_a_point_at_its_batch_or_a_mark_below() -> None:
    figure = only("batch-throughput", *STEPS)
    main, strip = figure.axes
    assert len(points(main)) + len(points(strip)) == len(STEPS) and points(strip) == [(256, 0)]
    assert (2.0, pytest.approx(2 / rows([STEPS[0]])[0][0]["step_time"])) in points(main)
    assert {"nfnet-f0", "nf-resnet50", "resnet50", "several passes per update", "out of memory"} == set(legend(figure))
    assert samples(strip) == [look("nfnet")]
    # a batch of several passes is half-filled
    half = {float(x) for line in marked(main) if line.get_fillstyle() == "bottom" for x in line.get_xdata()}
    assert half == {128.0, 256.0}
    assert main.get_xscale() == "log" and main.xaxis.get_transform().base == 2  # type: ignore[attr-defined]
    assert [main.xaxis.get_major_formatter()(x, 0) for x in main.get_xticks()] == [str(b) for b in BATCHES]
    assert strip.get_xlabel() == "batch, images per update"


def test_times_have_intervals_from_end_to_end_and_memory_is_in_bytes_of_what_was_read() -> None:
    results = [step(batch=b, seconds=s) for b in (8, 16) for s in (0.1, 0.11, 0.12, 0.11)]
    results = [msgspec.structs.replace(r, round=i % 4) for i, r in enumerate(results)]
    axes = axes_of("batch-step-time", *results)
    bars = [segment for collection in axes.collections for segment in collection.get_segments()]  # type: ignore[attr-defined]
    ends = {(float(low[0]), float(low[1]), float(high[1])) for low, high in bars}
    assert ends == {(row["batch"], row["step_time_low"], row["step_time_high"]) for row in rows(results)[0]}
    assert "ms" in axes.yaxis.get_major_formatter()(0.05, 0)
    made = drawn("batch-memory", step(batch=8, memory=2 * GIB), step(batch=16, memory=4 * GIB), step(batch=32))
    ((_, figure),) = made.figures
    assert points(figure.axes[0]) == [(8, 2 * GIB), (16, 4 * GIB)] and why(made) == {"no peak memory"}
    assert "allocated on the device" in figure.get_suptitle()
    of_process = only("batch-memory", *(step(batch=b, memory=b * GIB, machine=CPU) for b in (8, 16)))
    assert "of the process" in of_process.get_suptitle() and "Python and torch are in it" in foot(of_process)


def test_accuracy_over_batches_has_a_line_for_each_net_and_clip_and_marks_what_diverged() -> None:
    figure = only("batch-accuracy", *RUNS)
    main, strip, reported = figure.axes
    names = [f"tiny-nf-resnet, λ {clip}" for clip in (0.01, 0.02, 0.04, 0.08, 0.16, "none")]
    assert legend(figure)[:7] == [*names, "diverged"]
    assert main.get_ylabel() == "measured top-1, %" and "on digits" in figure.get_suptitle()
    assert (64.0, pytest.approx(98.2)) in points(main)
    assert sorted(points(strip)) == [(128, 1), (256, 0), (256, 1)] and len(samples(strip)) == 2
    assert sorted(texts(strip)) == ["1 of 2", "25", "25"]
    # of a cell of which one seed diverged there is both a point and a mark
    assert len(points(main)) + len(points(strip)) == 24 + 1
    # the colour by family, marker, fill and dash by net and λ
    looks = [(line.get_marker(), line.get_fillstyle()) for line in marked(main)]
    dashes = [str(line._unscaled_dash_pattern) for line in main.lines if line.get_marker() in ("None", "")]
    assert len(set(zip(looks, dashes, strict=True))) == len({str(line.get_color()) for line in marked(main)}) * 6 == 6
    assert foot(figure).startswith("2 seeds, 2 epochs, 32 px, learning rate scaled with the batch. Means over seeds")
    assert "Small data and tiny nets do not carry over to ImageNet." in foot(figure)
    # what the paper reports is hollow, in a panel of its own
    assert "not measured here" in reported.get_title(loc="left") and points(reported) == []
    assert (256.0, 76.9) in {(x, y) for line in marked(reported) for x, y in zip(*line.get_data(), strict=True)}
    assert all(line.get_markerfacecolor() != "white" for axes in (main, strip) for line in axes.lines)


def test_nets_come_before_their_clips_and_those_without_one_stand_beside() -> None:
    nets = [f"tiny-{family}{size}" for family in ("nfnet", "nf-resnet") for size in ("-s", "")]
    clips = (0.01, 0.02, 0.04, "none")
    results = [run(net, b, c, 0.9 + (c == 0.02) / 100) for net in nets for b in (32, 64) for c in clips]
    results += [run(f"tiny-resnet{size}", b, "none") for size in ("-s", "") for b in (32, 64)]
    made = drawn("batch-accuracy", *results)
    ((_, figure),) = made.figures
    wanted = [f"{net}, λ {clip}" for net in nets for clip in (0.02, "none")]
    assert {text for text in legend(figure) if "reported" not in text} == {*wanted, "tiny-resnet", "tiny-resnet-s"}
    assert {m.row["agc"] for m in made.missing} == {0.01, 0.04} and len(made.missing) == 16
    assert why(made) == {"a figure has room for 10 lines: draw fewer at once, with --where"}


def test_thresholds_are_places_in_order_and_no_clip_stands_apart() -> None:
    figure = only("agc-lines", *RUNS)
    main, strip = figure.axes
    assert [t.get_text() for t in strip.get_xticklabels()] == ["0.01", "0.02", "0.04", "0.08", "0.16", "no clip"]
    assert list(main.get_xticks()) == [0, 1, 2, 3, 4, 5.5]
    assert legend(figure) == ["batch 32", "batch 64", "batch 128", "batch 256", "diverged"]
    assert [x for x, _ in sorted(points(strip))] == [4, 5.5, 5.5] and sorted(texts(strip)) == ["1 of 2", "25", "25"]
    # points beside their place, since bars of several batches at one place hide each other
    assert {min(main.get_xticks(), key=lambda at: abs(at - x)) for x, _ in points(main)} == {0, 1, 2, 3, 4, 5.5}
    assert len(points(main)) + len(points(strip)) == 24 + 1
    single = foot(only("agc-lines", *(run(batch=b, agc=clip) for b in (32, 64) for clip in (0.01, "none"))))
    scaled = "1 seed, 2 epochs, 32 px, learning rate scaled with the batch; no interval."
    assert single.startswith(scaled) and "Student" not in single
    searched = [
        accuracy(agc=clip, run={"batch": b, "agc": clip, "tune": "lr"}, training={"lr": 0.3 / b})
        for b in (32, 64)
        for clip in (0.01, 0.02)
    ]
    assert "32 px, learning rate tuned for each point; no interval." in foot(only("agc-lines", *searched))


def cells(axes: Axes) -> dict[tuple[str, str], tuple[str, Rectangle]]:
    """The text and the rectangle of each (λ, batch), by the ticks beside them."""
    written = {text.get_position(): text.get_text() for text in axes.texts}
    across = {float(x): t.get_text() for x, t in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    down = {round(float(y), 6): t.get_text() for y, t in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    by_ticks = {}
    for patch in axes.patches:
        assert isinstance(patch, Rectangle)
        x, y = (patch.get_x() + patch.get_width() / 2, patch.get_y() + patch.get_height() / 2)
        (text,) = [text for at, text in written.items() if at == pytest.approx((x, y))]
        by_ticks[down[round(y, 6)], across[x]] = text, patch
    return by_ticks


def test_every_cell_of_the_map_is_drawn_and_what_diverged_is_hatched_and_named() -> None:
    axes = axes_of("agc-heatmap", *RUNS)
    found = cells(axes)
    assert len(found) == 24
    assert {cell for cell, (_, patch) in found.items() if patch.get_hatch()} == {
        *(("no clip", "128"), ("no clip", "256"), ("0.16", "256")),
    }
    assert found["no clip", "128"][0] == "diverged\nat 25"
    assert found["0.16", "256"][0].endswith("1 of 2\ndiverged") and found["0.02", "32"][0] == "97\n± 3"
    assert ticks(axes)[-1] == "no clip"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("batch, images per update", "clipping threshold λ")
    # darker is more accurate, so that it reads in grey too
    light = {cell: sum(patch.get_facecolor()[:3]) for cell, (_, patch) in found.items()}
    assert light["no clip", "64"] < light["0.16", "32"] < light["no clip", "256"] == 3.0


def test_colours_of_a_map_are_of_a_range_that_is_said_and_what_was_not_run_is_no_blank() -> None:
    results = [run("tiny-nfnet", 32, 0.01, 0.991), run("tiny-nfnet", 32, 0.02, 0.993), run("tiny-nfnet", 64, 0.02)]
    figure = only("agc-heatmap", *results)
    found = cells(figure.axes[0])
    pale, dark = (found[clip, "32"][1].get_facecolor()[0] for clip in ("0.01", "0.02"))
    # two tenths of a per cent are hardly a difference
    assert 0 < pale - dark < 0.05
    assert texts(figure.axes[0]).count("·") == 1
    assert "Colours: from 90 %, the palest, to 100 %, the darkest." in foot(figure)
    assert foot(figure).endswith("· not run.")
