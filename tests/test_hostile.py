"""Results from anybody through every command that shows them: nothing breaks, and nothing reaches the terminal or the
disk but what is meant to."""

from __future__ import annotations

import csv
import io
import json
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


FAKE = ("--device", "fake", "--model", "tiny-nfnet")
HARM = "x\x1b]0;owned\x07\n::add-mask::secret\r\n  ::stop-commands::t\x9b2J"


def unharmed(text: str) -> bool:
    return all(line.isprintable() and not line.lstrip().startswith("::") for line in text.split("\n"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("table", HARM),
        ("run", HARM),
        ("run", "study.toml", "--device", "fake", "--quiet"),
        ("step-time", "--device", "fake", "--model", HARM),
        ("step-time", "--device", "fake", "--model", "nets:broken"),
        ("step-time", "--device", HARM, "--model", "tiny-nfnet"),
        ("step-time", "--device", "fake", "--model", "tiny-nfnet", "--layout", HARM),
        ("table", "broken.jsonl"),
        ("table", "broken.jsonl", "--where", f"{HARM}={HARM}"),
        (HARM,),
    ],
    ids=lambda arguments: " ".join(arguments)[:30].encode("unicode_escape").decode(),
)
def test_no_message_sends_what_it_quotes_to_the_terminal_or_to_a_ci(
    cli: Cli, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    Path("nets.py").write_text(f"def broken(num_classes):\n    raise RuntimeError({HARM!r})\n")
    quoted = json.dumps(HARM).replace("\x9b", "\\u009b")
    Path("study.toml").write_text(
        f"title = {quoted}\nquestion = {quoted}\n[[step-time]]\nmodel = 'tiny-nfnet'\nbatch = 4\n"
    )
    row = msgspec.json.decode(to_json(result("resnet50")))
    row["workload"]["kind"] = HARM
    Path("broken.jsonl").write_bytes(msgspec.json.encode(row) + b"\n")
    done = cli(*arguments)
    assert done.exit_code != 70 and unharmed(done.stdout) and unharmed(done.stderr)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("table", "/dev/zero"), "/dev/zero is a device"),
        (("step-time", "--out", "/dev/zero", *FAKE), "--out /dev/zero is neither a folder nor"),
        (("accuracy", "--weights", "/dev/zero", *FAKE), "--weights /dev/zero cannot be read: it is a device or a pipe"),
        (("accuracy", "--dataset", "imagefolder:loop", *FAKE), "The folder"),
        (("accuracy", "--data-dir", "~no-such-user", *FAKE), "The data folder ~no-such-user does not exist"),
        (("accuracy", "--epochs", f"-{10**400}", *FAKE), "is negative"),
        (("step-time", "--batch", str(10**400), *FAKE), "is more than makes sense"),
        (("step-time", "--batch", "1000000000", "--micro-batch", "999999999", *FAKE), "--micro-batch 5000"),
    ],
    ids=lambda of: " ".join(of)[:40] if isinstance(of, tuple) else "",
)
def test_what_has_no_end_or_leads_nowhere_is_refused_at_once(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    Path("loop").symlink_to("loop")
    done = cli(*arguments)
    assert done.exit_code == 1 and words in done.stderr, done.stderr


@pytest.mark.parametrize("format", ["csv", "json"])
def test_raw_values_on_a_terminal_are_escaped(
    cli: Cli, folder: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nfbench.showing.screen.on_terminal", lambda: True)
    done = cli("table", folder, "--format", format, "--where", "kind=step-time")
    assert done.exit_code == 0 and unharmed(done.stdout)


def test_raw_values_stay_as_they_were_written(cli: Cli, folder: Path) -> None:
    done = cli("table", folder, "--format", "csv", "--where", "kind=step-time")
    assert done.exit_code == 0, done.output
    csv.field_size_limit(2 * 10**6)
    models = [row["model"] for row in csv.DictReader(io.StringIO(done.stdout, newline=""))]
    assert {HOSTILE, f"net{click.unstyle(ESCAPES)}", "'=cmd|' /C calc'!A1"} <= set(models)
