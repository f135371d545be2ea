"""The rounds of a check: each row's two sides in fresh processes, A B B A, until its verdict or the time is up."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import date
from functools import partial
from typing import NamedTuple

import msgspec

from nfbench.analysis import findings, gate, metrics, stats
from nfbench.analysis.baseline import Stored
from nfbench.analysis.findings import Finding
from nfbench.analysis.gate import Accept, Outcome, Row, Tally, Verdict
from nfbench.analysis.stats import Estimate
from nfbench.measuring.outcome import Keep, Labels, Watch
from nfbench.records import Resolved, Result, Sampling, Side, Status, StepTime
from nfbench.studies.entries import TURN_TIME
from nfbench.studies.processes import TOGETHER, Group, Place, Process, Seat, Unstarted, crowded, running
from nfbench.units import plural


def _turns(sampling: Sampling) -> Sampling:
    """The turns of one round: A B B A, at least 3 s each, and of four times that at most, warm-up included."""
    turn_time = sampling.turn_time or TURN_TIME
    cap = min(sampling.max_time, 4 * turn_time)
    return msgspec.structs.replace(sampling, turns=2, rounds=1, turn_time=turn_time, max_time=max(cap, turn_time))


class Case:
    """One row of a check while it is measured. Its first side is the base, unless the base is ``stored``.

    ``limit`` is the slowdown that is not called one, of ``rows`` rows in all. ``verdict`` is None while it is open;
    ``why`` says what decided it other than the rounds. ``settled`` holds what each `auto` became, on either side, and
    ``in_base`` says that the base's own study has it too.
    """

    def __init__(
        self,
        workload: StepTime,
        sampling: Sampling,
        limit: float,
        rows: int = 1,
        stored: Stored | None = None,
        in_base: bool = False,
    ) -> None:
        self.workload, self.limit, self.stored = workload, limit, stored
        self.sampling = _turns(sampling)
        self.tally = gate.tally(limit, rows) if stored is None else Tally(partial(_against, stored, limit, rows))
        self.base_times: list[float] = []
        self.head_times: list[float] = []
        self.tried = 0
        self.alone, self.in_base = False, in_base
        self.settled: list[Resolved | None] = []
        self.base: list[Result] = []
        self.head: list[Result] = []
        self.verdict: Outcome | None = None
        self.why: list[str] = []
        if stored is not None and stored.problem:
            self.end("incomparable", stored.problem)

    def end(self, verdict: Outcome, why: str = "") -> None:
        """Close it."""
        self.verdict = verdict
        if why:
            self.why.append(why)


def _against(stored: Stored, limit: float, rows: int, times: Sequence[float]) -> tuple[Verdict, Estimate]:
    """A look at rounds of the head alone, against stored ones."""
    sides = stored.rounds, times, stored.sessions
    estimate = gate.unpaired(*sides, gate.confidence())
    return gate.judge(estimate, gate.unpaired(*sides, gate.confidence(rows)), limit), estimate


CANNOT: tuple[Status, ...] = ("unsupported", "error")
"""Statuses of a base that cannot start or has no such workload."""


class _End(NamedTuple):
    """How a side failed."""

    status: Status
    words: str


class Sides(NamedTuple):
    """Where the two sides run; a base that is stored has no place."""

    base: Place | None
    head: Place


@dataclass
class Check:
    """Measures cases round by round, all open ones in each, and looks after 4, 8 and 16 sound rounds of a case.

    ``counts`` counts in one round and times nothing. ``objection`` says why a case's results cannot be compared. A base
    whose worker does not start makes a row new, or is an error unless ``base_may_be_new``. ``check_base`` raises where
    the base has changed, before and after each round.
    """

    cases: Sequence[Case]
    sides: Sides
    _: KW_ONLY
    device: str
    seed: int
    labels: Labels
    keep: Keep
    watch: Watch
    until: float
    kind: str | None = None
    counts: bool = False
    objection: Callable[[Case], str | None] = lambda case: None
    base_may_be_new: bool = True
    check_base: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.round_time: float | None = None
        self.unstarted: dict[Side | None, _End] = {}

    def run(self) -> None:
        """Measure until every case has its verdict, or the next round would not end in time.

        Raises:
            NfbenchError: the device cannot be had.
        """
        if self.counts:
            self._count()
            return
        self.check_base()
        while open_cases := [case for case in self.cases if case.verdict is None]:
            for batch in _batches(open_cases, 1 if self.sides.base is None else 2):
                began = time.monotonic()
                expected = (self.round_time or 0.0) * len(batch)
                if began + 1.05 * expected > self.until:
                    self._out_of_time()
                    return
                self._round(batch)
                self.check_base()
                self.round_time = (time.monotonic() - began) / len(batch)

    def _count(self) -> None:
        """Each case once, all in the same two processes: counts do not depend on what was counted before."""
        open_cases = [case for case in self.cases if case.verdict is None]
        if not open_cases:
            return
        self.check_base()
        first = self._group(open_cases[0])
        with running([first], self.keep, self.watch, self.kind, self.until) as state:
            for case in open_cases:
                state.current = self._group(case, first.processes)
                self._time(case, state.current)
                first.processes = state.current.processes
        self.check_base()

    def _out_of_time(self) -> None:
        for case in self.cases:
            if case.verdict is None:
                reached = len(case.head_times)
                wanted = next((n for n in gate.LOOKS if n > reached), gate.LOOKS[-1])
                case.end("inconclusive", f"the time was up after {reached} rounds, the next look is after {wanted}")

    def _round(self, batch: Sequence[Case]) -> None:
        groups = [self._group(case) for case in batch]
        with running(groups, self.keep, self.watch, self.kind, self.until) as state:
            for case, group in zip(batch, state.each(), strict=True):
                self._time(case, group)

    def _group(self, case: Case, processes: Sequence[Process] = ()) -> Group:
        seats = [Seat(case.workload, self.sides.head, "head")]
        if self.sides.base is not None:
            seats.insert(0, Seat(case.workload, self.sides.base, "base"))
        settled = case.settled or [case.stored.last.resolved if case.stored else None] * len(seats)
        return Group(
            seats,
            device=self.device,
            seed=self.seed,
            labels=self.labels,
            settled=settled,
            alone=case.alone,
            lead=0,
            processes=processes,
        )

    def _time(self, case: Case, group: Group) -> None:
        found: list[list[Result]] = [[] for _ in group.seats]
        self.unstarted = {}
        turn = 0
        while turn < (1 if self.counts else case.sampling.turns) and not group.out:
            results = group.turn(
                case.tried,
                turn,
                case.sampling,
                self.keep,
                self.watch,
                said="" if self.counts else self._place(case),
                counts=self.counts,
                until=self.until,
                unstarted=self._unstarted,
            )
            turn += 1
            if not case.alone and not self.counts and crowded(results):
                self.watch.note(
                    f"{case.workload.model}: both sides do not fit in memory; each turn gets fresh processes."
                )
                case.alone, turn = True, 0
                found = [[] for _ in group.seats]
                # an even number of rounds on, so that the base still is the first to settle what auto means
                case.tried += 2
                group.run_alone()
                continue
            for side, result in zip(found, results, strict=True):
                if result is not None:
                    side.append(result)
        case.settled = group.settled
        case.tried += 1
        self._note(case, found)
        if not self._failed(case, found):
            self._judge(case, found)

    def _place(self, case: Case) -> str:
        """Where the check stands, for who looks on."""
        round, decided = len(case.head_times) + 1, sum(c.verdict is not None for c in self.cases)
        look = next((n for n in gate.LOOKS if n >= round), gate.LOOKS[-1])
        return f" (round {round}, look after {look}, {decided} of {len(self.cases)} decided)"

    def _unstarted(self, error: Unstarted) -> None:
        """A side whose worker does not start is out of the round, unless that is a user's error."""
        late = error.status == "timeout" and time.monotonic() >= self.until
        new = error.seat.side == "base" and not self.base_may_be_new
        if (error.seat.side == "head" and not error.died) or (new and not late):
            raise error
        words = " ".join(filter(None, (error.what, error.why)))
        self.unstarted[error.seat.side] = _End(error.status, words)

    def _failed(self, case: Case, found: Sequence[Sequence[Result]]) -> bool:
        """Whether a side failed, which closes the case."""
        head = self._ended("head", found[-1])
        base = self._ended("base", found[0]) if self.sides.base is not None else None
        ends = {end.status for end in (base, head) if end is not None}
        if head is not None and base is not None and ends == {"diverged"}:
            case.end("incomparable", "the loss is not finite on either side")
        elif head is not None and not (head.status == "timeout" and time.monotonic() >= self.until):
            case.end("failed", f"the head ended as {head.words}")
        elif time.monotonic() >= self.until and "timeout" in ends:
            # a side that hangs is no noise, so that --inconclusive pass must not let it pass
            side = "head" if head is not None else "base"
            did = "started" if side in self.unstarted else "ran"
            round = len(case.head_times) + 1
            short = "; --max-time is too short for one round" if round == 1 else ""
            case.end("incomparable", f"the time was up in round {round}, while the {side} {did}{short}")
        elif base is not None and "base" in self.unstarted and not case.base and not case.in_base:
            case.end("new", f"the base's worker does not start: {base.words}")
        elif base is not None and base.status in CANNOT and not case.base and not case.in_base:
            case.end("new", f"the base ended as {base.words}")
        elif base is not None:
            case.end("incomparable", f"the base ended as {base.words}")
        return bool(ends)

    def _ended(self, side: Side, results: Sequence[Result]) -> _End | None:
        """How a side failed; None where it did not."""
        if side in self.unstarted:
            return self.unstarted[side]
        failed = next((r for r in results if r.status != "ok"), None)
        if failed is None:
            return None
        words = failed.status.replace("_", " ")
        return _End(failed.status, f"{words}: {failed.message}" if failed.message else words)

    def _note(self, case: Case, found: Sequence[Sequence[Result]]) -> None:
        sides = (case.base, case.head) if self.sides.base is not None else (case.head,)
        for kept, side in zip(sides, found, strict=True):
            kept.extend(r for r in side if r.status == "ok")

    def _judge(self, case: Case, found: Sequence[Sequence[Result]]) -> None:
        if self.sides.base is None and case.stored is None:
            case.end("new", "the stored results have no such workload")
        elif (wrong := self.objection(case)) is not None:
            case.end("incomparable", wrong)
        elif self.counts:
            case.end(gate.counted(gate.counts(case.base[-1], case.head[-1])))
        else:
            self._add(case, found)
            case.verdict = case.tally.verdict
            if len(case.tally.voids) > gate.MOST_VOID:
                case.why.append(f"{len(case.tally.voids)} rounds did not count: {case.tally.voids[-1]}")

    def _add(self, case: Case, found: Sequence[Sequence[Result]]) -> None:
        """The round goes to the tally, or is void."""
        seen = {reason for side in found for result in side for reason in result.conditions.throttle}
        times = [[metrics.seconds(r) for r in side] for side in found]
        if metrics.uneven(itertools.chain(*found)):
            case.tally.void(f"the GPU was slowed down ({', '.join(sorted(metrics.VOIDS & seen))})")
            return
        if any(time is None for side in times for time in side):
            case.tally.void("a turn has no step time")
            return
        means = [stats.mean_of_logs([t for t in side if t is not None]).value for side in times]
        value = means[-1]
        if self.sides.base is not None:
            paired = gate.ratio(found[0], found[1])
            assert paired is not None
            if paired.clocks_differ(case.limit):
                case.tally.void("the clock changed, not the code", paired)
                return
            case.base_times.append(means[0])
            value = paired.ratio
        case.head_times.append(means[-1])
        case.tally.add(value)


def _batches(cases: Sequence[Case], workers: int) -> list[Sequence[Case]]:
    """Cases whose workers start together."""
    size = max(1, TOGETHER // workers)
    return [cases[i : i + size] for i in range(0, len(cases), size)]


_OF_ONE_RUN = ("wide_interval", "slow_first_step")
"""Findings that do not matter where rounds are compared."""


def limit_of(workload: StepTime, slower_than: float, accepts: tuple[Accept, ...], today: date) -> float:
    """The slowdown that is not called one: the threshold, or what is accepted today where that is more."""
    accept = gate.of(workload, accepts, today)
    return slower_than if accept is None or accept.expired(today) else max(slower_than, accept.slower)


def row_of(case: Case, slower_than: float, accepts: tuple[Accept, ...], today: date, rows: int) -> Row:
    """The row of ``case``, of ``rows`` in all; ``slower_than`` is the threshold of the check."""
    accept = gate.of(case.workload, accepts, today)
    expired = accept is not None and accept.expired(today)
    base, head = _last(case.base), _last(case.head)
    if case.stored is not None:
        base = case.stored.last
    looked = case.tally.estimate
    estimate = looked or _estimate(case)
    verdict, accepted = case.verdict or "inconclusive", False
    why = list(case.why)
    if accept is not None and accept.slower:
        if case.verdict == "slower":
            what = "no longer accepted" if expired else f"more than the accepted {100 * accept.slower:g} %"
            why.append(f"{what} (until {accept.until}: {accept.reason})")
        elif not expired and case.verdict == "same" and looked is not None and looked.low is not None:
            # within what is accepted; what the verdict would be without that
            if looked.low > 1 + slower_than:
                verdict, accepted = "slower", True
                why.append(accept.said())
            elif looked.value <= 1 + slower_than:
                why.append(f"not needed: {accept.said()}")
    if base is not None and head is not None:
        if differ := gate.differences(base.resolved, head.resolved):
            why.append(f"the two sides ran with different settings: {', '.join(differ)}")
        if base.composed != head.composed:
            why.append("one side is composed from shorter updates, the other is not")
    if case.stored is not None and case.stored.uneven:
        why.append("the base's rounds have {} to {} turns each".format(*case.stored.uneven))
    return Row(
        workload=case.workload,
        verdict=verdict,
        limit=case.limit,
        why=tuple(why),
        ratio=estimate,
        base_time=_time(case.stored.rounds if case.stored else case.base_times),
        head_time=_time(case.head_times),
        rounds=len(case.head_times),
        void=len(case.tally.voids),
        noise=gate.noise(case.tally.values),
        not_slower=_not_slower(case),
        counts=gate.counts(base, head) if head is not None and base is not None else (),
        accept=accept,
        accepted=accepted,
        expired=expired,
        findings=tuple(_findings(case, estimate, rows)),
    )


def missing_row(workload: StepTime, limit: float, where: str) -> Row:
    """A row of the base that the study no longer has."""
    return Row(workload=workload, verdict="missing", limit=limit, why=(f"{where} has it, the study here has not",))


def _not_slower(case: Case) -> bool:
    """Whether a look, never the rounds between two, has ruled out that it is slower."""
    looked = case.tally.estimate
    return looked is not None and looked.high is not None and looked.high < 1 + case.limit


def _estimate(case: Case) -> Estimate | None:
    """The ratio over the rounds so far, where no look was reached."""
    if case.stored is not None and case.head_times and case.stored.rounds:
        return gate.unpaired(case.stored.rounds, case.head_times, case.stored.sessions, gate.confidence())
    return stats.mean_of_logs(case.tally.values, gate.confidence()) if case.tally.values else None


def _findings(case: Case, estimate: Estimate | None, rows: int) -> list[Finding]:
    # where nothing is timed, nothing disturbs it
    timed = [r for r in (*case.base, *case.head) if r.reading("step_time") is not None or r.composed]
    found = [f for f in findings.of_all(timed) if f.code not in _OF_ONE_RUN]
    if voids := case.tally.voids:
        text = f"{plural(len(voids), 'round')} did not count: {'; '.join(dict.fromkeys(voids))}."
        do = "Lock the clocks (nvidia-smi -lgc) or let the card cool; the rounds were run again."
        found.append(Finding("void_rounds", text, do))
    if case.verdict == "inconclusive" and estimate is not None and estimate.low is not None:
        if estimate.low > 1 + case.limit:
            text = f"Slower by itself, but of {rows} rows one may look so by chance."
            found.append(Finding("one_of_many", text, "Check it alone, or raise --max-time."))
        elif not _not_slower(case) and (noise := gate.noise(case.tally.values)) is not None:
            wanted = math.log1p(case.limit)
            text = (
                f"The rounds differ by {100 * noise:.1f} % (standard deviation); the threshold is {100 * wanted:.1f} %."
            )
            do = "Raise --max-time or --slower-than, or take a machine of its own."
            found.append(Finding("noisy_rounds", text, do))
    if case.stored is not None and len(case.stored.sessions) < 2 and case.stored.rounds:
        text = "The stored rounds are of one session, so the noise between sessions is not known."
        found.append(Finding("one_session", text, "Store three runs of different days, or check --against a git ref."))
    return found


def _time(times: Sequence[float]) -> float | None:
    return stats.mean_of_logs(times).value if times else None


def _last(results: Sequence[Result]) -> Result | None:
    return results[-1] if results else None
