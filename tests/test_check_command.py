"""`nfbench check` on the fake device: what it is compared with, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import msgspec
import pytest
from conftest import Cli
from make import result
from repository import STUDY, Repository

from nfbench.analysis.store import Writer, load
from nfbench.errors import NfbenchError
from nfbench.records import Machine, Resolved, StepTime, to_json
from nfbench.studies import against

COUNTS = "counts_only = true\n" + STUDY
in_process = pytest.mark.usefixtures("workers_in_process")


def counting(repository: Repository) -> None:
    """From here on the study counts only, on the base too."""
    repository.write("gate.toml", COUNTS)
    repository.commit("count")
    repository.git("branch", "-f", "base")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    made = Repository(tmp_path / "repository")
    monkeypatch.chdir(made.folder)
    monkeypatch.syspath_prepend(str(made.folder))
    yield made
    # nets that workers in this process have imported
    sys.modules.pop("mynet", None)


class Checked(NamedTuple):
    """The rows of a check, and how it ended; as text its verdicts and the exit code."""

    rows: list[dict[str, Any]]
    code: int
    said: str

    def __str__(self) -> str:
        return f"{' '.join(row['verdict'] for row in self.rows)} {self.code}".lstrip()

    @property
    def why(self) -> str:
        return " ".join(row.get("why", "") for row in self.rows)


Check = Callable[..., Checked]


@pytest.fixture
def check(cli: Cli, repository: Repository) -> Check:
    def check(*args: object, study: str = "gate.toml") -> Checked:
        done = cli("check", study, "--device", "fake", "--format", "json", "--quiet", "--out", "o.jsonl", *args)
        assert "Traceback" not in done.output
        rows = json.loads(done.stdout) if done.stdout.startswith("[") else []
        return Checked(rows, done.exit_code, done.stderr)

    return check


@in_process
def test_without_a_base_it_prints_the_noise_and_the_smallest_slowdown_that_shows(check: Check) -> None:
    done = check()
    assert str(done) == "same 0" and (done.rows[0]["ratio"], done.rows[0]["rounds"]) == (1.0, 4)
    assert "rounds of the same code differ by 0 % (standard deviation)" in done.said
    assert "a slowdown of 3.0 % or more is called slower than 3.0 %" in done.said
    results = load([Path("o.jsonl")]).results
    assert len(results) == 4 * 4 and {r.side for r in results} == {"base", "head"}
    assert len({r.session for r in results}) == 1 and {r.study for r in results} == {"gate"}
    # what one check has written is the base of the next
    Path("o.jsonl").rename("kept.jsonl")
    done = check("--against", "kept.jsonl")
    assert str(done) == "same 0" and done.rows[0]["rounds"] == 4


# a git ref, with workers in processes of their own: each side imports its own code


def test_a_counts_study_counts_in_two_processes_and_is_untimed(cli: Cli, check: Check, repository: Repository) -> None:
    counting(repository)
    repository.write(".gitignore", "o.jsonl\n")
    repository.commit("clean")
    done = check("--against", "HEAD")
    assert str(done) == "same 0"
    assert "both sides are the same code. After a push, --against HEAD~1" in done.said
    Path("o.jsonl").unlink()
    repository.net(operators=101)
    done = check("--against", "base")
    assert str(done) == "more 3"
    assert (done.rows[0]["base_operators"], done.rows[0]["head_operators"]) == (100, 101)
    results = load([Path("o.jsonl")]).results
    assert len(results) == 2 and not any(r.reading("step_time") for r in results)
    assert "More operators per step: mynet:net." in done.said
    stored("base.jsonl", 1.0)
    assert str(check("--against", "base.jsonl")) == "1"
    ran = cli("run", "gate.toml", "--device", "fake")
    assert ran.exit_code == 1 and "gate counts and times nothing.\nTry: nfbench check gate.toml" in ran.stderr


def test_what_is_not_committed_is_the_head_and_src_is_a_source(check: Check, repository: Repository) -> None:
    repository.git("mv", "mynet.py", "elsewhere.py")
    repository.net(file="src/package/nets.py")
    repository.write("gate.toml", COUNTS.replace("mynet:net", "package.nets:net"))
    repository.commit("a src layout")
    repository.git("branch", "-f", "base")
    repository.net(operators=101, file="src/package/nets.py")
    done = check("--against", "base", "--source", "src")
    assert str(done) == "more 3"
    assert "The merge base is HEAD itself: what differs is what is not committed." in done.said


@pytest.mark.parametrize("how", ["moved", "installed elsewhere", "what it imports is the head's"])
def test_a_base_that_ran_other_code_than_its_own_is_no_pass(
    check: Check, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    lib, words = repository.folder / "lib", "mynet:net is not code of this repository, so both sides ran the same"
    counting(repository)
    if how == "moved":
        repository.git("mv", "mynet.py", "hidden.py")
        repository.net(file="lib/mynet.py")
    elif how == "installed elsewhere":
        lib = tmp_path / "site"
        lib.mkdir()
        (repository.folder / "mynet.py").rename(lib / "mynet.py")
    else:
        repository.net(file="lib/inner.py")
        repository.write("mynet.py", "from inner import net\n")
        words = "the base's workers imported inner from the head: --source names its folder"
    base = repository.commit("in a folder that is on every worker's path, as an installed package would be")
    if how != "installed elsewhere":
        repository.git("branch", "-f", "base")
    if how == "moved":
        repository.net(operators=200, file="lib/mynet.py")
        repository.commit("more")
        words = f"not the merge base {base[:7]}: --source names its folder"
    monkeypatch.setenv("PYTHONPATH", str(lib), prepend=os.pathsep)
    done = check("--against", "base")
    assert str(done) == "incomparable 4"
    assert words in done.why


def test_a_workload_of_the_head_alone_is_new_and_of_the_base_alone_missing(
    check: Check, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    repository.net(file="another.py")
    repository.write("mine.toml", COUNTS.replace("mynet:net", "another:net"))
    repository.commit("another net and a study of it")
    done = check("--against", "base", study="mine.toml")
    assert str(done) == "new 0"
    assert "There is no module 'another' to import." in done.why
    repository.write("gate.toml", COUNTS.replace("mynet:net", "another:net"))
    done = check("--against", "base", "--junit", "check.xml")
    assert str(done) == "new missing 4" and "Missing: mynet:net." in done.said
    annotations = [line.partition(" ")[0] for line in done.said.splitlines() if line.startswith("::")]
    assert annotations == ["::notice", "::warning"]
    (error,) = ElementTree.parse("check.xml").getroot().iter("error")
    assert error.attrib["type"] == "missing"


def test_a_worker_that_dies_loses_its_own_row_only(check: Check, repository: Repository) -> None:
    counting(repository)
    dies = "import os\ndef net(num_classes):\n    return object()\ndef dies(num_classes):\n    os._exit(9)\n"
    repository.write("mynet.py", dies)
    repository.write("gate.toml", COUNTS.replace('"mynet:net"', '["mynet:dies", "mynet:net"]'))
    done = check("--against", "base")
    assert str(done) == "failed same 3" and "Does not run: mynet:dies." in done.said
    assert "the head ended as error: the process ended with exit code 9" in done.why


def test_what_the_base_s_study_has_is_not_new_where_its_worker_dies(check: Check, repository: Repository) -> None:
    dies = "import os\nif 'NFBENCH_OTHER_TREE' in os.environ:\n    os._exit(9)\n"
    repository.write("sitecustomize.py", dies)
    repository.commit("no worker of the base starts")
    repository.git("branch", "-f", "base")
    repository.write("another.toml", COUNTS)
    assert str(check("--against", "base", study="another.toml")) == "new 0"
    done = check("--against", "base")
    assert str(done) == "incomparable 4" and "the base ended as" in done.why


def test_counting_what_the_base_times_is_no_pass(check: Check, repository: Repository) -> None:
    repository.write("gate.toml", COUNTS)
    done = check("--against", "base")
    assert str(done) == "incomparable 4" and "that of the head counts only" in done.why


@pytest.mark.parametrize("what", ["the study", "its folder"])
def test_a_study_that_is_a_link_is_refused(check: Check, repository: Repository, what: str) -> None:
    """The base's is another file then, and what the head's no longer has would not be missing."""
    repository.net(file="another.py")
    repository.write("others/gate.toml", COUNTS.replace("mynet:net", "another:net"))
    if what == "the study":
        Path("gate.toml").unlink()
        Path("gate.toml").symlink_to("others/gate.toml")
    else:
        Path("here").symlink_to("others")
    done = check("--against", "base", study="gate.toml" if what == "the study" else "here/gate.toml")
    assert done.code == 1 and "is a link" in done.said and "Try: nfbench check others/gate.toml" in done.said


def test_a_study_outside_of_the_repository_is_refused(check: Check, tmp_path: Path) -> None:
    (tmp_path / "gate.toml").write_text(COUNTS)
    done = check("--against", "base", study="../gate.toml")
    assert done.code == 1 and "is not in the repository" in done.said


def test_a_base_that_changes_ends_the_check_and_names_the_file(check: Check, repository: Repository) -> None:
    counting(repository)
    writes = "import pathlib\npathlib.Path(__file__).with_name('cache.bin').write_text('x')\n"
    repository.write("mynet.py", writes + Path("mynet.py").read_text())
    repository.commit("writes beside itself")
    repository.git("branch", "-f", "base")
    done = check("--against", "base")
    assert done.code == 1 and "cache.bin of the base changed while it was timed" in done.said


def test_workers_of_a_gate_have_no_secrets(
    check: Check, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = ("GITHUB_TOKEN", "my_secret_key", "DB_PASSWORD", "ACTIONS_RUNTIME_URL", "AWS_PROFILE")
    for name in (*secret, "SOME_SETTING"):
        monkeypatch.setenv(name, "x")
    counting(repository)
    counted = f"sum(name in os.environ for name in {(*secret, 'SOME_SETTING')!r})"
    repository.net(operators=counted)
    repository.write("mynet.py", "import os\n" + Path("mynet.py").read_text())
    assert str(check("--against", "base")) == "fewer 0"
    results = load([Path("o.jsonl")]).results
    assert [r.value("operators") for r in results if r.side == "head"] == [1]


def test_a_signal_keeps_what_was_measured_and_leaves_no_worktree(repository: Repository) -> None:
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
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 143 and "Traceback" not in said, said
    (kept,) = load([Path("o.jsonl")]).results
    assert (kept.status, kept.side, kept.workload.model) == ("interrupted", "base", "mynet:net")
    assert len(repository.git("worktree", "list").splitlines()) == 1


# its merge base


def test_the_worktree_holds_the_merge_base(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = repository.git("rev-parse", "base")
    repository.git("checkout", "-q", "base")
    repository.write("later.py", "")
    repository.commit("on the base branch, after the two parted")
    repository.git("checkout", "-q", "main")
    repository.net(sleep=0.5)
    head = repository.commit("slower")
    # that of a hook would answer for another repository
    Repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    with pytest.raises(ZeroDivisionError), against.merge_base("base") as tree:
        assert (tree.root, tree.base, tree.head) == (repository.folder.resolve(), first, head)
        assert "sleep = 0.0" in (tree.base_root / "mynet.py").read_text()
        assert not (tree.base_root / "later.py").exists()
        assert tree.changed == ()
        raise ZeroDivisionError
    monkeypatch.delenv("GIT_DIR")
    assert not tree.base_root.exists()
    assert len(repository.git("worktree", "list").splitlines()) == 1


def test_what_is_installed_is_named_where_it_differs_committed_or_not(repository: Repository) -> None:
    def changed() -> tuple[str, ...]:
        with against.merge_base("base") as tree:
            return tree.changed

    repository.write("pyproject.toml", "[project]\n")
    repository.commit("with a project")
    assert changed() == ("pyproject.toml",)
    repository.git("branch", "-f", "base")
    repository.write("requirements.txt", "torch\n")
    assert changed() == ()  # not tracked
    repository.write("pyproject.toml", "[project]\nname = 'x'\n")
    assert changed() == ("pyproject.toml",)


def test_without_a_merge_base_it_says_why(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trouble(ref: str) -> NfbenchError:
        with pytest.raises(NfbenchError) as error, against.merge_base(ref):
            pass
        return error.value

    error = trouble("origin/main")
    assert error.what == "There is no git ref, Python or results called 'origin/main'."
    assert error.try_ == "git fetch origin main"
    repository.git("checkout", "-q", "--orphan", "island")
    repository.commit("alone")
    error = trouble("base")
    assert error.what == "base and HEAD have no common commit here." and "fetch-depth: 0" in error.try_
    monkeypatch.chdir(tmp_path)
    assert "is in no git repository." in trouble("main").what
    monkeypatch.setenv("PATH", "")
    assert not against.is_ref("base") and "git is not installed" in trouble("base").what


# another Python


def test_another_python_is_the_base(check: Check, repository: Repository) -> None:
    repository.write("gate.toml", COUNTS)
    done = check("--against", sys.executable)
    assert str(done) == "same 0"
    assert f"this code against {sys.executable} (nfbench " in done.said


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
    done = check("--against", python)
    assert str(done) == "1" and words in done.said


# stored results


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


@in_process
@pytest.mark.parametrize(
    ("time_", "outcome"), [(1 / 32, "same 0"), (1 / 32 / 1.05, "same 0"), (1 / 32 / 1.07, "slower 3")]
)
def test_against_stored_results_a_slowdown_exceeds_twice_the_threshold(
    check: Check, time_: float, outcome: str
) -> None:
    stored("base.jsonl", time_, time_, time_)
    done = check("--against", "base.jsonl")
    assert str(done) == outcome and done.rows[0]["limit"] == 0.06
    assert "a slowdown must exceed 6 %, twice --slower-than" in done.said


@in_process
def test_an_alarm_of_one_row_alone_is_none_where_it_is_one_of_two(check: Check, repository: Repository) -> None:
    repository.write("mynet.py", (repository.folder / "mynet.py").read_text() + "twin = net\n")
    fast = [share / 32 / 1.12 for share in (0.989, 1.0, 1.011)]
    stored("base.jsonl", *fast)
    assert str(check("--against", "base.jsonl")) == "slower 3"
    stored("base.jsonl", *fast, workload=StepTime(model="mynet:twin"))
    repository.write("gate.toml", STUDY.replace('"mynet:net"', '["mynet:net", "mynet:twin"]'))
    assert str(check("--against", "base.jsonl")) == "inconclusive inconclusive 4"


@in_process
def test_a_baseline_of_another_machine_names_the_keys_and_how_to_compare_all_the_same(check: Check) -> None:
    machine = Machine(device="fake", name="another", memory=2**30, driver="1")
    stored("base.jsonl", 1 / 32, 1 / 32, machine=machine)
    done = check("--against", "base.jsonl")
    assert str(done) == "incomparable 4"
    assert "the base is of another machine: name another → fake; driver 1 → None" in done.why
    done = check("--against", "base.jsonl", "--allow", "name,driver")
    assert str(done) == "same 0"


@in_process
def test_rows_that_are_no_longer_there_twice_there_or_one_round_only_are_named(check: Check) -> None:
    stored("base.jsonl", 1 / 32, 1 / 32)
    stored("base.jsonl", 1 / 32, 1 / 32, workload=StepTime(model="resnet50"))
    done = check("--against", "base.jsonl")
    assert str(done) == "same missing 4" and "Missing: resnet50." in done.said
    Path("twice.jsonl").write_bytes(Path("base.jsonl").read_bytes() * 2)
    done = check("--against", "twice.jsonl")
    assert str(done) == "same missing 4"
    assert "4 rows of twice.jsonl are there more than once, and count once." in done.said
    stored("one.jsonl", 1 / 32)
    done = check("--against", "one.jsonl")
    assert str(done) == "incomparable 4" and "one round" in done.why
    stored("one.jsonl", 1 / 30, start="2026-03-01T00:00:00.000Z")
    done = check("--against", "one.jsonl")
    assert str(done) == "1" and "The run s is there twice" in done.said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n\n", "No result in base.jsonl"),
        (b"{not json\n", "1 broken line"),
        (to_json(result()) + b"\n", "base.jsonl has no row of gate's workloads."),
    ],
    ids=["blank", "broken", "no common row"],
)
def test_results_that_cannot_be_a_base_end_it_before_anything_runs(check: Check, content: bytes, words: str) -> None:
    Path("base.jsonl").write_bytes(content)
    done = check("--against", "base.jsonl")
    assert str(done) == "1" and words in done.said
    assert not Path("o.jsonl").exists()


# what is said


@in_process
def test_every_format_ends_with_the_same_verdict(cli: Cli, repository: Repository) -> None:
    repository.write("gate.toml", COUNTS)
    for format, words in (("md", "| mynet:net | same |"), ("csv", "mynet:net,"), ("rich", "mynet:net   same")):
        done = cli("check", "gate.toml", "--device", "fake", "--quiet", "--format", format)
        assert done.exit_code == 0 and words in done.stdout, done.output
        assert "1 workload: 1 same." in done.stderr


@in_process
def test_an_acceptance_is_in_the_summary_until_its_day(
    check: Check, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = STUDY + '[[accept]]\nmodel = "{}"\nslower = "6%"\nuntil = "{}-01-31"\nreason = "exact softmax"\n'
    stored("base.jsonl", *(1 / 32 / 1.05,) * 3)
    summary = Path("summary.md").absolute()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    for model, year, code, words in (
        ("mynet:net", 2999, 0, "accepted up to 6 % until 2999-01-31: exact softmax"),
        ("mynet:net", 2020, 3, "no longer accepted"),
        ("resnet50", 2999, 3, "accept[0] fits no workload of this study: it is about model resnet50; there are mynet"),
    ):
        repository.write("gate.toml", accept.format(model, year))
        done = check("--against", "base.jsonl", "--slower-than", "1%")
        assert done.code == code and words in summary.read_text() + done.said


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--slower-than", "0"), 2, "'0' is not between 0 and 100 %; type 1%."),
        (("--slower-than", "300%"), 2, "'300%' is not between 0 and 100 %; type 1%."),
        (("--against", "no/such.jsonl"), 1, "There is no file or folder no/such.jsonl."),
        (("--against", "venv/bin/python"), 1, "There is no Python venv/bin/python."),
        (("--against", ""), 1, "--against is empty."),
        (("--allow", "colour"), 1, "--allow colour: a machine has no such key."),
        (("--junit", "gate.toml/x.xml"), 1, "gate.toml/x.xml cannot be written."),
        (("--against", "base", "--source", "nope"), 1, "--source nope is no folder of the repository."),
        (("--max-time", "soon"), 2, "is no time; type 90s, 20m or 1h."),
        (("--max-time", "-5m"), 2, "is no time; type 90s, 20m or 1h."),
    ],
)
def test_bad_input_is_one_message(check: Check, args: tuple[str, ...], code: int, words: str) -> None:
    done = check(*args)
    assert str(done) == str(code) and words in done.said


def test_a_check_that_cannot_be_made_is_annotated_too(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(Path("summary.md").absolute()))
    done = check("--against", "origin/main")
    assert str(done) == "1"
    assert "::error title=nfbench check::There is no git ref, Python or results called 'origin/main'.%0A" in done.said
    assert "There is no git ref" in Path("summary.md").read_text()
