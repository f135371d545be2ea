"""Gate a change: slower, same, faster, or cannot tell"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from nfbench import options
from nfbench.errors import BadStudy, NfbenchError, Slower, Stop, Undecided


@click.command("check")
@click.argument("study")
@click.option(
    "--against", metavar="BASE", help="A git ref (its merge base with HEAD), another Python, or stored results."
)
@click.option("--slower-than", type=options.Share(), default="3%", show_default=True, help="Slowdowns up to this pass.")
@click.option(
    "--max-time", type=options.Duration(), default="20m", show_default=True, help="For all of it: 90s, 20m, 1h."
)
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
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of weights and inputs.")
@options.out_option
@options.format_option
@click.option("--quiet", is_flag=True, help="No live line.")
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
    does not run), 4 it cannot be said.
    """
    from nfbench.studies.study import find

    found = find(study)
    if not 0 < slower_than < 1:
        raise NfbenchError(f"--slower-than {slower_than:g} is not between 0 and 1.", try_="--slower-than 3%")

    from datetime import date

    from nfbench.analysis.store import new_id
    from nfbench.analysis.verdicts import SLOWER, UNDECIDED, exit_code
    from nfbench.commands._landing import Landing
    from nfbench.devices import kind_of
    from nfbench.measuring.outcome import Labels
    from nfbench.records import Machine, key
    from nfbench.showing import github, verdicts
    from nfbench.showing import junit as xml
    from nfbench.showing.live import Live
    from nfbench.studies import judged
    from nfbench.studies.against import opened
    from nfbench.studies.check import Case, Check

    allowed = tuple(filter(None, (name.strip() for name in allow.split(","))))
    unknown = [name for name in allowed if name not in Machine.__struct_fields__]
    if unknown:
        raise NfbenchError(
            f"--allow {unknown[0]}: a machine has no such key.", try_=f"of {', '.join(Machine.__struct_fields__)}"
        )
    until = time.monotonic() + max_time
    kind = kind_of(device)
    asked = {w: part.sampling for part in found.parts(kind) for w in part.workloads}
    today = date.today()
    landing = Landing(out, "check")
    with opened(against, found, kind, list(asked), source, allowed) as base:
        stored = base.stored is not None
        if stored and found.counts_only:
            raise BadStudy(f"{found.name} counts only; stored results are a base of step times.", try_="a git ref")
        threshold = 2 * slower_than if stored else slower_than
        cases = []
        for workload, sampling in asked.items():
            its = None if base.stored is None else base.stored.get(key(workload))
            limit = judged.limit(workload, threshold, found.accepts, today)
            case = Case(workload, sampling, limit, len(asked), its)
            if stored and its is None:
                case.end("new", "the stored results have no such workload")
            elif its is not None and its.problem:
                case.end("incomparable", its.problem)
            cases.append(case)
        title = f"{found.title}: this code against {base.said}"
        click.echo(title, err=True)
        for note in base.notes:
            click.echo(note, err=True)
        try:
            with Live(quiet, brief=True) as live:
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
                )
                check.run()
        except (Stop, KeyboardInterrupt, NfbenchError):
            landing.say()
            raise
    rows = [judged.row(case, threshold, found.accepts, today, len(cases)) for case in cases]
    have = {key(w) for w in asked}
    for workload in base.workloads or []:
        if key(workload) not in have:
            have.add(key(workload))
            rows.append(judged.missing(workload, threshold, base.said))

    timed = not found.counts_only
    click.echo(verdicts.table(rows, format, title=title if format == "md" else None, timed=timed), nl=False)
    said = [f"! {line}" for line in verdicts.findings(rows)]
    if timed and against is None:
        fit = int(max_time / check.round_time / len(cases)) if check.round_time else 0
        said += verdicts.noise(rows, slower_than, fit)
    if stored:
        said.append(
            f"Stored results are a tripwire: slower is said only beyond {100 * threshold:g} %, twice --slower-than. "
            "--against a git ref measures both sides."
        )
    said.append(verdicts.sentence(rows))
    for line in said:
        click.echo(line, err=True)
    if junit is not None:
        xml.write(junit, found.name, rows, inconclusive)
    summary = verdicts.table(rows, "md", title=title, timed=timed)
    if (trouble := github.summarize("\n".join([summary, *base.notes, *(f"- {line}" for line in said)]))) is not None:
        click.echo(trouble, err=True)
    for line in github.commands(rows, inconclusive):
        click.echo(line, err=True)
    landing.say()
    code = exit_code(rows, inconclusive)
    names = [verdicts.label(row, rows) for row in rows if row.exit_code(inconclusive) == code]
    if code == SLOWER:
        raise Slower(f"Slower, or more: {', '.join(names)}.")
    if code == UNDECIDED:
        raise Undecided(f"It cannot be said of {', '.join(names)}.")
