"""What only looks things up starts fast: it imports no torch, pandas or matplotlib, and --help no numpy either."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import Cli

import nfbench
from nfbench.errors import kept_traceback

CHECK = """
import sys
from nfbench.cli import main
for line in ("--version", "--help", *(f"{name} --help" for name in sys.argv[1:]), "models", "run --list"):
    try:
        main(line.split(), prog_name="nfbench")
    except SystemExit as end:
        assert not end.code, (line, end.code)
    heavy = {"torch", "timm", "torchvision", "pandas", "matplotlib", "scipy", "rich", "ray"}
    if line.startswith("--") or line.endswith("--help"):
        heavy.add("numpy")
    assert not heavy & set(sys.modules), (line, heavy & set(sys.modules))
"""


def test_looking_things_up_imports_nothing_heavy() -> None:
    commands = ("table", "plot", "step-time", "accuracy", "run")
    command = [sys.executable, "-c", CHECK, *commands]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_help_fits_a_terminal_of_24_lines(cli: Cli) -> None:
    lines = cli("--help").stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    for name in ("step-time", "flops", "accuracy", "run", "table", "plot", "models", "env"):
        assert any(f" {name} " in line for line in lines), name


def test_the_fake_device_is_not_in_any_help(cli: Cli) -> None:
    for name in ("step-time", "accuracy", "run", "env"):
        assert "fake" not in cli(name, "--help").stdout


def test_python_m_works_from_a_bare_checkout() -> None:
    checkout = Path(nfbench.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "nfbench", "--version"],
        capture_output=True,
        text=True,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": ""},
        check=False,
    )
    assert done.stdout == f"nfbench, version {nfbench.__version__}\n"


def test_a_fault_of_nfbench_saves_its_traceback_and_exits_70(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import nfbench.studies.entries

    def broken(settings: object) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(nfbench.studies.entries, "sampling_of", broken)
    done = cli("step-time", "--model", "tiny-nfnet", "--device", "fake")
    assert done.exit_code == 70
    assert "A fault of nfbench, not yours: ZeroDivisionError: by design" in done.stderr
    path = Path(done.stderr.split("The traceback is in ")[1].split(". An issue")[0])
    assert "ZeroDivisionError" in path.read_text()
    path.unlink()


@pytest.mark.parametrize("name", ["EACCES", "EPERM", "ENAMETOOLONG", "EMFILE", "ELOOP", "ENOSPC", "EIO", "ENOENT"])
def test_what_the_machine_refuses_is_no_fault_of_nfbench(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import nfbench.studies.entries

    def refused(settings: object) -> None:
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)), "a file")

    monkeypatch.setattr(nfbench.studies.entries, "sampling_of", refused)
    done = cli("step-time", "--model", "tiny-nfnet", "--device", "fake")
    assert done.exit_code == 1
    assert done.stderr == f"The file 'a file' cannot be used: {os.strerror(getattr(errno, name))}.\n"


def test_a_traceback_that_cannot_be_kept_does_not_hide_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    words = kept_traceback(ZeroDivisionError("by design"), "fault")
    assert words == "The traceback could not be written: No usable temporary directory found."


@pytest.mark.parametrize("module", ["click", "msgspec"])
def test_ctrl_c_during_the_first_imports_ends_quietly(tmp_path: Path, module: str) -> None:
    slow = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n"
    (tmp_path / f"{module}.py").write_text(slow)
    root = Path(nfbench.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "nfbench", "table", "x"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_importing_the_library_leaves_signals_alone() -> None:
    code = "import signal, nfbench; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_command_is_wrong_usage(cli: Cli) -> None:
    assert cli("steptime").exit_code == 2
