"""Gate a change: slower, same, faster, or cannot tell"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nfbench import options
from nfbench.errors import BadStudy, NfbenchError
from nfbench.showing.screen import command_ci, say
from nfbench.units import known

if TYPE_CHECKING:
    from nfbench.analysis.gate import Accept
    from nfbench.records import StepTime


@click.command("check")
@click.argument("study", shell_complete=options.complete_studies)
@click.option(
    "--against", metavar="BASE", help="A git ref (its merge base with HEAD), another Python, or stored results."
)
@click.option("--slower-than", type=options.narrow, default="3%", show_default=True, help="Slowdowns up to this pass.")
@options.max_time_option("20m", "For all of it: 90s, 20m, 1h.")
@click.option(
    "--inconclusive",
    type=click.Choice(["fail", "pass"]),
    default="fail",
    show_default=True,
    help="Whether a verdict that cannot be had ends with exit code 4.",
)
@click.option("--source", default="", metavar="DIR", help="The folder of the repository that holds its packages: src.")
@click.option("--allow", default="", metavar="KEYS", help="Of the machine, where stored rows may differ: driver,cpu.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also write JUnit XML.")
@options.device_option
@options.seed_option
@options.options(options.LANDING_OPTIONS)
def command(
    study: str,
    against: str | None,
    slower_than: float,
    max_time: float,
    inconclusive: Any,
    source: str,
    allow: str,
    junit: Path | None,
    device: str,
    seed: int,
    out: Path | None,
    format: Any,
    quiet: bool,
) -> None:
    """Time STUDY's workloads with and without a change, and say which are slower.

    Rounds of fresh processes, both sides in turns; looks after 4, 8 and 16 rounds. Without --against this environment
    is compared with itself: that is the machine's noise. Exit codes: 0 none is slower, 3 one is (or counts more, or
    does not run), 4 it cannot be said. An inconclusive row from which slower is ruled out ends with 0.
    """
    from datetime import date

    from nfbench.analysis.store import new_id
    from nfbench.commands import _verdict
    from nfbench.commands._landing import Landing
    from nfbench.devices import is_simulated, kind_of
    from nfbench.measuring.outcome import Labels
    from nfbench.records import SIMULATED, key
    from nfbench.showing import ci, verdicts
    from nfbench.studies.against import opened
    from nfbench.studies.check import Case, Check, limit_of, missing_row, row_of
    from nfbench.studies.study import find_study

    try:
        found = find_study(study)
        allowed = _allowed(allow)
        if junit is not None:
            ci.check(junit)
        landing = Landing(out, "check", device)
        until = time.monotonic() + max_time
        kind = kind_of(device)
        asked = found.steps(kind)
        if not asked:
            raise BadStudy(f"{found.name} trains nets and times no step.", try_=f"nfbench run {study}")
        today = date.today()
        with opened(against, found, kind, list(asked), source, allowed) as base:
            if base.stored is not None and found.counts_only:
                raise BadStudy(
                    f"{found.name} counts only; stored results are a base of step times.", try_="--against a git ref"
                )
            threshold = slower_than if base.stored is None else 2 * slower_than
            cases = [
                Case(
                    workload,
                    sampling,
                    limit_of(workload, threshold, found.accepts, today),
                    rows=len(asked),
                    stored=(base.stored or {}).get(key(workload)),
                    in_base=workload in (base.workloads or ()),
                )
                for workload, sampling in asked.items()
            ]
            if found.counts_only and not base.counts_only:
                for case in cases:
                    if case.in_base:
                        case.end("incomparable", "the base's study times it, that of the head counts only")
            title = f"{found.title}: this code against {base.said}"
            heading = [*base.notes, *_unmatched(found.accepts, list(asked))]
            heading += [f"The GPU here is {SIMULATED}."] if is_simulated(kind) else []
            for line in (title, *heading):
                say(line)
            with landing.live(quiet, brief=True) as live:
                check = Check(
                    cases,
                    base.sides,
                    device=device,
                    seed=seed,
                    labels=Labels(session=new_id(), study=found.name),
                    keep=landing.keep,
                    watch=live,
                    until=until,
                    kind=kind,
                    counts=found.counts_only,
                    objection=base.objection,
                    base_may_be_new=base.may_be_new,
                    check_base=base.check_intact,
                )
                check.run()
    except NfbenchError as error:
        command_ci(ci.trouble(str(error)))
        ci.summarize(f"**nfbench check {study}**: {error}")
        raise
    rows = [row_of(case, threshold, found.accepts, today, len(cases)) for case in cases]
    have = {key(w) for w in asked}
    gone = {key(w): w for w in base.workloads or [] if key(w) not in have}
    rows += [missing_row(w, threshold, base.said) for w in gone.values()]
    notes: list[str] = []
    if against is None:
        fit = int(max_time / check.round_time / len(cases)) if check.round_time else 0
        same = "Counts of this code against itself are always the same: --against origin/main."
        notes += [same] if found.counts_only else verdicts.noise(rows, slower_than, fit)
    if base.stored is not None:
        notes.append(
            f"Stored times are less certain: a slowdown must exceed {100 * threshold:g} %, twice --slower-than. "
            "--against a git ref measures both sides."
        )
    _verdict.show(
        rows,
        study=found.name,
        title=title,
        heading=heading,
        notes=notes,
        timed=not found.counts_only,
        format=format,
        inconclusive=inconclusive,
        junit=junit,
    )
    landing.say()
    _verdict.leave(rows, inconclusive)


def _allowed(allow: str) -> tuple[str, ...]:
    """The keys of --allow, each of which a machine must have."""
    from nfbench.records import Machine

    names = tuple(filter(None, (name.strip() for name in allow.split(","))))
    for name in names:
        known(name, Machine.__struct_fields__, NfbenchError, f"--allow {name}: a machine has no such key.")
    return names


def _unmatched(accepts: Sequence[Accept], workloads: Sequence[StepTime]) -> list[str]:
    """What is accepted of workloads that the study does not have."""
    models = ", ".join(dict.fromkeys(w.model for w in workloads))
    said = []
    for place, accept in enumerate(accepts):
        if not any(map(accept.matches, workloads)):
            about = ", ".join(f"{name} {value}" for name, value in accept.where.items())
            said.append(f"accept[{place}] fits no workload of this study: it is about {about}; there are {models}.")
    return said
