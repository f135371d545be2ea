"""A study on a real card: each workload in a process of its own, resumed, and nothing left on the card."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
import torch
from conftest import Cli

from nfbench.analysis.store import load

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def on_a_card() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")


STUDY = """
title = "T"
question = "Q?"
[[step-time]]
model = ["tiny-nfnet", "tiny-resnet"]
batch = 8
layout = "nhwc"
max_time = 1
[[compare]]
net = "tiny-nfnet"
baseline = "tiny-resnet"
layout = "nhwc"
rounds = 1
turns = 2
turn_time = 1
max_time = 3
[[agc-cost]]
model = "tiny-nfnet"
max_time = 1
[[accuracy]]
model = "tiny-nfnet-s"
dataset = "digits"
epochs = 1
seeds = 2
"""


def test_a_study_runs_every_kind_once_and_leaves_nothing_on_the_card(cli: Cli) -> None:
    Path("mine.toml").write_text(STUDY)
    command = ("run", "mine.toml", "--device", "cuda", "--quiet", "--out", "here")
    done = cli(*command)
    assert done.exit_code == 0, done.output
    results = load([Path("here")]).results
    # a simulated GPU computes no loss: it is what memory that was used before holds
    ends = {"ok", "diverged"} if results[0].machine.simulated else {"ok"}
    assert {r.status for r in results} <= ends and {r.machine.device for r in results} == {"cuda"}
    assert all(r.value("peak_allocated") for r in results if r.reading("step_time"))
    again = cli(*command)
    assert again.exit_code == 0 and "6 workloads had been done before" in again.stderr
    assert len(load([Path("here")]).results) == len(results)
    left = [p for p in psutil.Process(os.getpid()).children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    assert [p for p in left if "nfbench.studies.worker" in " ".join(p.cmdline())] == []


def test_a_batch_sweep_ends_in_accumulation_or_at_the_largest_batch(cli: Cli) -> None:
    # images so large that few batches fit before the sweep ends
    step = ("--model", "tiny-resnet", "--px", 384, "--layout", "nhwc", "--max-time", 1)
    done = cli("batch-sweep", *step, "--device", "cuda", "--quiet", "--out", "here")
    assert done.exit_code == 0, done.output
    results = load([Path("here")]).results
    assert [r.step.batch for r in results][:3] == [2, 4, 8]
    assert {r.status for r in results} <= {"ok", "out_of_memory"}
