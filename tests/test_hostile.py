"""Results from anybody through every command that shows them: nothing breaks, and nothing reaches the terminal or the
disk but what is meant to."""

from __future__ import annotations

import csv
import io
from functools import cache
from pathlib import Path

import click
import msgspec
import pytest
from conftest import Cli
from make import CPU, result
from messy import HOSTILE, messy

from nfbench.records import Result, StepTime, to_json

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\x85\r"


@cache
def lines() -> bytes:
    path = msgspec.structs.replace(CPU, name="../../etc/passwd\n" + ESCAPES)
    loud = [
        result(f"net{ESCAPES}", status="error", message=f"ended{ESCAPES}", readings=()),
        result("=cmd|' /C calc'!A1", machine=path),
        result("x" * 10**6, workload=StepTime(model="x" * 10**6)),
        result(HOSTILE, machine=path, study="../../../study"),
    ]
    return b"".join(to_json(r) + b"\n" for r in [*messy(), *map(_own, range(len(loud)), loud)])


def _own(place: int, found: Result) -> Result:
    return msgspec.structs.replace(found, id=f"loud{place}", round=place)


@pytest.fixture
def folder() -> Path:
    Path("results/mine").mkdir(parents=True)
    Path("results/mine/20260101T000000Z-0000.jsonl").write_bytes(lines())
    return Path("results")


@pytest.mark.parametrize(
    "flags",
    [
        ("table",),
        ("table", "--format", "md"),
        ("table", "--all", "--sort", "-step_time"),
        ("table", "--baseline", "resnet50"),
        ("table", "--columns", "model,step_time,top1"),
        ("table", "--front", "macs"),
        ("plot", "--kind", "step-time", "--kind", "throughput", "--format", "svg", "-o", "out"),
        ("report", "-o", "out/report.html"),
    ],
    ids=" ".join,
)
def test_what_is_shown_is_printable_and_stays_in_its_place(cli: Cli, folder: Path, flags: tuple[str, ...]) -> None:
    command, *rest = flags
    done = cli(command, folder, *rest)
    assert done.exit_code == 0, done.output
    assert all(line.isprintable() for line in (done.stdout + done.stderr).split("\n"))
    assert all(len(line) < 20_000 for line in (done.stdout + done.stderr).split("\n"))
    made = {path.parts[0] for path in Path().rglob("*") if path.is_file()}
    assert made <= {"results", "out"} and len(list(folder.rglob("*.*"))) == 1


def test_raw_values_stay_as_they_were_written(cli: Cli, folder: Path) -> None:
    done = cli("table", folder, "--format", "csv", "--where", "kind=step-time")
    assert done.exit_code == 0, done.output
    csv.field_size_limit(2 * 10**6)
    models = [row["model"] for row in csv.DictReader(io.StringIO(done.stdout, newline=""))]
    assert {HOSTILE, f"net{click.unstyle(ESCAPES)}", "=cmd|' /C calc'!A1"} <= set(models)
