from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nfbench.devices import about


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host whose /proc and /sys/fs/cgroup the test writes, with 8 cores for this process."""
    monkeypatch.setattr(about, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(about, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(about, "allowed_cores", lambda: 8)
    return tmp_path


def put(host: Path, file: str, text: str) -> None:
    path = host / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("", 8), ("nonsense", 8)],
)
def test_a_cgroup_2_quota_bounds_the_cores(host: Path, quota: str, cores: int) -> None:
    put(host, "proc/self/cgroup", "0::/job/step\n")
    put(host, "cgroup/job/step/cpu.max", quota)
    assert about.cpu_cores() == cores


def test_the_strictest_quota_of_all_above_counts(host: Path) -> None:
    put(host, "proc/self/cgroup", "0::/job/step\n")
    put(host, "cgroup/job/cpu.max", "300000 100000")
    put(host, "cgroup/job/step/cpu.max", "600000 100000")
    assert (about.cpu_quota(), about.cpu_cores()) == (3.0, 3)


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
def test_a_cgroup_1_quota_bounds_the_cores_even_where_the_container_sees_only_its_root(host: Path, folder: str) -> None:
    put(host, "proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n")
    put(host, f"cgroup/{folder}/cpu.cfs_quota_us", "200000\n")
    put(host, f"cgroup/{folder}/cpu.cfs_period_us", "100000\n")
    assert about.cpu_cores() == 2
    put(host, f"cgroup/{folder}/cpu.cfs_quota_us", "-1\n")
    assert about.cpu_cores() == 8


def test_a_cgroup_2_limit_bounds_memory_and_its_page_cache_can_be_had_back(host: Path) -> None:
    put(host, "proc/self/cgroup", "0::/job\n")
    put(host, "cgroup/job/memory.max", f"{2**28}\n")
    put(host, "cgroup/job/memory.current", f"{2**27}\n")
    put(host, "cgroup/job/memory.stat", f"anon 1\ninactive_file {2**26}\n")
    assert about.memory_total() == 2**28
    assert about.memory_available() == 2**28 - 2**27 + 2**26


def test_a_cgroup_1_limit_bounds_memory(host: Path) -> None:
    put(host, "proc/self/cgroup", "4:memory:/job\n")
    put(host, "cgroup/memory/job/memory.limit_in_bytes", f"{2**28}\n")
    put(host, "cgroup/memory/job/memory.usage_in_bytes", f"{2**27}\n")
    assert (about.memory_total(), about.memory_available()) == (2**28, 2**27)


def test_memory_without_a_limit_is_the_hosts(host: Path) -> None:
    import psutil

    put(host, "proc/self/cgroup", "0::/\n")
    put(host, "cgroup/memory.max", "max\n")
    assert about.memory_total() == psutil.virtual_memory().total
    assert 0 < about.memory_available() <= about.memory_total()


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 9654   96-Core\n\nmodel name\t: other\n", "AMD EPYC 9654 96-Core"),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n", "Arm Neoverse-V2"),
    ],
)
def test_the_cpu_is_named(host: Path, cpuinfo: str, name: str) -> None:
    put(host, "proc/cpuinfo", cpuinfo)
    assert about.cpu_name() == name


def test_a_cpu_without_a_name_is_its_architecture(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    put(host, "proc/cpuinfo", "CPU implementer\t: 0x41\nCPU part\t: 0xfff\n")
    assert about.cpu_name() == os.uname().machine


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("NVIDIA H200", "nvidia-h200"),
        ("NVIDIA H200 MIG 1g.18gb", "nvidia-h200-mig-1g-18gb"),
        ("AMD EPYC™ 9654", "amd-epyctm-9654"),
        ("", "unknown"),
        ("..", "unknown"),
        ("../../etc", "etc"),
        ("a/b\\c:d\0e\nf", "a-b-c-d-e-f"),
        ("Привет", "unknown"),
        ("-" * 300, "unknown"),
    ],
)
def test_a_slug_is_a_safe_folder_name(name: str, folder: str) -> None:
    assert about.slug(name) == folder


def test_a_slug_is_short_and_never_ends_in_a_dash() -> None:
    made = about.slug("x" * 59 + " y" * 100)
    assert made == "x" * 59
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", about.slug("!a" * 100))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "code.py").write_text("a = 1\n")
    (folder / "notes.txt").write_text("\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def git(folder: Path, *command: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *who, *command], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_commit_of_a_tracked_file_and_whether_its_folder_differs(repository: Path) -> None:
    code = repository / "package" / "code.py"
    head = git(repository, "rev-parse", "HEAD")
    assert about.commit_of(code) == (head, False)
    (repository / "notes.txt").write_text("results change, the code does not\n")
    assert about.commit_of(code) == (head, False)
    (repository / "package" / "new.py").write_text("b = 2\n")
    assert about.commit_of(code) == (head, True)


def test_a_package_in_an_environment_inside_a_repository_has_no_commit(repository: Path) -> None:
    installed = repository / ".venv" / "package" / "code.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("a = 1\n")
    assert about.commit_of(installed) == (None, None)


def test_outside_a_repository_or_without_git_there_is_no_commit(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert about.commit_of(tmp_path / "alone.py") == (None, None)
    assert about.commit_of(tmp_path / "absent" / "alone.py") == (None, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert about.commit_of(repository / "package" / "code.py") == (None, None)


def test_a_hooks_git_dir_does_not_answer_for_another_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert about.commit_of(repository / "package" / "code.py") == (head, False)


def test_software_without_torch_imports_no_torch() -> None:
    code = (
        "import sys; from nfbench.devices.about import software; s = software(with_torch=False);"
        "print('torch' in sys.modules, s.timm is not None, s.cuda, s.cudnn)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True None None\n"


def test_software_with_torch_names_its_build() -> None:
    import torch

    found = about.software(with_torch=True)
    assert (found.torch, found.cuda) == (str(torch.__version__), torch.version.cuda)


@pytest.mark.parametrize(("number", "version"), [(92600, "9.26.0"), (91002, "9.10.2"), (8902, "8.9.2"), (None, None)])
def test_cudnns_number_is_read_as_a_version(number: int | None, version: str | None) -> None:
    assert about._cudnn(number) == version
