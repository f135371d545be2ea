"""The verdicts on claims as a table, and in a line. What is reported and what was measured never share a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from nfbench import units
from nfbench.analysis import turn_ratios
from nfbench.analysis.claims import Outcome, Verdict
from nfbench.analysis.rows import machine_names
from nfbench.showing.tables import Format
from nfbench.showing.views import view

_WORDS: dict[Outcome, str] = {
    "holds": "hold",
    "does not hold": "do not hold",
    "agrees here": "agree here",
    "disagrees here": "disagree here",
    "cannot tell": "cannot tell",
    "measured only": "measured only",
    "by construction": "true by construction",
    "not run": "not run",
}
"""Each verdict of several claims, in the order of a summary."""


def table(verdicts: Sequence[Verdict], format: Format) -> str:
    """A line for each figure of a claim, the claim itself in the first of them, and the reason for a verdict that is
    none in the last. As CSV or JSON the `rows`."""
    raw = format in ("csv", "json")
    return view(rows(verdicts) if raw else [line for verdict in verdicts for line in _lines(verdict)], "claims", format)


def summary(verdicts: Sequence[Verdict]) -> str:
    """ "On NVIDIA H200: 5 hold, 1 does not hold, 8 not run."; of what is no GPU also that it says nothing about one."""
    counts: Counter[Outcome] = Counter(v.verdict for v in verdicts)
    singular = {"by construction": "true by construction"}
    text = ", ".join(
        f"{n} {several if n > 1 else singular.get(v, v)}" for v, several in _WORDS.items() if (n := counts[v])
    )
    machine = next((v.machine for v in verdicts if v.machine is not None), None)
    return turn_ratios.on(machine, None, text) if machine is not None else f"Nothing was measured: {text}."


def rows(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """One row for each figure of a claim, and one for a claim that has none; raw values, shares 0 to 1.

    ``answer`` is whether the interval is wholly on the claim's ``side`` of the ``limit``, absent where it reaches over;
    side and limit are absent where the source of the claim states no limit. ``results`` are the ids of what a figure
    was made from.
    """
    names = machine_names(v.machine for v in verdicts if v.machine is not None)
    raw = []
    for verdict in verdicts:
        machine = verdict.machine
        claim = verdict.claim._asdict() | {
            "claim": verdict.claim.text,
            "reported": verdict.claim.reported or None,
            "verdict": verdict.verdict,
            "why": verdict.why or None,
            "machine": None if machine is None else names[machine],
            "device": None if machine is None else machine.device,
        }
        figures = [
            {
                **figure._asdict(),
                **figure.estimate._asdict(),
                "figure": figure.about,
                "side": None if figure.limit is None else figure.side,
                "answer": figure.answer,
                "on": figure.conditions,
                "scope": figure.scope or None,
                "results": " ".join(figure.results),
            }
            for figure in verdict.figures
        ]
        raw += [claim | figure for figure in figures or [{}]]
    return raw


def reported(verdict: Verdict) -> str:
    """What the source reports, beside what a GPU measured or nothing at all: never beside another device's figure."""
    measured_elsewhere = verdict.figures and verdict.machine is not None and verdict.machine.device != "cuda"
    return "" if measured_elsewhere else verdict.claim.reported


def _lines(verdict: Verdict) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [
        {"measured": f"{f.about}: {f.judged}", "on": "; ".join(filter(None, [f.conditions, f.scope]))}
        for f in verdict.figures
    ]
    if verdict.why:
        lines.append({"measured": None if lines else units.ABSENT, "on": verdict.why})
    claim = verdict.claim
    first = {"id": claim.id, "claim": claim.text, "who": claim.who, "verdict": verdict.verdict}
    return [first | {"reported": reported(verdict) or units.ABSENT} | lines[0], *lines[1:]]
