"""The page of a device, ``results/<device>/README.md``: the claims with their verdicts first, then each study.

It follows from the results in the folder alone: the same results give the same bytes, on any machine.
"""

from __future__ import annotations

from pathlib import Path

from nfbench.analysis.rows import software_name
from nfbench.analysis.store import load
from nfbench.errors import BadResults, BadStudy
from nfbench.records import Machine, Result
from nfbench.showing import answers
from nfbench.showing import claims as show_claims
from nfbench.showing.study import shown, texts
from nfbench.showing.tables import printable
from nfbench.studies import study
from nfbench.studies.done import current

PAGE = "README.md"
LONGEST = 40
"""Rows of a table that stand in the page; a longer one is linked only."""

_ONE_OFF = ("step-time", "compare", "check", "accuracy", "figures")


def page(folder: Path) -> str:
    """The page of the device whose studies are the folders in ``folder``; empty where there are none.

    Raises:
        BadResults: a newer nfbench wrote one of them.
    """
    held = {path.name: _results(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    held = {name: results for name, results in held.items() if results and name not in _ONE_OFF}
    if not held:
        return ""
    machines = list(dict.fromkeys(r.machine for results in held.values() for r in results))
    parts = [f"# {_plain(machines[0].name)}\n", "\n".join(f"- {_about(machine)}" for machine in machines) + "\n"]
    if any(name.startswith(answers.CLAIMS) for name in held):
        # what other studies found here speaks for or against a claim as well
        parts.append("## Claims\n")
        parts.append("Judged from all results on this page; `claims.md` of a study is judged from that study alone.\n")
        for verdicts in answers.verdicts(current([r for results in held.values() for r in results])):
            parts += [show_claims.summary(verdicts) + "\n", show_claims.table(verdicts, "md")]
    order = sorted(held, key=lambda name: (not name.startswith(answers.CLAIMS), name))
    return "\n".join([*parts, *(_study(folder / name, held[name]) for name in order)])


def _study(folder: Path, results: list[Result]) -> str:
    title, question, command = _asked(folder.name)
    latest = max(results, key=lambda r: r.start)
    parts = [f"## {title}\n", *([f"{question}\n"] if question else [])]
    seen = shown(results, everything=False)
    if not folder.name.startswith(answers.CLAIMS):
        parts += [f"{line}\n" for line in answers.sentences(folder.name, seen)]
    made = {**texts(results), **answers.texts(results)}
    for name in [n for n in made if n.endswith(".md")]:
        raw = name.replace(".md", ".csv")
        if made[name].count("\n") <= LONGEST and not name.startswith(answers.CLAIMS):
            parts.append(made[name])
        parts.append(f"[{name}]({folder.name}/{name}), [{raw}]({folder.name}/{raw})\n")
    parts += [f"![{path.stem}]({folder.name}/figures/{path.name})\n" for path in sorted(folder.glob("figures/*.svg"))]
    parts.append(
        f"{len(results)} results, {software_name(latest.software)}, last {latest.start[:10]}. Made by `{command}`.\n"
    )
    return "\n".join(parts)


def _asked(name: str) -> tuple[str, str, str]:
    """Title, question and command of the study whose results a folder of that name holds."""
    own, _, scale = name.rpartition("-")
    for study_name, more in ((name, ""), (own, f" --set scale={scale}")):
        path = study.shipped().get(study_name)
        if path is not None:
            try:
                found = study.read(path)
            except BadStudy:
                continue
            if not more or scale in found.scales:
                return (
                    f"{found.title}{f', {scale} scale' if more else ''}",
                    found.question,
                    f"nfbench run {study_name}{more}",
                )
    return _plain(name), "", f"nfbench {_plain(name)}"


def _results(folder: Path) -> list[Result]:
    try:
        return load([folder]).results if any(folder.glob("*.jsonl")) else []
    except BadResults as error:
        if "newer nfbench" in error.what:
            raise
        return []


def _about(machine: Machine) -> str:
    parts = [
        machine.name,
        *([f"{machine.memory / 2**30:.0f} GiB"] if machine.memory else []),
        *([f"{machine.power_limit:.0f} W"] if machine.power_limit else []),
        *([f"driver {machine.driver}"] if machine.driver else []),
        *([f"{machine.cpu_cores} cores"] if machine.cpu_cores else []),
        *([machine.cpu] if machine.cpu and machine.cpu != machine.name else []),
    ]
    note = "" if machine.device == "cuda" else ". This is no GPU: it says nothing about one"
    return _plain(", ".join(parts)) + note


def _plain(text: str) -> str:
    """``text`` from anybody's results as it can stand in Markdown."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#!" else c for c in printable(text)[:200])
