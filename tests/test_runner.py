"""Workers in processes of their own, on the fake device: order, failures, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from make import Quiet
from msgspec.structs import replace

from nfbench.analysis.store import load
from nfbench.errors import NfbenchError
from nfbench.records import Layout, Result, Sampling, StepTime
from nfbench.studies import runner
from nfbench.studies.processes import Died, Group, Place, Process, TooLong
from nfbench.studies.study import Part
from nfbench.studies.worker import Request


def turns(*models: str, device: str = "fake", sampling: Sampling | None = None, **settings: object) -> list[Result]:
    kept: list[Result] = []
    workloads = tuple(StepTime(model=model, **settings) for model in models)  # type: ignore[arg-type]
    part = Part(workloads, sampling or Sampling(turns=2, turn_time=1))
    runner.in_rounds([part], device=device, seed=0, keep=lambda _, r: kept.append(r), watch=Quiet(), study="s")
    return kept


def test_turns_go_a_b_b_a() -> None:
    kept = turns("tiny-nfnet", "tiny-resnet", sampling=Sampling(turns=3, turn_time=1))
    assert [(r.workload.model, r.turn) for r in kept] == [
        ("tiny-nfnet", 0),
        ("tiny-resnet", 0),
        ("tiny-resnet", 1),
        ("tiny-nfnet", 1),
        ("tiny-nfnet", 2),
        ("tiny-resnet", 2),
    ]
    assert len({r.session for r in kept}) == 1
    assert {r.status for r in kept} == {"ok"}


def test_what_auto_became_in_the_first_round_holds_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = Group._ask

    def answered(self: Group, index: int, request: Request, *rest: Any) -> Result:
        asked.append(request.workload.layout)  # type: ignore[union-attr]
        result = ask(self, index, request, *rest)
        assert result.resolved is not None
        layout: Layout = "nchw" if request.round == 0 else "nhwc"
        return replace(result, resolved=replace(result.resolved, layout=layout))

    monkeypatch.setattr(Group, "_ask", answered)
    turns("tiny-nfnet", "tiny-resnet", sampling=Sampling(rounds=2, turns=2, turn_time=1))
    # while a process lives it is asked the same
    assert asked == ["best"] * 4 + ["nchw"] * 4


def test_a_workload_that_cannot_run_is_a_row_and_the_others_go_on() -> None:
    kept = turns("tiny-nfnet", "tiny-resnet", batch=4095 * 3)
    assert {(r.workload.model, r.status) for r in kept} == {
        ("tiny-nfnet", "unsupported"),
        ("tiny-resnet", "unsupported"),
    }
    assert kept[0].message is not None and kept[0].message.startswith("A batch of 12285 has no power-of-two share")


def test_a_device_that_is_not_there_ends_the_run_with_its_own_words() -> None:
    with pytest.raises(NfbenchError, match="There is no device 'tpu'"):
        turns("tiny-nfnet", device="tpu")


def request_for(batch: int = 32, **sampling: float) -> Request:
    return Request(workload=StepTime(model="tiny-nfnet", batch=batch), sampling=Sampling(**sampling))  # type: ignore[arg-type]


def test_a_worker_that_is_killed_is_said_to_have_died() -> None:
    process = Process("fake")
    try:
        process.ask(request_for(), Quiet())
        assert process.child is not None
        process.child.kill()
        process.child.wait()
        with pytest.raises(Died, match="killed, most likely for want of memory"):
            process.ask(request_for(), Quiet())
    finally:
        process.close()


def test_a_worker_that_takes_too_long_is_killed() -> None:
    endless = 1e9
    process = Process("fake", allowance=1 - 2 * endless)
    try:
        with pytest.raises(TooLong, match="no answer after 1 s"):
            process.ask(request_for(min_steps=10**9, max_time=endless), Quiet())
        assert process.child is not None and process.child.poll() is not None
    finally:
        process.close()


def test_a_worker_of_another_nfbench_is_not_waited_for(tmp_path: Path) -> None:
    package = tmp_path / "other" / "nfbench" / "studies"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").write_text("")
    (package / "worker.py").write_text("import sys\nprint('hello, I am 9.0', flush=True)\nsys.stdin.read()\n")
    process = Process("fake", place=Place(path=(tmp_path / "other",)))
    try:
        began = time.monotonic()
        with pytest.raises(Died, match="in words that this nfbench does not know"):
            process.ask(request_for(), Quiet())
        assert time.monotonic() - began < 20
    finally:
        process.close()


def test_what_a_dead_worker_has_started_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "forks.py").write_text(
        "import os, time\ndef net(num_classes):\n    if os.fork():\n        os._exit(7)\n    time.sleep(1000)\n"
    )
    request = Request(workload=StepTime(model="forks:net"), sampling=Sampling())
    process = Process("fake")
    began = time.monotonic()
    with pytest.raises(Died, match="ended with exit code 7"):
        process.ask(request, Quiet())
    process.close()
    assert time.monotonic() - began < 20


def test_a_worker_ends_with_its_runner() -> None:
    process = Process("fake")
    process.ask(request_for(), Quiet())
    assert process.child is not None and process.child.stdin is not None
    process.child.stdin.close()
    process.child.wait(timeout=10)
    process.close()


LONG = ["step-time", "--model", "tiny-nfnet", "--device", "fake", "--min-steps", "100000000", "--max-time", "1e9"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("rounds", [1, 2])
def test_a_signal_keeps_what_was_measured(number: signal.Signals, code: int, rounds: int) -> None:
    args = [*LONG, "--rounds", str(rounds), "--out", "o.jsonl"]
    child = subprocess.Popen(
        [sys.executable, "-m", "nfbench", *args], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.rstrip().endswith("timing"):
            # a live line would come after five seconds only; blocks of the fake device take none
            time.sleep(0.5)
            break
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == code, said
    assert "1 result in o.jsonl" in said and "Traceback" not in said
    (result,) = load([Path("o.jsonl")]).results
    assert result.status == "interrupted"
    assert result.reading("step_time") is not None


def test_run_ends_with_the_table_the_figures_and_the_answer(cli: Cli) -> None:
    done = cli("run", "quick", "--device", "fake")
    assert done.exit_code == 0, done.output
    (path,) = Path("results/fake/quick").glob("*.jsonl")
    results = load([path]).results
    assert len(results) == 4 + 2 * 2 * 4  # turns and rounds of the two nets
    assert {r.study for r in results} == {"quick"}
    assert (path.parent / "figures" / "step-time.svg").exists()
    assert done.stdout.splitlines()[-1] == (
        "On fake, fp32: nf-resnet26 takes 1.000 of resnet26's step (both 96 px, nchw, batch 8). "
        "This is a fake device: it says nothing about a GPU."
    )


def test_a_failed_workload_leaves_the_others_and_exit_code_5(cli: Cli) -> None:
    Path("mine.toml").write_text(
        'title = "T"\nquestion = "Q?"\n[[step-time]]\nmodel = "tiny-nfnet"\nbatch = [12285, 32]\nmax_time = 1\n'
    )
    done = cli("run", "mine.toml", "--device", "fake", "--out", "o.jsonl")
    assert done.exit_code == 5, done.output
    assert [r.status for r in load([Path("o.jsonl")]).results] == ["unsupported", "ok"]
    assert "1 of 2 workloads failed: tiny-nfnet." in done.stderr


def test_a_runner_that_is_killed_leaves_no_worker() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "nfbench", *LONG, "--rounds", "2", "--out", "o.jsonl"], stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.rstrip().endswith("timing"):
            # a live line would come after five seconds only; blocks of the fake device take none
            time.sleep(0.5)
            break
    workers = [int(p.name) for p in Path("/proc").glob("[0-9]*") if _parent(p) == child.pid]
    assert workers
    child.kill()
    child.communicate()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() and not _zombie(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() and not _zombie(pid) for pid in workers)


def _parent(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_fake_device_imports_no_torch() -> None:
    code = (
        "import sys; from nfbench.cli import main\n"
        "main(['step-time','--model','tiny-nfnet','--device','fake','--out','o.jsonl'], standalone_mode=False)\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'torchvision')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
