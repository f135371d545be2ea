"""A search uses no test image, gives each net the same budget, and goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import Cli

from nfbench.analysis.store import load
from nfbench.learning import data as data_sets
from nfbench.learning import fit, tuning
from nfbench.learning.data import Arrays, Pictures, held_out
from nfbench.learning.fake_training import FakeLearner
from nfbench.learning.learner import Epoch
from nfbench.records import Accuracy, Candidate, Result, Training
from nfbench.showing import answers
from nfbench.showing.shown_rows import shown

FAKE = ("--device", "fake", "--quiet", "--epochs", 3, "--out", "a.jsonl")


def stored() -> list[Result]:
    return load([Path("a.jsonl")]).results


def training_of(result: Result) -> Training:
    assert result.resolved is not None and result.resolved.training is not None
    return result.resolved.training


@pytest.mark.parametrize(
    ("tune", "clipping", "pairs", "rates", "lambdas"),
    [
        ("lr", 0.01, 5, 5, [0.01]),
        ("lr", None, 5, 5, [None]),
        ("agc", 0.01, 3, 1, [0.01, 0.04, 0.16]),
        ("agc", None, 1, 1, [None]),
        ("lr,agc", 0.01, 15, 5, [0.01, 0.04, 0.16]),
        ("lr,agc", None, 15, 15, [None]),
    ],
)
def test_each_net_tries_as_many_candidates_around_the_recipe_s_rate(
    tune: str, clipping: float | None, pairs: int, rates: int, lambdas: list[float | None]
) -> None:
    grid = tuning.grid(Accuracy(model="x", tune=tune), 0.1, clipping)  # type: ignore[arg-type]
    tried = sorted({lr for lr, _ in grid})
    assert len(set(grid)) == len(grid) == pairs and len(tried) == rates
    assert list(dict.fromkeys(agc for _, agc in grid)) == lambdas
    assert tried[len(tried) // 2] == 0.1
    if rates > 1:
        assert (tried[0], tried[-1]) == (0.01111, 0.9)


def test_equals_go_to_the_smaller_values_and_what_diverged_to_none() -> None:
    def of(lr: float, agc: float | None, top1: float | None) -> Candidate:
        return Candidate(lr=lr, agc=agc, round=0, images=1, top1=top1)

    tried = [of(0.3, 0.04, 0.9), of(0.1, 0.16, 0.9), of(0.1, 0.04, 0.9), of(0.01, None, None), of(0.5, None, 0.95)]
    assert [(c.lr, c.agc) for c in tuning.best_first(tried)] == [(0.5, None), (0.1, 0.04), (0.1, 0.16), (0.3, 0.04)]


@pytest.mark.parametrize("kind", [Arrays, Pictures])
def test_what_is_held_out_is_a_tenth_of_each_class_of_the_training_images_and_no_test_image(kind: type) -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 3])
    numbers = np.arange(83)
    made = {
        Arrays: lambda at: Arrays(at.astype(np.uint8)[:, None, None, None], labels[at % 100]),
        Pictures: lambda at: Pictures(Path(), [(str(n), int(labels[n % 100])) for n in at]),
    }[kind]
    whole = data_sets.Data("x", ("a", "b", "c"), made(numbers), made(numbers[:5] + 100), "d", (0.5,), (0.5,), {})

    def ids(part: Arrays | Pictures) -> list[int]:
        return part.images.ravel().tolist() if isinstance(part, Arrays) else [int(path) for path, _ in part.samples]

    every = held_out(whole, 0.1, 1.0)
    assert sorted(ids(every.train) + ids(every.test)) == numbers.tolist()
    assert np.bincount(labels[ids(every.test)]).tolist() == [5, 3, 1]
    some = held_out(whole, 0.1, 1 / 9)
    assert ids(some.test) == ids(every.test) and set(ids(some.train)) < set(ids(every.train))
    assert np.bincount(labels[ids(some.train)]).tolist() == [5, 3, 1]


def test_the_best_candidate_is_trained_with_all_seeds_and_the_record_holds_the_search(cli: Cli) -> None:
    done = cli("accuracy", "tiny-nfnet", "tiny-resnet", "--tune", "lr,agc", "--batch", 8, "--seeds", 2, *FAKE)
    assert done.exit_code == 0, done.output
    clips, normalized = (training_of(r) for r in stored()[::2])
    # the fake device learns best at 0.1 and λ 0.04
    rates = sorted({c.lr for c in clips.search})
    assert clips.lr == min(rates, key=lambda lr: abs(np.log(lr / 0.1))) and stored()[0].resolved.agc == 0.04  # type: ignore[union-attr]
    assert [sum(c.round == round for c in clips.search) for round in (0, 1)] == [15, 5]
    # the same budget in candidates and in images
    for round in (0, 1):
        (images,) = {tuple(c.images for c in t.search if c.round == round) for t in (clips, normalized)}
        assert len(set(images)) == 1
    assert [training_of(r) for r in stored()] == [clips, clips, normalized, normalized]
    assert clips.train_images == 1024
    lines = [line for line in done.stdout.splitlines() if line.startswith("tiny-")]
    assert f"{clips.lr:.3g}" in lines[0] and f"{normalized.lr:.3g}" in lines[1]
    assert "was tuned on held-out training images." in answers.most_accurate(shown(stored()).trained)
    drawn = cli("plot", "a.jsonl", "--kind", "tuning", "-o", "figures", "--format", "png")
    assert drawn.exit_code == 0 and len(drawn.stdout.splitlines()) == 2, drawn.output


def test_a_search_that_was_stopped_goes_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[float] = []
    train = FakeLearner.train

    def counted(self: FakeLearner, epoch: int, until: float) -> Epoch:
        if epoch == 0 and self.part is not None:
            begun.append(self.rate)
            if len(begun) == 4:
                raise KeyboardInterrupt
        return train(self, epoch, until)

    monkeypatch.setattr(FakeLearner, "train", counted)
    run = ("accuracy", "tiny-resnet", "--tune", "lr", *FAKE, "--checkpoint", "ck")
    assert cli(*run).exit_code == 130
    assert len(json.loads(Path("ck", tuning.FILE).read_text())["candidates"]) == 3
    done = cli(*run)
    assert done.exit_code == 0 and "the search goes on after 3 candidates" in done.stderr
    assert begun[:3] == sorted(set(begun))[:3] and begun.count(begun[0]) == begun.count(begun[1]) == 1
    # another run finds a search that is none of its own
    other = cli("accuracy", "tiny-resnet", "--tune", "lr", "--batch", 32, *FAKE, "--checkpoint", "ck")
    assert other.exit_code == 1 and "holds the search of another run" in other.stderr
    Path("ck", tuning.FILE).write_text("{")
    broken = cli("accuracy", "tiny-resnet", "--tune", "lr", "--batch", 32, *FAKE, "--checkpoint", "ck")
    assert broken.exit_code == 1 and "is no search of nfbench" in broken.stderr


def test_where_every_candidate_diverges_the_row_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit.Run, "_score", lambda self, learner, workload, until: None)
    done = cli("accuracy", "tiny-resnet", "--tune", "lr", *FAKE)
    (result,) = stored()
    assert done.exit_code == 0 and result.status == "diverged"
    assert result.message == "all 5 candidates of the search diverged" and result.value("diverged_at") is None


def test_the_time_of_the_search_counts(cli: Cli) -> None:
    done = cli("accuracy", "tiny-resnet", "--tune", "lr", *FAKE, "--max-time", "0.5s")
    (result,) = stored()
    assert done.exit_code == 5 and (result.status, result.message) == (
        "timeout",
        "--max-time was reached during the search",
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--tune", "foo"), "Try: --tune"),
        (("--tune", "lr", "--lr", 0.1), "--tune lr searches for lr, and --lr 0.1 gives it."),
        (("--tune", "lr,agc", "--agc", "none"), "searches for agc, and --agc none gives it."),
        (("--tune", "lr", "--epochs", 0, "--weights", "published"), "--epochs 0 trains nothing."),
    ],
)
def test_what_cannot_be_tuned_is_refused(flags: tuple[object, ...], words: str, cli: Cli) -> None:
    done = cli("accuracy", "tiny-resnet", "--device", "fake", *flags)
    assert done.exit_code in (1, 2) and (words in done.output or words == "Try: --tune"), done.output


def test_a_study_tunes_all_its_nets_alike_and_leaves_no_search_behind(
    cli: Cli, workers_in_process: None, no_figures: None
) -> None:
    Path("s.toml").write_text(
        'title = "T"\nquestion = "Q?"\n[[accuracy]]\nmodel = ["tiny-nfnet", "tiny-resnet"]\ntune = ["lr", "agc"]\n'
        "epochs = 3\nbatch = 8\nseeds = 2\n"
    )
    done = cli("run", "s.toml", "--device", "fake", "--quiet", "--out", "out")
    assert done.exit_code == 0, done.output
    assert "was tuned on held-out training images." in done.output
    assert not Path("out/.checkpoints").exists()
    results = load([Path("out")]).results
    assert [(r.run.model, r.seed, r.run.tune) for r in results] == [
        (model, seed, "lr,agc") for model in ("tiny-nfnet", "tiny-resnet") for seed in (0, 1)
    ]
    assert "0 of 4 workloads would run" in cli("run", "s.toml", "--device", "fake", "--out", "out", "--dry-run").output


def test_a_real_net_learns_better_with_what_a_search_found(cli: Cli) -> None:
    run = ("accuracy", "tiny-resnet-s", "--dataset", "digits", "--epochs", 2, "--px", 16, "--batch", 100, "--quiet")
    done = cli(*run, "--tune", "lr", "--out", "a.jsonl")
    assert done.exit_code == 0, done.output
    (result,) = stored()
    tried = training_of(result).search
    assert len(tried) >= 5 and all(c.top1 is not None for c in tried)
    chosen = tuning.best_first([c for c in tried if c.round == max(c.round for c in tried)])[0]
    assert training_of(result).lr == chosen.lr and training_of(result).train_images == 1437
    assert msgspec.json.decode(msgspec.json.encode(tried), type=tuple[Candidate, ...]) == tried
