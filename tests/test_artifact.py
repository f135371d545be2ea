"""`benchmarks/artifact.sh`: what passed, what failed, and how it goes on. Its timed claims are not run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nfbench

ROOT = Path(nfbench.__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "artifact.sh"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="this is no checkout")


def check(folder: Path, claims: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": python, "NFBENCH_CLAIMS": claims}
    return subprocess.run([SCRIPT, folder], env=environment, capture_output=True, text=True, check=False)


def test_claims_about_macs_and_clipping_pass_and_a_passed_one_is_not_checked_again(tmp_path: Path) -> None:
    done = check(tmp_path, "macs agc")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("passed  macs: MACs counted / reported in Table 3: 7 NFNets differ by up to 0.03% ")
    assert "\npassed  agc: AGC against the paper's formula in float64: largest difference " in done.stdout
    # with an interpreter that does nothing but fail
    assert check(tmp_path, "macs agc", "false").stdout == done.stdout


def test_a_claim_that_fails_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    done = check(tmp_path, "agc resume", "false")
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["failed  agc", "failed  resume"]


def test_the_document_names_each_claim() -> None:
    text = (ROOT / "docs" / "artifact.md").read_text(encoding="utf-8")
    assert all(f"| `{claim}` |" in text for claim in ("macs", "agc", "overhead", "parity", "coverage", "resume"))
