from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nfbench.devices import host


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a host whose /proc and /sys/fs/cgroup the test writes, with 8 cores for this process."""
    monkeypatch.setattr(host, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(host, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(host, "allowed_cores", lambda: 8)
    return tmp_path


def put(root: Path, file: str, text: str) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("", 8), ("nonsense", 8)],
)
def test_a_cgroup_2_quota_bounds_the_cores(root: Path, quota: str, cores: int) -> None:
    put(root, "proc/self/cgroup", "0::/job/step\n")
    put(root, "cgroup/job/step/cpu.max", quota)
    assert host.cpu_cores() == cores


def test_the_strictest_quota_of_all_above_counts(root: Path) -> None:
    put(root, "proc/self/cgroup", "0::/job/step\n")
    put(root, "cgroup/job/cpu.max", "300000 100000")
    put(root, "cgroup/job/step/cpu.max", "600000 100000")
    assert (host.cpu_quota(), host.cpu_cores()) == (3.0, 3)


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
def test_a_cgroup_1_quota_bounds_the_cores_even_where_the_container_sees_only_its_root(root: Path, folder: str) -> None:
    put(root, "proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n")
    put(root, f"cgroup/{folder}/cpu.cfs_period_us", "100000\n")
    for quota, cores in ((200_000, 2), (-1, 8)):
        put(root, f"cgroup/{folder}/cpu.cfs_quota_us", f"{quota}\n")
        assert host.cpu_cores() == cores


def test_a_cgroups_limit_bounds_memory_and_its_page_cache_can_be_had_back(root: Path) -> None:
    put(root, "proc/self/cgroup", "4:memory:/job\n")
    put(root, "cgroup/memory/job/memory.limit_in_bytes", f"{2**28}\n")
    put(root, "cgroup/memory/job/memory.usage_in_bytes", f"{2**27}\n")
    assert (host.memory_total(), host.memory_available()) == (2**28, 2**27)
    put(root, "proc/self/cgroup", "0::/job\n")
    put(root, "cgroup/job/memory.max", f"{2**27}\n")
    put(root, "cgroup/job/memory.current", f"{2**26}\n")
    put(root, "cgroup/job/memory.stat", f"anon 1\ninactive_file {2**25}\n")
    assert (host.memory_total(), host.memory_available()) == (2**27, 2**26 + 2**25)
    put(root, "cgroup/job/memory.max", "max\n")
    assert host.memory_total() == psutil.virtual_memory().total
    assert 0 < host.memory_available() <= host.memory_total()


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 9654   96-Core\n\nmodel name\t: other\n", "AMD EPYC 9654 96-Core"),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n", "Arm Neoverse-V2"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xfff\n", os.uname().machine),
    ],
)
def test_the_cpu_or_its_kind_is_named(root: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, name: str) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    put(root, "proc/cpuinfo", cpuinfo)
    assert host.cpu_name() == name


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A file of a package in a repository that tracks it, beside notes."""
    folder = tmp_path / "repository"
    put(folder, "package/code.py", "a = 1\n")
    put(folder, "notes.txt", "\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder / "package" / "code.py"


def git(folder: Path, *command: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_of_a_tracked_file_and_whether_it_differs(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = code.parents[1]
    head = git(repository, "rev-parse", "HEAD")
    assert host.commit_of(code) == (head, False)
    put(repository, "notes.txt", "results change, the code does not\n")
    # a hook's variable does not answer for another repository
    monkeypatch.setenv("GIT_DIR", str(repository / "elsewhere"))
    assert host.commit_of(code) == (head, False)
    put(repository, "package/new.py", "b = 2\n")
    assert host.commit_of(code) == (head, True)


def test_what_git_does_not_track_has_no_commit(code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a package in an environment inside a repository is not that repository's code
    put(code.parents[1], ".venv/package/code.py", "a = 1\n")
    for file in (code.parents[1] / ".venv/package/code.py", tmp_path / "alone.py", tmp_path / "absent" / "alone.py"):
        assert host.commit_of(file) == (None, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.commit_of(code) == (None, None)


def test_software_names_torchs_build_and_imports_torch_only_where_asked_to() -> None:
    import torch

    built = host.software(with_torch=True)
    assert (built.torch, built.cuda) == (str(torch.__version__), torch.version.cuda)
    check = (
        "import sys; from nfbench.devices.host import software; s = software(with_torch=False);"
        "print('torch' in sys.modules, s.timm is not None, s.cuda, s.cudnn)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "False True None None\n"
