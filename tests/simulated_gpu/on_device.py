"""A pytest plugin: tests marked `simulated` run on the simulated GPU, in a process that is preloaded with it.

`@pytest.mark.simulated(memory=8e9)` gives the state of the device (README.md lists the settings). The tests of a file
that share a state share a process; what NVML reads may change from test to test in it. Here their reports are only
read, so no other process is preloaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from simulated_gpu import simulator

REPORTS = "SIMULATED_GPU_REPORTS"
"""Set in the preloaded process: the file to which it appends its reports, one JSON line each."""

LONGEST = 900
"""Seconds that the tests of one state may take: several times what they take alone on two cores."""

READ_ANEW = {"nvml_init", "nvml_unsupported", "mig", "mig_profile", "other_process", "busy"}
READ_ANEW |= {"throttle", "temperature", "clock", "power", "power_limit"}
"""Settings of which torch and nfbench keep nothing from one command to the next."""

_finished: dict[str, list[dict[str, Any]]] = {}
_ended: dict[tuple[str, str], str] = {}


def _state(item: pytest.Item) -> dict[str, Any] | None:
    markers = list(item.iter_markers("simulated"))
    # the nearest comes first, and goes before what the file says of all its tests
    return {key: value for marker in reversed(markers) for key, value in marker.kwargs.items()} if markers else None


def _kept(item: pytest.Item) -> dict[str, Any]:
    """The settings with which a process starts."""
    return {name: value for name, value in (_state(item) or {}).items() if name not in READ_ANEW}


def _group(item: pytest.Item) -> tuple[str, str]:
    return str(item.path), json.dumps(_kept(item), sort_keys=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if REPORTS in os.environ:
        settings = {name: value for name, value in (_state(item) or {}).items() if name in READ_ANEW}
        Path(os.environ["SIMULATED_GPU_CONTROL"]).write_text("".join(f"{n} {v}\n" for n, v in settings.items()))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    if _state(item) is None or REPORTS in os.environ:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if REPORTS in os.environ:
        with Path(os.environ[REPORTS]).open("a") as file:
            file.write(json.dumps({"nodeid": report.nodeid, "report": report._to_json()}, default=str) + "\n")


def _reports(item: pytest.Item) -> list[pytest.TestReport]:
    if (why := simulator.why_not()) is not None:
        if os.environ.get(simulator.REQUIRED) == "required":
            return [_report(item, "failed", f"The simulated GPU must run here, and does not: {why}.")]
        return [_report(item, "skipped", f"no simulated GPU: {why}")]
    if _group(item) not in _ended:
        _ended[_group(item)] = _run([other for other in item.session.items if _group(other) == _group(item)])
    reports = [pytest.TestReport._from_json(data) for data in _finished.get(item.nodeid, [])]
    for report in reports:
        if report.skipped and not hasattr(report, "wasxfail"):
            report.outcome, report.longrepr = "failed", f"Skipped on the simulated GPU: {report.longrepr}"
    if not any(report.when == "teardown" for report in reports):
        reports.append(_report(item, "failed", f"The process on the simulated GPU ended: {_ended[_group(item)]}"))
    return reports


def _report(item: pytest.Item, outcome: Any, words: str) -> pytest.TestReport:
    longrepr: Any = words if outcome == "failed" else (str(item.path), item.location[1], f"Skipped: {words}")
    return pytest.TestReport(item.nodeid, item.location, {item.name: 1}, outcome, longrepr, "call")


def _run(items: list[pytest.Item]) -> str:
    """Run the items in one preloaded process and keep their reports; how it ended, in words."""
    folder = items[0].config._tmp_path_factory.mktemp("simulated", numbered=True)  # type: ignore[attr-defined]
    environment = simulator.environment(folder, **_kept(items[0])) | {REPORTS: str(folder / "reports")}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "simulated", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [f"--basetemp={folder / 'tmp'}", *(item.nodeid for item in items)]
    try:
        done = subprocess.run(
            command, cwd=items[0].config.rootpath, env=environment, capture_output=True, text=True, timeout=LONGEST
        )
        words = f"exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    except subprocess.TimeoutExpired as error:
        words = f"not after {LONGEST} s\n{(error.stdout or b'')[-3000:].decode()}"
    finally:
        simulator.clean(environment)
    if (folder / "reports").exists():
        for line in (folder / "reports").read_text().splitlines():
            entry = json.loads(line)
            _finished.setdefault(entry["nodeid"], []).append(entry["report"])
    return words
