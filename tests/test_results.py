"""What is committed under results/: the tables follow from the results, and nothing private is in them."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest

import nfbench
from nfbench.analysis.store import load
from nfbench.showing import answers, report_write
from nfbench.showing import study as show

RESULTS = Path(nfbench.__file__).parents[1] / "results"
LARGEST = 2**20
PRIVATE = {
    "a home folder": r"(?<![\w.])/(?:home|root|Users|users|export|scratch|mnt|tmp|work)/[\w.-]+|[A-Za-z]:\\\\",
    "a UUID": r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b",
    "an address": r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])|\b[\w.-]+@[\w-]+\.\w+",
    "a host": r"\b(?:ip-\d+-\d+|[\w-]+\.(?:internal|local|lan|corp|cluster|localdomain|compute\.\w+))\b",
}


def committed() -> list[Path]:
    """The files under results/ that git knows, or all where this is no checkout."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "."],
        cwd=RESULTS,
        capture_output=True,
        text=True,
    )
    names = [name for name in done.stdout.split("\0") if name]
    return [RESULTS / name for name in names if (RESULTS / name).exists()]


FILES = committed() if RESULTS.is_dir() else []
STUDIES = sorted({path.parent for path in FILES if path.suffix == ".jsonl"})
DEVICES = sorted({study.parent for study in STUDIES})


def test_there_are_committed_results() -> None:
    assert STUDIES


@pytest.mark.parametrize("folder", STUDIES, ids=lambda p: str(p.relative_to(RESULTS)))
def test_the_tables_of_a_study_follow_from_its_results(folder: Path) -> None:
    loaded = load([folder])
    assert loaded.broken == []
    made = {**show.texts(loaded.results), **answers.texts(loaded.results)}
    kept = {p.name: p.read_text(encoding="utf-8") for p in FILES if p.parent == folder and p.suffix in (".csv", ".md")}
    assert made and kept == made


@pytest.mark.parametrize("folder", DEVICES, ids=lambda p: p.name)
def test_the_page_of_a_device_follows_from_its_results(folder: Path) -> None:
    path = folder / report_write.PAGE
    report = report_write.device(folder)
    assert report is not None
    page = report_write.markdown(report, path)
    assert path.read_text(encoding="utf-8") == page.text
    assert [name for name in page.figures if folder / name not in FILES] == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(RESULTS)))
def test_what_is_committed_names_no_host_home_address_or_card(path: Path) -> None:
    assert path.stat().st_size <= LARGEST
    if path.suffix == ".png":
        return
    text = path.read_text(encoding="utf-8")
    found = {what: match[0] for what, pattern in PRIVATE.items() if (match := re.search(pattern, text))}
    assert found == {}
    host = socket.gethostname()
    assert len(host) < 5 or host not in text


@pytest.mark.parametrize(
    "text",
    [
        "/home/ada/nfbench",
        "/home/ada/x",
        "C:\\\\Users\\\\ada",
        "GPU-8a5bcd12-3456-7890-abcd-ef0123456789",
        "10.1.2.3:6379",
        "ada@example.org",
        "node7.cluster",
        "ip-10-0",
    ],
)
def test_the_scan_finds_what_it_looks_for(text: str) -> None:
    assert any(re.search(pattern, f'{{"message": "{text}"}}') for pattern in PRIVATE.values())
