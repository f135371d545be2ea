"""Stored results as the base of a check."""

from __future__ import annotations

import pytest
from make import CPU, H200, SOFTWARE, result

from nfbench.analysis import baseline
from nfbench.errors import BadResults
from nfbench.records import Conditions, Reading, Resolved, Result, Software, StepTime, key


def stored_rounds(*times: float, session: str = "a", **fields: object) -> list[Result]:
    return [
        result(times=(t,) * 10, round=n, session=session, id=f"{session}-{n}", **fields) for n, t in enumerate(times)
    ]


def only(results: list[Result], study: str | None = "gate") -> baseline.Stored:
    (found,) = baseline.stored(results, study).values()
    return found


def test_rounds_are_means_of_turns_and_sessions_means_of_rounds() -> None:
    turns = [result(times=(t,) * 10, session="b", turn=n, id=f"b{n}") for n, t in enumerate((1.0, 4.0))]
    found = only([*stored_rounds(1.0, 1.0), *turns])
    assert sorted(found.rounds) == [1.0, 1.0, pytest.approx(2.0)]
    assert sorted(found.sessions) == [1.0, pytest.approx(2.0)]
    assert found.problem is None and found.uneven == (1, 2)
    assert only(stored_rounds(1.0, 1.0)).uneven is None


def test_rows_pair_by_every_setting() -> None:
    rows = [*stored_rounds(1.0), *stored_rounds(2.0, session="b", workload=StepTime(model="resnet50", batch=64))]
    found = baseline.stored(rows, None)
    assert set(found) == {key(StepTime(model="resnet50")), key(StepTime(model="resnet50", batch=64))}


def test_rows_of_another_study_and_a_checks_own_base_are_left_out() -> None:
    other = stored_rounds(1.0, study="quick")
    base = stored_rounds(2.0, session="b", side="base")
    mine = stored_rounds(3.0, 3.0, session="c", study="gate", side="head")
    assert only([*other, *base, *mine]).rounds == (pytest.approx(3.0), pytest.approx(3.0))


def test_of_two_softwares_the_newer_is_the_base() -> None:
    older = stored_rounds(1.0, 1.0, software=Software(nfbench="0.0.9"), start="2025-01-01T00:00:00.000Z")
    newer = stored_rounds(2.0, 2.0, session="b", software=SOFTWARE, start="2026-01-02T00:00:00.000Z")
    assert only([*newer, *older]).rounds == (pytest.approx(2.0), pytest.approx(2.0))


def unsound(value: float | None) -> Result:
    reading = Reading(name="step_time", unit="s", scope="step", source="test", values=(0.1, value, 0.1))
    return result(readings=(reading,), round=1, id="x", session="a")


@pytest.mark.parametrize("value", [None, 0.0, -1.0], ids=["NaN", "zero", "negative"])
def test_times_that_are_no_times_make_no_base(value: float | None) -> None:
    assert only([*stored_rounds(0.1), unsound(value)]).problem == "the base's times hold NaN, infinity or zero"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (stored_rounds(0.1), "the base has one round, which tells nothing about its noise"),
        ([*stored_rounds(0.1, 0.1), result(status="error", id="y", session="z")], "the base's rows hold 1 error"),
        (
            stored_rounds(0.1, 0.1, conditions=Conditions(throttle=("hw_slowdown",))),
            "the GPU was slowed down in every round of the base",
        ),
        ([result(readings=(), id=str(n), session=str(n)) for n in range(2)], "the base has no step times"),
    ],
    ids=["one round", "failed", "throttled", "nothing timed"],
)
def test_what_cannot_be_a_base_says_why(rows: list[Result], words: str) -> None:
    assert only(rows).problem == words


def test_a_run_that_is_there_twice_is_refused() -> None:
    again = result(times=(0.2,) * 10, round=0, session="a", id="other", start="2026-01-05T00:00:00.000Z")
    with pytest.raises(BadResults, match=r"The run a is there twice: resnet50, round 0, turn 0\."):
        baseline.stored([*stored_rounds(0.1, 0.1), again], None)
    sides = [result(side=side, session="a", id=f"i{side}") for side in ("base", "head")]
    assert len(baseline.stored(sides, None)) == 1


def test_machines_that_differ_are_named_by_key_but_for_those_allowed() -> None:
    assert baseline.machine_keys(CPU, CPU, ()) == []
    keys = [text.partition(" ")[0] for text in baseline.machine_keys(CPU, H200, ("cpu", "driver"))]
    assert keys == ["device", "name", "memory", "compute_capability", "cpu_cores"]


def test_replicates_that_resolved_otherwise_are_not_pooled() -> None:
    other = Resolved(px=224, micro_batch=16, precision="fp32", layout="nchw")
    later = stored_rounds(5.0, 5.0, session="b", resolved=other, start="2026-02-01T00:00:00.000Z")
    assert only([*stored_rounds(1.0, 1.0), *later]).rounds == (pytest.approx(5.0), pytest.approx(5.0))
