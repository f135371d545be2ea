"""`nfbench accuracy`: what lands where, however a run ends, and what each bad input is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli

from nfbench.analysis.store import load
from nfbench.devices import cpu
from nfbench.errors import BadData, Terminated
from nfbench.learning import fake_training
from nfbench.learning.fake_training import FakeLearner
from nfbench.records import Result

FAKE = ["--device", "fake", "--epochs", 3, "--out", "o.jsonl"]


def stored() -> list[Result]:
    """Sorted, since two fake runs may begin in the same millisecond."""
    return sorted(load([Path("o.jsonl")]).results, key=lambda r: (r.workload.model, r.seed))


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the fake device raise ``error`` at an epoch of a seed, or no longer where that is None; gives the seeds
    whose run was closed."""
    closed: list[int] = []

    def at(seed: int, epoch: int, error: BaseException | None) -> list[int]:
        class Breaking(FakeLearner):
            def train(self, number: int, until: float) -> Any:
                if error is not None and (self.seed, number) == (seed, epoch):
                    raise error
                return super().train(number, until)

            def close(self) -> None:
                closed.append(self.seed)

        closed.clear()
        monkeypatch.setattr(fake_training, "FakeLearner", Breaking)
        return closed

    return at


def test_each_seed_is_a_line_and_stdout_has_the_answer_the_tables_and_how_many_notes_there_are(cli: Cli) -> None:
    done = cli("accuracy", "--model", "tiny-nfnet", *FAKE, "--seeds", 3, "--seed", 5)
    assert done.exit_code == 0, done.output
    assert [(r.seed, r.status, r.workload.model) for r in stored()] == [(s, "ok", "tiny-nfnet") for s in (5, 6, 7)]
    assert len({r.id for r in stored()}) == 3
    assert len(Path("o.jsonl").read_text().splitlines()) == 3
    # one net: its epochs first, then the net
    assert [line.split()[0] for line in done.stdout.splitlines() if line[:5].strip().isdigit()] == ["1", "2", "3"]
    answer, *_, notes = done.stdout.splitlines()
    assert answer.startswith("On fake: tiny-nfnet has a top-1 of 87.5") and " on digits after 3 epochs" in answer
    assert notes == "1 note: nfbench table o.jsonl --notes shows it."
    assert any(line.startswith("tiny-nfnet ") and "87.50 %" in line for line in done.stdout.splitlines())
    assert "3 results in o.jsonl\nNext: nfbench table o.jsonl · nfbench plot o.jsonl\n" in done.stderr
    assert "tiny-nfnet, seed 6: epoch 2 of 3: top-1 75.0 %" in done.stderr
    assert "results in" not in done.stdout


def test_several_nets_are_a_row_each_and_their_checkpoints_have_folders(cli: Cli) -> None:
    nets = ["--model", "tiny-nfnet", "--model", "tiny-resnet"]
    done = cli("accuracy", *nets, *FAKE, "--seeds", 2, "--checkpoint", "ck", "--format", "json", "--quiet")
    runs = [(model, seed) for model in ("tiny-nfnet", "tiny-resnet") for seed in (0, 1)]
    assert [(r.workload.model, r.seed) for r in stored()] == runs
    assert [row["model"] for row in json.loads(done.stdout)] == ["tiny-nfnet", "tiny-resnet"]
    assert sorted(str(p) for p in Path("ck").rglob("*.pt")) == [f"ck/{model}/seed-{seed}.pt" for model, seed in runs]
    assert "epoch 1 of 3" not in done.stderr


def test_a_run_that_diverged_is_an_outcome_and_no_failure(cli: Cli) -> None:
    nets = ["--model", "tiny-nfnet", "--model", "tiny-resnet"]
    done = cli("accuracy", *nets, *FAKE, "--agc", "none", "--lr", 0.1)
    assert done.exit_code == 0, done.output
    assert [r.status for r in stored()] == ["diverged", "ok"]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("tiny-nfnet"))
    assert line.split()[-2:] == ["diverged", "12"]
    assert "! tiny-nfnet: Diverged: the loss of update 12 is nan." in done.stdout
    assert cli("accuracy", "--model", "tiny-nfnet", *FAKE, "--agc", "none", "--lr", 0.1, "--seeds", 2).exit_code == 0


@pytest.mark.parametrize(
    ("error", "code", "status", "message", "words"),
    [
        (
            RuntimeError("mat1 of /home/alice/net.py\nat 0x7f"),
            5,
            "error",
            "RuntimeError: mat1 of net.py",
            "2 results in o.jsonl\n1 of 1 workload failed: tiny-nfnet.\n",
        ),
        (MemoryError("no more"), 5, "out_of_memory", "MemoryError: no more", "1 of 1 workload failed: tiny-nfnet.\n"),
        (BadData("No pictures."), 1, "error", "No pictures.", "2 results in o.jsonl\n{again}No pictures.\n"),
        (KeyboardInterrupt(), 130, "interrupted", None, "2 results in o.jsonl\n{again}Interrupted.\n"),
        (Terminated(), 143, "interrupted", None, "2 results in o.jsonl\n{again}Terminated.\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_however_a_run_ends_its_epochs_are_kept_and_the_same_command_goes_on(
    error: BaseException, code: int, status: str, message: str | None, words: str, cli: Cli, broken: Any
) -> None:
    args = ["accuracy", "--model", "tiny-nfnet", *FAKE, "--seeds", 2, "--checkpoint", "ck"]
    closed = broken(1, 2, error)
    done = cli(*args)
    assert (done.exit_code, closed) == (code, [0, 1]), done.output
    again = "" if status == "error" else "The same command goes on from there.\n"
    assert done.stderr.endswith(words.format(again=again)), done.stderr
    whole, cut_off = stored()
    assert (whole.status, cut_off.status, cut_off.message) == ("ok", status, message)
    assert cut_off.reading("top1").values == (0.5, 0.75)  # type: ignore[union-attr]
    assert cut_off.resolved is not None and cut_off.value("macs") == 2**20
    if "The traceback is in " in done.stderr:
        traceback = Path(done.stderr.split("The traceback is in ")[1].split(".txt")[0] + ".txt")
        assert type(error).__name__ in traceback.read_text()
        traceback.unlink()

    broken(1, 2, None)
    done = cli(*args)
    assert done.exit_code == 0, done.output
    assert "tiny-nfnet: goes on after epoch 2 of 3." in done.stderr
    # four lines, but two runs, of which both have learnt the same
    first, second = stored()
    assert (first.status, second.status) == ("ok", "ok") and first.readings == second.readings
    assert (second.id, second.start) == (cut_off.id, cut_off.start)
    assert len(Path("o.jsonl").read_text().splitlines()) == 4


def test_before_its_first_epoch_an_interrupted_run_is_a_row_and_a_worded_error_none(cli: Cli, broken: Any) -> None:
    args = ["accuracy", "--model", "tiny-nfnet", *FAKE, "--seeds", 3]
    broken(1, 0, BadData("No pictures."))
    assert cli(*args).exit_code == 1
    assert [(r.seed, r.status) for r in stored()] == [(0, "ok")]
    Path("o.jsonl").unlink()
    broken(1, 0, KeyboardInterrupt())
    done = cli(*args)
    assert done.exit_code == 130 and "With --checkpoint DIR it would go on." in done.stderr
    assert [(r.seed, r.status, r.reading("top1") is None) for r in stored()] == [
        (0, "ok", False),
        (1, "interrupted", True),
    ]


# bad input


def refused(done: Any, words: str) -> None:
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith(words), done.stderr
    assert done.stdout == "" and "Traceback" not in done.output
    assert not Path("results").exists() and not list(Path.cwd().glob("*.jsonl"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--dataset imagefolder:", "--dataset imagefolder names no folder.\nIt needs one with train/ and val/, "),
        ("--epochs -1", "--epochs -1 is negative.\nTry: --epochs 10, or 0 to evaluate only"),
        ("--epochs 0", "--epochs 0 evaluates weights, and none are given.\nTry: --weights published, or --weights"),
        ("--micro-batch 24", "--micro-batch 24 does not divide --batch 64."),
        ("--test-px 0", "--test-px 0 is not positive.\nTry: --test-px 224, or auto"),
        ("--lr 0", "--lr 0 is not positive.\nTry: --lr 0.1, or --lr auto"),
        ("--decay-rate inf", "--decay-rate inf is no finite number."),
        ("--drop-rate 1", "--drop-rate 1 is not from 0 to below 1.\nTry: --drop-rate 0.1"),
        ("--momentum nan", "--momentum nan is not from 0 to below 1."),
        ("--warmup-epochs -1", "--warmup-epochs -1 is negative.\nTry: --warmup-epochs auto"),
        ("--warmup-epochs 20", "--warmup-epochs 20 is more than --epochs 10."),
        ("--norm frozen", "--norm frozen trains nothing worth an accuracy"),
        ("--randaugment-layers 2", "--randaugment-layers is of an augmentation that was not asked for.\nTry: --augm"),
        ("--augment randaugment --randaugment-layers 0", "--randaugment-layers 0 is too small.\nTry: --randaugment"),
        ("--weights none.pth", "There is no file of weights none.pth.\nTry: --weights published, or --weights with"),
        ("--weights .", "--weights . is a folder.\nTry: --weights with a file in it"),
    ],
)
def test_bad_input_gets_one_worded_message_and_writes_nothing(flags: str, words: str, cli: Cli) -> None:
    model = [] if "--model" in flags else ["--model", "tiny-nfnet"]
    refused(cli("accuracy", *model, "--device", "fake", "--quiet", *flags.split()), words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--batch 2048", "--batch 2048 is more than the 1437 training images of digits.\nTry: --batch 256"),
        ("--micro-batch 1", "--micro-batch 1 does not train tiny-resnet-s."),
        ("--dataset mnist --data-dir none", "The data folder none does not exist.\nTry: --data-dir FOLDER"),
        ("--dataset imagefolder:none", "The folder "),
        ("--weights other.pth", "other.pth: these are weights of another net than tiny-resnet-s."),
        ("--weights seven.pth --epochs 0", "The weights tell 7 classes apart, digits has 10."),
    ],
)
def test_what_data_weights_or_net_cannot_do_is_worded(
    flags: str, words: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu.Cpu, "lock_name", lambda self: None)
    for name, classes in (("other", 10), ("seven", 7)):
        torch.save({"fc.weight": torch.zeros(classes, 3), "fc.bias": torch.zeros(classes)}, f"{name}.pth")
    model = [] if "--model" in flags else ["--model", "tiny-resnet-s"]
    refused(cli("accuracy", *model, "--device", "cpu", "--epochs", 1, "--quiet", *flags.split()), words)
