"""nfbench against timm's own benchmark.py and against a plain training loop: images/s of ten small nets, in turns.

Each figure comes from a process of its own. A round of a net is the plain loop, nfbench, timm; the next round takes
them in the reverse order. Every figure is one line of timm.ndjson as soon as its process ends, and the same command
goes on where it was. A round in which other processes took over 20 % of the CPU is measured again and does not count.

    git clone https://github.com/huggingface/pytorch-image-models timm-checkout
    uv run python benchmarks/against_timm.py timm-checkout
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil
from evidence import VALIDATION
from timm_tables import (
    CASES,
    LEAST_ROUNDS,
    MOST_OTHERS,
    TURNS,
    WARM_UP,
    Case,
    Differences,
    Line,
    Log,
    Settings,
    Tool,
    write,
)

from nfbench.devices.host import commit_of, cpu_cores, cpu_name, load, software
from nfbench.errors import NfbenchError
from nfbench.measuring.lock import only_one
from nfbench.measuring.outcome import Watch
from nfbench.records import Result

HERE = Path(__file__).parent


def main(words: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write the tables.

    Raises:
        SystemExit: an argument is wrong, or a process failed.
    """
    try:
        _run(_arguments(words))
    except NfbenchError as error:
        sys.exit(str(error))


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", nargs="?", type=Path, help="the folder of a checkout of timm")
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, help="that count, of each net (default: 4)")
    parser.add_argument("--only", action="append", metavar="NET", help="one of the nets; repeat for more")
    parser.add_argument("--out", type=Path, default=VALIDATION / "timm", metavar="FOLDER")
    parser.add_argument("--device", choices=CASES, default="cpu")
    parser.add_argument("--layout", choices=("nchw", "nhwc"), help="default: nchw on a CPU, nhwc on a GPU")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), help="default: fp32 on a CPU, bf16 on a GPU")
    parser.add_argument("--seconds", type=float, default=4.0, help="to time in each process, about (default: 4)")
    parser.add_argument("--threads", type=int, default=cpu_cores(), help="of all tools (default: the cores)")
    parser.add_argument(
        "--most-others",
        type=float,
        default=MOST_OTHERS,
        help="share of the CPU that other processes may take in a round that counts (default: 0.2)",
    )
    args = parser.parse_args(words)
    on_gpu = args.device == "cuda"
    args.layout = args.layout or ("nhwc" if on_gpu else "nchw")
    args.precision = args.precision or ("bf16" if on_gpu else "fp32")
    if on_gpu == (args.precision == "fp32"):
        parser.error("--precision is fp32 on a CPU; on a GPU tf32 or bf16, since benchmark.py turns TF32 on.")
    for name in ("rounds", "seconds", "threads"):
        if getattr(args, name) <= 0:
            parser.error(f"--{name} must be over 0.")
    nets = [case.net for case in CASES[args.device]]
    for net in args.only or ():
        if net not in nets:
            parser.error(f"--only {net}: the nets are {', '.join(nets)}.")
    return args


def benchmark_file(checkout: Path | None) -> Path:
    """The benchmark.py of a checkout of timm.

    Raises:
        NfbenchError: there is none.
    """
    file = (checkout or Path()) / "benchmark.py"
    if checkout is not None and file.is_file() and "TrainBenchmarkRunner" in file.read_text(encoding="utf-8"):
        return file.resolve()
    raise NfbenchError(
        "The path of a checkout of timm is missing." if checkout is None else f"{checkout} is no checkout of timm.",
        why="timm's benchmark.py is needed, and the wheel of timm does not hold it.",
        try_="git clone https://github.com/huggingface/pytorch-image-models timm-checkout && "
        "uv run python benchmarks/against_timm.py timm-checkout",
    )


def _run(args: argparse.Namespace) -> None:
    timm_file = benchmark_file(args.checkout)
    versions = software(with_torch=False)
    dirty = " and changes" if versions.dirty else ""
    settings = Settings(
        device=args.device,
        layout=args.layout,
        precision=args.precision,
        seconds=args.seconds,
        threads=args.threads,
        machine=cpu_name() if args.device == "cpu" else _gpu_name(),
        cores=cpu_cores(),
        software=f"Python {versions.python}, torch {versions.torch}, timm {versions.timm}, nfbench "
        f"{versions.nfbench} ({(versions.commit or 'no commit')[:8]}{dirty})",
        timm_commit=(commit_of(timm_file)[0] or "no commit")[:8],
        most_others=args.most_others,
    )
    log = Log(args.out / "timm.ndjson", settings)
    cases = [case for case in CASES[args.device] if not args.only or case.net in args.only]
    processes = Processes(settings, timm_file, log)
    # a machine that is never quiet would hold this up for ever
    for number in range(2 * args.rounds):
        for case in cases:
            if len(log.counted(case)) < args.rounds and not log.is_whole(case, number):
                processes.round(case, number)
                write(args.out, log, args.rounds)
    write(args.out, log, args.rounds)
    print((args.out / "timm.md").read_text(encoding="utf-8"), end="")


class Processes:
    """Starts the tools, one after the other."""

    def __init__(self, settings: Settings, timm_file: Path, log: Log) -> None:
        self.settings, self.timm_file, self.log = settings, timm_file, log
        threads = str(settings.threads)
        self.environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}

    def round(self, case: Case, number: int) -> None:
        """Measure what the round of that net still lacks."""
        for tool in TURNS if number % 2 == 0 else reversed(TURNS):
            if tool not in self.log.rounds(case).get(number, {}):
                self.log.append(line := self._measure(tool, case, number))
                print(
                    f"round {number + 1}, {case.net}, {tool}: {line.images_per_s:.2f} images/s, "
                    f"other processes {line.others:.0%} of the CPU",
                    file=sys.stderr,
                    flush=True,
                )
        if case.net not in self.log.differences:
            words = [str(HERE / "timm_differences.py"), case.net, *self._common(case)]
            with self._device():
                self.log.append(msgspec.json.decode(self._output(words), type=Differences))

    def _device(self) -> Any:
        """Hold the lock that nfbench's own process takes by itself."""
        return only_one("cpu" if self.settings.device == "cpu" else None, Watch())

    def _measure(self, tool: Tool, case: Case, number: int) -> Line:
        before, at_start, began = _processor_times(), load(), time.perf_counter()
        step_times: tuple[float, ...] = ()
        if tool == "nfbench":
            step_times = self._nfbench(case)
            steps, images_per_s = len(step_times), case.batch / statistics.fmean(step_times)
        elif tool == "timm":
            with self._device():
                steps, images_per_s = self._timm(case)
        else:
            words = [str(HERE / "bare_loop.py"), case.net, *self._common(case)]
            with self._device():
                figures = json.loads(self._output([*words, "--seconds", str(self.settings.seconds)]))
            steps, images_per_s = figures["steps"], case.batch / figures["step_time"]
        after = _processor_times()
        return Line(
            net=case.net,
            px=case.px,
            batch=case.batch,
            round=number,
            tool=tool,
            images_per_s=images_per_s,
            steps=steps,
            seconds=time.perf_counter() - began,
            others=_others(before, after),
            load=at_start,
            step_times=step_times,
        )

    def _common(self, case: Case) -> list[str]:
        s = self.settings
        words = ["--px", case.px, "--batch", case.batch, "--layout", s.layout, "--precision", s.precision]
        return [str(word) for word in [*words, "--device", s.device]]

    def _nfbench(self, case: Case) -> tuple[float, ...]:
        """Seconds of each step."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "nfbench.jsonl"
            # the warm-up takes a fifth of the time at most
            cap = str(1.25 * self.settings.seconds)
            words = ["-m", "nfbench", "step-time", "--model", f"timm:{case.net}", *self._common(case)]
            words += ["--micro-batch", str(case.batch), "--agc", "none", "--optimizer", "sgd", "--compile", "none"]
            words += ["--max-time", cap, "--within", "0.0001", "--out", str(file), "--format", "json", "--quiet"]
            words += ["--rounds", "1", "--min-steps", "10", "--seed", "0"]
            self._output(words)
            result = msgspec.json.decode(file.read_bytes().splitlines()[-1], type=Result)
        step_times = result.reading("step_time")
        if result.status != "ok" or step_times is None:
            raise NfbenchError(f"nfbench could not time {case.net}.", why=result.message or result.status)
        if self.settings.device == "cpu" and result.resolved and result.resolved.threads != self.settings.threads:
            raise NfbenchError(f"nfbench ran on {result.resolved.threads} threads.", try_="--threads 1")
        return tuple(step_times.finite)

    def _timm(self, case: Case) -> tuple[int, float]:
        """Steps and images/s; as many steps as nfbench's last figure lets the seconds hold."""
        s = self.settings
        nfbench = [line for line in self.log.lines if line.net == case.net and line.tool == "nfbench"][-1]
        steps = max(10, round(s.seconds * nfbench.images_per_s / case.batch))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "timm.json"
            words = ["--bench", "train", "--model", case.net, "--img-size", case.px, "--batch-size", case.batch]
            words += ["--num-warm-iter", WARM_UP, "--num-bench-iter", steps, "--opt", "sgd", "--device", s.device]
            words += ["--no-retry", "--results-file", file, "--results-format", "json"]
            words += ["--channels-last"] * (s.layout == "nhwc")
            words += ["--amp", "--amp-dtype", "bfloat16"] * (s.precision == "bf16")
            # -P: the nets are those of the installed timm in all tools, not those that lie beside benchmark.py
            self._output(["-P", str(self.timm_file), *map(str, words)])
            return steps, images_per_s_of(file.read_text(encoding="utf-8") if file.exists() else "", case)

    def _output(self, words: Sequence[str]) -> str:
        """What a Python process prints.

        Raises:
            NfbenchError: it failed; the message holds the end of what it said.
        """
        done = subprocess.run([sys.executable, *words], env=self.environment, capture_output=True, text=True)
        if done.returncode:
            end = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise NfbenchError(f"{Path(words[0]).name} {words[1]} ended with {done.returncode}.", why=end)
        return done.stdout


def images_per_s_of(text: str, case: Case) -> float:
    """The images/s in what benchmark.py writes with ``--results-format json``.

    Raises:
        NfbenchError: it measured nothing, or another batch or px than ``case`` has.
    """
    try:
        figures: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise NfbenchError("timm's benchmark.py wrote no result.", why=f"It wrote {text[:200]!r}.") from error
    if "error" in figures:
        raise NfbenchError(f"timm's benchmark.py could not train {case.net}.", why=str(figures["error"]))
    measured = (figures.get("train_batch_size"), figures.get("train_img_size"))
    if measured != (case.batch, case.px):
        raise NfbenchError(
            f"timm's benchmark.py trained {case.net} at another batch or px.",
            why=f"Batch and px were {measured[0]} and {measured[1]} in place of {case.batch} and {case.px}.",
        )
    return float(figures["train_samples_per_sec"])


class _Times(NamedTuple):
    """Seconds: that the host's cores were busy, of all cores, and of the processes that this one has waited for."""

    busy: float
    all: float
    children: float


def _processor_times() -> _Times:
    host, children = psutil.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    # a guest's time is in the user time too
    total = sum(host) - getattr(host, "guest", 0.0) - getattr(host, "guest_nice", 0.0)
    idle = host.idle + getattr(host, "iowait", 0.0)
    return _Times(total - idle, total, children.ru_utime + children.ru_stime)


def _others(before: _Times, after: _Times) -> float:
    """The share of the host's CPU that neither idled nor went to the children."""
    busy, total, children = (b - a for a, b in zip(before, after, strict=True))
    return max(0.0, busy - children) / total if total > 0 else 0.0


def _gpu_name() -> str:
    import torch

    if not torch.cuda.is_available():
        raise NfbenchError("There is no GPU that torch can use.", try_="--device cpu")
    return str(torch.cuda.get_device_name())


if __name__ == "__main__":
    main()
