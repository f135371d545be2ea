"""Findings as notes below a table, one per kind: decisive ones always, the others where ``--notes`` was typed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import click

from nfbench.analysis import sweeps
from nfbench.analysis.findings import DECISIVE
from nfbench.analysis.rows import Row
from nfbench.errors import printable
from nfbench.showing.screen import NOTES, say
from nfbench.showing.tables import Format
from nfbench.units import plural, shorten

_NAMED = 4
"""Rows that a note names one by one."""
_TEXTS = 3
"""Sentences of one kind of finding that a note holds."""


class Note(NamedTuple):
    """A kind of finding in a sentence or two; ``decisive`` where it decides whether a row counts at all."""

    text: str
    decisive: bool


def notes_of(rows: Sequence[Row]) -> list[Note]:
    """The findings of rows, one note per kind of finding.

    A row is named by its model, and also by its settings where other rows of that model lack the finding.
    """
    kinds: dict[str, dict[str, list[int]]] = {}
    advice: dict[str, dict[str, None]] = {}
    for place, row in enumerate(rows):
        for finding in row.get("findings", ()):
            kinds.setdefault(finding.code, {}).setdefault(printable(finding.message), []).append(place)
            advice.setdefault(finding.code, {})[printable(finding.do)] = None
    return [Note(_worded(rows, texts, list(advice[code])), code in DECISIVE) for code, texts in kinds.items()]


def _worded(rows: Sequence[Row], texts: dict[str, list[int]], advice: Sequence[str]) -> str:
    models = [str(row["model"]) for row in rows]
    batches = {model: {row.get("batch") for row in rows if row["model"] == model} for model in models}
    names = [
        f"{name}, batch {row['batch']}" if len(batches[str(row["model"])]) > 1 and "batch" in row else name
        for name, row in zip(sweeps.names(rows), rows, strict=True)
    ]
    parts = []
    for text, places in islice(texts.items(), _TEXTS):
        others = {model for place, model in enumerate(models) if place not in places}
        about = list(dict.fromkeys(names[place] if models[place] in others else models[place] for place in places))
        if len(about) > _NAMED:
            about = list(dict.fromkeys(models[place] for place in places))
            about[0] = f"{plural(len(places), 'row')} of {about[0]}"
        between = "; " if any(", " in name for name in about) else ", "
        parts.append(f"{between.join(map(shorten, about))}: {text}")
    if more := sum(len(places) for places in islice(texts.values(), _TEXTS, None)):
        parts.append(f"The same holds for {plural(more, 'more row')}.")
    return " ".join(filter(None, [*parts, *advice]))


def say_notes(rows: Sequence[Row], format: Format, where: str = "--notes") -> None:
    """Say the notes of ``rows`` below their table: decisive ones always, the others where ``--notes`` was typed.

    Else it says how many there are and ``where`` they stand. CSV and JSON have a column for
    them. Only a person's table has them below it; a table that goes into a file stays one.
    """
    notes, person = notes_of(rows), format in ("rich", "md")
    context = click.get_current_context(silent=True)
    whole = context is not None and context.meta.get(NOTES, False)
    for note in notes:
        if note.decisive or whole:
            say(f"! {note.text}", err=format != "rich")
    if person and not whole and (folded := sum(not note.decisive for note in notes)):
        say(f"{plural(folded, 'note')}: {where} shows {'them' if folded > 1 else 'it'}.", err=format != "rich")
