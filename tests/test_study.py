from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from conftest import Cli

from nfbench.errors import BadStudy
from nfbench.records import StepTime
from nfbench.showing.figures.table import KINDS
from nfbench.studies import study

HEAD = 'title = "T"\nquestion = "Q?"\n'


def written(text: str) -> Path:
    path = Path("mine.toml")
    path.write_text(text)
    return path


def test_lists_make_a_grid() -> None:
    path = written(
        HEAD + '[settings]\npx = 32\n[[step-time]]\nmodel = ["tiny-nfnet", "tiny-resnet"]\nbatch = [8, 16]\n'
    )
    workloads = [w for part in study.read(path).parts("cpu") for w in part.workloads]
    assert workloads == [
        StepTime(model=model, px=32, batch=batch) for model in ("tiny-nfnet", "tiny-resnet") for batch in (8, 16)
    ]


def test_a_ratio_is_two_workloads_that_differ_in_the_net_alone() -> None:
    path = written(HEAD + '[[compare]]\nnet = "nf-resnet50"\nbaseline = "resnet50"\nturns = 4\nturn_time = 3\n')
    (part,) = study.read(path).parts("cuda")
    assert part.workloads == (StepTime(model="nf-resnet50"), StepTime(model="resnet50"))
    assert (part.sampling.turns, part.sampling.turn_time) == (4, 3.0)


def test_a_table_for_another_device_is_left_out() -> None:
    path = written(
        HEAD
        + '[[step-time]]\nmodel = "tiny-nfnet"\ndevice = "cpu"\n[[step-time]]\nmodel = "nfnet-f0"\ndevice = "cuda"\n'
    )
    read = study.read(path)
    assert [p.workloads[0].model for p in read.parts("cpu")] == ["tiny-nfnet"]
    assert [p.workloads[0].model for p in read.parts("cuda")] == ["nfnet-f0"]
    assert [p.workloads[0].model for p in read.parts("fake")] == ["tiny-nfnet"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + '[[step-time]]\nmodle = "a"\n', "mine.toml, step-time[0]: unknown key 'modle'."),
        (HEAD + 'titel = "x"\n', "mine.toml, the file: unknown key 'titel'."),
        ('question = "Q"\n', 'mine.toml has no title: it needs a line title = "…".'),
        (HEAD, "mine.toml names nothing to run."),
        (HEAD + '[step-time]\nmodel = "a"\n', "mine.toml: step-time has the wrong type."),
        (HEAD + '[[step-time]]\nmodel = "tiny-nfnet"\nbatch = "many"\n', "mine.toml, step-time[0]: A setting has a"),
        (
            HEAD + '[[step-time]]\nmodel = "tiny-nfnet"\nbatch = 0\n',
            "mine.toml, step-time[0]: --batch 0 is not positive",
        ),
        (
            HEAD + '[[step-time]]\nmodel = "tiny-nfnetz"\n',
            "mine.toml, step-time[0]: There is no net called 'tiny-nfnetz'.",
        ),
        (HEAD + "[[step-time]]\nbatch = 8\n", "mine.toml, step-time[0]: model is missing or no text."),
        (HEAD + '[[compare]]\nnet = "resnet50"\n', "mine.toml, compare[0]: baseline is missing or no text."),
        (HEAD + '[[step-time]]\nmodel = "resnet50"\ndevice = "tpu"\n', "mine.toml, step-time[0]: device is 'tpu'."),
        (
            HEAD + "[[step-time]]\nmodel = []\n",
            "mine.toml, step-time[0]: an empty list or range leaves nothing to run.",
        ),
        (
            HEAD
            + '[[step-time]]\nmodel = "tiny-nfnet"\n[[step-time]]\ndevice = "cuda"\nmodel = "resnet50"\npx = "big"\n',
            "mine.toml, step-time[1]: A setting has a wrong value",
        ),
        ("title = \n", "mine.toml is no TOML: Invalid value (at line 1, column 9)"),
    ],
)
def test_a_wrong_study_file_names_the_place(text: str, words: str, cli: Cli) -> None:
    written(text)
    done = cli("run", "mine.toml", "--device", "fake")
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith(words), done.stderr
    assert not Path("results").exists()


def test_a_wrong_type_names_the_field() -> None:
    path = written(HEAD + '[[step-time]]\nmodel = "tiny-nfnet"\nlayout = "nwhc"\n')
    with pytest.raises(BadStudy, match="layout"):
        study.read(path).parts("cpu")


def test_an_unknown_study_names_the_nearest(cli: Cli) -> None:
    done = cli("run", "quik")
    assert done.exit_code == 1
    assert done.stderr.startswith("There is no study called 'quik'.\nThe nearest is quick.")


@pytest.mark.parametrize("name", study.shipped())
def test_every_study_that_is_shipped_can_be_run_on_a_gpu_and_in_small_on_a_cpu(name: str) -> None:
    found = study.find(name)
    assert found.entries("cuda")
    small = msgspec.structs.replace(found, scale="tiny") if "tiny" in found.scales else found
    assert small.entries("cpu")
    assert set(found.figures) <= set(KINDS)


def test_run_list_shows_the_studies(cli: Cli) -> None:
    done = cli("run", "--list")
    assert done.exit_code == 0
    assert "quick" in done.stdout and "without batch normalization" in done.stdout


def test_run_without_a_study_says_what_to_type(cli: Cli) -> None:
    done = cli("run")
    assert done.exit_code == 1
    assert done.stderr == "Which study?\nTry: nfbench run quick, or nfbench run --list\n"


ACCEPT = HEAD + '[[step-time]]\nmodel = "nfnet-f0"\n[[accept]]\nmodel = "nfnet_f0"\n'


def test_an_acceptance_is_read_with_its_day_and_its_shares() -> None:
    text = ACCEPT + 'px = 64\nslower = "6%"\noperators = 0.02\nuntil = "2027-01-31"\nreason = " exact "\n'
    (accept,) = study.read(written(text)).accepts
    assert accept.where == {"model": "nfnet-f0", "px": 64}
    assert (accept.slower, accept.counts, str(accept.until), accept.reason) == (
        0.06,
        {"operators": 0.02},
        "2027-01-31",
        "exact",
    )
    (bare,) = study.read(written(ACCEPT + 'slower = 0.06\nuntil = 2027-01-31\nreason = "x"\n')).accepts
    assert str(bare.until) == "2027-01-31"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('until = "2027-01-31"\nreason = "x"', "accept[0] accepts nothing."),
        ('slower = "6%"\nreason = "x"', "accept[0]: until is no day: None."),
        ('slower = "6%"\nuntil = "soon"\nreason = "x"', "accept[0]: until is no day: 'soon'."),
        ('slower = "6%"\nuntil = 2027-01-31T10:00:00\nreason = "x"', "accept[0]: until is no day"),
        ('slower = "6%"\nuntil = "2027-01-31"', "accept[0] gives no reason."),
        ('slower = 6\nuntil = "2027-01-31"\nreason = "x"', "accept[0]: slower is no share between 0 and 1: 6."),
        ('slower = "-6%"\nuntil = "2027-01-31"\nreason = "x"', "accept[0]: slower is no share between 0 and 1"),
        ('quicker = "6%"\nuntil = "2027-01-31"\nreason = "x"', "accept[0]: unknown key 'quicker'."),
    ],
)
def test_an_acceptance_that_is_none_names_its_place(lines: str, words: str) -> None:
    with pytest.raises(BadStudy) as error:
        study.read(written(ACCEPT + lines + "\n"))
    assert words in str(error.value)


def test_an_acceptance_of_an_unknown_net_is_named() -> None:
    text = ACCEPT.replace("nfnet_f0", "nfnet-f00") + 'slower = "6%"\nuntil = "2027-01-31"\nreason = "x"\n'
    with pytest.raises(BadStudy, match=r"accept\[0\]: There is no net called 'nfnet-f00'"):
        study.read(written(text))


def test_counts_only_is_true_or_false() -> None:
    body = HEAD + '[[step-time]]\nmodel = "tiny-nfnet"\n'
    assert study.read(written("counts_only = true\n" + body)).counts_only
    assert not study.read(written(body)).counts_only
    with pytest.raises(BadStudy, match="counts_only is neither true nor false"):
        study.read(written('counts_only = "yes"\n' + body))
