"""Other settings, parts and shards of a study, and what would run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Cli

from nfbench.errors import BadStudy
from nfbench.records import Accuracy, StepTime
from nfbench.showing.figures import driver
from nfbench.studies import select, study
from nfbench.studies.entry import Task, tasks

STUDY = """
title = "T"
question = "Q?"
[settings]
px = 32
[[step-time]]
model = ["tiny-nfnet", "tiny-resnet"]
batch = [8, 16]
claim = "bn-memory"
[[accuracy]]
model = "tiny-nfnet"
agc = [0.01, "none"]
epochs = 2
"""


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all that is measured here."""
    monkeypatch.setattr(driver, "draw", lambda *_, **__: driver.Drawn([], {}))


def read() -> study.Study:
    path = Path("mine.toml")
    path.write_text(STUDY)
    return study.read(path)


def all_tasks() -> list[Task]:
    return tasks(read().entries("cpu"))


def test_a_setting_replaces_an_axis_in_every_table_that_has_it() -> None:
    found = select.with_settings(read(), ["batch=4", "model=tiny-nfnet"]).entries("cpu")
    assert [e.workloads[0] for e in found] == [
        StepTime(model="tiny-nfnet", px=32, batch=4),
        Accuracy(model="tiny-nfnet", px=32, batch=4, epochs=2, agc=0.01),
        Accuracy(model="tiny-nfnet", px=32, batch=4, epochs=2, agc="none"),
    ]


def test_a_setting_may_be_a_list_a_range_or_for_one_kind_of_table() -> None:
    found = select.with_settings(read(), ["step-time.batch=1,2", "epochs = 1", "max-time=5"]).entries("cpu")
    assert [e.workloads[0].batch for e in found] == [1, 2, 1, 2, 64, 64]  # type: ignore[union-attr]
    assert {e.workloads[0].epochs for e in found if isinstance(e.workloads[0], Accuracy)} == {1}
    # a cap of timings is none of training runs, unless it is said to be
    assert [e.sampling.max_time for e in found] == [5.0] * 4 + [86400.0] * 2
    (capped, *_) = select.with_settings(read(), ["accuracy.max_time=7"]).runs("cpu")
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
        select.with_settings(read(), [given])
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
    assert select.select(every, only) == [every[place] for place in places]


def test_only_what_is_not_there_names_the_nearest() -> None:
    with pytest.raises(BadStudy) as error:
        select.select(all_tasks(), ["tiny-resnt"])
    assert str(error.value).startswith("--only tiny-resnt names nothing of this study.\nThe nearest is tiny-resnet.")
    with pytest.raises(BadStudy, match="names nothing"):
        select.select(all_tasks(), ["batch=9"])


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_shards_are_a_partition(count: int) -> None:
    every = all_tasks()
    shards = [select.shard(every, f"{i}/{count}") for i in range(1, count + 1)]
    assert sorted(every.index(t) for part in shards for t in part) == list(range(len(every)))


@pytest.mark.parametrize("which", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3", "7/7"])
def test_a_shard_that_is_none_is_worded(which: str) -> None:
    with pytest.raises(BadStudy, match=f"--shard {which}"):
        select.shard(all_tasks(), which)


def test_a_dry_run_lists_everything_and_writes_nothing(cli: Cli) -> None:
    read()
    done = cli("run", "mine.toml", "--device", "fake", "--dry-run", "--format", "json")
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    assert [r["workload"] for r in rows[:1]] == ["tiny-nfnet, 32 px, batch 8"]
    assert [r["kind"] for r in rows] == ["step-time"] * 4 + ["accuracy"] * 2
    assert done.stderr.startswith("6 of 6 workloads would run.\n")
    assert not Path("results").exists()


def test_a_dry_run_knows_what_is_done(cli: Cli) -> None:
    read()
    args = ("run", "mine.toml", "--device", "fake", "--only", "tiny-resnet")
    assert cli(*args, "--quiet").exit_code == 0
    rows = json.loads(cli(*args, "--dry-run", "--format", "json").stdout)
    assert {(r["state"], r["runs"]) for r in rows} == {("done", False)}
    whole = cli("run", "mine.toml", "--device", "fake", "--dry-run", "--format", "json")
    assert [r["state"] for r in json.loads(whole.stdout)] == ["missing"] * 2 + ["done"] * 2 + ["missing"] * 2
    assert whole.stderr.startswith("4 of 6 workloads would run.\n")
    limited = json.loads(
        cli("run", "mine.toml", "--device", "fake", "--dry-run", "--limit", 1, "--format", "json").stdout
    )
    assert [r["runs"] for r in limited] == [True] + [False] * 5
    fresh = json.loads(cli(*args, "--dry-run", "--fresh", "--format", "json").stdout)
    assert {(r["state"], r["runs"]) for r in fresh} == {("done", True)}


def test_an_empty_out_is_refused(cli: Cli) -> None:
    read()
    done = cli("run", "mine.toml", "--device", "fake", "--out", "")
    assert done.exit_code == 2 and "it is empty or the current folder" in done.stderr
    assert [p.name for p in Path().iterdir()] == ["mine.toml"]


def test_ray_and_shards_exclude_each_other(cli: Cli) -> None:
    read()
    done = cli("run", "mine.toml", "--device", "cpu", "--ray", "auto", "--shard", "1/2")
    assert (done.exit_code, done.stderr.splitlines()[0]) == (1, "--ray shares out all workloads by itself.")


def test_flags_that_exclude_each_other_are_worded(cli: Cli) -> None:
    read()
    done = cli("run", "mine.toml", "--device", "fake", "--fresh", "--retry", "failed")
    assert (done.exit_code, done.stderr) == (
        1,
        "--fresh runs again what failed too.\nTry: one of --fresh and --retry failed\n",
    )


def test_a_limit_leaves_the_rest_for_the_next_run(cli: Cli) -> None:
    read()
    args = ("run", "mine.toml", "--device", "fake", "--only", "step-time", "--quiet")
    first = cli(*args, "--limit", 3)
    assert first.exit_code == 0 and "1 workload is still missing: run it again." in first.stderr
    assert "3 results in" in first.stderr
    second = cli(*args)
    assert "3 workloads had been done before" in second.stderr and "1 result in" in second.stderr
