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
from repository import Repository

import nfbench

ROOT = Path(nfbench.__file__).parent.parent
GITHUB = ROOT / ".github"
ACTION = GITHUB / "actions" / "nfbench-check" / "action.yml"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("schema", "files"),
    [("vendor.github-workflows", WORKFLOWS), ("vendor.github-actions", [ACTION])],
    ids=["workflows", "action"],
)
def test_they_have_the_form_that_github_publishes(schema: str, files: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
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


def job(repository: Repository, summary: Path, first: int = 0) -> subprocess.CompletedProcess[str]:
    """The action's steps from the ``first``, run as a job's shell would, with the files that GitHub gives."""
    action = load(ACTION)
    given = {name: value.get("default", "") for name, value in action["inputs"].items()}
    given |= {"study": "gate.toml", "against": "base", "device": "fake", "python": sys.executable}
    summary.write_text("")
    for step in action["runs"]["steps"][first:]:
        own = {k: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: given[m[1]], v) for k, v in step["env"].items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=repository.folder,
            env=os.environ | {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)} | own,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            break
    return done


def test_equal_commits_pass_and_a_head_that_sleeps_5_per_cent_fails_and_is_annotated(tmp_path: Path) -> None:
    repository, summary = Repository(tmp_path / "repository"), tmp_path / "summary.md"

    def junit() -> ElementTree.Element:
        return ElementTree.parse(repository.folder / "nfbench-check.xml").getroot()

    def annotations(done: subprocess.CompletedProcess[str]) -> list[str]:
        return [line for line in done.stderr.splitlines() if line.startswith("::")]

    done = job(repository, summary)
    assert done.returncode == 0, done.stderr
    assert annotations(done) == []
    assert "| mynet:net | same |" in summary.read_text()
    assert junit().attrib | {"tests": "1", "failures": "0", "errors": "0"} == junit().attrib
    repository.net(sleep=0.05)
    repository.commit("slower")
    # but for nfbench env, which imports torch
    done = job(repository, summary, first=1)
    assert done.returncode == 3, done.stderr
    (line,) = annotations(done)
    assert line.startswith("::error title=mynet%3Anet%3A slower::step time +5.0 %25 (+5.0 %25 to +5.0 %25)")
    assert "| mynet:net | slower |" in summary.read_text()
    (failure,) = junit().iter("failure")
    assert failure.attrib["type"] == "slower"
