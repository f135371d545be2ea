"""What GitHub runs: the workflows' form, and the action's own shell steps in a repository made for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from repository import STUDY, Repository

import nfbench

ROOT = Path(nfbench.__file__).parent.parent
GITHUB = ROOT / ".github"
ACTION = GITHUB / "actions" / "nfbench-check" / "action.yml"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("schema", "files"), [("workflows", WORKFLOWS), ("actions", [ACTION])], ids=["workflows", "action"]
)
def test_they_have_the_form_that_github_publishes(schema: str, files: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.github-{schema}"]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_every_job_has_a_time_limit_and_no_token_that_writes(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets" not in path.read_text()
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 60
        assert "permissions" not in job


def test_the_gpu_job_is_skipped_without_a_runner_and_for_forks() -> None:
    workflow = load(GITHUB / "workflows" / "gpu-regression.yml")
    triggers = workflow[True]  # YAML takes "on" for a truth value
    assert set(triggers) == {"pull_request", "workflow_dispatch"}
    assert triggers["workflow_dispatch"]["inputs"]["commit"]["required"] is True
    (job,) = workflow["jobs"].values()
    assert "vars.NFBENCH_RUNNER != ''" in job["if"]
    assert "head.repo.full_name == github.repository" in job["if"]
    assert "fromJSON(vars.NFBENCH_RUNNER" in job["runs-on"]


def test_no_input_is_ever_part_of_a_shell_line() -> None:
    for path in (ACTION, *WORKFLOWS):
        for line in re.findall(r"run: *(?:>-|\|)?\n?(.*?)(?=\n\s+(?:env|-|shell)|\Z)", path.read_text(), re.S):
            assert "${{" not in line


class Job:
    """The action's steps, run as a job's shell would, with the files that GitHub gives."""

    def __init__(self, repository: Repository) -> None:
        self.repository, self.whole = repository, False
        self.summary = repository.folder / ".git" / "summary.md"

    def __call__(self, **inputs: str) -> subprocess.CompletedProcess[str]:
        action = load(ACTION)
        given = {name: value.get("default", "") for name, value in action["inputs"].items()}
        given |= {"study": "gate.toml", "against": "base", "device": "fake", "python": sys.executable}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        self.summary.write_text("")
        # the first, nfbench env, imports torch
        for step in action["runs"]["steps"][0 if self.whole else 1 :]:
            own = {k: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: given[m[1]], v) for k, v in step["env"].items()}
            env = os.environ | {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(self.summary)} | own
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.repository.folder,
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                break
        return done

    def junit(self) -> ElementTree.Element:
        return ElementTree.parse(self.repository.folder / "nfbench-check.xml").getroot()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(Repository(tmp_path / "repository"))


def annotations(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("::")]


def test_equal_commits_pass_and_a_slower_head_fails_and_is_annotated_unless_that_is_accepted(job: Job) -> None:
    job.whole = True
    done = job()
    assert done.returncode == 0, done.stderr
    assert annotations(done) == []
    assert "| mynet:net | same |" in job.summary.read_text()
    assert job.junit().attrib | {"tests": "1", "failures": "0", "errors": "0"} == job.junit().attrib
    job.whole = False
    accept = '[[accept]]\nmodel = "mynet:net"\nslower = "6%"\nuntil = "{}"\nreason = "exact softmax"\n'
    job.repository.net(sleep=0.05)
    job.repository.write("gate.toml", STUDY + accept.format("2999-01-31"))
    job.repository.commit("slower, as wanted")
    done = job()
    assert done.returncode == 0, done.stderr
    assert "accepted up to 6 % until 2999-01-31: exact softmax" in job.summary.read_text()
    job.repository.write("gate.toml", STUDY + accept.format("2020-01-31"))
    job.repository.commit("too late")
    done = job()
    assert done.returncode == 3, done.stderr
    (line,) = annotations(done)
    assert line.startswith("::error title=mynet%3Anet%3A slower::step time +5.0 %25 (+5.0 %25 to +5.0 %25)")
    assert "| mynet:net | slower |" in job.summary.read_text() and "no longer accepted" in job.summary.read_text()
    (failure,) = job.junit().iter("failure")
    assert failure.attrib["type"] == "slower"


def test_a_base_without_the_workload_is_new_and_passes(job: Job) -> None:
    job.repository.net(file="another.py")
    job.repository.write("mine.toml", STUDY.replace("mynet:net", "another:net"))
    job.repository.commit("another net and a study of it")
    done = job(study="mine.toml")
    assert done.returncode == 0, done.stderr
    assert "new" in done.stdout and "There is no module 'another' to import." in done.stderr
    assert [line.partition(" ")[0] for line in annotations(done)] == ["::notice"]


def test_a_workload_that_the_head_took_out_of_the_study_is_missing(job: Job) -> None:
    job.repository.net(file="another.py")
    job.repository.write("gate.toml", "counts_only = true\n" + STUDY.replace("mynet:net", "another:net"))
    job.repository.commit("another net in its place")
    done = job()
    assert done.returncode == 4, done.stderr
    assert [line.partition(" ")[0] for line in annotations(done)] == ["::notice", "::warning"]
    assert "| mynet:net | missing |" in job.summary.read_text()
    (error,) = job.junit().iter("error")
    assert error.attrib["type"] == "missing"


def test_a_ref_that_is_not_there_fails_and_says_so(job: Job) -> None:
    done = job(against="origin/main")
    assert done.returncode == 1
    assert "There is no git ref, Python or results called 'origin/main'." in done.stderr
    assert "git fetch origin main" in done.stderr
