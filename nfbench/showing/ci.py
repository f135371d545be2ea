"""What GitHub Actions shows of a check: the step's summary, and an annotation for each workload that fails."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from nfbench.analysis.gate import SLOWER, Row
from nfbench.errors import BadResults, printable
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


def check(path: Path) -> None:
    """Raise `BadResults` where ``path`` could not be written: before anything is measured for it."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise BadResults(f"{path} cannot be written.", try_="--junit with a file that you may write")


def write(path: Path, study: str, rows: Sequence[Row], inconclusive: Literal["fail", "pass"]) -> None:
    """One test case a workload: a failure where it is worse, an error where nothing can be said.

    Raises:
        BadResults: the file cannot be written.
    """
    codes = [row.exit_code(inconclusive) for row in rows]
    failed = sum(code == SLOWER for code in codes)
    suite = ElementTree.Element(
        "testsuite",
        name=f"nfbench check {study}",
        tests=str(len(rows)),
        failures=str(failed),
        errors=str(sum(map(bool, codes)) - failed),
        skipped="0",
    )
    for row, code in zip(rows, codes, strict=True):
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"nfbench.{study}", name=printable(verdicts.label(row, rows))
        )
        text = printable(f"{row.verdict}: {verdicts.said(row)}")
        if code:
            kind = "failure" if code == SLOWER else "error"
            ElementTree.SubElement(case, kind, type=row.verdict, message=text)
        ElementTree.SubElement(case, "system-out").text = text
    tree = ElementTree.ElementTree(suite)
    ElementTree.indent(tree)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tree.write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise BadResults(
            f"{path} cannot be written: {error.strerror}.", try_="--junit with a file that you may write"
        ) from error
