"""From results to a report: one part a device, in it one study a folder or command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from nfbench.analysis.rows import choose, software_name
from nfbench.analysis.sessions import aside
from nfbench.records import Accuracy, Machine, Result, StepTime
from nfbench.showing import answers, comparison, report_claims, report_figures, report_headline, report_legend
from nfbench.showing import sweeps as show_sweeps
from nfbench.showing.report import Judged, Link, Part, Picture, Report, Study, clean
from nfbench.showing.report_sources import Group, Sources
from nfbench.showing.report_tables import Swept, swept, tables
from nfbench.showing.results import findings
from nfbench.showing.study import Shown, shown
from nfbench.units import slug

_KEPT = ("steps", "ratios", "accuracy", "clips", "counted", "batch-sweep", "agc-sweep", "claims")
"""The tables that a run keeps beside its results."""


def build(sources: Sources, everything: bool = False, noisy: bool = False) -> Report:
    """The report on all that was read. Those of the fake device are set aside where there are others, and noisy steps
    are in no figure, ratio or verdict unless ``noisy``."""
    devices: dict[tuple[str, str | None], list[Group]] = {}
    real = any(r.machine.device != "fake" for group in sources.groups for r in group.results)
    fake = 0
    for group in sources.groups:
        own: dict[tuple[str, str | None], list[Result]] = {}
        for result in group.results:
            if real and result.machine.device == "fake":
                fake += 1
            else:
                own.setdefault((result.machine.name, result.machine.mig_profile), []).append(result)
        for device, results in own.items():
            devices.setdefault(device, []).append(group._replace(results=results))
    anchors = _Anchors()
    parts = tuple(_part(groups, everything, noisy, anchors) for groups in devices.values())
    notes = [f"{fake} result{'s'[: fake != 1]} of the fake device set aside."] if fake else []
    if sources.broken:
        n, first = len(sources.broken), sources.broken[0]
        where = f"{first.path.name}, line {first.line}: {first.why}"
        notes.append(f"Skipped {n} line{'s that hold' if n != 1 else ' that holds'} no result: {where}")
    title = parts[0].title if len(parts) == 1 else f"Training steps and accuracy on {len(parts)} devices"
    if copies := sources.repeated:
        notes.append(f"{copies} result{'s that were' if copies != 1 else ' that was'} there more than once: told once.")
    return Report(title, parts, tuple(clean(note) for note in notes))


class _Anchors:
    """Names of places in the page, no two the same."""

    def __init__(self) -> None:
        self.used = {"content", "answer", "claims"}

    def new(self, name: str) -> str:
        own = slug(name)
        found = next(a for i in count(1) if (a := f"{own}-{i}" if i > 1 else own) not in self.used)
        self.used.add(found)
        return found


def _part(groups: Sequence[Group], everything: bool, noisy: bool, anchors: _Anchors) -> Part:
    results = [r for group in groups for r in group.results]
    machines = list(dict.fromkeys(r.machine for r in results))
    title = clean(", ".join(filter(None, [machines[0].name, machines[0].mig_profile])), 120)
    anchor = anchors.new(title)
    seen = shown(results, everything, noisy)
    judged = report_claims.judged(seen.results, noisy)
    top = report_figures.top(seen, everything)
    # of one group all has been seen
    one = seen if len(groups) == 1 else None
    found = [(group, one or shown(group.results, everything, noisy)) for group in groups]
    studies = [_study(group, own, everything, anchors, judged) for group, own in found]
    if top is not None and sum(_shows(study, top) for study in studies) == 1:
        # it would stand there twice
        kept = [tuple(p for p in study.pictures if p.alt != top.alt) for study in studies]
        studies = [replace(study, pictures=some) for study, some in zip(studies, kept, strict=True)]
    answer = report_headline.answer(seen, judged[0].summary if judged else "")
    doubts = tuple(report_headline.doubts(seen))
    return Part(title, anchor, tuple(map(about, machines)), answer, doubts, tuple(judged), top, tuple(studies))


def _study(group: Group, seen: Shown, everything: bool, anchors: _Anchors, judged: Sequence[Judged]) -> Study:
    over = swept(seen)
    found = tables(seen, over)
    drawn = report_figures.drawn(seen, group.kinds, group.folder, everything)
    machines = list(dict.fromkeys(r.machine for r in group.results))
    return Study(
        clean(group.title, 160),
        anchors.new(group.title),
        clean(group.question),
        tuple(clean(line) for line in _sentences(group, seen, over, judged)),
        tuple(found),
        tuple(clean(line) for line in report_legend.lines(seen, found)),
        tuple(drawn.pictures),
        tuple(clean(line) for line in [*findings([*seen.steps, *seen.trained]), *_doubts(seen)]),
        (*_aside(group, seen, everything), *drawn.left_out),
        tuple(about(machine, noted=False) for machine in machines),
        _made(group.results),
        group.commands,
        _links(group),
    )


def _shows(study: Study, top: Picture) -> bool:
    """Whether a figure of the study shows the same."""
    return any(picture.alt == top.alt for picture in study.pictures)


def _doubts(seen: Shown) -> list[str]:
    """What is doubtful about the ratios."""
    found = [finding for ratio in seen.ratios for finding in comparison.findings(ratio, ratio.net.sampling.within)]
    return list(dict.fromkeys(map(str, found)))


def _sentences(group: Group, seen: Shown, over: Swept, judged: Sequence[Judged]) -> list[str]:
    if group.name.startswith(answers.CLAIMS):
        found = [each.summary for each in judged]
    else:
        found = answers.sentences(group.name, seen)
    # a clip in steps of several batches is no sweep of batches
    if (batches := over.batches) is not None and not seen.clips:
        # the best of one net over batches is also that over thresholds
        told = over.clips is not None and batches["model"].nunique() == 1
        found += show_sweeps.batch_answer(batches.drop(columns="top1") if told else batches).split("\n")
    found += show_sweeps.agc_answer(over.clips).split("\n") if over.clips is not None else []
    return [line for line in found if line]


def _aside(group: Group, seen: Shown, everything: bool) -> list[str]:
    """What the tables leave out, in sentences."""
    kinds = ((StepTime, ""), (Accuracy, "training runs"))
    chosen = [
        choose((r for r in seen.results if isinstance(r.workload, kind)), everything).said(of) for kind, of in kinds
    ]
    chosen.append(aside(group.results, seen.results))
    return [clean(line) for line in chosen if line]


def _made(results: Sequence[Result]) -> str:
    latest = max(results, key=lambda r: r.start)
    softwares = list(dict.fromkeys(software_name(r.software) for r in results))
    older = f" and {len(softwares) - 1} other software{'s'[: len(softwares) != 2]}" if len(softwares) > 1 else ""
    count_ = f"{len(results)} result{'s'[: len(results) != 1]}"
    return clean(f"{count_}, {software_name(latest.software)}{older}, last {latest.start[:10]}.")


def _links(group: Group) -> tuple[Link, ...]:
    kept = [group.folder / f"{name}.{kind}" for name in _KEPT for kind in ("md", "csv")] if group.folder else []
    return tuple(Link(clean(path.name, 80), path) for path in [*(p for p in kept if p.is_file()), *group.files])


def about(machine: Machine, noted: bool = True) -> str:
    """A machine in a line, and of one without a GPU, if that is to be ``noted``, that it says nothing about one."""
    parts = [
        machine.name,
        *([machine.mig_profile] if machine.mig_profile else []),
        *([f"{machine.memory / 2**30:.0f} GiB"] if machine.memory else []),
        *([f"{machine.power_limit:.0f} W"] if machine.power_limit else []),
        *([f"driver {machine.driver}"] if machine.driver else []),
        *([f"{machine.cpu_cores} cores"] if machine.cpu_cores else []),
        *([machine.cpu] if machine.cpu and machine.cpu != machine.name else []),
    ]
    note = "" if machine.device == "cuda" or not noted else ". This is no GPU: it says nothing about one"
    return clean(", ".join(parts) + note)
