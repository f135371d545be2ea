"""From a case that has been measured to its row: the verdict, what was accepted, and what is doubtful about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

from nfbench.analysis import acceptance, findings, gate, stats, verdicts
from nfbench.analysis.acceptance import Accept
from nfbench.analysis.findings import Finding
from nfbench.analysis.stats import Estimate
from nfbench.analysis.verdicts import Row
from nfbench.records import Result, StepTime
from nfbench.studies.case import Case
from nfbench.units import plural

_OF_ONE_RUN = ("wide_interval", "slow_first_step")
"""Findings that do not matter where rounds are compared."""


def limit(workload: StepTime, slower_than: float, accepts: tuple[Accept, ...], today: date) -> float:
    """The slowdown that is not called one: the threshold, or what is accepted today where that is more."""
    accept = acceptance.of(workload, accepts, today)
    return slower_than if accept is None or accept.expired(today) else max(slower_than, accept.slower)


def row(case: Case, slower_than: float, accepts: tuple[Accept, ...], today: date, rows: int) -> Row:
    """The row of ``case``, of ``rows`` in all; ``slower_than`` is the threshold of the check."""
    accept = acceptance.of(case.workload, accepts, today)
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
        why += [f"what auto became differs: {text}" for text in verdicts.differences(base.resolved, head.resolved)]
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
        counts=verdicts.counts(base, head) if head is not None and base is not None else (),
        accept=accept,
        accepted=accepted,
        expired=expired,
        findings=tuple(_findings(case, estimate, rows)),
    )


def missing(workload: StepTime, limit: float, where: str) -> Row:
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
