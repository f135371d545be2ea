"""`nfbench step-time`: every option changes what it says, and a new one that no test knows fails."""

from __future__ import annotations

import re
import subprocess
import sys
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
from nfbench.devices.torch_device import TorchSteps
from nfbench.nets import agc, agc_triton
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


def model(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (small,), (large,) = run(), run(model="tiny-nfnet")
    assert small.workload.model == "tiny-nfnet-s" and large.workload.model == "tiny-nfnet"
    assert large.value("params") > small.value("params")  # type: ignore[operator]


def batch(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = run(batch=12)
    assert result.workload.batch == 12
    assert seen.steps[0].step.accumulation_steps == 3
    assert len(torch.cat(seen.steps[0].step.inputs)) == 12


def micro_batch(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = run(micro_batch=2)
    assert {len(x) for x in seen.inputs} == {2}
    assert result.resolved is not None and result.resolved.micro_batch == 2


def px(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = run(px=48)
    assert {tuple(x.shape) for x in seen.inputs} == {(4, 3, 48, 48)}
    assert result.resolved is not None and result.resolved.px == 48


def precision(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = run(precision="bf16")
    assert seen.dtypes == {torch.bfloat16}
    assert result.resolved is not None and result.resolved.precision == "bf16"


def layout(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    run(layout="nhwc")
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen.inputs)
    seen.inputs.clear()
    (result,) = run(layout="nchw")
    assert all(x.is_contiguous() for x in seen.inputs)
    assert result.resolved is not None and result.resolved.layout == "nchw"


def compile_(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
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


def agc_(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    clipper = agc.clipper

    def counting(parameters: Any, clipping: float, impl: Any) -> Callable[[], object]:
        clip = clipper(parameters, clipping, impl)

        def counted() -> None:
            calls.append(clipping)
            clip()

        return counted

    monkeypatch.setattr(agc, "clipper", counting)
    run(agc=0.04)
    # once more where operators are counted
    assert len(calls) == seen.steps[-1].step.updates + 1 and set(calls) == {0.04}
    calls.clear()
    run(agc="none")
    assert calls == []
    run()
    assert set(calls) == {0.01}
    calls.clear()
    run(model="tiny-resnet-s")
    assert calls == []


def agc_impl(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setattr(agc_triton.Fused, "__call__", lambda *_: calls.append("fused"))
    monkeypatch.setattr(cpu, "refusal", lambda _: None)
    for asked, became in (("auto", "foreach"), ("timm",) * 2, ("reference",) * 2, ("foreach",) * 2, ("fused",) * 2):
        calls.clear()
        (result,) = run(agc_impl=asked)
        # once more where operators are counted
        assert calls == [became] * (seen.steps[-1].step.updates + 1)
        assert result.step.agc_impl == asked
        assert result.resolved is not None and result.resolved.agc_impl == became


def norm(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (own,), (group,), (frozen,) = (run(model="tiny-resnet-s", norm=kind) for kind in ("auto", "group", "frozen"))
    assert [r.notes["norm"] for r in (own, group, frozen)] == ["batch", "group", "frozen"]
    assert any(isinstance(m, nn.GroupNorm) for m in seen.steps[1].step.net.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in seen.steps[1].step.net.modules())


def sam(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (plain,), (with_sam,) = run(), run(sam=0.05)
    assert plain.reading("ascent") is None and with_sam.reading("ascent") is not None
    assert seen.steps[1].step.sam is not None and seen.steps[1].step.sam.radius == 0.05
    assert "ascent (SAM)" in run.screen and "sam ρ" in run.screen


def sam_fraction(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    for share, images in (("0.2", 1), ("50%", 2), ("1", 4)):
        seen.inputs.clear()
        run(sam=0.05, sam_fraction=share)
        assert {len(x) for x in seen.inputs} == {images, 4}


def sam_scope(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    # the last update is looked into: two passes of two images, with an ascent over ⌈0.2 · 2⌉ each or over ⌈0.2 · 12⌉,
    # and a pass for what it saves
    for scope, passes in (("micro-batch", [1, 2, 1, 2, 2]), ("batch", [2, 1, 2, 2, 2])):
        run(batch=12, micro_batch=2, sam=0.05, sam_scope=scope)
        assert [len(x) for x in seen.inputs][-len(passes) :] == passes


def broadcast_buffers(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    # one process has nobody to broadcast to; two are in `test_distributed`
    done = run.cli("step-time", "--model", "tiny-nfnet", "--device", "cpu", "--no-broadcast-buffers")
    assert done.exit_code == 1 and "--no-broadcast-buffers is of several processes" in done.stderr


def ema(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (plain,), (averaged,) = run(), run(ema=0.999)
    assert plain.reading("average") is None and averaged.reading("average") is not None
    assert seen.steps[1].step.ema.decay == 0.999
    assert "average (EMA)" in run.screen


def optimizer(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (ours,) = run(model="tiny-efficientnet-s")
    (theirs,) = run(model="tiny-efficientnet-s", optimizer="recipe")
    assert [type(s.step.optimizer).__name__ for s in seen.steps] == ["SGD", "RMSpropTF"]
    assert [r.resolved.optimizer_impl for r in (ours, theirs)] == ["sgd fused", "rmsproptf"]  # type: ignore[union-attr]
    run(model="tiny-resnet-s", optimizer="recipe")
    assert {g["weight_decay"] for g in seen.steps[-1].step.optimizer.param_groups} == {1e-4, 0.0}


def device(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake,), (real,) = run(device="fake"), run(device="cpu")
    assert (fake.machine.device, real.machine.device) == ("fake", "cpu")


def seed(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for value in (0, 0, 1):
        (result,) = run(seed=value)
        assert result.seed == value
        weights.append(seen.weights[0])
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def within(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (tight,), (loose,) = run(), run(within="10000%", min_steps=8, max_time=60)
    assert (tight.stopped_by, loose.stopped_by) == ("max_time", "within")
    assert loose.sampling.within == 100


def min_steps(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = run(device="fake", batch=512, min_steps=33, max_time=600, within="1%")
    assert result.value("steps") >= 33  # type: ignore[operator]
    (result,) = run(device="fake", batch=512, min_steps=5, max_time=600, within="1%")
    assert result.value("steps") == 10


def rounds(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    results = run(device="fake", rounds=2)
    assert sorted(r.round for r in results) == [0, 1]
    assert len({r.session for r in results}) == 1 and results[0].session


def max_time(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = [run(device="fake", max_time=t, min_steps=10**6)[0].reading("block_time") for t in (2, 8)]
    assert [sum(r.finite) > 2 for r in timed if r] == [False, True]


def out(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = run(device="fake", out="folder")
    assert len(list(Path("folder").glob("*.jsonl"))) == 1 and result.machine.device == "fake"


def format_(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    run(device="fake", format="csv")
    head, row = run.screen.splitlines()
    assert dict(zip(head.split(","), row.split(","), strict=True))["step_time"] == "0.00390625"
    run(device="fake", format="md")
    assert "| step time | 3.906 ms ± 0 % |" in run.screen


def quiet(run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    run(device="fake")
    assert "tiny-nfnet-s: timing" in run.said
    run(device="fake", quiet=True)
    assert "timing" not in run.said and "1 result in" in run.said


EFFECTS: dict[str, Callable[[Run, Seen, pytest.MonkeyPatch], None]] = {
    "models": model,
    "batch": batch,
    "micro_batch": micro_batch,
    "px": px,
    "precision": precision,
    "layout": layout,
    "compile": compile_,
    "agc": agc_,
    "agc_impl": agc_impl,
    "norm": norm,
    "sam": sam,
    "sam_fraction": sam_fraction,
    "sam_scope": sam_scope,
    "broadcast_buffers": broadcast_buffers,
    "ema": ema,
    "optimizer": optimizer,
    "device": device,
    "seed": seed,
    "within": within,
    "min_steps": min_steps,
    "rounds": rounds,
    "max_time": max_time,
    "out": out,
    "format": format_,
    "quiet": quiet,
}


@pytest.mark.parametrize("option", [p.name for p in command.params])
def test_every_option_changes_what_it_says(option: str, run: Run, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    assert option in EFFECTS, f"--{option} is new: say here what it changes"
    EFFECTS[option](run, seen, monkeypatch)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model", "nfnet-f00"], r"There is no net called 'nfnet-f00'\.\nThe nearest: nfnet-f0"),
        (
            ["--model", "resnet50", "--batch", 32, "--micro-batch", 12],
            r"--micro-batch 12 does not divide --batch 32\.\n.*\nTry: --micro-batch 8, or --micro-batch auto",
        ),
        (["--model", "resnet50", "--px", 0], r"--px 0 is not positive\.\nTry: --px 224"),
        (["--model", "resnet50", "--batch", -1], r"--batch -1 is not positive\.\nTry: --batch 32"),
        (["--model", "resnet50", "--agc", 0], r"--agc 0 is not positive\.\nTry: --agc 0.01, or --agc none"),
        (["--model", "resnet50", "--max-time", 0], r"--max-time 0 is not positive\."),
        (["--model", "timm:vgg11", "--device", "cpu", "--px", 8], r"timm:vgg11 does not run at 8 px"),
        (["--model", "resnet50", "--device", "cpu", "--precision", "tf32"], r"--precision tf32 is an arithmetic of"),
        (["--model", "resnet50", "--sam", -1], r"--sam -1 is not positive\.\nTry: --sam 0.05"),
        (["--model", "resnet50", "--sam-fraction", "50%"], r"an ascent that was not asked for\.\nTry: --sam 0.05"),
        (["--model", "resnet50", "--sam", 0.05, "--sam-fraction", 2], r"--sam-fraction 2 is no share"),
        (["--model", "nfnet-f0", "--agc", "none", "--agc-impl", "timm"], r"of a clip that --agc none leaves out"),
        (["--model", "resnet50", "--ema", 1], r"--ema 1 is not between 0 and 1\.\nTry: --ema 0.99999"),
        (["--model", "resnet50", "--device", "cpu", "--norm", "sync_batch"], r"sync_batch does not run on a CPU\."),
        (
            ["--model", "nfnet-f0", "--device", "cpu", "--norm", "group"],
            r"nfnet-f0 has no batch normalization.*\n.*\nTry: --model bn-nfnet-f0 --norm group",
        ),
        (["--model", "resnet50", "--device", "cpu", "--norm", "none"], r"Try: --model nf-resnet50"),
        (["--model", "resnet50", "--device", "tpu"], r"There is no device 'tpu'\.\nTry: --device auto"),
        (["--model", "nowhere.nets:small", "--device", "cpu"], r"nowhere"),
        (["--model", "math:pi", "--device", "cpu"], r"math:pi"),
        (["--model", "builtins:dict", "--device", "cpu"], r"builtins:dict"),
        (["--model", "timm:resnet5000", "--device", "cpu"], r"timm"),
    ],
)
def test_bad_input_gets_one_worded_message(args: list[object], words: str, cli: Cli) -> None:
    done = cli("step-time", *args)
    assert done.exit_code == 1, done.output
    assert re.search(words, done.stderr), done.stderr
    assert "Traceback" not in done.output
    assert not Path("results").exists()


def test_cuda_asked_for_where_there_is_none_says_what_to_type(cli: Cli) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = cli("step-time", "--model", "resnet50", "--device", "cuda")
    assert done.exit_code == 1
    assert "--device cpu" in done.stderr


def test_an_output_folder_that_cannot_be_written_stops_before_anything_runs(cli: Cli) -> None:
    Path("file").write_text("")
    done = cli("step-time", "--model", "tiny-nfnet", "--device", "fake", "--out", "file/sub")
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr and "--out" in done.stderr and done.stdout == ""


def test_a_default_folder_that_cannot_be_written_stops_before_anything_runs(cli: Cli) -> None:
    Path("results").write_text("")
    done = cli("step-time", "--model", "tiny-nfnet", "--device", "fake")
    assert done.exit_code == 1 and done.stdout == ""
    assert "Results cannot be written to results" in done.stderr and "building" not in done.stderr


def test_a_wrong_type_is_wrong_usage(cli: Cli) -> None:
    assert cli("step-time", "--model", "resnet50", "--batch", "many").exit_code == 2


def test_results_land_in_a_folder_of_the_device_and_the_screen_says_where(cli: Cli) -> None:
    done = cli("step-time", "--model", "tiny-nfnet", "--device", "fake")
    (path,) = Path("results/fake/step-time").glob("*.jsonl")
    assert f"1 result in {path}" in done.stderr
    assert f"Next: nfbench table {path}" in done.stderr


def test_a_factory_of_ones_own_is_timed(run: Run, seen: Seen) -> None:
    Path("mynets.py").write_text(
        "from torch import nn\n"
        "def small(num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(8, num_classes))\n"
    )
    (result,) = run(model="mynets:small", px=16)
    assert result.workload.model == "mynets:small"
    assert result.value("macs") == 14 * 14 * 8 * 27 + 8 * 1000
    assert result.resolved is not None and result.resolved.agc == 0.01


def test_a_factory_that_exits_or_prints_does_neither_to_nfbench(cli: Cli) -> None:
    Path("rudenets.py").write_text(
        "import sys\n"
        "from torch import nn\n"
        "def exits(num_classes):\n"
        "    sys.exit(3)\n"
        "def prints(num_classes):\n"
        "    print('HELLO')\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(8, num_classes))\n"
    )
    done = cli("flops", "rudenets:exits", "--px", 16)
    assert done.exit_code == 1
    assert done.stderr.startswith("The factory rudenets:exits raised.\nSystemExit: 3")
    done = cli("flops", "rudenets:prints", "--px", 16, "--format", "csv")
    assert done.exit_code == 0 and "HELLO" not in done.stdout and "HELLO" in done.stderr


def test_the_commit_recorded_is_that_of_the_code_under_test(run: Run, seen: Seen) -> None:
    Path("theirs").mkdir()
    Path("theirs/committed_nets.py").write_text(
        "from torch import nn\n"
        "def small(num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(8, num_classes))\n"
    )
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "Add a net"]):
        subprocess.run([*git, *args], cwd="theirs", check=True)
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], cwd="theirs", check=True, capture_output=True, text=True
    ).stdout
    sys.path.insert(0, str(Path("theirs").resolve()))
    try:
        (result,) = run(model="committed_nets:small", px=16)
    finally:
        sys.path.pop(0)
    assert result.software.commit is not None and commit.startswith(result.software.commit)
    assert result.software.dirty is False


def test_a_net_that_fails_is_a_row_and_exit_code_5(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("badnets.py").write_text(
        "from torch import nn\n"
        "class Bad(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(3, 10)\n"
        "    def forward(self, x):\n"
        "        return self.fc(x.mean((2, 3))) if x.is_meta else self.fc(x)\n"
        "def bad(num_classes):\n"
        "    return Bad()\n"
    )
    done = cli("step-time", "--model", "badnets:bad", "--px", 8, "--device", "cpu", "--out", "o.jsonl", "--batch", 2)
    (result,) = load([Path("o.jsonl")]).results
    assert (done.exit_code, result.status) == (5, "error")
    assert "1 of 1 workload failed: badnets:bad." in done.stderr
