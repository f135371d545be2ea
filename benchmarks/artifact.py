"""One claim of `artifact.sh` about nfbench itself: prints its figure, and ends with 1 where the claim does not hold.

uv run python benchmarks/artifact.py macs|agc|overhead|parity|coverage|resume FOLDER
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
RATIO = (0.9, 1.1)
"""Ends between which an interval of parity must partly lie."""
STAMPS = 1.03
"""Times as long as without nfbench's stamps that a step may take; an interval wholly above it fails."""
COMPARES, LEAST_HELD = 8, 6
"""Compares of one pair, and how many 95 % intervals must hold their mean: by chance fewer do in 0.6 % of campaigns."""
STUDY = """title = "Kill and resume"
question = "Is anything measured twice or lost?"
[[step-time]]
model = ["tiny-nfnet-s", "bn-tiny-nfnet-s", "tiny-resnet-s", "tiny-efficientnet-s"]
batch = 8
max_time = 1
"""


def run(*words: object, cwd: Path | None = None) -> str:
    """What a Python command prints.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run([sys.executable, *map(str, words)], cwd=cwd, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}")
    return done.stdout


def macs(folder: Path) -> tuple[bool, str]:
    """MACs that nfbench counts against those that the paper's Table 3 reports."""
    rows = csv.DictReader(io.StringIO(run("-m", "nfbench", "flops", "--all", "--format", "csv")))
    reported = {row["model"]: abs(float(row["difference"])) for row in rows if "Table 3" in row["source"]}
    nfnets = [difference for model, difference in reported.items() if model.startswith("nfnet-f")]
    others = [difference for model, difference in reported.items() if not model.startswith("nfnet-f")]
    text = (
        f"MACs counted / reported in Table 3: {len(nfnets)} NFNets differ by up to {max(nfnets):.2%} (claimed: 0.1 %)"
    )
    text += f", {len(others)} others by up to {max(others):.1%} (claimed: 5 %)"
    return len(nfnets) == 7 and max(nfnets) <= 0.001 and max(others) <= 0.05, text


def agc(folder: Path) -> tuple[bool, str]:
    """nfbench's clipping against the formula of the paper's section 4.1, written out in NumPy in float64."""
    import numpy as np
    import torch

    from nfbench.nets.agc import adaptive_clip_grad_

    generator = np.random.default_rng(0)
    worst = 0.0
    for shape in ((64, 32, 3, 3), (128, 64), (96,)):
        weight, gradient = (generator.standard_normal(shape).astype(np.float32) for _ in range(2))
        parameter = torch.nn.Parameter(torch.from_numpy(weight.copy()))
        parameter.grad = torch.from_numpy(gradient.copy())
        adaptive_clip_grad_(parameter, 0.01)
        # a unit is a row of fan-in, or all of a gain or bias
        axes = tuple(range(1, len(shape))) or None
        of_weight = np.sqrt(np.sum(weight.astype(np.float64) ** 2, axis=axes, keepdims=True))
        of_gradient = np.sqrt(np.sum(gradient.astype(np.float64) ** 2, axis=axes, keepdims=True))
        limit = 0.01 * np.maximum(of_weight, 1e-3)
        expected = gradient * np.where(of_gradient > limit, limit / np.maximum(of_gradient, 1e-6), 1.0)
        worst = max(worst, float(np.max(np.abs(parameter.grad.numpy() - expected)) / np.max(np.abs(expected))))
    return worst < 1e-6, f"AGC against the paper's formula in float64: largest difference {worst:.1e} (claimed: 1e-6)"


def overhead(folder: Path) -> tuple[bool, str]:
    """A step under nfbench's stamps against a loop with one clock."""
    run(HERE / "overhead.py", "--rounds", 4, "--out", folder)
    with (folder / "overhead.csv").open(newline="", encoding="utf-8") as file:
        pairs = [(float(row["nfbench (s)"]), float(row["bare loop (s)"])) for row in csv.DictReader(file)]
    ratio, low, high = interval([a / b for a, b in pairs])
    text = f"step under nfbench's stamps / without: {ratio:.3f} ({low:.3f} to {high:.3f}; claimed: at most {STAMPS})"
    return low <= STAMPS, text


def parity(folder: Path) -> tuple[bool, str]:
    """`nfbench step-time` against a plain training loop of the same net, in turns A B B A."""
    net = ("--px", 64, "--batch", 8)

    def here() -> float:
        words = ("step-time", "timm:resnet18", *net, "--layout", "nchw", "--precision", "fp32", "--max-time", 5)
        out = run("-m", "nfbench", *words, "--quiet", "--format", "json", "--out", folder / "parity.jsonl")
        return float(json.loads(out)[0]["step_time"])

    def plain() -> float:
        return float(json.loads(run(HERE / "bare_loop.py", "resnet18", *net, "--seconds", 5))["step_time"])

    ratios = []
    for number in range(4):
        times: dict[Callable[[], float], list[float]] = {here: [], plain: []}
        for side in (here, plain, plain, here) if number % 2 == 0 else (plain, here, here, plain):
            times[side].append(side())
        ratios.append(statistics.geometric_mean(times[here]) / statistics.geometric_mean(times[plain]))
    ratio, low, high = interval(ratios)
    text = (
        f"step of nfbench / of a plain loop: {ratio:.3f} ({low:.3f} to {high:.3f}; claimed: {RATIO[0]} to {RATIO[1]})"
    )
    return low <= RATIO[1] and high >= RATIO[0], text


def coverage(folder: Path) -> tuple[bool, str]:
    """How many 95 % intervals of compares of one pair hold the mean of all."""
    pair = "tiny-nfnet-s,bn-tiny-nfnet-s"
    settings = "--batch 32 --micro-batch 32 --layout nhwc --max-time 4 --device cpu"
    words = ("--pairs", pair, "--compares", COMPARES, f"--settings={settings}", "--out", folder / "coverage")
    run(HERE / "coverage.py", *words)
    with (folder / "coverage" / "compares.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["speedup"]]
    mean = statistics.geometric_mean(float(row["speedup"]) for row in rows)
    held = sum(float(row["low"]) <= mean <= float(row["high"]) for row in rows)
    text = (
        f"95 % intervals of compares that hold their mean: {held} of {len(rows)} (claimed: {LEAST_HELD} of {COMPARES})"
    )
    return len(rows) >= COMPARES and held >= LEAST_HELD, text


def resume(folder: Path) -> tuple[bool, str]:
    """A study that is killed with SIGKILL and started again measures each workload once."""
    work = folder / f"resume-{int(time.time())}"
    work.mkdir(parents=True)
    (work / "mine.toml").write_text(STUDY, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-m", "nfbench", "run", "mine.toml", "--out", "kept"]
    first = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 240
    while not lines(work) and first.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = len(lines(work))
    again = subprocess.run(command, cwd=work, env=environment, stdout=subprocess.DEVNULL, check=False)
    models = [json.loads(line)["workload"]["model"] for line in lines(work)]
    once = len(models) == len(set(models)) == 4
    text = f"killed after {before} of 4 workloads; then {len(models)} rows of {len(set(models))} (claimed: 4 of 4)"
    return again.returncode == 0 and once and 0 < before < 4, text


def lines(work: Path) -> list[str]:
    """The whole lines of results below ``work``."""
    texts = [path.read_text(encoding="utf-8") for path in work.glob("kept/*.jsonl")]
    return [line for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The geometric mean of ratios of rounds and the ends of its 95 % interval."""
    from nfbench.analysis.stats import mean_of_logs

    estimate = mean_of_logs(ratios)
    assert estimate.low is not None and estimate.high is not None
    return estimate.value, estimate.low, estimate.high


CLAIMS = {of.__name__: of for of in (macs, agc, overhead, parity, coverage, resume)}


def main() -> None:
    """Check one claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("claim", choices=CLAIMS)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    holds, text = CLAIMS[args.claim](args.folder.resolve())
    print(f"{args.claim}: {text}")
    sys.exit(not holds)


if __name__ == "__main__":
    main()
