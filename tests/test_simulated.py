"""What becomes of results of a simulated GPU: where they land, what they never stand beside, and what is said of them.

They are made here: the simulated GPU itself is in ``simulated_gpu``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from conftest import Cli
from fake_pynvml import Board, install, torch_sees
from make import CPU, FAKE, H200, keep, once, result, trained, turns

from nfbench.analysis import claims, metrics, rows, turn_ratios
from nfbench.analysis.store import load
from nfbench.commands._landing import Landing
from nfbench.devices import host
from nfbench.errors import RefusedResults
from nfbench.records import SIMULATED, Machine, Resolved, Result, StepTime, from_json, to_json
from nfbench.showing import answers, claim_tables, comparison
from nfbench.showing.sheet import sheet

SIM = msgspec.structs.replace(H200, simulated=True)
STUDY = 'title = "t"\nquestion = "q"\n[[step-time]]\nmodel = "tiny-nfnet"\nmax_time = 1\n'
NO_TIMING = "A simulated GPU times nothing"


def step(machine: Machine = SIM, model: str = "nfnet-f1") -> Result:
    """A step whose net, batch and px are the paper's."""
    given = StepTime(model=model, batch=32)
    resolved = Resolved(px=224, micro_batch=32, precision="bf16", layout="nhwc")
    return msgspec.structs.replace(
        result(model, machine=machine, workload=given, resolved=resolved),
        readings=(*result().readings, once("train_macs", 1e11)),
    )


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process into which the simulated GPU was preloaded."""
    board = Board()
    install(monkeypatch, board)
    torch_sees(monkeypatch, board)
    monkeypatch.setattr(host, "simulated_gpu", lambda: True)


def test_a_process_tells_by_a_symbol_that_its_gpu_is_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not host.simulated_gpu()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(nfbench_simulated_gpu=1))
    assert host.simulated_gpu()
    monkeypatch.setattr(host.sys, "platform", "win32")
    assert not host.simulated_gpu()


def test_a_simulated_machine_is_another_and_only_its_lines_say_so() -> None:
    assert from_json(to_json(step())) == step() != step(H200)
    assert b'"simulated":true' in to_json(step()) and b"simulated" not in to_json(step(H200))


# where they land


def test_results_land_in_a_folder_of_their_own_that_git_ignores() -> None:
    landing = Landing(None, "step-time", "fake")
    landing.keep(step())
    assert landing.path is not None and landing.path.parent == Path("results/simulated-gpu/step-time")
    assert "\n/results/simulated-gpu/\n" in (Path(__file__).parent.parent / ".gitignore").read_text()


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize(
    "typed",
    [
        "step-time --model tiny-nfnet",
        "compare tiny-nfnet tiny-resnet",
        "accuracy --model tiny-nfnet",
        "agc-cost",
        "check mine.toml",
        "run mine.toml",
    ],
)
@pytest.mark.parametrize("out", ["mine", "mine/kept.jsonl"])
def test_no_command_times_a_simulated_gpu_into_real_results(cli: Cli, typed: str, out: str) -> None:
    Path("mine.toml").write_text(STUDY)
    before = keep("mine/kept.jsonl", [step(CPU)]).read_bytes()
    done = cli(*typed.split(), "--out", out)
    assert done.exit_code == 1
    assert f"--out {out} holds results of A CPU, and the GPU here is simulated.\n{NO_TIMING}" in done.stderr
    assert "Try: another --out, or none" in done.stderr
    assert [p.read_bytes() for p in Path().rglob("*.jsonl")] == [before]


def test_real_results_do_not_go_to_where_simulated_ones_are(cli: Cli) -> None:
    keep("mine/kept.jsonl", [step()])
    done = cli("step-time", "--model", "tiny-nfnet", "--device", "cpu", "--out", "mine")
    assert done.exit_code == 1 and len(list(Path("mine").iterdir())) == 1
    assert f"--out mine holds results of NVIDIA H200 ({SIMULATED}), and the device here is real." in done.stderr


@pytest.mark.usefixtures("simulated")
def test_results_of_the_same_kind_share_a_folder_and_those_of_the_cpu_are_real_everywhere() -> None:
    keep("simulated/kept.jsonl", [step(FAKE), step()])
    keep("real/kept.jsonl", [step(FAKE), step(CPU)])
    Landing(Path("simulated"), "step-time", "auto")
    Landing(Path("real"), "step-time", "cpu")
    with pytest.raises(RefusedResults):
        Landing(Path("simulated"), "step-time", "cpu")


@pytest.mark.usefixtures("simulated")
def test_a_check_refuses_stored_results_of_the_other_kind_before_it_times(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.toml").write_text(STUDY)
    keep("real.jsonl", [step(CPU, "tiny-nfnet")])
    done = cli("check", "mine.toml", "--against", "real.jsonl")
    assert done.exit_code == 1 and not Path("results").exists()
    assert f"--against real.jsonl holds results of A CPU, and the GPU here is simulated.\n{NO_TIMING}" in done.stderr
    assert "Try: nfbench check mine --out base.jsonl" in done.stderr
    keep("simulated.jsonl", [step(SIM, "tiny-nfnet")])
    monkeypatch.setattr(host, "simulated_gpu", lambda: False)
    done = cli("check", "mine.toml", "--against", "simulated.jsonl", "--allow", "simulated")
    assert done.exit_code == 1 and "and the device here is real." in done.stderr


def test_a_dry_run_is_not_disturbed_by_simulated_results(cli: Cli) -> None:
    Path("mine.toml").write_text(STUDY)
    assert cli("run", "mine.toml", "--device", "fake", "--quiet").exit_code == 0
    keep("results/simulated-gpu/mine/kept.jsonl", [step()])
    keep("results/a-cpu/mine/kept.jsonl", [step(CPU)])
    done = cli("run", "mine.toml", "--device", "fake", "--dry-run")
    assert "0 of 1 workload would run." in done.stderr


# what is read


@pytest.mark.parametrize("typed", ["table", "plot", "report -o r.html"])
def test_no_command_shows_simulated_results_among_real_ones(cli: Cli, typed: str) -> None:
    keep("results/simulated-gpu/step-time/a.jsonl", [step()])
    keep("results/a-cpu/step-time/b.jsonl", [step(CPU)])
    command, *flags = typed.split()
    done = cli(command, "results", *flags)
    assert done.exit_code == 1 and not done.stdout and not Path("r.html").exists()
    assert (
        "Simulated and real results cannot be shown together: results/simulated-gpu/step-time/a.jsonl comes from a "
        f"simulated GPU, results/a-cpu/step-time/b.jsonl does not.\n{NO_TIMING}"
    ) in done.stderr
    assert "Try: the same with results/a-cpu/step-time, or with results/simulated-gpu/step-time" in done.stderr
    assert cli(command, "results/simulated-gpu", *flags).exit_code == 0


@pytest.mark.parametrize(
    ("files", "try_"),
    [
        ({"mine/a.jsonl": [step()], "mine/b.jsonl": [step(H200)]}, "the same with mine/b.jsonl, or with mine/a.jsonl"),
        ({"one.jsonl": [step(), step(H200)]}, "grep -v '\"simulated\":true' one.jsonl > real.jsonl"),
    ],
)
def test_what_to_type_takes_the_two_kinds_apart(files: dict[str, list[Result]], try_: str) -> None:
    paths = [keep(path, results) for path, results in files.items()]
    with pytest.raises(RefusedResults) as refused:
        load(paths)
    assert try_ in refused.value.try_
    # a study that goes on there says it too
    with pytest.raises(RefusedResults):
        Landing(paths[0] if len(paths) == 1 else paths[0].parent, "mine", "fake")


def test_results_of_the_fake_device_may_be_beside_simulated_ones() -> None:
    assert len(load([keep("a.jsonl", [step(FAKE, "resnet50"), step()])]).results) == 2


# what is said


def _table(cli: Cli) -> str:
    return str(cli("table", "results", "--format", "md").stdout)


def _report(cli: Cli) -> str:
    assert cli("report", "results", "-o", "r.md").exit_code == 0
    return Path("r.md").read_text().partition("\n")[0]


def _machine_of_the_report(cli: Cli) -> str:
    _report(cli)
    return next(line for line in Path("r.md").read_text().splitlines() if " GiB, driver" in line)


def _figure(cli: Cli) -> str:
    assert cli("plot", "results", "--format", "svg", "--kind", "step-time").exit_code == 0
    return Path("results/figures/step-time.svg").read_text()


def _trained(cli: Cli) -> str:
    keep("results/trained.jsonl", trained(SIM))
    return str(cli("table", "results/trained.jsonl", "--format", "md").stdout)


def _sheet(cli: Cli) -> str:
    return sheet(rows.rows([step()])[0], "md").partition("precision")[0]


def _comparison(cli: Cli) -> str:
    timed = turns("nfnet-f1", "efficientnet-b7", 5.0, machine=SIM)
    ratio = turn_ratios.paired(timed, timed[0].step, timed[1].step)
    assert ratio is not None
    return comparison.sentence([ratio])


@pytest.mark.parametrize("shown", [_table, _report, _machine_of_the_report, _figure, _trained, _sheet, _comparison])
def test_wherever_a_simulated_machine_is_named_it_says_that_nothing_was_timed(
    cli: Cli, shown: Callable[[Cli], str]
) -> None:
    keep("results/a.jsonl", [step(), step(model="resnet50")])
    assert f"NVIDIA H200 ({SIMULATED})" in shown(cli)


@pytest.mark.usefixtures("simulated")
def test_env_names_it(cli: Cli) -> None:
    line = next(line for line in cli("env", "--format", "md").stdout.splitlines() if "| GPU " in line)
    assert "NVIDIA H200" in line and SIMULATED in line


@pytest.mark.usefixtures("simulated", "workers_in_process")
def test_check_says_it_before_it_begins(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from nfbench.studies import check

    monkeypatch.setattr(check.Check, "run", lambda self: None)
    Path("mine.toml").write_text(STUDY)
    assert f"The GPU here is {SIMULATED}." in cli("check", "mine.toml", "--quiet").stderr


def test_no_published_figure_and_no_share_of_the_peak_stand_beside_it() -> None:
    real, simulated = rows.row([step(H200)]), rows.row([step()])
    reported = {name for name in real if name.startswith("reported_")}
    assert len(reported) == 3 and "mfu" in real
    assert simulated.keys() == real.keys() - reported - {"mfu"}
    assert metrics.mfu(step()) is None
    pair = turns("nfnet-f1", "efficientnet-b7", 5.0)[:2]
    assert turn_ratios.reported(*pair)
    assert not turn_ratios.reported(*(msgspec.structs.replace(r, machine=SIM) for r in pair))


def test_no_claim_is_judged_by_it() -> None:
    (verdicts,) = answers.verdicts([*turns("nfnet-f1", "efficientnet-b7", 5.0, machine=SIM), *trained(SIM)])
    measured = [v for v in verdicts if v.verdict != "by construction"]
    assert {(v.verdict, v.figures, v.why) for v in measured} == {("cannot tell", (), SIMULATED)}
    assert len(measured) == len(claims.RULES)
    assert SIMULATED in claim_tables.table(verdicts, "md")
    assert f"On NVIDIA H200 ({SIMULATED}): 11 cannot tell" in claim_tables.summary(verdicts)
