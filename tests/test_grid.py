"""Axes, ranges, exclusions and settings of single nets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli

from nfbench.errors import BadStudy
from nfbench.records import Accuracy, AgcCost, Dependence, Flops, StepTime
from nfbench.studies import study
from nfbench.studies.entries import tasks
from nfbench.studies.study import axis, points

HEAD = 'title = "T"\nquestion = "Q?"\n'


def read(text: str) -> study.Study:
    path = Path("mine.toml")
    path.write_text(HEAD + text)
    return study.read(path)


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (8, [8]),
        ([2, 4], [2, 4]),
        ({"from": 2, "to": 32, "factor": 2}, [2, 4, 8, 16, 32]),
        ({"from": 2, "to": 31, "factor": 2}, [2, 4, 8, 16]),
        ({"from": 64, "to": 192, "step": 64}, [64, 128, 192]),
        ({"from": 0.1, "to": 0.3, "step": 0.1}, [0.1, 0.2, 0.3]),
        ({"from": 0.01, "to": 0.16, "factor": 2}, [0.01, 0.02, 0.04, 0.08, 0.16]),
        ({"from": 8, "to": 4, "factor": 2}, []),
    ],
)
def test_an_axis_is_a_list_a_range_or_one_value(given: Any, values: list[Any]) -> None:
    assert axis("batch", given) == values
    assert [type(v) for v in axis("batch", given)] == [type(v) for v in values]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"from": 2, "to": 32}, "it needs numbers from and to, and a factor or a step"),
        ({"from": 2, "to": 32, "factor": 2, "step": 2}, "it needs numbers from and to"),
        ({"from": 2, "to": "large", "factor": 2}, "it needs numbers from and to"),
        ({"from": True, "to": 4, "factor": 2}, "it needs numbers from and to"),
        ({"from": 2, "until": 32, "factor": 2}, "batch is no range: 'until' is none of from, to, factor, step"),
        ({"from": 2, "to": 32, "factor": 1}, "batch never gets from 2 to 32: factor is 1"),
        ({"from": 0, "to": 32, "factor": 2}, "batch never gets from 0 to 32"),
        ({"from": 2, "to": 32, "step": 0}, "batch never gets from 2 to 32: step is 0"),
        ({"from": 2, "to": math.inf, "factor": 2}, "batch has no end"),
        ({"from": 2, "to": math.nan, "factor": 2}, "batch has no end"),
    ],
)
def test_a_range_that_is_none_says_what_one_needs(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BadStudy) as error:
        axis("batch", given)
    assert words in error.value.what
    assert error.value.try_ == "batch = { from = 2, to = 64, factor = 2 }"


def test_the_last_axis_runs_fastest_and_excluded_points_are_left_out() -> None:
    table = {"model": ["a", "b"], "batch": [1, 2, 4]}
    found = points(table, {}, [{"model": "b", "batch": [1, 4]}, {"batch": 2}])
    assert [(p["model"], p["batch"]) for p in found] == [("a", 1), ("a", 4)]


def test_a_grid_of_millions_is_refused_before_it_is_made() -> None:
    with pytest.raises(BadStudy, match=r"The axes make 1,000,000,000 workloads"):
        points({name: list(range(1000)) for name in "abc"}, {})


def test_a_net_s_own_settings_go_before_common_ones_and_after_those_of_the_table() -> None:
    common = '[settings]\npx = 64\nbatch = 8\n[models."nfnet-f0"]\npx = 96\nbatch = 16\n'
    found = read(common + '[[step-time]]\nmodel = ["nfnet-f0", "resnet50"]\nbatch = 4\n').entries("cpu")
    assert [e.workloads[0] for e in found] == [
        StepTime(model="nfnet-f0", px=96, batch=4),
        StepTime(model="resnet50", px=64, batch=4),
    ]


def test_what_is_by_model_must_be_there_for_each_net() -> None:
    with pytest.raises(BadStudy) as error:
        read('[models."nfnet-f0"]\npx = 96\n[[step-time]]\nmodel = ["nfnet-f0", "resnet50"]\npx = "by model"\n')
    assert error.value.what == "mine.toml, step-time[0]: resnet50 has no px, which is to be taken by model."
    assert error.value.try_ == '[models."resnet50"] with px = …'
    with pytest.raises(BadStudy, match="There is no net called 'resnet5'"):
        read('[models."nfnet-f0"]\npx = 96\n[[step-time]]\nmodel = ["nfnet-f0", "resnet5"]\npx = "by model"\n')
    (one,) = read('[models."nfnet-f0"]\npx = 96\n[[step-time]]\nmodel = "nfnet-f0"\npx = "by model"\n').entries("cpu")
    assert one.workloads == (StepTime(model="nfnet-f0", px=96),)


def test_every_kind_of_table_becomes_workloads_of_its_kind() -> None:
    found = read(
        '[[flops]]\nmodel = "nfnet-f0"\npx = ["train", "test", 64]\n'
        '[[dependence]]\nmodel = "tiny-resnet"\nbatch = 4\n'
        '[[agc-cost]]\nmodel = "nfnet-f0"\nclipped = [0.0, 1.0]\nimpl = "foreach"\n'
        '[[accuracy]]\nmodel = "tiny-nfnet"\nseeds = 2\n'
        '[[compare]]\nnet = "nfnet-f5"\nbaseline = "nfnet-f5"\nnet_settings = { sam = 0.05 }\nrounds = 2\nturns = 4\n'
    ).entries("cpu")
    assert [e.workloads for e in found] == [
        (StepTime(model="nfnet-f5", sam=0.05), StepTime(model="nfnet-f5")),
        *((Flops(model="nfnet-f0", px=px),) for px in ("train", "test", 64)),
        *(
            (AgcCost(model="nfnet-f0", impl="foreach", clipped=c), AgcCost(model="nfnet-f0", impl="copy", clipped=c))
            for c in (0.0, 1.0)
        ),
        (Dependence(model="tiny-resnet", batch=4),),
        (Accuracy(model="tiny-nfnet"),),
    ]
    listed = tasks(found, seed=7)
    assert [(t.round, t.seed) for t in listed] == [(0, 7), (1, 7), *[(0, 7)] * 6, (0, 0), (0, 1)]
    assert listed[0].name == "nfnet-f5, batch 32, SAM 0.05, against without, round 1"
    assert listed[-1].name == "tiny-nfnet, batch 64, seed 1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[step-time]]\nmodel = "a"\nbatch = { from = 8, to = 4, factor = 2 }\n', "an empty list or range leaves"),
        ('[[step-time]]\nmodel = "resnet50"\nexclude = [{ model = "resnet50" }]\n', "what is excluded leaves nothing"),
        ('[[step-time]]\nmodel = "resnet50"\nexclude = { model = "resnet50" }\n', "exclude is no list of tables"),
        ('[[step-time]]\nmodel = "resnet50"\nexclude = [{ modle = "b" }]\n', "exclude, a table: unknown key 'modle'"),
        ('[[step-time]]\nmodel = "resnet50"\nworld_size = 2\n', "step-time[0]: unknown key 'world_size'"),
        ('[[step-time]]\nmodel = "resnet50"\ntime_limit = 0\n', "time_limit is 0"),
        ('[[step-time]]\nmodel = "resnet50"\nclaim = 3\n', "claim is no name"),
        ('[[step-time]]\nmodel = "resnet50"\nclaim = "bn-memroy"\n', "There is no claim 'bn-memroy'"),
        ('[[step-time]]\nmodel = "resnet50"\nscale = ["tiny"]\n', "scale is ['tiny']"),
        ('[[step-time]]\nmodel = "resnet50"\nturn_time = -1\n', "--turn-time -1 is negative"),
        ('[[step-time]]\nmodel = "resnet50"\nturns = 0\n', "--turns 0 is not positive"),
        ('[[compare]]\nnet = "resnet50"\nbaseline = "resnet50"\n', "resnet50 is compared with itself"),
        ('[[compare]]\nnet = "resnet50"\nbaseline = "resnet26"\nnet_settings = 3\n', "net_settings is no table"),
        ('[[compare]]\nnet = "a"\nbaseline = "b"\nnet_settings = { pixels = 3 }\n', "unknown key 'pixels'"),
        ('[[dependence]]\nmodel = "resnet50"\nbatch = 1\n', "has no rest for an image to depend on"),
        ('[[agc-cost]]\nmodel = "nfnet-f0"\nimpl = "quick"\n', "impl is 'quick'"),
        ('[[agc-cost]]\nmodel = "nfnet-f0"\nclipped = 2\n', "clipped is 2"),
        ('[[flops]]\nmodel = "nfnet-f0"\npx = "all"\n', "A setting has a wrong value"),
        (
            '[models."nfnet-f1"]\npx = 64\n[[flops]]\nmodel = "nfnet-f0"\n',
            "[models.'nfnet-f1'] is of a net that is in no",
        ),
        (
            '[[step-time]]\nmodel = "resnet50"\nbatch = [2, 4]\nexclude = [{ batch = 9 }]\n',
            "exclude = [{'batch': 9}] matches no point of the grid",
        ),
        ('models = 3\n[[flops]]\nmodel = "nfnet-f0"\n', "models has the wrong type"),
        ('[models]\nx = 3\n[[flops]]\nmodel = "nfnet-f0"\n', "models has the wrong type"),
        ('[models.x]\npxx = 3\n[[flops]]\nmodel = "nfnet-f0"\n', "models.x: unknown key 'pxx'"),
        ('figures = "all"\n[[flops]]\nmodel = "nfnet-f0"\n', "figures is no list of names"),
    ],
)
def test_a_wrong_grid_is_worded_with_its_place(text: str, words: str) -> None:
    with pytest.raises(BadStudy) as error:
        read(text)
    assert error.value.what.startswith("mine.toml") and words in error.value.what


def test_a_figure_that_does_not_exist_is_refused_before_anything_runs(cli: Cli) -> None:
    read('figures = ["step-tiem"]\n[[flops]]\nmodel = "nfnet-f0"\n')
    done = cli("run", "mine.toml", "--device", "fake")
    assert done.exit_code == 1 and not Path("results").exists()
    assert done.stderr.startswith("mine.toml: there is no figure called 'step-tiem'.\nThere are: speedup,")


SCALES = '[[flops]]\nmodel = "nfnet-f0"\ndevice = "cuda"\n[[flops]]\nscale = "tiny"\nmodel = "tiny-nfnet"\n'


def test_a_scale_is_run_only_when_it_is_asked_for_and_has_a_folder_of_its_own(cli: Cli) -> None:
    found = read(SCALES)
    assert (found.scales, found.folder) == (["full", "tiny"], "mine")
    assert [e.workloads[0].model for e in found.entries("cuda")] == ["nfnet-f0"]
    refused = cli("run", "mine.toml", "--device", "fake")
    assert refused.exit_code == 1
    assert refused.stderr == (
        "mine.toml has no workload for a fake device at scale 'full'.\nTry: nfbench run mine.toml --set scale=tiny\n"
    )
    done = cli("run", "mine.toml", "--device", "fake", "--set", "scale=tiny", "--quiet")
    assert done.exit_code == 0, done.output
    assert list(Path("results/fake").iterdir()) == [Path("results/fake/mine-tiny")]
    typo = cli("run", "mine.toml", "--device", "fake", "--set", "scale=tinny")
    assert typo.stderr == "mine has no scale 'tinny'.\nTry: --set scale=full or --set scale=tiny\n"
