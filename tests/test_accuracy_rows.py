from __future__ import annotations

import json

import msgspec
import pytest
from conftest import Cli
from make import FAKE, H200, SOFTWARE, accuracy, each_epoch, once, result
from test_table import cells, kept

from nfbench.analysis import findings, stats
from nfbench.analysis import training_metrics as metrics
from nfbench.analysis import training_runs as analysis
from nfbench.analysis.rows import Row
from nfbench.records import Reading, Result
from nfbench.showing.views import RUN_KEYS, view


def rows(*results: Result, target: float | None = None) -> list[Row]:
    return analysis.rows(results, target=target)[0]


def only(*results: Result, target: float | None = None) -> Row:
    (row,) = rows(*results, target=target)
    return row


def seeds(*top1: float, model: str = "tiny-nfnet", **fields: object) -> list[Result]:
    return [accuracy(model, (0.3, t - 0.1, t), i, **fields) for i, t in enumerate(top1)]  # type: ignore[arg-type]


DIVERGED = accuracy(
    "tiny-resnet",
    (0.3, float("nan")),
    5,
    agc=None,
    status="diverged",
    message="the loss is nan",
    more=(once("diverged_at", 12),),
    run={"epochs": 3},
    training={"lr": 3.0},
)


def test_seeds_are_one_row_with_students_interval_over_them_and_few_are_said_to_say_little() -> None:
    row = only(*seeds(0.90, 0.91, 0.92))
    estimate = stats.mean([0.90, 0.91, 0.92])
    assert (row["top1"], row["top1_low"], row["top1_high"]) == estimate
    # Student's t of two degrees of freedom: 4.303 standard errors
    assert estimate.half_width == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)
    assert (row["seeds"], row["runs"], row["status"]) == (3, 3, "ok")
    assert "few_seeds" not in [f.code for f in row["findings"]]
    assert "few_seeds" in [f.code for f in only(*seeds(0.9, 0.91))["findings"]]
    one = only(accuracy())
    assert one["top1"] == 0.9 and "top1_low" not in one
    assert [f.code for f in one["findings"]] == ["small_data", "few_seeds"]


def test_of_each_seed_the_newest_run_that_ended_counts_and_what_is_set_aside_is_said() -> None:
    again = accuracy(top1=(0.5, 0.8, 0.95), start="2026-02-01T00:00:00.000Z")
    found, aside = analysis.rows([accuracy(), again])
    assert [(row["seeds"], row["top1"]) for row in found] == [(1, 0.95)]
    assert aside == "Not shown (training runs): 1 of a seed whose other run is shown."
    later = accuracy(top1=(0.5,), run={"epochs": 3}, status="interrupted", start="2026-02-01T00:00:00.000Z")
    assert only(accuracy(), later)["status"] == "ok"
    newer = msgspec.structs.replace(SOFTWARE, nfbench="0.2.0")
    new = accuracy(software=newer, start="2026-02-01T00:00:00.000Z")
    found, aside = analysis.rows([accuracy(), new, accuracy(machine=FAKE), result()])
    assert len(found) == 1
    assert aside == "Not shown (training runs): 1 of the fake device; 1 by older software (--all shows them)."
    assert len(analysis.rows([accuracy(), new], everything=True)[0]) == 2


def test_a_diverged_seed_is_counted_and_in_no_mean() -> None:
    bad = msgspec.structs.replace(accuracy(seed=2, more=(once("diverged_at", 12),)), status="diverged")
    row = only(*seeds(0.9, 0.92), bad)
    assert row["top1"] == pytest.approx(0.91)
    assert (row["status"], row["diverged"], row["diverged_at"], row["seeds"]) == ("2 ok, 1 diverged", 1, (12,), 2)
    row = only(DIVERGED)
    assert row["status"] == "diverged" and row["diverged_at"] == (12,)
    assert not {"top1", "best_top1", "gap", "throughput", "train_step_time", "time_to_target"} & set(row)


def test_costs_are_arithmetic_on_the_readings() -> None:
    times = each_epoch("data_time", 0.2, 0.2, 0.5, unit="s"), each_epoch("energy", 100.0, float("nan"), 200.0)
    batch = each_epoch("batch_top1", 0.5, 0.8, 0.93)
    row = only(accuracy(more=(*times, batch), top1=(0.5, 0.95, 0.9), run={"sam": 0.05, "sam_fraction": 0.2}))
    expected = {
        "training_flops": 2 * 3e7 * 3000 * 1.2,
        "wall_time": 7.5,
        "throughput": 500,
        "train_step_time": 0.1,
        "data_share": 0.15,
        "image_energy": 0.15,
        # top-1 of batch statistics less that of running ones
        "gap": 0.03,
        "top1": 0.9,
        "best_top1": 0.95,
    }
    assert {key: row[key] for key in expected} == pytest.approx(expected)


def test_an_evaluation_has_a_top1_and_no_time() -> None:
    row = only(accuracy(top1=(), readings=(once("top1", 0.84), once("top5", 0.97), once("macs", 1e7))))
    assert (row["epochs"], row["top1"], row["top5"]) == (0, 0.84, 0.97)
    assert not {"wall_time", "throughput", "training_flops"} & set(row)
    assert "few_seeds" not in [f.code for f in row["findings"]]
    assert "84.00 %" in view([row], "accuracy", "rich")


def test_a_target_is_reached_where_no_later_epoch_is_below_it() -> None:
    given = accuracy(top1=(0.5, 0.8, 0.7))
    reached = {
        target: (metrics.time_to(given, target), metrics.updates_to(given, target), metrics.images_to(given, target))
        for target in (0.5, 0.6, 0.7, 0.8)
    }
    assert reached == {0.5: (2.0, 20, 1000), 0.6: (4.0, 40, 2000), 0.7: (4.0, 40, 2000), 0.8: (None, None, None)}


def test_what_a_target_takes_has_an_interval_over_seeds_and_needs_every_seed() -> None:
    (row,) = rows(*seeds(0.90, 0.91, 0.92), target=0.905)
    assert row["reached_target"] == 2 and not {"time_to_target", "updates_to_target", "images_to_target"} & set(row)
    assert "2 of 3 seeds" in view([row], "accuracy", "rich")
    slow, fast = accuracy(top1=(0.5, 0.8, 0.9)), accuracy(top1=(0.5, 0.9, 0.9), seed=1)
    row = only(slow, fast, target=0.85)
    assert (row["reached_target"], row["time_to_target"]) == (2, pytest.approx(24**0.5))
    assert (row["updates_to_target"], row["images_to_target"]) == (pytest.approx(2400**0.5), pytest.approx(6e6**0.5))
    assert row["time_to_target_low"] < row["time_to_target"] < row["time_to_target_high"]
    assert "updates_to_target_low" not in only(slow, accuracy(top1=(0.5, 0.8, 0.9), seed=1), target=0.85)
    assert "time_to_target_low" not in only(slow, target=0.85)
    shown = view([row], "accuracy", "rich")
    assert all(title in shown for title in (" to 85.0 %", "updates to 85.0 %", "images to 85.0 %"))
    assert "never" in view(rows(accuracy(), target=0.99), "accuracy", "rich")


def bn_model(*results: Result) -> str | None:
    return next(r for r in rows(accuracy(), *results) if r["model"] == "tiny-nfnet").get("bn_model")


def test_an_nf_net_is_timed_to_the_top1_of_its_own_partner_else_of_the_one_nearest_in_macs() -> None:
    partners = ("bn-nf-resnet50", (0.5, 0.6, 0.65)), ("tiny-resnet", (0.1, 0.1, 0.1))
    found = rows(*(accuracy(m, t) for m, t in (("nf-resnet50", (0.5, 0.7, 0.9)), *partners)))
    row = next(r for r in found if r["model"] == "nf-resnet50")
    assert (row["bn_model"], row["time_to_bn"]) == ("bn-nf-resnet50", 4.0)
    near, far = accuracy("tiny-resnet", macs=2e7, agc=None), accuracy("tiny-resnet-s", macs=1e6, agc=None)
    assert bn_model(far, near) == "tiny-resnet"


@pytest.mark.parametrize(
    "other",
    [
        accuracy("tiny-resnet", run={"dataset": "mnist"}),
        accuracy("tiny-resnet", test_px=40),
        accuracy("tiny-resnet", (0.5, 0.9)),
        accuracy("tiny-resnet", machine=H200),
        accuracy("tiny-resnet", notes={"norm": "group"}),
        DIVERGED,
    ],
)
def test_only_a_finished_run_with_batch_norm_at_the_same_place_is_a_partner(other: Result) -> None:
    assert bn_model(other) is None


def test_the_front_holds_what_none_beats_for_less() -> None:
    points = [(1, 0.5), (2, 0.4), (3, 0.7), (3, 0.6), (4, 0.7), (5, 0.9)]
    table: list[Row] = [{"macs": macs, "top1": top1} for macs, top1 in points]
    found = analysis.front([*table, {"macs": 1}, {"top1": 0.99}], "macs")
    assert [(r["macs"], r["top1"]) for r in found] == [(1, 0.5), (3, 0.7), (5, 0.9)]
    ordered = analysis.on_front(rows(DIVERGED, accuracy()), "step-time")
    assert [(row["model"], row.get("front")) for row in ordered] == [("tiny-nfnet", True), ("tiny-resnet", None)]


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (DIVERGED, "diverged", "Diverged at update 12: the loss is nan. Try --agc 0.01 or a lower --lr."),
        (accuracy(status="timeout", run={"epochs": 10}), "timeout", "--max-time was reached after 3 of 10 epochs:"),
        (accuracy(status="interrupted", run={"epochs": 10}), "interrupted", "Interrupted after 3 of 10 epochs."),
        (accuracy(more=(each_epoch("data_time", 0.2, 0.2, 0.2, unit="s"),)), "data", "Making batches took 10 % of"),
        (accuracy(more=(once("unreadable_images", 1),)), "unreadable_images", "1 image of the data could not be read."),
        (accuracy(more=(once("deterministic_cost", 1.25),)), "deterministic_cost", "take 1.25 times as long."),
        (
            accuracy(notes={"data": "a tenth"}),
            "data_subset",
            "Data: a tenth. Do not compare it with runs on the whole set.",
        ),
        (accuracy(), "small_data", "Results on digits do not carry over to ImageNet."),
        (accuracy(status="diverged", run={"sam": 0.05}), "diverged", "Diverged. Try a smaller --sam or a smaller"),
    ],
)
def test_what_is_doubtful_about_a_training_run_is_said(given: Result, code: str, words: str) -> None:
    finding = findings.of(given)[0]
    assert finding.code == code and words in str(finding)


@pytest.mark.parametrize("values", [(), (None,), (0.0,), (-1.0, 2.0), (1e308,) * 3, (None, 0.5)])
@pytest.mark.parametrize("status", ["ok", "diverged", "timeout", "error"])
def test_odd_training_runs_make_a_row_all_the_same(values: tuple[float | None, ...], status: str) -> None:
    names = (*analysis.EPOCH, "macs", "train_macs", "params", "updates", "images_seen", "deterministic_cost")
    odd = tuple(Reading(name=name, unit="1", scope="epoch", source="t", values=values) for name in names)
    for resolved in (accuracy().resolved, None):
        given = accuracy(status=status, readings=odd, resolved=resolved, composed=True, stopped_by="max_time")
        row = only(given, target=0.5)
        assert (
            view([row], "accuracy", "rich")
            and view([row], "accuracy", "json")
            and view(analysis.epochs([given]), "epochs", "rich")
        )


def test_a_table_of_training_runs_shows_per_cent_with_their_interval(cli: Cli) -> None:
    folder = kept(*seeds(0.90, 0.91, 0.92), accuracy("tiny-resnet", agc=None), DIVERGED)
    done = cli("table", folder)
    assert done.exit_code == 0, done.output
    title, heads, _, *lines = done.stdout.splitlines()
    assert title == "Training: digits, 32 px, batch 50, 3 epochs"
    assert "91 ± 2 %" in lines[0] and "90.00 %" in lines[1]
    assert heads.split()[:3] == ["model", "lr", "agc"] and "best" in heads
    assert lines[2].split()[-2:] == ["diverged", "12"]
    assert "±: 95 %, Student's t over seeds." in done.stdout
    assert "chosen on the test set, so it flatters" in done.stdout
    assert "! tiny-resnet: Diverged at update 12: the loss is nan." in done.stdout
    nf, _, gone = json.loads(cli("table", folder, "--format", "json").stdout)
    assert nf["top1"] == pytest.approx(0.91) and nf["training_flops"] == pytest.approx(1.8e11)
    assert gone["diverged_at"] == [12] and "top1" not in gone
    assert [row["diverged_at"] for row in cells(cli("table", folder, "--format", "csv").stdout)] == ["", "", "12"]
    assert set(rows(*seeds(0.90, 0.91, 0.92), target=0.5)[0]) - {"crop_mode"} <= set(RUN_KEYS)


def test_the_front_marks_and_sorts_the_rows_of_each_place_by_cost(cli: Cli) -> None:
    folder = kept(
        accuracy("tiny-nfnet-l", (0.5, 0.95), macs=4e7),
        accuracy("tiny-nfnet", (0.5, 0.85), macs=1e7),
        accuracy("tiny-resnet", (0.5, 0.9), macs=5e6),
        accuracy("tiny-nfnet", (0.5, 0.7), macs=6e6, run={"dataset": "mnist"}),
        result("resnet50"),
    )
    done = cli("table", folder, "--front", "macs", "--format", "json")
    found = [(r["model"], r["dataset"], r["front"]) for r in json.loads(done.stdout)]
    assert found == [
        ("tiny-resnet", "digits", True),
        ("tiny-nfnet", "mnist", True),
        ("tiny-nfnet", "digits", False),
        ("tiny-nfnet-l", "digits", True),
    ]
    screen = cli("table", folder, "--front", "macs").stdout
    assert [line[0] == "●" for line in screen.splitlines()[3:7]] == [True, True, False, True]
    assert "resnet50" not in screen and "MACs" in screen


def test_a_front_of_nothing_is_one_worded_message(cli: Cli) -> None:
    folder = kept(result())
    done = cli("table", folder, "--front", "macs")
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr.startswith("--front macs is about training runs, and results holds none.")
    done = cli("table", folder, "--target", "90%")
    assert done.exit_code == 1 and done.stderr.startswith("--target is about training runs")
    kept(accuracy())
    done = cli("table", folder, "--front", "energy")
    assert done.exit_code == 1 and "has both a final top-1 and energy per image" in done.stderr


def test_epochs_are_lines_and_means_over_seeds() -> None:
    norms = (each_epoch("gradient_norm", 3, 2, 1), each_epoch("clipped_gradient_norm", 2.5, 1.5, 1))
    text = view(analysis.epochs(seeds(0.90, 0.92, more=norms)), "epochs", "rich")
    title, heads, _, *lines = text.splitlines()
    assert title == "Each epoch, means of 2 runs"
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert "91.00 %" in lines[2] and "→ clipped" in heads and "runs" not in heads
    raw = json.loads(view(analysis.epochs([accuracy(more=norms)]), "epochs", "json"))
    assert (raw[0]["top1"], raw[0]["throughput"], raw[0]["clipped_gradient_norm"]) == (0.5, 500.0, 2.5)
    assert "batch_top1" not in raw[0]
    cut = accuracy(top1=(0.5,), seed=1, run={"epochs": 3}, status="diverged")
    assert [row["runs"] for row in json.loads(view(analysis.epochs([accuracy(), cut]), "epochs", "json"))] == [2, 1, 1]
