"""What GitHub Actions shows of a check: the step's summary, and an annotation for each workload that fails."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from nfbench.analysis.gate import SLOWER, Row
from nfbench.showing import verdicts


def summarize(markdown: str) -> str | None:
    """Add ``markdown`` to the step's summary where there is one; why that failed, else None."""
    file = os.environ.get("GITHUB_STEP_SUMMARY")
    if not file:
        return None
    try:
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write(markdown.rstrip("\n") + "\n\n")
    except OSError as error:
        return f"The step's summary could not be written: {error.strerror}."
    return None


def commands(rows: Sequence[Row], inconclusive: Literal["fail", "pass"]) -> list[str]:
    """Workflow commands, one for each workload that fails, is new or accepted; none outside of GitHub Actions."""
    if not _there():
        return []
    found = []
    for row in rows:
        code = row.exit_code(inconclusive)
        noted = row.verdict == "new" or row.accepted
        kind = "error" if code == SLOWER else "warning" if code else "notice" if noted else None
        if kind is not None:
            title = _property(f"{verdicts.label(row, rows)}: {row.verdict}")
            found.append(f"::{kind} title={title}::{_data(verdicts.said(row))}")
    return found


def trouble(message: str) -> list[str]:
    """The workflow command for a check that could not be made at all."""
    return [f"::error title=nfbench check::{_data(message)}"] if _there() else []


def _there() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
