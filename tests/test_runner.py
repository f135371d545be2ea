"""Workers in processes of their own, on the fake device: failures, signals, kills, shards, Slurm's scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from make import LONGEST, Quiet, wait_until

import nfbench
from nfbench import devices
from nfbench.analysis.sessions import current
from nfbench.analysis.store import load
from nfbench.devices.fake import FakeDevice, FakeSteps
from nfbench.measuring.outcome import Labels
from nfbench.records import STUCK, Resolved, Result, Sampling, StepTime, key
from nfbench.studies import processes, worker
from nfbench.studies.processes import Died, Group, Place, Process, Seat, TooLong
from nfbench.studies.worker import Request

HEAD = 'title = "T"\nquestion = "Q?"\n'
NFBENCH = (sys.executable, "-m", "nfbench")


def start(*args: str, program: tuple[str, ...] = NFBENCH, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*program, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | env
    )


def workers() -> list[int]:
    """Workers of nfbench that work in this folder."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            here = (process / "cwd").resolve() == Path.cwd()
            if here and b"nfbench.studies.worker" in (process / "cmdline").read_bytes():
                pids.append(int(process.name))
        except OSError:
            continue
    return pids


# a device that an error has made useless


@pytest.mark.usefixtures("workers_in_process")
def test_after_an_error_that_stays_the_next_net_runs_in_a_fresh_process(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[FakeDevice] = []

    class Spent(FakeDevice):
        """The first of them fails for good."""

        def __init__(self) -> None:
            super().__init__()
            opened.append(self)
            self.spent = False

        def build(self, workload: StepTime, resolved: Resolved, seed: int) -> FakeSteps:
            if self is opened[0]:
                self.spent = True
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return super().build(workload, resolved, seed)

        def usable(self) -> bool:
            return not self.spent

    for module in (devices, worker):
        monkeypatch.setattr(module, "open_device", lambda wanted: Spent())
    models = ("tiny-nfnet", "tiny-resnet", "tiny-nf-resnet")
    assert cli("step-time", *(f"--model={m}" for m in models), "--device=fake", "--out=kept").exit_code == 5
    rows = load([Path("kept")]).results
    assert [(r.workload.model, r.status) for r in rows] == [(models[0], "error"), *((m, "ok") for m in models[1:])]
    # the first process holds what it had of the memory until it ends
    assert [STUCK in r.notes for r in rows] == [False, True, True]
    assert len(opened) == 3 and {r.session for r in rows} == {None}
    # nor does a worker that is kept for other nets go on
    opened.clear()
    kept: list[Result] = []
    seats = [Seat(StepTime(model=models[0]))]
    group = Group(seats, device="fake", seed=0, labels=Labels(), processes=[processes.Process("fake")])
    for _ in range(2):
        group.out.clear()
        group.turn(0, 0, Sampling(), kept.append, Quiet())
    assert [r.status for r in kept] == ["error", "ok"]


# one process


def ask(process: Process, model: str = "tiny-nfnet", **sampling: Any) -> None:
    process.ask(Request(workload=StepTime(model=model), sampling=Sampling(**sampling)), Quiet())


@pytest.fixture
def process() -> Iterator[Process]:
    made = Process("fake", place=Place(path=(Path("path").resolve(),)))
    began = time.monotonic()
    yield made
    made.close()
    # nobody who is gone, or speaks in tongues, is waited for
    assert time.monotonic() - began < 20


def test_a_worker_that_is_killed_is_said_to_have_died(process: Process) -> None:
    ask(process)
    assert process.child is not None
    process.child.kill()
    process.child.wait()
    with pytest.raises(Died, match="killed, most likely for want of memory"):
        ask(process)


def test_a_worker_that_takes_too_long_is_killed(process: Process) -> None:
    process.allowance, endless = 1 - 2e9, 1e9
    with pytest.raises(TooLong, match="no answer after 1 s"):
        ask(process, min_steps=10**9, max_time=endless)
    assert process.child is not None and process.child.poll() is not None


def test_what_a_worker_of_another_nfbench_says_ends_it(process: Process) -> None:
    package = Path("path/nfbench/studies")
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").write_text("")
    (package / "worker.py").write_text("import sys\nprint('hello, I am 9.0', flush=True)\nsys.stdin.read()\n")
    with pytest.raises(Died, match="in words that this nfbench does not know"):
        ask(process)


def test_what_a_dead_worker_has_started_holds_nobody_up(process: Process) -> None:
    Path("forks.py").write_text(
        "import os, time\ndef net(num_classes):\n    if os.fork():\n        os._exit(7)\n    time.sleep(1000)\n"
    )
    with pytest.raises(Died, match="ended with exit code 7"):
        ask(process, "forks:net")


# a study


def test_run_says_the_answer_and_below_it_the_table_and_draws_the_figures(cli: Cli) -> None:
    done = cli("run", "quick", "--device", "fake")
    assert done.exit_code == 0, done.output
    (path,) = Path("results/fake/quick").glob("*.jsonl")
    results = load([path]).results
    assert len(results) == 4 + 2 * 2 * 4  # turns and rounds of the two nets
    assert {r.study for r in results} == {"quick"}
    assert (path.parent / "figures" / "step-time.svg").exists()
    assert done.stdout.splitlines()[0] == (
        "On fake, fp32: nf-resnet26 and resnet26 are about equally fast: 1.000 times as fast (both 96 px, nchw, "
        "batch 8). This is a fake device: it says nothing about a GPU."
    )


@pytest.mark.usefixtures("no_figures")
def test_a_task_that_takes_longer_than_its_limit_is_a_timeout_and_the_others_go_on(cli: Cli) -> None:
    slow = '[[step-time]]\nmodel = "tiny-nfnet"\nmin_steps = 100000000\nmax_time = 1e9\ntime_limit = 1\n'
    Path("mine.toml").write_text(HEAD + slow + '[[step-time]]\nmodel = "tiny-resnet"\n')
    assert cli("run", "mine.toml", "--device", "fake", "--out", "o.jsonl").exit_code == 5
    statuses = {r.workload.model: r.status for r in load([Path("o.jsonl")]).results}
    assert statuses == {"tiny-nfnet": "timeout", "tiny-resnet": "ok"}


@pytest.mark.parametrize(("number", "code", "rounds"), [(signal.SIGINT, 130, "1"), (signal.SIGTERM, 143, "2")])
def test_a_signal_keeps_what_was_measured(number: signal.Signals, code: int, rounds: str) -> None:
    """In the process itself where there is one round, by its worker where there are two."""
    endless = ("--min-steps", "100000000", "--max-time", "1e9", "--rounds", rounds, "--out", "o.jsonl")
    child = start("step-time", "--model", "tiny-nfnet", "--device", "fake", *endless)
    assert child.stderr is not None
    for line in child.stderr:
        if line.rstrip().endswith("timing"):
            # a live line would come after five seconds only; blocks of the fake device take none
            time.sleep(0.5)
            break
    child.send_signal(number)
    _, said = child.communicate(timeout=LONGEST)
    assert child.returncode == code, said
    assert "1 result in o.jsonl" in said and "Traceback" not in said
    (result,) = load([Path("o.jsonl")]).results
    assert result.status == "interrupted"
    assert result.reading("step_time") is not None
    assert workers() == []


KILLED = """
import os, signal
from pathlib import Path

armed = Path("armed")
point = armed.read_text() if armed.exists() else ""
runner = os.environ.get("NFBENCH_RUNNER")

def end(process):
    armed.unlink()
    os.kill(process, signal.SIGKILL)

if runner and point:
    from nfbench.devices import fake

    update = fake.FakeSteps.update

    def updating(self, stamp, passes):
        if self.updates > 30 and armed.exists():
            end(os.getpid() if point == "worker" else int(runner))
        update(self, stamp, passes)

    if point in ("worker", "runner"):
        fake.FakeSteps.update = updating
elif point in ("half of a line", "a whole line"):
    from nfbench.analysis import store

    class Os:
        def __getattr__(self, name):
            return getattr(os, name)

        def write(self, handle, line):
            os.write(handle, line if point == "a whole line" else line[: len(line) // 2])
            end(os.getpid())

    store.os = Os()
elif point == "after a training run":
    from nfbench.analysis import store

    write = store.Writer.write

    def writing(self, *results):
        write(self, *results)
        if hasattr(results[0].workload, "epochs"):
            end(os.getpid())

    store.Writer.write = writing
"""
"""Put first in every process of nfbench: ends it, or its runner, at the moment that the file ``armed`` names."""


def test_a_study_that_is_killed_at_any_moment_ends_with_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in").mkdir()
    Path("in/sitecustomize.py").write_text(KILLED)
    monkeypatch.setenv("PYTHONPATH", str(Path("in").resolve()), prepend=os.pathsep)
    Path("mine.toml").write_text(
        HEAD + 'figures = ["step-time"]\n[[step-time]]\nmodel = ["tiny-nfnet", "tiny-resnet"]\nmin_steps = 100\n'
        '[[accuracy]]\nmodel = "tiny-nfnet-s"\nepochs = 3\nseeds = 2\n'
    )

    def run(point: str, *flags: str) -> tuple[int, str]:
        if point:
            Path("armed").write_text(point)
        child = start("run", "mine.toml", "--device", "fake", "--out", "here", "--retry", "failed", *flags)
        _, said = child.communicate(timeout=LONGEST)
        assert not Path("armed").exists(), said
        wait_until(lambda: not workers())
        return child.returncode, said

    assert run("half of a line")[0] == -signal.SIGKILL
    code, said = run("runner")
    assert code == -signal.SIGKILL and "Cut off 1 half-written line of a run that was killed." in said
    # a runner outlives its worker, and says that a workload failed
    assert run("worker", "--limit", "1")[0] == 5
    # the row is there, though nothing else knows of it yet
    assert run("a whole line")[0] == -signal.SIGKILL
    assert run("after a training run")[0] == -signal.SIGKILL
    assert len(list(Path("here/.checkpoints").rglob("*.pt"))) == 1
    code, said = run("")
    assert code == 0 and "3 workloads had been done before" in said and "1 result in" in said

    loaded = load([Path("here")])
    rows = current(loaded.results)
    assert len(rows) == len({(key(r.workload), r.seed) for r in rows}) == 4 and {r.status for r in rows} == {"ok"}
    assert loaded.broken == [] and loaded.repeated == 0
    assert Counter(r.status for r in loaded.results) == {"ok": 4, "error": 1}
    assert not Path("here/.checkpoints").exists()


# one study in parts


@pytest.mark.usefixtures("no_figures")
def test_two_shards_at_once_measure_every_workload_once_and_a_whole_run_finds_all_done(cli: Cli) -> None:
    Path("mine.toml").write_text(
        HEAD + 'figures = ["step-time"]\n[settings]\nmax_time = 1\n'
        '[[step-time]]\nmodel = ["tiny-nfnet", "tiny-resnet"]\nbatch = [8, 16]\n'
        '[[compare]]\nnet = "tiny-nfnet"\nbaseline = "tiny-resnet"\nrounds = 2\nturns = 2\nturn_time = 1\n'
    )
    command = ("run", "mine.toml", "--device", "fake", "--out", "all")
    for shard in [start(*command, "--shard", f"{n}/2") for n in (1, 2)]:
        _, said = shard.communicate(timeout=LONGEST)
        assert shard.returncode == 0, said
    files = sorted(Path("all").glob("*.jsonl"))
    assert len(files) == 2 and all(file.read_bytes().endswith(b"\n") for file in files)
    loaded = load([Path("all")])
    assert not loaded.broken and not loaded.repeated
    counted = Counter((key(r.workload), r.round, r.turn) for r in loaded.results)
    assert len(counted) == 4 + 2 * 2 * 2 and set(counted.values()) == {1}
    done = cli(*command)
    assert done.exit_code == 0, done.output
    assert "6 workloads had been done before" in done.stderr
    assert len(load([Path("all")]).results) == 12


SLURM = Path(nfbench.__file__).parent.parent / "benchmarks" / "slurm"


def program(name: str, text: str = 'echo "$$" "${0##*/}" "$@"') -> str:
    """A ``PATH`` on which the program ``name`` only says how it was called, and by which process, or runs ``text``."""
    path = Path("bin", name).resolve()
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)
    return f"{path.parent}:{os.environ['PATH']}"


def sbatch(script: str, *arguments: str, **env: str) -> tuple[int, int, str, str]:
    """The process and exit code of a script that Slurm starts, and what it says on both streams."""
    child = start(str(SLURM / script), *arguments, program=("bash",), **env)
    out, said = child.communicate(timeout=LONGEST)
    return child.pid, child.returncode, out, said


@pytest.mark.parametrize("script", ["study.sbatch", "distributed.sbatch"])
def test_a_slurm_script_is_sound_bash_and_keeps_timings_alone(script: str) -> None:
    path = SLURM / script
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    asked = [line.removeprefix("#SBATCH ") for line in path.read_text().splitlines() if line.startswith("#SBATCH ")]
    assert {"--exclusive", "--requeue"} <= set(asked)
    assert any(line.startswith("--signal=") and line.endswith("TERM@60") for line in asked)
    # an option that comes after the first command is none
    text = path.read_text()
    assert text.rindex("#SBATCH") < text.index("set -euo pipefail")
    try:
        done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True)
    except FileNotFoundError:
        return
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("arguments", "task", "of", "code", "words"),
    [
        # the same process: what Slurm sends to the script reaches nfbench
        (("table3", "--only", "x"), "3", "8", 0, "{process} nfbench run table3 --only x --shard 3/8\n"),
        ((), "1", "4", 2, "Which study?"),
        (("quick",), "0", "4", 2, "Task 0 of an array of 4 is no shard: the array must be 1-N."),
        (("quick",), "3", "1", 2, "Task 3 of an array of 1 is no shard: the array must be 1-N. Try: sbatch"),
    ],
)
def test_a_task_of_an_array_runs_its_shard(
    arguments: tuple[str, ...], task: str, of: str, code: int, words: str
) -> None:
    array = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": of, "PATH": program("nfbench")}
    process, ended, out, said = sbatch("study.sbatch", *arguments, **array)
    assert ended == code and (said if code else out).startswith(words.format(process=process))
    assert bool(out) == (code == 0)


def test_torchrun_is_started_once_a_node_and_all_meet_at_the_first() -> None:
    program("scontrol", '[ "$*" = "show hostnames n[1-2]" ] && printf "n1\\nn2\\n"')
    job = {
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "PATH": program("srun"),
    }
    process, code, out, said = sbatch("distributed.sbatch", **job)
    assert (code, out.split()) == (
        0,
        f"{process} srun --kill-on-bad-exit=1 torchrun --nnodes=2 --nproc-per-node=gpu --rdzv-backend=c10d "
        "--rdzv-endpoint=n1:23456 --rdzv-id=123456 -m nfbench step-time --model nfnet-f0 --batch 4096".split(),
    ), said
    *_, out, _ = sbatch("distributed.sbatch", "accuracy", "--model", "nfnet-f0", **job)
    assert out.endswith("-m nfbench accuracy --model nfnet-f0\n")
