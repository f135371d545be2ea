"""Checkpoints: written whole or not at all, of one run alone, and weights like any other file's."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest
import torch
from make import CPU, H200, TRAINING

from nfbench.catalog.models import find
from nfbench.devices.cpu import Cpu
from nfbench.errors import BadResults
from nfbench.learning import weights
from nfbench.learning.checkpoint import FORMAT, Checkpoints
from nfbench.learning.fake_training import FakeCheckpoints
from nfbench.learning.fit import Run
from nfbench.learning.learner import Sources
from nfbench.records import Accuracy, Resolved, Result, Sampling

RUN = Accuracy(model="tiny-resnet-s", epochs=4)
RESOLVED = Resolved(px=32, micro_batch=64, precision="fp32", layout="nhwc", threads=2, training=TRAINING)
STATE = {
    "machine": msgspec.to_builtins(CPU),
    "epoch": 1,
    "log": {"top1": [0.5]},
    "state_dict": {"weight": torch.arange(8.0)},
}
FOLDER = Path("ck")
FILE = FOLDER / "seed-0.pt"


def of(workload: Accuracy = RUN, seed: int = 0) -> Checkpoints:
    return Checkpoints(FOLDER, workload, seed)


def refusal(store: Checkpoints) -> BadResults:
    """What loading says; nothing is changed by it."""
    before = {path: path.read_bytes() for path in FOLDER.iterdir()}
    with pytest.raises(BadResults) as caught:
        store.load()
    assert {path: path.read_bytes() for path in FOLDER.iterdir()} == before
    return caught.value


@pytest.fixture
def saved() -> Path:
    of().save(RESOLVED, STATE)
    return FILE


def test_what_was_saved_is_loaded(saved: Path) -> None:
    found = of().load()
    assert found is not None
    assert (found["epoch"], found["log"], found["seed"]) == (1, {"top1": [0.5]}, 0)
    assert torch.equal(found["state_dict"]["weight"], torch.arange(8.0))
    of().goes_on(found, RESOLVED, CPU)


def test_a_folder_without_a_checkpoint_is_made_and_gives_none() -> None:
    store = Checkpoints(Path("new/deep"), RUN, 0)
    assert store.load() is None and Path("new/deep").is_dir()


def test_it_holds_no_code(saved: Path) -> None:
    held = torch.load(saved, weights_only=True)
    assert held["workload"] == msgspec.to_builtins(RUN)
    assert held["format"] == FORMAT


# another run's


def test_a_checkpoint_of_another_net_names_both(saved: Path) -> None:
    error = refusal(of(msgspec.structs.replace(RUN, model="tiny-nfnet-s")))
    assert str(error) == (
        "ck/seed-0.pt is a checkpoint of tiny-resnet-s, not of tiny-nfnet-s.\n"
        "Nothing was changed in it.\n"
        "Try: another --checkpoint folder"
    )


def test_a_checkpoint_of_other_settings_names_each_with_both_values(saved: Path) -> None:
    error = refusal(of(msgspec.structs.replace(RUN, epochs=8, lr=0.5, micro_batch=32)))
    assert str(error) == (
        "ck/seed-0.pt is a checkpoint of a run with --epochs 4, not 8, --lr auto, not 0.5, --micro-batch auto, not 32."
        "\nOnly the same run can go on from it; nothing was changed in it."
        "\nTry: the same settings, or another --checkpoint folder"
    )


def test_a_folder_of_another_run_is_refused_for_a_new_seed_too(saved: Path) -> None:
    error = refusal(of(msgspec.structs.replace(RUN, batch=128), seed=7))
    assert error.what == "ck/seed-0.pt is a checkpoint of a run with --batch 64, not 128."
    assert of(seed=7).load() is None


def test_a_checkpoint_that_was_renamed_is_not_another_seed_s(saved: Path) -> None:
    saved.rename(FOLDER / "seed-3.pt")
    assert refusal(of(seed=3)).what == "ck/seed-3.pt is of seed 0."


@pytest.mark.parametrize(
    ("resolved", "words"),
    [
        (msgspec.structs.replace(RESOLVED, threads=8), "--threads 2, not 8"),
        (
            msgspec.structs.replace(RESOLVED, training=msgspec.structs.replace(TRAINING, data="4567", test_images=9)),
            "--data 0123, not 4567, --test-images 500, not 9",
        ),
    ],
)
def test_other_data_or_another_machine_is_another_run(saved: Path, resolved: Resolved, words: str) -> None:
    found = of().load()
    assert found is not None
    with pytest.raises(BadResults) as caught:
        of().goes_on(found, resolved, CPU)
    assert str(caught.value) == (
        f"ck/seed-0.pt was written where {words}: going on from it would be another run."
        "\nTry: another --checkpoint folder"
    )


def test_a_run_does_not_go_on_on_another_machine(saved: Path) -> None:
    found = of().load()
    assert found is not None
    with pytest.raises(BadResults) as caught:
        of().goes_on(found, RESOLVED, H200)
    assert str(caught.value) == (
        "ck/seed-0.pt was written on another machine (A CPU, this is NVIDIA H200).\n"
        "A result holds the times of one.\n"
        "Try: another --checkpoint folder; --weights takes the weights of this one"
    )


# no checkpoint, or a broken one


def test_a_file_that_was_cut_off_anywhere_says_what_to_type(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in {0, 1, 4, *range(64, len(whole) - 1, len(whole) // 16), len(whole) - 1}:
        saved.write_bytes(whole[:length])
        assert str(refusal(of())) == (
            "ck/seed-0.pt is no checkpoint of nfbench, or was cut off.\nTry: rm ck/seed-0.pt, to begin that seed anew"
        ), length


@pytest.mark.parametrize("content", [b"epoch,top1\n1,0.5\n", b"\x80\x02}q\x00.", bytes(range(256)), b"PK\x03\x04rest"])
def test_any_other_file_is_no_checkpoint(content: bytes, saved: Path) -> None:
    saved.write_bytes(content)
    assert refusal(of()).what.startswith("ck/seed-0.pt is no checkpoint of nfbench")


@pytest.mark.parametrize(
    "held",
    [
        {"weight": torch.zeros(2)},
        [1, 2],
        {"format": 1, "seed": 0, "workload": {"kind": "step-time", "model": "resnet50"}, "resolved": {}},
        {"format": 1, "seed": 0, "workload": {"kind": "accuracy", "model": "resnet50", "epochs": "x"}, "resolved": {}},
    ],
)
def test_a_file_of_torch_that_holds_something_else_is_no_checkpoint(held: Any, saved: Path) -> None:
    torch.save(held, saved)
    assert str(refusal(of())) == "ck/seed-0.pt is no checkpoint of nfbench.\nTry: another --checkpoint folder"


@pytest.mark.parametrize("version", [FORMAT + 1, "two"])
def test_a_newer_nfbench_s_checkpoint_is_not_guessed_at(version: Any, saved: Path) -> None:
    torch.save(torch.load(saved, weights_only=True) | {"format": version}, saved)
    assert str(refusal(of())) == ("ck/seed-0.pt was written by a newer nfbench.\nTry: pip install --upgrade nfbench")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("ran"), "")


def test_no_code_of_a_checkpoint_is_run(saved: Path) -> None:
    torch.save(torch.load(saved, weights_only=True) | {"log": Evil()}, saved)
    assert "is no checkpoint of nfbench, or was cut off." in refusal(of()).what
    assert not Path("ran").exists()
    torch.load(saved, weights_only=False)
    assert Path("ran").exists()  # so it would have been


# a disk that cannot be written


def test_a_folder_that_cannot_be_is_said_before_anything_is_trained() -> None:
    Path("file").write_text("")
    for folder, why in (("file", "File exists"), ("file/below", "Not a directory")):
        with pytest.raises(BadResults) as caught:
            Checkpoints(Path(folder), RUN, 0)
        assert str(caught.value) == (
            f"Checkpoints cannot be written to {folder}: {why}.\nTry: --checkpoint with another folder"
        )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_said_too() -> None:
    FOLDER.mkdir(mode=0o500)
    with pytest.raises(BadResults, match=r"Checkpoints cannot be written to ck\.\nTry: --checkpoint"):
        of()


@pytest.fixture
def short_files() -> Iterator[None]:
    """Files end at 4 KiB, which the kernel tells whoever writes on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


LARGE = STATE | {"epoch": 2, "state_dict": {"weight": torch.zeros(10_000)}}


@pytest.mark.parametrize("kind", [Checkpoints, FakeCheckpoints])
def test_a_disk_that_is_full_midway_leaves_the_last_one(kind: type[Checkpoints], short_files: None) -> None:
    store = kind(FOLDER, RUN, 0)
    small = {"epoch": 1, "log": {}}
    store.save(RESOLVED, small)
    before = FILE.read_bytes()
    with pytest.raises(BadResults) as caught:
        store.save(RESOLVED, small | {"log": {"top1": [0.5] * 10_000}})
    assert str(caught.value).startswith("Checkpoints cannot be written to ck: ")
    assert str(caught.value).endswith(".\nTry: --checkpoint with another folder")
    assert "\n" not in caught.value.what
    assert FILE.read_bytes() == before and list(FOLDER.iterdir()) == [FILE]
    found = store.load()
    assert found is not None and found["epoch"] == 1


class Full(Checkpoints):
    """A disk with no space left after the first bytes."""

    def write(self, content: dict[str, Any], file: BinaryIO) -> None:
        file.write(b"PK")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Killed(Checkpoints):
    def write(self, content: dict[str, Any], file: BinaryIO) -> None:
        file.write(b"PK")
        raise KeyboardInterrupt


def test_a_save_that_does_not_end_leaves_nothing_of_itself(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(BadResults, match=r"Checkpoints cannot be written to ck: No space left on device\."):
        Full(FOLDER, RUN, 0).save(RESOLVED, LARGE)
    with pytest.raises(KeyboardInterrupt):
        Killed(FOLDER, RUN, 0).save(RESOLVED, LARGE)
    assert saved.read_bytes() == before and list(FOLDER.iterdir()) == [saved]


def test_what_a_killed_process_left_half_written_is_cleared_away(saved: Path) -> None:
    (FOLDER / "seed-0.4711.part").write_bytes(b"PK")
    (FOLDER / "seed-1.4711.part").write_bytes(b"PK")
    found = of().load()
    assert found is not None and found["epoch"] == 1
    assert sorted(p.name for p in FOLDER.iterdir()) == ["seed-0.pt", "seed-1.4711.part"]


def test_the_next_one_replaces_the_last(saved: Path) -> None:
    of().save(RESOLVED, LARGE)
    found = of().load()
    assert found is not None and found["epoch"] == 2
    assert list(FOLDER.iterdir()) == [saved]


# as weights


class Unlocked(Cpu):
    def lock_name(self) -> str | None:
        return None


def test_its_weights_score_what_the_run_scored() -> None:
    trained = Accuracy(model="tiny-resnet-s", px=8, batch=256, epochs=2, ema=0.9)
    kept: list[Result] = []
    Run(Unlocked(), trained, Sampling(), kept.append, sources=Sources(checkpoint="ck")).run()
    held = torch.load(FILE, weights_only=True)
    loaded = weights.load(find("tiny-resnet-s"), str(FILE))
    assert loaded.classes == 10 and loaded.ema is not None and loaded.config is not None
    assert loaded.config["input_size"][-1] == 8
    assert all(torch.equal(loaded.state[name], tensor) for name, tensor in held["state_dict"].items())
    assert all(torch.equal(loaded.ema[name], tensor) for name, tensor in held["state_dict_ema"].items())
    only = Accuracy(model="tiny-resnet-s", batch=256, epochs=0, weights=loaded.source)
    Run(Unlocked(), only, Sampling(), kept.append, sources=Sources(weights=str(FILE))).run()
    before, after = kept
    assert before.status == after.status == "ok"
    for name in ("top1", "top5", "ema_top1", "ema_top5", "batch_top1"):
        assert after.value(name) == before.reading(name).values[-1], name  # type: ignore[union-attr]
    assert after.notes["weights"] == loaded.source and str(Path.cwd()) not in str(after)
    assert after.resolved is not None and after.resolved.training is not None
    assert after.resolved.training.test_px == 8
