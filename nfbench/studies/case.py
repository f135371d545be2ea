"""One row of a check while it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from nfbench.analysis import gate
from nfbench.analysis.baseline import Stored
from nfbench.analysis.gate import Tally, Verdict
from nfbench.analysis.stats import Estimate
from nfbench.analysis.verdicts import Outcome
from nfbench.records import Resolved, Result, Sampling, StepTime

TURN_TIME = 3.0


def turns(sampling: Sampling) -> Sampling:
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
        self.sampling = turns(sampling)
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
