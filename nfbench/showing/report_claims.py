"""The claims as a report shows them: a line each, and below it all that was measured."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench.analysis.claims import Verdict
from nfbench.records import Result
from nfbench.showing import answers
from nfbench.showing import claims as show_claims
from nfbench.showing.report import Claim, Judged, clean
from nfbench.units import ABSENT

_NAMED = 2
"""Deciding figures that stand in a claim's line."""


def judged(results: Sequence[Result], noisy: bool = False) -> list[Judged]:
    """The verdicts of each machine; of results that were not measured for the claims only those that there are.

    The fake device times nothing, so that it speaks for no claim.
    """
    found = []
    for verdicts in answers.verdicts([r for r in results if r.machine.device != "fake"], noisy):
        of_the_study = any(r.study == answers.CLAIMS and r.machine == verdicts[0].machine for r in results)
        measured = [v for v in verdicts if v.figures]
        if not measured:
            continue
        shown = verdicts if of_the_study else measured
        rest = 0 if of_the_study else sum(v.verdict == "not run" for v in verdicts)
        summary = clean(show_claims.summary(verdicts))
        others = f"{rest} other claim{'s'[: rest != 1]}"
        said = f"Nothing here speaks for or against {others}: nfbench run claims measures for all." if rest else ""
        found.append(Judged(summary, tuple(map(_claim, shown)), said))
    return found


def _claim(verdict: Verdict) -> Claim:
    claim = verdict.claim
    deciding = [f"{f.about}: {f.judged}" for f in verdict.figures]
    more = [f"and {len(deciding) - _NAMED} more below"] if len(deciding) > _NAMED else []
    return Claim(
        claim.id,
        clean(claim.text),
        clean(claim.who),
        clean(show_claims.reported(verdict)) or ABSENT,
        verdict.verdict,
        clean("; ".join([*deciding[:_NAMED], *more])) or ABSENT,
        tuple(
            (
                clean(f"{f.about}: {f.judged}"),
                clean("; ".join(filter(None, [f.conditions, f.scope]))),
            )
            for f in verdict.figures
        ),
        clean(verdict.why),
    )
