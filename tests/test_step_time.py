"""`nfbench step-time`: every option changes what it says, and a new one that no test knows fails."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli
from torch import Tensor, nn

from nfbench.analysis.store import load
from nfbench.commands.step_time import command
from nfbench.devices import cpu
from nfbench.devices.fake import FakeSteps
from nfbench.devices.torch_device import TorchSteps
from nfbench.nets import agc, agc_fused
from nfbench.records import Resolved, Result, StepTime

SMALL = {
    "model": "tiny-nfnet-s",
    "batch": 4,
    "micro_batch": 4,
    "layout": "nhwc",
    "within": "0.000001%",
    "min_steps": 2,
    "max_time": 0.3,
    "device": "cpu",
}


class Seen:
    """What the built net saw, and what it was built of."""

    def __init__(self) -> None:
        self.steps: list[TorchSteps] = []
        self.inputs: list[Tensor] = []
        self.dtypes: set[torch.dtype] = set()
        self.weights: list[Tensor] = []


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found = Seen()

    class Watched(cpu.Cpu):
        def build(self, workload: StepTime, resolved: Resolved, seed: int) -> TorchSteps:
            steps = super().build(workload, resolved, seed)
            found.steps.append(steps)
            found.weights = [p.detach().clone() for p in steps.step.net.parameters()]
            steps.step.net.register_forward_pre_hook(lambda _, args: found.inputs.append(args[0]))
            first = next(m for m in steps.step.net.modules() if isinstance(m, nn.Conv2d))
            first.register_forward_hook(lambda *args: found.dtypes.add(args[-1].dtype))
            return steps

        def lock_name(self) -> str | None:
            return None

    monkeypatch.setattr(cpu, "Cpu", Watched)
    return found


class Run:
    """Runs the command with small settings and gives its results."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        self.screen = self.said = ""

    def __call__(self, **settings: Any) -> list[Result]:
        out = settings.pop("out", "out.jsonl")
        args: list[object] = []
        for name, value in (SMALL | settings).items():
            flag = f"--{name.replace('_', '-')}"
            args += [flag] if value is True else [flag, value]
        Path("out.jsonl").unlink(missing_ok=True)
        done = self.cli("step-time", *args, "--out", out)
        assert done.exit_code == 0, done.output
        self.screen, self.said = done.stdout, done.stderr
        return load([Path(out)]).results


@pytest.fixture
def run(cli: Cli) -> Run:
    return Run(cli)


COVERED: set[str] = set()


def covers(*options: str) -> pytest.MarkDecorator:
    """Note what a test tells of; the flag that none tells of fails the last."""
    COVERED.update(options)
    return pytest.mark.usefixtures("workers_in_process")


@covers("models", "nets", "batch", "micro_batch", "px", "precision", "layout")
def test_the_net_the_batch_and_its_form_reach_the_step(run: Run, seen: Seen) -> None:
    (small,) = run()
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen.inputs)
    assert {tuple(x.shape) for x in seen.inputs} == {(4, 3, 32, 32)} and seen.dtypes == {torch.float32}
    assert small.workload.model == "tiny-nfnet-s" and small.stopped_by == "max_time"
    assert small.reading("ascent") is None and small.reading("average") is None
    seen.inputs.clear()
    seen.dtypes.clear()
    (large,) = run(model="tiny-nfnet", batch=12, micro_batch=2, px=48, precision="bf16", layout="nchw")
    assert all(x.is_contiguous() for x in seen.inputs)
    assert {tuple(x.shape) for x in seen.inputs} == {(2, 3, 48, 48)} and seen.dtypes == {torch.bfloat16}
    assert (large.workload.model, large.workload.batch) == ("tiny-nfnet", 12)
    step = seen.steps[1].step
    assert step.accumulation_steps == 6 and len(torch.cat(step.inputs)) == 12
    assert large.value("params") > small.value("params")  # type: ignore[operator]
    became = large.resolved
    assert became is not None
    assert (became.micro_batch, became.px, became.precision, became.layout) == (2, 48, "bf16", "nchw")


@covers("compile")
def test_compile_is_torchs_in_the_mode_asked_for(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str | None] = []

    def compiled(net: nn.Module, mode: str | None, dynamic: bool) -> Callable[[Tensor], Tensor]:
        assert not dynamic
        modes.append(mode)
        return net

    monkeypatch.setattr(torch, "compile", compiled)
    (result,) = run(compile="reduce-overhead")
    run(compile="default")
    run()
    assert modes == ["reduce-overhead", None]
    assert result.notes["layout"] == "a request: inductor may choose its own"
    assert result.reading("operators") is None


@covers("agc")
def test_agc_is_the_limit_of_each_clip(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    clipper = agc.clipper

    def counting(parameters: Any, clipping: float, impl: Any) -> Callable[[], object]:
        clip = clipper(parameters, clipping, impl)

        def counted() -> None:
            calls.append(clipping)
            clip()

        return counted

    monkeypatch.setattr(agc, "clipper", counting)
    for settings, clipping in (
        ({"agc": 0.04}, [0.04]),
        ({"agc": "none"}, []),
        ({}, [0.01]),
        ({"model": "tiny-resnet-s"}, []),
    ):
        calls.clear()
        run(**settings)
        # once more where operators are counted
        assert calls == clipping * (seen.steps[-1].step.updates + 1)


@covers("agc_impl")
def test_agc_impl_is_what_clips(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(name: str, clip: Callable[..., object]) -> Callable[..., object]:
        def call(*args: Any, **kwargs: Any) -> object:
            calls.append(name)
            return clip(*args, **kwargs)

        return call

    monkeypatch.setattr(agc, "timm_clip", counted("timm", agc.timm_clip))
    monkeypatch.setattr(agc, "foreach", counted("foreach", agc.foreach))
    monkeypatch.setattr(agc, "reference", counted("reference", agc.reference))
    # the interpreter takes milliseconds a unit: the kernels are tested elsewhere, here only that they are called
    monkeypatch.setattr(agc_fused.Fused, "__call__", lambda *_: calls.append("fused"))
    monkeypatch.setattr(cpu, "refusal", lambda _: None)
    for asked, became in (("auto", "foreach"), ("timm",) * 2, ("reference",) * 2, ("foreach",) * 2, ("fused",) * 2):
        calls.clear()
        (result,) = run(agc_impl=asked)
        # once more where operators are counted
        assert calls == [became] * (seen.steps[-1].step.updates + 1)
        assert result.step.agc_impl == asked
        assert result.resolved is not None and result.resolved.agc_impl == became


@covers("norm")
def test_norm_is_that_of_the_built_net(run: Run, seen: Seen) -> None:
    (own,), (group,), (frozen,) = (run(model="tiny-resnet-s", norm=kind) for kind in ("auto", "group", "frozen"))
    assert [r.notes["norm"] for r in (own, group, frozen)] == ["batch", "group", "frozen"]
    assert any(isinstance(m, nn.GroupNorm) for m in seen.steps[1].step.net.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in seen.steps[1].step.net.modules())


@covers("sam", "sam_fraction", "sam_scope")
def test_sam_ascends_over_its_share_of_a_pass_or_of_the_batch(run: Run, seen: Seen) -> None:
    for share, images in (("0.2", 1), ("50%", 2)):
        seen.inputs.clear()
        (result,) = run(sam=0.05, sam_fraction=share)
        assert result.reading("ascent") is not None and {len(x) for x in seen.inputs} == {images, 4}
        assert seen.steps[-1].step.sam is not None and seen.steps[-1].step.sam.radius == 0.05
        assert "ascent (SAM)" in run.screen and "sam ρ" in run.screen
    # the last update is looked into: two passes of two images, with an ascent over ⌈0.2 · 2⌉ each or over ⌈0.2 · 12⌉,
    # and a pass for what it saves
    for scope, passes in (("micro-batch", [1, 2, 1, 2, 2]), ("batch", [2, 1, 2, 2, 2])):
        run(batch=12, micro_batch=2, sam=0.05, sam_scope=scope)
        assert [len(x) for x in seen.inputs][-len(passes) :] == passes


@covers("broadcast_buffers")
def test_one_process_has_nobody_to_broadcast_to(run: Run, seen: Seen) -> None:
    # two have: `test_distributed`
    done = run.cli("step-time", "--model", "tiny-nfnet", "--device", "cpu", "--no-broadcast-buffers")
    assert done.exit_code == 1 and "--no-broadcast-buffers is of several processes, and this is one." in done.stderr


@covers("ema")
def test_ema_averages_the_weights(run: Run, seen: Seen) -> None:
    (averaged,) = run(ema=0.999)
    assert averaged.reading("average") is not None and seen.steps[0].step.ema.decay == 0.999
    assert "average (EMA)" in run.screen


@covers("optimizer")
def test_optimizer_is_the_family_s_where_the_recipe_is_asked_for(run: Run, seen: Seen) -> None:
    (ours,) = run(model="tiny-efficientnet-s")
    (theirs,) = run(model="tiny-efficientnet-s", optimizer="recipe")
    assert [type(s.step.optimizer).__name__ for s in seen.steps] == ["SGD", "RMSpropTF"]
    assert [r.resolved.optimizer_impl for r in (ours, theirs)] == ["sgd fused", "rmsproptf"]  # type: ignore[union-attr]
    run(model="tiny-resnet-s", optimizer="recipe")
    assert {g["weight_decay"] for g in seen.steps[-1].step.optimizer.param_groups} == {1e-4, 0.0}


@covers("seed")
def test_seed_is_that_of_the_weights(run: Run, seen: Seen) -> None:
    weights = []
    for value in (0, 0, 1):
        (result,) = run(seed=value)
        assert result.seed == value
        weights.append(seen.weights[0])
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@covers("within", "min_steps", "rounds", "max_time", "device")
def test_timing_ends_when_it_was_told_to_and_rounds_are_processes(run: Run, seen: Seen) -> None:
    (loose,) = run(within="99%", min_steps=8, max_time=60)
    assert loose.stopped_by == "within" and loose.sampling.within == 0.99 and loose.machine.device == "cpu"
    for least, steps in ((33, 40), (5, 10)):
        (result,) = run(device="fake", batch=512, min_steps=least, max_time=600, within="1%")
        assert result.machine.device == "fake" and least <= (result.value("steps") or 0) <= steps
    timed = [run(device="fake", max_time=t, min_steps=10**6)[0].reading("block_time") for t in (2, 8)]
    assert [sum(r.finite) > 2 for r in timed if r] == [False, True]
    results = run(device="fake", rounds=2)
    assert sorted(r.round for r in results) == [0, 1]
    assert len({r.session for r in results}) == 1 and results[0].session


@covers("out", "format", "quiet")
def test_results_go_where_and_look_as_was_asked_for(run: Run, seen: Seen) -> None:
    run(device="fake", out="folder")
    assert len(list(Path("folder").glob("*.jsonl"))) == 1
    assert "tiny-nfnet-s: timing" in run.said
    run(device="fake", quiet=True, format="csv")
    assert "timing" not in run.said and "1 result in" in run.said
    head, row = run.screen.splitlines()
    assert dict(zip(head.split(","), row.split(","), strict=True))["step_time"] == "0.00390625"
    run(device="fake", format="md")
    assert "| step time | 3.906 ms ± 0 % |" in run.screen


def test_no_option_is_left_out_here() -> None:
    assert {p.name for p in command.params} <= COVERED


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model", "nfnet-f00"], r"There is no net called 'nfnet-f00'\.\nThe nearest: nfnet-f0"),
        (["--model", "resnet50", "--micro-batch", 12], r"does not divide --batch 32\.\n.*\nTry: --micro-batch 8,"),
        (["--model", "resnet50", "--batch", -1], r"--batch -1 is not positive\.\nTry: --batch 32"),
        (["--model", "resnet50", "--agc", 0], r"--agc 0 is not positive\.\nTry: --agc 0.01, or --agc none"),
        (["--model", "timm:vgg11", "--device", "cpu", "--px", 8], r"timm:vgg11 does not run at 8 px"),
        (["--model", "resnet50", "--device", "cpu", "--precision", "tf32"], r"--precision tf32 is an arithmetic of"),
        (["--model", "resnet50", "--sam", -1], r"--sam -1 is not positive\.\nTry: --sam 0.05"),
        (["--model", "resnet50", "--sam-fraction", "50%"], r"an ascent that was not asked for\.\nTry: --sam 0.05"),
        (["--model", "resnet50", "--sam", 0.05, "--sam-fraction", 2], r"--sam-fraction 2 is no share"),
        (
            ["--model", "nfnet-f0", "--agc", "none", "--agc-impl", "timm"],
            r"timm has no effect with --agc none",
        ),
        (["--model", "resnet50", "--ema", 1], r"--ema 1 is not between 0 and 1\.\nTry: --ema 0.99999"),
        (["--model", "resnet50", "--device", "cpu", "--norm", "sync_batch"], r"sync_batch does not run on a CPU\."),
    ],
)
def test_bad_input_gets_one_worded_message(args: list[object], words: str, cli: Cli) -> None:
    done = cli("step-time", *args)
    assert done.exit_code == 1, done.output
    assert re.search(words, done.stderr), done.stderr
    assert "Traceback" not in done.output
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [(("--out", "results/sub"), "--out"), ((), "Results cannot be written to results: results is no folder.")],
)
def test_a_folder_that_cannot_be_written_stops_it_at_once(flags: tuple[str, ...], words: str, cli: Cli) -> None:
    Path("results").write_text("")
    done = cli("step-time", "--model", "tiny-nfnet", "--device", "fake", *flags)
    assert done.exit_code == 1 and done.stdout == ""
    assert "cannot be written" in done.stderr and words in done.stderr and "building" not in done.stderr


def test_a_factory_that_exits_or_prints_does_neither_to_nfbench(cli: Cli) -> None:
    prints = "\ndef prints(num_classes):\n    print('HELLO')\n    return small(num_classes)\n"
    Path("rudenets.py").write_text(NET + "\ndef exits(num_classes):\n    raise SystemExit(3)\n" + prints)
    done = cli("flops", "rudenets:exits", "--px", 16)
    assert done.exit_code == 1
    assert done.stderr.startswith("The factory rudenets:exits raised.\nSystemExit: 3")
    done = cli("flops", "rudenets:prints", "--px", 16, "--format", "csv")
    assert done.exit_code == 0 and "HELLO" not in done.stdout and "HELLO" in done.stderr


NET = """
from torch import nn

def small(num_classes):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))

class Bad(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(3, num_classes)

    def forward(self, x):
        return self.fc(x.mean((2, 3))) if x.is_meta else self.fc(x)
"""


def test_a_factory_of_ones_own_is_timed_with_its_commit(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("theirs").mkdir()
    Path("theirs/committed_nets.py").write_text(NET)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "Add a net"], ["rev-parse", "HEAD"]):
        done = subprocess.run([*git, *args], cwd="theirs", check=True, capture_output=True, text=True)
    monkeypatch.syspath_prepend(str(Path("theirs").resolve()))
    (result,) = run(model="committed_nets:small", px=16)
    assert result.workload.model == "committed_nets:small"
    assert result.value("macs") == 14 * 14 * 8 * 27 + 8 * 1000
    assert result.resolved is not None and result.resolved.agc == 0.01
    assert result.software.commit is not None and done.stdout.startswith(result.software.commit)
    assert result.software.dirty is False


def test_a_net_that_fails_is_a_row_and_exit_code_5(cli: Cli) -> None:
    Path("badnets.py").write_text(NET)
    done = cli("step-time", "--model", "badnets:Bad", "--px", 8, "--device", "cpu", "--out", "o.jsonl", "--batch", 2)
    (result,) = load([Path("o.jsonl")]).results
    assert (done.exit_code, result.status) == (5, "error")
    assert "1 of 1 workload failed: badnets:Bad." in done.stderr


@covers("notes")
def test_what_a_failed_trial_says_is_stored_without_its_folders(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    command_line = "CalledProcessError: Command '['/usr/bin/gcc', '/tmp/x1/a.c', '-I/home/alice/include']' failed"
    monkeypatch.setattr(FakeSteps, "notes", lambda self: {"agc": command_line})
    done = cli("step-time", "--model", "tiny-nfnet", "--device", "fake", "--out", "kept.jsonl", "--notes")
    assert done.exit_code == 0 and "clipped: CalledProcessError: Command '['gcc', 'a.c', '-Iinclude']" in done.stdout
    assert not re.search(r"/usr|/tmp/x1|alice", Path("kept.jsonl").read_text())
