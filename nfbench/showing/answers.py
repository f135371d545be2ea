"""What a study answers: the tables on the screen, those that only some results make, and the last sentences.

Which of them there are follows from the results and from the figures that the study asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nfbench.analysis import claims, sweeps, turn_ratios
from nfbench.analysis.claims import Verdict
from nfbench.analysis.rows import quiet
from nfbench.records import Result
from nfbench.showing import accuracy as show_accuracy
from nfbench.showing import claims as show_claims
from nfbench.showing import sweep_answers, views
from nfbench.showing import sweeps as show_sweeps
from nfbench.showing.study import Shown, shown
from nfbench.showing.tables import Format
from nfbench.studies.study import Study
from nfbench.units import shorten

CLAIMS = "claims"
"""The study whose results are judged claim by claim."""


def tables(found: Study, seen: Shown, format: Format) -> str:
    """The tables of what was found; as csv and json one, of what the study is about."""
    person = format in ("rich", "md")
    if found.name == CLAIMS:
        judged = verdicts(seen.results, seen.noisy)
        if not person:
            return show_claims.table([v for each in judged for v in each], format)
        # a narrow terminal leaves scopes and reasons out of the table
        reasons = "".join(
            f"{v.claim.id}, {v.verdict}: {'; '.join(filter(None, (v.scope, v.why)))}\n"
            for each in judged
            for v in each
            if v.scope or v.why
        )
        parts = [show_claims.table(each, format) for each in judged]
        return "\n".join([*parts, *([reasons] if format == "rich" else []), _rest(seen, format)])
    axes = swept(found, seen)
    if "batch" in axes and (person or "agc" not in axes):
        return show_sweeps.batch_sweep(sweeps.batch_sweep(seen.steps, seen.trained), format)
    if "agc" in axes:
        return show_sweeps.agc_sweep(sweeps.agc_sweep(seen.trained), format)
    return _rest(seen, format)


def of_runs(found: Study, seen: Shown) -> bool:
    """Whether `tables` has the table of training runs."""
    return bool(seen.trained) and not swept(found, seen)


def texts(results: Sequence[Result]) -> dict[str, str]:
    """The tables that are kept beside results, by file name: of each kind as CSV, raw and in SI units, and as Markdown,
    and those that only some have, of sweeps and of the claims with verdicts."""
    found = shown(results, everything=False)
    made: dict[str, str] = {}
    formats: tuple[Format, ...] = ("csv", "md")
    for format in formats:
        made |= {f"{name}.{format}": text for name, text in views.texts(found.kinds, format).items()}
        if several(found, "batch"):
            frame = sweeps.batch_sweep(found.steps, found.trained)
            made[f"batch-sweep.{format}"] = show_sweeps.batch_sweep(frame, format)
        if several(found, "agc", steps=False):
            made[f"agc-sweep.{format}"] = show_sweeps.agc_sweep(sweeps.agc_sweep(found.trained), format)
        judged = [r for r in found.results if r.study == CLAIMS]
        if judged:
            made[f"claims.{format}"] = _claims(judged, format)
    return made


def verdicts(results: Sequence[Result], noisy: bool = False) -> list[list[Verdict]]:
    """The verdict on each claim, of each machine on which the claims were measured: never over several, and of noisy
    steps only where ``noisy``."""
    machines = dict.fromkeys(r.machine for r in results if r.study == CLAIMS) or dict.fromkeys(
        r.machine for r in results
    )
    used = results if noisy else quiet(results)
    return [claims.judge([r for r in used if r.machine == machine]) for machine in machines]


def sentences(name: str, seen: Shown) -> list[str]:
    """The answers, one a line; noisy steps are in none, and where that leaves no ratio it is said."""
    noisy = list(dict.fromkeys(shorten(row["model"]) for row in seen.steps if "noisy" in row))
    seen = seen.quiet()
    if name == CLAIMS:
        return [show_claims.summary(each) for each in verdicts(seen.results, seen.noisy)]
    machines = dict.fromkeys(ratio.net.machine for ratio in seen.ratios)
    found = [turn_ratios.sentence([r for r in seen.ratios if r.net.machine == machine]) for machine in machines]
    found += sweep_answers.cost_of_clip(seen)
    # the sweeps of a batch or a threshold have a sentence of their own
    if several(seen._replace(steps=[]), "batch"):
        found += sweep_answers.over_batches(seen)
    swept = several(seen, "batch") or several(seen, "agc", steps=False)
    if seen.trained and not swept and (answer := show_accuracy.answer(show_accuracy.on_front(seen.trained, "macs"))):
        found.append(answer)
    if noisy and not seen.ratios:
        verb = "is" if len(noisy) == 1 else "are"
        found.append(
            f"No ratio of {', '.join(noisy)}, which {verb} too noisy: measure again on a quiet machine with --fresh, "
            "or use the rows all the same with --noisy."
        )
    return found


def _claims(results: Sequence[Result], format: Format) -> str:
    judged = verdicts(results)
    if format == "csv":
        return show_claims.table([v for each in judged for v in each], format)
    return "\n".join(f"{show_claims.summary(each)}\n\n{show_claims.table(each, format)}" for each in judged)


def _rest(seen: Shown, format: Format) -> str:
    trained = show_accuracy.on_front(seen.trained, "macs")
    texts = views.texts(replace(seen.kinds, trained=trained), format)
    if format in ("rich", "md"):
        return "\n".join(texts.values())
    return next((texts[name] for name in ("accuracy", "counted", "clips", "steps") if name in texts), "")


def swept(found: Study, seen: Shown) -> list[str]:
    """What a study sweeps, told from the figures that it asks for."""
    asked = [axis for axis in ("batch", "agc") if any(kind.startswith(f"{axis}-") for kind in found.figures)]
    return [axis for axis in asked if seen.trained or (axis == "batch" and seen.steps)]


def several(seen: Shown, name: str, steps: bool = True) -> bool:
    """Whether one net was measured at several values of a setting."""
    values: dict[str, set[object]] = {}
    for row in [*(seen.steps if steps else ()), *seen.trained]:
        values.setdefault(row["model"], set()).add(row.get(name))
    return any(len(found) > 1 for found in values.values())
