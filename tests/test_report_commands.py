"""What a report says to type is what the command line takes, and asks for what was measured."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from make import FAKE, H200, SOFTWARE, accuracy, result
from report_cases import HOSTILE, keep

from nfbench import options
from nfbench.records import (
    Accuracy,
    AgcCost,
    Dependence,
    Flops,
    Record,
    Resolved,
    Result,
    Sampling,
    StepTime,
)
from nfbench.showing import report_sources
from nfbench.showing.report_flags import DEFAULTS
from nfbench.studies import entries, runner, study


def typed(results: Sequence[Result], folder: str = "data") -> tuple[str, ...]:
    """The commands of the one study that a report on the results has."""
    (group,) = report_sources.read([keep(f"{folder}/a.jsonl", list(results))]).groups
    return group.commands


def command(name: str) -> click.Command:
    found: click.Command = importlib.import_module(f"nfbench.commands.{name.replace('-', '_')}").command
    return found


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """The command of a line and what its parser makes of the rest; it raises what the command line would refuse."""
    words = shlex.split(line)
    name, *given = words[words.index("nfbench") + 1 :]
    return name, command(name).make_context(name, given).params


def step(model: str = "nfnet-f0", seed: int = 0, sampling: Sampling | None = None, **fields: Any) -> Result:
    where = {name: fields.pop(name) for name in ("machine", "session", "study", "side", "resolved") if name in fields}
    return result(workload=StepTime(model=model, **fields), seed=seed, sampling=sampling or Sampling(), **where)


def clip(impl: Any, **fields: Any) -> Result:
    return result(workload=AgcCost(model="nfnet-f0", impl=impl, **fields), sampling=Sampling(max_time=20), readings=())


LONG = Sampling(max_time=86400)
FINE = Sampling(within=0.005, min_steps=4, rounds=3, max_time=7.5)
CHOSEN = {"dataset": "mnist", "mixup": 0.2, "deterministic": True}
TURNS = Sampling(within=0.02, min_steps=3, max_time=30, turn_time=3)
SWEPT = [
    accuracy("tiny-nfnet", seed=seed, sampling=LONG, run={"agc": agc, "batch": batch, "lr": batch / 1280})
    for agc in ("none", 0.02)
    for batch in (32, 64)
    for seed in (1, 2)
]
BATCHES = [step(batch=batch, px=96, sampling=Sampling(max_time=9, rounds=2)) for batch in (8, 2)]
CASES = [
    pytest.param(
        "step-time",
        [step(m, seed=3, sampling=FINE, agc=0.02) for m in ("nfnet-f0", "nfnet-f1")],
        "nfbench step-time --model nfnet-f0 --model nfnet-f1 --agc 0.02 --within 0.005 --min-steps 4 --rounds 3"
        " --max-time 7.5 --seed 3",
        id="step-time",
    ),
    pytest.param(
        "step-time", [step(machine=FAKE)], "nfbench step-time --model nfnet-f0 --device fake", id="the fake device"
    ),
    pytest.param(
        "step-time",
        [step(world_size=8, batch=512, broadcast_buffers=False, norm="sync_batch")],
        "torchrun --nproc-per-node 8 -m nfbench step-time --model nfnet-f0 --batch 512 --norm sync_batch"
        " --no-broadcast-buffers",
        id="several processes",
    ),
    pytest.param(
        "compare",
        [step(m, session="s", sampling=TURNS, px=px) for m, px in (("nfnet-f0", 96), ("resnet50", "train"))],
        "nfbench compare nfnet-f0@px=96 resnet50 --within 0.02 --max-time 240",
        id="compare",
    ),
    pytest.param(
        "accuracy",
        [accuracy("tiny-nfnet", seed=seed, sampling=LONG, run=CHOSEN) for seed in (2, 3, 4)],
        "nfbench accuracy --model tiny-nfnet --dataset mnist --epochs 3 --batch 50 --mixup 0.2 --deterministic"
        " --seeds 3 --seed 2",
        id="accuracy",
    ),
    pytest.param(
        "agc-sweep",
        SWEPT,
        "nfbench agc-sweep --model tiny-nfnet --agc 0.02,none --batch 32,64 --dataset digits --epochs 3 --base-lr 0.2"
        " --seeds 2 --seed 1",
        id="agc-sweep",
    ),
    pytest.param(
        "batch-sweep",
        [*BATCHES, *(accuracy("nfnet-f0", seed=s, run={"batch": b}) for b in (2, 8) for s in (0, 1))],
        "nfbench batch-sweep --model nfnet-f0 --batch 2,8 --accuracy --dataset digits --epochs 3 --seeds 2 --px 96"
        " --rounds 2 --max-time 9",
        id="batch-sweep with accuracy",
    ),
    pytest.param(
        "agc-cost",
        [clip(impl) for impl in ("timm", "foreach", "reference", "copy")]
        + [step(batch=b, agc=0.01, sampling=Sampling(max_time=20)) for b in (4, 1)],
        "nfbench agc-cost --model nfnet-f0 --batch 1 --batch 4",
        id="agc-cost",
    ),
    pytest.param(
        "agc-cost",
        [clip("foreach", layout="nchw"), clip("timm", layout="nchw")],
        "nfbench agc-cost --model nfnet-f0 --agc-impl foreach --agc-impl timm --no-steps --layout nchw",
        id="some clips alone",
    ),
    pytest.param(
        "flops",
        [result(workload=Flops(model=m, px=96), readings=()) for m in ("nfnet-f0", "resnet50")],
        "nfbench flops nfnet-f0 resnet50 --px 96",
        id="flops",
    ),
    pytest.param(
        "dependence",
        [result(workload=Dependence(model="resnet50", batch=4), readings=())],
        "nfbench models resnet50 --dependence --batch 4",
        id="dependence",
    ),
    pytest.param(
        "check",
        [
            step(study="gate", side="head", session="s"),
            msgspec.structs.replace(
                step(study="gate", side="base", session="s"),
                id="20260101T000001Z-0001",
                software=msgspec.structs.replace(SOFTWARE, commit="0123456789abcdef"),
            ),
        ],
        "nfbench check gate --against 0123456789ab",
        id="check",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("what", "results", "line"), CASES)
def test_a_command_holds_what_was_not_at_its_default_and_the_command_line_takes_it(
    what: str, results: list[Result], line: str
) -> None:
    assert typed(results, what) == (line,)
    assert parsed(line)[0] == ("models" if what == "dependence" else what)


def test_what_a_command_is_parsed_to_is_the_workload_that_was_measured() -> None:
    asked = step(batch=8, micro_batch=4, px=96, precision="fp32", layout="nchw", optimizer="recipe", sam=0.05, ema=0.9)
    (line,) = typed([asked])
    params = parsed(line)[1]
    fields = {name: params[name] for name in options.BY_NAME}
    assert entries.step_time_of({"model": params["models"][0], **fields}) == asked.workload
    run = accuracy("tiny-nfnet", run={"lr": 0.30000000000000004, "ema": "none", "weights": "published", "agc": 2e-05})
    params = parsed(typed([run], "b")[0])[1]
    names = {f.name for f in msgspec.structs.fields(Accuracy)} & set(params) - {"broadcast_buffers"}
    found = {name: params[name] for name in names}
    assert Accuracy(model=params["models"][0], **found) == run.workload


@pytest.mark.parametrize("rounds", [None, 1, 4, 6])
@pytest.mark.parametrize("max_time", [7.0, 120.0, 300.0])
def test_a_comparison_is_measured_for_as_long_again(rounds: int | None, max_time: float) -> None:
    asked = runner.sampling_against(rounds, 0.02, max_time, 2)
    nets = [step(model, session="s", sampling=asked) for model in ("nfnet-f0", "resnet50")]
    params = parsed(typed(nets)[0])[1]
    assert (params["rounds"], params["within"]) == (rounds, 0.02)
    assert runner.sampling_against(params["rounds"], 0.02, params["max_time"], 2) == asked


def test_nets_of_a_comparison_bring_their_settings() -> None:
    sides = [step(m, session="s", sampling=TURNS, px=px, agc=0.02) for m, px in (("nfnet-f0", 96), ("nf-resnet50", 64))]
    params = parsed(typed(sides)[0])[1]
    made = [
        entries.step_time_of({**own, "model": model}) for model, own in map(options.net_and_settings, params["nets"])
    ]
    assert made == [r.workload for r in sides]


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_of_the_command_line(name: str) -> None:
    options_ = {param.name: param for param in command(name).params}
    for key, value in DEFAULTS[name].items():
        param = options_[key]
        assert param.type.convert(param.get_default(click.Context(command(name))), param, None) == value
    # what a workload is by default is what its flag is, else a flag would be left out that is needed
    kinds: dict[str, type[Record]] = {"step-time": StepTime, "compare": StepTime, "accuracy": Accuracy}
    for field in msgspec.structs.fields(kinds[name]) if name in kinds else ():
        if field.name in options_ and field.name != "broadcast_buffers":
            param = options_[field.name]
            assert param.type.convert(param.get_default(click.Context(command(name))), param, None) == field.default


def test_seeds_that_do_not_follow_each_other_take_a_command_each() -> None:
    lines = typed([accuracy("tiny-nfnet", seed=seed, sampling=LONG) for seed in (0, 1, 7)])
    assert [line.partition("--batch 50")[2] for line in lines] == [" --seeds 2", " --seed 7"]


def test_several_steps_of_one_session_without_turns_are_no_comparison() -> None:
    rounds = [
        step("nfnet-f0", session="s", sampling=Sampling(rounds=2)),
        step(session="s", sampling=Sampling(rounds=2)),
    ]
    assert typed(rounds) == ("nfbench step-time --model nfnet-f0 --rounds 2",)


def test_what_no_record_tells_is_said_and_not_invented() -> None:
    run = accuracy("tiny-nfnet", sampling=LONG, run={"weights": "file:0123", "dataset": "imagefolder:cats"})
    folder, file, line = typed([run])
    assert folder == "# imagefolder:cats: with the path of that folder"
    assert file == "# WEIGHTS: the file with the digest 0123"
    assert line.endswith("--dataset imagefolder:cats --epochs 3 --batch 50 --weights WEIGHTS")
    two = Resolved(px=64, micro_batch=4, precision="bf16", layout="nhwc", nodes=2)
    assert typed([step(world_size=16, resolved=two, machine=H200)], "b")[0].startswith(
        "torchrun --nnodes 2 --rdzv-backend c10d --rdzv-endpoint HOST:29500 --nproc-per-node 8 -m nfbench step-time "
    )


def shipped_results(name: str, scale: str) -> list[Result]:
    """A result of each workload of a shipped study."""
    found = msgspec.structs.replace(study.read(study.shipped()[name]), scale=scale)
    return [result(workload=w, study=name, readings=()) for entry in found.entries("cpu") for w in entry.workloads]


def test_a_shipped_study_is_named_with_its_scale_wherever_its_results_lie() -> None:
    tiny = shipped_results("small-batch", "tiny")
    assert typed(tiny, "anywhere") == ("nfbench run small-batch --set scale=tiny",)
    assert typed(tiny, "small-batch-tiny") == ("nfbench run small-batch --set scale=tiny",)
    assert typed(shipped_results("small-batch", "full"), "else") == ("nfbench run small-batch",)
    assert parsed("nfbench run small-batch --set scale=tiny")[1]["assignments"] == ("scale=tiny",)


def test_a_study_that_holds_not_all_that_was_measured_says_so() -> None:
    own = accuracy("tiny-nfnet-l", study="small-batch")
    command_, note = typed([*shipped_results("small-batch", "tiny"), own], "small-batch-tiny")
    assert command_ == "nfbench run small-batch --set scale=tiny"
    assert note.startswith("# 1 of 5 workloads of these results are not in the study as it comes")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_anybody_stay_one_word(name: str) -> None:
    for results, folder in (([step(name)], "a"), ([accuracy(name, run={"dataset": name})], "b"), ([clip("timm")], "c")):
        (line,) = typed(results, folder)
        found, params = parsed(line)
        assert "\n" not in line and "\x1b" not in line
        assert len(params["models"]) == 1 and found in ("step-time", "accuracy", "agc-cost")


def test_every_committed_result_can_be_made_again() -> None:
    folder = Path(__file__).parents[1] / "results"
    devices = [path for path in folder.iterdir() if path.is_dir()]
    lines = [line for group in report_sources.read(devices).groups for line in group.commands]
    assert len(lines) >= len(devices)
    for line in lines:
        assert line.startswith("nfbench ") and parsed(line)[0] in ("run", "agc-sweep", "agc-cost")
    assert "nfbench agc-sweep --model tiny-nfnet --batch 64,256 --dataset digits --epochs 5" in lines


@pytest.mark.parametrize(
    ("what", "results", "line"),
    [
        (
            "compare",
            [step(m, session="s", sampling=TURNS, px=px) for m, px in (("--evil", 96), ("resnet50", "train"))],
            "nfbench compare --within 0.02 --max-time 240 -- --evil@px=96 resnet50",
        ),
        ("compare", [step(m, session="s", sampling=TURNS) for m in ("a", "-b c")], None),
        (
            "flops",
            [result(workload=Flops(model=m, px=96), readings=()) for m in ("--px", "resnet50")],
            "nfbench flops --px 96 -- --px resnet50",
        ),
        (
            "dependence",
            [result(workload=Dependence(model="--version", batch=4), readings=())],
            "nfbench models --dependence --batch 4 -- --version",
        ),
        ("check", [step(study="--help", side="head", session="s")], "nfbench check -- --help"),
    ],
)
def test_a_name_that_looks_like_a_flag_stays_a_name(what: str, results: list[Result], line: str | None) -> None:
    (found,) = typed(results, what)
    assert line in (None, found)
    params = parsed(found)[1]
    given = params.get("nets") or params.get("models") or (params.get("study", params.get("name")),)
    named = [r.study if what == "check" else r.workload.model for r in results]
    assert [str(name).partition("@")[0] for name in given] == named


@pytest.mark.parametrize("name", ["--help", "-b"])
def test_a_name_that_looks_like_a_flag_is_the_value_of_one(name: str) -> None:
    (line,) = typed([step(name)])
    assert parsed(line)[1]["models"] == (name,)
