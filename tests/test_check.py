"""The rounds of a check and the rows that they become, with workers that answer from a script."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

import msgspec
import pytest
from make import Quiet, once, result, step_times

from nfbench.analysis.acceptance import Accept
from nfbench.analysis.baseline import Stored
from nfbench.analysis.verdicts import Row, exit_code
from nfbench.errors import NfbenchError
from nfbench.measuring.outcome import Labels
from nfbench.records import Conditions, Machine, Resolved, Result, Sampling, StepTime, reading
from nfbench.studies import check
from nfbench.studies.check import Case, Check, Sides
from nfbench.studies.processes import Group, Place, Seat, Unstarted

TODAY = date(2026, 11, 21)
Script = Callable[[Seat, int, int], Result]
"""What a seat answers in a round and turn."""


def took(seconds: float, **fields: Any) -> Result:
    clock = fields.pop("clock", None)
    clocks = (reading("sm_clock", "Hz", "window", "nvml", [clock]),) if clock else ()
    counts = tuple(once(name, value) for name, value in fields.pop("counts", {}).items())
    return result(times=(seconds,) * 5, readings=(step_times(*(seconds,) * 5), *clocks, *counts), **fields)


class Scripted(Group):
    """A group whose workers are a function."""

    script: Script
    alone_rounds: int

    def __init__(self, seats: Sequence[Seat], **options: Any) -> None:
        super().__init__(seats, **options)
        Scripted.alone_rounds += self.alone

    def _ask(self, index: int, request: Any, watch: Any, until: float) -> Result:
        found = Scripted.script(self.seats[index], request.round, request.turn)
        return msgspec.structs.replace(found, workload=self.seats[index].workload, side=self.seats[index].side)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Row]]]:
    """Check workloads whose workers follow a script."""
    monkeypatch.setattr(check, "Group", Scripted)
    monkeypatch.setattr(check, "start", lambda *args: None)
    Scripted.alone_rounds = 0

    def run(
        script: Script,
        *workloads: StepTime,
        stored: Stored | None = None,
        accepts: tuple[Accept, ...] = (),
        counts: bool = False,
        slower_than: float = 0.03,
        max_time: float = 60.0,
        objection: Callable[[Case], str | None] = lambda case: None,
        watch: Quiet | None = None,
        in_base: bool = False,
        base_may_be_new: bool = True,
        sides: Sides | None = None,
    ) -> list[Row]:
        Scripted.script = staticmethod(script)
        asked = workloads or (StepTime(model="resnet50"),)
        cases = [
            Case(w, Sampling(), check.limit_of(w, slower_than, accepts, TODAY), len(asked), stored, in_base)
            for w in asked
        ]
        Check(
            cases,
            sides or Sides(None if stored else Place(), Place()),
            device="fake",
            seed=0,
            labels=Labels(),
            keep=lambda r: None,
            watch=watch or Quiet(),
            until=time.monotonic() + max_time,
            counts=counts,
            objection=objection,
            base_may_be_new=base_may_be_new,
        ).run()
        return [check.row_of(case, slower_than, accepts, TODAY, len(cases)) for case in cases]

    yield run


def scaled(head: float, **fields: Any) -> Script:
    """The base takes a second, the head ``head`` of it."""
    return lambda seat, round, turn: took(head if seat.side == "head" else 1.0, **fields)


@pytest.mark.parametrize(
    ("head", "verdict", "code"), [(1.0, "same", 0), (1.05, "slower", 3), (0.9, "faster", 0), (1.029, "same", 0)]
)
def test_four_equal_rounds_decide(rows: Any, head: float, verdict: str, code: int) -> None:
    (row,) = rows(scaled(head))
    assert (row.verdict, row.rounds, row.void) == (verdict, 4, 0)
    assert row.ratio.value == pytest.approx(head)
    assert (row.base_time, row.head_time) == (pytest.approx(1.0), pytest.approx(head))
    assert exit_code([row], "fail") == code


def test_each_round_is_two_fresh_processes_in_turns_a_b_b_a_and_the_next_b_a_a_b(rows: Any) -> None:
    seen: list[tuple[int, int, str | None]] = []

    def script(seat: Seat, round: int, turn: int) -> Result:
        seen.append((round, turn, seat.side))
        return took(1.0)

    rows(script)
    sides = [[side for round, _, side in seen if round == n] for n in range(4)]
    assert sides == [["base", "head", "head", "base"], ["head", "base", "base", "head"]] * 2


def test_a_throttled_round_is_run_again_and_not_averaged_in(rows: Any) -> None:
    def script(seat: Seat, round: int, turn: int) -> Result:
        if round in (1, 3) and seat.side == "head":
            return took(2.0, conditions=Conditions(throttle=("hw_thermal_slowdown",)))
        return took(1.0)

    (row,) = rows(script)
    assert (row.verdict, row.rounds, row.void, row.ratio.value) == ("same", 4, 2, 1.0)
    assert any(
        "2 rounds did not count: the GPU was slowed down (hw_thermal_slowdown)" in f.message for f in row.findings
    )


def test_slower_in_time_but_not_in_cycles_is_the_clock(rows: Any) -> None:
    def script(seat: Seat, round: int, turn: int) -> Result:
        low = round == 2 and seat.side == "head"
        return took(1.25 if low else 1.0, clock=1.6e9 if low else 2e9)

    (row,) = rows(script)
    assert (row.verdict, row.rounds, row.void) == ("same", 4, 1)
    assert any("the clock changed, not the code" in f.message for f in row.findings)


def test_a_clock_that_stays_lower_ends_without_a_verdict(rows: Any) -> None:
    (row,) = rows(lambda seat, r, t: took(1.25, clock=1.6e9) if seat.side == "head" else took(1.0, clock=2e9))
    assert row.verdict == "inconclusive"
    assert row.why == ("9 rounds did not count: the clock changed, not the code",)
    assert exit_code([row], "fail") == 4
    assert exit_code([row], "pass") == 0


def test_noise_that_16_rounds_do_not_settle_is_inconclusive(rows: Any) -> None:
    def script(seat: Seat, round: int, turn: int) -> Result:
        return took(1.03 * (1.2 if round % 2 else 0.83) if seat.side == "head" else 1.0)

    (row,) = rows(script)
    assert (row.verdict, row.rounds) == ("inconclusive", 16)
    assert "noisy_rounds" in [f.code for f in row.findings]


def test_a_row_that_is_surely_not_slower_does_not_fail_where_it_may_be_faster(rows: Any) -> None:
    def script(seat: Seat, round: int, turn: int) -> Result:
        return took(0.96 * (1.02 if round % 2 else 0.98) if seat.side == "head" else 1.0)

    (row,) = rows(script)
    assert row.verdict == "inconclusive" and row.not_slower
    assert exit_code([row], "fail") == 0


def failing(side: str, status: str, round: int = 0) -> Script:
    def script(seat: Seat, at: int, turn: int) -> Result:
        return result(status=status, readings=(), message="boom") if seat.side == side and at == round else took(1.0)

    return script


@pytest.mark.parametrize(
    ("side", "status", "round", "verdict", "code"),
    [
        ("head", "error", 0, "failed", 3),
        ("head", "unsupported", 0, "failed", 3),
        ("head", "out_of_memory", 0, "failed", 3),
        ("head", "diverged", 0, "failed", 3),
        ("head", "error", 2, "failed", 3),
        ("base", "error", 0, "new", 0),
        ("base", "unsupported", 0, "new", 0),
        ("base", "out_of_memory", 0, "incomparable", 4),
        ("base", "diverged", 0, "incomparable", 4),
        ("base", "timeout", 0, "incomparable", 4),
        ("base", "error", 2, "incomparable", 4),
    ],
)
def test_a_side_that_fails_is_named_and_never_passes_as_the_same(
    rows: Any, side: str, status: str, round: int, verdict: str, code: int
) -> None:
    def script(seat: Seat, at: int, turn: int) -> Result:
        # memory that ran out is tried again alone, in a round of its own
        again = status == "out_of_memory" and at == round + 2
        return failing(side, status, at if again else round)(seat, at, turn)

    (row,) = rows(script)
    assert row.verdict == verdict
    assert row.why[0].startswith(f"the {side} ended as {status.replace('_', ' ')}: boom")
    assert exit_code([row], "fail") == code


def test_where_both_sides_cannot_the_head_decides(rows: Any) -> None:
    (row,) = rows(lambda seat, r, t: result(status="unsupported", readings=(), message="no such net"))
    assert (row.verdict, exit_code([row], "fail")) == ("failed", 3)
    (row,) = rows(lambda seat, r, t: result(status="diverged", readings=()))
    assert (row.verdict, exit_code([row], "fail")) == ("incomparable", 4)


def unstarted(side: str, died: bool = True) -> Script:
    def script(seat: Seat, round: int, turn: int) -> Result:
        if seat.side == side:
            raise Unstarted(seat, died, NfbenchError("A worker ended.", why="ImportError: nfbench"))
        return took(1.0)

    return script


def test_a_base_that_does_not_start_is_new_and_a_head_that_does_not_fails(rows: Any) -> None:
    (row,) = rows(unstarted("base"))
    assert (row.verdict, row.why) == (
        "new",
        ("the base's worker does not start: A worker ended. ImportError: nfbench",),
    )
    (row,) = rows(unstarted("head"))
    assert (row.verdict, exit_code([row], "fail")) == ("failed", 3)
    with pytest.raises(NfbenchError, match="A worker ended"):
        rows(unstarted("head", died=False))


def test_the_base_resolves_and_pins_the_head(rows: Any) -> None:
    asked: dict[str, set[object]] = {"base": set(), "head": set()}

    class Watched(Scripted):
        def _ask(self, index: int, request: Any, watch: Any, until: float) -> Result:
            workload = request.workload
            asked[self.seats[index].side or ""].add((workload.px, workload.micro_batch, workload.layout, workload.agc))
            return super()._ask(index, request, watch, until)

    check.Group = Watched  # type: ignore[misc]
    resolved = Resolved(px=192, micro_batch=16, precision="fp32", layout="nchw", agc=0.01, agc_impl="foreach")
    rows(lambda seat, r, t: took(1.0, resolved=resolved))
    assert asked["head"] == {(192, 16, "nchw", 0.01)}
    assert asked["base"] == {("train", "auto", "best", "auto"), (192, 16, "nchw", 0.01)}


def test_what_both_sides_became_otherwise_is_named(rows: Any) -> None:
    def script(seat: Seat, round: int, turn: int) -> Result:
        impl = "fused" if seat.side == "head" else "foreach"
        return took(1.0, resolved=Resolved(px=1, micro_batch=1, precision="fp32", layout="nchw", optimizer_impl=impl))

    (row,) = rows(script)
    assert row.why == ("what auto became differs: optimizer_impl foreach → fused",)


def test_sides_that_do_not_fit_together_run_alone_and_it_is_said(rows: Any) -> None:
    def script(seat: Seat, round: int, turn: int) -> Result:
        small = Machine(device="cuda", name="small", memory=100)
        return took(1.0, counts={"peak_allocated": 46.0}, machine=small)

    watch = Quiet()
    (row,) = rows(script, watch=watch)
    assert (row.verdict, row.rounds) == ("same", 4)
    assert Scripted.alone_rounds == 3
    assert watch.notes == ["resnet50: both sides do not fit in memory; each turn gets fresh processes."]


def test_no_round_is_begun_that_would_not_end_in_time(rows: Any) -> None:
    def script(seat: Seat, round: int, turn: int) -> Result:
        time.sleep(0.05)
        return took(1.0)

    began = time.monotonic()
    (row,) = rows(script, max_time=0.5)
    assert time.monotonic() - began < 0.55
    assert row.verdict == "inconclusive"
    assert row.why == (f"the time was up after {row.rounds} rounds, the next look is after 4",)
    assert row.ratio is not None and exit_code([row], "fail") == 4


def accept(until: date = date(2027, 1, 31), **fields: Any) -> tuple[Accept, ...]:
    return (Accept(where={"model": "resnet50"}, until=until, reason="exact", **fields),)


def test_a_slowdown_that_is_accepted_passes_and_says_so(rows: Any) -> None:
    (row,) = rows(scaled(1.05), accepts=accept(slower=0.06))
    assert (row.verdict, row.accepted, exit_code([row], "fail")) == ("slower", True, 0)
    assert row.why == ("accepted up to 6 % until 2027-01-31: exact",)


@pytest.mark.parametrize(
    ("accepts", "head", "words"),
    [
        (accept(date(2026, 11, 20), slower=0.06), 1.05, "no longer accepted (until 2026-11-20: exact)"),
        (accept(slower=0.06), 1.08, "more than the accepted 6 % (until 2027-01-31: exact)"),
    ],
    ids=["expired", "larger"],
)
def test_an_acceptance_that_is_over_or_too_small_does_not_help(
    rows: Any, accepts: tuple[Accept, ...], head: float, words: str
) -> None:
    (row,) = rows(scaled(head), accepts=accepts)
    assert (row.verdict, exit_code([row], "fail")) == ("slower", 3)
    assert row.why[0].startswith(words)


def test_it_holds_on_its_last_day_and_for_its_own_model_only(rows: Any) -> None:
    (row,) = rows(scaled(1.05), accepts=accept(TODAY, slower=0.06))
    assert row.accepted
    (row,) = rows(scaled(1.05), StepTime(model="nfnet-f0"), accepts=accept(slower=0.06))
    assert (row.accepted, exit_code([row], "fail")) == (False, 3)


def test_one_that_nothing_needs_is_named(rows: Any) -> None:
    (row,) = rows(scaled(1.0), accepts=accept(slower=0.06))
    assert row.why == ("not needed: accepted up to 6 % until 2027-01-31: exact",)


def counting(base: dict[str, float], head: dict[str, float]) -> Script:
    return lambda seat, r, t: took(1.0, counts=head if seat.side == "head" else base)


@pytest.mark.parametrize("only", [True, False], ids=["counts only", "timed"])
@pytest.mark.parametrize("name", ["macs", "params", "operators", "saved_bytes"])
def test_one_more_of_what_is_counted_fails_whatever_the_time(rows: Any, name: str, only: bool) -> None:
    (row,) = rows(counting({name: 10**9}, {name: 10**9 + 1}), counts=only)
    assert row.verdict == ("more" if only else "same")
    assert exit_code([row], "fail") == 3
    (row,) = rows(counting({name: 100}, {name: 99}), counts=only)
    assert row.verdict == ("fewer" if only else "same")
    assert [c.verdict for c in row.counts] == ["fewer"] and exit_code([row], "fail") == 0


def test_counts_are_taken_once_and_nothing_is_timed(rows: Any) -> None:
    asked: list[bool] = []

    class Watched(Scripted):
        def _ask(self, index: int, request: Any, watch: Any, until: float) -> Result:
            asked.append(request.counts)
            return super()._ask(index, request, watch, until)

    check.Group = Watched  # type: ignore[misc]
    (row,) = rows(counting({"macs": 1}, {"macs": 1}), counts=True)
    assert asked == [True, True] and row.ratio is None


def test_cudnns_choice_of_workspace_is_no_more_memory(rows: Any) -> None:
    (row,) = rows(counting({"peak_allocated": 1000}, {"peak_allocated": 1009}))
    assert exit_code([row], "fail") == 0
    (row,) = rows(counting({"peak_allocated": 1000}, {"peak_allocated": 1011}))
    assert exit_code([row], "fail") == 3


def test_a_count_that_the_head_lost_is_no_pass(rows: Any) -> None:
    (row,) = rows(counting({"macs": 1, "operators": 5}, {"operators": 5}))
    assert exit_code([row], "fail") == 4
    (row,) = rows(counting({"operators": 5}, {"macs": 1, "operators": 5}))
    assert exit_code([row], "fail") == 0


def test_more_of_a_count_can_be_accepted_too(rows: Any) -> None:
    more = counting({"operators": 100}, {"operators": 104})
    (row,) = rows(more, accepts=accept(counts={"operators": 0.05}))
    assert exit_code([row], "fail") == 0
    (row,) = rows(more, accepts=accept(counts={"operators": 0.03}))
    assert exit_code([row], "fail") == 3
    (row,) = rows(more, accepts=accept(date(2026, 1, 1), counts={"operators": 0.05}))
    assert exit_code([row], "fail") == 3


def test_results_that_cannot_be_compared_end_after_one_round(rows: Any) -> None:
    (row,) = rows(scaled(1.0), objection=lambda case: "another machine")
    assert (row.verdict, row.why, exit_code([row], "fail")) == ("incomparable", ("another machine",), 4)
    assert row.rounds == 0


def stored(*times: float, sessions: tuple[float, ...] = (1.0,)) -> Stored:
    return Stored(took(times[0]), times, sessions)


def test_stored_rounds_are_compared_with_the_head_alone(rows: Any) -> None:
    seen: list[str | None] = []

    def script(seat: Seat, round: int, turn: int) -> Result:
        seen.append(seat.side)
        return took(1.1)

    (row,) = rows(script, stored=stored(1.0, 1.0, 1.0), slower_than=0.06)
    assert (row.verdict, set(seen), row.rounds) == ("slower", {"head"}, 4)
    assert row.base_time == pytest.approx(1.0) and row.ratio.value == pytest.approx(1.1)
    assert "one_session" in [f.code for f in row.findings]
    (row,) = rows(scaled(1.05), stored=stored(1.0, 1.0), slower_than=0.06)
    assert row.verdict == "same"


def test_the_noise_between_sessions_keeps_stored_rounds_from_an_alarm(rows: Any) -> None:
    noisy = stored(1.0, 1.0, 1.0, sessions=(0.9, 1.0, 1.1))
    (row,) = rows(scaled(1.1), stored=noisy, slower_than=0.06)
    assert row.verdict == "inconclusive"


@pytest.mark.parametrize("side", ["head", "base"])
def test_what_is_accepted_never_hides_a_side_that_fails(rows: Any, side: str) -> None:
    def script(seat: Seat, round: int, turn: int) -> Result:
        if seat.side == side and round == 2:
            return result(status="error", readings=(), message="boom")
        return scaled(1.05)(seat, round, turn)

    (row,) = rows(script, accepts=accept(slower=0.06))
    assert not row.accepted
    assert (row.verdict, exit_code([row], "fail")) == (("failed", 3) if side == "head" else ("incomparable", 4))


def test_what_is_accepted_needs_a_look_that_rules_out_more(rows: Any) -> None:
    def noisy(seat: Seat, round: int, turn: int) -> Result:
        return took(1.06 * (1.02 if round % 2 else 0.98) if seat.side == "head" else 1.0)

    (row,) = rows(noisy, accepts=accept(slower=0.06))
    assert (row.verdict, row.accepted, exit_code([row], "fail")) == ("inconclusive", False, 4)


def test_acceptances_of_one_workload_are_taken_together(rows: Any) -> None:
    both = (*accept(slower=0.06), *accept(date(2028, 1, 1), counts={"operators": 0.05}))

    def script(seat: Seat, round: int, turn: int) -> Result:
        head = seat.side == "head"
        return took(1.05 if head else 1.0, counts={"operators": 104.0 if head else 100.0})

    (row,) = rows(script, accepts=both)
    assert (row.verdict, row.accepted, exit_code([row], "fail")) == ("slower", True, 0)


@pytest.mark.parametrize("status", ["error", "unsupported"])
def test_a_row_of_the_bases_own_study_that_fails_there_is_not_new(rows: Any, status: str) -> None:
    (row,) = rows(failing("base", status), in_base=True)
    assert (row.verdict, exit_code([row], "pass")) == ("incomparable", 4)


def test_another_python_that_does_not_start_is_an_error(rows: Any) -> None:
    with pytest.raises(NfbenchError, match="A worker ended"):
        rows(unstarted("base"), base_may_be_new=False)


@pytest.mark.parametrize("side", ["head", "base"])
def test_a_side_that_hangs_until_the_time_is_up_is_no_pass_even_if_inconclusive_is(rows: Any, side: str) -> None:
    def script(seat: Seat, round: int, turn: int) -> Result:
        if seat.side == side:
            time.sleep(0.3)
            return result(status="timeout", readings=(), message="no answer")
        return took(1.0)

    (row,) = rows(script, max_time=0.2)
    assert (row.verdict, exit_code([row], "pass")) == ("incomparable", 4)
    assert row.why == (f"the time was up in round 1, while the {side} ran; --max-time is too short for one round",)


def test_a_head_that_fails_outweighs_a_base_that_ran_out_of_time(rows: Any) -> None:
    def script(seat: Seat, round: int, turn: int) -> Result:
        if seat.side == "head":
            return result(status="error", readings=(), message="boom")
        time.sleep(0.3)
        return result(status="timeout", readings=(), message="no answer")

    (row,) = rows(script, max_time=0.2)
    assert (row.verdict, exit_code([row], "fail")) == ("failed", 3)


def test_a_workload_that_stored_results_lack_is_run_all_the_same(rows: Any) -> None:
    alone = Sides(None, Place())
    (row,) = rows(scaled(1.0), sides=alone)
    assert (row.verdict, exit_code([row], "fail")) == ("new", 0)
    (row,) = rows(failing("head", "unsupported"), sides=alone)
    assert (row.verdict, exit_code([row], "fail")) == ("failed", 3)


def test_a_net_of_which_nothing_can_be_counted_is_no_pass(rows: Any) -> None:
    (row,) = rows(counting({}, {}), counts=True)
    assert (row.verdict, exit_code([row], "fail")) == ("incomparable", 4)
