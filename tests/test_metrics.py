"""Metrics of several ranks: the slowest decides, what each of them uses adds up."""

from __future__ import annotations

import msgspec
import pytest
from make import H200, accuracy, each_epoch, once, result

from nfbench.analysis import findings, metrics, training_metrics
from nfbench.catalog import gpus
from nfbench.records import Accuracy, Reading, Resolved, Result, StepTime, accumulation_steps, reading

METRICS = {metric.key: metric.of for metric in metrics.METRICS["step-time"] if metric.of is not None}


def by_rank(name: str, unit: str, scope: str, *ranks: tuple[float, ...]) -> tuple[Reading, ...]:
    return tuple(reading(name, unit, scope, "test", values, rank) for rank, values in enumerate(ranks))  # type: ignore[arg-type]


def of_ranks(**fields: object) -> Result:
    """Two ranks with 32 images per update, each in two passes of eight."""
    given = {
        "workload": StepTime(model="resnet50", batch=32, world_size=2),
        "machine": H200,
        "resolved": Resolved(px=224, micro_batch=8, precision="bf16", layout="nhwc", backend="nccl", nodes=1),
        "readings": (
            *by_rank("step_time", "s", "step", (0.10, 0.20, 0.10), (0.15, 0.10, 0.10)),
            *by_rank("unsynchronized_step", "s", "step", (0.08, 0.08, 0.09), (0.10, 0.12, 0.12)),
            *by_rank("all_reduce", "s", "step", (0.01, 0.02, 0.02), (0.03, 0.02, 0.03)),
            *by_rank("peak_allocated", "B", "window", (1e9,), (3e9,)),
            *by_rank("energy", "J", "window", (10.0,), (20.0,)),
            *by_rank("energy_time", "s", "window", (1.0,), (2.0,)),
            once("train_macs", 1e9),
        ),
    }
    return result(**(given | fields))  # type: ignore[arg-type]


def test_a_step_takes_as_long_as_its_slowest_rank() -> None:
    assert metrics.seconds(of_ranks()) == 0.15  # the median of 0.15, 0.20, 0.10
    assert metrics.throughput(of_ranks()) == pytest.approx(32 / 0.15)
    assert metrics.percentile(of_ranks(), 1.0) == 0.20


def test_utilization_is_of_all_peaks() -> None:
    peak = gpus.peak("NVIDIA H200", "bf16", None)
    assert peak is not None
    achieved = metrics.achieved_flops(of_ranks())
    assert achieved == pytest.approx(2e9 * 32 / 0.15)
    assert metrics.mfu(of_ranks()) == pytest.approx((achieved or 0) / (2 * peak.flops))


def test_energy_adds_up_and_is_absent_where_a_rank_has_none() -> None:
    assert metrics.step_energy(of_ranks()) == pytest.approx((10 / 1 + 20 / 2) * 0.15)
    some = tuple(r for r in of_ranks().readings if (r.name, r.rank) != ("energy", 1))
    assert metrics.step_energy(of_ranks(readings=some)) is None


def test_memory_is_the_most_that_a_rank_takes_and_the_all_reduce_costs_what_nothing_hides() -> None:
    assert METRICS["peak_allocated"](of_ranks()) == 3e9
    assert metrics.all_reduce(of_ranks()) == 0.03
    # 0.15 s, of which an update of the slowest rank alone takes 0.12
    assert metrics.exposed(of_ranks()) == pytest.approx((0.15 - 0.12) / 0.15)
    assert metrics.rank_spread(of_ranks()) == pytest.approx(0.12 / 0.08)
    # noise does not make communication negative
    quick = (*by_rank("step_time", "s", "step", (0.1,) * 3), *by_rank("unsynchronized_step", "s", "step", (0.2,) * 3))
    assert metrics.exposed(of_ranks(readings=quick)) == 0.0
    for name in ("all_reduce", "exposed", "rank_spread", "gradient_bytes"):
        assert METRICS[name](result()) is None


@pytest.mark.parametrize("kind", [StepTime, Accuracy])
def test_passes_are_those_of_each_rank(kind: type[StepTime] | type[Accuracy]) -> None:
    resolved = Resolved(px=32, micro_batch=8, precision="fp32", layout="nhwc")
    assert accumulation_steps(kind(model="resnet50", batch=32, world_size=2), resolved) == 2
    assert accumulation_steps(kind(model="resnet50", batch=32), resolved) == 4


def composed(passes: int = 4) -> Result:
    """Updates of some passes of 1 s, the last of which takes 3 s more to reduce the gradients; rank 1 takes twice as
    long for a pass, and so waits for nobody."""
    updates = 5
    own = [1.0] * (passes - 1) + [4.0]
    slow = [2.0] * (passes - 1) + [2.5]
    readings = (
        once("passes", passes),
        *by_rank("forward", "s", "micro_step", tuple(own * updates), tuple(slow * updates)),
        *by_rank("clip", "s", "step", (0.5,) * updates, (0.5,) * updates),
    )
    workload = StepTime(model="resnet50", batch=2 * 8 * 10, world_size=2)
    return of_ranks(readings=readings, workload=workload, composed=True)


def test_a_composed_step_reduces_once_and_is_the_slowest_ranks() -> None:
    # of rank 1: ten passes, of which the last holds what is reduced, and the clip
    assert metrics.seconds(composed()) == pytest.approx(9 * 2.0 + 2.5 + 0.5)
    assert metrics.phase_time(composed(), "forward") == pytest.approx(9 * 1.0 + 4.0)  # rank 0's
    assert metrics.phase_time(composed(), "clip") == 0.5
    # two passes compose no step that is reduced
    assert metrics.seconds(composed(passes=2)) is None


def test_the_exposed_share_of_a_composed_step_is_that_of_its_short_updates() -> None:
    alone = by_rank("unsynchronized_step", "s", "step", (4.5,) * 3, (8.5,) * 3)
    one = msgspec.structs.replace(composed(), readings=(*composed().readings, *alone))
    # rank 1's short updates take 3 · 2 + 2.5 + 0.5 s
    assert metrics.exposed(one) == pytest.approx((9.0 - 8.5) / 21.0)


def test_batch_normalization_on_ranks_sees_a_share_of_the_batch() -> None:
    one = of_ranks(notes={"norm": "batch"}, workload=StepTime(model="resnet50", batch=16, world_size=2))
    assert "micro_batch_statistics" in [f.code for f in findings.of(one)]


def test_an_epoch_takes_as_long_as_its_slowest_rank_and_the_energy_of_all() -> None:
    slow = Reading(name="train_time", unit="s", scope="epoch", source="test", rank=1, values=(None, 5.0, 1.0))
    one = accuracy(run={"world_size": 2}, more=(slow,), train_time=2.0)
    assert training_metrics.throughput(one) == pytest.approx(3000 / (2.0 + 5.0 + 2.0))
    both = (each_epoch("energy", 1.0, 1.0, 1.0), reading("energy", "J", "epoch", "test", (3.0, 3.0, 3.0), rank=1))
    assert training_metrics.image_energy(accuracy(run={"world_size": 2}, more=both)) == pytest.approx(4 / 1000)
    assert training_metrics.image_energy(accuracy(run={"world_size": 2}, more=both[:1])) is None


def test_figures_are_of_the_result_that_is_asked_about_though_many_have_one_name() -> None:
    found = [
        result(times=(i / 1000,) * 6, readings=(*result(times=(i / 1000,) * 6).readings, once("macs", i)))
        for i in range(1, 200)
    ]
    # each twice, out of order, and again once it is forgotten
    for each in [*found, *found[::-3], *found[:5], *found]:
        (place,) = [i for i, r in enumerate(found, 1) if r is each]
        assert (metrics.seconds(each), METRICS["p95"](each)) == (place / 1000, place / 1000)
        assert METRICS["macs"](each) == place
