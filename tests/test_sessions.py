"""Which session is shown where the same was measured in several, and which files are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from make import CPU, SOFTWARE, accuracy, result
from msgspec.structs import replace

from nfbench.analysis.rows import rows
from nfbench.analysis.sessions import OLDER, current
from nfbench.analysis.store import Writer, beside, files, load
from nfbench.commands._study import _same as same
from nfbench.records import AgcCost, Result, StepTime
from nfbench.showing import study as show


def rounds(day: int, times: tuple[float, ...], numbers: tuple[int, ...] = (0, 1, 2, 3), **fields: Any) -> list[Result]:
    """Rounds of one net, each a session of its own, as a study measures them."""
    return [
        result(
            times=(time,) * 20,
            id=f"{day}-{number}",
            session=f"{day}-{number}",
            round=number,
            start=f"2026-01-{day:02}T10:0{number}:00.000Z",
            **fields,
        )
        for number, time in zip(numbers, times, strict=True)
    ]


def pair(day: int, ratios: tuple[float, ...], baseline: tuple[float, ...] = (0.1,) * 4) -> list[Result]:
    """Rounds of two nets in turns, all in one session, as `compare` measures them."""
    return [
        result(
            model,
            (time,) * 20,
            id=f"{day}-{number}-{model}",
            session=f"{day}",
            round=number,
            start=f"2026-01-{day:02}T10:0{number}:00.000Z",
        )
        for number, (ratio, base) in enumerate(zip(ratios, baseline, strict=True))
        for model, time in (("nf-resnet50", ratio * base), ("resnet50", base))
    ]


def days(results: list[Result]) -> list[str]:
    return sorted({r.start[8:10] for r in current(results)})


NARROW, WIDER, WIDEST = (0.1, 0.101, 0.099, 0.1), (0.1, 0.1015, 0.0985, 0.1), (0.1, 0.105, 0.095, 0.1)


def test_a_newer_session_replaces_an_older_one_where_its_interval_is_at_most_twice_as_wide() -> None:
    assert days([*rounds(1, NARROW), *rounds(2, WIDER)]) == ["02"]
    assert days([*rounds(1, WIDEST), *rounds(2, NARROW)]) == ["02"]
    assert days([*rounds(1, NARROW), *rounds(2, WIDEST)]) == ["01"]


def test_intervals_may_not_grow_by_a_factor_of_two_from_session_to_session() -> None:
    assert days([*rounds(1, NARROW), *rounds(2, WIDER), *rounds(3, (0.1, 0.1028, 0.0972, 0.1))]) == ["02"]


def test_a_row_says_which_session_was_taken_and_the_newer_one_s_file_shows_it(cli: Cli) -> None:
    old, new = rounds(1, NARROW), rounds(2, WIDEST)
    Writer(Path("mine/old.jsonl")).write(*old)
    Writer(Path("mine/new.jsonl")).write(*new)
    table = cli("table", "mine", "--format", "csv", "--columns", "step_time,start")
    assert table.stdout.splitlines()[1].endswith("2026-01-01T10:03:00.000Z")
    assert (
        "The session of 2026-01-01 10:00 is shown: a newer one's interval is 5.0 times as wide as the narrowest."
        " Name the newer one's file to see it." in table.stderr
    )
    assert "Set aside: 4 of other sessions of the same workloads." in table.stderr
    assert "is shown" not in cli("table", "mine/new.jsonl").stderr
    # nothing of it is stored
    assert all(OLDER not in r.notes for r in load([Path("mine")]).results)


def test_a_study_shows_on_the_screen_the_session_that_its_tables_show() -> None:
    old, new, other = rounds(1, NARROW), rounds(2, WIDEST), rounds(3, NARROW, workload=StepTime(model="vgg11"))
    seen = same(new, [*old, *other, *new])
    assert seen == [r for pair in zip(old, new, strict=True) for r in pair]
    assert current(seen) == current([*old, *new])
    assert {r.start[8:10] for r in current(seen)} == {"01"}


def test_rounds_of_one_entry_are_one_measurement_whenever_they_were_measured() -> None:
    later = [*rounds(1, (0.1, 0.101), (0, 1)), *rounds(2, (0.099, 0.1), (2, 3))]
    assert days(later) == ["01", "02"]
    assert rows(current(later))[0][0]["rounds"] == 4
    # the same entry once more, in a day's order of its own
    again = [*later, *rounds(3, (0.1, 0.101, 0.099), (2, 0, 1)), *rounds(4, (0.1,), (3,))]
    assert days(again) == ["03", "04"]


def test_a_measurement_that_was_stopped_after_a_few_rounds_does_not_replace_a_whole_one_nor_mix_with_it() -> None:
    assert days([*rounds(1, NARROW), *rounds(2, NARROW[:2], (0, 1))]) == ["01"]
    shown = current([*rounds(1, NARROW), *rounds(2, NARROW[:1], (0,))])
    assert {r.notes[OLDER] for r in shown} == {
        "The session of 2026-01-01 10:00 is shown: a newer one has one round only"
    }


def test_an_interval_over_rounds_replaces_one_within_a_run_however_wide_it_is() -> None:
    within = [result(times=(0.1, 0.1001) * 20, id="one", start="2026-01-01T00:00:00.000Z")]
    assert days([*within, *rounds(2, WIDEST)]) == ["02"]
    assert days([*rounds(2, WIDEST), *[replace(r, start="2026-01-03T00:00:00.000Z") for r in within]]) == ["02"]


def test_of_sessions_without_an_interval_the_newest_is_shown_and_a_failure_replaces_no_figure() -> None:
    short = [result(times=(0.1,), id=str(day), start=f"2026-01-0{day}T00:00:00.000Z") for day in (1, 2)]
    assert days(short) == ["02"]
    failed = replace(short[1], status="out_of_memory", readings=())
    assert days([short[0], failed]) == ["01"]
    assert current([short[0], failed])[0].notes[OLDER].endswith("a newer one has no step time")
    assert days([replace(short[0], status="error", readings=()), failed]) == ["02"]


def test_a_round_that_failed_is_replaced_by_the_next_of_its_number_alone() -> None:
    once = rounds(1, NARROW)
    once[2] = replace(once[2], status="error", readings=())
    assert [r.id for r in current([*once, *rounds(2, (0.1,), (2,))])] == ["1-0", "1-1", "1-3", "2-2"]


def test_of_pairs_the_interval_of_the_ratio_decides() -> None:
    drifting, noisy = (0.1, 0.105, 0.11, 0.115), (1.5, 2.5, 1.6, 2.4)
    # both nets drift together on the second day: their ratio is as well known as it was
    assert days([*pair(1, (2, 2.02, 1.98, 2)), *pair(2, (2, 2.02, 1.98, 2), drifting)]) == ["02"]
    shown = [*pair(1, (2, 2.02, 1.98, 2)), *pair(2, noisy)]
    assert days(shown) == ["01"]
    (ratio,) = show.shown(shown).ratios
    assert ratio.estimate.value == pytest.approx(2, rel=0.01)


def test_other_machines_software_studies_and_workloads_are_other_measurements() -> None:
    old = rounds(1, NARROW)
    for change in (
        {"machine": replace(CPU, cpu_cores=4)},
        {"software": replace(SOFTWARE, torch="2.16")},
        {"study": "mine"},
        {"seed": 1},
        {"workload": StepTime(model="resnet50", batch=8)},
    ):
        both = [*old, *rounds(2, WIDEST, **change)]
        assert current(both) == both


def test_of_training_runs_and_clips_the_newest_of_each_seed_is_shown() -> None:
    def trained(day: int, *top1: float) -> list[Result]:
        return [
            accuracy(top1=(t,), seed=seed, session=f"{day}-{seed}", start=f"2026-01-0{day}T00:00:0{seed}.000Z")
            for seed, t in enumerate(top1)
        ]

    old, new = trained(1, 0.9, 0.91, 0.92), trained(2, 0.2, 0.99)
    assert current([*old, *new]) == [old[2], *new]
    clips = [
        result(workload=AgcCost(model="resnet50", impl="timm"), session=day, start=f"2026-01-{day}T00:00:00.000Z")
        for day in ("01", "02")
    ]
    assert current(clips) == clips[1:]


def put(*paths: str) -> list[Path]:
    for number, path in enumerate(paths):
        Writer(Path(path)).write(result(id=str(number)))
    return [Path(path) for path in paths]


def test_results_of_one_s_own_are_read_without_what_git_tracks_below_results() -> None:
    mine, study, gpu, evidence = put(
        "results/h/step-time/a.jsonl",
        "results/h/quick/b.jsonl",
        "results/reference/h200/quick/c.jsonl",
        "results/validation/agc-sweep/d.jsonl",
    )
    for path in (Path("results"), Path(), Path("results").resolve()):
        listed = files([path])
        assert [p.resolve() for p in listed.paths] == [study.resolve(), mine.resolve()] and listed.note == ""
    assert files([Path("results/reference")]).paths == files([gpu]).paths == [gpu]
    assert files([Path("results/validation/agc-sweep"), Path("results/h")]).paths == [evidence, study, mine]


def test_where_nothing_was_measured_here_what_git_tracks_is_read_and_it_is_said(cli: Cli) -> None:
    tracked = put("results/reference/h200/quick/c.jsonl", "results/validation/agc-sweep/d.jsonl")
    line = "results holds no measurement of your own: what comes with nfbench is shown."
    assert files([Path("results")]) == (tracked, line)
    for command in (("table", "results"), ("plot", "results"), ("report", "results", "-o", "r.md")):
        done = cli(*command)
        assert done.exit_code == 0, done.output
        assert done.stderr.splitlines().count(line) == 1
    assert line not in cli("table", "results/reference").stderr


def test_folders_of_those_names_elsewhere_are_like_all_others() -> None:
    paths = put("runs/reference/a.jsonl", "runs/today/b.jsonl", "runs/validation/c.jsonl")
    assert files([Path("runs")]) == (paths, "")


def test_figures_of_what_git_tracks_go_to_no_folder_that_git_tracks(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    put("results/validation/agc-sweep/d.jsonl")
    done = cli("plot", "results/validation/agc-sweep", "--kind", "step-time", "--format", "svg")
    assert done.stdout.splitlines() == ["results/figures/step-time.svg"]
    assert beside(Path("results/validation/agc-sweep/d.jsonl")) == beside(Path("results/reference")) == Path("results")
    assert beside(Path("results")) == Path("results")
    top = Path.cwd()
    monkeypatch.chdir("results/validation/agc-sweep")
    assert beside(Path()) == top / "results"
