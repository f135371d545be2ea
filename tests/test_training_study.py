"""Studies that train nets: read from a file, each net in a process of its own, and only what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from conftest import Cli
from make import Quiet

from nfbench.analysis.store import load
from nfbench.errors import BadStudy, NfbenchError
from nfbench.learning.sources import Sources
from nfbench.records import Accuracy, Machine, Result
from nfbench.showing.figures import driver
from nfbench.studies import study
from nfbench.studies.entry import Task, tasks
from nfbench.studies.execute import Home, Wanted, execute
from nfbench.studies.runs import Runs

HEAD = 'title = "T"\nquestion = "Q?"\n'
NET = HEAD + '[[accuracy]]\nmodel = "tiny-nfnet-s"\n'


def written(text: str) -> Path:
    path = Path("mine.toml")
    path.write_text(text)
    return path


def runs(text: str, device: str = "fake") -> list[Runs]:
    return study.read(written(text)).runs(device)


# the file


def test_lists_make_a_grid_and_each_point_has_all_seeds() -> None:
    found = runs(HEAD + '[[accuracy]]\nmodel = ["tiny-nfnet", "tiny-resnet"]\nlr = [0.1, 0.2]\nseeds = 3\nseed = 5\n')
    assert [one.workload for one in found] == [
        Accuracy(model=model, lr=lr) for model in ("tiny-nfnet", "tiny-resnet") for lr in (0.1, 0.2)
    ]
    assert {one.seeds for one in found} == {(5, 6, 7)}


def test_a_table_may_hold_every_setting_of_the_command() -> None:
    (one,) = runs(
        NET + 'dataset = "imagefolder:pictures"\nepochs = 3\nagc = "none"\ndrop_path = 0.1\ndeterministic = true\n'
        'max_time = 600\ndata_dir = "data"\nworkers = 0\ncheckpoint = "ck"\n'
    )
    assert one.workload == Accuracy(
        model="tiny-nfnet-s",
        dataset="imagefolder:pictures",
        epochs=3,
        agc="none",
        drop_path=0.1,
        deterministic=True,
    )
    folder = str(Path("pictures").resolve())
    assert one.sources == Sources(data_dir="data", folder=folder, checkpoint="ck", workers=0)
    assert (one.sampling.max_time, one.seeds) == (600.0, (0,))


def test_a_run_of_a_study_may_take_a_day() -> None:
    (one,) = runs(NET)
    assert one.sampling.max_time == 86400


def test_a_table_for_another_device_is_left_out() -> None:
    text = NET + 'device = "cpu"\n[[accuracy]]\nmodel = "nfnet-f0"\ndevice = "cuda"\n'
    assert [one.workload.model for one in runs(text, "cpu")] == ["tiny-nfnet-s"]
    assert [one.workload.model for one in runs(text, "fake")] == ["tiny-nfnet-s"]
    assert [one.workload.model for one in runs(text, "cuda")] == ["nfnet-f0"]
    with pytest.raises(BadStudy, match=r"mine.toml has no workload for a cuda device\."):
        study.read(written(NET + 'device = "cpu"\n')).parts("cuda")


def test_what_is_timed_and_what_is_trained_may_stand_in_one_file() -> None:
    read = study.read(written(NET + '[settings]\nbatch = 8\n[[step-time]]\nmodel = "tiny-resnet"\n'))
    (part,), (one,) = read.parts("fake"), read.runs("fake")
    assert (part.workloads[0].batch, one.workload.batch) == (8, 8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + '[[accuracy]]\nmodle = "a"\n', "mine.toml, accuracy[0]: unknown key 'modle'."),
        (NET + "seedz = 3\n", "mine.toml, accuracy[0]: unknown key 'seedz'."),
        (NET + "within = 0.1\n", "mine.toml, accuracy[0]: unknown key 'within'."),
        (HEAD + '[accuracy]\nmodel = "a"\n', "mine.toml: accuracy has the wrong type.\nTry: [[accuracy]]"),
        (HEAD + "accuracy = 3\n", "mine.toml: accuracy has the wrong type."),
        (HEAD + "[[accuracy]]\nlr = 0.1\n", "mine.toml, accuracy[0]: model is missing or no text."),
        (HEAD + "[[accuracy]]\nmodel = 3\n", "mine.toml, accuracy[0]: model is missing or no text."),
        (HEAD + "[[accuracy]]\nmodel = []\n", "mine.toml, accuracy[0]: an empty list or range leaves nothing to run."),
        (NET + "lr = []\n", "mine.toml, accuracy[0]: an empty list or range leaves nothing to run."),
        (NET + "seeds = 0\n", "mine.toml, accuracy[0]: seeds is 0.\nTry: seeds = 3"),
        (NET + "seeds = true\n", "mine.toml, accuracy[0]: seeds is True."),
        (NET + 'seeds = "three"\n', "mine.toml, accuracy[0]: seeds is 'three'."),
        (NET + "seed = -1\n", "mine.toml, accuracy[0]: seed is -1."),
        (NET + 'lr = "quick"\n', "mine.toml, accuracy[0]: A setting has a wrong value: "),
        (NET + 'batch = [64, "many"]\n', "mine.toml, accuracy[0]: A setting has a wrong value: "),
        (NET + "epochs = 1.5\n", "mine.toml, accuracy[0]: A setting has a wrong value: "),
        (NET + "dataset = 3\n", "mine.toml, accuracy[0]: A setting has a wrong value: "),
        (NET + "weights = 3\n", "mine.toml, accuracy[0]: A setting has a wrong value: "),
        (NET + 'workers = "all"\n', "mine.toml, accuracy[0]: A setting has a wrong value: Expected `int | null`"),
        (NET + "workers = -1\n", "mine.toml, accuracy[0]: --workers -1 is negative.\nTry: --workers 2"),
        (NET + "data_dir = 3\n", "mine.toml, accuracy[0]: A setting has a wrong value: Expected `str | null`"),
        (NET + 'max_time = "1h"\n', "mine.toml, accuracy[0]: A setting has a wrong value: "),
        (NET + "max_time = 0\n", "mine.toml, accuracy[0]: --max-time 0 is not positive."),
        (NET + "drop_rate = 1\n", "mine.toml, accuracy[0]: --drop-rate 1 is not from 0 to below 1."),
        (NET + "epochs = 0\n", "mine.toml, accuracy[0]: --epochs 0 evaluates weights, and none are given."),
        (NET + 'dataset = "digitz"\n', "mine.toml, accuracy[0]: There is no data set called 'digitz'.\nThe nearest"),
        (NET + 'weights = "none.pth"\n', "mine.toml, accuracy[0]: There is no file of weights none.pth."),
        (NET + 'device = "tpu"\n', "mine.toml, accuracy[0]: device is 'tpu'."),
        (NET + "[[accuracy]]\nmodel = 1\n", "mine.toml, accuracy[1]: model is missing or no text."),
        (
            HEAD + '[[accuracy]]\nmodel = ["tiny-nfnet", "tiny-nfnetz"]\n',
            "mine.toml, accuracy[0]: There is no net called 'tiny-nfnetz'.",
        ),
    ],
)
def test_a_wrong_table_names_its_place_and_nothing_runs(text: str, words: str, cli: Cli) -> None:
    written(text)
    done = cli("run", "mine.toml", "--device", "fake")
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith(words), done.stderr
    assert not Path("results").exists()


def test_check_says_what_to_type_for_a_study_that_times_nothing(cli: Cli) -> None:
    written(NET)
    done = cli("check", "mine.toml", "--device", "fake")
    assert done.exit_code == 1
    assert done.stderr == "mine trains nets and times no step.\nTry: nfbench run mine.toml\n"
    assert not Path("results").exists()


# the command


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all that is trained here."""
    monkeypatch.setattr(driver, "draw", lambda *_, **__: SimpleNamespace(files=[]))


def rows(folder: str = "results/fake/mine") -> list[tuple[str, int, str]]:
    return sorted((r.workload.model, r.seed, r.status) for r in load([Path(folder)]).results)


def test_a_study_is_trained_once_and_then_only_what_is_missing(cli: Cli, no_figures: None) -> None:
    written(HEAD + '[[accuracy]]\nmodel = ["tiny-nfnet-s", "tiny-resnet-s"]\nepochs = 3\nseeds = 2\n')
    command = ("run", "mine.toml", "--device", "fake", "--format", "json")
    first = cli(*command)
    assert first.exit_code == 0, first.output
    folder = Path("results/fake/mine")
    (path,) = folder.glob("*.jsonl")
    every = [(model, seed, "ok") for model in ("tiny-nfnet-s", "tiny-resnet-s") for seed in (0, 1)]
    assert rows() == every
    results = load([path]).results
    assert {r.study for r in results} == {"mine"} and len({r.session for r in results}) == 4
    assert "tiny-nfnet-s, seed 1 (2 of 2): epoch 3 of 3" in first.stderr
    assert "done before" not in first.stderr
    assert not (folder / ".checkpoints").exists()

    again = cli(*command)
    assert again.exit_code == 0
    assert "4 workloads had been done before; --fresh runs all again." in again.stderr
    assert "epoch" not in again.stderr and again.stdout == first.stdout
    assert list(folder.glob("*.jsonl")) == [path]

    kept = path.read_text().splitlines(keepends=True)
    path.write_text("".join(kept[:2] + kept[3:]))
    missing = cli(*command)
    assert missing.exit_code == 0
    assert "3 workloads had been done before" in missing.stderr
    (new,) = set(folder.glob("*.jsonl")) - {path}
    assert [(r.workload.model, r.seed) for r in load([new]).results] == [("tiny-resnet-s", 0)]
    assert rows() == every

    fresh = cli(*command, "--fresh")
    assert fresh.exit_code == 0 and "done before" not in fresh.stderr
    assert rows() == sorted(every * 2)


def test_a_run_that_diverged_is_finished_and_no_failure(cli: Cli, no_figures: None) -> None:
    text = NET + 'agc = "none"\nlr = 0.1\nepochs = 2\n'
    written(text)
    done = cli("run", "mine.toml", "--device", "fake", "--out", "here")
    assert done.exit_code == 0, done.output
    assert rows("here") == [("tiny-nfnet-s", 0, "diverged")]
    session = Session(text)
    session.earlier = load([Path("here")]).results
    assert session() == [] and outcome(session.found) == [(0, "diverged")]


# sessions, in this process


class Session:
    """Trains a study in one folder; keeps what came before as a command would."""

    def __init__(self, text: str) -> None:
        self.tasks: list[Task] = tasks(study.read(written(text)).entries("fake"))
        self.earlier: list[Result] = []
        self.watch = Quiet()

    def __call__(
        self,
        *,
        keep: Callable[[Result], Any] = lambda _: None,
        change: Callable[[Result], Result] = lambda r: r,
        retry: bool = False,
    ) -> list[Result]:
        """What this session trained; ``change`` is what has happened to each earlier result."""
        kept: list[Result] = []

        def home(_: Machine) -> Home:
            return Home(Path("home"), [change(r) for r in self.earlier])

        def keeping(results: Sequence[Result]) -> None:
            for result in results:
                kept.append(result)
                keep(result)

        try:
            done = execute(
                self.tasks, device="fake", keep=keeping, board=self.watch, home=home, wanted=Wanted(retry=retry)
            )
            self.found = [
                r for rows in done.results if rows is not None for r in rows if r.id not in {k.id for k in kept}
            ]
        finally:
            self.earlier += kept
        return kept


def checkpoints() -> list[str]:
    return sorted(p.name for p in Path("home").rglob("*.pt"))


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
            "from nfbench.learning.fake import FakeLearner\n"
            "train = FakeLearner.train\n"
            f"def changed(self, epoch, until):\n{lines}\n    return train(self, epoch, until)\n"
            "FakeLearner.train = changed\n"
        )

    return put


THREE = NET + "epochs = 4\nseeds = 3\n"


def outcome(results: Sequence[Result]) -> list[tuple[int, str]]:
    return [(r.seed, r.status) for r in results]


@pytest.mark.parametrize("what", ["software", "machine"])
def test_other_software_or_another_machine_trains_again(what: str) -> None:
    def other(result: Result) -> Result:
        if what == "machine":
            return msgspec.structs.replace(result, machine=msgspec.structs.replace(result.machine, cpu_cores=3))
        return msgspec.structs.replace(result, software=msgspec.structs.replace(result.software, nfbench="0.0.1"))

    session = Session(NET + "epochs = 1\n")
    assert outcome(session()) == [(0, "ok")]
    assert session() == [] and session.found == session.earlier
    assert outcome(session(change=other)) == [(0, "ok")] and session.found == []


def test_a_worker_that_is_killed_leaves_a_row_and_the_other_seeds_go_on(in_workers: Callable[[str], None]) -> None:
    in_workers("if (self.seed, epoch) == (1, 2):\n    os.kill(os.getpid(), signal.SIGKILL)")
    session = Session(THREE)
    first = session()
    assert outcome(first) == [(0, "ok"), (1, "error"), (2, "ok")]
    assert first[1].message == "the process was killed, most likely for want of memory"
    assert checkpoints() == ["seed-1.pt"]
    in_workers("assert (self.seed, epoch) >= (1, 2)")
    assert session() == []
    (again,) = session(retry=True)
    assert (again.seed, again.status) == (1, "ok")
    assert "tiny-nfnet-s: goes on after epoch 2 of 4." in session.watch.notes
    assert again.reading("top1") == first[0].reading("top1")
    assert not Path("home/.checkpoints").exists()
    assert session() == []


def test_an_error_after_an_epoch_is_that_seed_s_alone(in_workers: Callable[[str], None]) -> None:
    # the worker tells of it twice: in the row that it keeps, and as the words that it ends with
    in_workers("if (self.seed, epoch) == (0, 2):\n    raise BadData('Too many pictures cannot be read.')")
    kept = Session(THREE)()
    assert outcome(kept) == [(0, "error"), (1, "ok"), (2, "ok")]
    assert kept[0].message == "Too many pictures cannot be read."
    assert [len(r.reading("top1").values) for r in kept] == [2, 4, 4]  # type: ignore[union-attr]


def test_a_worded_error_before_the_first_epoch_is_a_row_of_each_seed(in_workers: Callable[[str], None]) -> None:
    in_workers("raise BadData('No pictures.', why='None at all.')")
    session = Session(THREE)
    assert outcome(session()) == [(0, "unsupported"), (1, "unsupported"), (2, "unsupported")]
    assert {r.message for r in session.earlier} == {"No pictures. None at all."}
    in_workers("pass")
    assert session() == []
    assert outcome(session(retry=True)) == [(0, "ok"), (1, "ok"), (2, "ok")]


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
    session = Session(NET + 'epochs = 2\ncheckpoint = "ck"\n')
    session()
    assert Path("ck/seed-0.pt").exists() and not Path("home").exists()


def test_a_device_that_is_not_of_the_kind_is_refused_before_anything_runs() -> None:
    with pytest.raises(NfbenchError, match="The study was laid out for cpu, but torch sees a fake device"):
        execute(
            tasks(study.read(written(NET)).entries("fake")),
            device="fake",
            keep=lambda _: None,
            board=Quiet(),
            home=lambda _: Home(Path("home"), []),
            kind="cpu",
        )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143)])
def test_a_signal_to_the_command_keeps_what_was_trained(
    number: signal.Signals, code: int, in_workers: Callable[[str], None]
) -> None:
    written(THREE)
    in_workers("time.sleep(60 if (self.seed, epoch) == (1, 2) else 0)")
    command = [sys.executable, "-m", "nfbench", "run", "mine.toml", "--device", "fake", "--out", "o.jsonl"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        if "seed 1 (2 of 3): epoch 2 of 4" in line:
            break
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == code, said
    assert "2 results in o.jsonl" in said and "Traceback" not in said
    assert outcome(load([Path("o.jsonl")]).results) == [(0, "ok"), (1, "interrupted")]
