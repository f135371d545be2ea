"""Which session is shown where the same was measured in several, and which files are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from make import CPU, SOFTWARE, result
from msgspec.structs import replace

from nfbench.analysis.sessions import OLDER, current
from nfbench.analysis.store import Writer, beside, files, load
from nfbench.records import Result, StepTime


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


def again(results: list[Result], start: str, **fields: Any) -> list[Result]:
    return [replace(r, start=f"{start}T00:00:00.000Z", **fields) for r in results]


NARROW, WIDER, WIDEST = (0.1, 0.101, 0.099, 0.1), (0.1, 0.1015, 0.0985, 0.1), (0.1, 0.105, 0.095, 0.1)
WITHIN = [result(times=(0.1, 0.1001) * 20, id="one", start="2026-01-01T00:00:00.000Z")]
SHORT = [result(times=(0.1,), id=str(day), start=f"2026-01-0{day}T00:00:00.000Z") for day in (1, 2)]
FAILED = [replace(r, status="out_of_memory", readings=()) for r in SHORT]
FOUR = [*rounds(1, (0.1, 0.101), (0, 1)), *rounds(2, (0.099, 0.1), (2, 3))]
RATIOS = (2, 2.02, 1.98, 2)
BROKEN = [r if r.round != 2 else replace(r, status="error", readings=()) for r in rounds(1, NARROW)]


@pytest.mark.parametrize(
    ("results", "days", "why"),
    [
        # a newer one replaces an older one where its interval is at most twice as wide
        ([*rounds(1, NARROW), *rounds(2, WIDER)], "02", ""),
        ([*rounds(1, WIDEST), *rounds(2, NARROW)], "02", ""),
        ([*rounds(1, NARROW), *rounds(2, WIDEST)], "01", "a newer one's interval is 5.0 times as wide as the"),
        # as the narrowest: intervals do not grow by that from session to session
        ([*rounds(1, NARROW), *rounds(2, WIDER), *rounds(3, (0.1, 0.1028, 0.0972, 0.1))], "02", "2.8 times as wide"),
        # rounds of one entry are one measurement whenever they were measured, and again once they all were
        (FOUR, "01 02", ""),
        ([*FOUR, *rounds(3, (0.1, 0.101, 0.099), (2, 0, 1)), *rounds(4, (0.1,), (3,))], "03 04", ""),
        # one that was stopped early neither replaces a whole one nor mixes with it
        ([*rounds(1, NARROW), *rounds(2, NARROW[:2], (0, 1))], "01", "a newer one has too few"),
        ([*rounds(1, NARROW), *rounds(2, NARROW[:1], (0,))], "01", "a newer one has one round only"),
        # an interval over rounds replaces one within a run however wide it is
        ([*WITHIN, *rounds(2, WIDEST)], "02", ""),
        ([*rounds(2, WIDEST), *again(WITHIN, "2026-01-03")], "02", "one round only"),
        # without an interval the newest is shown, and a failure replaces no figure
        (SHORT, "02", ""),
        ([SHORT[0], FAILED[1]], "01", "a newer one has no step time"),
        (FAILED, "02", ""),
        # a round that failed is replaced by the next of its number alone
        ([*BROKEN, *rounds(2, (0.1,), (2,))], "01 02", ""),
        # of pairs the interval of the ratio decides: both nets drift together on the second day
        ([*pair(1, RATIOS), *pair(2, RATIOS, (0.1, 0.105, 0.11, 0.115))], "02", ""),
        ([*pair(1, RATIOS), *pair(2, (1.9, 2.1, 1.95, 2.05))], "01", "times as wide"),
    ],
)
def test_of_several_measurements_one_is_shown(results: list[Result], days: str, why: str) -> None:
    shown = current(results)
    assert sorted({r.start[8:10] for r in shown}) == days.split()
    assert all(why in r.notes.get(OLDER, "") and bool(why) == (OLDER in r.notes) for r in shown)
    assert len({(r.workload, r.round) for r in shown}) == len(shown)


def test_a_row_says_which_session_was_taken_and_the_newer_one_s_file_shows_it(cli: Cli) -> None:
    old, new = rounds(1, NARROW), rounds(2, WIDEST)
    Writer(Path("mine/old.jsonl")).write(*old)
    Writer(Path("mine/new.jsonl")).write(*new)
    table = cli("table", "mine", "--format", "csv", "--columns", "step_time,start", "--notes")
    assert table.stdout.splitlines()[1].endswith("2026-01-01T10:03:00.000Z")
    assert (
        "The session of 2026-01-01 10:00 is shown: a newer one's interval is 5.0 times as wide as the narrowest."
        " Name the file of the newer one to see it." in table.stderr
    )
    assert "Not shown: 4 results of older sessions; newer ones measured the same." in table.stderr
    assert "is shown" not in cli("table", "mine/new.jsonl").stderr
    # nothing of it is stored
    assert all(OLDER not in r.notes for r in load([Path("mine")]).results)


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
