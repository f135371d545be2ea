"""One net on several devices: two real processes on this CPU, joined by gloo, and what can be said without them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import torch.distributed
from conftest import Cli
from make import H200, result

import nfbench
from nfbench.analysis import findings, metrics
from nfbench.analysis.store import load
from nfbench.devices import base, ranks
from nfbench.devices.base import RANK_VARIABLES, Failure, World, place
from nfbench.devices.ranks import Guard
from nfbench.errors import Terminated, UnsupportedWorkload
from nfbench.measuring.outcome import merged
from nfbench.records import Conditions, Result, StepTime, accumulation_steps, reading, to_json

HERE = Path(__file__).parent
ROOT = Path(nfbench.__file__).parent.parent
LONGEST = 240


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


class Found(NamedTuple):
    """What the two ranks of `two_ranks` found, and the folder with what they kept."""

    ranks: list[dict[str, Any]]
    folder: Path

    def said(self, name: str, rank: int = 0) -> tuple[int, str, str]:
        code, out, err = self.ranks[rank]["said"][name]
        return code, out, err

    def kept(self, name: str) -> Result:
        (one,) = load([self.folder / name]).results
        return one


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    folder = tmp_path_factory.mktemp("two_ranks")
    env = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
    env |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "FREE_PORTS": " ".join(map(str, free_ports(2)))}
    # a lock that no other timing on this machine holds
    env |= {"NFBENCH_TEST_LOCKS": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(HERE / "two_ranks.py")],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    yield Found([json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)], folder)


def test_two_ranks_take_the_step_of_one_process_with_the_whole_batch(found: Found) -> None:
    for rank in found.ranks:
        assert max(rank["tiny-nfnet 4"], rank["tiny-nfnet 2"]) < 1e-9
        # a net with batch normalization takes another one
        assert rank["tiny-resnet 4"] > 0.01
        # the clip comes after the gradients are reduced
        assert rank["clipped"] < 1e-9
    # the ranks agree after ascents of their own
    first, second = (rank["sam"] for rank in found.ranks)
    assert first == second and any(first)
    # an update begins with rank 0's buffers, or with each rank's own
    for broadcast, of_rank_1 in ((True, 0.0), (False, 1.0)):
        first, second = (rank[f"buffers {broadcast}"] for rank in found.ranks)
        assert first == pytest.approx([0.0] * len(first), abs=1e-9)
        assert second == pytest.approx([of_rank_1] * len(second), abs=1e-9)


def test_rank_0_keeps_one_result_with_every_ranks_readings(found: Found) -> None:
    kept = found.kept("steps")
    assert kept.status == "ok" and kept.step.world_size == 2 and kept.step.batch == 8
    assert kept.resolved is not None
    assert (kept.resolved.micro_batch, kept.resolved.backend, kept.resolved.nodes) == (4, "gloo", 1)
    assert accumulation_steps(kept.step, kept.resolved) == 1
    for name in ("step_time", "forward", "backward", "peak_rss", "loss", "all_reduce", "unsynchronized_step"):
        assert [r.rank for r in kept.each(name)] == [0, 1], name
    first, second = kept.each("step_time")
    assert len(first.values) == len(second.values) and first.values != second.values
    for name in ("macs", "params", "steps", "gradient_bytes"):
        assert [r.rank for r in kept.each(name)] == [0], name
    assert kept.value("gradient_bytes") == 4 * (kept.value("params") or 0)


def test_only_rank_0_speaks(found: Found) -> None:
    code, out, err = found.said("step-time")
    assert code == 0 and "1 result in steps" in err
    assert "8 (2 ranks × 4)" in out and "all-reduce alone" in out and "slowest rank" in out
    for name in found.ranks[1]["said"]:
        assert found.said(name, rank=1) == (-signal.SIGKILL if name == "killed" else 0, "", "")


def test_a_step_too_long_for_the_cap_is_composed_of_each_ranks_passes(found: Found) -> None:
    kept = found.kept("composed")
    assert kept.composed and not kept.step.broadcast_buffers
    assert kept.resolved is not None and accumulation_steps(kept.step, kept.resolved) == 256
    assert (kept.value("passes") or 0) >= 3
    estimate = metrics.seconds(kept)
    assert estimate is not None and estimate > sum(kept.each("forward")[0].finite)


def test_a_run_learns_on_the_ranks_shares_and_counts_the_whole_test_set(found: Found) -> None:
    kept = found.kept("runs")
    assert kept.status == "ok" and kept.run.world_size == 2
    assert kept.value("updates") == 1437 // 64 and kept.value("images_seen") == 1437 // 64 * 64
    top1, images = kept.value("top1"), kept.resolved.training.test_images  # type: ignore[union-attr]
    assert top1 is not None and abs(top1 * images - round(top1 * images)) < 1e-6
    assert [r.rank for r in kept.each("train_time")] == [0, 1]
    assert [r.rank for r in kept.each("top1")] == [0]
    # one that goes on is the same run
    again = found.kept("again")
    assert (kept.id, top1) == (again.id, again.value("top1"))
    assert "goes on after epoch 1 of 1" in found.said("again")[2]


def test_ranks_stream_shares_of_the_same_batches(found: Found) -> None:
    first, second = (rank["streamed"] for rank in found.ranks)
    for epoch in range(3):
        together = [a + b for a, b in zip(first[epoch], second[epoch], strict=True)]
        assert [len(set(batch)) for batch in together] == [8] * 5
        assert len({label for batch in together for label in batch}) == 40
    assert first[0] == first[1] != first[2]
    # whole test batches of one process, none of them twice
    assert [len(batch) for batch in (*first[3], *second[3])] == [8, 5, 8]
    assert sorted(label for batch in (*first[3], *second[3]) for label in batch) == list(range(21))


def test_what_cannot_be_is_worded_once(found: Found) -> None:
    code, _, err = found.said("sync_batch")
    assert code == 1
    assert err.splitlines() == [
        "--norm sync_batch does not run on a CPU.",
        "torch's SyncBatchNorm is for CUDA only.",
        "Try: --norm batch",
    ]
    code, _, err = found.said("cuda:0")
    assert code == 1 and err.startswith("--device cuda:0 is one GPU, and torchrun started 2 processes.")


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [("memory", "out_of_memory", "rank 1: MemoryError: no more"), ("killed", "error", "rank 1: it is gone: killed")],
)
def test_a_rank_that_fails_leaves_one_row(found: Found, how: str, status: str, message: str) -> None:
    row = found.kept(how)
    assert row.status == status and row.message is not None and row.message.startswith(message)
    assert row.resolved is not None and row.reading("first_step") is not None
    code, _, err = found.said(how)
    assert code == 5 and row.message in err and f"1 result in {how}" in err


def under_torchrun(monkeypatch: pytest.MonkeyPatch, rank: int = 0) -> None:
    given = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(base, "OTHERS_END", 0.0)


@pytest.mark.parametrize(
    ("args", "said", "try_"),
    [
        (("step-time", "--batch", 15), "--batch 15 does not divide over 2 ranks.", "--batch 14 or 16"),
        (("accuracy", "--batch", 1), "--batch 1 does not divide over 2 ranks.", "--batch 2"),
        (
            ("step-time", "--batch", 32, "--micro-batch", 32),
            "--micro-batch 32 does not divide the 16 images of --batch 32 that each of 2 ranks takes.",
            "--micro-batch 16, or --micro-batch auto",
        ),
        (
            ("step-time", "--rounds", 2),
            "--rounds 2 starts fresh processes, and torchrun has started these 2.",
            "without",
        ),
        (
            ("step-time", "--sam", 0.05, "--sam-scope", "batch"),
            "--sam-scope batch is of one process",
            "--sam-scope micro",
        ),
        (("step-time", "--device", "fake"), "The fake device is one process.", "nfbench without torchrun"),
    ],
)
def test_what_ranks_cannot_share_is_refused(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, args: tuple[object, ...], said: str, try_: str
) -> None:
    under_torchrun(monkeypatch)
    done = cli(*args, "--model", "tiny-nfnet")
    assert done.exit_code == 1 and done.stderr.startswith(said) and f"\nTry: {try_}" in done.stderr


@pytest.mark.parametrize("command", ["run", "compare", "check", "agc-cost", "table", "env"])
def test_other_commands_are_not_for_torchrun(cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    under_torchrun(monkeypatch)
    done = cli(command)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"torchrun started 2 processes, which `nfbench {command}` cannot share.")
    assert f"Try: nfbench {command} without torchrun" in done.stderr


def test_torchruns_last_words_are_the_message(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    under_torchrun(monkeypatch)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    said = cli("step-time", "--batch", 15, "--model", "tiny-nfnet").stderr.strip()
    told = json.loads((tmp_path / "error.json").read_text())["message"]
    assert told["message"] == said == told["extraInfo"]["py_callstack"]
    # a rank that is not the first says nothing and ends well
    under_torchrun(monkeypatch, rank=1)
    done = cli("step-time", "--batch", 15, "--model", "tiny-nfnet")
    assert (done.exit_code, done.output) == (0, "")


def test_a_workload_of_several_ranks_is_not_measured_by_one_process() -> None:
    from nfbench.devices.cpu import Cpu

    device = Cpu()
    with pytest.raises(UnsupportedWorkload, match="The workload is of 2 ranks, and this is 1"):
        device.resolve(StepTime(model="tiny-nfnet", world_size=2))

    # the ranks of a machine share one lock on its cores
    class Second(World):
        rank = local_rank = 1

    assert device.lock_name() == "cpu"
    device.world = Second()
    assert device.lock_name() is None


def test_what_ranks_have_in_common_stands_once() -> None:
    class Two(World):
        """Two ranks, of which the other has sent its result."""

        size = 2

        def __init__(self, other: Result) -> None:
            self.other = other

        def gather(self, value: bytes) -> list[bytes]:
            return [value, to_json(self.other)]

    own = result(readings=(reading("loss", "1", "run", "t", [1.0]), reading("macs", "MAC", "run", "t", [9.0])))
    throttled = Conditions(throttle=("hw_slowdown",))
    other = result(
        readings=(reading("loss", "1", "run", "t", [math.nan]), reading("macs", "MAC", "run", "t", [9.0])),
        status="diverged",
        machine=H200,
        conditions=throttled,
    )
    both = merged(Two(other), own)
    assert [(r.name, r.rank) for r in both.readings] == [("loss", 0), ("macs", 0), ("loss", 1)]
    assert both.status == "diverged" and both.conditions.throttle == ("hw_slowdown",)
    assert both.notes["machines"] == "A CPU, NVIDIA H200"
    assert merged(World(), own) is own
    same = merged(Two(own), own)
    assert "machines" not in same.notes
    told = [str(f) for f in findings.of(msgspec.structs.replace(same, notes=both.notes))]
    assert any("different devices" in text for text in told)


def test_torchrun_is_known_by_all_of_its_variables() -> None:
    given = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert place(given | {"LOCAL_WORLD_SIZE": "2"}) == (3, 4, 1, 2, 2)
    assert place(given) == (3, 4, 1, 1, 4)
    # one process shares nothing, and a scheduler sets some of them for its own ends
    assert place(given | {"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert all(place({k: v for k, v in given.items() if k != name}) is None for name in given)
    assert place(given | {"RANK": "first"}) is None


class Quiet(Guard):
    """A guard that leaves signals as they are, and looks at nothing by itself."""

    def _go_deaf(self) -> None:
        return None


def two_guards() -> tuple[Any, Quiet, Quiet]:
    """The guards of two ranks, and the store by which they speak."""
    store = torch.distributed.HashStore()
    return store, Quiet(0, 2, store), Quiet(1, 2, store)


def test_the_first_failure_is_the_cause_of_the_others() -> None:
    _, first, second = two_guards()
    assert second.blame(Failure(1, "out_of_memory", "no more")) == ("out_of_memory", "rank 1: no more")
    assert first.blame(Failure(0, "error", "Connection closed by peer")) == ("out_of_memory", "rank 1: no more")


class Late:
    """A main thread of rank 0 that comes out of a long call only while the guard, which has kept a row after another
    rank's failure, says its last words."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> None:
        self.error, self.kept, self.codes = error, list[str](), list[int]()
        self.inside, self.saying, self.left, self.end = (threading.Event() for _ in range(4))
        _, self.guard, _ = two_guards()
        monkeypatch.setattr(ranks, "GRACE", 0.0)
        monkeypatch.setattr(ranks, "last_words", lambda said: self.saying.set() or self.end.wait(LONGEST))
        monkeypatch.setattr(ranks.os, "_exit", self._exit)

    def run(self) -> None:
        self.guard.tell(Failure(1, "out_of_memory", "no more"))
        threading.Thread(target=self._main, daemon=True).start()
        assert self.inside.wait(LONGEST)
        ending = threading.Thread(target=self._guard, daemon=True)
        ending.start()
        assert not self.left.wait(0.3)
        self.end.set()
        ending.join(LONGEST)

    def _guard(self) -> None:
        with contextlib.suppress(SystemExit):
            self.guard._end(False)

    def _exit(self, code: int) -> None:
        self.codes.append(code)
        raise SystemExit

    def _main(self) -> None:
        """As `Measurement` does."""
        try:
            with self.guard.keeping(lambda status, message: self.kept.append(f"guard: {status}")):
                self.inside.set()
                self.saying.wait(LONGEST)
                if self.error is not None:
                    raise self.error
        except MemoryError:
            self.guard.blame(Failure(0, "error", "no more"))
        except Terminated:
            self.guard.blame_stop()
        except UnsupportedWorkload:
            pass
        self.kept.append("main")
        self.left.set()


@pytest.mark.parametrize("error", [None, MemoryError(), Terminated(), UnsupportedWorkload("no")], ids=repr)
def test_who_ends_after_the_guard_keeps_no_row(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> None:
    late = Late(monkeypatch, error)
    late.run()
    assert (late.kept, late.codes) == (["guard: out_of_memory"], [5])


def test_a_main_thread_that_failed_first_keeps_the_row_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "GRACE", 0.0)
    (_, own, _), kept = two_guards(), list[str]()
    with contextlib.suppress(MemoryError), own.keeping(lambda status, message: kept.append(status)):
        raise MemoryError
    ending = threading.Thread(target=own._end, args=(True,))
    ending.start()
    ending.join(LONGEST)
    assert own.blame(Failure(0, "out_of_memory", "no more")) == ("out_of_memory", "rank 0: no more")
    own.ended()
    assert kept == []


def test_a_lost_connection_is_blamed_on_a_process_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "GRACE", 0.3)
    store, own, _ = two_guards()
    lost = Failure(0, "error", "Connection closed by peer")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    store.set("pid/1", json.dumps([socket.gethostname(), ended.pid]))
    assert own.blame(lost)[1].startswith("rank 1: it is gone: killed")


def test_a_signal_is_an_interruption_and_a_rank_that_was_told_to_stop_is_not_gone() -> None:
    store, own, other = two_guards()
    assert own.blame_stop() == other.blame_stop() == ("interrupted", None)
    store.set("pid/1", json.dumps([socket.gethostname(), 2**22 + 1]))
    assert own.gone() is None


def test_a_failed_rank_stays_until_rank_0_has_written_its_row() -> None:
    _, first, second = two_guards()
    order: list[str] = []
    waiting = threading.Thread(target=lambda: (second.ended(), order.append("rank 1 leaves")))
    waiting.start()
    order.append("rank 0 writes")
    first.ended()
    waiting.join(10)
    assert order == ["rank 0 writes", "rank 1 leaves"]
