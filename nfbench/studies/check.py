"""The rounds of a check: each row's two sides in fresh processes, A B B A, until its verdict or the time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nfbench.analysis import gate, metrics, stats, verdicts
from nfbench.measuring.outcome import Keep, Labels
from nfbench.records import Result, Side, Status
from nfbench.studies.case import Case
from nfbench.studies.group import Group, Seat, Unstarted, Watcher, running
from nfbench.studies.process import Place, Process
from nfbench.studies.runner import TOGETHER, start
from nfbench.studies.together import crowded

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


class Check:
    """Measures cases round by round, all open ones in each, and looks after 4, 8 and 16 sound rounds of a case.

    ``counts`` counts in one round and times nothing. ``objection`` says why a case's results cannot be compared. A base
    whose worker does not start makes a row new, or is an error unless ``base_may_be_new``.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        sides: Sides,
        *,
        device: str,
        seed: int,
        labels: Labels,
        keep: Keep,
        watch: Watcher,
        until: float,
        kind: str | None = None,
        counts: bool = False,
        objection: Callable[[Case], str | None] = lambda case: None,
        base_may_be_new: bool = True,
    ) -> None:
        self.cases, self.sides, self.device, self.seed = list(cases), sides, device, seed
        self.labels, self.keep, self.watch, self.kind = labels, keep, watch, kind
        self.until, self.counts, self.objection = until, counts, objection
        self.base_may_be_new = base_may_be_new
        self.round_time: float | None = None
        self.unstarted: dict[Side | None, str] = {}

    def run(self) -> None:
        """Measure until every case has its verdict, or the next round would not end in time.

        Raises:
            NfbenchError: the device cannot be had.
        """
        if self.counts:
            self._count()
            return
        while open_cases := [case for case in self.cases if case.verdict is None]:
            for batch in _batches(open_cases, 1 if self.sides.base is None else 2):
                began = time.monotonic()
                expected = (self.round_time or 0.0) * len(batch)
                if began + 1.05 * expected > self.until:
                    self._out_of_time()
                    return
                self._round(batch)
                self.round_time = (time.monotonic() - began) / len(batch)

    def _count(self) -> None:
        """Each case once, all in the same two processes: counts do not depend on what was counted before."""
        first = self._group(self.cases[0])
        with running([first], self.keep) as state:
            start([first], self.watch, self.kind, self.until)
            for case in self.cases:
                state.current = self._group(case, first.processes)
                self._time(case, state.current)
                first.processes = state.current.processes

    def _out_of_time(self) -> None:
        for case in self.cases:
            if case.verdict is None:
                reached = len(case.head_times)
                wanted = next((n for n in gate.LOOKS if n > reached), gate.LOOKS[-1])
                case.end("inconclusive", f"the time was up after {reached} rounds, the next look is after {wanted}")

    def _round(self, batch: Sequence[Case]) -> None:
        groups = [self._group(case) for case in batch]
        with running(groups, self.keep) as state:
            start(groups, self.watch, self.kind, self.until)
            for case, group in zip(batch, groups, strict=True):
                state.current = group
                self._time(case, group)
                group.close()

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
        if (error.seat.side == "head" and not error.died) or (error.seat.side == "base" and not self.base_may_be_new):
            raise error
        self.unstarted[error.seat.side] = " ".join(filter(None, (error.what, error.why)))

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
            round = len(case.head_times) + 1
            short = "; --max-time is too short for one round" if round == 1 else ""
            case.end("incomparable", f"the time was up in round {round}, while the {side} ran{short}")
        elif base is not None and "base" in self.unstarted and not case.base:
            case.end("new", f"the base's worker does not start: {base.words}")
        elif base is not None and base.status in CANNOT and not case.base and not case.in_base:
            case.end("new", f"the base ended as {base.words}")
        elif base is not None:
            case.end("incomparable", f"the base ended as {base.words}")
        return bool(ends)

    def _ended(self, side: Side, results: Sequence[Result]) -> _End | None:
        """How a side failed; None where it did not."""
        if side in self.unstarted:
            return _End("error", self.unstarted[side])
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
            case.end(verdicts.counted(verdicts.counts(case.base[-1], case.head[-1])))
        else:
            self._add(case, found)
            case.verdict = case.tally.verdict
            if len(case.tally.voids) > gate.MOST_VOID:
                case.why.append(f"{len(case.tally.voids)} rounds did not count: {case.tally.voids[-1]}")

    def _add(self, case: Case, found: Sequence[Sequence[Result]]) -> None:
        """The round goes to the tally, or is void."""
        seen = {reason for side in found for result in side for reason in result.conditions.throttle}
        times = [[metrics.seconds(r) for r in side] for side in found]
        if slowed := sorted(metrics.VOIDS & seen):
            case.tally.void(f"the GPU was slowed down ({', '.join(slowed)})")
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
