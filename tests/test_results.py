"""What git tracks in results/, and constraints.txt: tables follow from results, and nothing private is in them."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nfbench
from nfbench.analysis.store import TRACKED, load
from nfbench.showing import answers, report

ROOT = Path(nfbench.__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from coverage import Compare, read, table, write  # type: ignore[import-not-found] # noqa: E402

RESULTS = ROOT / "results"
CONSTRAINTS = ROOT / "constraints.txt"
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
DEVICES = sorted(path.parent for path in FILES if path.relative_to(RESULTS).parts[2:] == (report.PAGE,))


def test_git_tracks_a_readme_published_measurements_and_evidence_about_nfbench() -> None:
    assert STUDIES
    assert {path.relative_to(RESULTS).parts[0] for path in FILES} <= {"README.md", *TRACKED}


@pytest.mark.parametrize(
    "path", ["amd-epyc/quick/a.jsonl", "nvidia-h200/README.md", "fake/mine/a.csv", "figures/a.svg"]
)
def test_git_ignores_what_commands_write(path: str) -> None:
    done = subprocess.run(["git", "check-ignore", "-q", f"results/{path}"], cwd=ROOT, check=False)
    if done.returncode == 128:
        pytest.skip("this is no checkout of git")
    assert done.returncode == 0


@pytest.mark.parametrize("folder", STUDIES, ids=lambda p: str(p.relative_to(RESULTS)))
def test_the_tables_of_a_study_follow_from_its_results(folder: Path) -> None:
    loaded = load([folder])
    # what a script of benchmarks/ measured in its own way is no .jsonl
    assert loaded.broken == []
    made = answers.texts(loaded.results)
    kept = {p.name: p.read_text(encoding="utf-8") for p in FILES if p.parent == folder and p.suffix in (".csv", ".md")}
    assert kept and kept == {name: made.get(name) for name in kept}


@pytest.mark.parametrize("folder", DEVICES, ids=lambda p: p.name)
def test_the_page_of_a_device_follows_from_its_results(folder: Path) -> None:
    path = folder / report.PAGE
    text, figures = report.markdown(report.build([folder]), path)
    assert path.read_text(encoding="utf-8") == text
    assert [name for name in figures if folder / name not in FILES] == []


def test_nothing_timed_on_a_cpu_is_published_as_a_measurement_of_a_device() -> None:
    published = [path for path in FILES if path.suffix == ".jsonl" and path.is_relative_to(RESULTS / "reference")]
    assert all(r.machine.is_real_gpu for path in published for r in load([path]).results)


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


def test_constraints_pin_each_dependency_and_name_no_index_hash_or_path() -> None:
    lines = [line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    pins = [re.fullmatch(r"([a-z0-9-]+)==[0-9][0-9A-Za-z.]*(?: ; [^/@\\]+)?", line) for line in lines]
    assert [line for line, pin in zip(lines, pins, strict=True) if pin is None] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[^A-Za-z0-9-]", line)[0].lower() for line in wanted}
    assert names - {pin[1] for pin in pins if pin} == set()


def compared(pair: str, number: int, speedup: float, low: float | None, high: float | None, noisy: str = "") -> Compare:
    start = "2026-01-01T00:00:00+00:00"
    return Compare(pair, number, start, speedup, low, high, 4, 0.1, 0.2, 30.0, "nfbench", "A CPU", noisy)


def test_coverage_counts_the_intervals_that_hold_the_mean_of_all_and_those_of_a_net_with_itself_that_hold_1() -> None:
    # the geometric mean of the first pair is 2
    compares = [
        compared("a,b", 0, 1.0, 0.9, 2.1),
        compared("a,b", 1, 4.0, 3.0, 5.0, "others took 31 % of the CPU"),
        compared("a,b", 2, 2.0, None, None),
        compared("a,a@px=32", 0, 1.1, 0.9, 1.2),
        compared("a,a@px=32", 1, 1.2, 1.1, 1.3),
    ]
    text = table(compares, "--max-time 10")
    mine, itself = (line for line in text.splitlines() if line.startswith("| a"))
    assert "| 2.000, their mean | 1 of 2 (50 %) | 1 of 1 (100 %) | at least 90 % |" in mine
    assert "| 1, by construction | 1 of 2 (50 %) | 1 of 2 (50 %) | at least 95 % |" in itself
    write(Path("compares.csv"), compares)
    assert read(Path("compares.csv")) == compares
