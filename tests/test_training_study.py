"""Studies that train nets: read from a file, each net in a process of its own, and only what is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from make import Quiet

from nfbench.errors import NfbenchError
from nfbench.learning.learner import Sources
from nfbench.records import Accuracy, Machine, Result
from nfbench.studies import study
from nfbench.studies.entries import Task, tasks
from nfbench.studies.run import Execution, Home, Wanted

HEAD = 'title = "T"\nquestion = "Q?"\n'
NET = HEAD + '[[accuracy]]\nmodel = "tiny-nfnet-s"\n'
THREE = NET + "epochs = 4\nseeds = 3\n"


def written(text: str) -> Path:
    path = Path("mine.toml")
    path.write_text(text)
    return path


def test_paths_in_a_table_are_no_part_of_what_is_measured() -> None:
    text = NET + 'dataset = "imagefolder:deep/pictures"\ndata_dir = "data"\nworkers = 0\ncheckpoint = "ck"\n'
    (one,) = study.read(written(text)).entries("fake")
    assert one.workloads == (Accuracy(model="tiny-nfnet-s", dataset="imagefolder:pictures"),)
    folder = str(Path("deep/pictures").resolve())
    assert one.sources == Sources(data_dir="data", folder=folder, checkpoint="ck", workers=0)


# sessions, in this process


class Session:
    """Trains a study in one folder; keeps what came before as a command would."""

    def __init__(self, text: str) -> None:
        self.tasks: list[Task] = tasks(study.read(written(text)).entries("fake"))
        self.earlier: list[Result] = []
        self.watch = Quiet()

    def __call__(
        self, *, keep: Callable[[Result], Any] = lambda _: None, retry: bool = False, kind: str = "fake"
    ) -> list[Result]:
        """What this session trained."""
        kept: list[Result] = []

        def home(_: Machine) -> Home:
            return Home(Path("home"), list(self.earlier))

        def keeping(results: Sequence[Result]) -> None:
            for result in results:
                kept.append(result)
                keep(result)

        wanted = Wanted(retry=retry)
        try:
            Execution(
                tasks=self.tasks, device="fake", keep=keeping, board=self.watch, home=home, kind=kind, wanted=wanted
            ).run()
        finally:
            self.earlier += kept
        return kept


def checkpoints() -> list[str]:
    return sorted(p.name for p in Path("home").rglob("*.pt"))


def outcome(results: Sequence[Result]) -> list[tuple[int, str]]:
    return [(r.seed, r.status) for r in results]


@pytest.fixture
def in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes ``code`` the beginning of `FakeLearner.train` in every worker."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # code of the same second and length would be taken for the last

    def put(code: str) -> None:
        lines = "\n".join(f"    {line}" for line in code.strip().splitlines())
        (tmp_path / "sitecustomize.py").write_text(
            "import os, signal, time\n"
            "from pathlib import Path\n"
            "from nfbench.errors import BadData\n"
            "from nfbench.learning.fake_training import FakeLearner\n"
            "train = FakeLearner.train\n"
            f"def changed(self, epoch, until):\n{lines}\n    return train(self, epoch, until)\n"
            "FakeLearner.train = changed\n"
        )

    return put


def test_a_worker_that_fails_or_is_killed_leaves_a_row_and_the_others_go_on(in_workers: Callable[[str], None]) -> None:
    in_workers(
        "if (self.seed, epoch) == (0, 2):\n    raise BadData('Too many pictures cannot be read.')\n"
        "if (self.seed, epoch) == (1, 2):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    session = Session(THREE)
    failed, killed, whole = session()
    assert [r.status for r in (failed, killed, whole)] == ["error", "error", "ok"]
    # the worker tells of it twice: in the row that it keeps, and as the words that it ends with
    assert failed.message == "Too many pictures cannot be read."
    assert killed.message == "the process was killed, most likely for want of memory"
    assert failed.reading("top1").values == (0.5, 0.75)  # type: ignore[union-attr]
    assert checkpoints() == ["seed-0.pt", "seed-1.pt"]
    in_workers("assert epoch >= 2")
    assert session() == []
    again = session(retry=True)
    assert outcome(again) == [(0, "ok"), (1, "ok")]
    assert session.watch.notes.count("tiny-nfnet-s: goes on after epoch 2 of 4.") == 2
    assert [r.reading("top1") for r in again] == [whole.reading("top1")] * 2
    assert not Path("home/.checkpoints").exists()
    assert session() == []


def test_a_runner_that_is_interrupted_keeps_what_it_has_and_the_next_goes_on(in_workers: Callable[[str], None]) -> None:
    in_workers("if (self.seed, epoch) == (1, 2):\n    Path('there').touch()\n    time.sleep(60)")

    class Impatient(Quiet):
        def phase(self, what: str) -> None:
            if what.startswith("epoch 2 of 4") and Path("seen").exists():
                while not Path("there").exists():
                    pass
                raise KeyboardInterrupt

    session = Session(THREE)
    session.watch = Impatient()
    with pytest.raises(KeyboardInterrupt):
        session(keep=lambda _: Path("seen").touch())
    assert outcome(session.earlier) == [(0, "ok"), (1, "interrupted")]
    assert checkpoints() == ["seed-1.pt"]
    cut_off = session.earlier[1]
    assert cut_off.reading("top1").values == (0.5, 0.75)  # type: ignore[union-attr]
    in_workers("assert (self.seed, epoch) >= (1, 2)")
    session.watch = Quiet()
    again = session()
    assert outcome(again) == [(1, "ok"), (2, "ok")]
    assert (again[0].id, again[0].start) == (cut_off.id, cut_off.start)
    assert session.watch.notes == ["tiny-nfnet-s: goes on after epoch 2 of 4."]


def test_a_run_does_not_go_on_with_other_software(in_workers: Callable[[str], None]) -> None:
    in_workers("if epoch == 2:\n    os.kill(os.getpid(), signal.SIGKILL)")
    session = Session(NET + "epochs = 4\n")
    assert outcome(session()) == [(0, "error")]
    in_workers("assert epoch < 2 or Path('begun').exists()\nPath('begun').touch()")
    with Path("sitecustomize.py").open("a") as file:
        file.write(
            "from nfbench.devices.fake import FakeDevice\nfrom nfbench.records import Software\n"
            "FakeDevice.software = lambda self, model=None: Software(nfbench='9.9')\n"
        )
    (result,) = session()
    assert (result.status, result.software.nfbench) == ("ok", "9.9")
    assert not any("goes on" in note for note in session.watch.notes)


def test_a_study_with_its_own_checkpoint_folder_leaves_them_there() -> None:
    Session(NET + 'epochs = 2\ncheckpoint = "ck"\n')()
    assert Path("ck/seed-0.pt").exists() and not Path("home").exists()


def test_a_device_that_is_not_of_the_kind_is_refused_before_anything_runs() -> None:
    session = Session(NET)
    with pytest.raises(NfbenchError, match="The study was laid out for cpu, but torch sees a fake device"):
        session(kind="cpu")
    assert session.earlier == []
