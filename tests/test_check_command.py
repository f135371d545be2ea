"""`nfbench check` on the fake device, its workers in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result as Done
from conftest import Cli
from make import result
from repository import STUDY, Repository

from nfbench.analysis.store import Writer, load
from nfbench.records import Machine, Resolved, Result, StepTime, to_json


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    made = Repository(tmp_path / "repository")
    monkeypatch.chdir(made.folder)
    monkeypatch.syspath_prepend(str(made.folder))
    return made


class Check:
    """The command with the study of the repository, and its rows."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        self.done: Done | None = None

    def __call__(self, *args: object, study: str = "gate.toml") -> list[dict[str, Any]]:
        self.done = self.cli(
            "check", study, "--device", "fake", "--format", "json", "--quiet", "--out", "o.jsonl", *args
        )
        text = self.done.stdout
        found: list[dict[str, Any]] = json.loads(text) if text.startswith("[") else []
        return found

    @property
    def code(self) -> int:
        assert self.done is not None
        return self.done.exit_code

    @property
    def said(self) -> str:
        assert self.done is not None
        return self.done.stderr


@pytest.fixture
def check(cli: Cli, repository: Repository) -> Check:
    return Check(cli)


def test_without_a_base_it_prints_the_noise_and_the_smallest_slowdown_that_shows(check: Check) -> None:
    (row,) = check()
    assert (row["verdict"], row["ratio"], row["rounds"], check.code) == ("same", 1.0, 4, 0)
    assert "rounds of the same code differ by 0 % (standard deviation)" in check.said
    assert "a slowdown of 3.0 % or more is called slower than 3.0 %" in check.said
    results = load([Path("o.jsonl")]).results
    assert len(results) == 4 * 4 and {r.side for r in results} == {"base", "head"}
    assert len({r.session for r in results}) == 1 and {r.study for r in results} == {"gate"}


def test_what_is_not_committed_is_the_head_and_src_is_a_source(check: Check, repository: Repository) -> None:
    repository.git("mv", "mynet.py", "elsewhere.py")
    repository.net(file="src/package/nets.py")
    repository.write("gate.toml", STUDY.replace("mynet:net", "package.nets:net"))
    repository.commit("a src layout")
    repository.git("branch", "-f", "base")
    repository.net(sleep=0.05, file="src/package/nets.py")
    (row,) = check("--against", "base", "--source", "src")
    assert (row["verdict"], check.code) == ("slower", 3)
    assert row["ratio"] == pytest.approx(1.05)
    assert "The merge base is HEAD itself: what differs is what is not committed." in check.said


def test_a_base_that_ran_the_heads_code_is_no_pass(
    check: Check, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.git("mv", "mynet.py", "hidden.py")
    repository.net(file="lib/mynet.py")
    base = repository.commit("moved into a folder")
    repository.git("branch", "-f", "base")
    repository.net(sleep=0.2, file="lib/mynet.py")
    repository.commit("slower")
    # as an installed package would be: on every worker's path
    monkeypatch.setenv("PYTHONPATH", str(repository.folder / "lib"), prepend=os.pathsep)
    (row,) = check("--against", "base")
    assert (row["verdict"], check.code) == ("incomparable", 4)
    assert f"not the merge base {base[:7]}: --source names its folder" in row["why"]


def test_a_net_installed_from_elsewhere_is_no_pass(
    check: Check, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (repository.folder / "mynet.py").rename(site / "mynet.py")
    repository.commit("installed, not in place")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    (row,) = check("--against", "base")
    assert (row["verdict"], check.code) == ("incomparable", 4)
    assert "mynet:net is not code of this repository, so both sides ran the same" in row["why"]


def test_a_package_that_the_base_imports_from_the_head_is_no_pass(
    check: Check, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.net(file="lib/inner.py")
    repository.write("mynet.py", "from inner import net\n")
    repository.commit("the factory's file is the repository's, what it imports is installed in place")
    repository.git("branch", "-f", "base")
    repository.net(sleep=0.5, file="lib/inner.py")
    repository.commit("slower")
    monkeypatch.setenv("PYTHONPATH", str(repository.folder / "lib"), prepend=os.pathsep)
    (row,) = check("--against", "base")
    assert (row["verdict"], check.code) == ("incomparable", 4)
    assert "the base's workers imported inner from the head: --source names its folder" in row["why"]
    (row,) = check("--against", "base", "--source", "lib")
    assert (row["verdict"], check.code) == ("slower", 3)


def test_equal_and_clean_commits_are_said_to_be_the_same_code(check: Check, repository: Repository) -> None:
    repository.write("gate.toml", "counts_only = true\n" + STUDY)
    repository.write(".gitignore", "o.jsonl\n")
    repository.commit("clean")
    check("--against", "HEAD")
    assert check.code == 0 and "both sides are the same code. After a push, --against HEAD~1" in check.said


def test_another_python_is_the_base(check: Check, repository: Repository) -> None:
    (row,) = check("--against", sys.executable)
    assert (row["verdict"], check.code) == ("same", 0)
    assert f"this code against {sys.executable} (nfbench " in check.said


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/sh\nexit 3\n", "cannot run nfbench."),
        ("#!/no/such/interpreter\n", "does not start"),
        ("#!/bin/sh\necho 'ModuleNotFoundError: No module named nfbench' >&2; exit 1\n", "No module named nfbench"),
    ],
    ids=["fails", "does not start", "no nfbench"],
)
def test_a_python_that_cannot_is_named(check: Check, repository: Repository, script: str, words: str) -> None:
    python = repository.folder / "python3"
    python.write_text(script)
    python.chmod(0o755)
    assert check("--against", python) == []
    assert check.code == 1 and words in check.said


def test_a_python_that_is_not_there_is_named(check: Check) -> None:
    check("--against", "venv/bin/python")
    assert check.code == 1 and "There is no Python venv/bin/python." in check.said


def stored(path: str, *times: float, **fields: Any) -> None:
    base = result(
        machine=Machine(device="fake", name="fake", memory=2**30),
        workload=StepTime(model="mynet:net"),
        resolved=Resolved(px=224, micro_batch=32, precision="fp32", layout="nhwc"),
    )
    writer = Writer(Path(path))
    for n, seconds in enumerate(times):
        row = result(times=(seconds,) * 10, round=n, session="s", id=f"i{n}")
        writer.write(msgspec.structs.replace(base, readings=row.readings, round=n, session="s", id=f"i{n}", **fields))


@pytest.mark.parametrize(
    ("time_", "verdict", "code"), [(1 / 32, "same", 0), (1 / 32 / 1.05, "same", 0), (1 / 32 / 1.07, "slower", 3)]
)
def test_stored_results_are_a_tripwire_at_twice_the_threshold(
    check: Check, time_: float, verdict: str, code: int
) -> None:
    stored("base.jsonl", time_, time_, time_)
    (row,) = check("--against", "base.jsonl")
    assert (row["verdict"], check.code, row["limit"]) == (verdict, code, 0.06)
    assert "slower is said only beyond 6 %, twice --slower-than" in check.said


def test_a_baseline_of_another_machine_names_the_keys_and_how_to_compare_all_the_same(check: Check) -> None:
    machine = Machine(device="fake", name="another", memory=2**30, driver="1")
    stored("base.jsonl", 1 / 32, 1 / 32, machine=machine)
    (row,) = check("--against", "base.jsonl")
    assert (row["verdict"], check.code) == ("incomparable", 4)
    assert "the base is of another machine: name another → fake; driver 1 → None" in row["why"]
    (row,) = check("--against", "base.jsonl", "--allow", "name,driver")
    assert (row["verdict"], check.code) == ("same", 0)
    check("--against", "base.jsonl", "--allow", "colour")
    assert check.code == 1 and "--allow colour: a machine has no such key." in check.said


def test_a_stored_row_that_the_study_no_longer_has_is_missing(check: Check) -> None:
    stored("base.jsonl", 1 / 32, 1 / 32)
    stored("base.jsonl", 1 / 32, 1 / 32, workload=StepTime(model="resnet50"))
    rows = check("--against", "base.jsonl")
    assert [(r["model"], r["verdict"]) for r in rows] == [("mynet:net", "same"), ("resnet50", "missing")]
    assert check.code == 4 and "Missing: resnet50." in check.said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "No result in base.jsonl"),
        (b"\n\n", "No result in base.jsonl"),
        (b"{not json\n", "1 broken line"),
        (to_json(result()) + b"\n", "base.jsonl has no row of gate's workloads."),
    ],
    ids=["empty", "blank", "broken", "no common row"],
)
def test_results_that_cannot_be_a_base_end_before_anything_is_measured(
    check: Check, content: bytes, words: str
) -> None:
    Path("base.jsonl").write_bytes(content)
    assert check("--against", "base.jsonl") == []
    assert check.code == 1 and words in check.said
    assert not Path("o.jsonl").exists()


def test_one_round_and_a_repeated_run_are_named(check: Check) -> None:
    stored("base.jsonl", 1 / 32)
    (row,) = check("--against", "base.jsonl")
    assert (row["verdict"], check.code) == ("incomparable", 4)
    assert "one round" in row["why"]
    stored("base.jsonl", 1 / 30, start="2026-03-01T00:00:00.000Z")
    assert check("--against", "base.jsonl") == []
    assert check.code == 1 and "The run s is there twice" in check.said


def test_ten_thousand_stored_rows_are_read_in_a_moment(check: Check) -> None:
    lines = []
    base = result(
        machine=Machine(device="fake", name="fake", memory=2**30), times=tuple(0.03 + n / 1e6 for n in range(50))
    )
    for n in range(10_000):
        workload = StepTime(model="mynet:net" if n < 4 else "resnet50", batch=32 if n < 4 else 1 + n // 8)
        row = msgspec.structs.replace(base, workload=workload, round=n, session="s", id=f"i{n}", study="other")
        lines.append(to_json(row if n >= 4 else msgspec.structs.replace(row, study="gate")))
    Path("base.jsonl").write_bytes(b"\n".join(lines))
    from nfbench.studies import study
    from nfbench.studies.against import opened

    read = study.find_study("gate.toml")
    began = time.perf_counter()
    with opened("base.jsonl", read, "fake", [StepTime(model="mynet:net")], "", ()) as base_:
        took = time.perf_counter() - began
    assert base_.stored is not None and len(base_.stored) == 1
    print(f"{took:.2f} s")


def test_a_counts_study_counts_in_two_processes_and_times_nothing(check: Check, repository: Repository) -> None:
    repository.write("gate.toml", "counts_only = true\n" + STUDY)
    repository.net(operators=101)
    (row,) = check("--against", "base")
    assert (row["verdict"], check.code) == ("more", 3)
    assert (row["base_operators"], row["head_operators"]) == (100, 101)
    results = load([Path("o.jsonl")]).results
    assert len(results) == 2 and not any(r.reading("step_time") for r in results)
    assert "More operators a step: mynet:net." in check.said
    stored("base.jsonl", 1.0)
    assert check("--against", "base.jsonl") == [] and check.code == 1
    done = check.cli("run", "gate.toml", "--device", "fake")
    assert done.exit_code == 1 and "gate counts and times nothing.\nTry: nfbench check gate.toml" in done.stderr


def test_a_head_that_crashes_fails(check: Check, repository: Repository) -> None:
    repository.write("mynet.py", "import os\ndef net(num_classes):\n    os._exit(9)\n")
    (row,) = check("--against", "base")
    assert (row["verdict"], check.code) == ("failed", 3)
    assert "the head ended as error: the process ended with exit code 9" in row["why"]


def test_every_format_ends_with_the_same_verdict(cli: Cli, repository: Repository) -> None:
    repository.write("gate.toml", "counts_only = true\n" + STUDY)
    for format, words in (("md", "| mynet:net | same |"), ("csv", "mynet:net,"), ("rich", "mynet:net   same")):
        done = cli("check", "gate.toml", "--device", "fake", "--quiet", "--format", format)
        assert done.exit_code == 0 and words in done.stdout, done.output
        assert "1 workload: 1 same." in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--slower-than", "0"), "--slower-than 0 is not between 0 and 1."),
        (("--slower-than", "300%"), "--slower-than 3 is not between 0 and 1."),
        (("--against", "no/such.jsonl"), "There is no file or folder no/such.jsonl."),
        (("--against", ""), "--against is empty."),
        (("--junit", "gate.toml/x.xml"), "gate.toml/x.xml cannot be written."),
        (("--against", "nope"), "There is no git ref, Python or results called 'nope'."),
        (("--against", "base", "--source", "nope"), "--source nope is no folder of the repository."),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_message(check: Check, args: tuple[str, ...], words: str) -> None:
    assert check(*args) == []
    assert check.code == 1 and words in check.said and "Traceback" not in check.said


@pytest.mark.parametrize("value", ["0", "soon", "-5m", "inf"])
def test_a_time_that_is_none_is_wrong_usage(check: Check, value: str) -> None:
    check("--max-time", value)
    assert check.code == 2 and "is no time; type 90s, 20m or 1h." in check.said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143)])
def test_a_signal_keeps_what_was_measured_and_leaves_no_worktree(
    repository: Repository, number: signal.Signals, code: int
) -> None:
    repository.write("gate.toml", STUDY + "turn_time = 1e9\nmax_time = 1e9\n")
    command = [sys.executable, "-m", "nfbench", "check", "gate.toml", "--against", "base", "--device", "fake"]
    child = subprocess.Popen(
        [*command, "--out", "o.jsonl", "--max-time", "1000h"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    for line in child.stderr:
        if "steps," in line:
            break
    assert len(repository.git("worktree", "list").splitlines()) == 2
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == code and "Traceback" not in said, said
    (kept,) = load([Path("o.jsonl")]).results
    assert (kept.status, kept.side, kept.workload.model) == ("interrupted", "base", "mynet:net")
    assert len(repository.git("worktree", "list").splitlines()) == 1


def test_results_written_by_one_check_are_the_base_of_the_next(check: Check) -> None:
    check()
    rows: list[Result] = load([Path("o.jsonl")]).results
    Path("kept.jsonl").write_bytes(Path("o.jsonl").read_bytes())
    (row,) = check("--against", "kept.jsonl")
    assert (row["verdict"], row["rounds"], check.code) == ("same", 4, 0)
    assert len(rows) == 16


def test_rows_that_are_there_twice_count_once_and_are_counted(check: Check) -> None:
    stored("base.jsonl", 1 / 32, 1 / 32)
    Path("base.jsonl").write_bytes(Path("base.jsonl").read_bytes() * 2)
    (row,) = check("--against", "base.jsonl")
    assert row["verdict"] == "same"
    assert "2 rows of base.jsonl are there more than once, and count once." in check.said


def test_an_acceptance_that_fits_nothing_is_named(check: Check, repository: Repository) -> None:
    accept = '[[accept]]\nmodel = "resnet50"\nslower = "6%"\nuntil = "2999-01-01"\nreason = "r"\n'
    repository.write("gate.toml", "counts_only = true\n" + STUDY + accept)
    check()
    assert "accept[0] fits no workload of this study: it is about model resnet50; there are mynet:net." in check.said


def test_a_worker_that_dies_in_a_count_loses_its_own_row_only(check: Check, repository: Repository) -> None:
    dies = "import os\ndef net(num_classes):\n    return object()\ndef dies(num_classes):\n    os._exit(9)\n"
    repository.write("mynet.py", dies)
    repository.write("gate.toml", "counts_only = true\n" + STUDY.replace('"mynet:net"', '["mynet:dies", "mynet:net"]'))
    rows = check("--against", "base")
    assert [(r["model"], r["verdict"]) for r in rows] == [("mynet:dies", "failed"), ("mynet:net", "same")]
    assert check.code == 3 and "Does not run: mynet:dies." in check.said


def test_a_check_that_cannot_be_made_is_annotated_too(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(Path("summary.md").absolute()))
    check("--against", "origin/main")
    assert check.code == 1
    assert "::error title=nfbench check::There is no git ref, Python or results called 'origin/main'.%0A" in check.said
    assert "There is no git ref" in Path("summary.md").read_text()
