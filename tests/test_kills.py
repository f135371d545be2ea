"""A study that is killed -9, runner or worker, at any moment: what is resumed ends with every row once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import killable
import pytest

from nfbench.analysis.sessions import current
from nfbench.analysis.store import load
from nfbench.records import key

STUDY = """
title = "T"
question = "Q?"
[[step-time]]
model = ["tiny-nfnet", "tiny-resnet"]
batch = { from = 1, to = 64, factor = 2 }
[[accuracy]]
model = ["tiny-nfnet-s", "tiny-resnet-s", "tiny-efficientnet-s"]
epochs = 3
seeds = 2
"""
NAMED = (
    "before the write",
    "half of the line",
    "before fsync",
    "after the line",
    "after the result",
    "runner build",
    "runner warm-up",
    "runner window",
    "worker build",
    "worker warm-up",
    "worker window",
)
ROWS, RANDOM_MOMENTS = 20, 30


class Study:
    """The study and the process that runs it again and again."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self.server = server

    def start(self, point: str = "-") -> int:
        assert self.server.stdin is not None
        self.server.stdin.write(f"{point}\n")
        self.server.stdin.flush()
        return int(self._said())

    def end(self) -> int:
        return int(self._said())

    def _said(self) -> str:
        assert self.server.stdout is not None
        line = self.server.stdout.readline()
        assert line, Path("log").read_text()
        return line


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    folder = tmp_path / "in-workers"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(killable.IN_WORKERS)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    Path("mine.toml").write_text(STUDY)
    command = [sys.executable, killable.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield Study(server)
        assert server.stdin is not None
        server.stdin.close()


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def done() -> int:
    """How many workloads have a row that says so."""
    return sum(path.read_bytes().count(b'"status":"ok"') for path in Path("here").glob("*.jsonl"))


def workers() -> list[int]:
    """Workers of nfbench that work in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            here = (process / "cwd").resolve() == Path.cwd()
            if here and b"nfbench.studies.worker" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_a_study_that_is_killed_at_any_moment_ends_with_every_row_once(study: Study) -> None:
    for point in NAMED:
        study.start(point)
        # a runner outlives its worker, and says that a workload failed
        assert study.end() == (5 if point.startswith("worker") else -signal.SIGKILL), (point, Path("log").read_text())
        assert not Path("armed").exists(), point
    moments, unfinished = random.Random(0), 0
    for _ in range(RANDOM_MOMENTS):
        pid = study.start()
        time.sleep(moments.uniform(0.05, 0.5))
        if others := workers():
            kill(moments.choice(others))
            time.sleep(moments.uniform(0, 0.1))
        unfinished += done() < ROWS
        kill(pid)
        assert study.end() in (-signal.SIGKILL, 0)
    # a study that is done has nothing to be killed in
    assert unfinished >= RANDOM_MOMENTS / 2
    study.start()
    assert study.end() == 0, Path("log").read_text()

    loaded = load([Path("here")])
    rows = current(loaded.results)
    assert len(rows) == ROWS and len({(key(r.workload), r.seed) for r in rows}) == ROWS
    assert {r.status for r in rows} == {"ok"}
    assert loaded.broken == [] and loaded.repeated == 0
    good = Counter((key(r.workload), r.seed) for r in loaded.results if r.status == "ok")
    assert set(good.values()) == {1}
    for path in Path("here").glob("*.jsonl"):
        content = path.read_bytes()
        assert not content or content.endswith(b"\n")
    assert not Path("here/.checkpoints").exists()

    deadline = time.monotonic() + 20
    while workers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers() == []
