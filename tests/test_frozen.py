"""What people read stays as it was while the house is rebuilt: scaffolding, which the second half of that work removes.

A change that is meant is written anew with NFBENCH_FREEZE=1 and stands in the commit.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from all_sorts import composed, in_turns, on_ranks
from click.testing import CliRunner
from make import H200, once, result
from messy import messy
from sweep_cases import agc_results, batch_results, latency_results, layout_results, norm_results

from nfbench.cli import main
from nfbench.records import Dependence, Flops, Result, to_json

FROZEN = Path(__file__).parent / "frozen"
LONGEST = 1000
"""Characters of the longest name that is frozen; longer ones are tried elsewhere."""


def every_kind() -> list[Result]:
    """Results of every kind of workload, of good and of bad ones."""
    counted = [
        result(workload=Flops(model="nfnet-f0"), resolved=None, readings=(once("macs", 1e10), once("params", 7e7))),
        result(workload=Dependence(model="resnet26"), resolved=None, readings=(once("output_dependence", 0.5),)),
    ]
    sweeps = [*batch_results(), *agc_results(), *norm_results(), *layout_results(), *latency_results()]
    pairs = [
        *in_turns("nfnet-f1", "efficientnet-b7", (0.1, 0.5), machine=H200),
        *in_turns("a", "b", (0.1, 0.2), rounds=1),
    ]
    results = [*messy(), *sweeps, *pairs, on_ranks(4), composed(), *counted]
    short = [r for r in results if len(r.workload.model) < LONGEST]
    return [msgspec.structs.replace(r, id=f"20260101T000000Z-{i:04x}") for i, r in enumerate(short)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen") / "made"
    folder.mkdir()
    (folder / "step-time.jsonl").write_bytes(b"".join(to_json(r) + b"\n" for r in every_kind()))
    return folder


def run(*words: str) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return done.stdout


def hold(name: str, text: str) -> None:
    path = FROZEN / name
    if os.environ.get("NFBENCH_FREEZE"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("format", ["csv", "json"])
def test_tables_stay(folder: Path, format: str) -> None:
    hold(f"table.{format}", run("table", str(folder), "--noisy", "--format", format))


def test_ratios_to_a_net_stay(folder: Path) -> None:
    hold("baseline.csv", run("table", str(folder), "--noisy", "--baseline", "resnet50", "--format", "csv"))


def test_the_report_stays(folder: Path, tmp_path: Path) -> None:
    run("report", str(folder), "--noisy", "-o", str(tmp_path / "report.md"))
    hold("report.md", (tmp_path / "report.md").read_text(encoding="utf-8"))


def test_the_list_of_figures_stays(folder: Path, tmp_path: Path) -> None:
    run("plot", str(folder), "--noisy", "--all", "--format", "svg", "-o", str(tmp_path / "figures"))
    hold("figures.txt", "".join(f"{path.name}\n" for path in sorted((tmp_path / "figures").glob("*.svg"))))
