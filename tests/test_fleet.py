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
from nfbench.learning.learner import Sources
from nfbench.measuring import lock
from nfbench.records import Accuracy, Machine, Result, Sampling, StepTime
from nfbench.studies import cluster, ray
from nfbench.studies.cluster import Fleet
from nfbench.studies.entries import Entry, Task, tasks
from nfbench.studies.ray import Asked, Lost, Need, Node, Report, Seen
from nfbench.studies.run import WHAT_IS_MISSING, Home, Session, Wanted
from nfbench.studies.worker import Hello

pytestmark = pytest.mark.usefixtures("workers_in_process")

SEEN = Seen(__version__, "3.12", "fake", None)


def by_kind(node: Node) -> Seen:
    return SEEN._replace(name=node.accelerator.partition(":")[2]) if node.accelerator else SEEN


class MadeUp:
    """Stands for `nfbench.studies.ray.Nodes`: a task is done when it is asked for, and ``answer`` says how."""

    def __init__(
        self,
        nodes: Sequence[Node],
        seen: Callable[[Node], Seen] = by_kind,
        answer: Callable[[Asked], Report] | None = None,
    ) -> None:
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
        return {node: self.seen(node) for node in nodes}

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


CPUS = [Node(f"n{n}", f"10.0.0.{n}", 0, 4) for n in range(3)]


def gpus(kind: str, *counts: int) -> list[Node]:
    return [Node(f"{kind}{n}", "10.0.1.1", count, 8, f"accelerator_type:{kind}") for n, count in enumerate(counts)]


def batch_of(asked: Asked) -> int:
    workload = asked.task.workload
    assert isinstance(workload, StepTime)
    return workload.batch


def measured(asked: Asked, **fields: Any) -> Report:
    workload = asked.task.workload
    given = {"workload": workload, "machine": FAKE, "software": SOFTWARE, "seed": asked.task.seed} | fields
    return Report(results=(result(workload.model, **given),))


def steps(*batches: int, model: str = "tiny-nfnet") -> list[Task]:
    return tasks([Entry("step-time", (StepTime(model=model, batch=b),), Sampling()) for b in batches])


class Run:
    """A study on made-up nodes, with all that was kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.board = Quiet()
        self.kept: list[Result] = []

    def __call__(
        self,
        todo: Sequence[Task],
        answer: Callable[[Asked], Report] = measured,
        nodes: Sequence[Node] = CPUS[:1],
        earlier: Sequence[Result] = (),
        wanted: Wanted = WHAT_IS_MISSING,
    ) -> Session:
        self.nodes = MadeUp(nodes, answer=answer)
        self.monkeypatch.setattr(cluster, "Nodes", lambda address: self.nodes)
        session = cluster.Distribution(
            tasks=todo,
            address="auto",
            device="fake",
            keep=self.kept.extend,
            board=self.board,
            home=lambda machine: Home(Path(), earlier),
            study="s",
            kind="fake",
            wanted=wanted,
        )
        session.run()
        return session

    @property
    def batches(self) -> list[int]:
        return [r.step.batch for r in self.kept]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


# nodes


def made(
    nodes: Sequence[Node],
    device: str = "cuda",
    seen: Callable[[Node], Seen] = by_kind,
    note: Callable[[str], None] = lambda text: None,
) -> Fleet:
    given: Any = MadeUp(nodes, seen)
    try:
        return Fleet(given, device, [], note)
    finally:
        assert not given.needs


def test_a_timing_takes_a_whole_gpu_or_all_cpus_of_a_node_and_a_training_run_half_of_one() -> None:
    fleet = made(gpus("H200", 8, 4))
    assert (fleet.room(), fleet.need(1.0).gpus, fleet.need(cluster.SHARE).gpus) == (12, 1.0, 0.5)
    fleet = made(CPUS, "cpu")
    assert (fleet.room(), fleet.need(1.0)) == (3, Need(0, 4.0))
    assert [made([CPUS[0]._replace(cpus=n)], "cpu").need(cluster.SHARE).cpus for n in (1, 2, 3)] == [0.5, 1, 1]


def test_of_two_kinds_of_gpu_the_more_numerous_runs_the_study_and_it_is_said() -> None:
    def seen(node: Node) -> Seen:
        # what runs nothing may have other software
        old = msgspec.structs.replace(SOFTWARE, torch="2.14.0")
        return by_kind(node)._replace(software=old if "A100" in node.id else SOFTWARE)

    notes: list[str] = []
    fleet = made([*gpus("A100", 4), *gpus("H200", 4, 4)], seen=seen, note=notes.append)
    assert (fleet.name, fleet.room(), fleet.need(1.0).accelerator) == ("H200", 8, "accelerator_type:H200")
    assert notes == ["The nodes are of several kinds (1 × A100, 2 × H200); the study runs on those with H200."]


@pytest.mark.parametrize(
    ("device", "seen", "words", "try_"),
    [
        ("cuda", SEEN, "No node of the Ray cluster has a GPU to give", "--device cpu"),
        ("cpu", None, "The nodes of the cluster are of several kinds: 1 × CPU n0, 1 × CPU n1", "a cluster of one kind"),
        ("cpu", SEEN._replace(version="0.0.1"), "The node 10.0.0.0 has nfbench 0.0.1, this is nfbench ", "the same"),
        ("cpu", SEEN._replace(version=None), "The node 10.0.0.0 has no nfbench in its Python 3.12", "the same nfbench"),
        ("cpu", SEEN._replace(missing="There is no /data."), "The node 10.0.0.0: There is no /data.", ""),
    ],
)
def test_nodes_that_cannot_do_it_are_named(device: str, seen: Seen | None, words: str, try_: str) -> None:
    with pytest.raises(NfbenchError) as error:
        made(CPUS, device, lambda node: seen or SEEN._replace(name=f"CPU {node.id}"))
    assert error.value.what.startswith(words) and error.value.try_.startswith(try_)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"torch": "2.14.0"}, "has torch 2.14.0 (the first, 10.0.0.0, has torch 2.15.0)"),
        ({"timm": None}, "has timm none (the first, 10.0.0.0, has timm 1.0.31)"),
        ({"python": "3.13.1"}, "has python 3.13 (the first, 10.0.0.0, has python 3.12)"),
        ({"commit": "0123456789"}, "has commit 0123456 (the first, 10.0.0.0, has commit abcdef0)"),
        ({"dirty": True}, "has commit abcdef0+ (the first, 10.0.0.0, has commit abcdef0)"),
    ],
)
def test_nodes_of_other_software_are_refused_before_anything_is_handed_out(other: dict[str, Any], said: str) -> None:
    own = msgspec.structs.replace(SOFTWARE, python="3.12.4", commit="abcdef0123", dirty=False)
    theirs = {"n0": own, "n1": msgspec.structs.replace(own, python="3.12.9")}
    changed = msgspec.structs.replace(own, **other)
    with pytest.raises(NfbenchError) as error:
        made(CPUS, "cpu", lambda node: SEEN._replace(software=theirs.get(node.id, changed)))
    assert error.value.what == f"The nodes have different software: the node 10.0.0.2 {said}."
    assert "Nothing was handed out" in error.value.why


# tasks


def test_all_tasks_run_as_many_at_once_as_the_nodes_bear_and_what_has_ended_is_never_cancelled(run: Run) -> None:
    found = run(steps(*range(1, 7)), nodes=CPUS[:2])
    assert [rows is not None and len(rows) for rows in found.results] == [1] * 6
    assert (found.ran, found.before, run.nodes.most, len(run.kept)) == (6, 0, 2, 6)
    assert run.nodes.cancelled == []


def test_what_was_done_on_a_machine_of_the_same_name_is_done(run: Run) -> None:
    todo = steps(1, 2)
    other = Machine(device="fake", name="fake", cpu_cores=64)
    done = result(workload=todo[0].workload, machine=other, software=SOFTWARE)
    found = run(todo, earlier=[done])
    assert (found.ran, found.before) == (1, 1)
    # under the machine that measured it
    assert found.results[0] == [done]


def test_a_task_that_is_lost_again_and_again_becomes_a_row(run: Run) -> None:
    def answer(asked: Asked) -> Report:
        if batch_of(asked) == 2:
            raise Lost("NodeDiedError")
        return measured(asked)

    found = run(steps(1, 2, 3), answer)
    assert [rows and rows[0].status for rows in found.results] == ["ok", "error", "ok"]
    (row,) = found.results[1] or []
    assert row.message == "its node, or its process there, was lost 3 times: NodeDiedError"
    assert (row.study, row.machine, row.software) == ("s", FAKE, SOFTWARE)
    said = "tiny-nfnet, batch 2 was lost with its node (NodeDiedError). It is handed out again."
    assert run.board.notes.count(said) == cluster.LOSSES - 1


def test_what_a_node_measured_with_other_software_is_not_kept_and_said(run: Run) -> None:
    other = msgspec.structs.replace(SOFTWARE, torch="2.14.0")
    with pytest.raises(NfbenchError) as error:
        run(steps(1, 2, 3), lambda asked: measured(asked, software=other if batch_of(asked) == 2 else SOFTWARE))
    assert error.value.what == (
        "A node measured tiny-nfnet, batch 2 with torch 2.14.0, the study began with torch 2.15.0."
    )
    assert run.batches == [1]
    # the commit of a factory is its own
    own = msgspec.structs.replace(SOFTWARE, commit="0123456", dirty=True)
    run(steps(4, model="mine:net"), lambda asked: measured(asked, software=own))
    assert run.batches == [1, 4]


def test_a_node_that_refuses_ends_the_study_after_what_runs(run: Run) -> None:
    def answer(asked: Asked) -> Report:
        return Report(refused=("It has nfbench 0.0.1.", "", "")) if batch_of(asked) == 1 else measured(asked)

    with pytest.raises(NfbenchError, match=r"A node refused tiny-nfnet, batch 1: It has nfbench 0\.0\.1\."):
        run(steps(1, 2, 3, 4), answer, nodes=CPUS[:2])
    assert run.batches == [2]


def test_a_cluster_that_has_lost_all_nodes_is_not_waited_for_forever(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 0.0)
    monkeypatch.setattr(cluster, "LOOKS", 0.0)

    def answer(asked: Asked) -> Report:
        run.nodes.nodes = []
        return measured(asked)

    with pytest.raises(NfbenchError, match="The Ray cluster has had no node for this study for 0 s") as error:
        run(steps(1, 2, 3), answer)
    assert "goes on from here" in error.value.try_
    assert len(run.kept) == 1


def test_only_so_many_are_run_and_what_is_passed_over_says_why(run: Run) -> None:
    wanted = Wanted(limit=3, skip=lambda task, found: "enough" if found else None)
    found = run(steps(1, 2, 3, 4), wanted=wanted)
    assert (found.ran, found.passed_over) == (1, {1: "enough", 2: "enough"})


def test_paths_of_a_training_run_are_absolute_and_its_checkpoints_one_net_s(run: Run) -> None:
    Path("mine").mkdir()
    sent: list[Sources] = []

    def answer(asked: Asked) -> Report:
        sent.append(asked.task.entry.sources)
        return measured(asked)

    sources = Sources(data_dir="mine", checkpoint="ck")
    nets = ("tiny-nfnet", "tiny-resnet")
    run(tasks([Entry("accuracy", (Accuracy(model=net),), seeds=(0,), sources=sources) for net in nets]), answer)
    assert {one.data_dir for one in sent} == {str(Path("mine").resolve())}
    folders = [Path(one.checkpoint or "") for one in sent]
    assert folders[0] != folders[1] and {folder.parent for folder in folders} == {Path("ck").resolve()}
    # two of them share a node
    assert run.nodes.most == 2 and {need.cpus for need in run.nodes.needs} == {2.0}


# what a node does


def reported(task: Task, name: str = "fake", share: float = 1.0) -> Report:
    return ray.reports.decode(ray.measure(Asked(task, "fake", "s", name, share)))


def trained(**sources: str) -> Task:
    return Task(Entry("accuracy", (Accuracy(model="tiny-nfnet", epochs=1),), seeds=(0,), sources=Sources(**sources)))


def test_a_node_that_cannot_do_it_says_why() -> None:
    assert "It is of another kind: fake, not another." in (reported(steps(1)[0], "another").refused or ())
    assert "The data folder /no/such does not exist." in (reported(trained(data_dir="/no/such")).refused or ())
    with pytest.raises(NfbenchError, match="There is no device 'tpu'"):
        ray.greeted(ray.hello("tpu"))


def test_what_a_node_raises_is_a_row_and_not_the_end_of_the_study(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ray.measured_once

    def full(*_: object, **__: object) -> list[Result]:
        raise OSError(28, "No space left on device", "/tmp/of-somebody/x")

    def answer(asked: Asked) -> Report:
        monkeypatch.setattr(ray, "measured_once", full if batch_of(asked) == 2 else real)
        report = ray.reports.decode(ray.measure(asked))
        same = (msgspec.structs.replace(r, software=SOFTWARE) for r in report.results)
        return msgspec.structs.replace(report, results=tuple(same))

    found = run(steps(1, 2, 3), answer)
    assert [rows and rows[0].status for rows in found.results] == ["ok", "error", "ok"]
    (row,) = found.results[1] or []
    assert row.message is not None and row.message.startswith("OSError: [Errno 28] No space left on device")
    assert "of-somebody" not in row.message


def test_runs_on_shares_of_a_device_go_side_by_side_and_keep_a_timing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lock.SHARED, "")
    (row,) = reported(trained(), share=0.5).results
    assert os.environ[lock.SHARED] == "1"
    assert (row.status, row.study, row.notes["share"]) == ("ok", "s", "0.5 of the device, beside another run")
    assert "shared_device" in [finding.code for finding in findings.of(row)]
    monkeypatch.setenv("NFBENCH_TEST_LOCKS", str(Path.cwd()))
    watch = Quiet()
    with lock.only_one("card", watch), lock.only_one("card", watch):
        assert not watch.notes
        with lock.lock_file("card").open() as timing, pytest.raises(BlockingIOError):
            fcntl.flock(timing, fcntl.LOCK_EX | fcntl.LOCK_NB)


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
    monkeypatch.setenv(ray.THREADS, "7")
    monkeypatch.setenv(ray.SHARED, "")
    monkeypatch.setattr(ray, "_at_start", lambda: before)
    ray.unlimited(share, device)
    assert os.environ.get(ray.THREADS) == threads
