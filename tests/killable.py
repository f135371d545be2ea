"""Runs a study over and over, each time in a fork of its own that ends itself, or its worker, at a named point.

A line on stdin starts one: ``POINT`` or ``-``. Answers ``PID`` when it has begun and the exit code when it has ended.
Everything is imported before the first, so that thirty runs take no minutes.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from nfbench.analysis import store
from nfbench.commands import _study, run
from nfbench.showing import accuracy, answers, board
from nfbench.showing.figures import driver
from nfbench.studies import execute, select, study

IMPORTED = (_study, accuracy, answers, board, execute, run, select, study)
COMMAND = ["run", "mine.toml", "--device", "fake", "--out", "here", "--retry", "failed", "--quiet"]


def end(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def arm(point: str) -> None:
    """Makes this process end at ``point``; those of a worker are for the file ``armed``, which `IN_WORKERS` reads."""
    write = os.write

    def half(handle: int, line: bytes) -> int:
        write(handle, line[: len(line) // 2])
        end()

    class Os:
        """The store's own ``os``; what else writes in this process goes on as it was."""

        def __getattr__(self, name: str) -> Any:
            return {
                "before the write": {"write": end},
                "half of the line": {"write": half},
                "before fsync": {"fsync": end},
            }.get(point, {}).get(name) or getattr(os, name)

    if point in ("before the write", "half of the line", "before fsync"):
        store.os = Os()  # type: ignore[assignment]
    elif point == "after the result":
        board.Board.ended = end  # type: ignore[method-assign,assignment]
    elif point == "after the line":
        flush = execute._Execution._flush

        def flushed(execution: Any) -> None:
            flush(execution)
            end()

        execute._Execution._flush = flushed  # type: ignore[method-assign]
    elif point != "-":
        Path("armed").write_text(point)


IN_WORKERS = """
import os, signal, time
from pathlib import Path
from nfbench.devices import fake

def at(point):
    armed = Path("armed")
    whom, _, where = armed.read_text().partition(" ") if armed.exists() else ("", "", "")
    if point and where == point:
        armed.unlink()
        os.kill(os.getpid() if whom == "worker" else int(os.environ["NFBENCH_RUNNER"]), signal.SIGKILL)

build, update = fake.FakeDevice.build, fake.FakeSteps.update

def building(self, workload, resolved, seed):
    time.sleep(0.2)
    at("build")
    return build(self, workload, resolved, seed)

def updating(self, stamp, passes):
    at("warm-up" if self.updates == 1 else "window" if self.updates > 30 else "")
    update(self, stamp, passes)

fake.FakeDevice.build, fake.FakeSteps.update = building, updating
"""


def main() -> None:
    driver.draw = lambda *_, **__: driver.Drawn([], {})  # type: ignore[assignment]
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            arm(line.strip())
            from nfbench.cli import main as command

            log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.setsid()
            # a runner whose worker is killed would go on to the end
            one = ["--limit", "1"] if line.startswith("worker") else []
            command([*COMMAND, *one], prog_name="nfbench")
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
