"""`nfbench agc-cost`: to the digit on the fake device, for real on a tiny net."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Cli
from make import once, result
from torch.profiler import ProfilerActivity, profile

from nfbench.analysis.rows import clip_rows
from nfbench.analysis.store import load
from nfbench.catalog.models import find
from nfbench.devices import cpu
from nfbench.devices.base import HostRecorder
from nfbench.devices.fake import FakeClips, FakeDevice
from nfbench.measuring.clips import LEAST_TURNS, ClipCosts
from nfbench.measuring.outcome import Watch
from nfbench.nets.agc_trial import ClipTrial
from nfbench.records import AgcCost, Result, Sampling, StepTime, reading

IMPLS = ("timm", "reference", "foreach", "fused")


def workloads(share: float = 0.0, model: str = "tiny-nfnet-s") -> list[AgcCost]:
    return [AgcCost(model=model, impl=impl, clipped=share) for impl in (*IMPLS, "copy")]


def timed(device: FakeDevice, share: float = 0.0) -> list[Result]:
    kept: list[Result] = []
    ClipCosts(device, Sampling(), kept.append, Watch(), 0).run(workloads(share))
    return kept


def test_implementations_take_turns_a_b_c_c_b_a_and_gradients_are_put_back_outside_the_timed_call() -> None:
    device = FakeDevice()
    results = timed(device)
    order = [(r.turn, r.workload.impl) for r in results if isinstance(r.workload, AgcCost)]
    there, back = [*IMPLS, "copy"], ["copy", *reversed(IMPLS)]
    assert order == [(t, impl) for t in range(LEAST_TURNS) for impl in (there if t % 2 == 0 else back)]
    assert len({r.session for r in results}) == 1 and all(r.status == "ok" for r in results)
    # each reset takes a whole second of the fake clock
    assert max(v for r in results for v in r.readings[0].finite) < 1 < device.clock.seconds


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_times_ratios_and_the_floor_are_exact_on_the_fake_device(share: float) -> None:
    found = {row["impl"]: row for row in clip_rows(timed(FakeDevice(), share))}
    assert list(found) == list(IMPLS)  # the copy is no row of its own
    for impl, row in found.items():
        time = FakeClips.TIMES[impl] * (1 + share / 2)
        moved, rate = 2**20 * (2 + share), 2**21 / FakeClips.TIMES["copy"]
        assert row["time"] == row["time_low"] == row["time_high"] == time
        assert row["speedup"] == pytest.approx(FakeClips.TIMES["timm"] / FakeClips.TIMES[impl], rel=1e-12)
        assert (row["moved_bytes"], row["bandwidth"], row["copy_bandwidth"]) == (moved, moved / time, rate)
        assert row["floor"] == moved / rate and row["over_floor"] == pytest.approx(time * rate / moved, rel=1e-12)
        assert (row["clipped"], row["clipped_units"], row["units"], row["turns"]) == (share, share, 1000, LEAST_TURNS)


class Queue(FakeDevice):
    """A device that the host queues four launches a call for, each of which takes the host longer than the device."""

    LAUNCH = 2.0**-8

    def __init__(self) -> None:
        super().__init__()
        self.free = 0.0

    def queue(self, seconds: float) -> None:
        self.free = max(self.free, self.now()) + seconds

    def synchronize(self) -> None:
        self.clock.seconds = max(self.free, self.now())

    def recorder(self, stamps: int) -> HostRecorder:
        return HostRecorder(lambda: max(self.free, self.now()))

    def clips(self, workload: AgcCost, seed: int) -> FakeClips:
        return QueuedClips(self)


class QueuedClips(FakeClips):
    queued = True

    def __init__(self, device: Queue) -> None:
        super().__init__(device.clock)
        self.device = device
        self.waited: list[float] = []

    def reset(self) -> None:
        # longer for the host than the device waits before a call: what is queued behind that wait costs the lead
        self.clock.seconds += 16 * Queue.LAUNCH
        self.device.queue(2.0**-12)

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.device.queue(seconds)

    def call(self, workload: AgcCost) -> Callable[[], object]:
        def clip() -> None:
            for _ in range(4):
                self.clock.seconds += Queue.LAUNCH
                self.device.queue(self.TIMES[workload.impl] / 4)

        return clip


def test_the_device_is_timed_where_it_is_quicker_than_the_host_that_queues_and_the_host_by_itself() -> None:
    found = {row["impl"]: row for row in clip_rows(timed(Queue()))}
    for impl, row in found.items():
        assert row["time"] == pytest.approx(FakeClips.TIMES[impl], rel=1e-9), impl
        assert row["host_time"] == pytest.approx(4 * Queue.LAUNCH, rel=1e-9)
    assert found["fused"]["time"] < found["fused"]["host_time"] and found["fused"]["speedup"] == pytest.approx(8)


def test_the_cache_of_a_device_is_flushed_after_the_gradients_are_put_back() -> None:
    trial = ClipTrial(find("tiny-nfnet-s"), device=torch.device("cpu"), layout="nchw", seed=0)
    trial.flushing = torch.ones(8)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        trial.reset()
    assert not trial.flushing.any()
    assert [e.name for e in seen.events() if e.name in ("aten::_foreach_copy_", "aten::zero_")] == [
        "aten::_foreach_copy_",
        "aten::zero_",
    ]


def test_operators_are_those_of_a_call_that_prepares_nothing_any_more() -> None:
    trial = ClipTrial(find("tiny-nfnet-s"), device=torch.device("cpu"), layout="nchw", seed=0)
    calls = 0

    def clip() -> None:
        nonlocal calls
        calls += 1
        for _ in range(3 if calls > 2 else 419):
            trial.target.add_(0)

    assert trial.operators(clip) == 3


def test_turns_go_on_until_the_intervals_are_narrow_or_time_is_up() -> None:
    class Jittery(FakeDevice):
        def clips(self, workload: AgcCost, seed: int) -> FakeClips:
            made = super().clips(workload, seed)
            whole, calls = made.call, [0]

            def call(workload: AgcCost) -> object:
                calls[0] += 1
                extra, one = 2**-12 * (calls[0] % 3), whole(workload)

                def clip() -> None:
                    one()
                    self.clock.seconds += extra

                return clip

            made.call = call  # type: ignore[method-assign,assignment]
            return made

    def turns(within: float, max_time: float) -> int:
        kept: list[Result] = []
        ClipCosts(Jittery(), Sampling(within=within, max_time=max_time), kept.append, Watch(), 0).run(workloads())
        return max(r.turn for r in kept) + 1

    assert turns(1.0, 1e9) == LEAST_TURNS < turns(0.05, 1e9)
    assert turns(1e-9, 1.0) == LEAST_TURNS  # the cap is reached in the first turn, and four are taken all the same


def test_an_implementation_that_fails_is_a_row_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(FakeDevice):
        def clips(self, workload: AgcCost, seed: int) -> FakeClips:
            made = super().clips(workload, seed)
            describe = made.describe

            def failing(workload: AgcCost) -> object:
                if workload.impl == "fused":
                    raise RuntimeError("no kernel image")
                return describe(workload)

            made.describe = failing  # type: ignore[method-assign,assignment]
            return made

    found = {row["impl"]: row for row in clip_rows(timed(Broken()))}
    assert found["fused"]["status"] == "error" and "time" not in found["fused"]
    assert found["fused"]["message"] == "RuntimeError: no kernel image"
    assert found["foreach"]["speedup"] == 4


def test_a_net_that_does_not_fit_is_a_row_for_each_implementation(capsys: pytest.CaptureFixture[str]) -> None:
    class Full(FakeDevice):
        def clips(self, workload: AgcCost, seed: int) -> FakeClips:
            raise MemoryError("no room")

    assert {row["status"] for row in clip_rows(timed(Full()))} == {"out_of_memory"}


def test_the_floor_is_paired_turn_by_turn() -> None:
    def one(impl: str, turn: int, time: float) -> Result:
        readings = (reading("clip", "s", "step", "test", [time]), once("moved_bytes", 100.0, "B"))
        return result(workload=AgcCost(model="a", impl=impl), turn=turn, readings=readings)  # type: ignore[arg-type]

    # the machine is twice as slow in every other turn, for the clip and the copy alike
    slow = (1, 2, 1, 2)
    (row,) = clip_rows([one(impl, t, s * f) for t, f in enumerate(slow) for impl, s in (("foreach", 3), ("copy", 1))])
    assert row["over_floor"] == pytest.approx(3) and "over_floor_low" not in row
    assert row["time_high"] > 1.2 * row["time"]


def rows_of(screen: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(screen)))


def test_the_command_times_the_clip_and_then_steps_and_table_and_plot_take_its_file(cli: Cli) -> None:
    args = ("agc-cost", "--model", "tiny-nfnet-s", "--device", "fake", "--batch", 16)
    done = cli(*args, "--format", "csv")
    assert done.exit_code == 0, done.output
    assert "results in results/fake/agc-cost/" in done.stderr
    cli(*args, "--out", "both")
    order = [(r.turn, r.step.agc_impl) for r in load([Path("both")]).results if isinstance(r.workload, StepTime)]
    assert order == [(0, "auto"), (0, "timm"), (1, "timm"), (1, "auto")]
    for rows in (rows_of(done.stdout), rows_of(cli("table", "both", "--format", "csv").stdout)):
        alone = [(r["clipped"], r["impl"]) for r in rows if r["kind"] == "agc-cost"]
        assert alone == [(share, impl) for share in ("0.0", "0.5", "1.0") for impl in IMPLS]
        steps = [(r["batch"], r["agc_impl"], r["turns"]) for r in rows if r["kind"] == "step-time"]
        assert steps == [("16", "foreach", "2"), ("16", "timm", "2")]
    assert {r["share"] for r in rows_of(done.stdout) if r["kind"] == "step-time"} == {"0.125"}
    shown = cli("table", "both")
    assert "The clip by itself" in shown.stdout and "step time" in shown.stdout and "clip's share" in shown.stdout
    drawn = cli("plot", "both", "--notes")
    assert drawn.exit_code == 0 and "results of agc-cost, which `nfbench table` shows" in drawn.stderr


def test_without_steps_the_screen_says_how_many_times_as_long_timm_takes_and_what_the_floor_is(cli: Cli) -> None:
    args = ("agc-cost", "--model", "tiny-nfnet-s", "--device", "fake", "--no-steps")
    assert "timm's takes" not in cli(*args, "--agc-impl", "foreach").stdout  # it was not asked for
    done = cli(*args, "--out", "clips")
    assert "8.00 ×" in done.stdout and "of the floor" in done.stdout and "in a step" not in done.stdout
    assert "at the 4.29 GB/s that a copy reached in the same turns" in done.stdout
    assert len(json.loads(cli("table", "clips", "--format", "json").stdout)) == 12


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--agc-impl", "fused", "--device", "cpu"], "--agc-impl fused does not run on"),
        (["--no-steps", "--batch", 4], "--batch has no effect with --no-steps"),
    ],
)
def test_bad_input_gets_one_message(args: list[object], words: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nfbench.devices.torch_device.refusal", lambda _: "it needs CUDA, and this is cpu")
    done = cli("agc-cost", *args)
    assert done.exit_code == 1, done.output
    assert words in done.stderr and "Traceback" not in done.output
    assert not Path("results").exists()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_the_share_of_units_over_their_limit_is_what_was_asked(share: float, layout: str) -> None:
    trial = ClipTrial(find("tiny-nfnet"), device=torch.device("cpu"), layout=layout, seed=0)  # type: ignore[arg-type]
    trial.draw(share)
    workload = AgcCost(model="tiny-nfnet", impl="foreach", clipped=share)
    units = trial.shares(workload)
    assert units.clipped / units.units == pytest.approx(share, abs=0.03)
    before = [g.clone() for g in trial.gradients]
    trial.call(workload)()
    assert trial.shares(workload).clipped == units.clipped  # `shares` puts the gradients back
    assert all(torch.equal(a, b) for a, b in zip(before, trial.gradients, strict=True))
    whole = trial.weight_bytes + trial.gradient_bytes
    assert trial.moved(workload) == pytest.approx(whole + share * trial.gradient_bytes, rel=0.02)
    assert trial.weight_bytes == trial.gradient_bytes == 4 * sum(p.numel() for p in trial.parameters)


def test_it_runs_for_real_on_a_cpu(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.Cpu, "lock_name", lambda self: None)
    monkeypatch.setattr("nfbench.devices.torch_device.refusal", lambda _: "it needs CUDA, and this is cpu")
    done = cli(
        "agc-cost", "--model", "tiny-nfnet-s", "--device", "cpu", "--max-time", 0.3, "--no-steps", "--out", "out.jsonl"
    )
    assert done.exit_code == 0, done.output
    assert "Left out: fused, since it needs CUDA, and this is cpu." in done.stderr
    results = load([Path("out.jsonl")]).results
    found = {(row["impl"], row["clipped"]): row for row in clip_rows(results)}
    assert set(found) == {(impl, share) for impl in IMPLS[:3] for share in (0.0, 0.5, 1.0)}
    for (impl, share), row in found.items():
        assert row["time"] > 0 and row["operators"] > 0 and "launches" not in row
        if impl != "timm":
            assert row["clipped_units"] == pytest.approx(share, abs=0.05)
    # far fewer operators than one unit norm after the other
    assert 4 * found["foreach", 1.0]["operators"] < found["timm", 1.0]["operators"]
