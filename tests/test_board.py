"""The grid of a study as it fills."""

from __future__ import annotations

import pytest
from make import accuracy, result

from nfbench.records import Accuracy, StepTime
from nfbench.showing.board import Board, duration, outcome
from nfbench.studies.durations import TASK_TIME, Durations, Expected, total
from nfbench.studies.entries import Entry, Task


def tasks(models: int = 2, batches: int = 3) -> list[Task]:
    return [
        Task(Entry("step-time", (StepTime(model=f"timm:net_{m}", batch=2**b),)))
        for m in range(models)
        for b in range(batches)
    ]


def board(**given: int) -> Board:
    made = Board(quiet=True)
    every = tasks(**given)
    made.planned(every, [None] * len(every), range(len(every)))
    return made


def test_each_net_has_a_row_and_each_task_a_sign() -> None:
    shown = board()
    shown.begun(0, [Expected(60, True)] * 6)
    shown.ended(0, [result()], 1.0)
    shown.begun(1, [Expected(60, True)] * 5)
    assert shown.lines()[:2] == ["timm:net_0 █▸·", "timm:net_1 ···"]
    shown.ended(1, [result(status="out_of_memory")], 1.0)
    shown.begun(2, [Expected(60, True)] * 4)
    shown.ended(2, [accuracy(status="diverged")], 1.0)
    assert shown.lines()[:2] == ["timm:net_0 █xD", "timm:net_1 ···"]
    assert shown.lines()[2] == "3 of 6 done, about 3 min left"


def test_what_was_done_before_and_what_is_left_for_later_look_otherwise() -> None:
    shown = Board(quiet=True)
    every = tasks(models=1)
    shown.planned(every, [[result()], None, None], [1])
    assert shown.lines()[0] == "timm:net_0 ▒· "


def test_a_long_row_goes_on_in_the_next_line_and_many_nets_are_cut_to_the_open_ones() -> None:
    rows = board(models=1, batches=200).lines()
    assert sum(row.count("·") for row in rows[:-1]) == 200 and max(map(len, rows)) <= 80
    many = board(models=40, batches=1)
    assert many.lines()[-2] == "… 28 more" and len(many.lines()) == 14


def test_the_last_finding_stands_below() -> None:
    shown = board()
    shown.begun(0, [None] * 6)
    shown.ended(0, [result(status="error", message="it broke")], 1.0)
    assert shown.lines()[-1].startswith("last finding: timm:net_0: ")
    assert "time left not known yet" in shown.lines()[-2]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7200, "2 h"), (7800, "2 h 10 min"), (2e5, "2 d 7 h")],
)
def test_a_time_is_said_as_a_person_plans_with_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_outcome_is_said_in_a_few_words() -> None:
    assert outcome([result(times=(0.1,) * 5)]) == "100.0 ms a step"
    assert outcome([accuracy()]) == "top-1 90.0 %"
    assert outcome([result(status="timeout", message="no answer")]) == "timeout: no answer"


def test_what_a_task_takes_is_told_from_the_same_then_from_its_epochs_then_from_its_cap() -> None:
    from make import once

    same = result(workload=StepTime(model="resnet50", batch=8), readings=(once(TASK_TIME, 7.0, "s"),))
    trained = accuracy(more=(once("wall_time", 30.0, "s"),), top1=(0.5, 0.6, 0.7))
    known = Durations([same, trained])
    assert known.of(Task(Entry("step-time", (StepTime(model="resnet50", batch=8),)))) == Expected(7.0, True)
    run = trained.run.__class__(model="tiny-nfnet", batch=50, epochs=20)
    assert known.of(Task(Entry("accuracy", (run,)))) == Expected(200.0, True)
    assert known.of(Task(Entry("accuracy", (Accuracy(model="tiny-resnet"),)))) is None
    unknown = known.of(Task(Entry("step-time", (StepTime(model="resnet50"),))))
    assert unknown is not None and not unknown.measured and unknown.seconds >= 60
    others = [result(workload=StepTime(model="resnet50", batch=b), readings=same.readings) for b in (1, 2, 4)]
    assert Durations(others).of(Task(Entry("step-time", (StepTime(model="resnet101"),)))) == Expected(7.0, True)
    assert total([Expected(1, True), None, Expected(2, False)]) == (3, False, 1)
