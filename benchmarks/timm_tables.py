"""The figures of `against_timm.py`: their file, timm.ndjson, and the tables made of it."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from nfbench.analysis.stats import Estimate, mean_of_logs
from nfbench.errors import NfbenchError

Tool = Literal["bare loop", "nfbench", "timm"]
TURNS: tuple[Tool, ...] = ("bare loop", "nfbench", "timm")
LEAST_ROUNDS = 4
BOUND = 0.05
"""How far from 1 the interval of a ratio may reach."""
MOST_OTHERS = 0.2
"""The share of the CPU that other processes may take in a round that counts."""
WARM_UP = 5
"""Steps that timm trains before it times."""


class Case(NamedTuple):
    """A net of timm's, the side of its input and the images of a step."""

    net: str
    px: int
    batch: int


CASES = {
    "cpu": (
        Case("resnet18", 96, 16),
        Case("resnet26", 96, 16),
        Case("resnet50", 64, 16),
        Case("seresnet50", 64, 16),
        Case("efficientnet_b0", 64, 16),
        Case("nf_resnet26", 64, 16),
        Case("nf_resnet50", 64, 16),
        Case("nf_regnet_b0", 64, 16),
        Case("nfnet_l0", 64, 16),
        Case("dm_nfnet_f0", 64, 8),
    ),
    "cuda": (
        Case("resnet50", 224, 128),
        Case("resnet101", 224, 128),
        Case("seresnet50", 224, 128),
        Case("efficientnet_b0", 224, 128),
        Case("efficientnet_b4", 320, 32),
        Case("nf_resnet50", 224, 128),
        Case("nf_resnet101", 224, 128),
        Case("nf_regnet_b0", 192, 128),
        Case("dm_nfnet_f0", 192, 64),
        Case("dm_nfnet_f1", 224, 32),
    ),
}


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one process measured. ``others`` is the share of the CPU that other processes took meanwhile, and ``load``
    the load average of the last minute over the cores at its start; ``step_times`` are nfbench's, one by one."""

    net: str
    px: int
    batch: int
    round: int
    tool: Tool
    images_per_s: float
    steps: int
    seconds: float
    others: float
    load: float | None
    step_times: tuple[float, ...] = ()


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """By how many seconds each thing that cannot be made equal makes timm's step longer than nfbench's."""

    net: str
    step_time: float
    longer: dict[str, float]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of timm.ndjson: what all that follow have in common."""

    device: Literal["cpu", "cuda"]
    layout: Literal["nchw", "nhwc"]
    precision: Literal["fp32", "tf32", "bf16"]
    seconds: float
    threads: int
    machine: str
    cores: int
    software: str
    timm_commit: str
    most_others: float = MOST_OTHERS


class Log:
    """timm.ndjson: the settings, then a line for each process.

    Raises:
        NfbenchError: the file was measured with other settings, on another machine or with other software.
    """

    def __init__(self, file: Path, settings: Settings) -> None:
        self.file, self.settings = file, settings
        self.lines: list[Line] = []
        self.differences: dict[str, Differences] = {}
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_bytes(msgspec.json.encode(settings) + b"\n")
            return
        whole, newline, torn = file.read_bytes().rpartition(b"\n")
        if torn:
            # a process was killed while it wrote
            file.write_bytes(whole + newline)
        first, *rest = whole.splitlines()
        before = msgspec.json.decode(first, type=Settings)
        if before != settings:
            names = [name for name in Settings.__struct_fields__ if getattr(before, name) != getattr(settings, name)]
            differ = "; ".join(f"{name}: {getattr(before, name)}, now {getattr(settings, name)}" for name in names)
            raise NfbenchError(f"{file} was measured otherwise.", why=f"{differ}.", try_="another folder with --out")
        for text in rest:
            self._file(msgspec.json.decode(text))

    def _file(self, line: dict[str, Any]) -> None:
        if "longer" in line:
            self.differences[line["net"]] = msgspec.convert(line, Differences)
        else:
            self.lines.append(msgspec.convert(line, Line))

    def append(self, line: Line | Differences) -> None:
        """Write the line and keep it."""
        text = msgspec.json.encode(line)
        with self.file.open("ab") as file:
            file.write(text + b"\n")
        self._file(msgspec.json.decode(text))

    def rounds(self, case: Case) -> dict[int, dict[Tool, Line]]:
        """The lines of a net by round and tool."""
        rounds: dict[int, dict[Tool, Line]] = {}
        for line in self.lines:
            if Case(line.net, line.px, line.batch) == case:
                rounds.setdefault(line.round, {})[line.tool] = line
        return rounds

    def is_whole(self, case: Case, number: int) -> bool:
        """Whether each tool has a line in that round."""
        return len(self.rounds(case).get(number, {})) == len(TURNS)

    def counted(self, case: Case) -> list[dict[Tool, Line]]:
        """The whole rounds in which other processes left the CPU alone."""
        rounds = [lines for _, lines in sorted(self.rounds(case).items()) if len(lines) == len(TURNS)]
        return [lines for lines in rounds if max(line.others for line in lines.values()) <= self.settings.most_others]


class Row(NamedTuple):
    """nfbench against one other tool on one net. ``expected`` is the ratio that the measured differences make."""

    case: Case
    against: Tool
    rounds: int
    left_out: int
    nfbench: float
    other: float
    ratio: Estimate
    of_medians: float
    expected: float
    others: float
    load: float

    @property
    def explained(self) -> Estimate:
        """The ratio with the measured differences taken out."""
        return Estimate(*(None if v is None else v / self.expected for v in self.ratio))  # type: ignore[arg-type]


def rows(log: Log, cases: Sequence[Case]) -> Iterator[Row]:
    """The rows of all nets against timm, then against the plain loop; a net without a round that counts has none."""
    for against in ("timm", "bare loop"):
        for case in cases:
            rounds = log.counted(case)
            if not rounds:
                continue
            lines = [line for tools in rounds for line in tools.values()]
            ratios = [tools["nfbench"].images_per_s / tools[against].images_per_s for tools in rounds]
            medians = [
                case.batch / statistics.median(tools["nfbench"].step_times) / tools[against].images_per_s
                for tools in rounds
            ]
            ratio = mean_of_logs(ratios)
            yield Row(
                case,
                against,
                len(rounds),
                sum(len(tools) == len(TURNS) for tools in log.rounds(case).values()) - len(rounds),
                mean_of_logs([tools["nfbench"].images_per_s for tools in rounds]).value,
                mean_of_logs([tools[against].images_per_s for tools in rounds]).value,
                ratio if len(rounds) >= LEAST_ROUNDS else Estimate(ratio.value),
                mean_of_logs(medians).value,
                expected(log.differences.get(case.net)) if against == "timm" else 1.0,
                max(line.others for line in lines),
                max(line.load or 0.0 for line in lines),
            )


def expected(differences: Differences | None) -> float:
    """nfbench's images/s over timm's if nothing but the measured differences told their steps apart."""
    return 1.0 if differences is None else 1 + sum(differences.longer.values()) / differences.step_time


def within(ratio: Estimate) -> str:
    """Whether the interval lies within the bound around 1."""
    if ratio.low is None or ratio.high is None:
        return f"{LEAST_ROUNDS} rounds are needed"
    return "yes" if ratio.low >= 1 - BOUND and ratio.high <= 1 + BOUND else "no"


def write(folder: Path, log: Log, wanted: int) -> None:
    found = list(rows(log, CASES[log.settings.device]))
    (folder / "timm.md").write_text(markdown(log, found, wanted), encoding="utf-8")
    (folder / "timm.csv").write_text(comma_separated(log, found), encoding="utf-8")


def _interval(ratio: Estimate) -> str:
    return f"{ratio.value:.3f}" + ("" if ratio.low is None else f" ({ratio.low:.3f} to {ratio.high:.3f})")


def markdown(log: Log, found: Sequence[Row], wanted: int) -> str:
    """The tables, with what they were measured on and how."""
    s = log.settings
    command = f"uv run python benchmarks/against_timm.py TIMM_CHECKOUT --device {s.device} --rounds {wanted}"
    command += f" --layout {s.layout} --precision {s.precision} --seconds {s.seconds:g} --threads {s.threads}"
    parts = list(dict.fromkeys(name for d in log.differences.values() for name in d.longer))
    if s.most_others != MOST_OTHERS:
        command += f" --most-others {s.most_others:g}"
    text = [
        "# nfbench against timm's benchmark.py and a plain loop",
        "",
        f"`{command}`",
        "",
        f"{s.machine}, {s.cores} cores, threads: {s.threads}; {s.software}; benchmark.py of timm's commit "
        f"{s.timm_commit}. {s.precision}, {s.layout}, one pass a step, no clip, no dropout, Nesterov SGD.",
        "",
        "The ratio is nfbench's images/s over the other tool's, both from the mean of all timed steps, with its 95 % "
        "interval (Student's t over the rounds' logarithms). Each figure of a round comes from a fresh process.",
    ]
    for against, title in (("timm", "Against timm's benchmark.py"), ("bare loop", "Against `bare_loop.py`")):
        timm = against == "timm"
        heads = ["net", "px", "batch", "rounds", "nfbench, images/s", f"{against}, images/s", "ratio", "within ± 5 %"]
        if timm:
            heads += ["expected", "ratio / expected", "within ± 5 %"]
        heads += ["ratio with nfbench's median", "others' CPU, most", "load, most", "rounds left out"]
        text += ["", f"## {title}", "", _cells(heads), _cells(["---"] * len(heads))]
        for row in found:
            if row.against == against:
                explained = [f"{row.expected:.3f}", _interval(row.explained), within(row.explained)] if timm else []
                figures = [*row.case, row.rounds, f"{row.nfbench:.2f}", f"{row.other:.2f}", _interval(row.ratio)]
                machine = [f"{row.of_medians:.3f}", f"{row.others:.0%}", f"{row.load:.2f}", row.left_out]
                text.append(_cells([*figures, within(row.ratio), *explained, *machine]))
        ratios = [row.ratio.value for row in found if row.against == against]
        if len(ratios) >= LEAST_ROUNDS:
            text += ["", f"The mean of the {len(ratios)} nets: {_interval(mean_of_logs(ratios))}."]
    text += [
        "",
        "`others' CPU` is the largest share that other processes took while a process of the net ran, `load` the "
        "largest load average over the cores as one began. A round with more than "
        f"{s.most_others:.0%} was left out and measured again.",
        "",
        "## What cannot be made equal",
        "",
        "By how much each makes timm's step longer than nfbench's, in % of nfbench's step, measured by itself by "
        "`timm_differences.py` (medians of one process a net). `expected` is 1 and their sum.",
        "",
        _cells(["net", "step, ms", *parts, "sum"]),
        _cells(["---"] * (len(parts) + 3)),
    ]
    for case in CASES[s.device]:
        if (d := log.differences.get(case.net)) is not None:
            shares = [f"{d.longer[name] / d.step_time:+.1%}" if name in d.longer else "–" for name in parts]
            text.append(_cells([case.net, f"{1e3 * d.step_time:.1f}", *shares, f"{expected(d) - 1:+.1%}"]))
    text += [
        "",
        "- optimizer: nfbench's SGD is torch's fused one and decays weights by 2e-5; benchmark.py has torch's default "
        "SGD and no decay, whatever `--weight-decay` says.",
        "- label smoothing: nfbench's loss has 0.1; benchmark.py has none, whatever `--smoothing` says.",
        "- gains: timm starts the last gain of each branch at zero, nfbench at one, so that no branch is muted.",
        "- mean or median: nfbench reports the median of the steps, benchmark.py the mean; the ratio takes the mean of "
        "nfbench's stored steps, and the column with its median shows what that changes.",
        f"- warm-up: {WARM_UP} steps in timm; in nfbench until the step time has settled.",
        "- benchmark.py rounds its images/s to two decimals.",
    ]
    return "\n".join(text) + "\n"


def _cells(values: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, values))} |"


def comma_separated(log: Log, found: Sequence[Row]) -> str:
    """A line for each net and tool that nfbench is compared with."""
    heads = "net px batch against rounds rounds_left_out nfbench_images_per_s other_images_per_s ratio low high within"
    heads += " ratio_of_nfbench_median expected explained explained_low explained_high explained_within"
    heads += " others_cpu_most load_most device layout precision threads"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads.split())
    s = log.settings
    for row in found:
        both = [*row.ratio, within(row.ratio), row.of_medians, row.expected, *row.explained, within(row.explained)]
        figures = [row.nfbench, row.other, *both, row.others, row.load]
        words = [f"{value:.6g}" if isinstance(value, float) else value for value in figures]
        tail = [s.device, s.layout, s.precision, s.threads]
        writer.writerow([*row.case, row.against, row.rounds, row.left_out, *words, *tail])
    return text.getvalue()
