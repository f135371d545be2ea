"""Every test runs in a folder of its own, so that nothing lands in the checkout."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import nfbench

pytest_plugins = ["simulated_gpu.on_device"]


def pytest_configure(config: pytest.Config) -> None:
    # read when Triton is imported, so it must stand before any test is; kernels on a GPU are compiled, not interpreted
    if "not gpu" in str(config.getoption("markexpr")):
        os.environ.setdefault("TRITON_INTERPRET", "1")
    # `uv run pytest` would have all commands in messages begin with "uv run"
    os.environ.pop("UV_RUN_RECURSION_DEPTH", None)
    # threads that spin while they wait slow a second process down several times over
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_unconfigure() -> None:
    # what is still frozen at the end would be reported as leaked
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> None:
    # the lock of this machine's device: tests that run side by side would wait for each other, or for a real timing
    os.environ["NFBENCH_TEST_LOCKS"] = str(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True, scope="module")
def imported_is_no_garbage() -> None:
    # every measurement collects garbage, which with torch loaded takes a quarter of a second to look through
    gc.freeze()


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # processes that a test starts find the package in a checkout that was never installed
    checkout = str(Path(nfbench.__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", checkout)
    return tmp_path


@pytest.fixture
def workers_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What real processes add is tested where they are killed; all else takes a tenth of the time without them."""
    from in_process import InProcess

    from nfbench.studies import processes, ray, run

    for module in (processes, run, ray):
        monkeypatch.setattr(module, "Process", InProcess)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all that is measured on the fake device, and has tests of its own."""
    from nfbench.showing.figures import driver

    monkeypatch.setattr(driver, "draw", lambda *_, **__: driver.Drawn([], {}))


class Cli:
    """The command line in this process."""

    def __call__(self, *args: object) -> Result:
        from nfbench.cli import main

        return CliRunner().invoke(main, [str(a) for a in args])


@pytest.fixture
def cli() -> Cli:
    return Cli()
