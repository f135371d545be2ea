"""`nfbench plot`: which figures are drawn of which results, where they land, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from conftest import Cli
from figure_cases import drawn, held, why
from make import CPU, FAKE, H200, accuracy, once, result
from matplotlib.figure import Figure
from sweep_cases import run, step

from nfbench.analysis.store import Writer
from nfbench.records import AgcCost, Resolved, Result, StepTime
from nfbench.showing.figures import driver
from nfbench.showing.figures.driver import Drawing
from nfbench.showing.figures.kinds import KINDS
from nfbench.showing.shown_rows import Shown


def write(*results: Result) -> None:
    Writer(Path("results")).write(*results)


def names(stdout: str) -> list[str]:
    return [Path(line).name for line in stdout.splitlines()]


def test_figures_lie_beside_the_results_or_where_it_is_told(cli: Cli) -> None:
    write(result(machine=FAKE))
    done = cli("plot", "results", "--kind", "throughput", "--kind", "step-time", "--kind", "throughput")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f"results/figures/{name}.{format}" for name in ("throughput", "step-time") for format in ("png", "svg")
    ]
    done = cli("plot", "results", "--kind", "step-time", "-o", "elsewhere", "--format", "pdf", "--format", "svg")
    assert done.stdout.splitlines() == ["elsewhere/step-time.pdf", "elsewhere/step-time.svg"]
    content = Path("elsewhere/step-time.pdf").read_bytes()
    assert content.startswith(b"%PDF") and b"/CreationDate" not in content and b"/Producer" not in content
    # a figure is the same whatever else it is saved as
    assert Path("elsewhere/step-time.svg").read_bytes() == Path("results/figures/step-time.svg").read_bytes()


def test_nothing_to_draw_is_one_worded_error_after_the_reasons(cli: Cli) -> None:
    write(result(status="out_of_memory", readings=()))
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


def test_without_a_kind_only_what_no_figure_shows_is_said(cli: Cli) -> None:
    failed = [result(f"package.net:n{i}", status="out_of_memory", readings=()) for i in range(9)]
    write(result(), *failed)
    done = cli("plot", "results", "--notes")
    lines = [line for line in done.stderr.splitlines() if line.startswith("Left out")]
    folded = cli("plot", "results").stderr
    assert folded.splitlines()[:2] == [
        "3 figures drawn, into results/figures.",
        "Some rows are left out of some kinds of figures; --notes shows which and why.",
    ]
    assert "Left out" not in folded
    assert lines[0].startswith("Left out of step-time: 9 rows (package.net:n0, batch 32; package.net:n1, batch 32; ")
    assert not any("it takes two" in line for line in lines)
    assert "Where rows are counted, `nfbench table` lists them all." in done.stderr
    assert names(done.stdout) == [
        f"{n}.{f}" for n in ("step-time", "throughput", "steps-resnet50") for f in ("png", "svg")
    ]


def test_results_that_no_figure_reads_are_not_left_out_in_silence(cli: Cli) -> None:
    clip = AgcCost(model="nfnet-f0", impl="foreach")
    write(result(workload=clip, resolved=None, readings=(once("clip", 1.0, "s"),)))
    done = cli("plot", "results", "--kind", "history")
    assert done.exit_code == 1
    assert "Left out: 1 result of agc-cost, which `nfbench table` shows." in done.stderr
    write(accuracy(), accuracy("tiny-resnet", agc=None))
    assert "accuracy-vs-flops.png" in names(cli("plot", "results").stdout)
    done = cli("plot", "results", "--kind", "step-time")
    assert "Left out: 2 results of accuracy, which --kind accuracy-vs-flops draws." in done.stderr


def test_a_condition_on_runs_leaves_the_steps_that_they_are_set_against(cli: Cli) -> None:
    small = Resolved(px=32, micro_batch=50, precision="fp32", layout="nhwc")
    for model in ("tiny-resnet", "tiny-resnet-s"):
        write(result(model, resolved=small, workload=StepTime(model=model, batch=50)))
        write(*(accuracy(model, agc=None, run={"dataset": name}) for name in ("digits", "fashion-mnist")))
    done = cli("plot", "results", "--kind", "accuracy-vs-latency", "--where", "dataset=fashion-mnist")
    assert done.exit_code == 0, done.output
    assert names(done.stdout) == ["accuracy-vs-latency.png", "accuracy-vs-latency.svg"]
    assert "Left out" not in done.stderr
    # each run by itself is drawn of what the condition leaves too
    done = cli("plot", "results", "--kind", "training-curves", "--where", "dataset=digits")
    assert names(done.stdout) == ["training-curves.png", "training-curves.svg"]


def test_a_folder_that_cannot_be_written_is_one_worded_message(cli: Cli) -> None:
    write(result())
    Path("file").write_text("")
    done = cli("plot", "results", "-o", "file/sub")
    assert done.exit_code == 1 and "Figures cannot be written to file/sub" in done.stderr


STEPS = [result("nfnet-f0", start=f"2026-01-01T00:00:0{second}.000Z") for second in range(2)]
FAILED = result("nfnet-f0", status="out_of_memory", readings=())
LONG = [msgspec.structs.replace(CPU, name="m" * 70 + end) for end in "ab"]
SWEPT = [
    run(batch=batch, agc=clip, dataset=f"imagefolder:{name}")
    for batch in (32, 64)
    for clip in (0.01, 0.04)
    for name in ("a.b", "a-b")
]


@pytest.mark.parametrize(
    ("kind", "results", "wanted"),
    [
        ("step-time", [result(machine=m) for m in (*LONG, H200)], ["m" * 60, f"{'m' * 60}-2", "nvidia-h200"]),
        ("steps", [FAILED, STEPS[0]], ["nfnet-f0"]),
        ("steps", [FAILED, *STEPS], ["nfnet-f0-1", "nfnet-f0-2"]),
        ("steps", [STEPS[0], result()], ["nfnet-f0", "resnet50"]),
        ("batch-accuracy", SWEPT, ["imagefolder-a-b", "imagefolder-a-b-2"]),
        ("training-curves", SWEPT, ["imagefolder-a-b", "imagefolder-a-b-2"]),
    ],
)
def test_files_are_named_by_machine_net_or_data_set_where_there_are_several(
    kind: str, results: list[Result], wanted: list[str]
) -> None:
    of = held(*results)
    made = {kind: drawn(kind, *results)}
    # what failed of the same net takes no number
    names = [name.replace(kind, "").strip("-") for *_, name in driver.named(of, made)]
    assert sorted(names) == wanted


def test_a_machine_whose_name_ends_as_a_kind_begins_has_a_file_of_its_own() -> None:
    made = {"batch-step-time": Drawing([("a", Figure())]), "step-time": Drawing([("a batch", Figure())])}
    assert [name for *_, name in driver.named(Shown(), made)] == ["a-batch-step-time", "a-batch-step-time-2"]


# what there is no room for

ROOM = "a figure has room for {}: draw fewer at once, with --where"


def test_of_more_rows_than_there_is_room_for_those_at_the_batch_that_most_have_stay() -> None:
    common = [result(f"package.net:n{i}", times=(0.1,) * 10) for i in range(30)]
    rare = [step(f"package.net:a{i}", 2**i, 0.1) for i in range(20)]
    made = drawn("step-time", *rare, *(msgspec.structs.replace(r, machine=H200) for r in common))
    assert (len(made.drawn), len(made.missing), why(made)) == (40, 10, {ROOM.format("40 rows")})
    assert sum(row["batch"] == 32 for row in made.drawn) >= 30


@pytest.mark.parametrize(
    ("kind", "results", "reason"),
    [
        ("batch-throughput", [step(), run()], "one batch only; it takes two"),
        ("batch-accuracy", [step(), run()], "one batch only; it takes two"),
        ("batch-throughput", [step("nfnet-f1", b, None) for b in (8, 16)], "no value that could be drawn"),
        ("agc-lines", [run(batch=32), run(batch=64)], "one λ only; it takes two"),
        ("norm-cost", [step(), step("nfnet-f0")], "no other norm of it, nor its twin"),
        ("layouts", [step(), step("nfnet-f0")], "one layout, precision and compile mode only"),
        ("history", [step(), step(machine=CPU)], "a step time by one software only; it takes two"),
        ("training-curves", [accuracy(top1=(0.5,))], "one epoch only, which is no curve"),
        ("step-time", [result(times=(1e-300,) * 10), result("nfnet-f0", times=(float("nan"),) * 10)], "no step time"),
        ("steps", [result(times=(1e20,) * 5)], "no step time"),
        ("phases", [result()], "no time of a phase, as under a CUDA graph, and no energy"),
    ],
)
def test_what_is_nothing_to_draw_is_no_figure_and_says_why(kind: str, results: list[Result], reason: str) -> None:
    made = drawn(kind, *results)
    assert made.figures == made.drawn == [] and why(made) == {reason}


def test_without_results_there_is_nothing_to_draw_and_nothing_to_leave_out() -> None:
    assert all(drawn(kind) == Drawing() for kind in KINDS)
