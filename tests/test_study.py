"""The study file: axes, settings of single nets, acceptances, and which part of a study is run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import fake_pynvml
import msgspec
import pytest
from conftest import Cli

from nfbench.devices import nvml
from nfbench.errors import BadStudy
from nfbench.records import Accuracy, AgcCost, Dependence, Flops, StepTime
from nfbench.showing.figures.kinds import KINDS
from nfbench.studies import run, study
from nfbench.studies.entries import Task, tasks
from nfbench.studies.study import axis, points

HEAD = 'title = "T"\nquestion = "Q?"\n'
NET = HEAD + '[[step-time]]\nmodel = "resnet50"\n'
PAIR = HEAD + '[[compare]]\nnet = "a"\nbaseline = "b"\n'
GRID = (
    HEAD
    + '[settings]\npx = 32\n[[step-time]]\nmodel = ["tiny-nfnet", "tiny-resnet"]\nbatch = [8, 16]\n'
    + 'claim = "bn-memory"\n'
    + '[[accuracy]]\nmodel = "tiny-nfnet"\nagc = [0.01, "none"]\nepochs = 2\n'
)


pytestmark = pytest.mark.usefixtures("workers_in_process", "no_figures")


def read(text: str) -> study.Study:
    path = Path("mine.toml")
    path.write_text(text)
    return study.read(path)


def all_tasks() -> list[Task]:
    return tasks(read(GRID).entries("cpu"))


# the grid


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (8, [8]),
        ([2, 4], [2, 4]),
        ({"from": 2, "to": 32, "factor": 2}, [2, 4, 8, 16, 32]),
        ({"from": 2, "to": 31, "factor": 2}, [2, 4, 8, 16]),
        ({"from": 64, "to": 192, "step": 64}, [64, 128, 192]),
        ({"from": 0.1, "to": 0.3, "step": 0.1}, [0.1, 0.2, 0.3]),
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
        ({"from": True, "to": 4, "factor": 2}, "it needs numbers from and to"),
        ({"from": 2, "until": 32, "factor": 2}, "batch is no range: 'until' is none of from, to, factor, step"),
        ({"from": 2, "to": 32, "factor": 1}, "batch never gets from 2 to 32: factor is 1"),
        ({"from": 0, "to": 32, "factor": 2}, "batch never gets from 0 to 32"),
        ({"from": 2, "to": 32, "step": 0}, "batch never gets from 2 to 32: step is 0"),
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
    left = points(table, {}, [{"model": "b", "batch": [1, 4]}, {"batch": 2}])
    assert [(p["model"], p["batch"]) for p in left] == [("a", 1), ("a", 4)]
    with pytest.raises(BadStudy, match=r"The axes make 1,000,000,000 workloads"):
        points({name: list(range(1000)) for name in "abc"}, {})


def test_a_net_s_own_settings_go_before_common_ones_and_after_those_of_the_table() -> None:
    common = HEAD + '[settings]\npx = 64\nbatch = 8\n[models."nfnet-f0"]\npx = 96\nbatch = 16\n'
    entries = read(common + '[[step-time]]\nmodel = ["nfnet-f0", "resnet50"]\nbatch = 4\n').entries("cpu")
    assert [entry.workloads[0] for entry in entries] == [
        StepTime(model="nfnet-f0", px=96, batch=4),
        StepTime(model="resnet50", px=64, batch=4),
    ]


def test_what_is_by_model_must_be_there_for_each_net() -> None:
    table = '[models."nfnet-f0"]\npx = 96\n[[step-time]]\npx = "by model"\nmodel = '
    with pytest.raises(BadStudy) as error:
        read(HEAD + table + '["nfnet-f0", "resnet50"]\n')
    assert error.value.what == "mine.toml, step-time[0]: resnet50 has no px, which is to be taken by model."
    assert error.value.try_ == '[models."resnet50"] with px = …'
    with pytest.raises(BadStudy, match="There is no net called 'resnet5'"):
        read(HEAD + table + '["nfnet-f0", "resnet5"]\n')
    (entry,) = read(HEAD + table + '"nfnet-f0"\n').entries("cpu")
    assert entry.workloads == (StepTime(model="nfnet-f0", px=96),)


def test_every_kind_of_table_becomes_workloads_of_its_kind() -> None:
    entries = read(
        HEAD + '[[flops]]\nmodel = "nfnet-f0"\npx = ["train", "test", 64]\n'
        '[[dependence]]\nmodel = "tiny-resnet"\nbatch = 4\n'
        '[[agc-cost]]\nmodel = "nfnet-f0"\nclipped = [0.0, 1.0]\nimpl = "foreach"\n'
        '[[accuracy]]\nmodel = "tiny-nfnet"\nseeds = 2\n'
        '[[compare]]\nnet = "nfnet-f5"\nbaseline = "nfnet-f5"\nnet_settings = { sam = 0.05 }\nrounds = 2\nturns = 4\n'
    ).entries("cpu")
    assert [entry.workloads for entry in entries] == [
        (StepTime(model="nfnet-f5", sam=0.05), StepTime(model="nfnet-f5")),
        *((Flops(model="nfnet-f0", px=px),) for px in ("train", "test", 64)),
        *(
            (AgcCost(model="nfnet-f0", impl="foreach", clipped=c), AgcCost(model="nfnet-f0", impl="copy", clipped=c))
            for c in (0.0, 1.0)
        ),
        (Dependence(model="tiny-resnet", batch=4),),
        (Accuracy(model="tiny-nfnet"),),
    ]
    assert (entries[0].sampling.rounds, entries[0].sampling.turns, entries[0].sampling.turn_time) == (2, 4, 3.0)
    listed = tasks(entries, seed=7)
    assert [(t.round, t.seed) for t in listed] == [(0, 7), (1, 7), *[(0, 7)] * 6, (0, 0), (0, 1)]
    assert listed[0].name == "nfnet-f5, batch 32, SAM ρ 0.05, against without, round 1"
    assert listed[-1].name == "tiny-nfnet, batch 64, seed 1"


def test_a_table_for_another_device_is_left_out() -> None:
    table = '[[step-time]]\nmodel = "{}"\ndevice = "{}"\n'
    both = read(HEAD + table.format("tiny-nfnet", "cpu") + table.format("nfnet-f0", "cuda"))
    assert [[step.model for step in both.steps(device)] for device in ("cpu", "cuda", "fake")] == [
        ["tiny-nfnet"],
        ["nfnet-f0"],
        ["tiny-nfnet"],
    ]


WRONG = [
    (HEAD + '[[step-time]]\nmodle = "a"\n', "mine.toml, step-time[0]: unknown key 'modle'."),
    (HEAD + 'titel = "x"\n', "mine.toml, the file: unknown key 'titel'."),
    ('question = "Q"\n', 'mine.toml has no title: it needs a line title = "…".'),
    (HEAD, "mine.toml names nothing to run."),
    ("title = \n", "mine.toml is no TOML: Invalid value (at line 1, column 9)"),
    ("title = " + "[" * 5000 + "]" * 5000, "mine.toml is no TOML: brackets or dotted keys nest too deep"),
    (NET + "net_settings" + ".a" * 5000 + " = 1", "mine.toml is no TOML: brackets or dotted keys nest too deep"),
    ("title = " + "9" * 5000, "mine.toml is no TOML: an integer has more than 64 bits"),
    ("title = [{ a = 0x" + "f" * 9000 + " }]", "mine.toml is no TOML: an integer has more than 64 bits"),
    (NET + "batch = 1_000_000_001\n", "mine.toml, step-time[0]: --batch 1000000001 is more than makes sense"),
    (HEAD + '[[accuracy]]\nmodel = "tiny-nfnet"\nlr = inf\n', "mine.toml, accuracy[0]: --lr inf is no finite number"),
    ('counts_only = "yes"\n' + NET, "mine.toml: counts_only is neither true nor false."),
    ('figures = "all"\n' + NET, "mine.toml: figures is no list of names"),
    (HEAD + '[step-time]\nmodel = "a"\n', "mine.toml: step-time has the wrong type."),
    (HEAD + '[[step-time]]\nmodel = "tiny-nfnetz"\n', "mine.toml, step-time[0]: There is no net called 'tiny-nfnetz'."),
    (HEAD + "[[step-time]]\nbatch = 8\n", "mine.toml, step-time[0]: model is missing or no text."),
    (HEAD + "[[step-time]]\nmodel = []\n", "mine.toml, step-time[0]: an empty list or range leaves nothing to run."),
    (NET + 'layout = "nwhc"\n', "mine.toml, step-time[0]: A setting has a wrong value: Invalid enum value 'nwhc'"),
    (NET + "batch = 0\n", "mine.toml, step-time[0]: --batch 0 is not positive"),
    (NET + '[[step-time]]\ndevice = "cuda"\nmodel = "resnet50"\npx = "big"\n', "mine.toml, step-time[1]: A setting"),
    (NET + 'device = "tpu"\n', "mine.toml, step-time[0]: device is 'tpu'."),
    (NET + 'exclude = [{ model = "resnet50" }]\n', "mine.toml, step-time[0]: what is excluded leaves nothing"),
    (NET + 'exclude = { model = "resnet50" }\n', "mine.toml, step-time[0]: exclude is no list of tables"),
    (NET + 'exclude = [{ modle = "b" }]\n', "mine.toml, step-time[0]: exclude, a table: unknown key 'modle'"),
    (NET + "batch = [2, 4]\nexclude = [{ batch = 9 }]\n", "mine.toml, step-time[0]: exclude = [{'batch': 9}] matches"),
    (NET + "world_size = 2\n", "mine.toml, step-time[0]: unknown key 'world_size'"),
    (NET + "time_limit = 0\n", "mine.toml, step-time[0]: time_limit is 0"),
    (NET + "claim = 3\n", "mine.toml, step-time[0]: claim is no name"),
    (NET + 'claim = "bn-memroy"\n', "mine.toml, step-time[0]: There is no claim 'bn-memroy'"),
    (NET + 'scale = ["tiny"]\n', "mine.toml, step-time[0]: scale is ['tiny']"),
    (NET + "turn_time = -1\n", "mine.toml, step-time[0]: --turn-time -1 is negative"),
    (HEAD + '[[compare]]\nnet = "resnet50"\n', "mine.toml, compare[0]: baseline is missing or no text."),
    (HEAD + '[[compare]]\nnet = "resnet50"\nbaseline = "resnet50"\n', "mine.toml, compare[0]: resnet50 is compared"),
    (PAIR + "net_settings = 3\n", "mine.toml, compare[0]: net_settings is no"),
    (PAIR + "net_settings = { pixels = 3 }\n", "mine.toml, compare[0]: net_settings, the table: unknown key 'pixels'"),
    (HEAD + '[[accuracy]]\nmodel = "tiny-nfnet-s"\nwithin = 0.1\n', "mine.toml, accuracy[0]: unknown key 'within'."),
    (HEAD + '[[accuracy]]\nmodel = "tiny-nfnet-s"\nseeds = 0\n', "mine.toml, accuracy[0]: seeds is 0."),
    *(
        (
            HEAD + f'[[accuracy]]\nmodel = "tiny-nfnet"\n{key} = "{text}\\u0000"\n',
            f"mine.toml, accuracy[0]: --{flag} has a NUL",
        )
        for key, text, flag in (
            ("weights", "w.pt", "weights"),
            ("data_dir", "data", "data-dir"),
            ("checkpoint", "kept", "checkpoint"),
            ("dataset", "imagefolder:data", "dataset"),
        )
    ),
    (HEAD + '[[dependence]]\nmodel = "resnet50"\nbatch = 1\n', "mine.toml, dependence[0]: --batch 1 has no rest for"),
    (HEAD + '[[agc-cost]]\nmodel = "nfnet-f0"\nimpl = "quick"\n', "mine.toml, agc-cost[0]: impl is 'quick'"),
    (HEAD + '[[agc-cost]]\nmodel = "nfnet-f0"\nclipped = 2\n', "mine.toml, agc-cost[0]: clipped is 2"),
    (HEAD + '[[flops]]\nmodel = "nfnet-f0"\npx = "all"\n', "mine.toml, flops[0]: A setting has a wrong value"),
    (NET + '[models."nfnet-f1"]\npx = 64\n', "mine.toml: [models.'nfnet-f1'] is of a net that is in no table"),
    (NET + "[models]\nx = 3\n", "mine.toml: models has the wrong type"),
    (NET + "[models.x]\npxx = 3\n", "mine.toml, models.x: unknown key 'pxx'"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_a_wrong_file_names_the_place(text: str, words: str) -> None:
    with pytest.raises(BadStudy) as error:
        read(text)
    assert error.value.what.startswith(words)


# acceptances

ACCEPT = HEAD + '[[step-time]]\nmodel = "nfnet-f0"\n[[accept]]\nmodel = "nfnet_f0"\n'


def test_an_acceptance_is_read_with_its_day_and_its_shares() -> None:
    text = ACCEPT + 'px = 64\nslower = "6%"\noperators = 0.02\nuntil = "2027-01-31"\nreason = " exact "\n'
    (accept,) = read(text).accepts
    assert accept.where == {"model": "nfnet-f0", "px": 64}
    assert (accept.slower, accept.counts, str(accept.until), accept.reason) == (
        0.06,
        {"operators": 0.02},
        "2027-01-31",
        "exact",
    )
    (bare,) = read(ACCEPT + 'slower = 0.06\nuntil = 2027-01-31\nreason = "x"\n').accepts
    assert str(bare.until) == "2027-01-31"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('until = "2027-01-31"\nreason = "x"', "accept[0] accepts nothing."),
        ('slower = "6%"\nreason = "x"', "accept[0]: until is no day: None."),
        ('slower = "6%"\nuntil = 2027-01-31T10:00:00\nreason = "x"', "accept[0]: until is no day"),
        ('slower = "6%"\nuntil = "2027-01-31"', "accept[0] gives no reason."),
        ('slower = 6\nuntil = "2027-01-31"\nreason = "x"', "accept[0]: slower is no share between 0 and 1: 6."),
        ('quicker = "6%"\nuntil = "2027-01-31"\nreason = "x"', "accept[0]: unknown key 'quicker'."),
        (
            'slower = "6%"\nuntil = "2027-01-31"\nreason = "x"\n[[accept]]\nmodel = "nfnet-f00"',
            "accept[1]: There is no",
        ),
    ],
)
def test_an_acceptance_that_is_none_names_its_place(lines: str, words: str) -> None:
    with pytest.raises(BadStudy) as error:
        read(ACCEPT + lines + "\n")
    assert words in str(error.value)


# other settings, parts and shards


def test_a_setting_replaces_an_axis_in_every_table_that_has_it() -> None:
    entries = study.with_settings(read(GRID), ["batch=4", "model=tiny-nfnet"]).entries("cpu")
    assert [entry.workloads[0] for entry in entries] == [
        StepTime(model="tiny-nfnet", px=32, batch=4),
        Accuracy(model="tiny-nfnet", px=32, batch=4, epochs=2, agc=0.01),
        Accuracy(model="tiny-nfnet", px=32, batch=4, epochs=2, agc="none"),
    ]


def test_a_setting_may_be_a_list_a_range_or_for_one_kind_of_table() -> None:
    entries = study.with_settings(read(GRID), ["step-time.batch=1,2", "epochs = 1", "max-time=5"]).entries("cpu")
    workloads = [entry.workloads[0] for entry in entries]
    assert [w.batch for w in workloads] == [1, 2, 1, 2, 64, 64]  # type: ignore[union-attr]
    assert {w.epochs for w in workloads if isinstance(w, Accuracy)} == {1}
    # a cap of timings is none of training runs, unless it is said to be
    assert [entry.sampling.max_time for entry in entries] == [5.0] * 4 + [86400.0] * 2
    *_, capped = study.with_settings(read(GRID), ["accuracy.max_time=7"]).entries("cpu")
    assert capped.sampling.max_time == 7


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("batch", "--set batch sets nothing."),
        ("=4", "--set =4 sets nothing."),
        ("bach=4", "--set bach=4: nothing of mine has a setting 'bach'."),
        ("flops.px=4", "--set flops.px=4: mine has no [[flops]]."),
        ("accuracy.turns=4", "--set accuracy.turns=4: nothing of mine has a setting 'turns'."),
        ("batch=many", "mine.toml, step-time[0]: A setting has a wrong value"),
        ("scale=tiny", "mine has no scale 'tiny'."),
    ],
)
def test_a_setting_that_is_none_is_worded(given: str, words: str) -> None:
    with pytest.raises(BadStudy) as error:
        study.with_settings(read(GRID), [given])
    assert error.value.what.startswith(words)


@pytest.mark.parametrize(
    ("only", "places"),
    [
        ([], [0, 1, 2, 3, 4, 5]),
        (["tiny-resnet"], [2, 3]),
        (["accuracy"], [4, 5]),
        (["bn-memory"], [0, 1, 2, 3]),
        (["model=tiny-nfnet,batch=8"], [0]),
        (["agc=none"], [5]),
        (["batch=16", "accuracy"], [1, 3, 4, 5]),
    ],
)
def test_only_names_models_kinds_claims_and_settings(only: list[str], places: list[int]) -> None:
    every = all_tasks()
    assert run.select(every, only) == [every[place] for place in places]


def test_only_what_is_not_there_names_the_nearest() -> None:
    with pytest.raises(BadStudy) as error:
        run.select(all_tasks(), ["tiny-resnt"])
    assert str(error.value).startswith("--only tiny-resnt names nothing of this study.\nThe nearest is tiny-resnet.")
    with pytest.raises(BadStudy, match="names nothing"):
        run.select(all_tasks(), ["batch=9"])


@pytest.mark.parametrize("count", [1, 4, 6])
def test_shards_are_a_partition(count: int) -> None:
    every = all_tasks()
    shards = [run.shard(every, f"{i}/{count}") for i in range(1, count + 1)]
    assert sorted(every.index(t) for part in shards for t in part) == list(range(len(every)))


@pytest.mark.parametrize("which", ["0/2", "3/2", "1", "a/b", "-1/2", "1/2/3", "7/7"])
def test_a_shard_that_is_none_is_worded(which: str) -> None:
    with pytest.raises(BadStudy, match=f"--shard {which}"):
        run.shard(all_tasks(), which)


# the command


def test_a_limit_leaves_the_rest_for_the_next_run_and_a_dry_run_says_what_that_is(cli: Cli) -> None:
    read(GRID)

    def states(*flags: object) -> list[tuple[str, bool]]:
        done = cli("run", "mine.toml", "--device", "fake", "--dry-run", "--format", "json", *flags)
        assert done.exit_code == 0, done.output
        return [(row["state"], row["runs"]) for row in json.loads(done.stdout)]

    assert states() == [("missing", True)] * 6 and not Path("results").exists()
    args = ("run", "mine.toml", "--device", "fake", "--only", "step-time", "--quiet")
    first = cli(*args, "--limit", 3)
    assert first.exit_code == 0 and "1 workload is still missing: run it again." in first.stderr
    assert "3 results in" in first.stderr
    done, missing = ("done", False), ("missing", True)
    assert states() == [done] * 3 + [missing] * 3
    assert states("--limit", 1) == [done] * 3 + [missing] + [("missing", False)] * 2
    assert states("--only", "model=tiny-nfnet,batch=8", "--fresh") == [("done", True)]
    second = cli(*args)
    assert "3 workloads had been done before" in second.stderr and "1 result in" in second.stderr
    listed = cli("run", "mine.toml", "--device", "fake", "--dry-run")
    assert listed.stderr.startswith("2 of 6 workloads would run") and "tiny-nfnet, 32 px, batch 8" in listed.stdout


@pytest.mark.parametrize(
    ("fails", "driver", "listed"),
    [
        (fake_pynvml.MISMATCH, False, 64),
        (fake_pynvml.LIBRARY_NOT_FOUND, True, 64),
        (fake_pynvml.LIBRARY_NOT_FOUND, False, 2),
        (None, False, 64),
    ],
)
def test_a_dry_run_lists_what_is_for_the_gpu_where_nvml_does_not_see_it_but_torch_does(
    fails: int | None, driver: bool, listed: int, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = fake_pynvml.Board()
    fake_pynvml.install(monkeypatch, board, fails=fails)
    fake_pynvml.torch_sees(monkeypatch, board)
    monkeypatch.setattr(nvml, "has_driver", lambda: driver)
    tables = (
        f'[[step-time]]\nmodel = "resnet50"\n{table}\n'
        for table in ('device = "cpu"\nbatch = 2', 'device = "cuda"\nbatch = 64')
    )
    Path("mine.toml").write_text(HEAD + "".join(tables))
    done = cli("run", "mine.toml", "--dry-run")
    assert done.exit_code == 0 and done.stdout.count("batch ") == 1 and f"batch {listed}" in done.stdout


@pytest.mark.parametrize(
    ("text", "flags", "code", "words"),
    [
        (WRONG[0][0], (), 1, WRONG[0][1]),
        ('figures = ["step-tiem"]\n' + NET, (), 1, "mine.toml: there is no figure called 'step-tiem'.\nThe nearest"),
        (NET, ("--fresh", "--retry", "failed"), 1, "--fresh runs again what failed too.\nTry: one of --fresh and"),
        (NET, ("--ray", "auto", "--shard", "1/2"), 1, "--ray shares out all workloads by itself."),
        (NET, ("--out", ""), 2, "Usage: "),
    ],
)
def test_what_cannot_run_is_said_at_once(text: str, flags: tuple[str, ...], code: int, words: str, cli: Cli) -> None:
    Path("mine.toml").write_text(text)
    done = cli("run", "mine.toml", "--device", "fake", *flags)
    assert done.exit_code == code and done.stderr.startswith(words), done.output
    assert [path.name for path in Path().iterdir()] == ["mine.toml"]


def test_a_scale_is_run_only_when_it_is_asked_for_and_has_a_folder_of_its_own(cli: Cli) -> None:
    tiny = '[[flops]]\nmodel = "nfnet-f0"\ndevice = "cuda"\n[[flops]]\nscale = "tiny"\nmodel = "tiny-nfnet"\n'
    both = read(HEAD + tiny)
    assert (both.scales, both.folder) == (["full", "tiny"], "mine")
    assert [entry.workloads[0].model for entry in both.entries("cuda")] == ["nfnet-f0"]
    refused = cli("run", "mine.toml", "--device", "fake")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "mine.toml has no workload for a fake device at scale 'full'.\nTry: nfbench run mine.toml --set scale=tiny\n",
    )
    done = cli("run", "mine.toml", "--device", "fake", "--set", "scale=tiny", "--quiet")
    assert done.exit_code == 0, done.output
    assert list(Path("results/fake").iterdir()) == [Path("results/fake/mine-tiny")]
    typo = cli("run", "mine.toml", "--device", "fake", "--set", "scale=tinny")
    assert typo.stderr == "mine has no scale 'tinny'.\nTry: --set scale=full or --set scale=tiny\n"


@pytest.mark.parametrize("name", study.shipped())
def test_every_study_that_is_shipped_can_be_run_on_a_gpu_and_in_small_on_a_cpu(name: str) -> None:
    shipped = study.find_study(name)
    assert shipped.entries("cuda")
    small = msgspec.structs.replace(shipped, scale="tiny") if "tiny" in shipped.scales else shipped
    assert small.entries("cpu")
    assert set(shipped.figures) <= set(KINDS)


def test_run_lists_the_studies_and_says_what_to_type(cli: Cli) -> None:
    done = cli("run", "--list")
    assert done.exit_code == 0
    assert "quick" in done.stdout and "without batch normalization" in done.stdout
    done = cli("run")
    assert (done.exit_code, done.stderr) == (1, "Which study?\nTry: nfbench run quick, or nfbench run --list\n")
    done = cli("run", "quik")
    assert done.exit_code == 1 and done.stderr.startswith("There is no study called 'quik'.\nThe nearest is quick.")
