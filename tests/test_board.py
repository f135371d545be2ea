"""The grid of a study as it fills."""

from __future__ import annotations

from make import accuracy, result

from nfbench.records import StepTime
from nfbench.showing.live import Board
from nfbench.studies.entries import Entry, Task


def board(models: int = 2, batches: int = 3) -> Board:
    tasks = [
        Task(Entry("step-time", (StepTime(model=f"timm:net_{m}", batch=2**b),)))
        for m in range(models)
        for b in range(batches)
    ]
    made = Board(quiet=True)
    made.planned(tasks, [None] * len(tasks), range(len(tasks)))
    return made


def test_each_net_has_a_row_each_task_a_sign_and_the_time_left_is_the_mean_of_what_has_ended() -> None:
    shown = board()
    shown.begun(0)
    assert shown.lines()[-1] == "0 of 6 done, time left not known yet"
    shown.ended(0, [result()], 30.0)
    shown.begun(1)
    assert shown.lines()[:2] == ["timm:net_0 █▸·", "timm:net_1 ···"]
    shown.ended(1, [result(status="out_of_memory")], 60.0)
    shown.begun(2)
    shown.ended(2, [accuracy(status="diverged")], 90.0)
    assert shown.lines()[:3] == ["timm:net_0 █xD", "timm:net_1 ···", "3 of 6 done, about 3 min left"]


def test_what_was_done_before_and_what_is_left_for_later_look_otherwise() -> None:
    shown = board(models=1)
    shown.planned(shown.tasks, [[result()], None, None], [1])
    assert shown.lines()[0] == "timm:net_0 ▒· "


def test_a_long_row_goes_on_in_the_next_line_and_many_nets_are_cut_to_the_open_ones() -> None:
    rows = board(models=1, batches=200).lines()
    assert sum(row.count("·") for row in rows[:-1]) == 200 and max(map(len, rows)) <= 80
    many = board(models=40, batches=1)
    assert many.lines()[-2] == "… 28 more" and len(many.lines()) == 14


def test_the_time_left_is_of_tasks_that_run_at_once() -> None:
    shown = board(batches=2)
    shown.begun(0)
    shown.begun(1)
    # the second to begin is the first to end
    shown.ended(1, [result()], 1200.0)
    assert shown.lines() == ["timm:net_0 ▸█", "timm:net_1 ··", "1 of 4 done, about 30 min left"]


def test_the_last_finding_stands_below() -> None:
    shown = board()
    shown.begun(0)
    shown.ended(0, [result(status="error", message="it broke")], 1.0)
    assert shown.lines()[-1].startswith("last finding: timm:net_0: ")
