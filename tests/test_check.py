"""The rounds of a check and the rows that they become, with workers that answer from a script."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from typing import Any

import msgspec
import pytest
from make import Quiet, once, result, step_times

from nfbench.analysis.baseline import Stored
from nfbench.analysis.gate import Accept, Row, exit_code
from nfbench.errors import NfbenchError
from nfbench.measuring.outcome import Labels
from nfbench.records import Conditions, Machine, Resolved, Result, Sampling, StepTime, reading
from nfbench.studies import check, processes
from nfbench.studies.check import Case, Check, Sides
from nfbench.studies.processes import Group, Place, Seat, Unstarted

TODAY = date(2026, 11, 21)
Side = float | Result | NfbenchError | Callable[[int], Any]
"""What a side answers: the seconds of a step, a whole result, how it does not start, or one of these by the round."""


def took(seconds: float, **fields: Any) -> Result:
    clock = fields.pop("clock", None)
    clocks = (reading("sm_clock", "Hz", "window", "nvml", [clock]),) if clock else ()
    counts = tuple(once(name, value) for name, value in fields.pop("counts", {}).items())
    return result(times=(seconds,) * 5, readings=(step_times(*(seconds,) * 5), *clocks, *counts), **fields)


def ended(status: str) -> Result:
    return result(status=status, readings=(), message="boom")


def late(round: int) -> Result:
    time.sleep(0.3)
    return ended("timeout")


def unanswered(round: int) -> NfbenchError:
    time.sleep(0.3)
    return NO_ANSWER


def in_round(at: int, then: Side, otherwise: Side = 1.0) -> Side:
    return lambda round: then if round == at else otherwise


def by_turns(odd: float, even: float) -> Side:
    return lambda round: odd if round % 2 else even


class Scripted(Group):
    """A group whose workers are a script."""

    base: Side
    head: Side
    alone_rounds: int
    asked: list[tuple[str | None, Any]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        Scripted.alone_rounds += self.alone

    def _ask(self, index: int, request: Any, watch: Any, until: float) -> Result:
        seat = self.seats[index]
        Scripted.asked.append((seat.side, request))
        answer: Any = Scripted.head if seat.side == "head" else Scripted.base
        while callable(answer):
            answer = answer(request.round)
        if isinstance(answer, NfbenchError):
            raise Unstarted(seat, not answer.try_, answer, "timeout" if answer is NO_ANSWER else "error")
        answer = answer if isinstance(answer, Result) else took(answer)
        return msgspec.structs.replace(answer, workload=seat.workload, side=seat.side)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Row]:
    """Check a workload whose two sides follow a script."""
    monkeypatch.setattr(check, "Group", Scripted)
    monkeypatch.setattr(processes, "start_all", lambda *args: None)

    def run(
        base: Side = 1.0,
        head: Side = 1.0,
        *,
        model: str = "resnet50",
        stored: Stored | None = None,
        accepts: tuple[Accept, ...] = (),
        slower_than: float = 0.03,
        max_time: float = 60.0,
        in_base: bool = False,
        sides: Sides | None = None,
        **more: Any,
    ) -> Row:
        Scripted.base, Scripted.head = staticmethod(base), staticmethod(head)  # type: ignore[arg-type, assignment]
        Scripted.alone_rounds, Scripted.asked = 0, []
        asked = StepTime(model=model)
        case = Case(asked, Sampling(), check.limit_of(asked, slower_than, accepts, TODAY), 1, stored, in_base)
        given = {"watch": Quiet(), "until": time.monotonic() + max_time} | more
        sides = sides or Sides(None if stored else Place(), Place())
        Check([case], sides, device="fake", seed=0, labels=Labels(), keep=lambda r: None, **given).run()
        return check.row_of(case, slower_than, accepts, TODAY, 1)

    return run


def accept(until: date = date(2027, 1, 31), **fields: Any) -> tuple[Accept, ...]:
    return (Accept(where={"model": "resnet50"}, until=until, reason="exact", **fields),)


def stored(*times: float, sessions: tuple[float, ...] = (1.0,)) -> dict[str, Any]:
    return {"stored": Stored(took(times[0]), times, sessions), "slower_than": 0.06}


def counted(base: dict[str, float], head: dict[str, float], seconds: float = 1.0) -> dict[str, Any]:
    return {"base": took(1.0, counts=base), "head": took(seconds, counts=head)}


HOT = took(2.0, conditions=Conditions(throttle=("hw_thermal_slowdown",)))
SLOW_CLOCK, CLOCK = took(1.25, clock=1.6e9), took(1.0, clock=2e9)
CRASH = NfbenchError("A worker ended.", why="ImportError: nfbench")
NO_ANSWER = NfbenchError("A worker ended.", why="no answer after 0 s")
BROKE, CANNOT, DIVERGED = ended("error"), ended("unsupported"), ended("diverged")
NO_ROOM, TIMEOUT, LATER = ended("out_of_memory"), ended("timeout"), in_round(2, BROKE)
HEAD_LATE, BASE_LATE = ({side: late, "max_time": 0.2} for side in ("head", "base"))
SIX, LACKING = accept(slower=0.06), {"sides": Sides(None, Place())}
ONE_DAY_AGO, MANY = accept(date(2026, 11, 20), slower=0.06), (0.9, 1.0, 1.1)
MORE, BOTH = (counted({"operators": 100}, {"operators": 104}, seconds) for seconds in (1.0, 1.05))
FOREACH, FUSED = (
    took(1.0, resolved=Resolved(px=1, micro_batch=1, precision="fp32", layout="nchw", optimizer_impl=impl))
    for impl in ("foreach", "fused")
)

CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    # what the sides do; the verdict, the exit code where an inconclusive row fails and where it passes, and the rounds
    # that count; how why or a finding begins
    "the same": ({}, "same 0/0 4", ""),
    "slower": ({"head": 1.05}, "slower 3/3 4", ""),
    "slower in noise": ({"head": by_turns(1.08, 1.05)}, "slower 3/3 8", ""),
    "faster": ({"head": 0.9}, "faster 0/0 4", ""),
    "within the threshold": ({"head": 1.029}, "same 0/0 4", ""),
    "throttled twice": ({"head": lambda r: HOT if r in (1, 3) else 1.0}, "same 0/0 4", "2 rounds did not count: the"),
    "a lower clock once": (
        {"base": CLOCK, "head": in_round(2, SLOW_CLOCK, CLOCK)},
        "same 0/0 4",
        "1 round did not count",
    ),
    "a lower clock": ({"base": CLOCK, "head": SLOW_CLOCK}, "inconclusive 4/0 0", "9 rounds did not count: the clock"),
    "noise": ({"head": by_turns(1.236, 0.855)}, "inconclusive 4/0 16", "The rounds differ by"),
    "surely not slower": ({"head": by_turns(0.979, 0.941)}, "inconclusive 0/0 16", ""),
    "another machine": ({"objection": lambda case: "another machine"}, "incomparable 4/4 0", "another machine"),
    "auto differs": (
        {"base": FOREACH, "head": FUSED},
        "same 0/0 4",
        "the two sides ran with different settings: optimizer_impl",
    ),
    # a side that fails never passes as the same
    "the head breaks": ({"head": BROKE}, "failed 3/3 0", "the head ended as error: boom"),
    "the head breaks later": ({"head": LATER}, "failed 3/3 2", "the head ended as error: boom"),
    "the head cannot": ({"head": CANNOT}, "failed 3/3 0", "the head ended as unsupported: boom"),
    "the head has no room": ({"head": NO_ROOM}, "failed 3/3 0", "the head ended as out of memory: boom"),
    "the head diverges": ({"head": DIVERGED}, "failed 3/3 0", "the head ended as diverged: boom"),
    "the base breaks": ({"base": BROKE}, "new 0/0 0", "the base ended as error: boom"),
    "the base breaks later": ({"base": LATER}, "incomparable 4/4 2", "the base ended as error: boom"),
    "the base cannot": ({"base": CANNOT}, "new 0/0 0", "the base ended as unsupported: boom"),
    "the base could": ({"base": CANNOT, "in_base": True}, "incomparable 4/4 0", "the base ended as unsupported: boom"),
    "the base has no room": ({"base": NO_ROOM}, "incomparable 4/4 0", "the base ended as out of memory: boom"),
    "the base diverges": ({"base": DIVERGED}, "incomparable 4/4 0", "the base ended as diverged: boom"),
    "the base is late": ({"base": TIMEOUT}, "incomparable 4/4 0", "the base ended as timeout: boom"),
    "both cannot": ({"base": CANNOT, "head": CANNOT}, "failed 3/3 0", "the head ended as unsupported"),
    "both diverge": ({"base": DIVERGED, "head": DIVERGED}, "incomparable 4/4 0", "the loss is not finite on either"),
    "the base does not start": ({"base": CRASH}, "new 0/0 0", "the base's worker does not start: A worker ended."),
    "the head does not start": ({"head": CRASH}, "failed 3/3 0", ""),
    "the head hangs": (HEAD_LATE, "incomparable 4/4 0", "the time was up in round 1, while the head"),
    "the base hangs": (BASE_LATE, "incomparable 4/4 0", "the time was up in round 1, while the base"),
    "the head has no time to start": (
        {"head": unanswered, "max_time": 0.2},
        "incomparable 4/4 0",
        "the time was up in round 1, while the head started; --max-time is too short",
    ),
    "the base has no time to start": (
        {"base": unanswered, "max_time": 0.2, "base_may_be_new": False},
        "incomparable 4/4 0",
        "the time was up in round 1, while the base started; --max-time is too short",
    ),
    "both": ({"base": late, "head": BROKE, "max_time": 0.2}, "failed 3/3 0", "the head ended as error: boom"),
    # stored rounds are compared with the head alone; the noise between sessions keeps them from an alarm
    "slower than stored": ({"head": 1.1} | stored(1.0, 1.0, 1.0), "slower 3/3 4", "The stored rounds are of one"),
    "as stored": ({"head": 1.05} | stored(1.0, 1.0), "same 0/0 4", ""),
    "stored in noise": ({"head": 1.1} | stored(1.0, 1.0, 1.0, sessions=MANY), "inconclusive 4/0 16", ""),
    "not stored": (LACKING, "new 0/0 0", "the stored results have no such workload"),
    "not stored and cannot": (LACKING | {"head": CANNOT}, "failed 3/3 0", ""),
    # acceptances
    "accepted": ({"head": 1.05, "accepts": SIX}, "slower 0/0 4", "accepted up to 6 % until 2027-01-31: exact"),
    "on its last day": ({"head": 1.05, "accepts": accept(TODAY, slower=0.06)}, "slower 0/0 4", "accepted up to 6 %"),
    "expired": ({"head": 1.05, "accepts": ONE_DAY_AGO}, "slower 3/3 4", "no longer accepted (until 2026-11-20: exact)"),
    "more than accepted": ({"head": 1.08, "accepts": SIX}, "slower 3/3 4", "more than the accepted 6 % (until"),
    "of another net": ({"head": 1.05, "accepts": SIX, "model": "nfnet-f0"}, "slower 3/3 4", ""),
    "not needed": ({"accepts": SIX}, "same 0/0 4", "not needed: accepted up to 6 % until 2027-01-31: exact"),
    "not ruled out": ({"head": by_turns(1.081, 1.039), "accepts": SIX}, "inconclusive 4/0 16", ""),
    "accepted and breaks": ({"head": in_round(2, BROKE, 1.05), "accepts": SIX}, "failed 3/3 2", ""),
    "accepted, no base": ({"base": LATER, "head": 1.05, "accepts": SIX}, "incomparable 4/4 2", ""),
    # counts
    "more memory": (counted({"peak_allocated": 1000}, {"peak_allocated": 1011}), "same 3/3 4", ""),
    "cuDNN's choice of memory": (counted({"peak_allocated": 1000}, {"peak_allocated": 1009}), "same 0/0 4", ""),
    "a count that is lost": (counted({"macs": 1, "operators": 5}, {"operators": 5}), "same 4/4 4", ""),
    "a count that is new": (counted({"operators": 5}, {"macs": 1, "operators": 5}), "same 0/0 4", ""),
    "nothing to count": (counted({}, {}) | {"counts": True}, "incomparable 4/4 0", ""),
    "more, accepted": (MORE | {"accepts": accept(counts={"operators": 0.05})}, "same 0/0 4", ""),
    "more than was accepted": (MORE | {"accepts": accept(counts={"operators": 0.03})}, "same 3/3 4", ""),
    "more, expired": (MORE | {"accepts": accept(TODAY.replace(day=1), counts={"operators": 0.05})}, "same 3/3 4", ""),
    "slower and more": (BOTH | {"accepts": SIX + accept(counts={"operators": 0.05})}, "slower 0/0 4", ""),
}


@pytest.mark.parametrize(("script", "outcome", "words"), CASES.values(), ids=CASES.keys())
def test_verdict_and_exit_code_follow_from_the_sides(
    run: Any, script: dict[str, Any], outcome: str, words: str
) -> None:
    row = run(**script)
    assert f"{row.verdict} {exit_code([row], 'fail')}/{exit_code([row], 'pass')} {row.rounds}" == outcome
    assert any(text.startswith(words) for text in (*row.why, *(f.message for f in row.findings), ""))
    assert row.accepted == (outcome == "slower 0/0 4")


@pytest.mark.parametrize("only", [True, False], ids=["counts only", "timed"])
@pytest.mark.parametrize("name", ["macs", "params", "operators", "saved_bytes"])
def test_one_more_of_what_is_counted_fails_whatever_the_time(run: Any, name: str, only: bool) -> None:
    row = run(**counted({name: 10**9}, {name: 10**9 + 1}), counts=only)
    assert (row.verdict, exit_code([row], "fail")) == ("more" if only else "same", 3)
    # counts are taken once, and nothing is timed
    assert len(Scripted.asked) == (2 if only else 16) and (row.ratio is None) == only
    row = run(**counted({name: 100}, {name: 99}), counts=only)
    assert (row.verdict, exit_code([row], "fail")) == ("fewer" if only else "same", 0)
    assert [c.verdict for c in row.counts] == ["fewer"]


def test_each_round_is_two_fresh_processes_in_turns_of_which_the_base_resolves_and_pins_the_head(run: Any) -> None:
    resolved = Resolved(px=192, micro_batch=16, precision="fp32", layout="nchw", agc=0.01, agc_impl="foreach")
    row = run(took(1.0, resolved=resolved), took(1.1, resolved=resolved))
    assert row.ratio.value == pytest.approx(1.1)
    assert (row.base_time, row.head_time) == (pytest.approx(1.0), pytest.approx(1.1))
    sides = [[side for side, request in Scripted.asked if request.round == n] for n in range(4)]
    assert sides == [["base", "head", "head", "base"], ["head", "base", "base", "head"]] * 2
    asked: dict[str | None, set[object]] = {"base": set(), "head": set()}
    for side, request in Scripted.asked:
        workload = request.workload
        asked[side].add((workload.px, workload.micro_batch, workload.layout, workload.agc))
    assert asked["head"] == {(192, 16, "nchw", 0.01)}
    assert asked["base"] == {("train", "auto", "best", "auto"), (192, 16, "nchw", 0.01)}


def test_a_device_that_is_refused_or_a_python_that_does_not_start_is_the_user_s_error(run: Any) -> None:
    with pytest.raises(NfbenchError, match="A worker ended"):
        run(head=NfbenchError("A worker ended.", try_="--device cpu"))
    with pytest.raises(NfbenchError, match="A worker ended"):
        run(base=CRASH, base_may_be_new=False)


def test_a_worker_that_has_no_time_left_to_start_is_late_and_has_not_failed() -> None:
    group = Group([Seat(StepTime(model="tiny-nfnet"))], device="fake", seed=0, labels=Labels())
    with pytest.raises(Unstarted) as caught:
        group.turn(0, 0, Sampling(), lambda result: None, Quiet(), until=time.monotonic())
    group.close()
    assert caught.value.status == "timeout"


def test_sides_that_do_not_fit_together_run_alone_and_it_is_said(run: Any) -> None:
    large, watch = (
        took(1.0, counts={"peak_allocated": 46.0}, machine=Machine(device="cuda", name="s", memory=100)),
        Quiet(),
    )
    row = run(large, large, watch=watch)
    assert (row.verdict, row.rounds, Scripted.alone_rounds) == ("same", 4, 3)
    assert watch.notes == ["resnet50: both sides do not fit in memory; each turn gets fresh processes."]


def test_no_round_is_begun_that_would_not_end_in_time(run: Any) -> None:
    def slow(round: int) -> float:
        time.sleep(0.05)
        return 1.0

    began = time.monotonic()
    row = run(slow, slow, max_time=0.5)
    assert time.monotonic() - began < 0.55
    assert (row.verdict, exit_code([row], "fail")) == ("inconclusive", 4)
    assert row.why == (f"the time was up after {row.rounds} rounds, the next look is after 4",)
