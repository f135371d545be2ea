"""The loop on the fake device, to the digit: an image takes exactly 1/1024 s."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from make import CPU, FAKE, H200
from msgspec.structs import replace

from nfbench.analysis import findings, metrics, rows
from nfbench.devices.base import HostRecorder, Stamp, World
from nfbench.devices.fake import FakeDevice, FakeSteps
from nfbench.errors import Terminated, UnsupportedWorkload
from nfbench.measuring import stopping
from nfbench.measuring.clips import ClipCosts
from nfbench.measuring.measure import Measurement, measure
from nfbench.measuring.outcome import Watch
from nfbench.measuring.window import Window, communication
from nfbench.records import (
    MAX_KEPT_STEPS,
    AgcCost,
    Conditions,
    Layout,
    Machine,
    Reading,
    Resolved,
    Result,
    Sampling,
    StepTime,
    Workload,
    reading,
)
from nfbench.showing.sheet import sheet


def timed(sampling: Sampling | None = None, device: FakeDevice | None = None, **settings: Any) -> Result:
    kept: list[Result] = []
    workload = StepTime(**({"model": "tiny-nfnet"} | settings))
    returned = measure(device or FakeDevice(), workload, sampling or Sampling(), kept.append)
    assert kept == [returned]
    return returned


def values(result: Result, name: str) -> tuple[Any, ...]:
    found = result.reading(name)
    assert found is not None
    return found.values


class Of(FakeDevice):
    """Builds steps of a ``kind``, as if it were of a ``machine``, whose own kind decides which layout is usual."""

    def __init__(self, kind: Callable[..., FakeSteps], machine: Machine = FAKE) -> None:
        super().__init__()
        self.kind, self.machine = kind, machine

    def build(self, workload: Workload, resolved: Resolved, seed: int) -> FakeSteps:
        return self.kind(self.clock, workload.batch, resolved.micro_batch, clipped=True)


def test_a_step_takes_its_images_time_and_its_phases_add_up_to_it() -> None:
    result = timed(batch=64)
    assert metrics.step_time(result) == (0.0625, 0.0625, 0.0625)
    assert metrics.throughput(result) == 1024
    assert result.status == "ok" and result.stopped_by == "within"
    phases = {name: metrics.phase_time(result, name) for name in ("forward", "backward", "clip", "update")}
    assert phases == {"forward": 0.015625, "backward": 0.03125, "clip": 0.0078125, "update": 0.0078125}
    assert result.value("peak_allocated") == 64 * 2**20
    # a whole step of several passes is their sum
    whole = timed(batch=64, micro_batch=16, layout="nhwc")
    assert not whole.composed and metrics.step_time(whole) == metrics.step_time(result)
    assert metrics.phase_time(whole, "forward") == 0.015625


def test_a_block_lasts_half_a_second_after_what_is_kept_apart() -> None:
    result = timed(batch=32)
    assert values(result, "block_time") == (17 / 32,)
    assert len(values(result, "step_time")) == 16
    assert values(result, "refill") == (1 / 32,)
    assert result.value("first_step") == 1 / 32
    assert values(result, "warm_up")
    assert result.value("trial_nchw") == result.value("trial_nhwc") == 0.75 / 32  # forward and backward


def test_batch_4096_is_found_and_exact_composed_only_where_the_cap_does_not_hold_it() -> None:
    result = timed(Sampling(max_time=10), batch=4096, layout="nhwc")
    # 90 % of 1 GiB holds 921 images, so the power-of-two share is 512
    assert result.resolved is not None and result.resolved.micro_batch == 512
    assert result.composed
    assert metrics.seconds(result) == 4.0
    assert metrics.phase_time(result, "backward") == 2.0
    assert metrics.percentile(result, 0.05) is None
    assert [f.code for f in findings.of(result)] == ["composed"]
    assert not timed(Sampling(max_time=60), batch=4096, layout="nhwc").composed


def test_short_updates_share_what_is_left_and_a_warm_up_is_steady_when_its_thirds_agree() -> None:
    assert [stopping.short_passes(*given) for given in ((6, 36, 256), (0.1, 50, 256), (0.1, 50, 8), (100, 1, 256))] == [
        *(6, 31, 8, 2)
    ]
    assert stopping.whole_steps_fit(12, 256, 60) and not stopping.whole_steps_fit(13, 256, 60)
    assert stopping.steady([5, 4, 3, *[1.0] * 6]) and not stopping.steady([1.0] * 8)
    assert not stopping.steady([3, 3, 3, 2, 2, 2, 1, 1, 1])


def test_the_window_ends_at_the_cap() -> None:
    result = timed(Sampling(max_time=2, min_steps=1000), batch=32)
    assert result.stopped_by == "max_time"
    assert sum(values(result, "block_time")) <= 2


def test_what_was_queued_before_a_block_is_in_no_step_of_it_and_what_a_block_queues_is_in_its_tail() -> None:
    device = FakeDevice()
    queued = [4.0]

    def synchronize() -> None:
        device.clock.seconds += sum(queued)
        queued.clear()

    class Queuing(FakeSteps):
        def update(self, stamp: Stamp, passes: int) -> None:
            stamp(), stamp(), stamp(), stamp()
            queued.append(0.5)

    device.synchronize = synchronize  # type: ignore[method-assign]
    window = Window(device, Queuing(device.clock, 8, 8, clipped=True), 1, 1)
    window.block(2, refills=1)
    assert device.clock.seconds == 5.5
    assert (window.refill, window.step, window.tail) == ([0.0], [0.0, 0.0], [1.5])


def test_nothing_is_timed_while_garbage_may_be_collected() -> None:
    assert gc.isenabled()
    collects: list[bool] = []
    phases = [""]

    class Phases(Watch):
        def phase(self, what: str) -> None:
            phases.append(what)

    class Watched(FakeDevice):
        def recorder(self, stamps: int) -> HostRecorder:
            if phases[-1] != "first step":
                collects.append(gc.isenabled())
            return super().recorder(stamps)

    class Reducing(FakeSteps):
        alone = FakeSteps.update

        def reduce(self) -> None:
            self.clock.seconds += 1

        def gradient_bytes(self) -> int:
            return 4

    workload = StepTime(model="tiny-nfnet", layout="nhwc")
    Measurement(Watched(), workload, Sampling(), lambda _: None, watch=Phases()).turn()
    assert len(collects) == 4  # two blocks of warm-up, two of the window
    clips = [AgcCost(model="tiny-nfnet", impl=impl) for impl in ("reference", "foreach")]
    ClipCosts(Watched(), Sampling(), lambda _: None, Phases(), 0).run(list(clips))
    assert len(collects) > 3
    device, before = Watched(), len(collects)
    communication(device, Reducing(device.clock, 8, 8, clipped=True), 1, 1.0, Sampling())
    assert len(collects) == before + 3 and not any(collects) and gc.isenabled()


def test_min_steps_are_timed_and_at_most_a_thousand_kept() -> None:
    result = timed(Sampling(min_steps=5000, max_time=1e6), batch=8)
    assert result.value("steps") >= 5000  # type: ignore[operator]
    counts = {len(values(result, name)) for name in ("step_time", "forward", "clip", "update")}
    assert len(counts) == 1 and 500 <= counts.pop() <= MAX_KEPT_STEPS


def test_turns_share_what_was_built() -> None:
    kept: list[Result] = []
    turns = Measurement(FakeDevice(), StepTime(model="tiny-nfnet"), Sampling(turn_time=3), kept.append)
    turns.turn(turn=0)
    built = turns.steps
    turns.turn(turn=1)
    assert turns.steps is built
    assert [(r.turn, r.stopped_by) for r in kept] == [(0, "turn_time"), (1, "turn_time")]
    assert all(sum(values(r, "block_time")) >= 3 for r in kept)
    assert {len([x for x in r.readings if x.name == "first_step"]) for r in kept} == {1}


class Decisions(World):
    """Keeps what rank 0 agrees with; as a later rank it takes that instead of its own, in the same order."""

    def __init__(self, of_rank_0: list[object] | None = None) -> None:
        self.made: list[object] = []
        self.of_rank_0 = None if of_rank_0 is None else list(of_rank_0)

    def agree(self, value: Any) -> Any:
        if self.of_rank_0 is not None:
            first = self.of_rank_0.pop(0)
            assert {type(first), type(value)} in ({type(value)}, {type(None), str}), (first, value)
            value = first
        self.made.append(value)
        return value


@pytest.mark.parametrize("settings", [{"layout": "nhwc"}, {}, {"layout": "nhwc", "micro_batch": 8}])
@pytest.mark.parametrize("batch", [32, 1024])
@pytest.mark.parametrize("max_time", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("slower", [0.7, 0.9, 1.2, 2.5])
def test_a_rank_with_another_clock_takes_the_decisions_of_rank_0(
    settings: dict[str, Any], batch: int, max_time: float, slower: float
) -> None:
    """Where one decides by itself, the others wait for it in a collective that it never comes to."""
    updates: list[list[int]] = []

    def rank(world: Decisions, pace: float) -> Decisions:
        class Slower(FakeSteps):
            def update(self, stamp: Stamp, passes: int) -> None:
                super().update(stamp, passes)
                self.clock.seconds += (pace - 1) * self.batch * self.image_time * passes
                updates[-1].append(passes)

        device = Of(Slower)
        device.world = world
        updates.append([])
        device.least_window = 10.0
        workload = StepTime(model="tiny-nfnet", batch=batch, **settings)
        turns = Measurement(device, workload, Sampling(max_time=max_time), keep)
        for turn in range(2):
            turns.turn(turn=turn)
        return world

    def keep(result: Result) -> None:
        assert result.status == "ok"

    first = rank(Decisions(), 1.0)
    other = rank(Decisions(first.made), slower)
    assert other.of_rank_0 == [] and updates[0] == updates[1]


class Card(FakeDevice):
    """Draws more and more power until it has been in use for ``settles`` seconds; where ``silent`` it tells nothing."""

    first_warm_up, next_warm_up = 2.0, 0.3

    def __init__(self, settles: float = 0.0, silent: bool = False) -> None:
        super().__init__()
        self.settles, self.silent = settles, silent

    def pace(self) -> tuple[float, ...]:
        return () if self.silent else (1980e6, 100 + 500 * min(1.0, self.now() / max(self.settles, 1.0)))


@pytest.mark.parametrize(
    ("device", "max_time", "least", "most"),
    [
        (Card(), 60, 2.0, 2.3),
        (Card(silent=True), 60, 2.0, 2.3),
        (Card(settles=6.0), 60, 6.0, 12.0),
        (Card(settles=20.0), 60, 11.5, 12.0),
        (Card(settles=20.0), 3, 1.1, 1.2),
        (FakeDevice(), 60, 0.1, 2.0),
    ],
    ids=["settled", "silent", "slow", "never", "short", "no card"],
)
def test_a_warm_up_lasts_until_clock_and_power_have_settled_within_the_cap(
    device: FakeDevice, max_time: float, least: float, most: float
) -> None:
    result = timed(Sampling(max_time=max_time, min_steps=10_000), device, batch=16, layout="nhwc")
    warm_up = sum(values(result, "warm_up"))
    assert least <= warm_up <= most
    assert warm_up + sum(values(result, "block_time")) <= max_time


def test_a_later_turn_warms_its_net_again_and_looks_into_no_gradients() -> None:
    looks = 0
    losses = [True, True, False]

    class Looking(FakeSteps):
        def inspect(self) -> list[Reading]:
            nonlocal looks
            looks += 1
            return super().inspect()

        def finite(self) -> bool:
            return losses.pop(0)

    class Watched(Card):
        def conditions(self, idle: bool = False) -> Conditions:
            waited.append(idle)
            return super().conditions()

    waited: list[bool] = []
    device, kept = Watched(), list[Result]()
    device.build = lambda *_: Looking(device.clock, 32, 32, clipped=True)  # type: ignore[method-assign,assignment]
    turns = Measurement(device, StepTime(model="tiny-nfnet"), Sampling(turn_time=1), kept.append)
    for turn in range(3):
        began = device.now()
        turns.turn(turn=turn)
        if turn:
            assert device.now() - began - sum(values(kept[-1], "block_time")) >= 0.3
    assert looks == 1 and all(values(result, "zero_gradients") == (0.0,) for result in kept)
    # the card is to stay warm once it is
    assert waited == [True, False, False]
    # the loss is looked at in each
    assert [result.status for result in kept] == ["ok", "ok", "diverged"]


class Breaking(FakeSteps):
    """Raises ``error`` at the update ``at``."""

    def __init__(self, *given: Any, error: BaseException, at: int, **named: Any) -> None:
        super().__init__(*given, **named)
        self.error, self.at = error, at

    def update(self, stamp: Stamp, passes: int) -> None:
        if self.updates == self.at:
            raise self.error
        super().update(stamp, passes)


def breaking(error: BaseException, at: int) -> FakeDevice:
    return Of(partial(Breaking, error=error, at=at))


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Terminated()])
def test_an_interrupted_run_keeps_what_was_measured(stop: BaseException) -> None:
    kept: list[Result] = []
    sampling = Sampling(min_steps=1000, max_time=1e6)
    with pytest.raises(type(stop)):
        measure(breaking(stop, at=200), StepTime(model="tiny-nfnet"), sampling, kept.append)
    (result,) = kept
    assert result.status == "interrupted"
    assert metrics.seconds(result) == 1 / 32
    assert result.resolved is not None


@pytest.mark.parametrize(
    ("error", "at", "status", "message"),
    [
        (MemoryError("no more"), 30, "out_of_memory", "MemoryError: no more"),
        (RuntimeError("mat1 and mat2\nat 0x7f"), 0, "error", "RuntimeError: mat1 and mat2"),
    ],
)
def test_a_failure_is_a_row_that_names_it(error: Exception, at: int, status: str, message: str) -> None:
    result = timed(device=breaking(error, at))
    assert (result.status, result.message) == (status, message)
    assert metrics.step_time(result) is None
    assert [f.code for f in findings.of(result)] == [status]


def test_what_auto_chose_is_not_told_to_take_auto() -> None:
    (given,), (auto,) = (
        findings.of(timed(device=breaking(MemoryError("no more"), 30), micro_batch=size)) for size in (8, "auto")
    )
    assert given.do == "Take a smaller --micro-batch, or auto." and auto.do == "Take a smaller --micro-batch or --px."


def test_a_worded_error_keeps_nothing() -> None:
    kept: list[Result] = []
    with pytest.raises(UnsupportedWorkload):
        measure(breaking(UnsupportedWorkload("no"), at=0), StepTime(model="tiny-nfnet"), Sampling(), kept.append)
    assert kept == []


def test_a_loss_that_is_not_finite_has_no_rate() -> None:
    class Diverging(FakeSteps):
        def inspect(self) -> list[Reading]:
            return [reading("loss", "1", "run", "fake", [float("nan")])]

    result = timed(device=Of(Diverging))
    assert result.status == "diverged"
    assert metrics.throughput(result) is None and metrics.step_time(result) is None
    assert [f.code for f in findings.of(result)] == ["diverged"]


class Lopsided(FakeSteps):
    """Twice as slow in one layout, or failing there."""

    layout: Layout = "nhwc"

    def __init__(
        self, *given: Any, worse: Layout = "nchw", error: Exception | None = None, at: int = 0, **named: Any
    ) -> None:
        super().__init__(*given, **named)
        self.worse, self.error, self.at = worse, error, at

    def arrange(self, layout: Layout, micro_batch: int) -> None:
        super().arrange(layout, micro_batch)
        self.layout = layout

    def update(self, stamp: Stamp, passes: int) -> None:
        if self.layout == self.worse:
            if self.error is not None and self.updates >= self.at:
                raise self.error
            self.clock.seconds += 0.75 * self.batch / 1024
        super().update(stamp, passes)


def shown_layout(*results: Result) -> str:
    """What the sheet of a row says of its layout."""
    ((row,), _) = rows.rows(results)
    (line,) = [line for line in sheet([row], "md").splitlines() if line.startswith("| layout")]
    return line.split("|")[2].strip()


@pytest.mark.parametrize("machine", [FAKE, CPU, H200])
@pytest.mark.parametrize(("better", "worse"), [("nhwc", "nchw"), ("nchw", "nhwc")])
def test_the_better_layout_is_timed_and_both_figures_kept(machine: Machine, better: Layout, worse: Layout) -> None:
    result = timed(device=Of(partial(Lopsided, worse=worse), machine), batch=32)
    assert result.resolved is not None and result.resolved.layout == better
    quick, slow = result.value(f"trial_{better}"), result.value(f"trial_{worse}")
    assert quick is not None and slow == 2 * quick == 1.5 / 32
    assert metrics.seconds(result) == 1 / 32 and "layout_trial" not in result.notes
    assert shown_layout(result) == f"{better} ({worse} 2.00× the time)"


class Disturbed(FakeSteps):
    """Other work makes every pass of one of the trial's four turns three times as long."""

    turn = -1
    slowed = 0

    def arrange(self, layout: Layout, micro_batch: int) -> None:
        super().arrange(layout, micro_batch)
        # the two turns in the middle are in one layout
        self.turn += 1

    def update(self, stamp: Stamp, passes: int) -> None:
        if self.turn == self.slowed:
            self.clock.seconds += 2 * self.batch / 1024
        super().update(stamp, passes)


@pytest.mark.parametrize(("machine", "usual"), [(H200, "nhwc"), (CPU, "nchw"), (FAKE, "nhwc")])
@pytest.mark.parametrize("kind", [FakeSteps, Disturbed])
def test_an_undecided_trial_takes_the_usual_layout(machine: Machine, usual: Layout, kind: type[FakeSteps]) -> None:
    result = timed(device=Of(kind, machine), batch=32)
    assert result.resolved is not None and result.resolved.layout == usual
    assert result.notes["layout_trial"].startswith(f"neither layout was quicker beyond doubt, so {usual}")
    # the figures are kept all the same, but no factor is made of them
    assert values(result, "trial_nchw") and values(result, "trial_nhwc")
    assert shown_layout(result) == f"{usual} (trial undecided)"
    ((row,), _) = rows.rows([result])
    assert not {"trial_nchw", "trial_nhwc"} & row.keys()


def test_later_rounds_take_what_the_first_chose_and_the_row_has_its_trial() -> None:
    chosen = timed(device=Of(Lopsided), batch=32)
    later = replace(timed(device=Of(Lopsided), batch=32, layout="nhwc"), round=1, workload=chosen.workload)
    assert later.reading("trial_nhwc") is None
    assert shown_layout(chosen, later) == "nhwc (nchw 2.00× the time)"
    undecided = timed(batch=32)
    later = replace(timed(batch=32, layout="nhwc"), round=1, workload=undecided.workload)
    assert shown_layout(undecided, later) == "nhwc (trial undecided)" and shown_layout(later) == "nhwc"


@pytest.mark.parametrize(("worse", "usual"), [("nchw", "nhwc"), ("nhwc", "nchw")])
@pytest.mark.parametrize("at", [0, 20], ids=["at once", "in its second turn"])
@pytest.mark.parametrize("error", [MemoryError("no more"), RuntimeError("no kernel in /home/alice/secret/net.py")])
def test_a_layout_that_fails_loses_with_a_note(error: Exception, at: int, worse: Layout, usual: Layout) -> None:
    result = timed(device=Of(partial(Lopsided, worse=worse, error=error, at=at)), batch=32)
    assert result.status == "ok" and metrics.seconds(result) == 1 / 32
    assert result.resolved is not None and result.resolved.layout == usual
    assert result.reading(f"trial_{worse}") is None and result.reading(f"trial_{usual}") is not None
    (finding,) = [f for f in findings.of(result) if f.code == "failed_layout"]
    assert f"{worse}: {type(error).__name__}: no" in finding.message and "secret" not in finding.message


class Compiling(Lopsided):
    """Its first update in each layout takes 20 s more."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, worse="none", **named)
        self.compiled: set[Layout] = set()

    def update(self, stamp: Stamp, passes: int) -> None:
        if self.layout not in self.compiled:
            self.compiled.add(self.layout)
            self.clock.seconds += 20
        super().update(stamp, passes)


@pytest.mark.parametrize("layout", ["best", "nhwc"])
def test_a_first_step_that_compiles_takes_nothing_from_the_cap(layout: str) -> None:
    result = timed(Sampling(max_time=12, turn_time=3), device=Of(Compiling), batch=32, layout=layout)
    assert result.value("first_step") == 20 + 1 / 32
    assert result.stopped_by == "turn_time" and result.value("steps") >= 80  # type: ignore[operator]
    assert values(result, "warm_up") and values(result, "refill")
    assert metrics.seconds(result) == 1 / 32
    if layout == "best":
        assert len(values(result, "trial_nchw")) >= 3


def test_the_interval_that_stopped_the_run_is_the_one_that_is_shown() -> None:
    class Noisy(FakeSteps):
        def update(self, stamp: Stamp, passes: int) -> None:
            self.clock.seconds += (self.updates * 7919 % 101) / 1e5
            super().update(stamp, passes)

    result = timed(Sampling(within=0.01, min_steps=1500, max_time=1e6), device=Of(Noisy), batch=1, layout="nhwc")
    estimate = metrics.step_time(result)
    assert result.stopped_by == "within" and estimate is not None and estimate.half_width is not None
    assert estimate.half_width <= 0.01 * estimate.value


def test_what_cannot_be_looked_into_afterwards_does_not_cost_the_window() -> None:
    class Blind(FakeSteps):
        def inspect(self) -> list[Reading]:
            raise RuntimeError("no /home/alice/secret/weights.bin")

    result = timed(device=Of(Blind))
    assert result.status == "ok" and metrics.seconds(result) == 1 / 32
    assert result.notes["inspect"] == "RuntimeError: no weights.bin"
    assert [f.code for f in findings.of(result)] == ["not_inspected"]
