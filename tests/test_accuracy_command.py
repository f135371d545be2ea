"""`nfbench accuracy`: what lands where, on the fake device, and what each bad input is told."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli

from nfbench.analysis.store import load
from nfbench.devices import cpu
from nfbench.errors import BadData
from nfbench.learning.fake_training import FakeLearner
from nfbench.records import Result

FAKE = ["--device", "fake", "--epochs", 3, "--out", "o.jsonl"]


def stored() -> list[Result]:
    """Sorted, since two fake runs may begin in the same millisecond."""
    return sorted(load([Path("o.jsonl")]).results, key=lambda r: (r.workload.model, r.seed))


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the fake device's ``train`` another function."""

    def learn(train: Any) -> None:
        monkeypatch.setattr(fake_training, "FakeLearner", type("Learner", (FakeLearner,), {"train": train}))

    return learn


def test_each_seed_is_a_line_and_the_table_is_the_only_thing_on_stdout(cli: Cli) -> None:
    done = cli("accuracy", "--model", "tiny-nfnet", *FAKE, "--seeds", 3, "--seed", 5)
    assert done.exit_code == 0, done.output
    assert [(r.seed, r.status, r.workload.model) for r in stored()] == [(s, "ok", "tiny-nfnet") for s in (5, 6, 7)]
    assert len({r.id for r in stored()}) == 3
    assert len(Path("o.jsonl").read_text().splitlines()) == 3
    # one net: its epochs first, then the net
    assert [line.split()[0] for line in done.stdout.splitlines() if line[:5].strip().isdigit()] == ["1", "2", "3"]
    assert done.stdout.splitlines()[-1].startswith("tiny-nfnet ") and "87.50 %" in done.stdout.splitlines()[-1]
    assert "3 results in o.jsonl\nNext: nfbench table o.jsonl · nfbench plot o.jsonl\n" in done.stderr
    assert "tiny-nfnet, seed 6: epoch 2 of 3: top-1 75.0 %" in done.stderr
    assert "results in" not in done.stdout


def test_results_land_in_a_folder_of_the_device(cli: Cli) -> None:
    done = cli("accuracy", "--model", "tiny-nfnet", "--device", "fake", "--epochs", 1, "--quiet")
    (path,) = Path("results/fake/accuracy").glob("*.jsonl")
    assert f"1 result in {path}" in done.stderr and "epoch 1 of 1" not in done.stderr


def test_several_nets_are_a_row_each_and_named_twice_is_once(cli: Cli) -> None:
    nets = ["--model", "tiny-nfnet", "--model", "tiny-resnet", "--model", "tiny-nfnet"]
    done = cli("accuracy", *nets, *FAKE, "--seeds", 2, "--checkpoint", "ck", "--format", "json")
    assert [(r.workload.model, r.seed) for r in stored()] == [
        (model, seed) for model in ("tiny-nfnet", "tiny-resnet") for seed in (0, 1)
    ]
    assert [row["model"] for row in json.loads(done.stdout)] == ["tiny-nfnet", "tiny-resnet"]
    assert sorted(str(p) for p in Path("ck").rglob("*.pt")) == [
        f"ck/{model}/seed-{seed}.pt" for model in ("tiny-nfnet", "tiny-resnet") for seed in (0, 1)
    ]


def test_a_run_that_diverged_is_an_outcome_and_no_failure(cli: Cli) -> None:
    nets = ["--model", "tiny-nfnet", "--model", "tiny-resnet"]
    done = cli("accuracy", *nets, *FAKE, "--agc", "none", "--lr", 0.1)
    assert done.exit_code == 0, done.output
    assert [r.status for r in stored()] == ["diverged", "ok"]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("tiny-nfnet"))
    assert line.split()[-2:] == ["diverged", "12"]
    assert "Diverged: the loss of update 12 is nan." in done.stderr


def test_all_that_diverged_is_no_failure_either(cli: Cli) -> None:
    done = cli("accuracy", "--model", "tiny-nfnet", *FAKE, "--agc", "none", "--lr", 0.1, "--seeds", 2)
    assert done.exit_code == 0, done.output
    assert [r.status for r in stored()] == ["diverged"] * 2


def test_a_run_that_failed_leaves_the_others_and_exit_code_5(cli: Cli, learner: Any) -> None:
    def train(self: FakeLearner, epoch: int, until: float) -> Any:
        if self.seed == 1:
            raise RuntimeError("it broke")
        return FakeLearner.train(self, epoch, until)

    learner(train)
    done = cli("accuracy", "--model", "tiny-nfnet", *FAKE, "--seeds", 3)
    assert done.exit_code == 5, done.output
    assert [r.status for r in stored()] == ["ok", "error", "ok"]
    assert done.stderr.endswith("3 results in o.jsonl\n1 of 1 workload failed: tiny-nfnet.\n")
    where = done.stderr.split("The traceback is in ")[1].split(".txt")[0] + ".txt"
    assert "RuntimeError: it broke" in Path(where).read_text()
    Path(where).unlink()


def test_the_time_s_end_keeps_the_epochs_before_it(cli: Cli) -> None:
    done = cli("accuracy", "--model", "tiny-nfnet", *FAKE, "--max-time", "2s")
    (result,) = stored()
    assert (result.status, result.message) == ("timeout", "--max-time was reached after 2 of 3 epochs")
    assert done.exit_code == 5


def test_an_interrupted_run_keeps_what_there_is_and_goes_on_when_it_is_typed_again(cli: Cli, learner: Any) -> None:
    def train(self: FakeLearner, epoch: int, until: float) -> Any:
        if (self.seed, epoch) == (1, 2):
            raise KeyboardInterrupt
        return FakeLearner.train(self, epoch, until)

    args = ["accuracy", "--model", "tiny-nfnet", *FAKE, "--seeds", 2, "--checkpoint", "ck"]
    learner(train)
    done = cli(*args)
    assert done.exit_code == 130 and done.stdout == ""
    assert done.stderr.endswith("2 results in o.jsonl\nThe same command goes on from there.\nInterrupted.\n")
    assert [r.status for r in stored()] == ["ok", "interrupted"]
    learner(FakeLearner.train)
    done = cli(*args)
    assert done.exit_code == 0
    assert "tiny-nfnet: goes on after epoch 2 of 3." in done.stderr
    # four lines, but two runs
    assert [(r.seed, r.status) for r in stored()] == [(0, "ok"), (1, "ok")]
    assert len(Path("o.jsonl").read_text().splitlines()) == 4


def test_a_worded_error_in_the_midst_keeps_the_seeds_before_it(cli: Cli, learner: Any) -> None:
    def train(self: FakeLearner, epoch: int, until: float) -> Any:
        if self.seed == 1:
            raise BadData("More than 1 % of the pictures cannot be read.")
        return FakeLearner.train(self, epoch, until)

    learner(train)
    done = cli("accuracy", "--model", "tiny-nfnet", *FAKE, "--seeds", 3)
    assert done.exit_code == 1
    assert [(r.seed, r.status) for r in stored()] == [(0, "ok")]
    assert done.stderr.endswith("1 result in o.jsonl\nMore than 1 % of the pictures cannot be read.\n")


@pytest.mark.parametrize("format", ["csv", "json"])
def test_csv_and_json_hold_raw_values_and_nothing_else(format: str, cli: Cli) -> None:
    done = cli("accuracy", "--model", "tiny-resnet", *FAKE, "--seeds", 2, "--format", format, "--target", "75%")
    (row,) = json.loads(done.stdout) if format == "json" else list(csv.DictReader(io.StringIO(done.stdout)))
    assert (row["model"], row["kind"], row["status"]) == ("tiny-resnet", "accuracy", "ok")
    assert [float(row[name]) for name in ("top1", "target", "time_to_target", "wall_time", "throughput", "gap")] == [
        0.875,
        0.75,
        2.0,
        3.0,
        1024.0,
        1 / 64,
    ]


def test_every_value_of_the_recipe_is_in_the_record(cli: Cli) -> None:
    cli("accuracy", "--model", "tiny-nfnet", *FAKE, "--batch", 128, "--lr", 0.04, "--agc", 0.02)
    (result,) = stored()
    assert result.run.lr == 0.04 and result.run.batch == 128 and result.run.momentum == "auto"
    assert result.resolved is not None and result.resolved.agc == 0.02
    assert result.resolved.training is not None
    assert (result.resolved.training.lr, result.resolved.training.momentum) == (0.04, 0.9)


# bad input, which needs no net to be told


def refused(done: Any, words: str) -> None:
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith(words), done.stderr
    assert done.stdout == "" and "Traceback" not in done.output
    assert not Path("results").exists() and not list(Path.cwd().glob("*.jsonl"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model", "tiny-nfnetz"], "There is no net called 'tiny-nfnetz'."),
        (
            ["--dataset", "fashion-mnits"],
            "There is no data set called 'fashion-mnits'.\nThe nearest: fashion-mnist.\nTry: fashion-mnist",
        ),
        (
            ["--dataset", "imagefolder"],
            "--dataset imagefolder names no folder.\n"
            "It needs one with train/ and val/, a folder for each class in both.\n"
            "Try: --dataset imagefolder:PATH",
        ),
        (["--dataset", "imagefolder:"], "--dataset imagefolder names no folder."),
        (["--epochs", -1], "--epochs -1 is negative.\nTry: --epochs 10, or 0 to evaluate only"),
        (
            ["--epochs", 0],
            "--epochs 0 evaluates weights, and none are given.\nTry: --weights published, or --weights FILE",
        ),
        (["--batch", 0], "--batch 0 is not positive."),
        (["--px", 0], "--px 0 is not positive."),
        (["--test-px", 0], "--test-px 0 is not positive.\nTry: --test-px 224, or auto"),
        (["--micro-batch", 24], "--micro-batch 24 does not divide --batch 64."),
        (["--agc", 0], "--agc 0 is not positive.\nTry: --agc 0.01, or --agc none not to clip"),
        (["--agc", "none", "--agc-impl", "timm"], "--agc-impl timm is of a clip that --agc none leaves out."),
        (["--sam", 0], "--sam 0 is not positive."),
        (["--sam-fraction", "50%"], "--sam-fraction and --sam-scope are of an ascent that was not asked for."),
        (["--ema", 1], "--ema 1 is not between 0 and 1."),
        (["--lr", 0], "--lr 0 is not positive.\nTry: --lr 0.1, or --lr auto"),
        (["--lr", "nan"], "--lr nan is not positive."),
        (["--lr", "inf"], "--lr inf is not positive."),
        (["--drop-rate", 1], "--drop-rate 1 is not from 0 to below 1.\nTry: --drop-rate 0.1"),
        (["--drop-path", -0.1], "--drop-path -0.1 is not from 0 to below 1."),
        (["--momentum", "nan"], "--momentum nan is not from 0 to below 1."),
        (["--label-smoothing", 1.5], "--label-smoothing 1.5 is not from 0 to below 1."),
        (["--warmup-epochs", -1], "--warmup-epochs -1 is negative.\nTry: --warmup-epochs auto"),
        (["--weight-decay", -1], "--weight-decay -1 is negative."),
        (["--mixup", -1], "--mixup -1 is negative."),
        (["--cutmix", -0.5], "--cutmix -0.5 is negative."),
        (
            ["--randaugment-layers", 2],
            "--randaugment-layers is of an augmentation that was not asked for.\nTry: --augment randaugment with it",
        ),
        (["--augment", "flip", "--randaugment-magnitude", 2], "--randaugment-magnitude is of an augmentation that"),
        (
            ["--augment", "randaugment", "--randaugment-layers", 0],
            "--randaugment-layers 0 is too small.\nTry: --randaugment-layers 2",
        ),
        (
            ["--weights", "none.pth"],
            "There is no file of weights none.pth.\nTry: --weights published, or --weights with the path of a file",
        ),
        (["--weights", "."], "--weights . is a folder.\nTry: --weights with a file in it"),
        (["--device", "tpu"], "There is no device 'tpu'."),
        (["--out", "file/o.jsonl"], "Results cannot be written to file/o.jsonl: file is no folder."),
        (["--checkpoint", "file/ck"], "Checkpoints cannot be written to file/ck: Not a directory."),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_worded_message_and_writes_nothing(args: list[object], words: str, cli: Cli) -> None:
    Path("file").write_text("")
    own = [] if "--model" in args else ["--model", "tiny-nfnet"]
    refused(cli("accuracy", *own, "--device", "fake", "--quiet", *args), words)


@pytest.mark.parametrize(
    "args",
    [["--seeds", 0], ["--seed", -1], ["--epochs", "many"], ["--lr", "quick"], ["--augment", "all"], ["--max-time", 0]],
    ids=lambda args: " ".join(map(str, args)),
)
def test_a_wrong_type_is_wrong_usage(args: list[object], cli: Cli) -> None:
    assert cli("accuracy", "--model", "tiny-nfnet", "--device", "fake", *args).exit_code == 2


def test_a_net_must_be_named(cli: Cli) -> None:
    done = cli("accuracy", "--device", "fake")
    assert done.exit_code == 2 and "Missing option '--model'" in done.stderr


def test_a_checkpoint_of_another_run_is_refused_and_stays(cli: Cli) -> None:
    cli("accuracy", "--model", "tiny-nfnet", *FAKE, "--checkpoint", "ck")
    Path("o.jsonl").unlink()
    before = Path("ck/seed-0.pt").read_bytes()
    for args, words in (
        (["--model", "tiny-resnet", *FAKE], "ck/seed-0.pt is a checkpoint of tiny-nfnet, not of tiny-resnet."),
        (
            ["--model", "tiny-nfnet", *FAKE, "--lr", 0.5],
            "ck/seed-0.pt is a checkpoint of a run with --lr auto, not 0.5.",
        ),
    ):
        refused(cli("accuracy", *args, "--checkpoint", "ck", "--quiet"), words)
    assert Path("ck/seed-0.pt").read_bytes() == before


# bad input, told by the data, the net or the weights


def idx(values: bytes, *sides: int) -> bytes:
    """A gzip'd idx file of unsigned bytes."""
    return gzip.compress(struct.pack(f">{1 + len(sides)}I", 0x800 + len(sides), *sides) + values, 1)


def write_mnist(folder: Path, labels: list[int]) -> None:
    folder.mkdir(parents=True)
    count = len(labels)
    for part in ("train", "t10k"):
        pixels = bytes(place % 251 for place in range(count * 28 * 28))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(pixels, count, 28, 28))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(bytes(labels), count))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("ran"), "")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ["--batch", 2048],
            "--batch 2048 is more than the 1437 training images of digits.\nTry: --batch 256",
        ),
        (["--model", "timm:vgg11", "--px", 8], "timm:vgg11 does not run at 8 px"),
        (
            ["--optimizer", "sdg"],
            "timm has no optimizer called 'sdg'.\nThe nearest is sgd.\nTry: --optimizer sgd",
        ),
        (["--batch", 63, "--mixup", 0.2], "--batch 63 is odd.\nMixUp and CutMix blend images in pairs."),
        (["--dataset", "mnist", "--data-dir", "none"], "The data folder none does not exist.\nTry: --data-dir FOLDER"),
        (
            ["--dataset", "mnist", "--data-dir", "bad"],
            "bad/mnist/train-labels-idx1-ubyte.gz: label 12 at place 9 (counted from 0) is none of the 10 classes",
        ),
        (
            ["--dataset", "cifar10", "--data-dir", "bad"],
            "CIFAR-10 is not here: found no cifar-10-python.tar.gz or folder cifar-10-batches-py.\nLooked in bad, ",
        ),
        (["--dataset", "imagefolder:none"], "The folder "),
        (["--weights", "evil.pth"], "evil.pth is refused: to open it would run code stored in it."),
        (["--weights", "file"], "file is empty."),
        (["--precision", "tf32"], "--precision tf32 is an arithmetic of NVIDIA GPUs; this is a CPU."),
        (["--norm", "sync_batch"], "--norm sync_batch does not run on a CPU."),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_the_data_or_the_net_cannot_do_is_worded_too(
    args: list[object], words: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu.Cpu, "lock_name", lambda self: None)
    Path("file").write_text("")
    write_mnist(Path("bad/mnist"), [*range(9), 12])
    torch.save({"state_dict": Evil()}, "evil.pth")
    own = [] if "--model" in args else ["--model", "tiny-resnet-s"]
    refused(cli("accuracy", *own, "--device", "cpu", "--epochs", 1, "--quiet", *args), words)
    assert not Path("ran").exists()


def test_values_that_nothing_would_use_are_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.Cpu, "lock_name", lambda self: None)
    for flags, words in (
        (("--alpha", 0.5), "--alpha is of RMSProp; the run has sgd and a cosine schedule."),
        (("--optimizer", "adamw", "--momentum", 0.8), "--momentum is of an optimizer with momentum; the run has adamw"),
        (("--decay-rate", 0.5), "--decay-rate is of an exponential schedule; the run has sgd and a cosine schedule."),
        (("--micro-batch", 1), "--micro-batch 1 does not train tiny-resnet-s."),
    ):
        refused(cli("accuracy", "--model", "tiny-resnet-s", "--device", "cpu", "--quiet", *flags), words)


def test_weights_of_another_net_are_named_by_their_file(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.Cpu, "lock_name", lambda self: None)
    torch.save({"fc.weight": torch.zeros(10, 3), "fc.bias": torch.zeros(10)}, "other.pth")
    done = cli("accuracy", "--model", "tiny-resnet-s", "--device", "cpu", "--quiet", "--weights", "other.pth")
    refused(done, "other.pth: these are weights of another net than tiny-resnet-s.")
