"""Checkpoints: written whole or not at all, of one run alone, and without code."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest
import torch
from make import CPU, H200, TRAINING

from nfbench.errors import BadResults
from nfbench.learning.checkpoint import FORMAT, Checkpoints
from nfbench.learning.fake_training import FakeCheckpoints
from nfbench.records import Accuracy, Machine, Resolved

RUN = Accuracy(model="tiny-resnet-s", epochs=4)
RESOLVED = Resolved(px=32, micro_batch=64, precision="fp32", layout="nhwc", threads=2, training=TRAINING)
STATE = {
    "machine": msgspec.to_builtins(CPU),
    "epoch": 1,
    "log": {"top1": [0.5]},
    "state_dict": {"weight": torch.arange(8.0)},
}
LARGE = STATE | {"epoch": 2, "state_dict": {"weight": torch.zeros(10_000)}}
FOLDER = Path("ck")
FILE = FOLDER / "seed-0.pt"


def of(workload: Accuracy = RUN, seed: int = 0) -> Checkpoints:
    return Checkpoints(FOLDER, workload, seed)


def refusal(store: Checkpoints) -> str:
    """What loading says; nothing is changed by it."""
    before = {path: path.read_bytes() for path in FOLDER.iterdir()}
    with pytest.raises(BadResults) as caught:
        store.load()
    assert {path: path.read_bytes() for path in FOLDER.iterdir()} == before
    return str(caught.value)


@pytest.fixture
def saved() -> Path:
    of().save(RESOLVED, STATE)
    return FILE


def test_what_was_saved_last_is_loaded_and_holds_no_code(saved: Path) -> None:
    content = of().load()
    assert content is not None
    assert (content["epoch"], content["log"], content["seed"]) == (1, {"top1": [0.5]}, 0)
    assert torch.equal(content["state_dict"]["weight"], torch.arange(8.0))
    of().goes_on(content, RESOLVED, CPU)
    raw = torch.load(saved, weights_only=True)
    assert (raw["workload"], raw["format"]) == (msgspec.to_builtins(RUN), FORMAT)
    of().save(RESOLVED, LARGE)
    content = of().load()
    assert content is not None and content["epoch"] == 2
    assert list(FOLDER.iterdir()) == [saved]


def test_a_folder_without_a_checkpoint_is_made_and_gives_none() -> None:
    assert Checkpoints(Path("new/deep"), RUN, 0).load() is None and Path("new/deep").is_dir()


# another run's


@pytest.mark.parametrize(
    ("changed", "seed", "words"),
    [
        ({"model": "tiny-nfnet-s"}, 0, "ck/seed-0.pt is a checkpoint of tiny-resnet-s, not of tiny-nfnet-s."),
        ({"epochs": 8, "lr": 0.5}, 0, "a run with --epochs 4, not 8, --lr auto, not 0.5."),
        # a new seed's too
        ({"batch": 128}, 7, "ck/seed-0.pt is a checkpoint of a run with --batch 64, not 128."),
    ],
)
def test_another_runs_checkpoint_names_what_differs(
    changed: dict[str, Any], seed: int, words: str, saved: Path
) -> None:
    assert words in refusal(of(msgspec.structs.replace(RUN, **changed), seed))


def test_a_seed_s_checkpoint_is_not_another_s(saved: Path) -> None:
    assert of(seed=7).load() is None
    saved.rename(FOLDER / "seed-3.pt")
    assert refusal(of(seed=3)).startswith("ck/seed-3.pt is of seed 0.")


OTHER_DATA = msgspec.structs.replace(TRAINING, data="4567", test_images=9)


@pytest.mark.parametrize(
    ("resolved", "machine", "words"),
    [
        (msgspec.structs.replace(RESOLVED, threads=8), CPU, "where --threads 2, not 8: going on from it would be"),
        (msgspec.structs.replace(RESOLVED, training=OTHER_DATA), CPU, "where --data 0123, not 4567, --test-images"),
        (RESOLVED, H200, "on another machine (A CPU, this is NVIDIA H200).\nA result holds the times of one.\nTry:"),
    ],
)
def test_no_run_goes_on_with_other_data_or_elsewhere(
    saved: Path, resolved: Resolved, machine: Machine, words: str
) -> None:
    content = of().load()
    assert content is not None
    with pytest.raises(BadResults) as caught:
        of().goes_on(content, resolved, machine)
    assert str(caught.value).startswith(f"ck/seed-0.pt was written {words}")


# no checkpoint, or a broken one


def test_a_file_that_was_cut_off_anywhere_says_what_to_type(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in {0, 1, 4, *range(64, len(whole) - 1, len(whole) // 16), len(whole) - 1}:
        saved.write_bytes(whole[:length])
        assert refusal(of()) == (
            "ck/seed-0.pt is no checkpoint of nfbench, or was cut off.\nTry: rm ck/seed-0.pt, to begin that seed anew"
        ), length


@pytest.mark.parametrize(
    "content",
    [
        b"epoch,top1\n1,0.5\n",
        b"\x80\x02}q\x00.",
        b"PK\x03\x04rest",
        {"weight": torch.zeros(2)},
        [1, 2],
        {"format": 1, "seed": 0, "workload": {"kind": "step-time", "model": "resnet50"}, "resolved": {}},
        {"format": 1, "seed": 0, "workload": {"kind": "accuracy", "model": "resnet50", "epochs": "x"}, "resolved": {}},
    ],
)
def test_any_other_file_is_no_checkpoint(content: Any, saved: Path) -> None:
    saved.write_bytes(content) if isinstance(content, bytes) else torch.save(content, saved)
    assert refusal(of()).startswith("ck/seed-0.pt is no checkpoint of nfbench")


@pytest.mark.parametrize("version", [FORMAT + 1, "two"])
def test_a_newer_nfbench_s_checkpoint_is_not_guessed_at(version: Any, saved: Path) -> None:
    torch.save(torch.load(saved, weights_only=True) | {"format": version}, saved)
    assert refusal(of()) == "ck/seed-0.pt was written by a newer nfbench.\nTry: pip install --upgrade nfbench"


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("ran"), "")


def test_a_checkpoint_that_unpacks_beyond_the_machine_is_refused_before_memory_is_taken(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nfbench.learning.checkpoint.memory_available", lambda: 100)
    monkeypatch.setattr(torch, "load", None)
    assert "bytes, more than this machine has free" in refusal(of())


def test_no_code_of_a_checkpoint_is_run(saved: Path) -> None:
    torch.save(torch.load(saved, weights_only=True) | {"log": Evil()}, saved)
    assert "is no checkpoint of nfbench, or was cut off." in refusal(of())
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


@pytest.fixture
def short_files() -> Iterator[None]:
    """Files end at 4 KiB, which the kernel tells whoever writes on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", [Checkpoints, FakeCheckpoints])
def test_a_disk_that_is_full_midway_leaves_the_last_one(kind: type[Checkpoints], short_files: None) -> None:
    store = kind(FOLDER, RUN, 0)
    small = {"epoch": 1, "log": {}}
    store.save(RESOLVED, small)
    before = FILE.read_bytes()
    with pytest.raises(BadResults, match=r"^Checkpoints cannot be written to ck: .*\.\nTry: --checkpoint with another"):
        store.save(RESOLVED, small | {"log": {"top1": [0.5] * 10_000}})
    assert FILE.read_bytes() == before and list(FOLDER.iterdir()) == [FILE]
    content = store.load()
    assert content is not None and content["epoch"] == 1


def test_a_save_that_is_stopped_leaves_nothing_of_itself(saved: Path) -> None:
    class Stopped(Checkpoints):
        def write(self, content: dict[str, Any], file: BinaryIO) -> None:
            file.write(b"PK")
            raise KeyboardInterrupt

    before = saved.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        Stopped(FOLDER, RUN, 0).save(RESOLVED, LARGE)
    assert saved.read_bytes() == before and list(FOLDER.iterdir()) == [saved]


def test_what_a_killed_process_left_half_written_is_cleared_away(saved: Path) -> None:
    for name in ("seed-0.4711.part", ".seed-1.pt.0123abcd.part"):
        (FOLDER / name).write_bytes(b"PK")
        os.utime(FOLDER / name, (0, 0))
    content = of().load()
    assert content is not None and content["epoch"] == 1
    assert sorted(p.name for p in FOLDER.iterdir()) == ["seed-0.pt"]
