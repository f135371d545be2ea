"""`run`, `batch-sweep` and `agc-sweep`: what is kept, shown, resumed and said, on the fake device."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Cli
from make import CPU, H200, SOFTWARE, result
from msgspec.structs import replace

from nfbench.analysis import store
from nfbench.analysis.rows import rows
from nfbench.analysis.sessions import current
from nfbench.analysis.store import Writer, load, mend
from nfbench.analysis.turn_ratios import sentence
from nfbench.commands._landing import Landing
from nfbench.commands.batch_sweep import enough
from nfbench.devices.fake import FakeDevice
from nfbench.records import Accuracy, Result, Sampling, StepTime, to_json
from nfbench.showing import answers, report, shown_rows
from nfbench.studies.entries import Entry, Task
from nfbench.studies.processes import Group
from nfbench.studies.run import Done
from nfbench.studies.worker import Request

HEAD = 'title = "T"\nquestion = "Does it?"\n'
MIXED = (
    HEAD
    + '[[step-time]]\nmodel = ["tiny-nfnet", "tiny-resnet"]\nbatch = [8, 16]\nmax_time = 1\n'
    + '[[compare]]\nnet = "tiny-nfnet"\nbaseline = "tiny-resnet"\nturns = 2\nturn_time = 1\nrounds = 2\n'
    + '[[flops]]\nmodel = "nfnet-f0"\n[[dependence]]\nmodel = "tiny-resnet"\n'
    + '[[agc-cost]]\nmodel = "nfnet-f0"\nmax_time = 1\n'
    + '[[accuracy]]\nmodel = "tiny-nfnet-s"\nepochs = 2\nseeds = 2\n'
)


pytestmark = pytest.mark.usefixtures("workers_in_process", "no_figures")


def run(cli: Cli, text: str, *flags: object) -> SimpleNamespace:
    Path("mine.toml").write_text(text)
    done = cli("run", "mine.toml", "--device", "fake", "--quiet", *flags)
    assert "Traceback" not in done.output
    return SimpleNamespace(code=done.exit_code, out=done.stdout, err=done.stderr)


def stored(folder: str = "results/fake/mine") -> list[Result]:
    return load([Path(folder)]).results


def test_without_imagenet_a_study_measures_the_rest_and_says_in_one_sentence_what_it_needs(cli: Cli) -> None:
    steps = '[[step-time]]\nmodel = ["tiny-nfnet"]\nmax_time = 1\n'
    evaluations = (
        '[[accuracy]]\nmodel = ["nfnet-f0", "resnet50"]\ndataset = "imagenet"\nweights = "published"\nepochs = 0\n'
    )
    done = run(cli, HEAD + steps + evaluations)
    assert done.code == 0 and len(stored()) == 1
    assert done.err.count("ImageNet is not here") == 1
    assert "Left out: 2 workloads. ImageNet is not here: found no folders train and val." in done.err
    assert "Try: --data-dir FOLDER with train/ and val/" in done.err
    alone = run(cli, HEAD + evaluations)
    assert alone.code == 1 and alone.err.startswith("ImageNet is not here")
    for part in ("train", "val"):
        Path("data/imagenet", part).mkdir(parents=True)
    assert "Left out" not in run(cli, HEAD + steps + evaluations, "--dry-run").err


def test_a_study_of_every_kind_is_measured_once_and_its_tables_follow_from_the_results(cli: Cli) -> None:
    first = run(cli, MIXED)
    assert first.code == 0, first.err
    kinds = [type(r.workload).__name__ for r in stored()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "StepTime": 4 + 2 * 2 * 2,
        "Flops": 1,
        "Dependence": 1,
        "AgcCost": kinds.count("AgcCost"),
        "Accuracy": 2,
    }
    assert kinds.count("AgcCost") >= 5 * 4
    folder = Path("results/fake/mine")
    kept = {p.name: p.read_text() for p in folder.iterdir() if p.suffix in (".csv", ".md")}
    names = ("steps", "ratios", "accuracy", "clips", "counted", "batch-sweep")
    assert set(kept) == {f"{name}.{ending}" for name in names for ending in ("csv", "md")}
    assert answers.texts(stored()) == kept
    (ratio,) = csv.DictReader(io.StringIO(kept["ratios.csv"]))
    assert (ratio["net"], ratio["baseline"], ratio["rounds"]) == ("tiny-nfnet", "tiny-resnet", "2")
    assert float(ratio["speedup"]) == 1.0
    assert "On fake, fp32: tiny-nfnet is 1.00 times as fast as tiny-resnet" in first.out
    assert "; 4 rounds are needed for an interval: --rounds 4)" in first.out

    again = run(cli, MIXED)
    assert again.code == 0 and "11 workloads had been done before" in again.err
    assert len(list(folder.glob("*.jsonl"))) == 1 and len(stored()) == len(kinds)
    assert {p.name: p.read_text() for p in folder.iterdir() if p.name in kept} == kept


def test_rows_of_one_task_are_written_together_and_a_part_of_them_does_not_count_as_done(cli: Cli) -> None:
    text = HEAD + '[[compare]]\nnet = "tiny-nfnet"\nbaseline = "tiny-resnet"\nrounds = 1\nturns = 4\nturn_time = 1\n'
    run(cli, text)
    (path,) = Path("results/fake/mine").glob("*.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 8
    path.write_text("".join(lines[:5]))
    again = run(cli, text)
    assert again.code == 0 and "done before" not in again.err
    assert len(stored()) == 13
    shown = current(stored())
    assert len(shown) == 8 and len({r.session for r in shown}) == 1
    assert next(csv.DictReader(io.StringIO(Path("results/fake/mine/ratios.csv").read_text())))["turns"] == "4"


def test_rounds_go_a_b_b_a_with_what_auto_became_in_the_first(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = Group._ask

    def answered(self: Group, index: int, request: Request, *rest: Any) -> Result:
        asked.append(request.workload.layout)  # type: ignore[union-attr]
        found = ask(self, index, request, *rest)
        assert found.resolved is not None
        if asked[-1] != "best":
            return found
        return replace(found, resolved=replace(found.resolved, layout="nchw"))

    monkeypatch.setattr(Group, "_ask", answered)
    # four rounds of two turns, since the table does not say otherwise
    text = HEAD + '[[compare]]\nnet = "tiny-nfnet"\nbaseline = "tiny-resnet"\nturn_time = 1\n'
    assert run(cli, text, "--limit", 1).code == 0 and asked == ["best"] * 4
    done = run(cli, text)
    assert done.code == 0 and asked[4:] == ["nchw"] * 12
    assert (
        "tiny-nfnet and tiny-resnet are about equally fast: 1.000 times as fast (both 32 px, nchw, batch 32). This"
        in done.out
    )
    order = ["tiny-nfnet", "tiny-resnet"]
    assert [(r.round, r.turn, r.workload.model) for r in sorted(stored(), key=lambda r: (r.round, r.turn))] == [
        (round, turn, model)
        for round in range(4)
        for turn in range(2)
        for model in (order if (round + turn) % 2 == 0 else order[::-1])
    ]
    assert {(r.sampling.rounds, r.sampling.looks) for r in stored()} == {(4, ())}
    # another seed is another measurement
    assert run(cli, text, "--limit", 1, "--seed", 1).code == 0 and asked[16:] == ["best"] * 4


def test_a_net_of_two_pairs_is_measured_with_each(cli: Cli) -> None:
    pairs = '[[compare]]\nnet = "{}"\nbaseline = "tiny-resnet"\nrounds = 1\nturns = 2\nturn_time = 1\n'
    text = HEAD + pairs.format("tiny-nfnet") + pairs.format("tiny-nf-resnet") + '[[step-time]]\nmodel = "tiny-resnet"\n'
    assert run(cli, text).code == 0
    assert len(stored()) == len(current(stored())) == 9
    assert [r["net"] for r in csv.DictReader(io.StringIO(Path("results/fake/mine/ratios.csv").read_text()))] == [
        "tiny-nfnet",
        "tiny-nf-resnet",
    ]
    assert "3 workloads had been done before" in run(cli, text).err


def test_what_failed_is_a_row_and_runs_again_only_when_asked(cli: Cli) -> None:
    text = HEAD + '[[step-time]]\nmodel = "tiny-nfnet"\nbatch = [12285, 32]\nmax_time = 1\n'
    first = run(cli, text)
    assert first.code == 5 and "1 of 2 workloads failed: tiny-nfnet." in first.err
    assert [r.status for r in stored()] == ["unsupported", "ok"]
    again = run(cli, text)
    assert again.code == 5 and len(stored()) == 2
    assert "1 workload had failed before; --retry failed runs them again." in again.err
    assert run(cli, text, "--retry", "failed").code == 5
    assert sorted(r.status for r in stored()) == ["ok", "unsupported", "unsupported"]
    assert len(current(stored())) == 2
    assert run(cli, text, "--fresh").code == 5
    assert len(stored()) == 5 and len(current(stored())) == 2


def test_a_cap_too_short_for_one_step_keeps_the_step_and_says_what_to_type(cli: Cli) -> None:
    done = run(cli, HEAD + '[[step-time]]\nmodel = "tiny-nfnet"\nmax_time = 0.001\n')
    assert done.code == 1 and len(stored()) == 1
    assert "--max-time 0.001 is too short for one step of tiny-nfnet, which takes 31.25 ms.\n" in done.err
    assert "Try: --max-time 1\n" in done.err


def test_a_disk_that_is_full_loses_nothing_and_leaves_no_half_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    write = os.write

    class Full:
        """The store's ``os``, on a disk with room for one result and a half."""

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def write(self, handle: int, data: bytes) -> int:
            calls.append(len(data))
            if len(calls) == 1:
                return write(handle, data)
            if len(calls) == 2:
                return write(handle, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "os", Full())
    done = run(cli, HEAD + '[[step-time]]\nmodel = ["tiny-nfnet", "tiny-resnet"]\nmax_time = 1\n')
    assert done.code == 1
    assert "No space left on device" in done.err and "1 result in" in done.err
    (path,) = Path("results/fake/mine").glob("*.jsonl")
    assert len(load([path]).results) == 1 and load([path]).broken == []
    rescued = next(line.split()[-1].rstrip(".") for line in done.err.splitlines() if "could not be written" in line)
    assert [r.workload.model for r in load([Path(rescued)]).results] == ["tiny-resnet"]
    Path(rescued).unlink()


def test_runs_of_one_study_keep_each_other_out_of_its_folder_but_for_shards_of_one_number(cli: Cli) -> None:
    text = HEAD + '[[step-time]]\nmodel = ["tiny-nfnet", "tiny-resnet"]\nmax_time = 1\n'

    def refused(*flags: str) -> str:
        done = run(cli, text, *flags)
        assert done.code == 1 and " runs this into results/fake/mine already." in done.err
        return str(done.err)

    landing = Landing(None, "mine", "fake")
    landing.make(FakeDevice.machine)
    landing.hold(FakeDevice.machine)
    said = refused()
    assert f"Process {os.getpid()} runs" in said and "Try: --shard 1/2 in one and --shard 2/2 in the other" in said
    refused("--shard", "2/2")
    assert not list(Path("results/fake/mine").glob("*.jsonl"))
    landing.release()
    # one that was killed leaves its file, and nobody in it
    assert run(cli, text, "--shard", "1/2").code == 0
    landing.hold(FakeDevice.machine, "1/2")
    assert "Shards of 2 runs this into" in refused()
    refused("--shard", "1/2")
    refused("--shard", "1/1")
    assert run(cli, text, "--shard", "2/2").code == 0
    landing.release()
    assert run(cli, text).code == 0 and len(stored()) == 2


# what killed writers leave


def torn() -> tuple[Path, bytes, bytes]:
    folder = Path("here")
    folder.mkdir()
    whole, half = to_json(result()), to_json(result("nfnet-f0"))[:100]
    return folder, whole, half


def test_a_half_written_line_is_cut_off_and_a_whole_one_is_ended_unless_somebody_writes_there() -> None:
    folder, whole, half = torn()
    (folder / "a.jsonl").write_bytes(whole + b"\n" + half)
    (folder / "b.jsonl").write_bytes(whole)
    (folder / "c.jsonl").write_bytes(half)
    (folder / "d.jsonl").write_bytes(b"")
    assert mend(sorted(folder.glob("*.jsonl"))) == 2
    left = {"a.jsonl": whole + b"\n", "b.jsonl": whole + b"\n", "c.jsonl": b"", "d.jsonl": b""}
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == left
    writer = Writer(folder / "a.jsonl")
    writer.write(result())
    with (folder / "a.jsonl").open("ab") as file:
        file.write(half)
    before = (folder / "a.jsonl").read_bytes()
    assert mend(sorted(folder.glob("*.jsonl"))) == 0 and (folder / "a.jsonl").read_bytes() == before
    writer.close()
    assert mend(sorted(folder.glob("*.jsonl"))) == 1


@pytest.mark.parametrize("trap", ["link", "pipe", "folder"])
def test_a_lock_of_a_study_that_is_no_plain_file_is_refused(cli: Cli, trap: str) -> None:
    victim, lock = Path("victim"), Path("here/.mine.running")
    victim.write_text("precious")
    lock.parent.mkdir()
    if trap == "link":
        lock.symlink_to(victim.absolute())
    elif trap == "pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    done = run(cli, HEAD + '[[flops]]\nmodel = "tiny-nfnet"\n', "--out", "here/mine.jsonl")
    assert done.code == 1 and "here/.mine.running is no plain file" in done.err
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    ("table", "key", "most"),
    [
        ("accuracy", "seeds", 1000),
        ("step-time", "rounds", 1000),
        ("step-time", "turns", 1000),
        ("accuracy", "workers", 1024),
    ],
)
def test_work_without_an_end_is_refused_with_the_most_that_makes_sense(
    cli: Cli, table: str, key: str, most: int
) -> None:
    for asked in (most + 1, 2_000_000_000, 10**18):
        done = run(cli, HEAD + f'[[{table}]]\nmodel = "tiny-nfnet"\n{key} = {asked}\n', "--dry-run")
        assert done.code == 1 and f"The most is {most:,}." in done.err


def test_nothing_is_cut_off_that_is_no_result(cli: Cli) -> None:
    folder, _, half = torn()
    notes = b'{"loss": 0.1}\n{"loss": 0.2}'
    (folder / "train.jsonl").write_bytes(notes)
    (folder / "notes.jsonl").write_bytes(b"by hand")
    (folder / "mine.jsonl").write_bytes(half)
    assert mend(folder.glob("t*.jsonl")) == 0
    flops = HEAD + '[[flops]]\nmodel = "tiny-nfnet"\n'
    done = run(cli, flops, "--out", "here/mine.jsonl")
    assert done.code == 0 and "Cut off 1 half-written line" in done.err
    assert {p.name for p in folder.iterdir()} - {".mine.running"} == {"train.jsonl", "notes.jsonl", "mine.jsonl"}
    assert (folder / "train.jsonl").read_bytes() == notes and (folder / "notes.jsonl").read_bytes() == b"by hand"
    # a file that is named is a study's own, whatever lies beside it
    for name in ("other", "mine"):
        assert run(cli, flops, "--out", f"here/{name}.jsonl").code == 0
        assert [r.workload.model for r in load([folder / f"{name}.jsonl"]).results] == ["tiny-nfnet"]


# what is done


def task(workload: StepTime | Accuracy) -> Task:
    return Task(Entry("step-time", (workload,)))


def test_workload_machine_software_round_and_seed_decide_what_is_done() -> None:
    row, same = result(), task(StepTime(model="resnet50"))
    done = Done([row], CPU, SOFTWARE)
    assert done.rows(same) == [row]
    others = (task(StepTime(model="resnet50", batch=64)), same._replace(seed=1), same._replace(round=1))
    assert [done.rows(other) for other in others] == [None] * 3
    assert Done([row], H200, SOFTWARE).rows(same) is None
    for other in (result(software=replace(SOFTWARE, nfbench="9")), result(status="interrupted")):
        assert Done([other], CPU, SOFTWARE).rows(same) is None


def test_a_timeout_counts_as_done_until_the_cap_or_the_limit_that_ended_it_is_raised() -> None:
    row = result(status="timeout")
    done = Done([row], row.machine, row.software)
    same = task(StepTime(model="resnet50"))
    assert done.rows(same) == [row]
    assert done.rows(same._replace(entry=same.entry._replace(sampling=Sampling(max_time=120)))) is None
    row = result(status="timeout", notes={"time_limit": "1"})
    done = Done([row], row.machine, row.software)
    assert done.rows(same._replace(entry=same.entry._replace(time_limit=1.0))) == [row]
    assert done.rows(same._replace(entry=same.entry._replace(time_limit=60.0))) is None
    assert done.rows(same) is None


# the sweeps


def test_a_batch_sweep_goes_up_to_what_fits_and_then_by_accumulation(cli: Cli) -> None:
    done = cli(
        "batch-sweep", "--model", "tiny-nfnet", "--device", "fake", "--max-time", 8, "--format", "csv", "--quiet"
    )
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [int(r["batch"]) for r in rows] == [2**n for n in range(1, 12)]
    assert [int(r["accumulation_steps"]) for r in rows] == [1] * 9 + [2, 4]
    assert "Left out: tiny-nfnet, batch 4096: batch 2048 already takes 4 passes." in done.stderr
    folder = Path("results/fake/batch-sweep")
    assert (folder / "batch-sweep.csv").read_text() == done.stdout
    assert "| tiny-nfnet |" in (folder / "batch-sweep.md").read_text()


def test_a_batch_sweep_takes_no_larger_batch_than_one_that_did_not_fit() -> None:
    failed = result(status="out_of_memory", workload=StepTime(model="resnet50", batch=64), resolved=None)
    assert enough(task(StepTime(model="resnet50", batch=128)), [failed]) == "batch 64 did not fit"
    assert enough(task(StepTime(model="resnet50", batch=32)), [failed]) is None
    assert enough(task(StepTime(model="nfnet-f0", batch=128)), [failed]) is None
    assert enough(task(Accuracy(model="resnet50", batch=128)), [failed]) is None


def test_a_batch_sweep_with_accuracy_trains_at_each_batch(cli: Cli) -> None:
    flags = ("--batch", "16,64", "--accuracy", "--epochs", 2, "--seeds", 2, "--format", "json", "--quiet")
    done = cli("batch-sweep", "--model", "tiny-nfnet", "--model", "tiny-resnet", "--device", "fake", *flags)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [(r["model"], r["batch"], r["seeds"]) for r in rows] == [
        (model, batch, 2) for model in ("tiny-nfnet", "tiny-resnet") for batch in (16, 64)
    ]
    assert {r["top1"] for r in rows} == {0.75} and all("throughput" in r for r in rows)
    # the rate grows with the batch
    assert rows[1]["lr"] == 4 * rows[0]["lr"]


def test_in_an_agc_sweep_divergence_is_a_cell(cli: Cli) -> None:
    flags = ("--batch", "64,256", "--epochs", 4, "--device", "fake", "--quiet")
    done = cli("agc-sweep", "--model", "tiny-nfnet", *flags)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("tiny-nfnet on digits: without the clip 1 of 2 runs diverge; with it 0 of 10 runs")
    table = {line.split()[0]: line for line in lines[5:11]}
    assert list(table) == ["0.01", "0.02", "0.04", "0.08", "0.16", "none"]
    assert table["none"].endswith("diverged at 12") and "diverged" not in table["0.16"]
    raw = list(csv.DictReader(io.StringIO(Path("results/fake/agc-sweep/agc-sweep.csv").read_text())))
    assert len(raw) == 12
    assert {(r["batch"], float(r["lr"])) for r in raw} == {("64", 0.025), ("256", 0.1)}
    again = cli("agc-sweep", "--model", "tiny-nfnet", *flags)
    assert again.stdout.splitlines()[:-1] == lines[:-1] and "12 workloads had been done before" in again.stderr


def test_a_base_rate_is_scaled_linearly(cli: Cli) -> None:
    done = cli(
        *("agc-sweep", "--model", "tiny-nfnet", "--device", "fake", "--batch", "128,512", "--agc", "0.02,none"),
        *("--base-lr", 0.2, "--epochs", 1, "--format", "json", "--quiet"),
    )
    assert done.exit_code == 0, done.output
    assert {(r["batch"], r["lr"]) for r in json.loads(done.stdout)} == {(128, 0.1), (512, 0.4)}


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("batch-sweep", "--epochs", 3), 1, "--epochs and --seeds are of training.\nTry: --accuracy with them\n"),
        (("agc-sweep", "--base-lr", 0), 1, "--base-lr 0 is not positive.\nTry: --base-lr 0.1, the rate at batch 256\n"),
        (("agc-sweep", "--batch", ""), 2, "is no list of numbers; type 2,4,8."),
        (("agc-sweep", "--batch", "2;4"), 2, "is no list of numbers; type 2,4,8."),
        (("agc-sweep", "--batch", ","), 2, "is no list of numbers; type 2,4,8."),
    ],
)
def test_a_flag_of_a_sweep_that_is_wrong_is_worded(args: tuple[Any, ...], code: int, words: str, cli: Cli) -> None:
    done = cli(*args, "--model", "tiny-nfnet", "--device", "fake")
    assert done.exit_code == code and words in done.stderr


# the page of a device


def test_the_page_of_a_device_leads_with_the_claims_and_names_each_study(cli: Cli) -> None:
    done = cli("run", "claims", "--set", "scale=tiny", "--device", "fake", "--quiet")
    assert done.exit_code == 0, done.output
    assert "f1-vs-b7, " in done.stdout and ": tiny nets, a fake device" in done.stdout
    assert "only a part" not in done.stdout and "rounds are needed" not in done.stdout
    assert "it says nothing about a GPU" in done.stdout.splitlines()[0]
    run(cli, HEAD + '[[step-time]]\nmodel = "tiny-nfnet"\nmax_time = 1\n')
    made = report.of_device(Path("results/fake"))
    assert made is not None
    text, _ = report.markdown(made, Path("results/fake/README.md"))
    assert text.index("## Claims, tiny scale") < text.index("## mine")
    assert "nfbench run claims --set scale=tiny --device fake --quiet" in text


# several sessions, seeds, machines and versions in one folder


def pair(net: float, baseline: float, **fields: object) -> list[Result]:
    """A session in which two nets took four turns."""
    given = {"session": "s1", "study": "mine", "sampling": Sampling(turns=4)} | fields
    return [
        result(model, (seconds,) * 20, workload=StepTime(model=model), turn=turn, **given)
        for turn in range(4)
        for model, seconds in (("nfnet-f0", net), ("resnet50", baseline))
    ]


def test_a_ratio_is_of_one_session_and_says_which_of_its_turns_are_missing() -> None:
    whole = pair(0.13, 0.10)
    fields = {"workload": StepTime(model="resnet50"), "status": "out_of_memory"}
    failed = result("resnet50", (), session="s2", seed=1, **fields)
    alone = [r for r in pair(0.26, 9.9, session="s2", seed=1) if r.workload.model == "nfnet-f0"]
    (ratio,) = shown_rows.ratios([*whole, *alone, failed])
    assert ratio.estimate.value == pytest.approx(1.3) and ratio.turns == 4
    (ratio,) = shown_rows.ratios([*whole[:5], result("resnet50", (), session="s1", turn=2, **fields)])
    assert "; only 2 of 4 turns count; 4 rounds are needed" in sentence([ratio])
    # settings of one side only are named
    sides = {"nfnet-f0": 0.05, "resnet50": "none"}
    own = [replace(r, workload=replace(r.step, model="nfnet-f0", sam=sides[r.workload.model])) for r in whole]
    assert "nfnet-f0 with SAM ρ 0.05 is 0.769 times as fast as nfnet-f0" in sentence(shown_rows.ratios(own))


def test_what_was_cut_short_is_no_replicate_of_what_was_not() -> None:
    (row,) = rows([result(), result(times=(9.0,), status="interrupted")])[0]
    assert row["step_time"] == pytest.approx(0.1) and row["rounds"] == 1
