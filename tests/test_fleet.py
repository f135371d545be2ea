"""Which nodes of a cluster run a study, and what becomes of its tasks, on nodes that are made up."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from make import FAKE, SOFTWARE, Quiet, result

from nfbench import __version__
from nfbench.analysis import findings
from nfbench.errors import NfbenchError
from nfbench.learning.sources import Sources
from nfbench.measuring import lock
from nfbench.records import Accuracy, Machine, Result, Sampling, StepTime
from nfbench.showing.board import Board
from nfbench.studies import cluster, fleet, remote
from nfbench.studies.entry import Entry, Task, tasks
from nfbench.studies.execute import Found, Home, Wanted
from nfbench.studies.fleet import Fleet
from nfbench.studies.messages import Hello
from nfbench.studies.nodes import Lost, Need, Node, Nodes, Seen
from nfbench.studies.remote import Asked, Report


class MadeUp:
    """Stands for `nfbench.studies.nodes.Nodes`: a task is done when it is asked for, and ``answer`` says how."""

    def __init__(self, nodes: Sequence[Node], seen: Seen, answer: Callable[[Asked], Report] | None = None) -> None:
        self.nodes, self.seen, self.answer = list(nodes), seen, answer
        self.needs: list[Need] = []
        self.most = 0
        self.asked: dict[int, Any] = {}
        self.cancelled: list[int] = []
        self.heed: Callable[[], None] = lambda: None

    def __enter__(self) -> MadeUp:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def alive(self) -> list[Node]:
        return self.nodes

    def look(self, nodes: Sequence[Node], device: str, sources: object) -> dict[Node, Seen]:
        return {node: node_seen(node, self.seen) for node in nodes}

    def hand_out(self, function: str, argument: object, need: Need) -> int:
        self.needs.append(need)
        self.asked[len(self.needs)] = None if function == "hello" else argument
        return len(self.needs)

    def ended(self, refs: Collection[int]) -> list[int]:
        self.most = max(self.most, len(refs))
        return list(refs)[:1]

    def result(self, ref: int) -> bytes:
        asked = self.asked[ref]
        if asked is None:
            return msgspec.json.encode(Hello(machine=FAKE, software=SOFTWARE))
        assert self.answer is not None
        return msgspec.json.encode(self.answer(asked))

    def cancel(self, refs: Collection[int]) -> None:
        self.cancelled += refs


def node_seen(node: Node, seen: Seen) -> Seen:
    kind = node.accelerator
    return seen._replace(name=kind.partition(":")[2]) if kind else seen


SEEN = Seen(__version__, "3.12", "fake", None)
CPUS = [Node(f"n{n}", f"10.0.0.{n}", 0, 4) for n in range(2)]


def gpus(kind: str | None, *counts: int) -> list[Node]:
    return [
        Node(f"{kind}{n}", "10.0.1.1", count, 8, kind and f"accelerator_type:{kind}") for n, count in enumerate(counts)
    ]


def measured(asked: Asked) -> Report:
    workload = asked.task.workload
    row = result(workload.model, workload=workload, machine=FAKE, software=SOFTWARE, seed=asked.task.seed)
    return Report(results=(row,))


def steps(*batches: int) -> list[Task]:
    return tasks([Entry("step-time", (StepTime(model="tiny-nfnet", batch=b),), Sampling()) for b in batches])


class Run:
    """A study on made-up nodes, with all that was kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nodes: MadeUp) -> None:
        monkeypatch.setattr(cluster, "Nodes", lambda address: nodes)
        self.board = Quiet()
        self.kept: list[Result] = []

    def __call__(self, todo: Sequence[Task], earlier: Sequence[Result] = (), wanted: Wanted | None = None) -> Found:
        return cluster.distribute(
            todo,
            address="auto",
            device="fake",
            keep=self.kept.extend,
            board=self.board,
            home=lambda machine: Home(Path(), earlier),
            study="s",
            kind="fake",
            wanted=wanted,
        )


# nodes


def made(nodes: Sequence[Node], device: str = "cuda", seen: Seen = SEEN, notes: list[str] | None = None) -> Fleet:
    found: Any = MadeUp(nodes, seen)
    return Fleet(found, device, [], (notes if notes is not None else []).append)


def test_a_timing_takes_a_whole_gpu_and_a_training_run_half_of_one() -> None:
    found = made(gpus("H200", 8, 4))
    assert found.room() == 12
    assert found.need(1.0) == Need(1.0, 0)
    assert found.need(cluster.SHARE) == Need(0.5, 0)


def test_a_timing_takes_all_cpus_of_a_node_that_has_no_gpu_to_be_timed() -> None:
    found = made(CPUS, "cpu")
    assert found.room() == 2
    assert found.need(1.0) == Need(0, 4.0)
    assert [made([CPUS[0]._replace(cpus=n)], "cpu").need(cluster.SHARE).cpus for n in (1, 2, 3)] == [0.5, 1, 1]


def test_of_two_kinds_of_gpu_the_more_numerous_runs_the_study_and_it_is_said() -> None:
    notes: list[str] = []
    found = made([*gpus("A100", 4), *gpus("H200", 4, 4)], notes=notes)
    assert (found.name, found.room()) == ("H200", 8)
    assert found.need(1.0).accelerator == "accelerator_type:H200"
    assert notes == ["The nodes are of several kinds (1 × A100, 2 × H200); the study runs on those with H200."]


def test_kinds_that_ray_cannot_tell_apart_are_refused() -> None:
    found: Any = MadeUp(CPUS, SEEN)
    found.look = lambda nodes, device, sources: {n: SEEN._replace(name=f"CPU {n.id}") for n in nodes}
    with pytest.raises(NfbenchError, match="of several kinds: 1 × CPU n0, 1 × CPU n1") as error:
        Fleet(found, "cpu", [], lambda text: None)
    assert "--shard 1/2 on one kind" in error.value.try_


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Seen("0.0.1", "3.12", "", None), f"The node 10.0.0.0 has nfbench 0.0.1, this is nfbench {__version__}."),
        (Seen(None, "3.12", "", None), "The node 10.0.0.0 has no nfbench in its Python 3.12"),
        (
            SEEN._replace(missing="The data folder /data does not exist."),
            "The node 10.0.0.0: The data folder /data does not exist.",
        ),
    ],
)
def test_a_node_that_cannot_do_it_is_named(seen: Seen, words: str) -> None:
    with pytest.raises(NfbenchError) as error:
        made(CPUS, "cpu", seen)
    assert error.value.what.startswith(words)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"torch": "2.14.0"}, "has torch 2.14.0 (the first, 10.0.0.0, has torch 2.15.0)"),
        ({"timm": None}, "has timm none (the first, 10.0.0.0, has timm 1.0.31)"),
        ({"cuda": "12.8"}, "has cuda 12.8 (the first, 10.0.0.0, has cuda 13.0)"),
        ({"python": "3.13.1"}, "has python 3.13 (the first, 10.0.0.0, has python 3.12)"),
        ({"commit": "0123456789"}, "has commit 0123456 (the first, 10.0.0.0, has commit abcdef0)"),
        ({"dirty": True}, "has commit abcdef0+ (the first, 10.0.0.0, has commit abcdef0)"),
    ],
)
def test_nodes_of_other_software_are_refused_before_anything_is_handed_out(other: dict[str, Any], said: str) -> None:
    own = msgspec.structs.replace(SOFTWARE, cuda="13.0", python="3.12.4", commit="abcdef0123", dirty=False)
    nodes: Any = MadeUp([*CPUS, Node("n2", "10.0.0.2", 0, 4)], SEEN)
    theirs = {"n0": own, "n1": msgspec.structs.replace(own, python="3.12.9")}
    changed = msgspec.structs.replace(own, **other)
    nodes.look = lambda nodes, device, sources: {n: SEEN._replace(software=theirs.get(n.id, changed)) for n in nodes}
    with pytest.raises(NfbenchError) as error:
        Fleet(nodes, "cpu", [], lambda text: None)
    assert error.value.what == f"The nodes have different software: the node 10.0.0.2 {said}."
    assert "Nothing was handed out" in error.value.why and not nodes.needs


def test_nodes_of_another_kind_that_run_nothing_may_have_other_software() -> None:
    nodes: Any = MadeUp([*gpus("A100", 4), *gpus("H200", 4, 4)], SEEN)
    old = msgspec.structs.replace(SOFTWARE, torch="2.14.0")

    def look(nodes: Sequence[Node], device: str, sources: object) -> dict[Node, Seen]:
        return {n: node_seen(n, SEEN)._replace(software=old if "A100" in n.id else SOFTWARE) for n in nodes}

    nodes.look = look
    assert Fleet(nodes, "cuda", [], lambda text: None).name == "H200"


def test_a_cluster_without_a_gpu_is_said() -> None:
    with pytest.raises(NfbenchError, match="No node of the Ray cluster has a GPU to give") as error:
        made(CPUS)
    assert error.value.try_ == "--device cpu"


# tasks


def test_all_tasks_run_as_many_at_once_as_the_nodes_bear(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = MadeUp(CPUS, SEEN, measured)
    run = Run(monkeypatch, nodes)
    found = run(steps(*range(1, 7)))
    assert [rows is not None and len(rows) for rows in found.results] == [1] * 6
    assert (found.ran, found.before, nodes.most, len(run.kept)) == (6, 0, 2, 6)


def test_what_has_ended_is_never_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = MadeUp(CPUS, SEEN, measured)
    Run(monkeypatch, nodes)(steps(1, 2, 3))
    assert nodes.cancelled == []


def test_what_was_done_on_a_machine_of_the_same_name_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    todo = steps(1, 2)
    other = Machine(device="fake", name="fake", cpu_cores=64)
    done = result(workload=todo[0].workload, machine=other, software=SOFTWARE)
    run = Run(monkeypatch, MadeUp(CPUS, SEEN, measured))
    found = run(todo, [done])
    assert (found.ran, found.before) == (1, 1)
    # under the machine that measured it
    assert found.results[0] == [done]


def test_a_task_that_is_lost_again_and_again_becomes_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(asked: Asked) -> Report:
        if asked.task.workload.model == "tiny-nfnet" and asked.task.entry.workloads[0].batch == 2:  # type: ignore[union-attr]
            raise Lost("NodeDiedError")
        return measured(asked)

    nodes = MadeUp(CPUS, SEEN, answer)
    run = Run(monkeypatch, nodes)
    found = run(steps(1, 2, 3))
    assert [rows and rows[0].status for rows in found.results] == ["ok", "error", "ok"]
    (row,) = found.results[1] or []
    assert row.message == "its node, or its process there, was lost 3 times: NodeDiedError"
    assert (row.study, row.machine, row.software) == ("s", FAKE, SOFTWARE)
    said = "tiny-nfnet, batch 2 was lost with its node (NodeDiedError). It is handed out again."
    assert run.board.notes.count(said) == cluster.LOSSES - 1


def test_what_a_node_measured_with_other_software_is_not_kept_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(asked: Asked) -> Report:
        report = measured(asked)
        if asked.task.entry.workloads[0].batch != 2:  # type: ignore[union-attr]
            return report
        other = msgspec.structs.replace(SOFTWARE, torch="2.14.0")
        return Report(results=tuple(msgspec.structs.replace(r, software=other) for r in report.results))

    run = Run(monkeypatch, MadeUp(CPUS[:1], SEEN, answer))
    with pytest.raises(NfbenchError) as error:
        run(steps(1, 2, 3))
    assert error.value.what == (
        "A node measured tiny-nfnet, batch 2 with torch 2.14.0, the study began with torch 2.15.0."
    )
    assert [r.step.batch for r in run.kept] == [1]


def test_the_commit_of_a_factory_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(asked: Asked) -> Report:
        rows = measured(asked).results
        mine = msgspec.structs.replace(SOFTWARE, commit="0123456", dirty=True)
        return Report(results=tuple(msgspec.structs.replace(r, software=mine) for r in rows))

    run = Run(monkeypatch, MadeUp(CPUS[:1], SEEN, answer))
    run(tasks([Entry("step-time", (StepTime(model="mine:net"),), Sampling())]))
    assert len(run.kept) == 1


def test_a_node_that_refuses_ends_the_study_after_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(asked: Asked) -> Report:
        if asked.task.entry.workloads[0].batch == 1:  # type: ignore[union-attr]
            return Report(refused=("It has nfbench 0.0.1.", "", ""))
        return measured(asked)

    run = Run(monkeypatch, MadeUp(CPUS, SEEN, answer))
    with pytest.raises(NfbenchError, match=r"A node refused tiny-nfnet, batch 1: It has nfbench 0\.0\.1\."):
        run(steps(1, 2, 3, 4))
    assert [r.step.batch for r in run.kept] == [2]


def test_a_cluster_that_has_lost_all_nodes_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 0.0)
    monkeypatch.setattr(fleet, "LOOKS", 0.0)

    def answer(asked: Asked) -> Report:
        nodes.nodes = []
        return measured(asked)

    nodes = MadeUp(CPUS[:1], SEEN, answer)
    run = Run(monkeypatch, nodes)
    with pytest.raises(NfbenchError, match="The Ray cluster has had no node for this study for 0 s") as error:
        run(steps(1, 2, 3))
    assert "goes on from here" in error.value.try_
    assert len(run.kept) == 1


def test_only_so_many_are_run_and_what_is_passed_over_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def skip(task: Task, found: Sequence[Result]) -> str | None:
        return "enough" if found else None

    run = Run(monkeypatch, MadeUp(CPUS[:1], SEEN, measured))
    found = run(steps(1, 2, 3, 4), wanted=Wanted(limit=3, skip=skip))
    assert (found.ran, found.passed_over) == (1, {1: "enough", 2: "enough"})


def test_paths_of_a_training_run_are_absolute_and_its_checkpoints_one_net_s(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine").mkdir()
    sent: list[Asked] = []

    def answer(asked: Asked) -> Report:
        sent.append(asked)
        return measured(asked)

    nets = ("tiny-nfnet", "tiny-resnet")
    sources = Sources(data_dir="mine", checkpoint="ck")
    nodes = MadeUp(CPUS[:1], SEEN, answer)
    run = Run(monkeypatch, nodes)
    run(tasks([Entry("accuracy", (Accuracy(model=net),), seeds=(0,), sources=sources) for net in nets]))
    assert {asked.task.entry.sources.data_dir for asked in sent} == {str(Path("mine").resolve())}
    folders = {asked.task.entry.sources.checkpoint for asked in sent}
    assert len(folders) == 2 and {str(Path(folder or "").parent) for folder in folders} == {str(Path("ck").resolve())}
    # two of them share a node
    assert nodes.most == 2 and {need.cpus for need in nodes.needs} == {2.0}


# what a node does


def test_a_node_of_another_kind_measures_nothing() -> None:
    (task,) = steps(1)
    report = remote.decoded(remote.measure(Asked(task, "fake", None, "another", 1.0)))
    assert report.refused is not None and report.refused[0] == "It is of another kind: fake, not another."


def full(*_: object, **__: object) -> list[Result]:
    raise OSError(28, "No space left on device", "/tmp/of-somebody/x")


def test_what_a_node_raises_is_a_row_and_not_the_end_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    real = remote.measured_once
    nodes = MadeUp(CPUS[:1], SEEN)
    run = Run(monkeypatch, nodes)

    def answer(asked: Asked) -> Report:
        broken = asked.task.entry.workloads[0].batch == 2  # type: ignore[union-attr]
        monkeypatch.setattr(remote, "measured_once", full if broken else real)
        report = remote.decoded(remote.measure(asked))
        same = (msgspec.structs.replace(r, software=SOFTWARE) for r in report.results)
        return msgspec.structs.replace(report, results=tuple(same))

    nodes.answer = answer
    found = run(steps(1, 2, 3))
    assert [rows and rows[0].status for rows in found.results] == ["ok", "error", "ok"]
    (row,) = found.results[1] or []
    assert row.message is not None and row.message.startswith("OSError: [Errno 28] No space left on device")
    assert "of-somebody" not in row.message


class TaskError(Exception):
    """Stands for Ray's own."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class FakeRay:
    """Answers with what a task raised."""

    class exceptions:
        RayError = RayTaskError = TaskError

    def get(self, ref: Exception, timeout: float) -> None:
        raise TaskError(ref)


def test_what_a_task_raises_on_its_node_is_a_loss_that_says_what() -> None:
    nodes = Nodes.__new__(Nodes)
    nodes.ray = FakeRay()
    with pytest.raises(Lost, match=r"OSError: \[Errno 28\] No space left on device"):
        nodes.result(OSError(28, "No space left on device"))


def test_a_node_without_the_data_measures_nothing() -> None:
    entry = Entry("accuracy", (Accuracy(model="tiny-nfnet"),), seeds=(0,), sources=Sources(data_dir="/no/such"))
    report = remote.decoded(remote.measure(Asked(Task(entry), "fake", None, "fake", 0.5)))
    assert report.refused is not None and report.refused[0] == "The data folder /no/such does not exist."


def test_a_run_on_a_share_of_a_device_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remote.SHARED, "")
    entry = Entry("accuracy", (Accuracy(model="tiny-nfnet", epochs=1),), seeds=(0,))
    report = remote.decoded(remote.measure(Asked(Task(entry), "fake", "s", "fake", 0.5)))
    assert os.environ[remote.SHARED] == "1"
    (row,) = report.results
    assert (row.status, row.study, row.notes["share"]) == ("ok", "s", "0.5 of the device, beside another run")
    assert "shared_device" in [finding.code for finding in findings.of(row)]


def test_runs_on_shares_of_a_device_go_side_by_side_and_keep_a_timing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(Path.cwd()))
    monkeypatch.setenv(lock.SHARED, "1")
    watch = Quiet()
    with lock.only_one("card", watch), lock.only_one("card", watch):
        assert not watch.notes
        with lock.lock_file("card").open() as timing, pytest.raises(BlockingIOError):
            fcntl.flock(timing, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_board_tells_the_time_left_of_tasks_that_run_at_once() -> None:
    board, todo = Board(quiet=True), steps(1, 2, 3, 4)
    board.planned(todo, [None] * 4, [0, 1, 2, 3])
    board.begun(0)
    board.begun(1)
    assert board.lines()[-1] == "0 of 4 done, time left not known yet"
    # the second to begin is the first to end
    board.ended(1, [result()], 1200.0)
    board.begun(2)
    assert board.lines()[-1] == "1 of 4 done, about 30 min left"
    assert [board.signs[place] for place in range(4)] == ["▸", "█", "▸", "·"]


@pytest.mark.parametrize(
    ("share", "device", "before", "threads"),
    [
        (1.0, "cpu", b"", None),
        (1.0, "cpu", b"OMP_NUM_THREADS=7", "7"),
        (0.5, "cuda", b"", None),
        (0.5, "cpu", b"", "7"),
    ],
)
def test_a_timing_uses_as_many_threads_as_without_ray(
    share: float, device: str, before: bytes, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(remote.THREADS, "7")
    monkeypatch.setenv(remote.SHARED, "")
    monkeypatch.setattr(remote, "_at_start", lambda: before)
    remote.unlimited(share, device)
    assert os.environ.get(remote.THREADS) == threads


def test_a_device_that_cannot_be_opened_on_a_node_is_said_in_its_own_words() -> None:
    with pytest.raises(NfbenchError, match="There is no device 'tpu'"):
        remote.greeted(remote.hello("tpu"))
