"""What a report counts: every result once, and none missing in silence."""

from __future__ import annotations

from pathlib import Path

import msgspec
from conftest import Cli
from make import result, step_times
from report_cases import keep, turns

from nfbench.showing import report_build, report_sources


def test_of_a_run_that_was_cut_off_and_went_on_the_whole_one_counts_wherever_it_lies() -> None:
    whole = result(times=(0.2,) * 10)
    cut = msgspec.structs.replace(whole, status="interrupted", readings=(step_times(0.4, 0.4),))
    for first, second in (("a", "b"), ("b", "a")):
        keep(f"{first}{second}/{first}/runs.jsonl", [cut])
        keep(f"{first}{second}/{second}/runs.jsonl", [whole])
        sources = report_sources.read([Path(f"{first}{second}")])
        assert [r.status for group in sources.groups for r in group.results] == ["ok"]
        assert sources.repeated == 1
        assert "1 result that was there more than once: told once." in report_build.build(sources).notes


def test_sessions_that_were_measured_again_are_counted_as_left_out() -> None:
    again = [
        msgspec.structs.replace(r, session="later", id=f"later{i}", start=r.start.replace("2026-01", "2026-02"))
        for i, r in enumerate(turns("nf-resnet50", "resnet50", 0.8))
    ]
    keep("data/runs.jsonl", [*turns("nf-resnet50", "resnet50", 0.5), *again])
    ((part,),) = [report_build.build(report_sources.read([Path("data")])).parts]
    (study,) = part.studies
    assert any("8 of other sessions of the same workloads" in line for line in study.left_out)
    assert "0.8" in part.answer and "0.5 " not in part.answer


def test_the_screen_says_what_is_in_the_report(cli: Cli) -> None:
    keep("data/runs.jsonl", turns("nf-resnet50", "resnet50", 0.5))
    done = cli("report", "data", "-o", "r.html")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == ["r.html"]
    assert "NF-ResNet50" in done.stderr
