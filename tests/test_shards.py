"""One study in parts: shards that run at once into one folder, and the Slurm scripts that start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import Cli

import nfbench
from nfbench.analysis.store import load
from nfbench.records import key

SLURM = Path(nfbench.__file__).parent.parent / "benchmarks" / "slurm"
SCRIPTS = ("study.sbatch", "distributed.sbatch")
STUDY = """
title = "T"
question = "Q?"
figures = ["step-time"]
[settings]
max_time = 1
[[step-time]]
model = ["tiny-nfnet", "tiny-resnet"]
batch = [8, 16, 64]
[[compare]]
net = "tiny-nfnet"
baseline = "tiny-resnet"
rounds = 2
turns = 2
turn_time = 1
"""


def test_two_shards_at_once_measure_every_workload_once_and_a_whole_run_finds_all_done(cli: Cli) -> None:
    Path("mine.toml").write_text(STUDY)
    arguments = [sys.executable, "-m", "nfbench", "run", "mine.toml", "--device", "fake", "--out", "all"]
    shards = [
        subprocess.Popen([*arguments, "--shard", f"{n}/2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for n in (1, 2)
    ]
    for shard in shards:
        _, said = shard.communicate(timeout=120)
        assert shard.returncode == 0, said
    files = sorted(Path("all").glob("*.jsonl"))
    assert len(files) == 2
    assert all(file.read_bytes().endswith(b"\n") for file in files)
    loaded = load([Path("all")])
    assert not loaded.broken and not loaded.repeated
    counted = Counter((key(r.workload), r.round, r.turn) for r in loaded.results)
    assert len(counted) == 6 + 2 * 2 * 2 and set(counted.values()) == {1}

    done = cli("run", "mine.toml", "--device", "fake", "--out", "all")
    assert done.exit_code == 0, done.output
    assert "8 workloads had been done before" in done.stderr
    assert len(load([Path("all")]).results) == 14


def programs(folder: Path, *names: str) -> dict[str, str]:
    """An environment in which each of these programs only says how it was called, and by which process."""
    folder.mkdir()
    for name in names:
        path = folder / name
        path.write_text(f'#!/usr/bin/env bash\necho "$$" {name} "$@"\n')
        path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def sbatch(script: str, *arguments: str, **env: str) -> tuple[int, int, str, str]:
    """The process and exit code of a script that Slurm starts, and what it says on both streams."""
    child = subprocess.Popen(
        ["bash", str(SLURM / script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | env,
    )
    out, said = child.communicate(timeout=30)
    return child.pid, child.returncode, out, said


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_slurm_script_is_sound_bash_and_keeps_timings_alone(script: str) -> None:
    path = SLURM / script
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    asked = [line.removeprefix("#SBATCH ") for line in path.read_text().splitlines() if line.startswith("#SBATCH ")]
    assert {"--exclusive", "--requeue"} <= set(asked)
    assert any(line.startswith("--signal=") and line.endswith("TERM@60") for line in asked)
    # an option that comes after the first command is none
    text = path.read_text()
    assert text.rindex("#SBATCH") < text.index("set -euo pipefail")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_slurm_script_passes_shellcheck(script: str) -> None:
    try:
        done = subprocess.run(["shellcheck", str(SLURM / script)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("shellcheck is not installed")
    assert done.returncode == 0, done.stdout


def test_a_task_of_an_array_runs_its_shard_in_the_place_of_the_script() -> None:
    env = programs(Path("bin").resolve(), "nfbench")
    array = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}
    process, code, out, said = sbatch("study.sbatch", "table3", "--only", "nfnet-f0", **env, **array)
    # the same process: what Slurm sends to the script reaches nfbench
    assert (code, out) == (0, f"{process} nfbench run table3 --only nfnet-f0 --shard 3/8\n"), said


@pytest.mark.parametrize(
    ("arguments", "task", "count", "words"),
    [
        ((), "1", "4", "Which study?"),
        (("quick",), "0", "4", "Task 0 of an array of 4 is no shard: the array must be 1-N."),
        (("quick",), "3", "1", "Task 3 of an array of 1 is no shard: the array must be 1-N. Try: sbatch --array=1-3"),
    ],
)
def test_an_array_that_makes_no_shards_is_said(arguments: tuple[str, ...], task: str, count: str, words: str) -> None:
    env = programs(Path("bin").resolve(), "nfbench")
    array = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": count}
    _, code, out, said = sbatch("study.sbatch", *arguments, **env, **array)
    assert code == 2 and not out and words in said


def test_sigterm_to_a_task_of_an_array_ends_nfbench_with_143() -> None:
    Path("mine.toml").write_text(STUDY.replace("max_time = 1", "max_time = 1e9\nmin_steps = 1000000000"))
    binary = Path("bin").resolve()
    binary.mkdir()
    (binary / "nfbench").write_text(f'#!/usr/bin/env bash\nexec {sys.executable} -m nfbench "$@"\n')
    (binary / "nfbench").chmod(0o755)
    env = {"PATH": f"{binary}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}
    command = ["bash", str(SLURM / "study.sbatch"), "mine.toml", "--device", "fake", "--out", "o.jsonl"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | env)
    assert child.stderr is not None
    for line in child.stderr:
        if line.rstrip().endswith("timing"):
            # a live line would come after five seconds only; blocks of the fake device take none
            time.sleep(0.5)
            break
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 143, said
    assert [r.status for r in load([Path("o.jsonl")]).results] == ["interrupted"]


def test_torchrun_is_started_once_a_node_and_all_meet_at_the_first() -> None:
    binary = Path("bin").resolve()
    env = programs(binary, "srun")
    (binary / "scontrol").write_text('#!/usr/bin/env bash\n[ "$*" = "show hostnames n[1-2]" ] && printf "n1\\nn2\\n"\n')
    (binary / "scontrol").chmod(0o755)
    job = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    process, code, out, said = sbatch("distributed.sbatch", **env, **job)
    assert (code, out.split()) == (
        0,
        f"{process} srun --kill-on-bad-exit=1 torchrun --nnodes=2 --nproc-per-node=gpu --rdzv-backend=c10d "
        "--rdzv-endpoint=n1:23456 --rdzv-id=123456 -m nfbench step-time --model nfnet-f0 --batch 4096".split(),
    ), said
    *_, out, _ = sbatch("distributed.sbatch", "accuracy", "--model", "nfnet-f0", **env, **job)
    assert out.endswith("-m nfbench accuracy --model nfnet-f0\n")
