"""What a check ends with: its table, why, what is doubtful, where else it is written, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nfbench.analysis.gate import SLOWER, UNDECIDED, Row, exit_code
from nfbench.errors import BadResults, Slower, Undecided
from nfbench.showing import ci, screen, verdicts
from nfbench.showing.screen import say
from nfbench.showing.views import view


def show(
    rows: Sequence[Row],
    *,
    study: str,
    title: str,
    heading: Sequence[str],
    notes: Sequence[str],
    timed: bool,
    format: Any,
    inconclusive: Any,
    junit: Path | None,
) -> None:
    """Print and write everything but the exit code.

    ``heading`` has been said before the check began, ``notes`` are what is to be said of it as a whole.
    """
    lines = verdicts.lines(rows, timed, inconclusive)
    screen.show(view(lines, "check", format, title if format == "md" else None), format)
    said = [f"! {line}" for line in verdicts.findings(rows)]
    said += [*notes, verdicts.sentence(rows)]
    for line in [*(verdicts.reasons(rows) if format == "rich" else ()), *said]:
        say(line)
    markdown = view(lines, "check", "md", title)
    trouble = ci.summarize("\n".join([markdown, *(f"- {line}" for line in (*heading, *said))]))
    if junit is not None:
        try:
            ci.write(junit, study, rows, inconclusive)
        except BadResults as error:
            # a verdict is not lost for it
            trouble = f"{trouble}\n{error}" if trouble else str(error)
    if trouble:
        say(trouble)
    screen.command_ci(ci.commands(rows, inconclusive))


def leave(rows: Sequence[Row], inconclusive: Any) -> None:
    """Raise what gives the exit code.

    Raises:
        Slower: something is slower, counts more or does not run.
        Undecided: it cannot be said of something.
    """
    code, words = exit_code(rows, inconclusive), "\n".join(verdicts.ending(rows, inconclusive))
    if code == SLOWER:
        wanted = any(row.verdict == "slower" and not row.accepted for row in rows)
        raise Slower(words, try_="[[accept]] in the study, where that is wanted" if wanted else "")
    if code == UNDECIDED:
        raise Undecided(words)
